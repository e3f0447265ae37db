"""Spine to upper chest, clavicles, neck and head from directions.

Each solver writes local rotations into a pose (55, 4).
"""

from __future__ import annotations

import math

import numpy as np

from ha2g_live.realtime.kernel import kernel
from ha2g_live.realtime.rig import (
    CHEST,
    FACE,
    FACE_BONES,
    HEAD,
    NECK,
    NOSE,
    NOSE_BONE,
    SHOULDER_BONES,
    SHOULDERS,
    SPINE,
    SPINE_BONE,
    UPPER_ARMS,
    UPPER_CHEST,
    offset,
    put,
    rest,
)
from ha2g_live.realtime.rotation import (
    IDENTITY,
    Quat,
    about,
    blend,
    cross,
    dot,
    inverse,
    multiply,
    part,
    rotate,
    swing,
    unit,
)
from ha2g_live.realtime.sight import Sight, fit, take
from ha2g_live.realtime.types import F32

_SPREAD = (0.4, 0.7)
"""Share of the upper chest's turn that Spine, and Spine with Chest, take."""
_NECK_SHARE = 0.4
_NECK_MEND_RAD = math.radians(25)
"""The neck leans at most this far from its share to bring the nose where it was asked."""
_FACE_WEIGHTS = np.ones(4)
_TINY = 1e-6


@kernel
def solve_torso(sight: Sight, out: F32) -> Quat:
    """Spine, Chest and UpperChest; returns the upper chest's world rotation."""
    straight = blend(1.0, blend(1.0, offset(CHEST), 1.0, offset(UPPER_CHEST)), 1.0, offset(NECK))
    upright = unit(straight)
    up = take(sight, SPINE_BONE) if sight.valid[SPINE_BONE] else upright
    turn = swing(upright, up)
    left, right = SHOULDER_BONES
    if sight.valid[left] and sight.valid[right]:
        line = blend(1.0, take(sight, right), -1.0, take(sight, left))
        side = rotate(turn, (1.0, 0.0, 0.0))
        sine, cosine = dot(cross(side, line), up), dot(side, line)
        if sine * sine + cosine * cosine > _TINY:
            turn = multiply(about(up, math.atan2(sine, cosine)), turn)
    lower, middle = part(turn, _SPREAD[0]), part(turn, _SPREAD[1])
    # A bent chain points less far than its last link: the whole of it makes up the rest.
    chord = blend(1.0, rotate(lower, offset(CHEST)), 1.0, rotate(middle, offset(UPPER_CHEST)))
    chord = unit(blend(1.0, chord, 1.0, rotate(turn, offset(NECK))))
    mend = swing(chord, up)
    put(out, SPINE, multiply(mend, lower))
    put(out, CHEST, multiply(inverse(lower), middle))
    put(out, UPPER_CHEST, multiply(inverse(middle), turn))
    return multiply(mend, turn)


@kernel
def solve_shoulder(side: int, chest: Quat, sight: Sight, out: F32) -> Quat:
    """The clavicle; returns its world rotation."""
    clavicle = SHOULDERS[side]
    bone = SHOULDER_BONES[side]
    if not sight.valid[bone]:
        put(out, clavicle, IDENTITY)
        return chest
    # The shoulder joint lies on a ray from the neck and on a sphere about the clavicle's root.
    # The neck is inside that sphere, so there is one such point.
    ray = rotate(inverse(chest), take(sight, bone))
    root = blend(1.0, offset(clavicle), -1.0, offset(NECK))
    upper_arm = UPPER_ARMS[side]
    bone_m = offset(upper_arm)
    along = dot(ray, root)
    far = along + math.sqrt(along * along - dot(root, root) + dot(bone_m, bone_m))
    local = swing(rest(upper_arm), unit(blend(far, ray, -1.0, root)))
    put(out, clavicle, local)
    return multiply(chest, local)


@kernel
def solve_head(chest: Quat, sight: Sight, out: F32) -> None:
    """Neck and head. The head's orientation is the face's; the neck takes its share of it."""
    head = fit(FACE, _FACE_WEIGHTS, sight, FACE_BONES, chest)
    nod = multiply(inverse(chest), head)
    neck = part(nod, _NECK_SHARE)
    if sight.valid[NOSE_BONE]:
        # The nose lies on a ray from the neck's joint, the head's joint on a sphere about it; with
        # a nose out of reach the head's joint comes as near as it can.
        ray = rotate(inverse(chest), take(sight, NOSE_BONE))
        nose = rotate(nod, NOSE)
        bone_m = offset(HEAD)
        along = dot(ray, nose)
        far = along * along - dot(nose, nose) + dot(bone_m, bone_m)
        wanted = blend(along + math.sqrt(max(far, 0.0)), ray, -1.0, nose)
        mend = swing(unit(rotate(neck, bone_m)), unit(wanted))
        angle = 2.0 * math.acos(min(mend[3], 1.0))
        if angle > _NECK_MEND_RAD:
            mend = part(mend, _NECK_MEND_RAD / angle)
        neck = multiply(mend, neck)
    put(out, NECK, neck)
    put(out, HEAD, multiply(inverse(neck), nod))
