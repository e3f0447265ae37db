"""Bone directions to humanoid rotations, and back.

A direction says where a bone points, not how it is twisted about itself. The twist comes from what
the next bones show: an upper arm's from the plane of its bent elbow, a hand's from the fan of its
knuckles, the forearm takes half of the hand's. Where they show nothing (a straight elbow), the
shortest turn from rest is taken, and the two are blended so that smooth directions give smooth
rotations.

Every bone is solved in the world that its parents left, so each asked direction comes out exactly
wherever the humanoid has the freedom: chest, shoulders, arms, fingers. A hand and a head are rigid:
they take the best fit of all their directions.

One frame goes this way: ``sight`` takes in the 42 directions; ``_solve`` below calls the solvers
of ``retarget_trunk`` and ``retarget_arm`` from the spine outward; each puts its rotations into the
pose and hands the world rotation it left to the next. ``rotation`` is their arithmetic, ``rig`` the
skeleton they know.

The kernels count in float64 and are compiled at the first call, then cached on disk (``kernel``).
"""

from __future__ import annotations

import math

import numpy as np

from ha2g_live.realtime.humanoid import BONE_COUNT as HUMANOID_BONES
from ha2g_live.realtime.humanoid import PARENTS, TED_BONES, WALK_ORDER
from ha2g_live.realtime.kernel import entry
from ha2g_live.realtime.retarget_arm import solve_fingers, solve_forearm, solve_upper_arm
from ha2g_live.realtime.retarget_trunk import solve_head, solve_shoulder, solve_torso
from ha2g_live.realtime.rig import FACE_POINTS, HEAD, offset, put
from ha2g_live.realtime.rotation import IDENTITY, multiply, rotate
from ha2g_live.realtime.sight import empty_sight, look
from ha2g_live.realtime.skeleton import BONE_COUNT, BONES
from ha2g_live.realtime.types import F32

_PARENTS = np.array(PARENTS)
_WALK_ORDER = np.array(WALK_ORDER)
_TED_BONES = np.array(TED_BONES)
_BONES = np.array(BONES)


def to_rotations(directions: F32) -> F32:
    """Rotations of a humanoid that makes the pose.

    Args:
        directions: (..., 42, 3) bone directions, HA2G axes, any length. One that is zero or not
            finite leaves its bone at rest in its parent's frame.

    Returns:
        (..., 55, 4) float32 local unit quaternions xyzw with w >= 0, Unity axes.

    Raises:
        ValueError: the shape is not (..., 42, 3).
    """
    directions = np.asarray(directions)
    out = np.empty((*directions.shape[:-2], HUMANOID_BONES, 4), dtype=np.float32)
    to_rotations_into(directions, out)
    return out


def to_rotations_into(directions: F32, out: F32) -> None:
    """As ``to_rotations``, into an array that the caller keeps: (..., 55, 4) float32, C order.

    Raises:
        ValueError: a shape does not fit, or ``out`` is not float32 in C order.
    """
    # The copy makes one compiled kernel fit read-only, strided and float64 input.
    source = np.array(directions, dtype=np.float32, order="C")
    if source.ndim < 2 or source.shape[-2:] != (BONE_COUNT, 3):
        raise ValueError(f"directions must be (..., {BONE_COUNT}, 3), got {source.shape}")
    if out.shape != (*source.shape[:-2], HUMANOID_BONES, 4):
        raise ValueError(f"out must be (..., {HUMANOID_BONES}, 4) as directions, got {out.shape}")
    if out.dtype != np.float32 or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("out must be a writable float32 array in C order")
    _solve(source.reshape(-1, BONE_COUNT, 3), out.reshape(-1, HUMANOID_BONES, 4))


def to_directions(rotations: F32) -> F32:
    """Directions that the default skeleton shows in a pose.

    Args:
        rotations: (..., 55, 4) local unit quaternions xyzw, Unity axes.

    Returns:
        (..., 42, 3) float32 unit vectors, HA2G axes.

    Raises:
        ValueError: the shape is not (..., 55, 4).
    """
    source = np.array(rotations, dtype=np.float32, order="C")
    if source.ndim < 2 or source.shape[-2:] != (HUMANOID_BONES, 4):
        raise ValueError(f"rotations must be (..., {HUMANOID_BONES}, 4), got {source.shape}")
    out = np.empty((*source.shape[:-2], BONE_COUNT, 3), dtype=np.float32)
    _walk(source.reshape(-1, HUMANOID_BONES, 4), out.reshape(-1, BONE_COUNT, 3))
    return out


@entry
def _solve(directions: F32, out: F32) -> None:
    """(n, 42, 3) directions to (n, 55, 4) local rotations."""
    sight = empty_sight()
    for frame in range(directions.shape[0]):
        pose = out[frame]
        look(directions[frame], sight)
        for bone in range(HUMANOID_BONES):
            put(pose, bone, IDENTITY)
        chest = solve_torso(sight, pose)
        for side in range(2):
            shoulder = solve_shoulder(side, chest, sight, pose)
            upper_arm = solve_upper_arm(side, shoulder, sight, pose)
            hand = solve_forearm(side, upper_arm, sight, pose)
            solve_fingers(side, hand, sight, pose)
        solve_head(chest, sight, pose)


@entry
def _walk(rotations: F32, out: F32) -> None:
    """(n, 55, 4) local rotations to (n, 42, 3) directions, by forward kinematics."""
    joints = np.zeros((len(_TED_BONES) + len(FACE_POINTS), 3))
    turns = np.zeros((HUMANOID_BONES, 4))
    places = np.zeros((HUMANOID_BONES, 3))
    for frame in range(rotations.shape[0]):
        local = rotations[frame].astype(np.float64)
        turns[0] = local[0]
        for bone in _WALK_ORDER[1:]:
            parent = _PARENTS[bone]
            turn = (turns[parent, 0], turns[parent, 1], turns[parent, 2], turns[parent, 3])
            own = (local[bone, 0], local[bone, 1], local[bone, 2], local[bone, 3])
            world = multiply(turn, own)
            step = rotate(turn, offset(bone))
            for k in range(4):
                turns[bone, k] = world[k]
            for k in range(3):
                places[bone, k] = places[parent, k] + step[k]
        for joint in range(len(_TED_BONES)):
            joints[joint] = places[_TED_BONES[joint]]
        head = (turns[HEAD, 0], turns[HEAD, 1], turns[HEAD, 2], turns[HEAD, 3])
        for point in range(len(FACE_POINTS)):
            x, y, z = FACE_POINTS[point]
            step = rotate(head, (x, y, z))
            for k in range(3):
                joints[len(_TED_BONES) + point, k] = places[HEAD, k] + step[k]
        for bone in range(len(_BONES)):
            start, end = _BONES[bone]
            along = joints[end] - joints[start]
            length = math.sqrt(along[0] ** 2 + along[1] ** 2 + along[2] ** 2)
            for k in range(3):
                out[frame, bone, k] = -along[k] / length
