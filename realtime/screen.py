"""What a run shows: the figure or the status line, and messages that disturb neither."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable

from ha2g_live.realtime.pipeline import Pipeline
from ha2g_live.realtime.status import StatusLine
from ha2g_live.realtime.terminal_view import TerminalView, enable_ansi
from ha2g_live.realtime.types import Source

REFRESH_S = 0.05
MEMORY_EVERY_S = 1.0
MESSAGES_KEPT = 100
_GETTING_READY = "getting ready (the very first start compiles, which takes up to half a minute)"


class Screen:
    """Owns the terminal during a run: ``with Screen(...) as screen``.

    Warnings of the package are said at once, on a line of their own; while the figure covers the
    terminal the newest ``MESSAGES_KEPT`` are kept and said afterwards.

    Args:
        pipeline: what runs.
        view: draw the figure.
        quiet: no status line.
        say: writes one line for the user.
    """

    def __init__(
        self, pipeline: Pipeline, view: bool, quiet: bool, say: Callable[[str], None]
    ) -> None:
        self.source: Source | None = None
        self._pipeline = pipeline
        self._view = TerminalView(sys.stdout) if view else None
        self._status = StatusLine(pipeline, None, sys.stderr)
        self._quiet = quiet
        self._say = say
        self._messages: deque[str] = deque(maxlen=MESSAGES_KEPT)
        self._handler = _Handler(self._message)
        self._next_s = self._next_memory_s = 0.0

    def __enter__(self) -> Screen:
        enable_ansi()
        logging.getLogger("ha2g_live").addHandler(self._handler)
        if self._view is not None:
            self._view.__enter__()
            self._view.note(_GETTING_READY)
        elif not self._quiet:
            self._status.note(_GETTING_READY)
        return self

    def __exit__(self, *_: object) -> None:
        if self._view is not None:
            self._view.__exit__()
        self._status.clear()
        logging.getLogger("ha2g_live").removeHandler(self._handler)
        for message in self._messages:
            self._say(message)

    def update(self) -> None:
        """Show the newest state, at most every ``REFRESH_S``."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + REFRESH_S
        if now_s >= self._next_memory_s:
            self._next_memory_s = now_s + MEMORY_EVERY_S
            self._pipeline.stats.sample_memory()
        self._status.source = self.source
        if self._view is not None:
            frame = self._pipeline.latest
            if frame is not None:
                self._view.draw(frame.directions, "" if self._quiet else self._status.text())
        elif not self._quiet:
            self._status.update()

    def _message(self, text: str) -> None:
        if self._view is not None:
            self._messages.append(text)
        else:
            self._status.clear()
            self._say(text)


class _Handler(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())
