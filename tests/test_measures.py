"""Motion of known speed, and what is measured of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.rest_poses import rest_pose
from ha2g_live.realtime.retarget import to_directions
from ha2g_live.realtime.skeleton import (
    MEAN_DIRECTION,
    bone_index,
    joint_directions,
    joint_positions,
    normalise,
)
from ha2g_live.realtime.types import F32
from ha2g_live.training.measures import (
    ARM_M,
    arms_and_head,
    episodes,
    measure,
    measures_of,
    peaks,
)
from ha2g_live.training.playback import at_fps

F64 = npt.NDArray[np.float64]


def sinusoid(amplitudes_m: tuple[float, float], hz: float, seconds: float, fps: float) -> F64:
    """(frames, 2, 3) wrists that swing up and down."""
    wave = np.sin(2 * np.pi * hz * np.arange(round(seconds * fps)) / fps)
    wrists = np.zeros((len(wave), 2, 3))
    wrists[:, :, 1] = np.array(amplitudes_m) * wave[:, None] - 0.3
    return wrists


@pytest.mark.parametrize("fps", [30.0, 60.0, 120.0])
def test_a_sinusoid_has_the_speed_peaks_and_jerk_of_its_formula(fps: float) -> None:
    wrists = sinusoid((0.1, 0.05), hz=1.0, seconds=60, fps=fps)
    found = measure(wrists, None, fps)
    top = np.array([0.1, 0.05]) * 2 * np.pi  # of its speed; the mean of |cos| is 2 / pi
    assert found.speed_mean == pytest.approx(top * 2 / np.pi, rel=0.02)
    assert found.speed_p95 == pytest.approx(top * np.sin(np.radians(90 * 0.95)), rel=0.02)
    assert found.path_m_per_min == pytest.approx((24.0, 12.0), rel=0.02)
    assert found.peaks_per_min == pytest.approx((120, 120), abs=2)
    assert found.speed_correlation == pytest.approx(1.0, abs=1e-3)
    assert found.two_handed == (1.0, 1.0)
    assert found.alone_share == 0.0
    assert (found.height_p5, found.height_p95) == pytest.approx((-0.4, -0.2), abs=0.01)
    assert found.jerk_mean == pytest.approx(0.075 * (2 * np.pi) ** 3 * 2 / np.pi, rel=0.03)
    assert found.minutes == pytest.approx(1.0, abs=0.01)
    assert np.isnan(found.head_p50)


def test_the_filter_takes_out_what_is_faster_than_a_hand() -> None:
    slow = sinusoid((0.1, 0.1), hz=1.0, seconds=20, fps=60)
    shaking = slow + sinusoid((0.01, 0.01), hz=25.0, seconds=20, fps=60)
    assert measure(shaking, None, 60.0).jerk_mean == pytest.approx(
        measure(slow, None, 60.0).jerk_mean, rel=0.1
    )


def test_one_hand_alone() -> None:
    found = measure(sinusoid((0.2, 0.0), hz=0.8, seconds=30, fps=30), None, 30.0)
    assert found.two_handed[0] == 0.0
    assert np.isnan(found.two_handed[1])
    assert found.alone_share == 1.0
    assert found.still_share[1] == 1.0
    assert np.isnan(found.speed_correlation)


def test_episodes_are_long_enough_and_close_ones_are_one() -> None:
    speed = np.zeros(200)
    speed[10:14] = 1.0  # four frames are not one
    speed[30:40] = speed[48:60] = 0.5  # eight frames apart
    speed[69:80] = 0.5  # nine frames apart
    assert episodes(speed) == [(30, 60), (69, 80)]


def test_a_peak_needs_height_and_prominence() -> None:
    speed = np.zeros(100)
    speed[20], speed[40] = 0.24, 0.26
    speed[60:66], speed[66:70], speed[70:80] = 1.0, 0.9, 0.95
    assert list(peaks(speed)) == [40, 62]  # the dip of the plateau is too shallow
    speed[66:70] = 0.7
    assert len(peaks(speed)) == 3


def test_nothing_crosses_from_one_stream_into_the_next() -> None:
    rest = np.tile(normalise(MEAN_DIRECTION), (60, 1, 1))
    raised = rest.copy()
    raised[:, bone_index("left_elbow", "left_wrist")] = (0.0, -1.0, 0.0)
    apart = measures_of([rest, raised], 30.0)
    assert apart["speed_mean_left"] == pytest.approx(0.0, abs=1e-6)
    assert apart["peaks_per_min_left"] == 0.0
    together = measures_of([np.concatenate((rest, raised))], 30.0)
    assert together["speed_mean_left"] > 0.05


def test_arms_are_those_of_the_people_and_up_is_up() -> None:
    hanging = np.tile(normalise(MEAN_DIRECTION), (2, 1, 1))
    for side in ("left", "right"):
        for bone in ((f"{side}_shoulder", f"{side}_elbow"), (f"{side}_elbow", f"{side}_wrist")):
            hanging[:, bone_index(*bone)] = (0.0, 1.0, 0.0)
    wrists, _ = arms_and_head(hanging)
    assert wrists[:, :, 1] == pytest.approx(-ARM_M, abs=0.03)  # shoulders differ in height
    assert (wrists[:, 0, 0] > 0).all()  # left is +x
    assert (wrists[:, 1, 0] < 0).all()


def turning_head(deg_s: float, seconds: float, fps: float, pose: F32 = MEAN_DIRECTION) -> F32:
    """The mean pose turning as a whole about the vertical."""
    angle = np.radians(deg_s) * np.arange(round(seconds * fps)) / fps
    turn = np.zeros((len(angle), 3, 3))
    turn[:, 0, 0], turn[:, 0, 2] = np.cos(angle), np.sin(angle)
    turn[:, 2, 0], turn[:, 2, 2] = -np.sin(angle), np.cos(angle)
    turn[:, 1, 1] = 1.0
    joints = joint_positions(normalise(pose))
    return joint_directions(np.einsum("fij,kj->fki", turn, joints).astype(np.float32))


@pytest.mark.parametrize("fps", [30.0, 60.0])
def test_the_head_turns_as_fast_as_it_does(fps: float) -> None:
    found = measures_of([turning_head(30.0, 6.0, fps)], fps)
    assert found["head_p50"] == pytest.approx(30.0, rel=0.01)


def test_true_poses_are_shown_by_the_live_curve() -> None:
    # A pose of people: the curve runs through joint rotations, and a mean of poses is none.
    poses = turning_head(12.0, 4.0, 15.0, to_directions(rest_pose("front")))
    shown = at_fps(poses, 60.0)
    assert len(shown) == 4 * len(poses)
    # So slow a turn is not cut short; past the last pose it coasts.
    assert shown[:-4:4] == pytest.approx(poses[:-1], abs=2e-3)
    between = normalise(poses[4:20] + poses[5:21])
    assert shown[18:82:4] == pytest.approx(between, abs=5e-3)
    assert measures_of([shown], 60.0)["head_p50"] == pytest.approx(12.0, rel=0.02)


def test_what_cannot_be_measured_is_said() -> None:
    still = np.tile(normalise(MEAN_DIRECTION), (100, 1, 1))
    with pytest.raises(ConfigError, match="15 frames a second cannot be filtered"):
        measures_of([still], 15.0)
    with pytest.raises(ConfigError, match="too few"):
        measures_of([still[:5]], 30.0)
    with pytest.raises(ConfigError, match="no motion"):
        measures_of([], 30.0)
    with pytest.raises(ConfigError, match="0 poses"):
        at_fps(still[:0], 30.0)
