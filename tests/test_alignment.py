"""Hands that follow a voice, hands that do not, and what the alignment says of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.skeleton import MEAN_DIRECTION, bone_index, normalise
from ha2g_live.realtime.types import F32
from ha2g_live.training.alignment import alignment, shift_table, united_peaks_s
from ha2g_live.training.hearing import hear, turns_of, voice_activity

RATE = 16_000
FPS = 60.0
TURNS = ((2.0, 14.0), (19.0, 31.0), (36.0, 48.0))
LENGTH_S = 54.0


def syllables_s(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Times of bursts of sound, 0.4 to 0.9 s apart, within the turns."""
    times: list[float] = []
    for first, end in TURNS:
        at = first
        while at < end:
            times.append(at)
            at += float(rng.uniform(0.4, 0.9))
    return np.array(times)


def voice_of(times_s: npt.NDArray[np.float64], rng: np.random.Generator) -> F32:
    """A hum in the turns, and a burst of noise at each time."""
    voice = np.zeros(round(LENGTH_S * RATE), np.float32)
    for first, end in TURNS:
        span = slice(round(first * RATE), round((end + 0.3) * RATE))
        n = np.arange(span.stop - span.start)
        voice[span] = 0.03 * np.sin(2 * np.pi * 140 * n / RATE)
    for time_s in times_s:
        at = round(time_s * RATE)
        decay = np.exp(-np.arange(3000) / 800)
        voice[at : at + 3000] += (0.3 * decay * rng.standard_normal(3000)).astype(np.float32)
    return voice


def beats_at(times_s: npt.NDArray[np.float64], still: bool = False) -> F32:
    """Forearms that swing to the other side, fastest at each time."""
    clock = np.arange(round(LENGTH_S * FPS)) / FPS
    steps = 0.5 * (1 + np.tanh((clock[:, None] - times_s) / 0.06))
    sign = np.where(np.arange(len(times_s)) % 2, -1.0, 1.0)
    angle = (steps * sign).sum(axis=1) * (0.0 if still else 0.6)
    motion = np.tile(normalise(MEAN_DIRECTION), (len(clock), 1, 1))
    for side in ("left", "right"):
        bone = bone_index(f"{side}_elbow", f"{side}_wrist")
        motion[:, bone] = np.stack((np.sin(angle), 0 * angle, -np.cos(angle)), axis=-1)
    return motion


@pytest.fixture(scope="module")
def spoken() -> tuple[npt.NDArray[np.float64], F32]:
    rng = np.random.default_rng(3)
    times = syllables_s(rng)
    return times, voice_of(times, rng)


def test_turns_and_onsets_of_a_voice(spoken: tuple[npt.NDArray[np.float64], F32]) -> None:
    times, voice = spoken
    heard = hear(voice)
    assert len(heard.turns_s) == len(TURNS)
    for (first, end), (true_first, true_end) in zip(heard.turns_s, TURNS, strict=True):
        assert first == pytest.approx(true_first, abs=0.05)
        assert end == pytest.approx(true_end + 0.3, abs=0.4)
    gap = np.abs(times[:, None] - heard.onsets_s).min(axis=1)
    assert (gap < 0.06).mean() > 0.9


def test_voice_activity_closes_gaps_and_drops_bursts() -> None:
    voice = np.zeros(5 * RATE, np.float32)
    voice[RATE : 2 * RATE] = 0.1
    voice[round(2.2 * RATE) : 3 * RATE] = 0.1  # 200 ms later: the same
    voice[round(4.0 * RATE) : round(4.05 * RATE)] = 0.1  # too short
    speaking = voice_activity(voice)
    assert turns_of(speaking) == [pytest.approx((1.0, 3.0), abs=0.03)]
    assert speaking[100:300].sum() > 195
    assert not voice_activity(np.zeros(RATE, np.float32)).any()


def test_beats_on_onsets_score_at_their_lag(
    spoken: tuple[npt.NDArray[np.float64], F32],
) -> None:
    times, voice = spoken
    heard = hear(voice)
    on_time = alignment([beats_at(times)], [heard], FPS)
    assert on_time["alignment"] > 0.2
    assert on_time["z"] > 4
    assert on_time["best_lag_s"] <= 0.04
    late = alignment([beats_at(times + 0.15)], [heard], FPS)
    assert late["best_lag_s"] == pytest.approx(0.15, abs=0.03)
    assert late["best_alignment"] == pytest.approx(on_time["best_alignment"], abs=0.05)
    assert late["alignment"] < on_time["alignment"]
    assert late["correlation_lag_s"] == pytest.approx(on_time["correlation_lag_s"] + 0.15, abs=0.04)
    assert on_time["correlation"] > on_time["correlation_chance"]


def test_beats_at_random_moments_of_the_turns_score_nothing(
    spoken: tuple[npt.NDArray[np.float64], F32],
) -> None:
    heard = hear(spoken[1])
    rng = np.random.default_rng(1)
    motions = [
        beats_at(np.sort(np.concatenate([rng.uniform(*turn, 18) for turn in TURNS])))
        for _ in range(12)
    ]
    found = alignment(motions, [heard] * len(motions), FPS)
    assert abs(found["alignment"]) < 0.04
    assert abs(found["z"]) < 3
    # They do move when somebody talks, and that is what shifts of the whole recording show.
    assert found["whole_alignment"] > 0.05
    assert found["whole_z"] > 5


def test_a_mean_pose_scores_zero(spoken: tuple[npt.NDArray[np.float64], F32]) -> None:
    times, voice = spoken
    found = alignment([beats_at(times, still=True)], [voice], FPS)
    assert found["score"] == found["alignment"] == found["best_alignment"] == 0.0
    assert found["z"] == 0.0
    assert found["moved_within_250ms"] == 0.0
    assert found["onset_to_movement_s"] == np.inf
    assert np.isnan(found["beat_consistency"])
    assert np.isnan(found["correlation"])


def test_time_to_movement_and_to_rest(spoken: tuple[npt.NDArray[np.float64], F32]) -> None:
    heard = hear(spoken[1])
    times = np.concatenate([np.arange(first, end, 0.45) for first, end in TURNS])
    soon = alignment([beats_at(times + 0.3)], [heard], FPS)
    later = alignment([beats_at(times + 0.8)], [heard], FPS)
    assert later["onset_to_movement_s"] == pytest.approx(
        soon["onset_to_movement_s"] + 0.5, abs=0.05
    )
    assert 0.05 < soon["onset_to_movement_s"] < 0.3  # a swing begins before it is fastest
    assert soon["moved_within_250ms"] > soon["moved_chance"]
    assert later["moved_within_250ms"] == 0.0
    assert soon["starts"] == 3
    slower = alignment([beats_at(times + 1.3)], [heard], FPS)
    assert slower["rest_s"] == pytest.approx(later["rest_s"] + 0.5, abs=0.1)
    assert later["below_25_s"] <= later["below_10_s"] <= later["rest_s"]
    assert later["ends"] == 3


def test_shift_table_is_the_score_of_each_shift_by_hand() -> None:
    rng = np.random.default_rng(0)
    onsets, hands = np.sort(rng.uniform(0, 6, 9)).round(2), np.sort(rng.uniform(0, 6, 5)).round(2)
    table = shift_table(onsets, hands, 6.0)
    assert len(table) == 600
    for shift in (0, 1, 137, 599):
        gap = np.abs(onsets[:, None] - (hands + shift / 100) % 6.0)
        gap = np.minimum(gap, 6.0 - gap).min(axis=1)
        assert table[shift] == pytest.approx(np.exp(-(gap**2) / 0.02).sum(), abs=1e-6)


def test_peaks_of_both_hands_that_are_near_count_once() -> None:
    speed = np.zeros((120, 2))
    speed[30, 0] = speed[32, 1] = speed[60, 1] = speed[63, 0] = 1.0
    assert united_peaks_s(speed) == pytest.approx([1.0, 2.0, 2.1])


def test_as_many_voices_as_motions() -> None:
    with pytest.raises(ConfigError, match="1 motions and 0 voices"):
        alignment([beats_at(np.array([1.0]))], [], FPS)
