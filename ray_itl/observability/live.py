"""One line on a terminal, drawn anew in place while a run goes on; what happened stays above it."""

from __future__ import annotations

import sys

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from ray_itl.observability.console import Event, JobSummary, write_line

_REDRAWN_PER_S = 8


class LiveLine:
    """Progress in one line with a spinner, which vanishes when its step ends; everything else in lines above.

    rich draws it, cuts it to the width of the terminal, and keeps what others print from running into it.
    """

    def __init__(self, console: Console | None = None) -> None:
        """Draw on a console; by default on standard error."""
        self._console = console or Console(stderr=True, highlight=False)
        self._line = _Line()
        self._live: Live | None = None

    def emit(self, event: Event) -> None:
        """Redraw the line for progress; write the words of anything else in its place, to stay."""
        if not event.text:
            return
        if not event.passing:
            self.clear()
            self._console.print(Text(event.words), soft_wrap=True)
            return
        self._line.text = event.text.strip()
        if self._live is None:
            self._live = Live(self._line, console=self._console, refresh_per_second=_REDRAWN_PER_S, transient=True)
            self._live.start(refresh=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def finish(self, ending: JobSummary) -> None:
        """Write the ending on standard output."""
        self.clear()
        write_line(sys.stdout, f"\n{ending.text}")


class _Line:
    """A spinner, as a sign of life while a pass takes long, and the latest words, never more than one line."""

    def __init__(self) -> None:
        self.text = ""
        self._spinner = Spinner("line")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        frame = self._spinner.render(console.get_time())
        yield Text.assemble(
            frame if isinstance(frame, Text) else "", f" {self.text}", no_wrap=True, overflow="ellipsis"
        )
