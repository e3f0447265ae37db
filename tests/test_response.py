"""The response benchmark finds a movement that is there, and none that is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ha2g_live.benchmarks.response import RESPONSE, Figures, onsets, places_of, table
from ha2g_live.benchmarks.response_moved import Quiet, differences, limits, moved_after_ms, moved_at
from ha2g_live.benchmarks.response_run import F64, Bench, Seen
from ha2g_live.benchmarks.response_stages import STAGES, split_ms
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.stats import machine

FPS, FRAMES = 60.0, 120
STATS = {
    "model_delay_ms": 0.0,
    "step": {"p50_ms": 1.0},
    "memory": {"rss_peak_mib": 200.0},
}


def seen(turn_deg: F64, phase_s: float = 0.0, noise_deg: float = 0.0, seed: int = 0) -> Seen:
    """A run in which one joint turns as told, one per frame; the first sample is at second 10."""
    stream_s = phase_s + np.arange(FRAMES) / FPS
    rng = np.random.default_rng(seed)
    angles = np.zeros((FRAMES, 55))
    angles[:, 7] = turn_deg
    angles += noise_deg * rng.standard_normal(angles.shape)
    half = np.radians(angles) / 2.0
    rotations = np.stack((np.sin(half), 0 * half, 0 * half, np.cos(half)), axis=-1)
    received_s = 10.0 + stream_s + 0.004
    heard = (stream_s * 16_000).astype(int)
    trace = {
        "blocks": [(160 * (n + 1), 10.0 + 0.01 * (n + 1), 10.0 + 0.01 * (n + 1) + 2e-4, 0.1)
                   for n in range(200)],
        "answers": [(int(h), 10.0 + h / 16_000 + 0.001) for h in range(0, 32_000, 160)],
        "frames": [(n, int(heard[n]), received_s[n] - 0.001) for n in range(FRAMES)],
    }  # fmt: skip
    return Seen(received_s, stream_s, np.arange(FRAMES), rotations, 10.0, STATS, trace, 1.0)


def ramp(from_frame: int, by_deg: float) -> F64:
    frames: F64 = np.maximum(0.0, np.arange(FRAMES) - from_frame + 1.0) * by_deg
    return frames


def silent_runs(noise_deg: float = 1e-3) -> list[Seen]:
    still = np.zeros(FRAMES)
    return [seen(still, 0.002 * n, noise_deg, seed=10 + n) for n in range(5)]


def test_a_known_turn_is_measured() -> None:
    apart = differences(seen(np.full(FRAMES, 3.0), 0.005), seen(np.zeros(FRAMES)))
    np.testing.assert_allclose(apart[:-1, 7], 3.0, atol=1e-6)
    np.testing.assert_allclose(np.delete(apart, 7, axis=1)[:-1], 0.0, atol=1e-6)
    # What moves alike differs by nothing, though frames fall at other moments.
    both = ramp(0, 0.5)
    apart = differences(seen(both + 0.15, 0.3 / FPS), seen(both))
    assert float(apart[:-1].max()) < 1e-3


def test_the_first_frame_that_moves_is_found() -> None:
    quiet = Quiet(silent_runs())
    run = seen(ramp(70, 0.5), 0.003, 1e-3, seed=3)
    captured_s = 11.15
    apart = quiet.apart(run)
    limit_deg = limits(run, apart, captured_s, quiet.most_deg())
    assert moved_at(run, apart, captured_s, limit_deg) == 70
    expected_ms = 1e3 * (run.received_s[70] - captured_s)
    assert moved_after_ms(run, apart, captured_s, limit_deg) == pytest.approx(expected_ms)
    assert moved_after_ms(run, apart, captured_s, np.maximum(limit_deg, 2.2)) == pytest.approx(
        expected_ms + 4e3 / FPS
    )


def test_silence_is_not_answered() -> None:
    quiet = Quiet(silent_runs())
    run = seen(np.zeros(FRAMES), 0.003, 1e-3, seed=4)
    apart = quiet.apart(run)
    assert moved_at(run, apart, 11.0, limits(run, apart, 11.0, quiet.most_deg())) is None
    chance = quiet.by_chance()
    assert chance["tried"] > 100
    assert chance["answered"] <= 0.05 * chance["tried"]


def test_a_twitch_of_one_frame_is_no_movement() -> None:
    quiet = Quiet(silent_runs())
    twitch = np.zeros(FRAMES)
    twitch[80] = 5.0
    run = seen(twitch, 0.003, 1e-3)
    apart = quiet.apart(run)
    assert moved_at(run, apart, 11.0, limits(run, apart, 11.0, quiet.most_deg())) is None


def test_the_stages_add_up() -> None:
    run, t0 = seen(ramp(70, 0.5)), 17_100
    captured_s = 10.0 + t0 / 16_000
    parts = split_ms(run, captured_s, t0, 70)
    assert parts is not None
    assert len(parts) == len(STAGES)
    assert all(part >= 0.0 for part in parts)
    assert sum(parts) == pytest.approx(1e3 * (run.received_s[70] - captured_s))
    # Its block ends at sample 17 120.
    assert parts[0] == pytest.approx(20 / 16 + 0.2)
    # A frame that moved before anything was heard moved by chance.
    assert split_ms(run, captured_s, t0, 60) is None


def test_the_figures_of_several_onsets() -> None:
    figures = Figures(silent_runs(), recordings=2)
    t0 = 17_100
    for n in range(4):
        run = seen(ramp(70 + 2 * n, 0.5), 0.003, 1e-3, seed=20 + n)
        figures.add(run, 10.0 + t0 / 16_000, t0)
    figures.add(seen(np.zeros(FRAMES), 0.003, 1e-3, seed=30), 10.0 + t0 / 16_000, t0)
    report = figures.report()
    assert (report["onsets"], report["recordings"]) == (5, 2)
    rows = report["milliseconds"]
    assert rows[RESPONSE]["never"] == 1
    assert rows[RESPONSE]["p99"] is None
    assert rows[RESPONSE]["p50"] == pytest.approx(1e3 * (74.42 / FPS + 0.004 - t0 / 16_000), abs=20)
    assert rows[STAGES[0]]["p50"] == pytest.approx(1.4, abs=0.11)
    text = table({"live": report, "machine": machine()})
    assert "| 1 |" in text
    assert all(stage in text for stage in STAGES)


def test_onsets_follow_a_quiet_and_voices_take_turns() -> None:
    rng = np.random.default_rng(0)
    loud = (0.1 * rng.standard_normal(8000)).astype(np.float32)
    pause = np.zeros(8000, dtype=np.float32)
    clip = np.concatenate((pause, loud, pause, loud, loud, loud[:4800]))
    assert onsets(clip) == [8000, 24_000]
    other = np.concatenate((pause, loud, loud))
    assert [at for _, at in places_of([clip, other])] == [8000, 8000, 24_000]
    with pytest.raises(ConfigError, match="no voice sets in anywhere"):
        places_of([pause])


def test_a_real_run_is_split_by_stage(tmp_path: Path) -> None:
    """The program itself, its socket and its trace."""
    voice = read_audio(demo_clip())
    (start, *_) = onsets(voice)
    t0 = 12_345
    run = Bench(tmp_path, None, (), 0.8, 0.5).trial(voice[start:], t0)
    captured_s = run.first_sample_s + t0 / 16_000
    last = len(run.seq) - 2
    parts = split_ms(run, captured_s, t0, last)
    assert parts is not None
    assert all(part >= 0.0 for part in parts)
    assert sum(parts) == pytest.approx(1e3 * (run.received_s[last] - captured_s))
