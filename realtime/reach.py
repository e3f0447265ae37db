"""Two bones to a point: where the elbow goes when the wrist is moved, and the rotations of that."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ha2g_live.realtime.kernel import kernel
from ha2g_live.realtime.rotation import (
    Quat,
    Vec,
    about,
    blend,
    cross,
    dot,
    length,
    multiply,
    ramp,
    rotate,
    scaled,
    swing,
    unit,
)

_BENT_SINE = (0.03, 0.15)
"""Sine of the elbow's bend where its plane begins to count, and where it alone counts."""
_STRAIGHTEST = 0.998
"""Longest reach as a share of the stretched arm; nearer to one the elbow would jerk."""
_FOLDED_SHARE = 0.28
"""Shortest reach as a share of the stretched arm: an elbow bends by 150 degrees."""

_FREE_SWIVEL_RAD, _MOST_SWIVEL_RAD = 1.8, 2.8
"""Turn of an elbow about its arm that is made as asked, and the most of all."""


class Arm(NamedTuple):
    """One arm in space.

    Attributes:
        shoulder, elbow, wrist: positions.
        normal: unit normal of the elbow's plane.
        upper, fore: lengths.
    """

    shoulder: Vec
    elbow: Vec
    wrist: Vec
    normal: Vec
    upper: float
    fore: float


@kernel
def at(places: Any, bone: int) -> Vec:
    """Row of an array of positions."""
    return (places[bone, 0], places[bone, 1], places[bone, 2])


@kernel
def arm_of(shoulder: Vec, elbow: Vec, wrist: Vec, hinge: Vec) -> Arm:
    """The arm as it is; ``hinge`` stands in for its plane where it is nearly straight."""
    upper = blend(1.0, elbow, -1.0, shoulder)
    fore = blend(1.0, wrist, -1.0, elbow)
    a, b = length(upper), length(fore)
    along = scaled(1.0 / a, upper)
    normal = scaled(1.0 / (a * b), cross(upper, fore))
    weight = ramp(length(normal), _BENT_SINE[0], _BENT_SINE[1])
    flat = unit(blend(1.0, hinge, -dot(hinge, along), along))
    if weight > 0.0:
        sign = 1.0 if weight == 1.0 or dot(normal, flat) >= 0.0 else -1.0
        normal = unit(blend(1.0 - weight, flat, weight * sign / length(normal), normal))
        normal = unit(blend(1.0, normal, -dot(normal, along), along))
    else:
        normal = flat
    return Arm(shoulder, elbow, wrist, normal, a, b)


@kernel
def reached(arm: Arm, wrist: Vec, swivel_rad: float) -> Arm:
    """The arm with its wrist elsewhere, as near to how it was as can be.

    A wrist out of reach comes as near as it can.

    Args:
        arm: as it was.
        wrist: where the wrist is to be.
        swivel_rad: turn of the elbow about the line from shoulder to wrist, after that.
    """
    before = unit(blend(1.0, arm.wrist, -1.0, arm.shoulder))
    wanted = blend(1.0, wrist, -1.0, arm.shoulder)
    distance = length(wanted)
    along = scaled(1.0 / max(distance, 1e-6), wanted) if distance > 1e-6 else before
    full = arm.upper + arm.fore
    least = max(_FOLDED_SHARE * full, abs(arm.upper - arm.fore) + 1e-3)
    # An arm that was straighter than the limit may stay so.
    most = max(_STRAIGHTEST * full, length(blend(1.0, arm.wrist, -1.0, arm.shoulder)))
    distance = min(max(distance, least), most, full * 0.99999)
    turn = multiply(about(along, swivel_rad), swing(before, along))
    normal = rotate(turn, arm.normal)
    normal = unit(blend(1.0, normal, -dot(normal, along), along))
    cosine = (arm.upper**2 + distance**2 - arm.fore**2) / (2.0 * arm.upper * distance)
    cosine = min(max(cosine, -1.0), 1.0)
    sine = math.sqrt(1.0 - cosine * cosine)
    # normal = upper x fore, so the elbow lies to the side of along x normal.
    pole = cross(along, normal)
    elbow = blend(arm.upper * cosine, along, arm.upper * sine, pole)
    elbow = blend(1.0, arm.shoulder, 1.0, elbow)
    end = blend(1.0, arm.shoulder, distance, along)
    return Arm(arm.shoulder, elbow, end, normal, arm.upper, arm.fore)


@kernel
def with_lengths(arm: Arm, elbow: Vec, wrist: Vec) -> Arm:
    """The arm with elbow and wrist near where they are asked to be, its bones as long as before.

    Both ends of a bone give way alike, as in position based dynamics (Mueller et al., 2007).
    """
    full = arm.upper + arm.fore
    least = max(_FOLDED_SHARE * full, abs(arm.upper - arm.fore) + 1e-3)
    for _ in range(4):
        reach = blend(1.0, wrist, -1.0, arm.shoulder)
        far = length(reach)
        if 1e-6 < far < least:
            wrist = blend(1.0, arm.shoulder, least / far, reach)
        bone = blend(1.0, elbow, -1.0, arm.shoulder)
        elbow = blend(1.0, arm.shoulder, arm.upper / max(length(bone), 1e-6), bone)
        bone = blend(1.0, wrist, -1.0, elbow)
        short = 0.5 * (arm.fore - length(bone)) / max(length(bone), 1e-6)
        wrist = blend(1.0, wrist, short, bone)
        elbow = blend(1.0, elbow, -short, bone)
    bone = blend(1.0, elbow, -1.0, arm.shoulder)
    elbow = blend(1.0, arm.shoulder, arm.upper / max(length(bone), 1e-6), bone)
    bone = blend(1.0, wrist, -1.0, elbow)
    wrist = blend(1.0, elbow, arm.fore / max(length(bone), 1e-6), bone)
    return Arm(arm.shoulder, elbow, wrist, arm.normal, arm.upper, arm.fore)


@kernel
def swivel_to(old: Arm, new: Arm) -> float:
    """Angle by which ``reached`` has to turn the elbow to bring it where ``new`` has it.

    It stays below ``_MOST_SWIVEL_RAD``: past that the shoulder would have to turn over.
    """
    plain = reached(old, new.wrist, 0.0)
    along = blend(1.0, plain.wrist, -1.0, plain.shoulder)
    along = scaled(1.0 / max(length(along), 1e-6), along)
    here = blend(1.0, plain.elbow, -1.0, plain.shoulder)
    here = blend(1.0, here, -dot(here, along), along)
    there = blend(1.0, new.elbow, -1.0, new.shoulder)
    there = blend(1.0, there, -dot(there, along), along)
    angle = math.atan2(dot(cross(here, there), along), dot(here, there))
    # A stretched arm's elbow has no side.
    angle *= ramp(length(there), 0.01, 0.05)
    over = abs(angle) - _FREE_SWIVEL_RAD
    if over <= 0.0:
        return angle
    room = _MOST_SWIVEL_RAD - _FREE_SWIVEL_RAD
    return math.copysign(_FREE_SWIVEL_RAD + room * math.tanh(over / room), angle)


@kernel
def turn_of_upper(old: Arm, new: Arm) -> Quat:
    """World rotation that takes the upper arm from how it was to how it is."""
    start = unit(blend(1.0, old.elbow, -1.0, old.shoulder))
    end = unit(blend(1.0, new.elbow, -1.0, new.shoulder))
    return _frame_turn(start, old.normal, end, new.normal)


@kernel
def turn_of_fore(old: Arm, new: Arm) -> Quat:
    """The same for the forearm."""
    start = unit(blend(1.0, old.wrist, -1.0, old.elbow))
    end = unit(blend(1.0, new.wrist, -1.0, new.elbow))
    return _frame_turn(start, old.normal, end, new.normal)


@kernel
def _frame_turn(start: Vec, start_normal: Vec, end: Vec, end_normal: Vec) -> Quat:
    """Rotation that takes one direction to another and then turns normal to normal about it."""
    bent = swing(start, end)
    carried = rotate(bent, start_normal)
    carried = blend(1.0, carried, -dot(carried, end), end)
    wanted = blend(1.0, end_normal, -dot(end_normal, end), end)
    twist = math.atan2(dot(cross(carried, wanted), end), dot(carried, wanted))
    return multiply(about(end, twist), bent)
