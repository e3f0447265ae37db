"""The knobs that change the shape of the motion: intensity, handedness, mirror, rest pose.

A gesture is how far each joint is from an arm that hangs at rest. Intensity scales that turn.
While an arm is at rest, the chosen rest pose takes the place of the hanging arm; as it begins to
gesture the choice fades, and a gesture looks the same from every rest pose.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.humanoid import BONE_COUNT, BONE_INDEX, BONE_NAMES
from ha2g_live.realtime.kernel import entry, kernel
from ha2g_live.realtime.knobs import PARTS, Knobs
from ha2g_live.realtime.rest_poses import ARM_BONES, rest_pose
from ha2g_live.realtime.rig import HANDS, LOWER_ARMS, UPPER_ARMS, get
from ha2g_live.realtime.rotation import (
    Quat,
    from_vector,
    inverse,
    length,
    multiply,
    ramp,
    scaled,
    to_vector,
    unit_quat,
)
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]

OTHER_HAND = 0.12
"""Size of what the hand does that is to rest."""
_FARTHEST_RAD = 2.7  # half a circle has two ways back
_AT_REST_RAD = (0.35, 1.1)
"""Turn of an arm from hanging below which it rests, and above which it gestures."""
_REST_SHARE = 0.94  # what is left is the model's own small motion

_FINGERS = ("Thumb", "Index", "Middle", "Ring", "Little")


def _parts() -> dict[str, tuple[int, ...]]:
    parts: dict[str, list[int]] = {name: [] for name in PARTS}
    for bone, name in enumerate(BONE_NAMES):
        if name.endswith(("Shoulder", "UpperArm", "LowerArm")):
            part = "arms"
        elif name.endswith("Hand") or any(finger in name for finger in _FINGERS):
            part = "hands"
        elif name in ("Neck", "Head") or name.endswith("Eye"):
            part = "head"
        elif name == "Jaw":
            part = "face"
        else:
            part = "torso"
        parts[part].append(bone)
    return {name: tuple(bones) for name, bones in parts.items()}


PART_BONES: dict[str, tuple[int, ...]] = _parts()
"""Bones of each part; the legs go with the torso, whose weight they carry."""
SWAPPED: npt.NDArray[np.int64] = np.array(
    [
        BONE_INDEX[name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")]
        for name in BONE_NAMES
    ]
)
"""The bone of the other side."""


class Shape(NamedTuple):
    """What the knobs ask of each bone.

    Attributes:
        taken_from: (55,) the bone whose motion it shows.
        mirrored: whether left and right are exchanged.
        hanging: (55, 4) the pose that gestures are measured from.
        gain: (55,) size of its turn from there.
        resting: (55, 4) the chosen rest pose.
        rests: (55,) the arm it belongs to, 0 left or 1 right; -1 for others.
        chosen: whether the rest pose is another than the model's.
    """

    taken_from: npt.NDArray[np.int64]
    mirrored: bool
    hanging: F64
    gain: F64
    resting: F64
    rests: npt.NDArray[np.int64]
    chosen: bool


@lru_cache(maxsize=64)
def moving_bones(parts: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """(55,) which bones belong to these parts; one array for all who ask, to be read only."""
    mask = np.zeros(BONE_COUNT, dtype=np.bool_)
    for part in parts:
        mask[list(PART_BONES[part])] = True
    return mask


@lru_cache(maxsize=16)
def _shape_of(
    intensity: float, handedness: str, mirror: bool, rest: str, parts: tuple[str, ...]
) -> Shape:
    gain = np.full(BONE_COUNT, intensity)
    for bone, name in enumerate(BONE_NAMES):
        # A fist that closes more is no larger gesture.
        if any(finger in name for finger in _FINGERS):
            gain[bone] = min(intensity, 1.0)
    rests = np.full(BONE_COUNT, -1)
    for side, bones in enumerate(ARM_BONES):
        rests[list(bones)] = side
    if handedness != "both":
        gain[rests == (1 if handedness == "left" else 0)] *= OTHER_HAND
    gain[~moving_bones(parts)] = 0.0
    return Shape(
        taken_from=SWAPPED if mirror else np.arange(BONE_COUNT),
        mirrored=mirror,
        hanging=rest_pose("sides").astype(np.float64),
        gain=gain,
        resting=rest_pose("sides" if rest == "model" else rest).astype(np.float64),
        rests=rests,
        chosen=rest != "model",
    )


def shape_of(knobs: Knobs) -> Shape:
    """What these knobs ask of each bone."""
    return _shape_of(knobs.intensity, knobs.handedness, knobs.mirror, knobs.rest_pose, knobs.parts)


def shaped(rotations: F32, shape: Shape) -> F32:
    """A pose as the knobs ask for it.

    Args:
        rotations: (55, 4) local unit quaternions, the model's pose on the default skeleton.
        shape: from ``shape_of``.

    Returns:
        (55, 4) float32; the very pose where no knob asks for anything else.
    """
    out = np.array(rotations, dtype=np.float32, order="C")
    if shape.mirrored or shape.chosen or (shape.gain != 1.0).any():
        _shaped(np.array(rotations, dtype=np.float64, order="C"), shape, out)
    return out


@kernel
def _taken(pose: F64, shape: Shape, bone: int) -> Quat:
    x, y, z, w = get(pose, shape.taken_from[bone])
    return (x, -y, -z, w) if shape.mirrored else (x, y, z, w)


@kernel
def _held(angle: float) -> float:
    """An angle that never gets to half a circle."""
    start = 0.7 * _FARTHEST_RAD
    if angle <= start:
        return angle
    room = _FARTHEST_RAD - start
    return start + room * math.tanh((angle - start) / room)


@entry
def _shaped(pose: F64, shape: Shape, out: F32) -> None:
    resting = (0.0, 0.0)
    if shape.chosen:
        resting = (_resting(pose, shape, 0), _resting(pose, shape, 1))
    for bone in range(out.shape[0]):
        q = _taken(pose, shape, bone)
        hanging = get(shape.hanging, bone)
        gain = shape.gain[bone]
        if gain != 1.0:
            turn = to_vector(multiply(q, inverse(hanging)))
            angle = length(turn)
            if angle > 1e-9:
                most = _held(angle * gain) if gain > 1.0 else angle * gain
                turn = scaled(most / angle, turn)
            q = multiply(from_vector(turn), hanging)
        arm = shape.rests[bone]
        if shape.chosen and arm >= 0:
            share = _REST_SHARE * resting[arm]
            there = get(shape.resting, bone)
            q = multiply(from_vector(scaled(share, to_vector(multiply(there, inverse(q))))), q)
        q = unit_quat(q)
        sign = 1.0 if q[3] >= 0.0 else -1.0
        for k in range(4):
            out[bone, k] = sign * q[k]


@kernel
def _resting(pose: F64, shape: Shape, side: int) -> float:
    """1 while an arm hangs at rest, 0 while it gestures."""
    far = 0.0
    for bone in (UPPER_ARMS[side], LOWER_ARMS[side], HANDS[side]):
        turn = multiply(_taken(pose, shape, bone), inverse(get(shape.hanging, bone)))
        weight = 0.35 if bone == HANDS[side] else 1.0
        far += weight * length(to_vector(turn)) * min(shape.gain[bone], 1.0)
    return 1.0 - ramp(far, _AT_REST_RAD[0], _AT_REST_RAD[1])
