"""Does an hour of motion end as it began?"""

from __future__ import annotations

import numpy as np
from scipy import stats

from ha2g_live.realtime.skeleton import normalise
from ha2g_live.realtime.types import F32
from ha2g_live.training.measures import FPS, motion_curves

_LEAST_MINUTES = 4


def drift(motion: F32, fps: float) -> dict[str, float]:
    """Trends over one long motion, minute by minute.

    Args:
        motion: (frames, 42, 3) directions.
        fps: their rate.

    Returns:
        ``drift_speed_per_hour``: slope of the mean wrist speed over its mean, with
        ``drift_speed_p``, the chance of such a slope or a steeper one where there is none;
        ``drift_pose_deg``: mean angle of the bones between the mean poses of the first and the
        second half; ``drift_pose_usual_deg``: the same between every other minute and the rest,
        which is what chance alone gives; ``drift_minutes``. NaN below four minutes.
    """
    size = round(60 * fps)
    minutes = len(motion) // size
    names = ("drift_speed_per_hour", "drift_speed_p", "drift_pose_deg", "drift_pose_usual_deg")
    if minutes < _LEAST_MINUTES:
        return {**dict.fromkeys(names, float("nan")), "drift_minutes": float(minutes)}
    speed = motion_curves(motion, fps).speed_m_s[: minutes * round(60 * FPS)]
    speed = speed.reshape(minutes, -1).mean(axis=1)
    slope, _, _, p, _ = stats.linregress(np.arange(minutes), speed)
    poses = motion[: minutes * size].reshape(minutes, size, -1, 3).mean(axis=1)
    values = (
        float(slope) * 60.0 / max(float(speed.mean()), 1e-9),
        float(p),
        _angle_deg(poses[: minutes // 2], poses[minutes // 2 :]),
        _angle_deg(poses[::2], poses[1::2]),
    )
    return {**dict(zip(names, values, strict=True)), "drift_minutes": float(minutes)}


def _angle_deg(one: F32, other: F32) -> float:
    """Mean angle of the bones between the means of two sets of (n, 42, 3) poses."""
    chord = np.linalg.norm(normalise(one.mean(axis=0)) - normalise(other.mean(axis=0)), axis=-1)
    return float(np.degrees(2.0 * np.arcsin(np.clip(chord / 2.0, 0.0, 1.0))).mean())
