from __future__ import annotations

import numpy as np
import pytest

from ha2g_live.realtime import humanoid, skeleton
from ha2g_live.realtime.humanoid import BONE_INDEX, BONE_NAMES, PARENTS, REST_OFFSETS_M
from ha2g_live.realtime.types import F32

IDENTITY: F32 = np.tile(np.array((0, 0, 0, 1), dtype=np.float32), (humanoid.BONE_COUNT, 1))


def rest_positions() -> F32:
    return humanoid.joint_positions(IDENTITY, humanoid.HIPS_REST_M)


def test_bones_stand_in_unitys_order() -> None:
    assert len(BONE_NAMES) == len(set(BONE_NAMES)) == 55
    landmarks = {
        0: "Hips", 1: "LeftUpperLeg", 6: "RightFoot", 7: "Spine", 9: "Neck", 10: "Head",
        13: "LeftUpperArm", 18: "RightHand", 23: "Jaw", 24: "LeftThumbProximal",
        28: "LeftIndexIntermediate", 38: "LeftLittleDistal", 39: "RightThumbProximal",
        53: "RightLittleDistal", 54: "UpperChest",
    }  # fmt: skip
    assert {index: BONE_NAMES[index] for index in landmarks} == landmarks


@pytest.mark.parametrize(
    ("bone", "parent"),
    [
        ("LeftShoulder", "UpperChest"),
        ("UpperChest", "Chest"),
        ("RightEye", "Head"),
        ("RightHand", "RightLowerArm"),
        ("LeftLittleDistal", "LeftLittleIntermediate"),
        ("RightThumbProximal", "RightHand"),
        ("LeftToes", "LeftFoot"),
        ("Neck", "UpperChest"),
    ],
)
def test_parents(bone: str, parent: str) -> None:
    assert PARENTS[BONE_INDEX[bone]] == BONE_INDEX[parent]


def test_the_walk_meets_every_bone_after_its_parent() -> None:
    met: set[int] = {-1}
    for bone in humanoid.WALK_ORDER:
        assert PARENTS[bone] in met
        met.add(bone)
    assert len(met) == 56
    assert PARENTS.count(-1) == 1


def test_every_bone_but_the_hips_has_a_length() -> None:
    assert (np.linalg.norm(REST_OFFSETS_M, axis=1) > 0.015).all()


def test_the_default_person_is_an_adult_in_a_t_pose() -> None:
    rest = dict(zip(BONE_NAMES, rest_positions(), strict=True))
    assert rest["LeftHand"][0] < 0 < rest["RightHand"][0]
    assert rest["LeftToes"][2] > rest["LeftFoot"][2] + 0.1
    assert rest["LeftEye"][2] > rest["Head"][2]
    assert 1.5 < rest["LeftEye"][1] < 1.62
    assert 0.0 < rest["LeftToes"][1] < 0.05
    arm_m = np.linalg.norm(rest["LeftHand"] - rest["LeftUpperArm"])
    assert arm_m == pytest.approx(0.52, abs=0.01)
    assert rest["LeftHand"][1] == pytest.approx(rest["LeftUpperArm"][1])
    # The thumb points forward, so the palms face down.
    assert rest["LeftThumbDistal"][2] > rest["LeftIndexProximal"][2] > rest["LeftLittleProximal"][2]


def test_left_mirrors_right() -> None:
    rest = rest_positions()
    for index, name in enumerate(BONE_NAMES):
        other = name.replace("Left", "Right") if "Left" in name else name.replace("Right", "Left")
        np.testing.assert_allclose(rest[BONE_INDEX[other]], rest[index] * (-1, 1, 1), atol=1e-6)


def test_ted_joints_lie_at_the_bones_that_they_name() -> None:
    joints = dict(zip(skeleton.JOINT_NAMES, humanoid.TED_BONES, strict=False))
    assert len(humanoid.TED_BONES) == 38
    assert BONE_NAMES[joints["spine"]] == "Spine"
    assert BONE_NAMES[joints["left_shoulder"]] == "LeftUpperArm"
    assert BONE_NAMES[joints["right_elbow"]] == "RightLowerArm"
    assert BONE_NAMES[joints["left_wrist"]] == "LeftHand"
    assert BONE_NAMES[joints["right_little_3"]] == "RightLittleDistal"
    assert BONE_NAMES[joints["left_thumb_1"]] == "LeftThumbProximal"


def test_the_face_at_rest_looks_as_the_mean_of_the_data_set() -> None:
    points = humanoid.ted_joint_positions(IDENTITY, humanoid.HIPS_REST_M)
    rest = skeleton.joint_directions(points * np.float32(-1))  # to HA2G axes
    mean = skeleton.normalise(skeleton.MEAN_DIRECTION)
    degrees = np.degrees(np.arccos(np.clip((rest * mean).sum(-1), -1, 1)))
    assert degrees[37:].max() < 6
    assert degrees[:3].max() < 10  # spine and shoulders


def test_kinematics_turn_about_the_parent_joint() -> None:
    rotations = np.stack((IDENTITY, IDENTITY))
    rotations[1, BONE_INDEX["LeftUpperArm"]] = (0, 0, np.sqrt(0.5), np.sqrt(0.5))
    hips_m = np.array(((0, 0.94, 0), (1, 0.94, 2)), dtype=np.float32)
    rest, down = humanoid.joint_positions(rotations, hips_m)
    shoulder, hand = BONE_INDEX["LeftUpperArm"], BONE_INDEX["LeftHand"]
    np.testing.assert_allclose(down[shoulder], rest[shoulder] + (1, 0, 2), atol=1e-6)
    np.testing.assert_allclose(down[hand], down[shoulder] + (0, -0.52, 0), atol=1e-6)
    np.testing.assert_allclose(rest, rest_positions(), atol=1e-7)
