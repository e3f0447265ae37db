"""Where sound comes from: a file played at its own speed, or a microphone.

Both deliver 16 kHz mono ``AudioBlock``s from a thread of their own (contract: ``types.Source``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from ha2g_live.realtime.audio_file import stream_audio
from ha2g_live.realtime.devices import DeviceInfo, find_device, format_devices, list_devices
from ha2g_live.realtime.microphone import MicrophoneSource
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32, AudioBlock

__all__ = [
    "DeviceInfo",
    "FileSource",
    "MicrophoneSource",
    "find_device",
    "format_devices",
    "list_devices",
]

BLOCK_SAMPLES = 160
"""10 ms, as sound cards deliver."""
LATE_S = 1.0
"""A file later than this (the computer slept) goes on from now, not in a burst."""


class FileSource:
    """Delivers an audio file in blocks of 10 ms at the speed at which it was spoken.

    The schedule counts from one start time, so it does not drift. A source is started once.

    Threads: see ``types.Source``; blocks come from the thread ``ha2g-file``.

    Args:
        path: the file.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._stopped = threading.Event()
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Short name for the status line."""
        return f"file {self._path.name}"

    @property
    def state(self) -> str:
        """A file has nothing to say of itself: empty."""
        return ""

    @property
    def xruns(self) -> int:
        """A file loses no blocks: 0."""
        return 0

    @property
    def bad_samples(self) -> int:
        """A file with bad samples is refused: 0."""
        return 0

    def start(self, on_block: Callable[[AudioBlock], None], on_end: Callable[[], None]) -> None:
        """Open the file and begin to deliver; ``on_end`` is also called after a failure.

        Raises:
            AudioFileError: the file cannot be opened, or its first block cannot be used.
        """
        blocks = stream_audio(self._path, BLOCK_SAMPLES)
        head = [block for block in (next(blocks, None),) if block is not None]
        self._thread = threading.Thread(
            target=self._run,
            args=(chain(head, blocks), on_block, on_end),
            name="ha2g-file",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop delivering; ``on_end`` is not called any more, unless it already was."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def failure(self) -> Exception | None:
        """The error that ended the source, if one did."""
        return self._failure

    def _run(
        self,
        blocks: Iterator[F32],
        on_block: Callable[[AudioBlock], None],
        on_end: Callable[[], None],
    ) -> None:
        start_s = time.perf_counter()
        delivered = 0
        try:
            for block in blocks:
                delivered += len(block)
                # A microphone has a block once its last sample was captured, not before.
                due_s = start_s + delivered / SAMPLE_RATE_HZ
                if self._stopped.wait(max(0.0, due_s - time.perf_counter())):
                    return
                late_s = time.perf_counter() - due_s
                if late_s > LATE_S:
                    start_s, due_s = start_s + late_s, due_s + late_s
                on_block(AudioBlock(block, due_s))
        except Exception as error:
            self._failure = error
        on_end()
