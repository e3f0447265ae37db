"""The default skeleton and the bone numbers as the retargeting kernels have them built in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ha2g_live.realtime.humanoid import BONE_INDEX, FACE_POINTS_M, REST_OFFSETS_M
from ha2g_live.realtime.kernel import kernel
from ha2g_live.realtime.rotation import Quat, Vec, unit
from ha2g_live.realtime.types import F32


def _unit_rows(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _index(*names: str) -> Any:
    return np.array([BONE_INDEX[name] for name in names])


# --- bones of the humanoid; of two, the left one is first

SPINE, CHEST, UPPER_CHEST, NECK, HEAD = (
    BONE_INDEX[name] for name in ("Spine", "Chest", "UpperChest", "Neck", "Head")
)
SHOULDERS = _index("LeftShoulder", "RightShoulder")
UPPER_ARMS = _index("LeftUpperArm", "RightUpperArm")
LOWER_ARMS = _index("LeftLowerArm", "RightLowerArm")
HANDS = _index("LeftHand", "RightHand")
_FINGERS = ("Index", "Middle", "Little", "Ring", "Thumb")  # the order of the directions
PROXIMALS = np.stack([_index(*(f"{s}{f}Proximal" for f in _FINGERS)) for s in ("Left", "Right")])

# --- bones of the directions

SPINE_BONE = 0
SHOULDER_BONES = (1, 2)  # neck to shoulder joint
ARM_BONES = np.array([3, 20])  # first of an arm: upper, fore, five fingers of three
KNUCKLE_BONES = ARM_BONES[:, None] + 2 + 3 * np.arange(5)
NOSE_BONE = 37
FACE_BONES = 38 + np.arange(4)  # nose to both eyes, each eye to its ear

# --- float64 measures of the skeleton

OFFSETS_M = REST_OFFSETS_M.astype(np.float64)
FACE_POINTS = FACE_POINTS_M.astype(np.float64)
NOSE: Vec = tuple(FACE_POINTS[0])
FACE = _unit_rows(FACE_POINTS[[1, 2, 3, 4]] - FACE_POINTS[[0, 0, 1, 2]])
"""(4, 3) unit vectors of ``FACE_BONES`` in the head's frame."""
KNUCKLES = _unit_rows(OFFSETS_M[PROXIMALS])
"""(2, 5, 3) unit vectors wrist to finger roots in the hand's frame."""


@kernel
def offset(bone: int) -> Vec:
    """Position of a joint in its parent's frame, metres."""
    return (OFFSETS_M[bone, 0], OFFSETS_M[bone, 1], OFFSETS_M[bone, 2])


@kernel
def rest(bone: int) -> Vec:
    """Unit vector from the parent joint to this one, in the parent's frame."""
    return unit(offset(bone))


@kernel
def get(pose: Any, bone: int) -> Quat:
    """A bone's rotation in an array (55, 4), for arithmetic in float64."""
    return (
        float(pose[bone, 0]),
        float(pose[bone, 1]),
        float(pose[bone, 2]),
        float(pose[bone, 3]),
    )


@kernel
def put(out: F32, bone: int, q: Quat) -> None:
    """Write a bone's local rotation into a pose (55, 4), as a unit quaternion with w >= 0."""
    norm = math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    scale = 1.0 / norm if q[3] >= 0.0 else -1.0 / norm
    for k in range(4):
        out[bone, k] = scale * q[k]
