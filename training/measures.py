"""How much, how far and how smoothly the hands and the head move.

The definitions are those that the figures of real people were taken with
(``training/people.py``): wrists relative to the middle of the shoulders, low-passed at 8 Hz by a
Butterworth filter of order 2 run forward and back, at 30 frames a second. Speed is the length of
the gradient, jerk that of the third difference. Jerk depends on the filter: compare it only with
figures taken with the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import signal

from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.skeleton import BONE_LENGTHS_M, JOINT_NAMES, bone_index, joint_positions
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

FPS = 30.0
"""Frames a second of everything measured here."""
CUTOFF_HZ = 8.0
ARM_M = 0.54
"""Length of the arm, shoulder to wrist, that motion is measured on: that of the real people.

The skeleton's nominal arm is 0.69 m, so all its bones are scaled to this; speeds in metres would
else be a quarter too high.
"""
PEAK_M_S = 0.25
PEAK_PROMINENCE_M_S = 0.15
MOVING_M_S = 0.25
EPISODE_FRAMES = 5
GAP_FRAMES = 9
STILL_M_S = 0.05
OTHER_STILL_M_S = 0.1

_NOMINAL_ARM_M = sum(
    BONE_LENGTHS_M[bone_index(parent, child)]
    for parent, child in (("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"))
)
LENGTHS_M = np.array(BONE_LENGTHS_M, dtype=np.float32) * np.float32(ARM_M / _NOMINAL_ARM_M)
"""(42,) bone lengths on which motion is measured."""
_SHOULDERS = [JOINT_NAMES.index(f"{side}_shoulder") for side in ("left", "right")]
_WRISTS = [JOINT_NAMES.index(f"{side}_wrist") for side in ("left", "right")]
_EARS = [JOINT_NAMES.index(f"{side}_ear") for side in ("left", "right")]
_NOSE = JOINT_NAMES.index("nose")
_LEAST_SAMPLES = 16  # for the filter's padding and a third difference


@dataclass(frozen=True, slots=True)
class Curves:
    """One stream at 30 frames a second, filtered.

    Attributes:
        wrists_m: (frames, 2, 3) left and right, relative to the middle of the shoulders, y up.
        speed_m_s: (frames, 2).
        jerk_m_s3: (frames - 3, 2).
        head_deg_s: (frames - 1,) speed at which the head turns; empty where no head was given.
    """

    wrists_m: F64
    speed_m_s: F64
    jerk_m_s3: F64
    head_deg_s: F64


@dataclass(frozen=True, slots=True)
class Measures:
    """Every figure of the table of real people. Pairs are (left, right).

    Attributes:
        speed_mean: m/s; ``speed_median`` and ``speed_p95`` of the same.
        path_m_per_min: metres that a wrist travels in a minute.
        still_share: share of the time below 0.05 m/s.
        peaks_per_min: speed peaks of at least 0.25 m/s and a prominence of 0.15.
        episode_peak: median over the episodes of their highest speed, m/s.
        two_handed: share of the episodes in which the other hand moves too.
        speed_correlation: of the left with the right speed.
        alone_share: share of the time in which a hand moves that the other is below 0.1 m/s.
        height_p5, height_p95: of the wrists over the shoulders, m, both hands together.
        jerk_mean, jerk_p95: m/s^3, both hands together.
        head_p50, head_p95: deg/s.
        minutes: of motion.
    """

    speed_mean: tuple[float, float]
    speed_median: tuple[float, float]
    speed_p95: tuple[float, float]
    path_m_per_min: tuple[float, float]
    still_share: tuple[float, float]
    peaks_per_min: tuple[float, float]
    episode_peak: tuple[float, float]
    two_handed: tuple[float, float]
    speed_correlation: float
    alone_share: float
    height_p5: float
    height_p95: float
    jerk_mean: float
    jerk_p95: float
    head_p50: float
    head_p95: float
    minutes: float

    def flat(self) -> dict[str, float]:
        """All figures by name; a pair becomes ``NAME_left`` and ``NAME_right``."""
        values: dict[str, float] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, tuple):
                values[f"{name}_left"], values[f"{name}_right"] = value
            else:
                values[name] = value
        return values


# --- curves


def arms_and_head(directions: F32) -> tuple[F64, F64]:
    """Wrists and head axes of a motion.

    Args:
        directions: (frames, 42, 3) unit vectors, HA2G axes.

    Returns:
        (frames, 2, 3) wrists relative to the middle of the shoulders in metres, x to the person's
        left, y up, z forward, on arms of ``ARM_M``; and (frames, 3, 3) rows left, up and forward
        of the head.
    """
    joints = joint_positions(np.asarray(directions, dtype=np.float32), LENGTHS_M)
    joints = joints.astype(np.float64) * np.array([1.0, -1.0, -1.0])
    wrists = joints[:, _WRISTS] - joints[:, _SHOULDERS].mean(axis=1, keepdims=True)
    left = _unit(joints[:, _EARS[0]] - joints[:, _EARS[1]])
    ahead = joints[:, _NOSE] - joints[:, _EARS].mean(axis=1)
    up = _unit(np.cross(ahead, left))
    return wrists, np.stack((left, up, np.cross(left, up)), axis=1)


def curves(wrists: F64, head: F64 | None, fps: float) -> Curves:
    """Filter one stream at its own rate, bring it to 30 frames a second, differentiate.

    Args:
        wrists: (frames, 2, 3) metres, relative to the middle of the shoulders, y up.
        head: (frames, 3, 3) unit rows; None where there is no head.
        fps: frames a second, more than 16.

    Raises:
        ConfigError: the rate is too low for the filter, or there is less than about half a second.
    """
    wrists = _resampled(wrists, fps)
    speed = np.linalg.norm(np.gradient(wrists, axis=0), axis=-1) * FPS
    jerk = np.linalg.norm(np.diff(wrists, n=3, axis=0), axis=-1) * FPS**3
    turning = np.zeros(0)
    if head is not None:
        left, up, _ = np.moveaxis(_resampled(head, fps), 1, 0)
        left = _unit(left)
        up = _unit(up - (up * left).sum(axis=-1, keepdims=True) * left)
        axes = np.stack((left, up, np.cross(left, up)), axis=1)
        # The angle from the chord: arccos of the trace would lose slow turns to rounding.
        chord = np.linalg.norm(np.diff(axes, axis=0), axis=(1, 2)) / np.sqrt(8.0)
        turning = np.degrees(2.0 * np.arcsin(np.clip(chord, 0.0, 1.0))) * FPS
    return Curves(wrists, speed, jerk, turning)


def motion_curves(directions: F32, fps: float) -> Curves:
    """``curves`` of a (frames, 42, 3) motion."""
    return curves(*arms_and_head(directions), fps)


def _resampled(values: F64, fps: float) -> F64:
    if fps <= 2 * CUTOFF_HZ:
        raise ConfigError(
            f"motion at {fps:g} frames a second cannot be filtered at {CUTOFF_HZ:g} Hz: "
            f"give it at {FPS:g} or more (15 Hz poses: playback.at_fps)"
        )
    if len(values) < max(_LEAST_SAMPLES, _LEAST_SAMPLES * fps / FPS):
        raise ConfigError(f"{len(values)} frames of motion are too few to measure: give a second")
    b, a = signal.butter(2, CUTOFF_HZ, fs=fps)
    smooth = np.asarray(signal.filtfilt(b, a, values, axis=0), dtype=np.float64)
    if fps == FPS:
        return smooth
    wanted = np.arange(int((len(values) - 1) / fps * FPS + 1e-6) + 1) * fps / FPS
    left = np.minimum(wanted.astype(np.int64), len(values) - 2)
    part = (wanted - left).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(smooth[left] * (1.0 - part) + smooth[left + 1] * part)


def _unit(vectors: F64) -> F64:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12))


# --- events


def peaks(speed: F64) -> npt.NDArray[np.int64]:
    """Frames of the peaks of a (frames,) speed."""
    found, _ = signal.find_peaks(speed, height=PEAK_M_S, prominence=PEAK_PROMINENCE_M_S)
    return np.asarray(found, dtype=np.int64)


def runs(mask: Bools, least: int) -> list[tuple[int, int]]:
    """(first, past the last) of each run of true of at least ``least`` in (n,)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a >= least]


def episodes(speed: F64) -> list[tuple[int, int]]:
    """(first, past the last) frame of each movement of a (frames,) speed.

    Runs of at least 5 frames above 0.25 m/s; runs less than 9 frames apart are one.
    """
    merged: list[tuple[int, int]] = []
    for first, end in runs(speed > MOVING_M_S, EPISODE_FRAMES):
        if merged and first - merged[-1][1] < GAP_FRAMES:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((first, end))
    return merged


# --- the table


def measure(wrists: F64, head: F64 | None, fps: float) -> Measures:
    """Measure one stream; see ``curves`` for the arguments and errors."""
    return pooled([curves(wrists, head, fps)])


def measures_of(motions: Sequence[F32], fps: float) -> dict[str, float]:
    """Measure several streams as one; episodes and peaks never cross from one into the next.

    Args:
        motions: (frames, 42, 3) directions each, HA2G axes.
        fps: their rate; poses at 15 Hz go through ``playback.at_fps`` first.

    Returns:
        ``Measures.flat``. A share of nothing is NaN.

    Raises:
        ConfigError: no stream, one that is too short, or a rate that is too low.
    """
    return pooled([motion_curves(motion, fps) for motion in motions]).flat()


def pooled(streams: Sequence[Curves]) -> Measures:
    """The figures over all frames and episodes of several streams.

    Raises:
        ConfigError: there is none.
    """
    if not streams:
        raise ConfigError("there is no motion to measure: give at least one stream")
    speed = np.concatenate([s.speed_m_s for s in streams])
    jerk = np.concatenate([s.jerk_m_s3 for s in streams])
    head = np.concatenate([s.head_deg_s for s in streams])
    height = np.concatenate([s.wrists_m[..., 1] for s in streams])
    minutes = len(speed) / FPS / 60.0
    path = sum(np.linalg.norm(np.diff(s.wrists_m, axis=0), axis=-1).sum(axis=0) for s in streams)
    moving = speed > MOVING_M_S
    alone = moving & (speed[:, ::-1] < OTHER_STILL_M_S)
    hands = [_hand(streams, hand, minutes) for hand in (0, 1)]
    varies = (speed.std(axis=0) > 1e-9).all()
    return Measures(
        speed_mean=_pair(speed.mean(axis=0)),
        speed_median=_pair(np.median(speed, axis=0)),
        speed_p95=_pair(np.percentile(speed, 95, axis=0)),
        path_m_per_min=_pair(np.asarray(path) / minutes),
        still_share=_pair((speed < STILL_M_S).mean(axis=0)),
        peaks_per_min=(hands[0][0], hands[1][0]),
        episode_peak=(hands[0][1], hands[1][1]),
        two_handed=(hands[0][2], hands[1][2]),
        speed_correlation=float(np.corrcoef(speed.T)[0, 1]) if varies else float("nan"),
        alone_share=_share(alone[:, 0] | alone[:, 1], moving[:, 0] | moving[:, 1]),
        height_p5=float(np.percentile(height, 5)),
        height_p95=float(np.percentile(height, 95)),
        jerk_mean=float(jerk.mean()),
        jerk_p95=float(np.percentile(jerk, 95)),
        head_p50=float(np.percentile(head, 50)) if len(head) else float("nan"),
        head_p95=float(np.percentile(head, 95)) if len(head) else float("nan"),
        minutes=minutes,
    )


def _hand(streams: Sequence[Curves], hand: int, minutes: float) -> tuple[float, float, float]:
    """Peaks a minute, median peak of an episode, share of episodes in which the other moves."""
    count = 0
    highest: list[float] = []
    both: list[bool] = []
    for stream in streams:
        own, other = stream.speed_m_s[:, hand], stream.speed_m_s[:, 1 - hand]
        count += len(peaks(own))
        for first, end in episodes(own):
            highest.append(float(own[first:end].max()))
            both.append(bool(runs(other[first:end] > MOVING_M_S, EPISODE_FRAMES)))
    if not highest:
        return count / minutes, float("nan"), float("nan")
    return count / minutes, float(np.median(highest)), float(np.mean(both))


def _share(part: Bools, whole: Bools) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else float("nan")


def _pair(values: F64) -> tuple[float, float]:
    return float(values[0]), float(values[1])
