"""Recorder: every frame as one line of JSON in a file."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections import deque
from pathlib import Path

from ha2g_live.clients import encode
from ha2g_live.clients.failure import Failure
from ha2g_live.realtime.errors import ClientError
from ha2g_live.realtime.types import ClientStats, PoseFrame, StreamInfo

QUEUE_FRAMES = 3600
"""A minute at 60 frames a second, some 8 MB: longer than any disk sleeps."""
BATCH_FRAMES = 64
CLOSE_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


class JsonlClient:
    """Records the stream: the hello on the first line, then one line per frame with directions.

    An existing file is overwritten. Lines are those of the WebSocket protocol, so
    :func:`ha2g_live.clients.encode.decode` reads them back.

    Nothing is dropped while the disk keeps up on average: frames wait in a queue of
    ``QUEUE_FRAMES`` for the thread that writes. There is a thread because a disk can block for
    seconds; a line as such is cheap (about 4 kB; a fraction of a millisecond to encode). When the
    queue is full the newest frame is dropped, counted in ``stats.dropped`` and said once. So are
    frames that a full disk refuses: the file is cut back to its last whole line, and recording
    goes on as soon as there is room.

    Threads: ``start``, ``send`` and ``close`` are for one thread, the emitter. The thread
    "ha2g-jsonl" writes the file. One lock, for the queue and the counters.

    Args:
        path: the file.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._what = f"recording to {str(self._path)!r}"
        self._stats = ClientStats()
        self._file: io.FileIO | None = None
        self._length = 0
        self._thread: threading.Thread | None = None
        self._wake = threading.Condition()
        self._waiting: deque[PoseFrame] = deque()
        self._closing = False
        self._failure = Failure()

    @property
    def name(self) -> str:
        """Short name for the status line."""
        return f"record {self._path}"

    @property
    def stats(self) -> ClientStats:
        """Counters so far; ``sent`` counts frames that are in the file."""
        return self._stats

    @property
    def backlog(self) -> int:
        """Frames in the queue, 0 to ``QUEUE_FRAMES``."""
        with self._wake:
            return len(self._waiting)

    def failure(self) -> Exception | None:
        """The error that ended the writing thread, if one did; ``send`` and ``close`` raise it."""
        return self._failure.error

    def start(self, info: StreamInfo) -> None:
        """Create the file and write the hello.

        Raises:
            ClientError: the file cannot be written.
        """
        hello = f"{encode.hello_text(info)}\n".encode()
        try:
            # Unbuffered: what was written is in the file, and a failed write leaves nothing behind.
            self._file = self._path.open("wb", buffering=0)
            self._write(hello)
        except (OSError, ValueError) as error:
            if self._file is not None:
                self._file.close()
            reason = getattr(error, "strerror", None) or error
            raise ClientError(
                f"cannot record to {str(self._path)!r} ({reason}): "
                "choose a file in a folder that exists and that you may write to"
            ) from error
        self._thread = threading.Thread(target=self._run, name="ha2g-jsonl", daemon=True)
        self._thread.start()

    def send(self, frame: PoseFrame) -> None:
        """Queue the frame, whose arrays must stay as they are. No-op after ``close``.

        Raises:
            ClientError: the writing thread has failed.
        """
        self._failure.check(self._what)
        if self._thread is None:
            return
        with self._wake:
            if len(self._waiting) < QUEUE_FRAMES:
                self._waiting.append(frame)
                self._wake.notify()
            else:
                self._lose(1, "the disk is too slow")

    def close(self) -> None:
        """Write what waits and close the file.

        A disk that hangs is given ``CLOSE_TIMEOUT_S``.

        Raises:
            ClientError: the disk hangs, or the writing thread had failed and no ``send`` has said
                so.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            with self._wake:
                self._closing = True
                self._wake.notify()
            thread.join(CLOSE_TIMEOUT_S)
            if thread.is_alive():
                raise ClientError(
                    f"the disk took longer than {CLOSE_TIMEOUT_S:g} s to finish "
                    f"{str(self._path)!r}: its last frames may be missing"
                )
        self._failure.check_unless_raised(self._what)

    # Everything below runs in the thread "ha2g-jsonl", but for _write of the hello and _lose.

    def _run(self) -> None:
        try:
            while frames := self._take():
                self._record(frames)
        except Exception as error:
            self._failure.keep(error)
        finally:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.close()

    def _take(self) -> list[PoseFrame]:
        """The next frames in order; none once the client closes and the queue is empty."""
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or self._closing)
            count = min(len(self._waiting), BATCH_FRAMES)
            return [self._waiting.popleft() for _ in range(count)]

    def _record(self, frames: list[PoseFrame]) -> None:
        lines: list[bytes] = []
        for frame in frames:
            try:
                lines.append(f"{encode.frame_text(frame, directions=True)}\n".encode())
            except ValueError as error:
                with self._wake:
                    self._lose(1, str(error))
        try:
            self._write(b"".join(lines))
        except OSError as error:
            self._cut_back()
            with self._wake:
                self._lose(len(lines), error.strerror or str(error))
        else:
            with self._wake:
                self._stats.sent += len(lines)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        self._length += len(data)

    def _cut_back(self) -> None:
        """Remove what a failed write left of a line; a pipe cannot be cut and stays as it is."""
        assert self._file is not None
        with contextlib.suppress(OSError):
            self._file.truncate(self._length)
            self._file.seek(self._length)

    def _lose(self, frames: int, why: str) -> None:
        """Count lost frames, and say so the first time. The caller holds the lock."""
        self._stats.errors += 1
        self._stats.dropped += frames
        self._stats.detail = f"{self._stats.dropped} frames lost: {why}"
        if self._stats.errors == 1:
            log.warning("%s: frames are being lost: %s", self.name, why)
