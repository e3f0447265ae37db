"""The signals that end a program."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""No system has all of them."""


def interrupting() -> contextlib.AbstractContextManager[None]:
    """Within it, any of them raises KeyboardInterrupt in the main thread, as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    return _handled(interrupt)


def ignored() -> contextlib.AbstractContextManager[None]:
    """Within it, they do nothing."""
    return _handled(signal.SIG_IGN)


@contextlib.contextmanager
def _handled(handler: Any) -> Iterator[None]:
    """Set a handler for all of them, and put the old ones back."""
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = [(number, signal.signal(number, handler)) for number in numbers]
    try:
        yield
    finally:
        for number, old in before:
            signal.signal(number, old)
