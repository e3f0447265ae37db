"""The schedule: the curve of the frames where predictions agree, no step where they do not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ha2g_live.realtime.humanoid import BONE_COUNT, BONE_INDEX
from ha2g_live.realtime.joint_limits import limit
from ha2g_live.realtime.rest_poses import rest_pose
from ha2g_live.realtime.retarget import to_directions, to_rotations
from ha2g_live.realtime.rotation_arrays import inverse, multiply
from ha2g_live.realtime.schedule import SINK_S, STALL_S, PoseSchedule
from ha2g_live.realtime.skeleton import BONE_COUNT as DIRECTIONS
from ha2g_live.realtime.skeleton import MEAN_DIRECTION, normalise
from ha2g_live.realtime.timebase import FRAMES_AHEAD, POSE_FPS
from ha2g_live.realtime.trajectory import BLEND_S, KNOTS, MAX_TURN_RAD, evaluate, start_at
from ha2g_live.realtime.types import F32, PoseChunk

Predict = Callable[[int], F32]


def chunk(first_frame: int, directions: F32) -> PoseChunk:
    return PoseChunk(first_frame, directions.astype(np.float32), 0, 0.0, 0.0)


ARM = [BONE_INDEX[side + bone] for side in ("Left", "Right") for bone in ("UpperArm", "LowerArm")]


def arms(frame: float) -> F32:
    """(55, 4) both arms in smooth motion in front of the body, each joint at its own pace."""
    pose: Any = np.array(rest_pose("front"), dtype=np.float64)
    for k, bone in enumerate(ARM):
        angle = 0.4 * np.sin(2.0 * np.pi * 0.9 * frame / POSE_FPS + k)
        tilt = 0.2 * np.cos(2.0 * np.pi * 0.4 * frame / POSE_FPS + 2.0 * k)
        axis = np.array((0.0, np.cos(tilt), np.sin(tilt)))
        turn: Any = np.append(np.sin(angle / 2.0) * axis, np.cos(angle / 2.0))
        pose[bone] = multiply(turn, pose[bone])
    return np.asarray(pose, dtype=np.float32)


def swing(frame: float) -> F32:
    """(42, 3) what is predicted for that pose."""
    return to_directions(arms(frame))


def at(frame: float) -> F32:
    """(55, 4) the schedule's knot for that prediction."""
    return limit(to_rotations(swing(frame)))


def true_chunk(step: int) -> F32:
    return np.stack([swing(step + 1 + k) for k in range(FRAMES_AHEAD)])


def random_chunk(step: int) -> F32:
    random = np.random.default_rng(step)
    return normalise(random.normal(size=(FRAMES_AHEAD, DIRECTIONS, 3)).astype(np.float32))


def opposite_chunk(step: int) -> F32:
    poses = np.ones((FRAMES_AHEAD, DIRECTIONS, 3), dtype=np.float32) * (-1.0) ** step
    return normalise(poses)


def play(predict: Predict, fps: float, steps: int = 45, lag_s: float = 0.03) -> F32:
    """(frames, 55, 4) what is shown when step ``n`` arrives ``lag_s`` after its moment."""
    schedule, shown, k = PoseSchedule(), [], 0
    for step in range(steps):
        while k / fps < step / POSE_FPS + (lag_s if step else 0.0):
            shown.append(schedule.sample(k / fps).rotations)
            k += 1
        schedule.merge(chunk(step + 1, predict(step)))
    return np.array(shown, dtype=np.float64)


def steepest(shown: F32, order: int, fps: float) -> float:
    """Largest finite difference of the angular motion, per second to that order."""
    turn: Any = multiply(shown[1:], inverse(shown[:-1]))
    turn = 2.0 * np.where(turn[..., 3:] < 0.0, -1.0, 1.0) * turn[..., :3]
    differences = np.diff(turn, n=order - 1, axis=0) * fps**order
    return float(np.linalg.norm(differences, axis=-1).max())


def assert_same(shown: F32, wanted: F32, within: float) -> None:
    """Rotations, whose two signs mean the same."""
    near = np.sign((shown * wanted).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(shown, near * wanted, atol=within)


@pytest.mark.parametrize("lag_s", [0.0, 0.03, 0.06])
def test_the_curve_is_the_b_spline_of_the_frames_when_predictions_agree(lag_s: float) -> None:
    shown = play(true_chunk, fps=60.0, lag_s=lag_s)
    for k in range(60, len(shown), 4):  # every fourth output frame is a pose frame
        here = at(k // 4).astype(np.float64)
        around = [at(k // 4 + n) for n in (-1, 1)]
        around = [q * np.sign((q * here).sum(axis=-1, keepdims=True)) for q in around]
        wanted = around[0] + 4.0 * here + around[1]
        assert_same(shown[k], wanted / np.linalg.norm(wanted, axis=-1, keepdims=True), 1e-6)


def test_between_frames_the_motion_is_followed_closely() -> None:
    shown = play(true_chunk, fps=90.0)
    for k in range(90, len(shown)):
        assert_same(shown[k], at(k / 6.0), 0.01)


@pytest.mark.parametrize("fps", [24.0, 60.0, 144.0])
@pytest.mark.parametrize("predict", [true_chunk, random_chunk, opposite_chunk])
def test_rotations_are_unit_quaternions(predict: Predict, fps: float) -> None:
    lengths = np.linalg.norm(play(predict, fps), axis=-1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-6)


def small_disagreement(step: int) -> F32:
    random = np.random.default_rng(step)
    return normalise(true_chunk(step) + 0.1 * random.normal(size=(3, DIRECTIONS, 3)))


@pytest.mark.parametrize("predict", [small_disagreement, random_chunk, opposite_chunk])
def test_neither_position_nor_velocity_steps_at_a_swap(predict: Predict) -> None:
    """A step in position would double the speed when the sampling rate doubles, a step in
    velocity the acceleration. Both must stay what they are."""
    slow, fast = play(predict, fps=1000.0), play(predict, fps=2000.0)
    assert steepest(fast, 1, 2000.0) < 1.1 * steepest(slow, 1, 1000.0)
    assert steepest(fast, 2, 2000.0) < 1.1 * steepest(slow, 2, 1000.0)


def test_acceleration_hardly_steps_when_predictions_nearly_agree() -> None:
    def nearly(step: int) -> F32:
        random = np.random.default_rng(step)
        return normalise(true_chunk(step) + 0.01 * random.normal(size=(3, DIRECTIONS, 3)))

    slow, fast = play(nearly, fps=250.0), play(nearly, fps=500.0)
    # A step of the acceleration would double the jerk when the sampling rate doubles.
    assert steepest(fast[100:], 3, 500.0) < 1.3 * steepest(slow[50:], 3, 250.0)


def test_a_swap_without_blending_would_fail_these_tests() -> None:
    """The measure itself: the bare curves do step."""
    schedule, shown, k = PoseSchedule(), [], 0
    for step in range(20):
        while k / 1000.0 < step / POSE_FPS + 0.03:
            shown.append(schedule.sample(k / 1000.0).rotations)
            k += 1
        schedule.merge(chunk(step + 1, random_chunk(step)))
        bare = schedule._trajectory
        bare.turn[:] = 0.0
    assert steepest(np.array(shown, dtype=np.float64), 1, 1000.0) > 400.0


def test_a_difference_is_gone_after_the_blend() -> None:
    schedule = PoseSchedule()
    schedule.merge(chunk(1, true_chunk(0)))
    schedule.sample(0.1)
    new = np.repeat(swing(40)[None], 3, axis=0)
    schedule.merge(chunk(2, new))
    # Limited turns may need more than one prediction to get there.
    for first in range(3, 12):
        schedule.merge(chunk(first, new))
    after = schedule.sample(11 / POSE_FPS + BLEND_S)
    assert_same(after.rotations, at(40), 1e-6)


def test_a_stall_eases_to_a_stop_and_is_counted() -> None:
    schedule = PoseSchedule()
    for step in range(15):
        schedule.sample(step / POSE_FPS)
        schedule.merge(chunk(step + 1, true_chunk(step)))
    fps = 1000.0
    start = int(14 / POSE_FPS * fps) + 1
    end = int((17 / POSE_FPS + STALL_S) * fps)
    shown = np.array([schedule.sample(k / fps).rotations for k in range(start, end)], dtype=float)
    # The motion is at up to 2.3 rad/s: a hard stop between two samples would give 2300 rad/s^2.
    assert steepest(shown, 2, fps) < 200.0
    # It coasts a little past the last predicted pose.
    assert 0.0 < np.abs(shown[-1] - at(17)).max() < 0.1
    np.testing.assert_array_equal(shown[-1], shown[-100])
    held = [k for k in range(start, end) if k / fps * POSE_FPS > 17]
    assert schedule.starved == 1 + len(held)  # and the one before the first prediction


def test_a_stalled_models_arms_sink_to_rest_without_a_step() -> None:
    def run(fps: float) -> Any:
        schedule = PoseSchedule()
        for step in range(15):
            schedule.sample(step / POSE_FPS)
            schedule.merge(chunk(step + 1, true_chunk(step)))
        times = np.arange(15 / POSE_FPS, 17 / POSE_FPS + STALL_S + SINK_S + 0.5, 1.0 / fps)
        shown: Any = np.array([schedule.sample(t).rotations for t in times], dtype=np.float64)
        assert schedule.stalls == 1
        assert schedule.limited == 0
        return shown

    slow, fast = run(500.0), run(1000.0)
    assert_same(fast[-1], rest_pose("sides"), 1e-6)
    assert steepest(fast, 1, 1000.0) < 1.1 * steepest(slow, 1, 500.0) < 6.0
    assert steepest(fast, 2, 1000.0) < 1.1 * steepest(slow, 2, 500.0)


@pytest.mark.parametrize("stall_frames", [4, 9, 60, 400])
def test_recovery_from_a_stall_is_smooth(stall_frames: int) -> None:
    def run(fps: float) -> Any:
        schedule, shown, k = PoseSchedule(), [], 0
        for step in [*range(12), *range(12 + stall_frames, 40 + stall_frames)]:
            while k / fps < step / POSE_FPS + (0.02 if step else 0.0):
                sampled = schedule.sample(k / fps)
                shown.append(sampled.rotations)
                k += 1
            schedule.merge(chunk(step + 1, true_chunk(step)))
        assert not schedule.sample(k / fps).starved
        return np.array(shown, dtype=np.float64)

    slow, fast = run(500.0), run(1000.0)
    assert steepest(fast, 1, 1000.0) < 1.1 * steepest(slow, 1, 500.0) < 25.0
    assert steepest(fast, 2, 1000.0) < 1.1 * steepest(slow, 2, 500.0)


def test_before_the_first_prediction_there_is_a_pose_and_the_first_is_taken_at_once() -> None:
    schedule = PoseSchedule()
    schedule.merge(chunk(1, true_chunk(0)))
    assert_same(schedule.sample(0.0).rotations, at(1), 1e-6)

    waiting = PoseSchedule()
    first = waiting.sample(0.0)
    assert first.starved
    assert first.chunk is None
    assert_same(first.rotations, limit(to_rotations(MEAN_DIRECTION)), 1e-6)


def test_time_does_not_run_backward() -> None:
    schedule = PoseSchedule()
    schedule.merge(chunk(1, true_chunk(0)))
    newest = schedule.sample(0.15).rotations
    np.testing.assert_array_equal(schedule.sample(0.10).rotations, newest)


def test_stale_and_damaged_predictions_are_left_out() -> None:
    schedule = PoseSchedule()
    schedule.merge(chunk(5, true_chunk(4)))
    before = schedule.sample(0.35).rotations
    schedule.merge(chunk(4, random_chunk(0)))
    for damage in (np.nan, np.inf, 0.0):
        bad = true_chunk(5)
        bad[1, 7] = damage
        schedule.merge(chunk(6, bad))
    assert (schedule.stale, schedule.damaged) == (1, 3)
    np.testing.assert_array_equal(schedule.sample(0.35).rotations, before)


def test_no_joint_turns_faster_than_the_limit_from_frame_to_frame() -> None:
    schedule = PoseSchedule()
    schedule.merge(chunk(1, random_chunk(0)))
    schedule.merge(chunk(2, random_chunk(1)))
    knots = schedule._trajectory.knots
    turn = 4.0 * np.arcsin(np.linalg.norm(knots[2] - knots[1], axis=1) / 2.0)
    assert turn.max() == pytest.approx(MAX_TURN_RAD, abs=1e-6)
    assert schedule.limited > 0


def test_memory_is_bounded() -> None:
    schedule = PoseSchedule()
    for step in range(300):
        schedule.merge(chunk(step + 1, true_chunk(step)))
        schedule.sample(step / POSE_FPS)
    trajectory = schedule._trajectory
    assert trajectory.knots.shape == (KNOTS, BONE_COUNT, 4)
    assert trajectory.last - trajectory.first == KNOTS - 1


def test_the_same_prediction_again_changes_nothing() -> None:
    """Also when it comes between the same two frames, where nothing was shown in between."""
    once, thrice = PoseSchedule(), PoseSchedule()
    for frame in range(180):
        if frame % 4 == 0:
            step = frame // 4
            once.merge(chunk(step + 1, true_chunk(step)))
            for _ in range(3):
                thrice.merge(chunk(step + 1, true_chunk(step)))
        shown = thrice.sample(frame / 60).rotations
        assert_same(shown, once.sample(frame / 60).rotations, 1e-3)


def test_a_trajectory_at_rest_rests() -> None:
    rest = start_at(3, arms(3))
    for now in (0.0, 3.0, 9.5):
        assert_same(evaluate(rest, now), arms(3), 1e-6)


def test_one_thread_merges_while_another_samples() -> None:
    schedule, lengths = PoseSchedule(), []

    def merge() -> None:
        for step in range(300):
            schedule.merge(chunk(step + 1, small_disagreement(step)))

    thread = threading.Thread(target=merge, name="test-merge")
    thread.start()
    for k in range(1200):
        lengths.append(np.linalg.norm(schedule.sample(k / 60.0).rotations, axis=1))
    thread.join()
    np.testing.assert_allclose(np.array(lengths), 1.0, atol=1e-6)
