"""Human limits: ordinary poses are inside, broken ones are named."""

from __future__ import annotations

import numpy as np
import pytest

from ha2g_live.realtime.humanoid import BONE_NAMES
from ha2g_live.realtime.limits import NAMES, outside, straighten_hands
from ha2g_live.realtime.retarget import to_directions
from ha2g_live.realtime.skeleton import BONES, JOINT_NAMES, bone_index
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


def test_fingers_are_opened_to_their_limit_and_nothing_else_moves() -> None:
    pose = t_pose()
    first = bone_index("left_index_1", "left_index_2")
    second = bone_index("left_index_2", "left_index_3")
    root = bone_index("left_wrist", "left_index_1")
    pose[first] = np.array([-0.9, 0.3, 0.0]) / np.linalg.norm([0.9, 0.3])  # curled too far back
    pose[second] = pose[root]
    opened = straighten_hands(pose)
    assert outside(pose).any()
    assert not outside(opened).any()
    moved = np.flatnonzero((opened != pose).any(axis=1)).tolist()
    assert moved in ([first], [first, second])
    np.testing.assert_allclose(np.linalg.norm(opened, axis=1), 1.0, atol=1e-5)
    # It bends the same way, only less far.
    normal, limited = np.cross(pose[root], pose[first]), np.cross(opened[root], opened[first])
    assert float(normal @ limited) > 0


def test_a_human_pose_comes_back_as_it_is() -> None:
    pose = t_pose()
    assert straighten_hands(pose) is pose


def test_a_finger_folded_flat_onto_its_root_opens_too() -> None:
    pose = t_pose()
    first = bone_index("left_index_1", "left_index_2")
    pose[first] = -pose[bone_index("left_wrist", "left_index_1")]
    opened = straighten_hands(pose)
    assert np.linalg.norm(opened[first]) == pytest.approx(1.0, abs=1e-5)
    assert "left index base" not in {NAMES[i] for i in np.flatnonzero(outside(opened))}


def test_a_hand_folded_back_is_turned_as_a_whole() -> None:
    pose = t_pose()
    fore = bone_index("right_elbow", "right_wrist")
    palm = bone_index("right_wrist", "right_middle_1")
    fingers = tuple(f"right_{finger}" for finger in ("index", "middle", "little", "ring", "thumb"))
    hand = [i for i, (_, end) in enumerate(BONES) if JOINT_NAMES[end].startswith(fingers)]
    angle = np.radians(128.0)
    axis = np.cross(pose[fore], [0.0, 1.0, 0.0])
    axis /= np.linalg.norm(axis)
    folded = pose.copy()
    for bone in hand:
        folded[bone] = (
            np.cos(angle) * pose[bone]
            + np.sin(angle) * np.cross(axis, pose[bone])
            + (1.0 - np.cos(angle)) * (axis @ pose[bone]) * axis
        )
    assert "right wrist" in [NAMES[i] for i in np.flatnonzero(outside(folded))]
    opened = straighten_hands(np.stack([pose, folded]))
    assert not outside(opened).any()
    np.testing.assert_allclose(opened[0], pose, atol=1e-6)
    assert np.degrees(np.arccos(opened[1, fore] @ opened[1, palm])) == pytest.approx(100.0, abs=0.1)
    # The fingers keep their shape in the hand, and nothing else moves.
    shape = pose[hand] @ pose[hand].T
    np.testing.assert_allclose(opened[1, hand] @ opened[1, hand].T, shape, atol=1e-5)
    rest = np.setdiff1d(np.arange(len(BONES)), hand)
    np.testing.assert_array_equal(opened[1, rest], folded[rest])
