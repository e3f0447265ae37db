"""What a network hears of a clean voice: other voices, rooms, microphones, noise, music.

All sound here is float32 mono at 16 kHz. All chance comes from the generator given, so the same
generator gives the same sound.
"""

from __future__ import annotations

import numpy as np
import soxr

from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.filters import at_level, gain
from ha2g_live.training.noise import noise, pink_noise
from ha2g_live.training.non_speech import KINDS, non_speech
from ha2g_live.training.room import band_limit, room

__all__ = [
    "KINDS",
    "band_limit",
    "disturb",
    "noise",
    "non_speech",
    "pink_noise",
    "room",
    "vary_voice",
]

_VARY = 0.06
_ROOM_CHANCE = 0.5
_BAND_CHANCE = 0.6
_MUSIC_CHANCE = 0.2
_LEVEL_DB = (-38.0, -14.0)
_NOISE_DB = (-85.0, -38.0)
_LEAST_OVER_NOISE_DB = 10.0
_MUSIC_BELOW_DB = (8.0, 20.0)


def vary_voice(samples: F32, rng: np.random.Generator) -> F32:
    """Another voice of the same speaker: up to 6 % higher and faster, or lower and slower.

    Changes when things are said: plan the gestures on the result.

    Args:
        samples: (n,) speech.
        rng: source of chance.

    Returns:
        (m,) with m within 6 % of n.
    """
    if not len(samples):
        return np.zeros(0, np.float32)
    factor = float(rng.uniform(1.0 - _VARY, 1.0 + _VARY))
    varied = soxr.resample(samples.astype(np.float32), SAMPLE_RATE_HZ * factor, SAMPLE_RATE_HZ)
    return np.asarray(varied, dtype=np.float32)


def disturb(voice: F32, rng: np.random.Generator) -> F32:
    """What a network hears of a clean voice.

    By chance a room and a microphone's colour; a level of -38 to -14 dB (RMS of the active part);
    noise at -85 to -38 dB but at least 10 dB below the voice; in a fifth of the draws music under
    the voice, 8 to 20 dB below it. What the level makes too loud is clipped.

    Args:
        voice: (n,) speech, or other sound. Silence stays silent but for the noise.
        rng: source of chance.

    Returns:
        (n,) in -1..1, no later than the voice.
    """
    heard = voice.astype(np.float32)
    if rng.random() < _ROOM_CHANCE:
        heard = room(heard, rng)
    if rng.random() < _BAND_CHANCE:
        heard = band_limit(heard, rng)
    level_db = float(rng.uniform(*_LEVEL_DB))
    heard = at_level(heard, gain(level_db))
    if rng.random() < _MUSIC_CHANCE:
        below_db = float(rng.uniform(*_MUSIC_BELOW_DB))
        heard += at_level(non_speech("music", len(heard), rng), gain(level_db - below_db))
    noise_db = min(float(rng.uniform(*_NOISE_DB)), level_db - _LEAST_OVER_NOISE_DB)
    heard += gain(noise_db) * noise(len(heard), rng)
    return np.asarray(np.clip(heard, -1.0, 1.0), dtype=np.float32)
