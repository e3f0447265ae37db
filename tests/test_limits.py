"""Human limits: ordinary poses are inside, broken ones are named."""

from __future__ import annotations

import numpy as np
import pytest

from ha2g_live.realtime.humanoid import BONE_NAMES
from ha2g_live.realtime.limits import NAMES, outside
from ha2g_live.realtime.retarget import to_directions
from ha2g_live.realtime.skeleton import bone_index
from ha2g_live.realtime.types import F32


def t_pose() -> F32:
    identity = np.zeros((len(BONE_NAMES), 4), np.float32)
    identity[:, 3] = 1.0
    return to_directions(identity)


def test_the_t_pose_is_human() -> None:
    assert not outside(t_pose()).any()


@pytest.mark.parametrize(
    ("parent", "child", "direction", "joint"),
    [
        ("left_elbow", "left_wrist", (-1, 0, 0), "left elbow"),  # folded onto the upper arm
        ("right_index_1", "right_index_2", (0.9, 0, 0.4), "right index base"),  # bent backward
        ("spine", "neck", (0, 1, 0), "spine"),  # upside down
        ("neck", "nose", (0, 0.3, 1), "neck"),  # looking backward
        ("neck", "left_shoulder", (0, -1, 0), "left clavicle"),  # shoulder over the head
    ],
)
def test_a_broken_joint_is_named(
    parent: str, child: str, direction: tuple[float, ...], joint: str
) -> None:
    pose = t_pose()
    pose[bone_index(parent, child)] = np.array(direction) / np.linalg.norm(direction)
    assert joint in {NAMES[i] for i in np.flatnonzero(outside(pose))}


def test_a_direction_that_is_no_number_is_outside() -> None:
    pose = t_pose()
    pose[:] = np.nan
    assert outside(pose).all()


def test_many_poses_at_once() -> None:
    poses = np.stack([t_pose()] * 5)
    poses[3, bone_index("spine", "neck")] = (0, 1, 0)
    assert outside(poses).any(axis=1).tolist() == [False, False, False, True, False]
