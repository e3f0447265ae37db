"""How often the same movement comes back within a minute.

A window of 2 s in which a hand moves has a near copy if some window that began 2 to 60 s before it
lies closer than half the typical nearest distance: that of moving windows of the planner to the
windows of a minute of *another* stream. The distance is the root mean square over the frames, of
wrists and middle fingertips relative to the shoulders.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.skeleton import JOINT_NAMES, joint_positions
from ha2g_live.realtime.timebase import POSE_FPS
from ha2g_live.realtime.types import F32
from ha2g_live.training.measures import LENGTHS_M, MOVING_M_S

WINDOW_S = 2.0
HORIZON_S = 60.0
NEAR = 0.5
"""A copy is nearer than this share of the typical nearest distance."""
_WINDOW = round(WINDOW_S * POSE_FPS)
_HORIZON = round(HORIZON_S * POSE_FPS)
_EVERY = POSE_FPS  # a window a second is asked about
_POINTS = [
    JOINT_NAMES.index(name)
    for name in ("left_wrist", "left_middle_3", "right_wrist", "right_middle_3")
]
_SHOULDERS = [JOINT_NAMES.index(f"{side}_shoulder") for side in ("left", "right")]


def hand_windows(motion: F32, fps: float) -> tuple[F32, npt.NDArray[np.bool_]]:
    """All windows of a motion, and in which of them a hand moves.

    Args:
        motion: (frames, 42, 3) directions.
        fps: a multiple of 15.

    Returns:
        (windows, 30, 12) float32 metres, one from every pose frame on; and (windows,) whether the
        faster wrist has a mean speed above 0.25 m/s.
    """
    joints = joint_positions(motion[:: round(fps / POSE_FPS)], LENGTHS_M)
    points = joints[:, _POINTS] - joints[:, _SHOULDERS].mean(axis=1, keepdims=True)
    if len(points) <= _WINDOW:
        return np.zeros((0, _WINDOW, 12), np.float32), np.zeros(0, np.bool_)
    flat = np.ascontiguousarray(points.reshape(len(points), -1), dtype=np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(flat, _WINDOW, axis=0)
    wrists = points[:, [0, 2]]
    speed = np.linalg.norm(np.diff(wrists, axis=0, append=wrists[-1:]), axis=-1) * POSE_FPS
    mean = np.lib.stride_tricks.sliding_window_view(speed, _WINDOW, axis=0).mean(axis=-1)
    return np.moveaxis(windows, -1, 1), np.asarray(mean.max(axis=1) > MOVING_M_S)


def typical_distance_m(motions: Sequence[F32], fps: float) -> float:
    """Median distance of a moving window to the nearest in a minute of the next stream, metres.

    NaN where fewer than two streams move.
    """
    found = [hand_windows(motion, fps) for motion in motions]
    found = [(windows, moving) for windows, moving in found if moving.any()]
    if len(found) < 2:
        return float("nan")
    nearest: list[float] = []
    for n, (windows, moving) in enumerate(found):
        candidates = found[(n + 1) % len(found)][0][:_HORIZON]
        asked = np.arange(0, len(windows), _EVERY)
        for at in asked[moving[asked]]:
            nearest.append(_nearest_m(windows[at], candidates))
    return float(np.median(nearest)) if nearest else float("nan")


def repetition(motions: Sequence[F32], fps: float, typical_m: float) -> float:
    """Share of the moving windows that have a near copy in the minute before.

    Args:
        motions: (frames, 42, 3) directions each.
        fps: a multiple of 15.
        typical_m: from ``typical_distance_m``.

    Returns:
        0..1, NaN where no hand moves.
    """
    copies = asked_count = 0
    for motion in motions:
        windows, moving = hand_windows(motion, fps)
        asked = np.arange(_WINDOW, len(windows), _EVERY)
        for at in asked[moving[asked]]:
            before = windows[max(0, at - _HORIZON) : at - _WINDOW + 1]
            copies += _nearest_m(windows[at], before) < NEAR * typical_m
            asked_count += 1
    return copies / asked_count if asked_count else float("nan")


def _nearest_m(window: F32, candidates: F32) -> float:
    gap = candidates - window
    points = window.shape[-1] // 3
    return float(np.sqrt((gap**2).sum(axis=(1, 2)).min() / (len(window) * points)))


def repeated_choices(begun: Sequence[Sequence[tuple[float, str]]]) -> float:
    """Share of the gestures that were begun already within the minute before.

    Args:
        begun: of each stream, (second, name) of each gesture in order; idle movements left out.

    Returns:
        0..1, NaN where there is none.
    """
    again = count = 0
    for stream in begun:
        latest: dict[str, float] = {}
        for time_s, name in stream:
            again += name in latest and time_s - latest[name] <= HORIZON_S
            latest[name] = time_s
            count += 1
    return again / count if count else float("nan")
