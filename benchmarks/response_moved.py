"""Which frame is the first that moved: part of ``benchmarks.response``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from ha2g_live.benchmarks.response_run import F64, Seen

NOISE_S = 0.3
LEAST_DEG = 2e-3
"""No joint counts as moved by less: frames carry single precision."""


def differences(seen: Seen, silent: Seen) -> F64:
    """(n, 55) turn in degrees between a run's joints and the silent run's at that moment."""
    at = np.clip(np.searchsorted(silent.stream_s, seen.stream_s), 1, len(silent.stream_s) - 1)
    before, after = silent.rotations[at - 1], silent.rotations[at]
    span = silent.stream_s[at] - silent.stream_s[at - 1]
    share = (seen.stream_s - silent.stream_s[at - 1]) / np.where(span > 0, span, 1.0)
    near = np.where((before * after).sum(-1, keepdims=True) < 0, -after, after)
    there = before + np.clip(share, 0.0, 1.0)[:, None, None] * (near - before)
    there /= np.linalg.norm(there, axis=-1, keepdims=True)
    there *= np.where((there * seen.rotations).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    chord = np.linalg.norm(seen.rotations - there, axis=-1)
    angles: F64 = np.degrees(4.0 * np.arcsin(np.clip(chord / 2.0, 0.0, 1.0)))
    return angles


def limits(seen: Seen, apart: F64, captured_s: float, silent_deg: F64) -> F64:
    """(55,) degrees above which each joint counts as moved.

    Args:
        seen: a run.
        apart: its difference from the nearest silent one.
        captured_s: when the sound came; the moments before tell how restless this run is.
        silent_deg: (55,) the most that silent runs differ by.
    """
    near = (seen.received_s < captured_s) & (seen.received_s >= captured_s - NOISE_S)
    limit: F64 = np.maximum(2.0 * apart[near].max(axis=0, initial=0.0), silent_deg)
    return np.maximum(limit, LEAST_DEG)


def moved_at(seen: Seen, apart: F64, captured_s: float, limit_deg: F64) -> int | None:
    """The first frame after a moment that begins three in which a joint is beyond its limit.

    Args:
        seen: a run.
        apart: its difference from the nearest silent one.
        captured_s: the moment.
        limit_deg: (55,) of each joint.

    Returns:
        Its place among the run's frames; None if there is none.
    """
    beyond = apart > limit_deg
    lasting = (beyond[:-2] & beyond[1:-1] & beyond[2:]).any(axis=1)
    hits = np.flatnonzero(lasting & (seen.received_s[:-2] >= captured_s))
    return int(hits[0]) if len(hits) else None


def moved_after_ms(seen: Seen, apart: F64, captured_s: float, limit_deg: F64) -> float:
    """Time until ``moved_at`` was received; inf if nothing moved."""
    at = moved_at(seen, apart, captured_s, limit_deg)
    return np.inf if at is None else 1e3 * float(seen.received_s[at] - captured_s)


class Quiet:
    """Runs that heard silence: how much a run differs from all others though nothing was said.

    Args:
        runs: at least four.
    """

    def __init__(self, runs: Sequence[Seen]) -> None:
        self._runs = runs
        self._apart: dict[tuple[int, int], F64] = {}
        for one, other in itertools.permutations(range(len(runs)), 2):
            self._apart[one, other] = differences(runs[one], runs[other])

    def apart(self, seen: Seen) -> F64:
        """(n, 55) degrees between each joint of a run and the nearest of the silent ones."""
        nearest: F64 = np.min([differences(seen, run) for run in self._runs], axis=0)
        return nearest

    def most_deg(self, without: int | None = None) -> F64:
        """(55,) the most each joint of a silent run is off from the nearest other one.

        Args:
            without: a run that is left out.
        """
        rest = [run for run in range(len(self._runs)) if run != without]
        settled = [
            self._from_others(run, rest)[self._runs[run].stream_s > NOISE_S].max(axis=0)
            for run in rest
        ]
        most: F64 = np.max(settled, axis=0)
        return most

    def by_chance(self) -> dict[str, int]:
        """How often silence seems to be answered within 100 ms: made-up onsets in every run."""
        found = tried = 0
        for number, run in enumerate(self._runs):
            apart = self._from_others(number, range(len(self._runs)))
            silent_deg = self.most_deg(without=number)
            for at_s in np.arange(NOISE_S + 0.3, run.stream_s[-1] - 0.2, 0.02):
                captured_s = run.first_sample_s + at_s
                limit_deg = limits(run, apart, captured_s, silent_deg)
                found += moved_after_ms(run, apart, captured_s, limit_deg) <= 100.0
                tried += 1
        return {"answered": found, "tried": tried}

    def _from_others(self, run: int, others: Iterable[int]) -> F64:
        nearest: F64 = np.min([self._apart[run, k] for k in others if k != run], axis=0)
        return nearest
