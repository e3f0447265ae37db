"""Cuts clips into units: movements with one speed peak, which the planner chains."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from ha2g_live.realtime.skeleton import joint_positions
from ha2g_live.realtime.types import F32
from ha2g_live.training.clips import F64, Clip

_LEAST_PEAK_M_S = 0.35
_LEAST_RISE_M_S = 0.18
_NEAR_REST = 0.35  # of a clip's way
_HOLD_S = 0.5
_FASTEST_M_S = 0.95
WRISTS = [6, 7]


@dataclass(frozen=True, slots=True)
class Unit:
    """One movement of a clip.

    Attributes:
        name: the clip's name and the unit's number in it.
        clip: where it is cut from; None for a small beat on top of whatever is held.
        raises: whether it starts near rest, so that it can open a phrase.
        start_s, peak_s, end_s: in the clip; the wrists are fastest at ``peak_s``.
        hold_s: how far the clip may creep on while the hands are held.
        follows: name of the unit that continues this one; "" for none.
        stretch: how much longer it takes than in the clip; a few clips are too brisk for talk.
    """

    name: str
    clip: Clip | None
    raises: bool = False
    start_s: float = 0.0
    peak_s: float = 0.0
    end_s: float = 0.0
    hold_s: float = 0.0
    follows: str = ""
    stretch: float = 1.0

    @property
    def hands(self) -> str:
        """ "left", "right" or "both"."""
        return self.clip.hands if self.clip is not None else self.name.split(":")[1]


TAPS = tuple(Unit(f"tap:{hands}", None) for hands in ("both", "left", "right"))


def share(name: str, what: str) -> float:
    """A number in 0..1 that depends on a name alone: what a unit always does the same way."""
    return zlib.crc32(f"{what}/{name}".encode()) / 2**32


def wrist_speed_m_s(directions: F32, fps: float) -> F64:
    """(frames, 2) speed of the left and the right wrist on the nominal skeleton."""
    wrists = joint_positions(directions)[:, WRISTS]
    return np.asarray(np.linalg.norm(np.gradient(wrists, axis=0), axis=-1) * fps)


def units_of(clip: Clip) -> list[Unit]:
    """The movements of a clip in order, without the way back to rest."""
    wrists = joint_positions(clip.directions)[:, WRISTS]
    speed = wrist_speed_m_s(clip.directions, clip.fps).max(axis=1)
    speed = gaussian_filter1d(speed, 0.05 * clip.fps)
    way: F64 = np.linalg.norm(wrists - wrists[:1], axis=-1).max(axis=1)
    peaks, _ = find_peaks(
        np.concatenate(([0.0], speed, [0.0])), height=_LEAST_PEAK_M_S, prominence=_LEAST_RISE_M_S
    )
    peaks = peaks - 1
    if not len(peaks):
        return []
    lows = [p + int(np.argmin(speed[p:q])) for p, q in pairwise(peaks)]
    starts = [0, *lows]
    ends = [*lows, len(speed) - 1]
    far = float(way.max())
    units: list[Unit] = []
    for start, peak, low in zip(starts, peaks, ends, strict=True):
        end = min(low, peak + _settled(speed[peak:]))
        if way[end] < _NEAR_REST * far or way[end] < 0.6 * way[start]:
            continue  # on the way back
        number = len(units)
        units.append(
            Unit(
                f"{clip.name}/{number}",
                clip,
                raises=bool(way[start] < _NEAR_REST * far),
                start_s=start / clip.fps,
                peak_s=int(peak) / clip.fps,
                end_s=end / clip.fps,
                hold_s=min(end / clip.fps + _HOLD_S, _leaves(way, end) / clip.fps),
                stretch=max(1.0, float(speed[peak]) / _FASTEST_M_S),
            )
        )
    for at, after in enumerate(units[1:]):
        hold_s = min(units[at].hold_s, max(after.start_s, units[at].end_s))
        units[at] = replace(units[at], hold_s=hold_s, follows=after.name)
    return units


def _settled(speed: F64) -> int:
    """Frames after a peak until the hands are nearly still."""
    slow = np.flatnonzero(speed < max(0.15, 0.2 * float(speed[0])))
    return int(slow[0]) if len(slow) else len(speed) - 1


def _leaves(way: F64, end: int) -> int:
    """Frame at which the hands begin to go back after ``end``."""
    back = np.flatnonzero(way[end:] < 0.85 * way[end])
    return end + int(back[0]) if len(back) else len(way) - 1
