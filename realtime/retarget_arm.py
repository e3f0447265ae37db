"""Upper arm, forearm, hand and fingers of one side from directions; left is side 0.

Each solver writes local rotations into a pose (55, 4).
"""

from __future__ import annotations

import math

import numpy as np

from ha2g_live.realtime.kernel import kernel
from ha2g_live.realtime.rig import (
    ARM_BONES,
    HANDS,
    KNUCKLE_BONES,
    KNUCKLES,
    LOWER_ARMS,
    PROXIMALS,
    UPPER_ARMS,
    put,
    rest,
)
from ha2g_live.realtime.rotation import (
    IDENTITY,
    Quat,
    about,
    cross,
    dot,
    inverse,
    length,
    multiply,
    part,
    ramp,
    rotate,
    swing,
    unit,
)
from ha2g_live.realtime.sight import Sight, fit, take
from ha2g_live.realtime.types import F32

_ELBOW_SINE = (0.05, 0.6)
"""Sine of the elbow's bend where its plane begins to count, and where it alone counts."""
_FOLDED_SINE = (0.02, 0.1)
"""The same for an elbow bent by more than 90 degrees."""
_FOREARM_SHARE = 0.5
_TWIST_LIMIT_RAD = math.radians(120)
"""Past this twist of hand against elbow, more than people have, the forearm lets go again: its
share is back at zero at 180 degrees, where the sign of the twist changes."""
_DISTAL_SHARE = 0.7
"""Bend of the last phalanx, which no direction shows, for that of the one before it."""
# The root of the thumb differs most from hand to hand.
_HAND_WEIGHTS = np.array([1.0, 1.0, 1.0, 1.0, 0.25])


@kernel
def solve_upper_arm(side: int, shoulder: Quat, sight: Sight, out: F32) -> Quat:
    """Returns the upper arm's world rotation."""
    bone = ARM_BONES[side]
    arm = UPPER_ARMS[side]
    if not sight.valid[bone]:
        put(out, arm, IDENTITY)
        return shoulder
    away = -1.0 if side == 0 else 1.0
    to_local = inverse(shoulder)
    along = rotate(to_local, take(sight, bone))
    # A shortest turn is undecided where it is half a circle. Going by way of half down puts that
    # above the other shoulder, where no elbow gets, and leaves the arm hanging down unchanged.
    half_down = (away * math.sqrt(0.5), -math.sqrt(0.5), 0.0)
    local = multiply(swing(half_down, along), swing((away, 0.0, 0.0), half_down))
    if sight.valid[bone + 1]:
        hinge = rotate(local, (0.0, -away, 0.0))
        fore = rotate(to_local, take(sight, bone + 1))
        normal = cross(along, fore)
        band = _ELBOW_SINE if dot(along, fore) > 0.0 else _FOLDED_SINE
        weight = ramp(length(normal), band[0], band[1])
        if weight > 0.0:
            normal = unit(normal)
            sine, cosine = dot(cross(hinge, normal), along), dot(hinge, normal)
            twist = math.atan2(weight * sine, weight * cosine + 1.0 - weight)
            local = multiply(about(along, twist), local)
    put(out, arm, local)
    return multiply(shoulder, local)


@kernel
def solve_forearm(side: int, upper_arm: Quat, sight: Sight, out: F32) -> Quat:
    """Forearm and hand; returns the hand's world rotation."""
    bone = ARM_BONES[side]
    local = IDENTITY
    if sight.valid[bone + 1]:
        along = rotate(inverse(upper_arm), take(sight, bone + 1))
        local = swing(rest(HANDS[side]), along)
    forearm = multiply(upper_arm, local)
    hand = fit(KNUCKLES[side], _HAND_WEIGHTS, sight, KNUCKLE_BONES[side], forearm)
    wrist = multiply(inverse(forearm), hand)
    sign = 1.0 if wrist[3] >= 0.0 else -1.0
    twist = 2.0 * math.atan2(sign * wrist[0], sign * wrist[3])
    share = _FOREARM_SHARE * twist
    if abs(twist) > _TWIST_LIMIT_RAD:
        share *= _TWIST_LIMIT_RAD * (math.pi - abs(twist))
        share /= abs(twist) * (math.pi - _TWIST_LIMIT_RAD)
    # A hand folded back on its forearm shows no twist.
    share *= ramp(wrist[0] * wrist[0] + wrist[3] * wrist[3], 0.02, 0.15)
    roll = about((1.0, 0.0, 0.0), share)
    put(out, LOWER_ARMS[side], multiply(local, roll))
    put(out, HANDS[side], multiply(inverse(roll), wrist))
    return hand


@kernel
def solve_fingers(side: int, hand: Quat, sight: Sight, out: F32) -> None:
    """All three phalanges of the five fingers."""
    for finger in range(5):
        bone = ARM_BONES[side] + 3 + 3 * finger
        proximal = PROXIMALS[side, finger]
        first = IDENTITY
        if sight.valid[bone]:
            first = swing(rest(proximal + 1), rotate(inverse(hand), take(sight, bone)))
        second = IDENTITY
        if sight.valid[bone + 1]:
            to_local = inverse(multiply(hand, first))
            second = swing(rest(proximal + 2), rotate(to_local, take(sight, bone + 1)))
        put(out, proximal, first)
        put(out, proximal + 1, second)
        put(out, proximal + 2, part(second, _DISTAL_SHARE))
