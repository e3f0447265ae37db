"""Rooms and microphones: what stands between a mouth and the network."""

from __future__ import annotations

import numpy as np

from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.filters import (
    convolve,
    gain,
    high_pass,
    low_pass,
    seconds,
    times_s,
)
from ha2g_live.training.noise import white_noise

_RT60_S = (0.1, 0.6)
_DIRECT_OVER_REST_DB = (3.0, 16.0)
_EARLY_S = (0.0015, 0.04)
_LOW_CUT_HZ = (60.0, 300.0)
_HIGH_CUT_HZ = (3000.0, 8000.0)
_TILT_DB = (-5.0, 5.0)
_TILT_FROM_HZ = 1000.0


def room_response(rng: np.random.Generator) -> F32:
    """An impulse response: the direct sound (1 at sample 0), reflections, a tail that decays.

    Decays by 60 dB in 0.1 to 0.6 s. The direct sound has 3 to 16 dB more energy than the rest.
    """
    rt60_s = float(np.exp(rng.uniform(*np.log(_RT60_S))))
    count = seconds(rt60_s)
    time_s = times_s(count)
    decay = 10.0 ** (-3.0 * time_s / rt60_s)
    tail = white_noise(count, rng) * decay * np.clip(time_s / _EARLY_S[1], 0.0, 1.0)
    early = np.zeros(count, np.float32)
    number = int(rng.integers(5, 16))
    arrive_s = np.exp(rng.uniform(np.log(_EARLY_S[0]), np.log(_EARLY_S[1]), number))
    taps = np.minimum((arrive_s * SAMPLE_RATE_HZ).astype(int), count - 1)
    signs = np.where(rng.random(number) < 0.75, 1.0, -1.0)
    np.add.at(early, taps, signs * rng.uniform(0.3, 1.0, number) * (_EARLY_S[0] / arrive_s) ** 0.5)
    # Walls swallow the highs.
    rest = low_pass(early + rng.uniform(0.1, 0.5) * tail, float(rng.uniform(2000.0, 7000.0)), 1)
    rest[0] = 0.0
    energy = float(np.sqrt(np.sum(rest**2)))
    response = rest * (gain(-float(rng.uniform(*_DIRECT_OVER_REST_DB))) / max(energy, 1e-9))
    response[0] = 1.0
    return np.asarray(response, dtype=np.float32)


def room(samples: F32, rng: np.random.Generator) -> F32:
    """A sound as a room returns it.

    Args:
        samples: (n,) 16 kHz mono.
        rng: source of chance.

    Returns:
        (n,) the sound, where it was, with reflections and a tail behind it.
    """
    return convolve(samples, room_response(rng))


def band_limit(samples: F32, rng: np.random.Generator) -> F32:
    """A sound as some microphone hears it: lows and highs cut, gently tilted.

    Args:
        samples: (n,) 16 kHz mono.
        rng: source of chance.

    Returns:
        (n,) delayed by less than a millisecond.
    """
    low_hz = float(np.exp(rng.uniform(*np.log(_LOW_CUT_HZ))))
    high_hz = float(np.exp(rng.uniform(*np.log(_HIGH_CUT_HZ))))
    heard = high_pass(samples, low_hz, int(rng.integers(1, 3)))
    heard = low_pass(heard, high_hz, int(rng.integers(1, 4)))
    tilt = gain(float(rng.uniform(*_TILT_DB))) - 1.0
    return np.asarray(heard + tilt * high_pass(heard, _TILT_FROM_HZ, 1), dtype=np.float32)
