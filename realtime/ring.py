"""The newest audio of a stream, addressed by absolute sample index.

A ring rather than a queue: the reader takes the window it needs by index, however the sound was
cut into blocks, and memory stays bounded when the reader is slow.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32


class Overrun(IndexError):
    """The samples asked for have been overwritten: the reader fell behind by a whole ring."""


class AudioRing:
    """Keeps the newest ``capacity_samples`` samples; writing overwrites the oldest.

    Threads: one writer and any number of readers; one lock, held only to copy.

    Args:
        capacity_samples: samples kept, at least 1.
    """

    def __init__(self, capacity_samples: int) -> None:
        if capacity_samples < 1:
            raise ValueError(f"capacity_samples must be at least 1, got {capacity_samples}")
        self._data: F32 = np.zeros(capacity_samples, dtype=np.float32)
        self._changed = threading.Condition()
        self._written = 0
        self._read_to = 0
        self._overwritten = 0
        self._closed = False
        # (end index, capture time of the last sample) of each block still held. A block holds a
        # sample at least, so the ring's capacity bounds this as well.
        self._blocks: deque[tuple[int, float]] = deque()

    @property
    def capacity_samples(self) -> int:
        """Samples the ring can hold."""
        return len(self._data)

    @property
    def written(self) -> int:
        """Samples written since the start of the stream."""
        with self._changed:
            return self._written

    @property
    def oldest(self) -> int:
        """Absolute index of the oldest sample still held."""
        with self._changed:
            return self._oldest()

    @property
    def overwritten(self) -> int:
        """Samples that were overwritten before any ``read`` had reached past them."""
        with self._changed:
            return self._overwritten

    @property
    def closed(self) -> bool:
        """Whether the writer said that no more samples will come."""
        with self._changed:
            return self._closed

    def write(self, samples: F32, captured_at_s: float) -> None:
        """Append samples. Of a block longer than the ring the newest samples are kept.

        Args:
            samples: (n,) float32, copied.
            captured_at_s: monotonic clock when the last of them was captured.
        """
        count = len(samples)
        if count == 0:
            return
        kept = samples[-self.capacity_samples :]
        with self._changed:
            oldest = self._oldest()
            self._written += count
            at = (self._written - len(kept)) % self.capacity_samples
            first = min(len(kept), self.capacity_samples - at)
            self._data[at : at + first] = kept[:first]
            self._data[: len(kept) - first] = kept[first:]
            now_oldest = self._oldest()
            self._overwritten += max(0, now_oldest - max(oldest, self._read_to))
            self._blocks.append((self._written, captured_at_s))
            while self._blocks[0][0] <= now_oldest:
                self._blocks.popleft()
            self._changed.notify_all()

    def read(self, start: int, stop: int, peek: bool = False) -> F32:
        """(stop - start,) copy of the samples ``start .. stop - 1``.

        Args:
            start: first sample.
            stop: the one after the last.
            peek: do not count them as read; another reader is the one that must not lose any.

        Raises:
            Overrun: some of them have been overwritten.
            IndexError: some of them have not been written yet, or stop is before start.
        """
        with self._changed:
            if not 0 <= start <= stop <= self._written:
                raise IndexError(f"samples {start}..{stop} asked for, {self._written} written")
            if start < self._oldest():
                raise Overrun(f"sample {start} asked for, the oldest held is {self._oldest()}")
            if not peek:
                self._read_to = max(self._read_to, stop)
            at = start % self.capacity_samples
            head = self._data[at : at + stop - start]
            return np.concatenate((head, self._data[: stop - start - len(head)]))

    def captured_at_s(self, sample: int) -> float:
        """Monotonic clock when an absolute sample was captured.

        Exact for the last sample of a block, counted back at 16 kHz for those before it.

        Raises:
            Overrun: the sample has been overwritten.
            IndexError: it has not been written yet.
        """
        with self._changed:
            if not 0 <= sample < self._written:
                raise IndexError(f"sample {sample} asked for, {self._written} written")
            if sample < self._oldest():
                raise Overrun(f"sample {sample} asked for, the oldest held is {self._oldest()}")
            found = self._blocks[-1]
            # Newest first: what is asked for is nearly always in one of the last blocks.
            for block in reversed(self._blocks):
                if block[0] <= sample:
                    break
                found = block
            end, at_s = found
            return at_s - (end - 1 - sample) / SAMPLE_RATE_HZ

    def wait_for(self, written: int, timeout_s: float) -> bool:
        """Sleep until so many samples were written, the ring is closed, or the time is over.

        Returns:
            Whether ``written`` samples are there.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._written >= written, timeout_s)
            return self._written >= written

    def close(self) -> None:
        """Say that no more samples will come; wakes every waiter. What is held stays readable."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _oldest(self) -> int:
        return max(0, self._written - self.capacity_samples)
