"""Prosody, units, planner and chain: movements follow the voice, and one grows out of another."""

from __future__ import annotations

import numpy as np
import pytest

from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.skeleton import MEAN_DIRECTION, joint_positions, normalise
from ha2g_live.realtime.types import F32
from ha2g_live.training import lexicon
from ha2g_live.training.catalogue import Catalogue, load_catalogue
from ha2g_live.training.chain import ARM_BONES, Event, pitch, poses, roll, yaw
from ha2g_live.training.clips import F64, Clip
from ha2g_live.training.planner import BEGIN_LAG_S, LEAD_S, SILENCE_BEFORE_REST_S, events, plan
from ha2g_live.training.prosody import Prosody, analyse
from ha2g_live.training.styles import STYLES, Style
from ha2g_live.training.units import TAPS, WRISTS, share, units_of, wrist_speed_m_s
from tests.small_data import write_data

BY_NAME = {style.name: style for style in STYLES}


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return load_catalogue(write_data(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def speech() -> F32:
    silence = np.zeros(4 * 16_000, np.float32)
    return np.concatenate((silence, read_audio(demo_clip()), silence))


@pytest.fixture(scope="module")
def prosody(speech: F32) -> Prosody:
    return analyse(speech)


def test_prosody_of_real_speech(prosody: Prosody, speech: F32) -> None:
    assert 3.9 < prosody.phrases[0][0] < 5.0
    assert prosody.phrases[-1][1] < len(speech) / 16_000 - 3.9
    assert len(prosody.phrases) >= 3  # he pauses often
    assert 8 <= len(prosody.peaks) <= 30
    assert 20 <= len(prosody.onsets) <= 70
    for peak in (*prosody.peaks, *prosody.onsets):
        assert any(start - 0.1 <= peak.time_s <= end + 0.1 for start, end in prosody.phrases)
    spoken = prosody.level_db[500:1200]
    assert np.std(spoken) > 1.0
    assert not prosody.level_db[:350].any()
    assert np.abs(prosody.level_db).max() <= 12.0


def test_prosody_of_silence() -> None:
    silent = analyse(np.zeros(32_000, np.float32))
    assert silent.phrases == ()
    assert silent.onsets == ()


def test_a_pitch_reset_is_found() -> None:
    times_s = np.arange(4 * 16_000) / 16_000
    hz = np.where(times_s < 2.0, 180.0 - 30.0 * times_s, 200.0)
    tone = sum(np.sin(2 * np.pi * k * np.cumsum(hz) / 16_000) / k for k in range(1, 6))
    samples = (0.1 * tone * (1.0 + 0.3 * np.sin(2 * np.pi * 4 * times_s))).astype(np.float32)
    resets = analyse(samples).resets
    assert len(resets) == 1
    assert resets[0] == pytest.approx(2.0, abs=0.3)


def test_units_cut_a_clip_at_its_slow_moments() -> None:
    """Up, a stroke, back: two movements that count, the second following the first."""
    times_s = np.arange(91) / 30.0
    way = np.interp(times_s, (0, 0.3, 0.8, 1.2, 1.6, 2.2, 2.7, 3), (0, 0, 1, 1, 1.6, 1.6, 0, 0))
    smooth = np.convolve(np.pad(way, 4, mode="edge"), np.hanning(11)[1:-1] / 5.0, "valid")
    directions = np.tile(normalise(MEAN_DIRECTION), (91, 1, 1))
    directions[:, ARM_BONES["left"]] = pitch(
        np.tile(np.array([0.0, 1.0, 0.0], np.float32), (91, len(ARM_BONES["left"]), 1)), smooth
    )
    clip = Clip("set_BeatMidLf01", "beatmid", "left", 30.0, directions)
    first, second = units_of(clip)
    assert first.raises
    assert not second.raises
    assert first.follows == second.name == "set_BeatMidLf01/1"
    assert first.start_s < 0.55 == pytest.approx(first.peak_s, abs=0.1)
    assert second.peak_s == pytest.approx(1.4, abs=0.1)
    assert first.end_s <= first.hold_s <= second.start_s + 1e-6
    assert second.hold_s < 2.5  # before it goes back


def test_a_clip_that_does_not_move_has_no_units() -> None:
    still = np.tile(normalise(MEAN_DIRECTION), (60, 1, 1))
    assert units_of(Clip("set_BeatMidLf01", "beatmid", "left", 30.0, still)) == []


def test_catalogue_takes_what_belongs_in_talk(catalogue: Catalogue) -> None:
    names = set(catalogue.names)
    assert len(names) == len(catalogue.names)
    assert all(name.startswith("idle:") for name in catalogue.names[: catalogue.idle_count])
    assert catalogue.units[catalogue.idle_count : catalogue.first_gesture] == TAPS
    gestures = [n.split("/")[0] for n in catalogue.names[catalogue.first_gesture :]]
    assert all(lexicon.left_out(n.removesuffix(":mirror")) is None for n in gestures)
    assert all(lexicon.kind_of(n.removesuffix(":mirror")) for n in gestures)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_odds_are_the_styles(style: Style, catalogue: Catalogue) -> None:
    odds = catalogue.odds(style)
    assert odds.sum() == pytest.approx(1.0)
    assert not odds[: catalogue.first_gesture].any()
    both = np.array([unit.hands == "both" for unit in catalogue.units])
    if (odds[both] > 0).any() and (odds[~both] > 0).any():
        assert odds[both].sum() == pytest.approx(style.both)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_hands_follow_the_voice(
    style: Style, catalogue: Catalogue, prosody: Prosody, speech: F32
) -> None:
    frames = len(speech) * 15 // 16_000
    planned = plan(prosody, frames, style, catalogue, seed=1)
    speed = wrist_speed_m_s(planned.directions, 15.0).mean(axis=1)
    spoken = speed[4 * 15 : -4 * 15]
    assert spoken.mean() > 3 * speed[15 : 4 * 15 - 5].mean()  # still before the first word
    assert spoken.mean() > 3 * speed[-15:].mean()  # and three seconds after the last
    assert np.linalg.norm(planned.directions, axis=-1) == pytest.approx(1.0, abs=1e-4)
    begins = planned.age == 0
    assert planned.choice[0] < catalogue.idle_count
    assert np.all(np.diff(planned.choice)[~begins[1:]] == 0)
    assert np.all(planned.age[~begins] == planned.age[np.flatnonzero(~begins) - 1] + 1)


def test_movements_begin_with_onsets_that_were_heard(
    catalogue: Catalogue, prosody: Prosody, speech: F32
) -> None:
    frames = len(speech) * 15 // 16_000
    made = events(prosody, frames, BY_NAME["lively"], catalogue, np.random.default_rng(0))
    heard_s = [o.time_s - LEAD_S for o in prosody.onsets]
    heard_s += [start_s + BEGIN_LAG_S for start_s, _ in prosody.phrases]
    moving = [event for event in made if not event.rests]
    assert len(moving) > 8
    for event in moving:
        assert any(0.0 <= event.frame / 15 - t < 0.07 for t in heard_s)
    frames_of = [event.frame for event in made]
    assert frames_of == sorted(set(frames_of))
    last_s = prosody.phrases[-1][1]
    back = next(e for e in made if e.rests and e.frame / 15 > last_s)
    assert 0.0 <= back.frame / 15 - last_s - SILENCE_BEFORE_REST_S < 0.07


def test_a_plan_looks_back_only(catalogue: Catalogue, prosody: Prosody, speech: F32) -> None:
    """What comes after a moment changes no pose before it."""
    cut_s = prosody.phrases[2][1] + 0.05
    level = np.array(prosody.level_db)
    level[round(cut_s * 100) :] = 0.0
    early = Prosody(
        tuple(p for p in prosody.phrases if p[0] < cut_s),
        tuple(p for p in prosody.peaks if p.time_s < cut_s),
        tuple(p for p in prosody.onsets if p.time_s < cut_s),
        tuple(t for t in prosody.resets if t < cut_s),
        level,
    )
    frames = len(speech) * 15 // 16_000
    one = plan(prosody, frames, BY_NAME["natural"], catalogue, seed=4)
    other = plan(early, frames, BY_NAME["natural"], catalogue, seed=4)
    until = int(cut_s * 15)
    np.testing.assert_array_equal(one.choice[:until], other.choice[:until])
    np.testing.assert_allclose(one.directions[:until], other.directions[:until], atol=1e-6)


def _chain(catalogue: Catalogue, starts: tuple[int, ...], style: Style) -> F32:
    raising = [
        i
        for i, unit in enumerate(catalogue.units)
        if i >= catalogue.first_gesture and unit.hands == "both"
    ]
    made = [Event(0, 0, catalogue.units[0])]
    made += [Event(f, raising[0], catalogue.units[raising[0]]) for f in starts]
    level: F64 = np.zeros(60 * 4)
    return poses(made, 60, style, catalogue.rest, catalogue.rest, level)


def test_nothing_moves_before_its_event_and_nothing_jumps(catalogue: Catalogue) -> None:
    style = BY_NAME["natural"]
    still, moved = _chain(catalogue, (), style), _chain(catalogue, (20,), style)
    np.testing.assert_allclose(moved[:20], still[:20], atol=1e-6)
    assert np.abs(moved[20] - still[20]).max() < 0.01  # smoothed over 50 ms
    assert np.abs(moved[22:26] - still[22:26]).max() > 0.1
    wrists = joint_positions(_chain(catalogue, (20, 27, 34), style))[:, WRISTS]
    step_m = np.linalg.norm(np.diff(wrists, axis=0), axis=-1)
    assert step_m.max() < 0.25  # 3.7 m/s: brisk, but no jump
    assert np.linalg.norm(np.diff(wrists, 2, axis=0), axis=-1).max() < 0.15


def test_size_makes_larger_movements(catalogue: Catalogue) -> None:
    def way_m(style: Style) -> float:
        wrists = joint_positions(_chain(catalogue, (20,), style))[:, WRISTS]
        return float(np.linalg.norm(wrists[30] - wrists[19], axis=-1).max())

    assert way_m(BY_NAME["shy"]) < 0.8 * way_m(BY_NAME["natural"])


def test_the_second_hand_follows_as_far_as_the_style_says(catalogue: Catalogue) -> None:
    one_sided = next(
        i
        for i, unit in enumerate(catalogue.units)
        if i >= catalogue.first_gesture and unit.hands == "right"
    )

    def ways_m(style: Style) -> tuple[float, float]:
        made = [Event(0, 0, catalogue.units[0]), Event(20, one_sided, catalogue.units[one_sided])]
        level: F64 = np.zeros(240)
        found = poses(made, 60, style, catalogue.rest, catalogue.rest, level)
        wrists = joint_positions(found)[:, WRISTS]
        way = np.linalg.norm(wrists[20:32] - wrists[19], axis=-1).max(axis=0)
        return float(way[0]), float(way[1])

    left, right = ways_m(BY_NAME["natural"])
    assert 0.3 * right < left < 1.3 * right
    left, right = ways_m(BY_NAME["one_handed"])
    assert left < 0.35 * right


def test_turns_go_the_way_their_names_say() -> None:
    forward = np.tile(np.array([[0.0, 0.0, -1.0]], np.float32), (1, 1, 1))
    up = np.tile(np.array([[0.0, -1.0, 0.0]], np.float32), (1, 1, 1))
    angle: F64 = np.array([0.3])
    assert pitch(forward, angle)[0, 0, 1] < -0.2  # y is down
    assert yaw(forward, angle)[0, 0, 0] > 0.2  # x is to the person's left
    assert roll(up, angle)[0, 0, 0] > 0.2


def test_what_a_unit_always_does_hangs_on_its_name() -> None:
    found = [share(f"unit{i}", "lean") for i in range(200)]
    assert share("unit3", "lean") == found[3]
    assert share("unit3", "nod") != found[3]
    assert 0.4 < float(np.mean(found)) < 0.6
    assert 0.0 <= min(found) < 0.05
    assert 0.95 < max(found) <= 1.0
