from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ha2g_live.realtime import humanoid, retarget, skeleton
from ha2g_live.realtime.humanoid import BONE_INDEX, BONE_NAMES
from ha2g_live.realtime.types import F32

X, Y, Z = np.eye(3)
IDENTITY: F32 = np.tile(np.array((0, 0, 0, 1), dtype=np.float32), (humanoid.BONE_COUNT, 1))
REST: F32 = -skeleton.joint_directions(humanoid.ted_joint_positions(IDENTITY, humanoid.HIPS_REST_M))
UNSEEN = ("Hips", "Leg", "Foot", "Toes", "Eye", "Jaw")
SOLVED = [name for name in BONE_NAMES if not any(part in name for part in UNSEEN)]

Draw = Callable[[float, float], Any]
"""Draws an angle in degrees between two limits, one for each frame."""


def turn(axis: Any, degrees: Any) -> Any:
    half = np.radians(np.asarray(degrees, dtype=np.float64))[..., None] / 2
    return np.concatenate((np.sin(half) * axis, np.cos(half)), axis=-1)


def turn_by(vector_degrees: Any) -> Any:
    degrees = np.maximum(np.linalg.norm(vector_degrees, axis=-1), 1e-9)
    return turn(vector_degrees / degrees[:, None], degrees)


def times(*turns: Any) -> Any:
    x1, y1, z1, w1 = np.moveaxis(turns[0], -1, 0)
    if len(turns) == 1:
        return turns[0]
    x2, y2, z2, w2 = np.moveaxis(times(*turns[1:]), -1, 0)
    return np.stack(
        (
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        ),
        axis=-1,
    )


def people(draw: Draw) -> F32:
    """Poses within the joint ranges of a person: (frames, 55, 4) local rotations."""
    local: dict[str, Any] = {}
    for bone in ("Spine", "Chest", "UpperChest"):
        local[bone] = times(turn(Y, draw(-12, 12)), turn(X, draw(-8, 15)), turn(Z, draw(-8, 8)))
    nod = np.stack((draw(-35, 35), draw(-40, 40), draw(-20, 20)), axis=-1)
    local["Neck"], local["Head"] = turn_by(0.4 * nod), turn_by(0.6 * nod)
    for side, s in (("Left", 1.0), ("Right", -1.0)):
        y, z = s * Y, s * Z  # mirrored; about x both sides turn alike
        local[f"{side}Shoulder"] = times(turn(y, draw(-15, 25)), turn(z, draw(-20, 10)))
        # Raised forward and to the side from hanging, then turned about the upper arm.
        raised = draw(-110, 30)[:, None] * X + draw(-90, 15)[:, None] * z
        local[f"{side}UpperArm"] = times(
            turn_by(raised), turn(z, np.full(len(raised), 90)), turn(X, draw(-60, 70))
        )
        local[f"{side}LowerArm"] = times(turn(y, draw(0, 140)), turn(X, draw(-45, 45)))
        local[f"{side}Hand"] = times(
            turn(X, draw(-45, 45)), turn(z, draw(-60, 60)), turn(y, draw(-20, 30))
        )
        for finger in ("Index", "Middle", "Ring", "Little"):
            local[f"{side}{finger}Proximal"] = times(turn(y, draw(-15, 15)), turn(z, draw(-20, 85)))
            local[f"{side}{finger}Intermediate"] = turn(z, draw(0, 100))
            local[f"{side}{finger}Distal"] = turn(z, draw(0, 70))
        local[f"{side}ThumbProximal"] = times(turn(y, draw(-25, 25)), turn(z, draw(-30, 30)))
        local[f"{side}ThumbIntermediate"] = turn(y, draw(-50, 10))
        local[f"{side}ThumbDistal"] = turn(y, draw(-70, 10))
    frames = len(next(iter(local.values())))
    pose = np.tile(IDENTITY, (frames, 1, 1))
    for bone, rotation in local.items():
        pose[:, BONE_INDEX[bone]] = rotation
    return pose


def random_people(frames: int, seed: int = 3) -> F32:
    rng = np.random.default_rng(seed)
    return people(lambda low, high: rng.uniform(low, high, frames))


def smooth_people(time_s: Any, seed: int) -> F32:
    """The same ranges, every angle a slow sine of its own."""
    rng = np.random.default_rng(seed)

    def draw(low: float, high: float) -> Any:
        wave = np.sin(2 * np.pi * (rng.uniform(0.2, 0.8) * time_s + rng.uniform()))
        return low + (high - low) * (wave + 1) / 2

    return people(draw)


def degrees_between(a: Any, b: Any) -> Any:
    """Angles between unit vectors; unlike acos exact for small ones too."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.degrees(2 * np.arcsin(np.minimum(np.linalg.norm(a - b, axis=-1) / 2, 1)))


def turned_degrees(a: Any, b: Any) -> Any:
    """Angles between unit quaternions, whatever their signs."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    near = np.minimum(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))
    return np.degrees(4 * np.arcsin(np.minimum(near / 2, 1)))


def with_bones(**unity: tuple[float, float, float]) -> F32:
    """Rest directions with some changed, given as child joint = direction in Unity axes."""
    directions: F32 = REST.copy()
    for child, direction in unity.items():
        for bone, (_, joint) in enumerate(skeleton.BONES):
            if skeleton.JOINT_NAMES[joint] == child:
                directions[bone] = -np.array(direction) / np.linalg.norm(direction)
    return directions


def test_rest_directions_give_the_t_pose() -> None:
    assert turned_degrees(retarget.to_rotations(REST), IDENTITY).max() < 0.01


def test_an_arm_that_hangs_is_90_degrees_about_z_left_and_minus_90_right() -> None:
    down = (0.0, -1.0, 0.0)
    directions = with_bones(left_elbow=down, left_wrist=down, right_elbow=down, right_wrist=down)
    pose = retarget.to_rotations(directions)
    half = math.sqrt(0.5)
    left, right = pose[BONE_INDEX["LeftUpperArm"]], pose[BONE_INDEX["RightUpperArm"]]
    np.testing.assert_allclose(left, (0, 0, half, half), atol=1e-4)
    np.testing.assert_allclose(right, (0, 0, -half, half), atol=1e-4)
    for bone in ("LeftShoulder", "RightShoulder"):
        assert turned_degrees(pose[BONE_INDEX[bone]], IDENTITY[0]) < 0.01


def test_a_bent_elbow_is_a_pure_hinge() -> None:
    """Hanging upper arms, forearms ahead: the twist lets the elbow bend about its own axis."""
    ahead, down = (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)
    knuckles = {
        f"{side}_{finger}_1": ahead
        for side in ("left", "right")
        for finger in ("index", "middle", "ring", "little")
    }
    pose = retarget.to_rotations(
        with_bones(
            left_elbow=down, left_wrist=ahead, right_elbow=down, right_wrist=ahead, **knuckles
        )
    )
    assert turned_degrees(pose[BONE_INDEX["LeftUpperArm"]], turn(Z, 90)) < 0.1
    left, right = pose[BONE_INDEX["LeftLowerArm"]], pose[BONE_INDEX["RightLowerArm"]]
    # Whatever the forearm's own twist about x, the bend is 90 degrees about the elbow's y axis.
    for fore, bend in ((left, 90), (right, -90)):
        along = np.array((fore[0], 0, 0, fore[3])) / math.hypot(fore[0], fore[3])
        swing = times(fore, along * (-1, -1, -1, 1))
        assert turned_degrees(swing, turn(Y, bend)) < 0.1


@pytest.mark.parametrize(("side", "s"), [("left", 1.0), ("right", -1.0)])
def test_a_turned_palm_is_shared_by_forearm_and_hand(side: str, s: float) -> None:
    """A straight arm with the palm turned to face forward, by 90 degrees about the arm."""
    arm = BONE_INDEX[f"{side.capitalize()}LowerArm"]
    palm_forward = np.tile(IDENTITY, (1, 1))
    palm_forward[arm + 2] = turn(X, -90)  # the hand is two places after its forearm
    pose = retarget.to_rotations(retarget.to_directions(palm_forward))
    assert BONE_NAMES[arm + 2].endswith("Hand")
    assert turned_degrees(pose[arm], turn(X, -45)) < 1
    assert turned_degrees(pose[arm + 2], turn(X, -45)) < 1
    world, _ = humanoid.world_pose(pose, humanoid.HIPS_REST_M)
    assert turned_degrees(world[arm + 2], turn(X, -90)) < 0.1
    assert s * humanoid.REST_OFFSETS_M[arm + 2, 0] < 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_human_poses_come_back_within_one_degree_in_every_bone(seed: int) -> None:
    asked = retarget.to_directions(random_people(2000, seed))
    got = retarget.to_directions(retarget.to_rotations(asked))
    worst = degrees_between(asked, got).max(axis=0)
    assert worst.max() < 1, skeleton.BONES[int(worst.argmax())]


def test_the_head_and_the_hands_keep_their_orientation() -> None:
    poses = random_people(500)
    asked, _ = humanoid.world_pose(poses, humanoid.HIPS_REST_M)
    solved = retarget.to_rotations(retarget.to_directions(poses))
    got, _ = humanoid.world_pose(solved, humanoid.HIPS_REST_M)
    for bone in ("Head", "LeftHand", "RightHand"):
        assert turned_degrees(asked[:, BONE_INDEX[bone]], got[:, BONE_INDEX[bone]]).max() < 0.5


@pytest.mark.parametrize("axis", [X, Y, Z])
def test_the_turn_of_the_trunk_is_spread_over_its_three_bones(axis: Any) -> None:
    pose = IDENTITY.copy()
    for bone in ("Spine", "Chest", "UpperChest"):
        pose[BONE_INDEX[bone]] = turn(axis, 12)
    solved = retarget.to_rotations(retarget.to_directions(pose))
    for bone in ("Spine", "Chest", "UpperChest"):
        rotation = solved[BONE_INDEX[bone]]
        assert 5 < turned_degrees(rotation, IDENTITY[0]) < 22
        assert rotation[:3] @ axis > 0.98 * np.linalg.norm(rotation[:3])


def test_bones_that_no_direction_shows_stay_at_rest() -> None:
    poses = retarget.to_rotations(retarget.to_directions(random_people(50)))
    unseen = [i for i, name in enumerate(BONE_NAMES) if name not in SOLVED]
    assert len(unseen) == 12
    np.testing.assert_array_equal(poses[:, unseen], IDENTITY[None, unseen].repeat(50, 0))


def test_the_last_phalanx_follows_the_one_before() -> None:
    pose = IDENTITY.copy()
    pose[BONE_INDEX["LeftIndexIntermediate"]] = turn(Z, 80)
    solved = retarget.to_rotations(retarget.to_directions(pose))
    assert turned_degrees(solved[BONE_INDEX["LeftIndexDistal"]], turn(Z, 56)) < 0.5


def test_both_kinematics_agree() -> None:
    poses = random_people(100)
    points = humanoid.ted_joint_positions(poses, np.zeros(3, dtype=np.float32))
    expected = skeleton.joint_directions(-points)
    assert degrees_between(retarget.to_directions(poses), expected).max() < 0.01


def test_the_mean_of_the_data_set_is_a_sane_standing_pose() -> None:
    mean = skeleton.normalise(skeleton.MEAN_DIRECTION)
    pose = retarget.to_rotations(mean)
    where = dict(zip(BONE_NAMES, humanoid.joint_positions(pose, humanoid.HIPS_REST_M), strict=True))
    assert abs(where["Head"][0]) < 0.1
    assert where["Head"][1] > 1.45
    for side, s in (("Left", -1), ("Right", 1)):
        assert s * where[f"{side}UpperArm"][0] > 0.1
        assert where[f"{side}LowerArm"][1] < where[f"{side}UpperArm"][1] - 0.2
        assert where[f"{side}Hand"][2] > 0.15  # in front of the body
        assert abs(where[f"{side}Hand"][1] - where[f"{side}LowerArm"][1]) < 0.1
        for bone in ("Shoulder", "Hand"):
            assert turned_degrees(pose[BONE_INDEX[side + bone]], IDENTITY[0]) < 45
    back = degrees_between(retarget.to_directions(pose), mean)
    # Means over many people are no rigid hand: the knuckles come near, all else is exact.
    knuckles = [5, 8, 11, 14, 22, 25, 28, 31]
    rigid = [*knuckles, 17, 34, 37, 38, 39, 40, 41]
    assert back[knuckles].max() < 3
    assert np.delete(back, rigid).max() < 0.1


def test_a_hand_that_is_not_rigid_is_fitted_by_all_its_knuckles() -> None:
    rng = np.random.default_rng(5)
    asked = retarget.to_directions(random_people(300))
    clean = retarget.to_rotations(asked)
    noisy = retarget.to_rotations(asked + rng.normal(0, 0.05, asked.shape).astype(np.float32))
    for bone in ("LeftHand", "RightHand"):
        hand = BONE_INDEX[bone]
        before, _ = humanoid.world_pose(clean, humanoid.HIPS_REST_M)
        after, _ = humanoid.world_pose(noisy, humanoid.HIPS_REST_M)
        # 0.05 is about 3 degrees in each knuckle.
        assert np.median(turned_degrees(before[:, hand], after[:, hand])) < 6


def swap_sides(name: str) -> str:
    swap = {"Left": "Right", "Right": "Left", "left": "right", "right": "left"}
    for word, other in swap.items():
        if name.startswith(word):
            return other + name[len(word) :]
    return name


def test_mirrored_directions_give_mirrored_rotations() -> None:
    names = skeleton.JOINT_NAMES
    twin = [
        skeleton.bone_index(swap_sides(names[a]), swap_sides(names[b])) for a, b in skeleton.BONES
    ]
    opposite = [BONE_INDEX[swap_sides(name)] for name in BONE_NAMES]
    directions = retarget.to_directions(random_people(200))
    mirrored = directions[:, twin] * np.array((-1, 1, 1), dtype=np.float32)
    expected = retarget.to_rotations(directions)[:, opposite] * np.array((1, -1, -1, 1))
    assert turned_degrees(retarget.to_rotations(mirrored), expected).max() < 0.1


@pytest.mark.parametrize("seed", range(8))
def test_smooth_motion_gives_smooth_rotations(seed: int) -> None:
    """So finely sampled that only a true jump can turn a bone by a degree or two at once."""
    time_s = np.arange(0, 6, 1 / 2400)
    poses = smooth_people(time_s, seed)
    assert turned_degrees(poses[1:], poses[:-1]).max() < 0.3
    rotations = retarget.to_rotations(retarget.to_directions(poses))
    steps = turned_degrees(rotations[1:], rotations[:-1]).max(axis=0)
    assert steps.max() < 2, BONE_NAMES[int(steps.argmax())]


def test_the_forearm_never_flips_while_the_hand_turns_all_the_way_round() -> None:
    """More than anyone can do: 360 degrees about a straight arm, in steps of a quarter degree."""
    angles = np.arange(-180, 180, 0.25)
    poses = np.tile(IDENTITY, (len(angles), 1, 1))
    poses[:, BONE_INDEX["LeftHand"]] = turn(X, angles)
    rotations = retarget.to_rotations(retarget.to_directions(poses))
    steps = turned_degrees(rotations, np.roll(rotations, 1, axis=0))
    assert steps.max() < 1


def test_a_straightening_elbow_lets_go_of_its_plane_smoothly() -> None:
    bends = np.linspace(90, 0, 2000)
    poses = np.tile(IDENTITY, (len(bends), 1, 1))
    poses[:, BONE_INDEX["LeftUpperArm"]] = times(turn(Z, 70), turn(X, 60))
    poses[:, BONE_INDEX["LeftLowerArm"]] = turn(Y, bends)
    rotations = retarget.to_rotations(retarget.to_directions(poses))
    upper = rotations[:, BONE_INDEX["LeftUpperArm"]]
    assert turned_degrees(upper[0], poses[0, BONE_INDEX["LeftUpperArm"]]) < 0.1
    assert turned_degrees(rotations[1:], rotations[:-1]).max() < 1


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf, -math.inf])
def test_a_direction_that_is_none_leaves_its_bone_at_rest(bad: float) -> None:
    directions = np.full((42, 3), bad, dtype=np.float32)
    assert turned_degrees(retarget.to_rotations(directions), IDENTITY).max() < 0.01
    for bone in range(42):
        directions = retarget.to_directions(random_people(1, seed=bone))[0]
        good = directions.copy()
        directions[bone, bone % 3] = bad
        if bad == 0.0:
            directions[bone] = 0.0
        pose = retarget.to_rotations(directions)
        np.testing.assert_allclose(np.linalg.norm(pose, axis=-1), 1, atol=1e-5)
        seen_elsewhere = np.arange(42) != bone
        back = degrees_between(retarget.to_directions(pose), good)[seen_elsewhere]
        assert np.isfinite(back).all()


def test_a_lost_upper_arm_keeps_the_forearm_where_it_was_asked() -> None:
    directions = retarget.to_directions(random_people(1))[0]
    directions[3] = math.nan
    back = degrees_between(retarget.to_directions(retarget.to_rotations(directions)), directions)
    assert np.nanmax(back) < 1
    assert turned_degrees(
        retarget.to_rotations(directions)[BONE_INDEX["LeftUpperArm"]], IDENTITY[0]
    ) == pytest.approx(0, abs=0.01)


def test_any_directions_give_unit_quaternions() -> None:
    rng = np.random.default_rng(8)
    directions = rng.normal(size=(3000, 42, 3)).astype(np.float32)
    poses = retarget.to_rotations(directions)
    assert poses.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(poses, axis=-1), 1, atol=1e-6)
    assert (poses[..., 3] >= 0).all()
    axes = np.eye(3, dtype=np.float32)[rng.integers(0, 3, (500, 42))]
    axes *= rng.choice(np.array((-1, 1), dtype=np.float32), (500, 42, 1))
    np.testing.assert_allclose(np.linalg.norm(retarget.to_rotations(axes), axis=-1), 1, atol=1e-6)


def test_length_of_a_direction_does_not_matter() -> None:
    directions = retarget.to_directions(random_people(20))
    stretched = directions * np.float32(37)
    assert (
        turned_degrees(retarget.to_rotations(stretched), retarget.to_rotations(directions)).max()
        < 0.01
    )


def test_shapes_and_kinds_of_arrays() -> None:
    directions = retarget.to_directions(random_people(6))
    expected = retarget.to_rotations(directions)
    assert expected.shape == (6, 55, 4)
    np.testing.assert_array_equal(retarget.to_rotations(directions[2]), expected[2])
    np.testing.assert_array_equal(
        retarget.to_rotations(directions.reshape(2, 3, 42, 3)), expected.reshape(2, 3, 55, 4)
    )
    np.testing.assert_array_equal(retarget.to_rotations(directions[::2]), expected[::2])
    frozen = directions[0].copy()
    frozen.setflags(write=False)
    out = np.zeros((55, 4), dtype=np.float32)
    retarget.to_rotations_into(frozen, out)
    np.testing.assert_array_equal(out, expected[0])
    assert retarget.to_directions(expected.reshape(2, 3, 55, 4)).shape == (2, 3, 42, 3)


def test_what_does_not_fit_is_refused() -> None:
    good = np.zeros((42, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="42, 3"):
        retarget.to_rotations(np.zeros((43, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="55, 4"):
        retarget.to_directions(np.zeros((54, 4), dtype=np.float32))
    with pytest.raises(ValueError, match="out must"):
        retarget.to_rotations_into(good, np.zeros((54, 4), dtype=np.float32))
    with pytest.raises(ValueError, match="float32"):
        retarget.to_rotations_into(good, np.zeros((55, 4)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="C order"):
        retarget.to_rotations_into(good, np.zeros((4, 55), dtype=np.float32).T)
