"""The skeletons of TED Expressive and TED Gesture, and what is known of their motion.

The numbers are facts of the published data sets (HA2G, CVPR 2022, section 4.1 and supplement).
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.skeleton import BONE_LENGTHS_M, BONES, LEVELS, MEAN_DIRECTION, normalise
from ha2g_live.realtime.types import F32

WINDOW_FRAMES = 34
"""Poses of a window, 15 a second."""
SEED_FRAMES = 4
"""Poses at a window's start that are given."""
WINDOW_COLUMNS = 70
"""Mel columns of a window: round((34 / 15 * 16000 - 1024) / 512 + 1)."""
STRIDE_FRAMES = WINDOW_FRAMES - SEED_FRAMES
"""Poses from one window of a long clip to the next, as published."""

NAMES = ("ted_expressive", "ted_gesture")


@dataclass(frozen=True)
class Skeleton:
    """Bones, hierarchy and statistics of a data set.

    Attributes:
        name: one of ``NAMES``.
        bones: (parent joint, child joint) of each bone, parents before children.
        lengths_m: nominal length of each bone.
        levels: bones of each level of the hierarchy, coarse to fine; each holds the one before.
        mean_direction: (bones, 3) mean of the directions; not unit vectors. The networks work on
            direction minus this.
        mean_pose: (joints, 3) mean of the joint positions in the data's own scale.
        wrists: the joints of the two wrists.
        angle_pairs: pairs of bones whose angles are scored; an index past the last bone is a palm.
        palm_normals: two bones for each palm, whose cross product is its normal.
        angle_mean: mean of each angle over pi.
        angle_var: its variance.
        angle_mean_change: mean of its change from frame to frame.
    """

    name: str
    bones: tuple[tuple[int, int], ...]
    lengths_m: tuple[float, ...]
    levels: tuple[tuple[int, ...], ...]
    mean_direction: F32
    mean_pose: F32
    wrists: tuple[int, int]
    angle_pairs: tuple[tuple[int, int], ...]
    palm_normals: tuple[tuple[int, int], ...]
    angle_mean: F32
    angle_var: F32
    angle_mean_change: F32

    @property
    def pose_dim(self) -> int:
        """Numbers in a pose."""
        return 3 * len(self.bones)

    @property
    def joint_count(self) -> int:
        """Joints of the skeleton."""
        return len(self.mean_pose)

    def to_poses(self, positions: F32) -> F32:
        """(..., joints, 3) positions to (..., 3 * bones): directions minus their mean."""
        parents = [parent for parent, _ in self.bones]
        children = [child for _, child in self.bones]
        directions = normalise(positions[..., children, :] - positions[..., parents, :])
        poses = directions - self.mean_direction
        return np.asarray(poses.reshape(*positions.shape[:-2], self.pose_dim), dtype=np.float32)

    def to_directions(self, poses: F32) -> F32:
        """(..., 3 * bones) poses to (..., bones, 3) unit vectors."""
        shaped = poses.reshape(*poses.shape[:-1], len(self.bones), 3)
        return normalise(shaped + self.mean_direction)


@functools.cache
def skeleton(name: str) -> Skeleton:
    """The skeleton of a data set.

    Raises:
        ConfigError: there is no such data set.
    """
    if name not in NAMES:
        raise ConfigError(f"no skeleton {name!r}: choose one of {', '.join(NAMES)}")
    stored: dict[str, Any] = json.loads(
        Path(__file__).with_name("ted.json").read_text(encoding="utf-8")
    )[name]
    if name == "ted_expressive":
        own: dict[str, Any] = {
            "bones": BONES,
            "lengths_m": BONE_LENGTHS_M,
            "levels": LEVELS,
            "mean_direction": MEAN_DIRECTION,
        }
    else:
        own = {
            "bones": tuple(map(tuple, stored["bones"])),
            "lengths_m": tuple(stored["lengths_m"]),
            "levels": tuple(map(tuple, stored["levels"])),
            "mean_direction": _array(stored["mean_direction"]).reshape(-1, 3),
        }
    return Skeleton(
        name=name,
        **own,
        mean_pose=_array(stored["mean_pose"]).reshape(-1, 3),
        wrists=(6, 7) if name == "ted_expressive" else (6, 9),
        angle_pairs=tuple(map(tuple, stored["angle_pairs"])),
        palm_normals=tuple(map(tuple, stored["palm_normals"])),
        angle_mean=_array(stored["angle_mean"]),
        angle_var=_array(stored["angle_var"]),
        angle_mean_change=_array(stored["angle_mean_change"]),
    )


def _array(values: list[float]) -> F32:
    array = np.array(values, dtype=np.float32)
    array.setflags(write=False)
    return array
