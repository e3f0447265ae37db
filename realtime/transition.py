"""Changes that are asked for while the avatar moves, without a jump; and the ``smooth`` knob.

When a knob is turned the pose changes at once from what was shown to something else. The
difference, with its speed, is laid over the new motion and led to zero (inertialisation, see
``trajectory``). Smoothing is two equal first-order filters, one after the other, on each joint.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.humanoid import BONE_COUNT
from ha2g_live.realtime.kernel import entry
from ha2g_live.realtime.rig import get
from ha2g_live.realtime.rotation import (
    Vec,
    blend,
    from_vector,
    inverse,
    multiply,
    scaled,
    to_vector,
    turned,
    unit_quat,
    vector_rate,
)
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]

FADE_S = 0.7
"""Time over which a change is made."""
SLOWEST_S = 0.25
"""Time constant of each filter at ``smooth`` 1; both together lag by twice that."""


class Fade(NamedTuple):
    """What is left of a change.

    Attributes:
        turn: (2, 55, 3) rotation vector laid over the motion, and its velocity per second, as they
            were when the change began.
        began_s: when that was.
    """

    turn: F64
    began_s: float


def no_fade() -> Fade:
    """Nothing was changed."""
    return Fade(np.zeros((2, BONE_COUNT, 3)), -math.inf)


def fade_from(
    shown: F32, shown_before: F32, new: F32, new_before: F32, now_s: float, passed_s: float
) -> Fade:
    """The fade that goes on from what was shown to a new motion.

    Args:
        shown: (55, 4) the pose shown last.
        shown_before: the one before it.
        new: what the new motion would have shown in place of ``shown``.
        new_before: the one before it.
        now_s: the moment of ``shown``.
        passed_s: time between the two poses.
    """
    turn = np.empty((2, BONE_COUNT, 3))
    _difference(
        _wide(shown), _wide(shown_before), _wide(new), _wide(new_before), float(passed_s), turn
    )
    return Fade(turn, now_s)


def faded(rotations: F32, fade: Fade, now_s: float) -> F32:
    """The pose with what is left of a change laid over it."""
    share = (now_s - fade.began_s) / FADE_S
    if share >= 1.0:
        return rotations
    out = np.array(rotations, dtype=np.float32, order="C")
    _lay_over(out, fade.turn, max(float(share), 0.0))
    return out


def smoothed(rotations: F32, filters: F32, smooth: float, passed_s: float) -> tuple[F32, F32]:
    """The pose after the ``smooth`` knob.

    Args:
        rotations: (55, 4).
        filters: (2, 55, 4) what both filters showed last.
        smooth: the knob, 0..1.
        passed_s: time since then.

    Returns:
        The pose, and the filters' new state.
    """
    if smooth <= 0.0 or passed_s <= 0.0:
        return rotations, np.stack((rotations, rotations))
    # Quadratic, so that the first half of the knob is the gentle one.
    share = 1.0 - math.exp(-passed_s / (SLOWEST_S * smooth * smooth))
    after = np.array(filters, dtype=np.float32, order="C")
    _filter(np.array(rotations, dtype=np.float32, order="C"), after, share)
    return after[1].copy(), after


def _wide(pose: F32) -> F64:
    return np.array(pose, dtype=np.float64, order="C")


@entry
def _difference(
    shown: F64,
    shown_before: F64,
    new: F64,
    new_before: F64,
    passed_s: float,
    out: F64,
) -> None:
    for bone in range(out.shape[1]):
        here, there = get(new, bone), get(shown, bone)
        turn = to_vector(multiply(there, inverse(here)))
        old_rate = scaled(
            1.0 / passed_s, to_vector(multiply(there, inverse(get(shown_before, bone))))
        )
        new_rate = scaled(1.0 / passed_s, to_vector(multiply(here, inverse(get(new_before, bone)))))
        rate = vector_rate(turn, blend(1.0, old_rate, -1.0, turned(new_rate, turn)))
        for k in range(3):
            out[0, bone, k] = turn[k]
            out[1, bone, k] = rate[k]


@entry
def _lay_over(pose: F32, turn: F64, share: float) -> None:
    # The quintic that begins with this place and speed and ends at rest: sums of Bernstein
    # polynomials, where a curvature of zero at the start is taken.
    left = 1.0 - share
    place = left**3 * (1.0 + 3.0 * share + 6.0 * share * share)
    speed = left**3 * share * (1.0 + 3.0 * share) * FADE_S
    for bone in range(pose.shape[0]):
        start: Vec = (turn[0, bone, 0], turn[0, bone, 1], turn[0, bone, 2])
        rate: Vec = (turn[1, bone, 0], turn[1, bone, 1], turn[1, bone, 2])
        q = get(pose, bone)
        q = unit_quat(multiply(from_vector(blend(place, start, speed, rate)), q))
        sign = 1.0 if q[3] >= 0.0 else -1.0
        for k in range(4):
            pose[bone, k] = sign * q[k]


@entry
def _filter(pose: F32, filters: F32, share: float) -> None:
    for bone in range(pose.shape[0]):
        wanted = get(pose, bone)
        for stage in range(2):
            q = (
                float(filters[stage, bone, 0]),
                float(filters[stage, bone, 1]),
                float(filters[stage, bone, 2]),
                float(filters[stage, bone, 3]),
            )
            step = scaled(share, to_vector(multiply(wanted, inverse(q))))
            q = unit_quat(multiply(from_vector(step), q))
            sign = 1.0 if q[3] >= 0.0 else -1.0
            for k in range(4):
                filters[stage, bone, k] = sign * q[k]
            wanted = q
