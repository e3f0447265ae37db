"""Ranges of joints: no pose leaves them, none inside is touched, and the way in is smooth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ha2g_live.realtime.humanoid import BONE_COUNT, BONE_INDEX, BONE_NAMES
from ha2g_live.realtime.joint_limits import LIMITED, angles, limit
from ha2g_live.realtime.rest_poses import rest_pose
from ha2g_live.realtime.retarget import to_rotations
from ha2g_live.realtime.rotation_arrays import inverse, mirror, multiply
from ha2g_live.realtime.types import F32


def random_poses(count: int) -> F32:
    """Rotations of every kind, evenly over all there are."""
    poses = np.random.default_rng(1).normal(size=(count, BONE_COUNT, 4))
    poses /= np.linalg.norm(poses, axis=-1, keepdims=True)
    return poses.astype(np.float32)


def turned(bone: str, axis: tuple[float, float, float], angle_rad: float) -> F32:
    """The T-pose with one joint turned."""
    pose = np.zeros((BONE_COUNT, 4), dtype=np.float32)
    pose[:, 3] = 1.0
    pose[BONE_INDEX[bone]] = (*(math.sin(angle_rad / 2) * np.array(axis)), math.cos(angle_rad / 2))
    return pose


def angle_between(a: F32, b: F32) -> F32:
    turn = multiply(a.astype(np.float64), inverse(b.astype(np.float64)))
    return np.asarray(
        2.0 * np.arctan2(np.linalg.norm(turn[..., :3], axis=-1), np.abs(turn[..., 3]))
    )


def test_no_pose_is_outside_afterwards() -> None:
    poses = random_poses(5000)
    limited = [BONE_INDEX[name] for name in LIMITED]
    assert (np.abs(angles(poses))[:, limited] > 1.0).any(axis=(0, 2)).all()
    within = limit(poses)
    assert np.abs(angles(within)[:, limited]).max() <= 1.0 + 1e-4
    np.testing.assert_allclose(np.linalg.norm(within, axis=-1), 1.0, atol=1e-5)


def test_noisy_directions_become_human_too() -> None:
    directions = np.random.default_rng(2).normal(size=(2000, 42, 3)).astype(np.float32)
    assert np.abs(angles(limit(to_rotations(directions)))).max() <= 1.0 + 1e-4


@pytest.mark.parametrize("name", ["sides", "front", "hips", "desk"])
def test_a_pose_well_inside_comes_back_to_the_last_bit(name: str) -> None:
    pose = rest_pose(name)
    arms = [i for i, bone in enumerate(BONE_NAMES) if "Arm" in bone or bone.endswith("Hand")]
    np.testing.assert_array_equal(limit(pose)[arms], pose[arms])


@pytest.mark.parametrize(
    ("bone", "axis", "there_deg", "back_deg"),
    [
        ("RightLowerArm", (0, -1, 0), 150, 5),  # the elbow bends forward and not backward
        ("LeftLowerArm", (0, 1, 0), 150, 5),
        ("RightIndexIntermediate", (0, 0, -1), 110, 5),  # a finger bends to the palm
        ("LeftLittleIntermediate", (0, 0, 1), 110, 5),
        ("RightHand", (0, 0, -1), 85, 75),
        ("LeftRingProximal", (0, 0, 1), 88, 30),
        ("Head", (1, 0, 0), 45, 45),
    ],
)
def test_a_joint_goes_so_far_and_no_further(
    bone: str, axis: tuple[float, float, float], there_deg: float, back_deg: float
) -> None:
    for asked_deg, end_deg in ((there_deg, there_deg), (-back_deg, -back_deg)):
        # Within its range a joint is nearly where it was asked to be.
        asked = turned(bone, axis, math.radians(0.8 * asked_deg))
        assert math.degrees(angle_between(limit(asked), asked)[BONE_INDEX[bone]]) < 1.0
        # Asked for more, it stays near its end.
        beyond = limit(turned(bone, axis, math.radians(end_deg + math.copysign(30.0, end_deg))))
        at_end = turned(bone, axis, math.radians(end_deg))
        assert math.degrees(angle_between(beyond, at_end)[BONE_INDEX[bone]]) < 9.0


@pytest.mark.parametrize("bone", LIMITED)
def test_the_way_through_a_range_and_past_its_end_is_smooth(bone: str) -> None:
    """Neither position nor speed steps: halving the step of the input halves that of the output."""
    index = BONE_INDEX[bone]

    def steps(count: int) -> tuple[float, float]:
        angle = np.linspace(-2.0, 2.0, count)
        axis = np.array((0.48, 0.6, 0.64))
        poses = np.zeros((count, BONE_COUNT, 4), dtype=np.float32)
        poses[..., 3] = 1.0
        poses[:, index, :3] = np.sin(angle / 2)[:, None] * axis
        poses[:, index, 3] = np.cos(angle / 2)
        # In the middle of the range and 115 degrees to both sides of it.
        shown: Any = limit(poses)[:, index].astype(np.float64)
        turn: Any = multiply(shown[1:], inverse(shown[:-1]))
        turn = 2.0 * np.sign(turn[:, 3:]) * turn[:, :3] * count
        return float(np.abs(turn).max()), float(np.abs(np.diff(turn, axis=0)).max())

    coarse_speed, coarse_change = steps(500)
    fine_speed, fine_change = steps(2000)
    assert fine_speed < 1.1 * coarse_speed
    assert fine_change < 0.5 * coarse_change + 0.01


def test_left_and_right_have_the_same_ranges() -> None:
    poses = random_poses(200)
    swapped = np.array([
        BONE_INDEX[
            name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")
        ]
        for name in BONE_NAMES
    ])  # fmt: skip
    image = limit(mirror(poses[:, swapped]))
    assert angle_between(image, mirror(limit(poses)[:, swapped])).max() < 1e-3


def test_an_impossible_bend_goes_to_the_nearer_end_and_does_not_flip() -> None:
    """A finger folded more and more, up to most of a circle, stays folded."""
    bend = np.radians(np.arange(60.0, 215.0, 1.0))
    poses = np.stack([turned("RightMiddleIntermediate", (0, 0, -1), angle) for angle in bend])
    shown = limit(poses)[:, BONE_INDEX["RightMiddleIntermediate"]]
    assert (shown[:, 2] < -0.4).all()  # bent to the palm by more than 47 degrees
    assert np.abs(np.diff(shown, axis=0)).max() < 0.02
