"""Noticing credentials in URIs, masking them in text, and bringing messages into one line.

Credentials are refused: what a run is given is written to its files and shown in messages.
"""

from __future__ import annotations

import os
import re

from ray_itl.text import without_colours

REMEDY = (
    "leave them out and give them by environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
    "GOOGLE_APPLICATION_CREDENTIALS, which is neither stored nor shown"
)
_SECRET_OPTION = re.compile(r"[?&][^=&]*(secret|token|passw|credential|key|sig)[^=&]*=", re.IGNORECASE)
# The first colon ends the user's name; a password may hold a slash, where it was not quoted as it should be.
_URI = re.compile(r"(\w+)://\S*")
_PASSWORD = re.compile(r"[^:/?]*:(?!\d*(/|$))[^?]*@")


_SECRET_VARIABLE = re.compile(r"(TOKEN|SECRET|PASSWORD|(ACCESS|ACCOUNT|STORAGE|API)_KEY)(_ID)?$", re.IGNORECASE)
_SHORTEST_SECRET = 8


def holds_credentials(text: str) -> bool:
    """Whether a text is a URI with a password, key or token in it; a mere user name is none."""
    _, separator, rest = text.partition("://")
    return bool(separator) and bool(_PASSWORD.match(rest) or _SECRET_OPTION.search(rest))


def masked(text: str) -> str:
    """Return a text with every URI that holds credentials cut to its scheme, and without secrets of the environment.

    Libraries quote what they were given: an address of a store, from the environment, that holds a key, for example.
    """
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_VARIABLE.search(name):
            text = text.replace(value, "...")
    return _URI.sub(lambda uri: f"{uri[1]}://..." if holds_credentials(uri[0]) else uri[0], text)


def one_line(text: str) -> str:
    """Return a message in one line, without credentials and colours, and with what cannot be printed escaped.

    Names of files and columns come from elsewhere: they are not to move the cursor or to fake a line of a log.
    """
    lines = (line.strip() for line in without_colours(text).splitlines())
    joined = masked("; ".join(line for line in lines if line))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)
