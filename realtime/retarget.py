"""Bone directions to humanoid rotations, and back.

A direction says where a bone points, not how it is twisted about itself. The twist comes from what
the next bones show: an upper arm's from the plane of its bent elbow, a hand's from the fan of its
knuckles, the forearm takes half of the hand's. Where they show nothing (a straight elbow), the
shortest turn from rest is taken, and the two are blended so that smooth directions give smooth
rotations.

Every bone is solved in the world that its parents left, so each asked direction comes out exactly
wherever the humanoid has the freedom: chest, shoulders, arms, fingers. A hand and a head are rigid:
they take the best fit of all their directions.

The kernels count in float64 and are compiled at the first call, then cached on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np

from ha2g_live.realtime.humanoid import BONE_COUNT as HUMANOID_BONES
from ha2g_live.realtime.humanoid import (
    BONE_INDEX,
    FACE_POINTS_M,
    PARENTS,
    REST_OFFSETS_M,
    TED_BONES,
    WALK_ORDER,
)
from ha2g_live.realtime.skeleton import BONE_COUNT, BONES
from ha2g_live.realtime.types import F32

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])
_Vec = tuple[float, float, float]
_Quat = tuple[float, float, float, float]


def _jit(kernel: _Kernel) -> _Kernel:
    # As in numpy, a division by zero is a value and not an exception.
    return cast(_Kernel, numba.njit(cache=True, error_model="numpy")(kernel))


# --- which bone is which: these never change, so the kernels may have them built in

_PARENTS = np.array(PARENTS)
_WALK_ORDER = np.array(WALK_ORDER)
_TED_BONES = np.array(TED_BONES)
_BONES = np.array(BONES)
_FACE_POINTS = 5


def _index(*names: str) -> Any:
    return np.array([BONE_INDEX[name] for name in names])


_SPINE, _CHEST, _UPPER_CHEST, _NECK, _HEAD = (
    BONE_INDEX[name] for name in ("Spine", "Chest", "UpperChest", "Neck", "Head")
)
_SHOULDERS = _index("LeftShoulder", "RightShoulder")
_UPPER_ARMS = _index("LeftUpperArm", "RightUpperArm")
_LOWER_ARMS = _index("LeftLowerArm", "RightLowerArm")
_HANDS = _index("LeftHand", "RightHand")
_FINGERS = ("Index", "Middle", "Little", "Ring", "Thumb")  # the order of the directions
_PROXIMALS = np.stack([_index(*(f"{s}{f}Proximal" for f in _FINGERS)) for s in ("Left", "Right")])
_FIRST_ARM_BONE = np.array([3, 20])  # directions of an arm: upper, fore, five fingers of three

_KNUCKLE_BONES = _FIRST_ARM_BONE[:, None] + 2 + 3 * np.arange(5)
_NOSE_BONE = 37
_FACE_BONES = 38 + np.arange(4)  # nose to both eyes, each eye to its ear


class _Body(NamedTuple):
    """The default skeleton as float64, handed to every kernel.

    A kernel's disk cache knows only this file: numbers of another file built into it would stay
    as they were after an edit there.
    """

    offsets: Any  # (55, 3)
    knuckles: Any  # (2, 5, 3) unit vectors wrist to finger roots, in the hand's frame
    points: Any  # (5, 3) face points in the head's frame
    face: Any  # (4, 3) unit vectors between them


class _Sight(NamedTuple):
    """One frame's directions, Unity axes."""

    seen: Any  # (42, 3) float64 unit vectors
    valid: Any  # (42,) whether there is one


def _unit_rows(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _make_body() -> _Body:
    offsets = REST_OFFSETS_M.astype(np.float64)
    points = FACE_POINTS_M.astype(np.float64)
    face = _unit_rows(points[[1, 2, 3, 4]] - points[[0, 0, 1, 2]])
    return _Body(offsets, _unit_rows(offsets[_PROXIMALS]), points, face)


_BODY = _make_body()

# --- choices

_FACE_WEIGHTS = np.ones(4)
# The root of the thumb differs most from hand to hand.
_HAND_WEIGHTS = np.array([1.0, 1.0, 1.0, 1.0, 0.25])

_SPREAD = (0.4, 0.7)
"""Share of the upper chest's turn that Spine, and Spine with Chest, take."""
_NECK_SHARE = 0.4
_NECK_MEND_RAD = math.radians(25)
"""The neck leans at most this far from its share to bring the nose where it was asked."""
_FOREARM_SHARE = 0.5
_DISTAL_SHARE = 0.7
"""Bend of the last phalanx, which no direction shows, for that of the one before it."""
_ELBOW_SINE = (0.05, 0.6)
"""Sine of the elbow's bend where its plane begins to count, and where it alone counts."""
_FOLDED_SINE = (0.02, 0.1)
"""The same for an elbow bent by more than 90 degrees."""
_TWIST_LIMIT_RAD = math.radians(120)
"""Past this twist of hand against elbow, more than people have, the forearm lets go again: its
share is back at zero at 180 degrees, where the sign of the twist changes."""
_PRIOR = 1e-3
"""Pull of a rigid fit towards its parent's orientation; it decides only what is not shown."""
_TINY = 1e-6


# --- vectors and quaternions as tuples: the compiler keeps them in registers


@_jit
def _dot(a: _Vec, b: _Vec) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@_jit
def _cross(a: _Vec, b: _Vec) -> _Vec:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


@_jit
def _blend(s: float, a: _Vec, t: float, b: _Vec) -> _Vec:
    return (s * a[0] + t * b[0], s * a[1] + t * b[1], s * a[2] + t * b[2])


@_jit
def _unit(v: _Vec) -> _Vec:
    length = math.sqrt(_dot(v, v))
    return (v[0] / length, v[1] / length, v[2] / length)


@_jit
def _multiply(a: _Quat, b: _Quat) -> _Quat:
    return (
        a[3] * b[0] + a[0] * b[3] + a[1] * b[2] - a[2] * b[1],
        a[3] * b[1] - a[0] * b[2] + a[1] * b[3] + a[2] * b[0],
        a[3] * b[2] + a[0] * b[1] - a[1] * b[0] + a[2] * b[3],
        a[3] * b[3] - a[0] * b[0] - a[1] * b[1] - a[2] * b[2],
    )


@_jit
def _inverse(q: _Quat) -> _Quat:
    return (-q[0], -q[1], -q[2], q[3])


@_jit
def _rotate(q: _Quat, v: _Vec) -> _Vec:
    axis = (q[0], q[1], q[2])
    t = _cross(axis, v)
    return _blend(1.0, _blend(1.0, v, 2.0 * q[3], t), 2.0, _cross(axis, t))


@_jit
def _about(axis: _Vec, angle_rad: float) -> _Quat:
    s = math.sin(0.5 * angle_rad)
    return (s * axis[0], s * axis[1], s * axis[2], math.cos(0.5 * angle_rad))


@_jit
def _swing(a: _Vec, b: _Vec) -> _Quat:
    """Shortest turn from one unit vector to another."""
    w = 1.0 + _dot(a, b)
    if w < 1e-9:  # opposite: any axis across will do
        across = _cross(a, (0.0, 0.0, 1.0) if abs(a[2]) < 0.7 else (0.0, 1.0, 0.0))
        x, y, z = _unit(across)
        return (x, y, z, 0.0)
    x, y, z = _cross(a, b)
    length = math.sqrt(x * x + y * y + z * z + w * w)
    return (x / length, y / length, z / length, w / length)


@_jit
def _part(q: _Quat, share: float) -> _Quat:
    """The same turn, by a share of its angle (the short way round)."""
    sine = math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2])
    if sine < 1e-12:
        return (0.0, 0.0, 0.0, 1.0)
    sign = 1.0 if q[3] >= 0.0 else -1.0
    half = share * math.atan2(sine, abs(q[3]))
    s = sign * math.sin(half) / sine
    return (s * q[0], s * q[1], s * q[2], math.cos(half))


@_jit
def _ramp(x: float, low: float, high: float) -> float:
    """Smooth step from 0 at ``low`` to 1 at ``high``."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@_jit
def _offset(body: _Body, bone: int) -> _Vec:
    return (body.offsets[bone, 0], body.offsets[bone, 1], body.offsets[bone, 2])


@_jit
def _rest(body: _Body, bone: int) -> _Vec:
    """Unit vector from the parent joint to this one, in the parent's frame."""
    return _unit(_offset(body, bone))


@_jit
def _put(out: F32, bone: int, q: _Quat) -> None:
    length = math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    scale = 1.0 / length if q[3] >= 0.0 else -1.0 / length
    for k in range(4):
        out[bone, k] = scale * q[k]


@_jit
def _take(sight: _Sight, bone: int) -> _Vec:
    return (sight.seen[bone, 0], sight.seen[bone, 1], sight.seen[bone, 2])


@_jit
def _look(directions: F32, sight: _Sight) -> None:
    """Unit vectors in Unity axes; a direction that is not one is marked."""
    for bone in range(directions.shape[0]):
        x, y, z = (
            float(directions[bone, 0]),
            float(directions[bone, 1]),
            float(directions[bone, 2]),
        )
        length = math.sqrt(x * x + y * y + z * z)
        sight.valid[bone] = _TINY < length < math.inf  # false for NaN too
        if sight.valid[bone]:
            sight.seen[bone, 0] = -x / length
            sight.seen[bone, 1] = -y / length
            sight.seen[bone, 2] = -z / length


@_jit
def _fit(rest: Any, weights: Any, sight: _Sight, bones: Any, prior: _Quat) -> _Quat:
    """Rotation that best turns ``rest`` (n, 3) into the directions of ``bones``.

    Davenport's q-method for Wahba's problem: the answer is the eigenvector of the largest
    eigenvalue of a symmetric 4x4 matrix, here found by squaring the matrix again and again. The
    prior adds its own projector, so that one direction, or none, still has one answer.
    """
    k = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            k[i, j] = _PRIOR * prior[i] * prior[j]
    for n in range(len(bones)):
        bone = bones[n]
        if not sight.valid[bone]:
            continue
        w = weights[n]
        a = (rest[n, 0], rest[n, 1], rest[n, 2])
        b = _take(sight, bone)
        cross = _cross(a, b)
        dot = _dot(a, b)
        for i in range(3):
            for j in range(3):
                k[i, j] += w * (a[i] * b[j] + a[j] * b[i])
            # The added w on the diagonal keeps every eigenvalue positive.
            k[i, i] += w * (1.0 - dot)
            k[i, 3] += w * cross[i]
            k[3, i] += w * cross[i]
        k[3, 3] += w * (1.0 + dot)
    square = np.empty((4, 4))
    for _ in range(24):
        scale = 1.0 / (k[0, 0] + k[1, 1] + k[2, 2] + k[3, 3])
        for i in range(4):
            for j in range(4):
                k[i, j] *= scale
        for i in range(4):
            for j in range(i, 4):
                total = 0.0
                for m in range(4):
                    total += k[i, m] * k[m, j]
                square[i, j] = total
                square[j, i] = total
        k, square = square, k
    best = 0
    for i in range(1, 4):
        if k[i, i] > k[best, best]:
            best = i
    norm = math.sqrt(k[0, best] ** 2 + k[1, best] ** 2 + k[2, best] ** 2 + k[3, best] ** 2)
    return (k[0, best] / norm, k[1, best] / norm, k[2, best] / norm, k[3, best] / norm)


@_jit
def _solve_torso(body: _Body, sight: _Sight, out: F32) -> _Quat:
    """Spine, Chest and UpperChest; returns the upper chest's world rotation."""
    rest = _unit(
        _blend(
            1.0,
            _blend(1.0, _offset(body, _CHEST), 1.0, _offset(body, _UPPER_CHEST)),
            1.0,
            _offset(body, _NECK),
        )
    )
    up = _take(sight, 0) if sight.valid[0] else rest
    turn = _swing(rest, up)
    if sight.valid[1] and sight.valid[2]:
        line = _blend(1.0, _take(sight, 2), -1.0, _take(sight, 1))
        side = _rotate(turn, (1.0, 0.0, 0.0))
        sine, cosine = _dot(_cross(side, line), up), _dot(side, line)
        if sine * sine + cosine * cosine > _TINY:
            turn = _multiply(_about(up, math.atan2(sine, cosine)), turn)
    lower, middle = _part(turn, _SPREAD[0]), _part(turn, _SPREAD[1])
    # A bent chain points less far than its last link: the whole of it makes up the rest.
    chord = _blend(
        1.0,
        _rotate(lower, _offset(body, _CHEST)),
        1.0,
        _rotate(middle, _offset(body, _UPPER_CHEST)),
    )
    chord = _unit(_blend(1.0, chord, 1.0, _rotate(turn, _offset(body, _NECK))))
    mend = _swing(chord, up)
    _put(out, _SPINE, _multiply(mend, lower))
    _put(out, _CHEST, _multiply(_inverse(lower), middle))
    _put(out, _UPPER_CHEST, _multiply(_inverse(middle), turn))
    return _multiply(mend, turn)


@_jit
def _solve_shoulder(body: _Body, side: int, chest: _Quat, sight: _Sight, out: F32) -> _Quat:
    """The clavicle; returns its world rotation."""
    clavicle = _SHOULDERS[side]
    bone = 1 + side
    if not sight.valid[bone]:
        _put(out, clavicle, (0.0, 0.0, 0.0, 1.0))
        return chest
    # The shoulder joint lies on a ray from the neck and on a sphere about the clavicle's root.
    # The neck is inside that sphere, so there is one such point.
    ray = _rotate(_inverse(chest), _take(sight, bone))
    root = _blend(1.0, _offset(body, clavicle), -1.0, _offset(body, _NECK))
    upper_arm = _UPPER_ARMS[side]
    bone_m = _offset(body, upper_arm)
    along = _dot(ray, root)
    far = along + math.sqrt(along * along - _dot(root, root) + _dot(bone_m, bone_m))
    local = _swing(_rest(body, upper_arm), _unit(_blend(far, ray, -1.0, root)))
    _put(out, clavicle, local)
    return _multiply(chest, local)


@_jit
def _solve_upper_arm(body: _Body, side: int, shoulder: _Quat, sight: _Sight, out: F32) -> _Quat:
    """Returns the upper arm's world rotation."""
    bone = _FIRST_ARM_BONE[side]
    arm = _UPPER_ARMS[side]
    if not sight.valid[bone]:
        _put(out, arm, (0.0, 0.0, 0.0, 1.0))
        return shoulder
    away = -1.0 if side == 0 else 1.0
    to_local = _inverse(shoulder)
    along = _rotate(to_local, _take(sight, bone))
    # A shortest turn is undecided where it is half a circle. Going by way of half down puts that
    # above the other shoulder, where no elbow gets, and leaves the arm hanging down unchanged.
    half_down = (away * math.sqrt(0.5), -math.sqrt(0.5), 0.0)
    local = _multiply(_swing(half_down, along), _swing((away, 0.0, 0.0), half_down))
    if sight.valid[bone + 1]:
        hinge = _rotate(local, (0.0, -away, 0.0))
        fore = _rotate(to_local, _take(sight, bone + 1))
        normal = _cross(along, fore)
        band = _ELBOW_SINE if _dot(along, fore) > 0.0 else _FOLDED_SINE
        weight = _ramp(math.sqrt(_dot(normal, normal)), band[0], band[1])
        if weight > 0.0:
            normal = _unit(normal)
            sine, cosine = _dot(_cross(hinge, normal), along), _dot(hinge, normal)
            twist = math.atan2(weight * sine, weight * cosine + 1.0 - weight)
            local = _multiply(_about(along, twist), local)
    _put(out, arm, local)
    return _multiply(shoulder, local)


@_jit
def _solve_forearm(body: _Body, side: int, upper_arm: _Quat, sight: _Sight, out: F32) -> _Quat:
    """Forearm and hand; returns the hand's world rotation."""
    bone = _FIRST_ARM_BONE[side]
    local = (0.0, 0.0, 0.0, 1.0)
    if sight.valid[bone + 1]:
        along = _rotate(_inverse(upper_arm), _take(sight, bone + 1))
        local = _swing(_rest(body, _HANDS[side]), along)
    forearm = _multiply(upper_arm, local)
    hand = _fit(body.knuckles[side], _HAND_WEIGHTS, sight, _KNUCKLE_BONES[side], forearm)
    wrist = _multiply(_inverse(forearm), hand)
    sign = 1.0 if wrist[3] >= 0.0 else -1.0
    twist = 2.0 * math.atan2(sign * wrist[0], sign * wrist[3])
    share = _FOREARM_SHARE * twist
    if abs(twist) > _TWIST_LIMIT_RAD:
        share *= _TWIST_LIMIT_RAD * (math.pi - abs(twist))
        share /= abs(twist) * (math.pi - _TWIST_LIMIT_RAD)
    # A hand folded back on its forearm shows no twist.
    share *= _ramp(wrist[0] * wrist[0] + wrist[3] * wrist[3], 0.02, 0.15)
    roll = _about((1.0, 0.0, 0.0), share)
    _put(out, _LOWER_ARMS[side], _multiply(local, roll))
    _put(out, _HANDS[side], _multiply(_inverse(roll), wrist))
    return hand


@_jit
def _solve_fingers(body: _Body, side: int, hand: _Quat, sight: _Sight, out: F32) -> None:
    for finger in range(5):
        bone = _FIRST_ARM_BONE[side] + 3 + 3 * finger
        proximal = _PROXIMALS[side, finger]
        first = (0.0, 0.0, 0.0, 1.0)
        if sight.valid[bone]:
            first = _swing(_rest(body, proximal + 1), _rotate(_inverse(hand), _take(sight, bone)))
        second = (0.0, 0.0, 0.0, 1.0)
        if sight.valid[bone + 1]:
            world = _multiply(hand, first)
            second = _swing(
                _rest(body, proximal + 2), _rotate(_inverse(world), _take(sight, bone + 1))
            )
        _put(out, proximal, first)
        _put(out, proximal + 1, second)
        _put(out, proximal + 2, _part(second, _DISTAL_SHARE))


@_jit
def _solve_head(body: _Body, chest: _Quat, sight: _Sight, out: F32) -> None:
    """Neck and head. The head's orientation is the face's; the neck takes its share of it."""
    head = _fit(body.face, _FACE_WEIGHTS, sight, _FACE_BONES, chest)
    nod = _multiply(_inverse(chest), head)
    neck = _part(nod, _NECK_SHARE)
    if sight.valid[_NOSE_BONE]:
        # The nose lies on a ray from the neck's joint, the head's joint on a sphere about it; with
        # a nose out of reach the head's joint comes as near as it can.
        ray = _rotate(_inverse(chest), _take(sight, _NOSE_BONE))
        nose = _rotate(nod, (body.points[0, 0], body.points[0, 1], body.points[0, 2]))
        offset = _offset(body, _HEAD)
        along = _dot(ray, nose)
        far = along * along - _dot(nose, nose) + _dot(offset, offset)
        wanted = _blend(along + math.sqrt(max(far, 0.0)), ray, -1.0, nose)
        mend = _swing(_unit(_rotate(neck, offset)), _unit(wanted))
        angle = 2.0 * math.acos(min(mend[3], 1.0))
        if angle > _NECK_MEND_RAD:
            mend = _part(mend, _NECK_MEND_RAD / angle)
        neck = _multiply(mend, neck)
    _put(out, _NECK, neck)
    _put(out, _HEAD, _multiply(_inverse(neck), nod))


@_jit
def _solve(body: _Body, directions: F32, out: F32) -> None:
    sight = _Sight(np.zeros((BONE_COUNT, 3)), np.zeros(BONE_COUNT, dtype=np.bool_))
    for frame in range(directions.shape[0]):
        pose = out[frame]
        _look(directions[frame], sight)
        for bone in range(HUMANOID_BONES):
            _put(pose, bone, (0.0, 0.0, 0.0, 1.0))
        chest = _solve_torso(body, sight, pose)
        for side in range(2):
            shoulder = _solve_shoulder(body, side, chest, sight, pose)
            upper_arm = _solve_upper_arm(body, side, shoulder, sight, pose)
            hand = _solve_forearm(body, side, upper_arm, sight, pose)
            _solve_fingers(body, side, hand, sight, pose)
        _solve_head(body, chest, sight, pose)


@_jit
def _walk(body: _Body, rotations: F32, out: F32) -> None:
    joints = np.zeros((len(_TED_BONES) + _FACE_POINTS, 3))
    turns = np.zeros((HUMANOID_BONES, 4))
    places = np.zeros((HUMANOID_BONES, 3))
    for frame in range(rotations.shape[0]):
        local = rotations[frame].astype(np.float64)
        turns[0] = local[0]
        for bone in _WALK_ORDER[1:]:
            parent = _PARENTS[bone]
            turn = (turns[parent, 0], turns[parent, 1], turns[parent, 2], turns[parent, 3])
            own = (local[bone, 0], local[bone, 1], local[bone, 2], local[bone, 3])
            world = _multiply(turn, own)
            step = _rotate(turn, _offset(body, bone))
            for k in range(4):
                turns[bone, k] = world[k]
            for k in range(3):
                places[bone, k] = places[parent, k] + step[k]
        for joint in range(len(_TED_BONES)):
            joints[joint] = places[_TED_BONES[joint]]
        head = (turns[_HEAD, 0], turns[_HEAD, 1], turns[_HEAD, 2], turns[_HEAD, 3])
        for point in range(_FACE_POINTS):
            step = _rotate(
                head, (body.points[point, 0], body.points[point, 1], body.points[point, 2])
            )
            for k in range(3):
                joints[len(_TED_BONES) + point, k] = places[_HEAD, k] + step[k]
        for bone in range(len(_BONES)):
            start, end = _BONES[bone]
            along = joints[end] - joints[start]
            length = math.sqrt(along[0] ** 2 + along[1] ** 2 + along[2] ** 2)
            for k in range(3):
                out[frame, bone, k] = -along[k] / length


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
    _solve(_BODY, source.reshape(-1, BONE_COUNT, 3), out.reshape(-1, HUMANOID_BONES, 4))


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
    _walk(_BODY, source.reshape(-1, HUMANOID_BONES, 4), out.reshape(-1, BONE_COUNT, 3))
    return out
