"""Where the time of a response goes, from the program's own trace: part of
``benchmarks.response``."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ha2g_live.benchmarks.response_run import Seen

STAGES = (
    "until its block of sound is in the ring",
    "until an answer of the model has heard it",
    "until a frame made of that answer is handed over",
    "until the pose differs",
    "until that frame is received",
)
"""One after the other; together they are the response."""


def split_ms(seen: Seen, captured_s: float, t0: int, moved: int) -> list[float] | None:
    """Milliseconds of each of ``STAGES``.

    Args:
        seen: a run.
        captured_s: when the sound came.
        t0: its sample.
        moved: the frame that moved, among those received.

    Returns:
        The times; None where that frame moved before any answer had heard the sound, by chance.
    """
    trace = seen.trace
    written_s = _first(trace["blocks"], 0, t0, 2)
    answered_s = _first(trace["answers"], 0, t0, 1)
    shaped = _first(trace["frames"], 1, t0, 0)
    number = int(seen.seq[moved])
    if written_s is None or answered_s is None or shaped is None or number < shaped:
        return None
    received_s = dict(zip(seen.seq.tolist(), seen.received_s.tolist(), strict=True))
    # The viewer may have a frame before the other targets have been given theirs.
    handed_over_s = {
        frame[0]: min(frame[2], received_s.get(frame[0], frame[2])) for frame in trace["frames"]
    }
    moments = (
        captured_s,
        written_s,
        answered_s,
        handed_over_s[int(shaped)],
        handed_over_s[number],
        received_s[number],
    )
    return [1e3 * float(after - before) for before, after in pairwise(moments)]


def _first(events: list[list[Any]], samples: int, t0: int, wanted: int) -> float | None:
    """A column of the first event whose samples reach beyond ``t0``."""
    return next((float(event[wanted]) for event in events if event[samples] > t0), None)
