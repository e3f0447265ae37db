"""The 43 joints and 42 bones of TED Expressive, and how to walk them.

A pose is one unit vector per bone, parent joint to child joint, in HA2G's camera-style axes:
right-handed, x to the person's left, y down, z backward (the viewer is at -z).
Bone order, lengths, hierarchy levels and the mean direction are the published data set's facts
(HA2G, CVPR 2022, section 4.1 and supplement).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.types import F32

# fmt: off
JOINT_NAMES: tuple[str, ...] = (
    "spine", "neck", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_index_1", "left_index_2", "left_index_3", "left_middle_1",
    "left_middle_2", "left_middle_3", "left_little_1", "left_little_2",
    "left_little_3", "left_ring_1", "left_ring_2", "left_ring_3",
    "left_thumb_1", "left_thumb_2", "left_thumb_3", "right_index_1",
    "right_index_2", "right_index_3", "right_middle_1", "right_middle_2",
    "right_middle_3", "right_little_1", "right_little_2", "right_little_3",
    "right_ring_1", "right_ring_2", "right_ring_3", "right_thumb_1",
    "right_thumb_2", "right_thumb_3", "nose", "right_eye",
    "left_eye", "right_ear", "left_ear",
)
"""SMPL-X joint order: fingers go index, middle, little, ring, thumb; each has its three joints."""

BONES: tuple[tuple[int, int], ...] = (
    (0, 1), (1, 2), (1, 3), (2, 4), (4, 6), (6, 8), (8, 9), (9, 10), (6, 11), (11, 12),
    (12, 13), (6, 14), (14, 15), (15, 16), (6, 17), (17, 18), (18, 19), (6, 20), (20, 21), (21, 22),
    (3, 5), (5, 7), (7, 23), (23, 24), (24, 25), (7, 26), (26, 27), (27, 28), (7, 29), (29, 30),
    (30, 31), (7, 32), (32, 33), (33, 34), (7, 35), (35, 36), (36, 37), (1, 38), (38, 39), (38, 40),
    (39, 41), (40, 42),
)
"""Bones as (parent joint, child joint), parents before children."""

BONE_LENGTHS_M: tuple[float, ...] = (
    0.26, 0.22, 0.22, 0.36, 0.33, 0.137, 0.044, 0.031, 0.144, 0.042, 0.033, 0.127,
    0.027, 0.026, 0.134, 0.039, 0.033, 0.068, 0.042, 0.036, 0.36, 0.33, 0.137, 0.044,
    0.031, 0.144, 0.042, 0.033, 0.127, 0.027, 0.026, 0.134, 0.039, 0.033, 0.068, 0.042,
    0.036, 0.18, 0.14, 0.14, 0.15, 0.15,
)

LEVELS: tuple[tuple[int, ...], ...] = (
    (0, 1, 2, 37, 38, 39, 40, 41),
    (0, 1, 2, 3, 20, 37, 38, 39, 40, 41),
    (0, 1, 2, 3, 4, 20, 21, 37, 38, 39, 40, 41),
    (0, 1, 2, 3, 4, 5, 8, 11, 14, 17, 20, 21, 22, 25, 28, 31, 34, 37, 38, 39, 40,
     41),
    (0, 1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 22, 23, 25, 26,
     28, 29, 31, 32, 34, 35, 37, 38, 39, 40, 41),
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
     21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41),
)
"""Bones of the six levels of the pose hierarchy, coarse to fine; each holds the one before."""

_MEAN_DIRECTION: tuple[float, ...] = (
    -0.0737964, -0.9968923, -0.1082858, 0.9111595, 0.2399522, -0.102547, -0.8936886, 0.3131501, -0.1039348,
    0.2093927, 0.958293, 0.0824881, -0.1689021, -0.0353824, -0.7588258, -0.2794763, -0.2495191, -0.614666,
    -0.3877234, 0.005006, -0.5301695, -0.5098616, 0.2257808, 0.0053111, -0.2393621, -0.1022204, -0.6583039,
    -0.4992898, 0.1228059, -0.3292085, -0.4753748, 0.2132857, 0.1742853, -0.2062069, 0.2305175, -0.5897119,
    -0.5452555, 0.1303197, -0.2181693, -0.5221036, 0.1211322, 0.1337591, -0.2164441, 0.0743345, -0.6464546,
    -0.5284583, 0.0457585, -0.319634, -0.5074904, 0.1537192, 0.1365934, -0.4354402, -0.3836682, -0.3850554,
    -0.4927187, -0.2417618, -0.3054556, -0.3556116, -0.281753, -0.5164358, -0.3064435, 0.9284261, -0.067134,
    0.2764367, 0.006997, -0.7365526, 0.2421269, -0.225798, -0.6387642, 0.3788997, 0.0283412, -0.5451686,
    0.5753376, 0.1935219, 0.0632555, 0.2122412, -0.0624179, -0.6755542, 0.5212831, 0.1043523, -0.345288,
    0.5443628, 0.128029, 0.2073687, 0.2197118, 0.2821399, -0.580695, 0.573988, 0.0786667, -0.2133071,
    0.5532452, -0.0006157, 0.1598754, 0.2093099, 0.124119, -0.6504359, 0.5465003, 0.0114155, -0.3203954,
    0.5512083, 0.0489287, 0.1676814, 0.4190787, -0.4018607, -0.3912126, 0.4841548, -0.2668508, -0.3557675,
    0.3416916, -0.2419564, -0.5509825, 0.0485515, -0.6343101, -0.6817347, -0.4705639, -0.6380668, 0.4641643,
    0.4540192, -0.6486361, 0.4604001, -0.3256226, 0.1883097, 0.8057457, 0.3257385, 0.1292366, 0.815372,
)
# fmt: on

BONE_COUNT = len(BONES)
POSE_DIM = 3 * BONE_COUNT

MEAN_DIRECTION: F32 = np.array(_MEAN_DIRECTION, dtype=np.float32).reshape(BONE_COUNT, 3)
"""(42, 3) mean of the data set's directions; not unit vectors. HA2G's networks work on
direction minus this mean."""
MEAN_DIRECTION.setflags(write=False)


def bone_index(parent: str, child: str) -> int:
    """Index of the bone between two named joints.

    Raises:
        ValueError: there is no such bone.
    """
    return BONES.index((JOINT_NAMES.index(parent), JOINT_NAMES.index(child)))


def normalise(vectors: npt.NDArray[np.floating[Any]]) -> F32:
    """(..., 3) vectors scaled to length one; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-8), dtype=np.float32)


def joint_positions(directions: F32, lengths_m: F32 | None = None) -> F32:
    """Walk the bones: (..., 42, 3) directions to (..., 43, 3) positions, the spine joint at zero.

    Args:
        directions: unit vectors, HA2G axes.
        lengths_m: (42,) bone lengths; the data set's nominal ones when left out.
    """
    lengths = np.asarray(BONE_LENGTHS_M if lengths_m is None else lengths_m, dtype=np.float32)
    positions = np.zeros((*directions.shape[:-2], len(JOINT_NAMES), 3), dtype=np.float32)
    for bone, (parent, child) in enumerate(BONES):
        positions[..., child, :] = (
            positions[..., parent, :] + lengths[bone] * directions[..., bone, :]
        )
    return positions


def joint_directions(positions: F32) -> F32:
    """The other way: (..., 43, 3) joint positions to (..., 42, 3) unit vectors."""
    parents = [parent for parent, _ in BONES]
    children = [child for _, child in BONES]
    return normalise(positions[..., children, :] - positions[..., parents, :])
