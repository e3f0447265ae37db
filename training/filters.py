"""Filters and levels for made-up sound: 16 kHz mono float32 in, the same length out.

All filters are causal and add less than a millisecond, so that what was said when stays true.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.errors import MissingExtra
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

try:
    from scipy import signal
except ImportError as error:
    raise MissingExtra("making sound for a corpus", "scipy", "train") from error

_FRAME = SAMPLE_RATE_HZ // 50
_ACTIVE_RANGE_DB = 30.0  # below the loudest frames counts as a gap
_HIGHEST_HZ = 0.49 * SAMPLE_RATE_HZ


def low_pass(samples: F32, cutoff_hz: float, order: int = 2) -> F32:
    """Butterworth low-pass."""
    return _butterworth(samples, min(cutoff_hz, _HIGHEST_HZ), order, "lowpass")


def high_pass(samples: F32, cutoff_hz: float, order: int = 2) -> F32:
    """Butterworth high-pass."""
    return _butterworth(samples, cutoff_hz, order, "highpass")


def band_pass(samples: F32, low_hz: float, high_hz: float, order: int = 2) -> F32:
    """Butterworth high-pass and low-pass in a row."""
    return low_pass(high_pass(samples, low_hz, order), high_hz, order)


def _butterworth(samples: F32, cutoff_hz: float | Sequence[float], order: int, kind: str) -> F32:
    sections = signal.butter(order, cutoff_hz, kind, fs=SAMPLE_RATE_HZ, output="sos")
    return np.asarray(signal.sosfilt(sections.astype(np.float32), samples), dtype=np.float32)


def resonances(samples: F32, centres_hz: Sequence[float], widths_hz: Sequence[float]) -> F32:
    """Resonators in cascade, each of unit gain at 0 Hz, as a vocal tract has them (Klatt 1980).

    Args:
        samples: (n,) what excites them.
        centres_hz: formant frequencies, below 8 kHz.
        widths_hz: their bandwidths.
    """
    radius = np.exp(-np.pi * np.asarray(widths_hz) / SAMPLE_RATE_HZ)
    b = 2.0 * radius * np.cos(2.0 * np.pi * np.asarray(centres_hz) / SAMPLE_RATE_HZ)
    c = -(radius**2)
    zero = np.zeros_like(b)
    sections = np.stack((1.0 - b - c, zero, zero, zero + 1.0, -b, -c), axis=1)
    return np.asarray(signal.sosfilt(sections, samples), dtype=np.float32)


def convolve(samples: F32, response: F32) -> F32:
    """A sound through an impulse response, cut to the sound's own length."""
    if not len(samples) or not len(response):
        return np.zeros(len(samples), np.float32)
    full = signal.oaconvolve(samples, response)
    return np.asarray(full[: len(samples)], dtype=np.float32)


def active_rms(samples: F32) -> float:
    """RMS of the frames (20 ms) within 30 dB of the loudest ones; 0 for silence."""
    frames = len(samples) // _FRAME
    if frames == 0:
        return float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0
    power = np.mean(samples[: frames * _FRAME].reshape(frames, _FRAME) ** 2, axis=1)
    least = max(1e-12, float(np.quantile(power, 0.98)) * 10 ** (-_ACTIVE_RANGE_DB / 10))
    active = power[power >= least]
    return float(np.sqrt(np.mean(active))) if len(active) else 0.0


def at_level(samples: F32, rms: float) -> F32:
    """The sound with ``rms`` as the RMS of its active part. Silence stays silence."""
    now = active_rms(samples)
    return np.asarray(samples * (rms / now), dtype=np.float32) if now > 0.0 else samples.copy()


def gain(decibels: float) -> float:
    """Factor on amplitude."""
    return float(10.0 ** (decibels / 20.0))


def seconds(duration_s: float) -> int:
    """Samples of a duration, at least one."""
    return max(1, int(duration_s * SAMPLE_RATE_HZ))


def times_s(count: int) -> npt.NDArray[np.float32]:
    """(count,) the time of each sample."""
    return np.asarray(np.arange(count) / SAMPLE_RATE_HZ, dtype=np.float32)


def faded(samples: F32, in_s: float, out_s: float) -> F32:
    """The sound with raised-cosine ends."""
    result = samples.astype(np.float32)
    rise = min(seconds(in_s), len(samples))
    fall = min(seconds(out_s), len(samples))
    result[:rise] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(rise, dtype=np.float32) / rise)
    if fall:
        result[-fall:] *= 0.5 + 0.5 * np.cos(
            np.pi * np.arange(1, fall + 1, dtype=np.float32) / fall
        )
    return np.asarray(result, dtype=np.float32)


def add(track: F32, at: int, piece: F32) -> None:
    """Add a piece to a track in place; what lies past its end is dropped."""
    if at < len(track):
        end = min(len(track), at + len(piece))
        track[at:end] += piece[: end - at]
