"""Pacing: a timetable without drift, and a stream clock without jumps."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from ha2g_live.realtime.pacing import (
    HORIZON_S,
    LAG_COVERED_S,
    MAX_FASTER,
    MAX_SLOWER,
    FineTimer,
    Pacer,
    StreamClock,
    SystemClock,
)
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from tests.fakes import FakeClock


@pytest.mark.parametrize("fps", [24.0, 60.0, 144.0])
def test_an_hour_does_not_drift(fps: float) -> None:
    clock = FakeClock(overshoot_s=0.0004)
    pacer = Pacer(fps, clock)
    for k in range(int(3600 * fps)):
        tick = pacer.wait()
        assert tick.missed == 0
        assert abs(tick.due_s - (1000.0 + k / fps)) < 1e-6
        assert 0.0 <= clock.time_s - tick.due_s < 0.0005


def test_a_stall_is_counted_and_not_made_up_for() -> None:
    clock = FakeClock()
    pacer = Pacer(50.0, clock)
    assert pacer.wait().due_s == 1000.0
    clock.time_s += 0.1095  # turns 1 to 4 pass, turn 5 is 9.5 ms old
    tick = pacer.wait()
    assert tick.missed == 4
    assert clock.time_s == pytest.approx(1000.1095)
    assert tick.due_s == pytest.approx(1000.1)
    after = pacer.wait()
    assert after.missed == 0
    assert clock.time_s == pytest.approx(1000.12)


def test_a_turn_that_is_a_little_late_is_not_missed() -> None:
    clock = FakeClock()
    pacer = Pacer(50.0, clock)
    pacer.wait()
    clock.time_s += 0.035  # turn 1 is late by 15 ms
    tick = pacer.wait()
    assert tick.missed == 0
    assert tick.due_s == pytest.approx(1000.02)
    assert pacer.wait().due_s == pytest.approx(1000.04)


def test_the_system_clock_sleeps_until_the_moment_and_not_less() -> None:
    clock = SystemClock()
    with FineTimer():
        for _ in range(20):
            moment_s = clock.now_s() + 0.002
            clock.sleep_until(moment_s)
            assert clock.now_s() >= moment_s
    before_s = time.perf_counter()
    clock.sleep_until(before_s - 5.0)  # long past: returns


Card = Callable[[float], tuple[int, float]]


def follow(card: Card, seconds: float, clock: StreamClock, start_s: float = 0.0) -> list[float]:
    """Stream times at 60 ticks a second of wall time."""
    times = []
    for k in range(int(seconds * 60)):
        wall_s = start_s + k / 60.0
        times.append(clock.now(wall_s, *card(wall_s)))
    return times


def blocks(rate_hz: float = SAMPLE_RATE_HZ, block: int = 320, jitter_s: float = 0.0) -> Card:
    """A sound card whose clock may run fast or slow, and whose time stamps may jitter."""

    def heard(wall_s: float) -> tuple[int, float]:
        count = int(wall_s * rate_hz) // block
        wobble_s = jitter_s * ((count * 7919) % 101 / 50.0 - 1.0)
        return count * block, count * block / rate_hz + wobble_s

    return heard


def test_stream_time_is_the_time_since_the_start() -> None:
    for k, stream_s in enumerate(follow(blocks(), 5.0, StreamClock())):
        assert stream_s == pytest.approx(k / 60.0, abs=1e-9)


@pytest.mark.parametrize("ppm", [-500.0, 500.0])
def test_a_drifting_card_is_followed_without_a_jump(ppm: float) -> None:
    rate_hz = SAMPLE_RATE_HZ * (1.0 + 1e-6 * ppm)
    times = follow(blocks(rate_hz), 600.0, StreamClock())
    steps = [b - a for a, b in pairwise(times)]
    assert min(steps) > 0.99 / 60.0
    assert max(steps) < 1.01 / 60.0
    # After ten minutes the card is 0.3 s off the wall clock, and stream time went with it.
    assert times[-1] == pytest.approx((600.0 - 1 / 60) * rate_hz / SAMPLE_RATE_HZ, abs=0.003)


def test_jitter_of_time_stamps_is_smoothed() -> None:
    times = follow(blocks(jitter_s=0.01), 60.0, StreamClock())
    steps = [b - a for a, b in pairwise(times[120:])]
    assert min(steps) > 0.98 / 60.0
    assert max(steps) < 1.02 / 60.0


def test_time_waits_for_sound_that_does_not_come_and_goes_on_when_it_does() -> None:
    def stalls(wall_s: float) -> tuple[int, float]:
        """Sound until 2 s, then none until 7 s; the samples in between are lost."""
        stream_s = wall_s if wall_s < 2.0 else max(2.0, wall_s - 5.0)
        captured_s = wall_s if wall_s < 2.0 or wall_s > 7.0 else 2.0
        return int(stream_s * SAMPLE_RATE_HZ), captured_s

    times = follow(stalls, 20.0, StreamClock())
    assert max(times[: 7 * 60]) == pytest.approx(2.0 + HORIZON_S, abs=0.02)
    steps = [b - a for a, b in pairwise(times)]
    assert min(steps) >= 0.0
    assert max(steps) < 1.01 / 60.0
    assert min(steps[7 * 60 + 1 :]) > (1.0 - MAX_SLOWER - 0.01) / 60.0
    assert times[-1] == pytest.approx(20.0 - 1 / 60 - 5.0, abs=0.005)


def test_a_backlog_is_worked_off_at_a_bounded_speed() -> None:
    def jumps(wall_s: float) -> tuple[int, float]:
        return int((wall_s + (3.0 if wall_s > 1.0 else 0.0)) * SAMPLE_RATE_HZ), wall_s

    times = follow(jumps, 12.0, StreamClock())
    steps = [b - a for a, b in pairwise(times)]
    assert max(steps) < (1.0 + MAX_FASTER + 0.01) / 60.0
    assert times[-1] == pytest.approx(15.0 - 1 / 60, abs=0.05)


def test_late_predictions_delay_the_motion_smoothly_and_early_ones_do_not() -> None:
    clock = StreamClock()
    for _ in range(100):
        clock.note_lag(0.9 * LAG_COVERED_S)
    assert clock.delay_s == 0.0
    follow(blocks(), 1.0, clock)
    for _ in range(200):
        clock.note_lag(LAG_COVERED_S + 0.1)
    times = follow(blocks(), 30.0, clock, start_s=1.0)
    assert times[-1] == pytest.approx(31.0 - 1 / 60 - 0.1, abs=0.005)
    steps = [b - a for a, b in pairwise(times)]
    assert min(steps) > (1.0 - MAX_SLOWER - 0.01) / 60.0


def test_one_stall_of_the_model_hardly_delays() -> None:
    clock = StreamClock()
    for _ in range(100):
        clock.note_lag(0.02)
    clock.note_lag(30.0)
    assert clock.delay_s == 0.0
