"""When every block of sound, answer of the model and frame of a run happened: ``--trace``.

All moments are on the clock of ``time.perf_counter``, which other programs on the computer share
on Linux and macOS, so what a receiver saw can be laid beside them.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from ha2g_live.realtime.types import F32

KEPT = 36_000
"""Events kept of each kind, ten minutes of frames; the oldest go and are counted."""


class Trace:
    """The newest events of a run. Memory does not grow.

    Threads: ``block`` is called by the source's, ``answer`` by the one that runs the model,
    ``frame`` by the emitter; ``as_dict`` when all have ended.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._blocks: deque[tuple[int, float, float, float]] = deque(maxlen=kept)
        self._answers: deque[tuple[int, float]] = deque(maxlen=kept)
        self._frames: deque[tuple[int, int, float]] = deque(maxlen=kept)
        self._seen = [0, 0, 0]

    def block(self, samples: F32, end: int, captured_at_s: float, written_at_s: float) -> None:
        """A block was written to the ring.

        Args:
            samples: (n,) of it.
            end: samples of the stream up to its end.
            captured_at_s: when its last sample was captured.
            written_at_s: when it could be read.
        """
        self._seen[0] += 1
        peak = float(abs(samples).max()) if len(samples) else 0.0
        self._blocks.append((end, captured_at_s, written_at_s, peak))

    def answer(self, heard_samples: int, ready_at_s: float) -> None:
        """The model has answered what ends with the first ``heard_samples`` samples."""
        self._seen[1] += 1
        self._answers.append((heard_samples, ready_at_s))

    def frame(self, seq: int, heard_samples: int, handed_over_s: float) -> None:
        """A frame was given to all targets.

        Args:
            seq: its number.
            heard_samples: what the newest answer that shaped it had heard.
            handed_over_s: when.
        """
        self._seen[2] += 1
        self._frames.append((seq, heard_samples, handed_over_s))

    def as_dict(self) -> dict[str, Any]:
        """All events as plain values, columns named."""
        kept = len(self._blocks) + len(self._answers) + len(self._frames)
        return {
            "block": ["end_samples", "captured_at_s", "written_at_s", "peak"],
            "blocks": list(self._blocks),
            "answer": ["heard_samples", "ready_at_s"],
            "answers": list(self._answers),
            "frame": ["seq", "heard_samples", "handed_over_s"],
            "frames": list(self._frames),
            "forgotten": sum(self._seen) - kept,
        }
