"""Coloured noise: white, pink, brown and what lies between, at unit RMS."""

from __future__ import annotations

import numpy as np

from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.filters import high_pass, low_pass

_LOWEST_HZ = 20.0


def white_noise(count: int, rng: np.random.Generator) -> F32:
    """(count,) normal noise."""
    return rng.standard_normal(count, dtype=np.float32)


def coloured_noise(count: int, exponent: float, rng: np.random.Generator) -> F32:
    """Noise whose power falls with frequency to the power ``exponent``, down to 20 Hz.

    Args:
        count: samples.
        exponent: 0 is white, 1 pink, 2 brown.
        rng: source of chance.

    Returns:
        (count,) of unit RMS.
    """
    if count == 0:
        return np.zeros(0, np.float32)
    # A power of two is quick to transform whatever the length asked for.
    size = 1 << max(8, (count - 1).bit_length())
    bins = size // 2 + 1
    frequency_hz = np.arange(bins, dtype=np.float32) * (SAMPLE_RATE_HZ / size)
    shape = np.maximum(frequency_hz, _LOWEST_HZ) ** np.float32(-exponent / 2)
    shape[frequency_hz < _LOWEST_HZ] = 0.0
    spectrum = rng.standard_normal((bins, 2), dtype=np.float32).view(np.complex64)[:, 0]
    spectrum *= shape
    return _unit(np.fft.irfft(spectrum, size)[:count].astype(np.float32))


def pink_noise(count: int, rng: np.random.Generator) -> F32:
    """(count,) pink noise of unit RMS."""
    return coloured_noise(count, 1.0, rng)


def noise(count: int, rng: np.random.Generator) -> F32:
    """What a microphone hears when nobody speaks: a draw from many kinds of steady noise.

    White to brown, some of it with its highs or lows cut and with a mains hum. No voices.

    Returns:
        (count,) of unit RMS.
    """
    if count == 0:
        return np.zeros(0, np.float32)
    exponent = float(rng.choice([0.0, 0.5, 1.0, 1.5, 2.0], p=[0.15, 0.15, 0.4, 0.2, 0.1]))
    samples = coloured_noise(count, exponent, rng)
    if rng.random() < 0.4:
        samples = low_pass(samples, float(rng.uniform(1000.0, 7000.0)), 1)
    if rng.random() < 0.3:
        samples = high_pass(samples, float(rng.uniform(50.0, 300.0)), 1)
    if rng.random() < 0.25:
        samples = _unit(samples) + float(rng.uniform(0.1, 0.8)) * mains_hum(count, rng)
    return _unit(samples)


def mains_hum(count: int, rng: np.random.Generator) -> F32:
    """(count,) 50 or 60 Hz with falling harmonics, unit RMS."""
    base_hz = float(rng.choice([50.0, 60.0])) * float(rng.uniform(0.998, 1.002))
    harmonics = np.arange(1, int(rng.integers(4, 16)))
    levels = harmonics ** -rng.uniform(0.4, 1.5) * rng.uniform(0.2, 1.0, len(harmonics))
    # One cycle as a table: a sine for each sample and harmonic would take a second.
    cycle = np.arange(4096) / 4096
    table = (levels[:, None] * np.sin(2 * np.pi * harmonics[:, None] * cycle)).sum(0)
    phase = (np.arange(count) * (base_hz / SAMPLE_RATE_HZ) * 4096).astype(np.int64) & 4095
    return _unit(table.astype(np.float32)[phase])


def _unit(samples: F32) -> F32:
    rms = float(np.sqrt(np.mean(samples**2)))
    return np.asarray(samples / max(rms, 1e-12), dtype=np.float32)
