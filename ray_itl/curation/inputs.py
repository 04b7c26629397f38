"""What a caller holds in memory, in place of what options name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.curation.settings import CurationSettings
from ray_itl.embedding.held_function import HeldFunction
from ray_itl.io.listing import OnText
from ray_itl.sources.open import readable


@dataclass(frozen=True)
class Inputs:
    """What a caller holds in memory, each in place of what the option of that name says; None: that option."""

    pool: Any = None
    """Anything that `sources.open.readable` takes, as are target, known, avoid and heldout."""
    target: Any = None
    known: Any = None
    avoid: Any = None
    exclude: Any = None
    """Ids as a sequence or array, as is the next one."""
    include: Any = None
    rule: Acquisition | None = None
    """The sequential rule, where it is an instance that settings.acquisition cannot describe."""
    written_now: tuple[pafs.FileSystem, str] | None = None
    """A file that has just been written: on its filesystem, its time is the present for pool.settle_s."""
    on_text: OnText | None = None
    """See `PoolPaths`."""
    heldout: Any = None
    encoder: HeldFunction | None = None
    """The function that embeds, where it is none that settings.encoder could name."""
    tell: Callable[[str], object] = lambda _: None
    """Told, in a line, what was guessed or is about to take long."""
    on_rows: Callable[[str, int, int], object] = lambda *_: None
    """Told of rows that are embedded by this process what they are, how many are done, and of how many."""

    def rows(self, what: str, settings: CurationSettings) -> Any:
        """Return the rows of pool, target, known, avoid or heldout, or the path that settings give for them."""
        own = getattr(self, what)
        return getattr(settings, what).path if own is None else readable(own, what)


FROM_OPTIONS = Inputs()
"""Nothing in memory: options name everything."""
