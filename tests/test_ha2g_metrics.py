"""Metrics against closed forms and cases counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ha2g_live.engines.ted import Skeleton, skeleton
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.training.ha2g import metrics


def _with_moments(mean: list[float], deviation: list[float]) -> metrics.F64:
    """Samples whose mean and covariance are exactly these (covariance diagonal)."""
    count = len(mean)
    signs = np.concatenate((np.eye(count), -np.eye(count)))
    scale = np.sqrt((2 * count - 1) / 2) * np.array(deviation)
    return np.asarray(signs * scale + np.array(mean))


def _rest(bones: Skeleton, frames: int) -> metrics.F64:
    return np.zeros((frames, bones.pose_dim))


# --- Frechet distance


def test_frechet_distance_of_known_gaussians() -> None:
    first = _with_moments([0.0, 1.0, -2.0], [1.0, 2.0, 0.5])
    second = _with_moments([3.0, 1.0, 2.0], [2.0, 2.0, 1.5])
    by_hand = (9 + 0 + 16) + (1 - 2) ** 2 + 0 + (0.5 - 1.5) ** 2
    assert metrics.frechet_distance(first, second) == pytest.approx(by_hand, rel=1e-9)


def test_frechet_distance_of_covariances_that_do_not_commute() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(50, 3)), rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3))
    a, b = np.cov(first.T), np.cov(second.T)
    power, axes = np.linalg.eig(a @ b)
    root = (axes * np.sqrt(power)) @ np.linalg.inv(axes)
    gap = first.mean(axis=0) - second.mean(axis=0)
    by_definition = gap @ gap + np.trace(a + b - 2 * root)
    assert metrics.frechet_distance(first, second) == pytest.approx(by_definition, rel=1e-9)


@pytest.mark.parametrize("windows", [2, 20, 500])
def test_frechet_distance_of_a_set_to_itself_is_zero(windows: int) -> None:
    features = 50.0 * np.random.default_rng(1).normal(size=(windows, 128)) + 7.0
    assert metrics.frechet_distance(features, features) < 1e-9 * (features**2).sum() / windows


def test_frechet_distance_without_full_rank() -> None:
    # Two points each: the fits are one-dimensional and at right angles.
    first = np.array([[1.0, 0, 0], [-1.0, 0, 0]])
    second = np.array([[0, 2.0, 0], [0, -2.0, 0]])
    assert metrics.frechet_distance(first, second) == pytest.approx(2.0 + 8.0)
    assert metrics.frechet_distance(first, 3.0 * first) == pytest.approx(2.0 * (3.0 - 1.0) ** 2)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (np.zeros((1, 3)), "at least 2 windows"),
        (np.zeros(3), "at least 2 windows"),
        (np.array([[0.0, 1, 2], [np.nan, 1, 2]]), "not finite"),
        (np.zeros((5, 2)), "same autoencoder"),
    ],
)
def test_frechet_distance_refuses(first: metrics.F64, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        metrics.frechet_distance(first, np.ones((4, 3)))


# --- diversity


def test_diversity_is_the_mean_l1_distance_of_pairs_of_different_windows() -> None:
    corners = np.array([[0.0, 0.0], [3.0, -4.0]])
    assert metrics.diversity(corners) == pytest.approx(7.0)  # never a window with itself
    spread = np.random.default_rng(0).normal(size=(300, 8))
    expected = 8 * 2 / np.sqrt(np.pi)  # mean |x - y| of two standard normals, 8 times
    assert metrics.diversity(spread) == pytest.approx(expected, rel=0.05)
    assert metrics.diversity(spread, seed=1) == metrics.diversity(spread, seed=1)
    assert metrics.diversity(spread, seed=1) != metrics.diversity(spread, seed=2)
    with pytest.raises(ConfigError, match="at least 2"):
        metrics.diversity(spread[:1])


# --- beats


def test_angle_change_of_one_bent_elbow() -> None:
    bones = skeleton("ted_gesture")
    upper, fore = bones.angle_pairs[1]
    angles = np.array([0.4, 0.5, 0.7, 0.7])
    poses = np.zeros((4, 9, 3))
    poses[:] = [0.0, 1.0, 0.0]
    poses[:, upper] = [1.0, 0.0, 0.0]
    poses[:, fore] = np.stack((np.cos(angles), np.sin(angles), 0 * angles), axis=1)
    assert sum(fore in pair for pair in bones.angle_pairs) == 1  # so the rest stands still
    found = metrics.angle_change((poses - bones.mean_direction).reshape(4, -1), bones)
    scale = np.pi * bones.angle_mean_change[1] * len(bones.angle_pairs)
    np.testing.assert_allclose(found, [0.0, 0.1 / scale, 0.2 / scale, 0.0], atol=1e-9)


def test_the_mean_direction_counts() -> None:
    bones = skeleton("ted_expressive")
    poses = 0.3 * np.random.default_rng(0).normal(size=(34, bones.pose_dim))
    without = replace(bones, mean_direction=np.zeros_like(bones.mean_direction))
    right, wrong = metrics.angle_change(poses, bones), metrics.angle_change(poses, without)
    assert np.abs(right - wrong).max() > 0.1 * right.max()


def test_palm_normals_count() -> None:
    bones = skeleton("ted_expressive")
    poses = _rest(bones, 34)
    bone = bones.palm_normals[0][0]
    sway = 0.3 * np.sin(np.arange(34))
    poses.reshape(34, -1, 3)[:, bone, 2] = sway
    bodily = tuple(pair for pair in bones.angle_pairs if max(pair) < 42)
    assert len(bodily) == len(bones.angle_pairs) - 2
    without = replace(
        bones, angle_pairs=bodily, angle_mean_change=bones.angle_mean_change[: len(bodily)]
    )
    with_palms = metrics.angle_change(poses, bones) * len(bones.angle_pairs)
    alone = metrics.angle_change(poses, without) * len(bodily)
    palm = with_palms - alone  # what the left palm's pair adds

    vectors = poses.reshape(34, -1, 3) + bones.mean_direction
    one, other = bones.palm_normals[0]
    normal = np.cross(vectors[:, one], vectors[:, other])
    forearm = vectors[:, bones.angle_pairs[-2][0]]
    cosine = (normal * forearm).sum(axis=1)
    cosine /= np.linalg.norm(normal, axis=1) * np.linalg.norm(forearm, axis=1)
    expected = np.abs(np.diff(np.arccos(cosine) / np.pi)) / bones.angle_mean_change[-2]
    assert expected.max() > 0.1
    np.testing.assert_allclose(palm[1:], expected, atol=1e-9)


def test_motion_beats_by_hand() -> None:
    curve = np.full(34, 1.0)
    curve[0] = 0.0
    curve[1] = 0.1  # before the first frame that can be one
    curve[2], curve[3] = 1.0, 1.01
    curve[6] = 0.5
    curve[10] = 0.99  # too shallow
    curve[14:17] = [0.99, 0.98, 1.0]  # shallow on both sides
    curve[19:22] = [1.0, 0.995, 1.03]  # deep on one side
    curve[25:27] = 0.5  # a plateau has no lowest frame
    curve[32] = 0.4  # the last that can be one
    assert np.flatnonzero(metrics.motion_beats(curve)).tolist() == [6, 20, 32]
    curve[1:4] = [1.0, 0.5, 1.0]
    assert np.flatnonzero(metrics.motion_beats(curve))[0] == 2  # the first
    curve[32:] = [1.0, 0.1]
    assert np.flatnonzero(metrics.motion_beats(curve))[-1] == 20  # frame 33 cannot be one


def test_beat_score_by_hand() -> None:
    bones = skeleton("ted_gesture")
    upper, fore = bones.angle_pairs[1]
    speed = np.full(34, 0.09)
    speed[[10, 20]] = 0.0
    angles = 0.2 + np.cumsum(speed) - speed[0]
    directions = np.zeros((1, 34, 9, 3))
    directions[:] = [0.0, 1.0, 0.0]
    directions[:, :, upper] = [1.0, 0.0, 0.0]
    directions[0, :, fore] = np.stack((np.cos(angles), np.sin(angles), 0 * angles), axis=1)
    poses = (directions - bones.mean_direction).reshape(1, 34, -1)
    beats = np.flatnonzero(metrics.motion_beats(metrics.angle_change(poses, bones))[0])
    assert beats.tolist() == [10, 20]
    onsets = np.array([10 / 15, 20 / 15 + 0.05, 5 / 15])
    by_hand = np.exp(-(np.abs(onsets[:, None] - beats / 15).min(axis=1) ** 2) / 0.02).mean()
    found = metrics.beat_scores(np.concatenate((poses, poses)), [onsets, np.zeros(0)], bones)
    assert found[0] == pytest.approx(by_hand)
    assert np.isnan(found[1])  # without an onset
    assert metrics.mean_score(found) == pytest.approx(by_hand)
    still = np.zeros((1, 34, bones.pose_dim))
    assert np.isnan(metrics.beat_scores(still, [onsets], bones)[0])  # without a motion beat
    assert np.isnan(metrics.mean_score(np.array([np.nan])))


def test_onsets_are_where_clicks_are() -> None:
    audio = np.zeros(36267, dtype=np.float32)
    rng = np.random.default_rng(0)
    for time_s in (0.5, 1.2, 1.8):
        start = int(time_s * 16000)
        audio[start : start + 800] = rng.normal(size=800) * np.exp(-np.arange(800) / 150)
    found = metrics.audio_onsets_s(audio)
    gap = np.abs(found[:, None] - np.array([0.5, 1.2, 1.8]))
    assert gap.min(axis=0).max() < 0.03  # every click is found
    assert gap.min(axis=1).max() < 0.06  # and nothing else
    assert len(metrics.audio_onsets_s(np.zeros(36267, dtype=np.float32))) == 0


# --- smoothness


@pytest.mark.parametrize("name", ["ted_expressive", "ted_gesture"])
def test_positions_have_the_bones_lengths(name: str) -> None:
    bones = skeleton(name)
    poses = 0.2 * np.random.default_rng(0).normal(size=(5, bones.pose_dim))
    positions = metrics.positions_m(poses, bones)
    assert positions.shape == (5, bones.joint_count, 3)
    for (parent, child), length in zip(bones.bones, bones.lengths_m, strict=True):
        found = np.linalg.norm(positions[:, child] - positions[:, parent], axis=-1)
        np.testing.assert_allclose(found, length, rtol=1e-6)
    back = bones.to_poses(positions.astype(np.float32))
    again = metrics.positions_m(back, bones)
    np.testing.assert_allclose(again, positions, atol=1e-5)


def test_jerk_of_a_cubic() -> None:
    time_s = np.arange(10) / 15
    positions = np.zeros((10, 4, 3))
    positions[:, 1:, 0] = (0.5 * time_s**3)[:, None]  # third derivative 3
    jerk = metrics.jerk_m_s3(positions)
    assert jerk.shape == (7, 3)
    np.testing.assert_allclose(jerk, 3.0, rtol=1e-9)


def test_wrist_speed() -> None:
    bones = skeleton("ted_expressive")
    positions = np.zeros((6, bones.joint_count, 3))
    positions[:, bones.wrists[0], 1] = 0.2 * np.arange(6) / 15
    positions[:, bones.wrists[1], 2] = 0.4 * np.arange(6) / 15
    np.testing.assert_allclose(metrics.wrist_speed_m_s(positions, bones), 0.3)


def _smooth(frames: int) -> metrics.F64:
    """(frames, 5, 3) of steady circles of many periods: velocity changes evenly."""
    time = np.arange(frames)[:, None] / np.array([3.1, 4.7, 5.3, 7.9, 9.1])
    return np.stack((np.cos(time), np.sin(time), 0 * time), axis=-1)


def test_seam_error_is_one_without_seams_and_large_with() -> None:
    positions = _smooth(304)
    assert metrics.seam_error([positions]) == pytest.approx(1.0, abs=0.01)
    jumps = positions + 0.5 * (np.arange(304) // 30 % 2)[:, None, None]
    assert metrics.seam_error([jumps]) > 2.0
    # The same jumps elsewhere are not seams.
    others = positions + 0.5 * ((np.arange(304) + 15) // 30 % 2)[:, None, None]
    assert metrics.seam_error([others]) < 1.0


@pytest.mark.parametrize("frames", [1, 34])
def test_a_clip_of_one_window_has_no_seam(frames: int) -> None:
    assert np.isnan(metrics.seam_error([_smooth(frames)]))
    assert np.isfinite(metrics.seam_error([_smooth(35)]))
    assert np.isnan(metrics.seam_error([np.zeros((90, 5, 3))]))


def test_clips_count_by_their_frames() -> None:
    still, smooth = np.zeros((304, 5, 3)), _smooth(304)
    assert metrics.seam_error([still, smooth]) == pytest.approx(metrics.seam_error([smooth]))
    assert np.isnan(metrics.seam_error([]))
