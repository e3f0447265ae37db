"""The life layer: always on, never the same, never a jump, and the feet stay where they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ha2g_live.realtime.humanoid import BONE_COUNT, BONE_INDEX, HIPS_REST_M, REST_OFFSETS_M
from ha2g_live.realtime.life import (
    LISTEN_AFTER_S,
    LISTEN_IN_S,
    LISTEN_OUT_S,
    Attention,
    Life,
    apply_life,
    attend,
    life_at,
)
from ha2g_live.realtime.reach import Arm, reached
from ha2g_live.realtime.rest_poses import rest_pose
from ha2g_live.realtime.shaping import PART_BONES, moving_bones
from ha2g_live.realtime.types import F32
from tests.test_avatar import places

ALL = np.ones(BONE_COUNT, dtype=np.bool_)
LISTENING = Attention(now_s=0.0, listening=1.0)
UPRIGHT = np.zeros((BONE_COUNT, 4), np.float32)
UPRIGHT[:, 3] = 1.0


def lives(seconds: float, fps: float, seed: int = 5, attention: Attention = LISTENING,
          amount: float = 1.0, start_s: float = 0.0) -> list[Life]:  # fmt: skip
    times = start_s + np.arange(round(seconds * fps)) / fps
    return [life_at(t, seed, attention, amount, REST_OFFSETS_M) for t in times]


def turns(found: list[Life]) -> F32:
    return np.stack([life.turns for life in found])


def angles_deg(found: list[Life], bone: str) -> Any:
    q = turns(found)[:, BONE_INDEX[bone]]
    return np.degrees(2.0 * np.arcsin(np.clip(q[:, :3], -1.0, 1.0)))


def test_the_same_seed_and_moment_are_the_same_at_any_frame_rate() -> None:
    slow, fast = lives(5.0, 24.0), lives(5.0, 144.0)
    for a, b in zip(slow, fast[::6], strict=True):
        np.testing.assert_allclose(a.turns, b.turns, atol=1e-6)
        assert a.blink == pytest.approx(b.blink, abs=1e-9)
    assert not np.allclose(turns(lives(5.0, 24.0, seed=6)), turns(slow), atol=1e-3)


def test_it_goes_on_for_hours_and_before_zero() -> None:
    for start_s in (-3.0, 20 * 3600.0):
        found = turns(lives(2.0, 30.0, start_s=start_s))
        assert np.isfinite(found).all()
        assert np.abs(np.diff(found, axis=0)).max() > 1e-4


@pytest.mark.parametrize(
    ("bone", "least_deg", "most_deg"),
    [("Head", 1.0, 12.0), ("UpperChest", 0.5, 3.0), ("Spine", 0.5, 6.0), ("Hips", 1.0, 5.0),
     ("LeftShoulder", 0.4, 3.0), ("RightIndexProximal", 0.5, 5.0), ("LeftEye", 5.0, 26.0)],
)  # fmt: skip
def test_every_part_moves_and_none_too_far(bone: str, least_deg: float, most_deg: float) -> None:
    found = np.abs(angles_deg(lives(300.0, 15.0), bone)).max()
    assert least_deg < found < most_deg


def test_the_feet_stay_planted_on_long_and_short_legs() -> None:
    for thigh, shin in ((1.0, 1.0), (0.7, 1.2), (1.3, 0.9)):
        offsets = REST_OFFSETS_M.copy()
        for side in ("Left", "Right"):
            offsets[BONE_INDEX[f"{side}LowerLeg"]] *= thigh
            offsets[BONE_INDEX[f"{side}Foot"]] *= shin
        feet, hips = [], []
        for t in np.arange(0.0, 90.0, 0.1):
            life = life_at(t, 3, LISTENING, 1.0, offsets)
            joints = places(offsets, apply_life(UPRIGHT, life, ALL))
            shift = life.hips_m
            hips.append(shift)
            feet.append([joints[BONE_INDEX[f]] + shift for f in ("LeftFoot", "RightFoot")])
        assert np.ptp(np.array(hips), axis=0)[0] > 0.03  # the weight did shift
        assert np.ptp(np.array(feet), axis=0).max() < 0.002


def test_the_head_stays_about_while_the_hips_shift() -> None:
    head, hips = [], []
    for life in lives(120.0, 10.0):
        joints = places(REST_OFFSETS_M, apply_life(UPRIGHT, life, ALL))
        head.append(joints[BONE_INDEX["Head"]] + life.hips_m)
        hips.append(life.hips_m)
    assert np.ptp(np.array(head)[:, 0]) < 0.6 * np.ptp(np.array(hips)[:, 0])


def test_hands_at_rest_are_moved_little() -> None:
    """Breathing and sway must not drag the arms: under the chest's own frame they stay."""
    hands = []
    pose = rest_pose("front")
    for life in lives(120.0, 10.0):
        joints = places(REST_OFFSETS_M, apply_life(pose, life, ALL))
        hands.append(joints[BONE_INDEX["LeftHand"]] - joints[BONE_INDEX["UpperChest"]])
    assert np.linalg.norm(np.std(hands, axis=0)) < 0.012


def test_nothing_comes_back_noticeably() -> None:
    """Over 20 minutes no channel but breathing is like itself some time later."""
    found = lives(1200.0, 5.0)
    series = {
        "hips": np.array([life.hips_m[0] for life in found]),
        "head yaw": angles_deg(found, "Head")[:, 1],
        "head pitch": angles_deg(found, "Head")[:, 0],
        "finger": angles_deg(found, "LeftIndexProximal")[:, 2],
    }
    for name, channel in series.items():
        values = channel - channel.mean()
        spectrum = np.abs(np.fft.rfft(values, 2 * len(values))) ** 2
        likeness = np.fft.irfft(spectrum)[: len(values)]
        overlap = np.arange(len(values), 0, -1)
        likeness = likeness / overlap / (likeness[0] / len(values))
        later = likeness[10 * 5 : 600 * 5]
        assert np.abs(later).max() < 0.5, name


def test_breaths_are_as_many_as_people_take() -> None:
    chest = angles_deg(lives(600.0, 10.0), "UpperChest")[:, 0]
    chest = chest - np.convolve(chest, np.ones(60) / 60, "same")
    rises = np.flatnonzero((chest[:-1] < -0.15) & (chest[1:] >= -0.15))
    assert 12.0 * 10 < len(rises) < 18.0 * 10


def test_blinks_are_as_many_as_people_make_and_as_quick() -> None:
    closed = np.array([life.blink for life in lives(600.0, 60.0)])
    starts = np.flatnonzero((closed[:-1] < 0.5) & (closed[1:] >= 0.5))
    ends = np.flatnonzero((closed[:-1] >= 0.5) & (closed[1:] < 0.5))
    assert 10.0 * 10 < len(starts) < 22.0 * 10
    assert 0.05 < np.median(ends - starts) / 60.0 < 0.25
    gaps = np.diff(starts) / 60.0
    assert gaps.std() > 0.8  # irregular


def test_neither_place_nor_speed_steps() -> None:
    """But for eyes and lids, halving the time between frames halves the change of speed."""
    quick = [*PART_BONES["face"], BONE_INDEX["LeftEye"], BONE_INDEX["RightEye"]]
    keep = [bone for bone in range(BONE_COUNT) if bone not in quick]

    def changes(fps: float) -> float:
        speed = np.diff(turns(lives(40.0, fps))[:, keep].astype(np.float64), axis=0) * fps
        return float(np.abs(np.diff(speed, axis=0)).max())

    assert changes(240.0) < 0.65 * changes(120.0)


def test_the_eyes_hold_their_target_while_the_head_moves() -> None:
    """Without a glance head and eyes cancel out: the avatar looks into the camera."""
    found = lives(200.0, 15.0)
    still = np.array([life.gaze_rad == (0.0, 0.0) for life in found])
    eyes = angles_deg(found, "LeftEye")[:, 1]
    neck, head = angles_deg(found, "Neck")[:, 1], angles_deg(found, "Head")[:, 1]
    settled = still & (np.convolve(still, np.ones(21), "same") > 20)
    hips = angles_deg(found, "Hips")[:, 1] + angles_deg(found, "Spine")[:, 1]
    hips += angles_deg(found, "Chest")[:, 1]
    assert settled.sum() > 100
    assert np.abs((eyes + neck + head + hips)[settled]).max() < 1.0
    assert 0.1 < (~still).mean() < 0.6  # and now and then it looks away


def test_amount_scales_and_zero_is_nothing() -> None:
    half = np.abs(angles_deg(lives(60.0, 10.0, amount=0.5), "Spine")).max()
    whole = np.abs(angles_deg(lives(60.0, 10.0), "Spine")).max()
    assert half == pytest.approx(0.5 * whole, rel=0.1)
    for life in lives(5.0, 10.0, amount=0.0):
        np.testing.assert_array_equal(life.turns, UPRIGHT)
        assert not life.hips_m.any()
        assert life.blink == 0.0


@pytest.mark.parametrize("part", list(PART_BONES))
def test_nothing_moves_in_a_part_that_is_switched_off(part: str) -> None:
    bones = moving_bones(tuple(name for name in PART_BONES if name != part))
    pose = np.array(rest_pose("front"))
    for life in lives(3.0, 5.0):
        moved = apply_life(pose, life, bones)
        np.testing.assert_array_equal(moved[~bones], pose[~bones])


def run_attention(said: list[tuple[float, bool]], fps: float) -> tuple[Any, Any]:
    """Listening and the voice's lift over stretches of (seconds, speaking)."""
    state, now_s = Attention(), 0.0
    listening, lift = [], []
    for seconds, speaking in said:
        for _ in range(round(seconds * fps)):
            state = attend(state, now_s, speaking, 0.8 if speaking else 0.0)
            listening.append(state.listening)
            lift.append(state.lift)
            now_s += 1.0 / fps
    return np.array(listening), np.array(lift)


@pytest.mark.parametrize("fps", [24.0, 60.0, 144.0])
def test_listening_comes_after_a_silence_and_goes_when_the_person_speaks(fps: float) -> None:
    silence_s = LISTEN_AFTER_S + LISTEN_IN_S + 0.2
    listening, lift = run_attention([(2.0, True), (silence_s, False), (1.0, True)], fps)

    def at(seconds: float) -> float:
        return float(listening[min(round(seconds * fps), len(listening) - 1)])

    assert at(2.0 + LISTEN_AFTER_S - 0.2) == 0.0
    assert 0.2 < at(2.0 + LISTEN_AFTER_S + LISTEN_IN_S / 2) < 0.8
    assert at(2.0 + silence_s - 0.1) == 1.0
    assert at(2.0 + silence_s + LISTEN_OUT_S + 0.1) == 0.0
    assert lift[round(1.5 * fps)] == pytest.approx(0.8, abs=0.02)
    assert lift[round((2.0 + silence_s - 0.2) * fps)] < 0.01


def test_a_listener_nods() -> None:
    attentive = np.abs(angles_deg(lives(60.0, 30.0), "Head")[:, 0]).max()
    speaker = lives(60.0, 30.0, attention=Attention(now_s=0.0))
    assert attentive > np.abs(angles_deg(speaker, "Head")[:, 0]).max() + 1.0


def test_the_head_goes_with_the_voice() -> None:
    quiet = lives(1.0, 30.0, attention=Attention(now_s=0.0))
    loud = lives(1.0, 30.0, attention=Attention(now_s=0.0, lift=1.0))
    nod = (angles_deg(loud, "Head") + angles_deg(loud, "Neck"))[:, 0]
    still = (angles_deg(quiet, "Head") + angles_deg(quiet, "Neck"))[:, 0]
    assert (nod - still).mean() > 2.0


def test_a_bone_of_no_length_is_left_alone() -> None:
    offsets = REST_OFFSETS_M.copy()
    offsets[BONE_INDEX["LeftLowerLeg"]] = 0.0
    life = life_at(1.0, 0, LISTENING, 1.0, offsets)
    assert np.isfinite(life.turns).all()


def test_a_wrist_out_of_reach_comes_as_near_as_it_can() -> None:
    arm = Arm((0.0, 0.0, 0.0), (0.3, 0.0, 0.0), (0.3, 0.25, 0.0), (0.0, 0.0, 1.0), 0.3, 0.25)
    far = reached(arm, (2.0, 0.0, 0.0), 0.0)
    assert 0.54 < far.wrist[0] < 0.55
    near = reached(arm, (0.0, 0.0, 0.0), 0.0)
    assert math.hypot(*near.wrist) > 0.1
    assert HIPS_REST_M[1] > 0.0
