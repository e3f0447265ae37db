"""Arms on other bodies: nothing passes through, what touches still touches, nothing jumps."""

from __future__ import annotations

import numpy as np
import pytest

from ha2g_live.benchmarks.avatars import made_up
from ha2g_live.realtime.body import Figure, figure
from ha2g_live.realtime.contact import (
    DEFAULT_FIGURE,
    adapt,
    clearance_m,
    hand_points,
    no_sides,
)
from ha2g_live.realtime.humanoid import BONE_COUNT, BONE_INDEX
from ha2g_live.realtime.joint_limits import limit
from ha2g_live.realtime.rest_poses import rest_pose
from ha2g_live.realtime.rotation_arrays import inverse, multiply, slerp
from ha2g_live.realtime.types import F32

FPS = 60.0
ARMS = [
    BONE_INDEX[side + bone]
    for side in ("Left", "Right")
    for bone in ("UpperArm", "LowerArm", "Hand")
]


CHILD, BROAD = (figure(avatar.offsets_m, avatar.measures) for avatar in made_up())


def turned(pose: F32, bone: str, axis: tuple[float, float, float], angle_rad: float) -> F32:
    out = pose.copy()
    turn = np.append(np.sin(angle_rad / 2) * np.array(axis), np.cos(angle_rad / 2))
    out[BONE_INDEX[bone]] = multiply(turn.astype(np.float32), out[BONE_INDEX[bone]])
    return np.asarray(out)


def folded_arms(inward_rad: float) -> F32:
    """Both forearms turned in before the belly, into it and each other when far enough."""
    pose = np.array(rest_pose("front"))
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        pose = turned(pose, f"{side}UpperArm", (0.0, 1.0, 0.0), -sign * 0.4 * inward_rad)
        pose = turned(pose, f"{side}LowerArm", (0.0, 1.0, 0.0), sign * inward_rad)
    return pose


def random_arms(count: int, seed: int) -> F32:
    """Arms and hands turned anyhow within their joints' ranges, on an upright trunk."""
    poses = np.zeros((count, BONE_COUNT, 4), np.float32)
    poses[..., 3] = 1.0
    arms = np.random.default_rng(seed).normal(size=(count, len(ARMS), 4))
    poses[:, ARMS] = arms / np.linalg.norm(arms, axis=-1, keepdims=True)
    return np.asarray(limit(poses))


@pytest.mark.parametrize("target", [DEFAULT_FIGURE, CHILD, BROAD], ids=["own", "child", "broad"])
def test_random_poses_end_outside_the_body_and_each_other(target: Figure) -> None:
    poses = random_arms(600, 3)
    before = np.array([clearance_m(pose, target) for pose in poses])
    after = np.array([clearance_m(adapt(p, target, no_sides(), 1 / FPS)[0], target) for p in poses])
    assert (before.min(axis=1) < -0.01).mean() > 0.3  # they were inside
    assert before.min() < -0.08
    # An elbow that its shoulder cannot bring out stays in, by a finger's breadth, in one of fifty.
    assert np.quantile(after.min(axis=1), 0.03) > -0.005
    assert after.min() > -0.035
    assert after[:, 1].min() > -0.002  # one arm in the other: never


def test_a_pose_with_nothing_near_comes_back_to_the_last_bit() -> None:
    for name in ("sides", "desk"):
        pose = rest_pose(name)
        adapted, _ = adapt(pose, DEFAULT_FIGURE, no_sides(), 1 / FPS)
        np.testing.assert_array_equal(adapted, pose)


@pytest.mark.parametrize("target", [CHILD, BROAD], ids=["child", "broad"])
def test_hands_that_meet_still_meet(target: Figure) -> None:
    meeting = []
    for inward in np.linspace(-0.3, 0.5, 41):
        pose = folded_arms(inward)
        own, _ = adapt(pose, DEFAULT_FIGURE, no_sides(), 1 / FPS)
        if clearance_m(own, DEFAULT_FIGURE)[1] > 0.0065:
            continue
        adapted, _ = adapt(pose, target, no_sides(), 1 / FPS)
        plain = clearance_m(pose, target)
        meeting.append((clearance_m(adapted, target)[1], plain[1]))
    assert len(meeting) > 5
    found = np.array(meeting)
    assert found[:, 0].max() < 0.03
    assert found[:, 0].min() > -0.002
    assert np.abs(found[:, 1]).max() > 0.03  # without it they would be apart or inside


def test_a_hand_on_the_body_stays_on_it() -> None:
    """The distance to a broader body is the one it had to the model's own."""
    for inward in (0.35, 0.45):
        pose = turned(folded_arms(inward), "RightUpperArm", (0.0, 0.0, 1.0), -0.9)
        pose = adapt(pose, DEFAULT_FIGURE, no_sides(), 1 / FPS)[0]
        own = clearance_m(pose, DEFAULT_FIGURE)[0]
        assert own < 0.03
        for target in (CHILD, BROAD):
            adapted, _ = adapt(pose, target, no_sides(), 1 / FPS)
            assert clearance_m(adapted, target)[0] == pytest.approx(own, abs=0.025)


@pytest.mark.parametrize("target", [DEFAULT_FIGURE, CHILD, BROAD], ids=["own", "child", "broad"])
def test_arms_that_go_through_each_other_go_round_without_a_jump(target: Figure) -> None:
    """Two hands cross and come back in a second: no joint turns faster than people's do."""

    def crossing(fps: float) -> tuple[F32, F32]:
        sides, shown, deep = no_sides(), [], []
        for k in range(round(2 * fps)):
            inward = 0.1 + 0.8 * np.sin(np.pi * k / fps) ** 2
            pose, sides = adapt(folded_arms(inward), target, sides, 1 / fps)
            shown.append(pose)
            deep.append(clearance_m(pose, target)[1])
        return np.array(shown), np.array(deep)

    shown, deep = crossing(FPS)
    plain = [clearance_m(folded_arms(inward), target) for inward in (0.4, 0.6, 0.75, 0.9)]
    assert np.min(plain) < (-0.02 if target is not BROAD else 0.02)  # they would be inside
    assert deep.min() > -0.006
    turn = multiply(shown[1:], inverse(shown[:-1]))
    speed = 2.0 * np.arctan2(np.linalg.norm(turn[..., :3], axis=-1), np.abs(turn[..., 3])) * FPS
    assert speed.max() < 25.0


def test_only_the_arms_are_changed_and_hands_keep_how_they_are_turned() -> None:
    pose = folded_arms(0.5)
    adapted, _ = adapt(pose, BROAD, no_sides(), 1 / FPS)
    changed = {int(bone) for bone in np.flatnonzero((adapted != pose).any(axis=1))}
    assert changed
    assert changed <= set(ARMS)

    def world_hand(rotations: F32, side: str) -> F32:
        chain = ("Spine", "Chest", "UpperChest", f"{side}Shoulder", f"{side}UpperArm",
                 f"{side}LowerArm", f"{side}Hand")  # fmt: skip
        turn = rotations[0]
        for bone in chain:
            turn = multiply(turn, rotations[BONE_INDEX[bone]])
        return np.asarray(turn)

    for side in ("Left", "Right"):
        dot = abs(float(world_hand(pose, side) @ world_hand(adapted, side)))
        assert dot == pytest.approx(1.0, abs=1e-4)


def test_elbows_do_not_flip_on_the_way_through_a_body() -> None:
    """A hand drawn through the trunk from left to right: the elbow's plane turns slowly."""
    start = turned(folded_arms(0.2), "RightUpperArm", (0.0, 1.0, 0.0), 0.6)
    end = turned(folded_arms(0.2), "RightUpperArm", (0.0, 1.0, 0.0), -1.0)
    sides, shown = no_sides(), []
    for share in np.linspace(0.0, 1.0, 90):
        pose, sides = adapt(slerp(start, end, share), DEFAULT_FIGURE, sides, 1 / FPS)
        shown.append(pose[ARMS])
    poses = np.array(shown)
    turn = multiply(poses[1:], inverse(poses[:-1]))
    angle = 2.0 * np.arctan2(np.linalg.norm(turn[..., :3], axis=-1), np.abs(turn[..., 3]))
    assert angle.max() * FPS < 25.0


def test_the_points_of_a_hand_are_where_its_bones_are() -> None:
    pose = np.zeros((BONE_COUNT, 4), np.float32)
    pose[:, 3] = 1.0
    points = hand_points(pose, DEFAULT_FIGURE)
    assert points.shape[0] == 2
    np.testing.assert_allclose(points[0] * (-1, 1, 1), points[1], atol=1e-7)  # mirror images
    assert points[0, :, 0].max() < -0.6  # the left hand of a T-pose, far to the left
