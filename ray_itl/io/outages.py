"""Errors of storage that may be gone at the next try, told apart from files that are missing, denied or damaged."""

from __future__ import annotations

import errno
import re

from ray_itl.errors import StorageError

_PASSING = frozenset(
    getattr(errno, name)
    for name in [
        "EIO",
        "ETIMEDOUT",
        "ENOSPC",
        "EDQUOT",
        "ESTALE",
        "EAGAIN",
        "EINTR",
        "EBUSY",
        "EMFILE",
        "ENFILE",
        "ENOMEM",
        "EPIPE",
        "ECONNRESET",
        "ECONNABORTED",
        "ECONNREFUSED",
        "ENOTCONN",
        "ENETDOWN",
        "ENETUNREACH",
        "ENETRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "EREMOTEIO",
    ]
    if hasattr(errno, name)  # not every system has all
)
_REMOTE = re.compile(
    r"AWS Error (NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT)"
    r"|HTTP status 5\d\d|curlCode: \d+"
)


def may_pass(error: BaseException) -> bool:
    """Whether an error of a filesystem or object store says that it failed, was full, or did not answer this time."""
    if not isinstance(error, OSError):
        return False
    return error.errno in _PASSING or (error.errno is None and _REMOTE.search(str(error)) is not None)


def outage(what: str, error: BaseException) -> StorageError:
    """Return the error for something ("file 'a' cannot be read") that such an error prevented."""
    reason = " ".join(str(error).split())
    return StorageError(f"{what} at the moment ({reason}): once its storage is well, run the same command again")
