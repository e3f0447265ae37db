from __future__ import annotations

import numpy as np
import pytest

from ha2g_live.realtime.resample import StreamResampler, bad_samples, to_mono
from ha2g_live.realtime.types import F32

RATES_HZ = [8_000, 22_050, 44_100, 48_000, 96_000, 192_000]


def tone(hz: float, rate_hz: int, seconds: float = 1.0) -> F32:
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def resample(samples: F32, rate_hz: int, block: int) -> F32:
    resampler = StreamResampler(rate_hz)
    pieces = [resampler.push(samples[i : i + block]) for i in range(0, len(samples), block)]
    return np.concatenate([*pieces, resampler.finish()])


@pytest.mark.parametrize("rate_hz", [16_000, *RATES_HZ])
def test_a_tone_keeps_level_frequency_and_moment(rate_hz: int) -> None:
    out = resample(tone(1000, rate_hz), rate_hz, rate_hz // 100)
    assert out.dtype == np.float32
    assert abs(len(out) - 16_000) <= 1
    # Away from the ends, where the tone begins out of nothing, it is the same tone at 16 kHz.
    middle = slice(2000, 14_000)
    np.testing.assert_allclose(out[middle], tone(1000, 16_000)[middle], atol=5e-4)


@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 192_000])
def test_what_16_khz_cannot_hold_is_removed(rate_hz: int) -> None:
    out = resample(tone(9000, rate_hz), rate_hz, 480)
    assert np.abs(out[2000:14_000]).max() < 0.5 * 10 ** (-90 / 20)


@pytest.mark.parametrize("rate_hz", [16_000, *RATES_HZ])
def test_output_does_not_depend_on_the_block_size(rate_hz: int) -> None:
    noise = np.random.default_rng(2).uniform(-1, 1, rate_hz // 2).astype(np.float32)
    whole = resample(noise, rate_hz, len(noise))
    for block in (1, 37, 240, 4096):
        np.testing.assert_array_equal(resample(noise, rate_hz, block), whole)


def test_the_reported_delay_is_the_time_between_newest_in_and_newest_out() -> None:
    resampler = StreamResampler(48_000)
    samples = tone(1000, 48_000)
    fed = returned = 0
    for start in range(0, len(samples), 480):
        returned += len(resampler.push(samples[start : start + 480]))
        fed += 480
        assert resampler.delay_s == pytest.approx(fed / 48_000 - returned / 16_000)
        assert 0.0 <= resampler.delay_s < 0.05
    returned += len(resampler.finish())
    assert resampler.delay_s == pytest.approx(0.0, abs=1 / 16_000)


def test_16_khz_passes_through_as_a_copy() -> None:
    resampler = StreamResampler(16_000)
    samples = tone(1000, 16_000)
    out = resampler.push(samples)
    np.testing.assert_array_equal(out, samples)
    assert not np.shares_memory(out, samples)
    assert resampler.delay_s == 0.0
    assert len(resampler.finish()) == 0


def test_channels_are_averaged() -> None:
    left, right = tone(1000, 16_000), tone(300, 16_000)
    out = StreamResampler(16_000).push(np.stack((left, right), axis=1))
    np.testing.assert_allclose(out, (left + right) / 2, atol=1e-7)
    np.testing.assert_array_equal(to_mono(left[:, None]), left)
    np.testing.assert_array_equal(to_mono(left), left)


def test_no_sound_is_told_from_sound() -> None:
    samples = np.array([0, 1, -99, np.nan, np.inf, -np.inf, 1e30, 101], dtype=np.float32)
    assert bad_samples(samples).tolist() == [False] * 3 + [True] * 5
