"""The two log-mel spectrograms of a whole clip, in dB from -80 to 0.

``clip_decibels`` is the published one: decibels below the loudest moment of the clip, which only
the clip's future tells. ``stream_decibels`` is what a live stream sees of the same sound.
"""

from __future__ import annotations

import numpy as np

from ha2g_live.realtime.features import (
    DYNAMIC_RANGE_DB,
    decibels,
    initial_log_mel,
    log_mel,
    mel_tables,
)
from ha2g_live.realtime.timebase import FFT_SAMPLES, HOP_SAMPLES
from ha2g_live.realtime.types import F32

SILENCE_DB = -DYNAMIC_RANGE_DB
_LEAST_POWER = 1e-10
_COLUMNS_AT_ONCE = 2048


def column_count(samples: int) -> int:
    """Columns of a clip: one centred on every 512th sample."""
    return 1 + samples // HOP_SAMPLES


def clip_decibels(audio: F32) -> F32:
    """Mel power spectrogram relative to the clip's own maximum (HA2G, section 4.1).

    Equals librosa's ``power_to_db(melspectrogram(...), ref=max)`` with its default settings, except
    that digital silence is -80 and not 0.

    Args:
        audio: (samples,) float32 mono at 16 kHz.

    Returns:
        (128, columns) float32 in -80..0.
    """
    half = FFT_SAMPLES // 2
    columns = column_count(len(audio))
    padded = np.pad(audio.astype(np.float32, copy=False), (half, half + HOP_SAMPLES))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SAMPLES)[::HOP_SAMPLES][:columns]
    window, bank = mel_tables()
    mel = np.empty((len(bank), columns), dtype=np.float64)
    for first in range(0, columns, _COLUMNS_AT_ONCE):  # an hour of spectrum would fill the memory
        part = slice(first, first + _COLUMNS_AT_ONCE)
        mel[:, part] = bank @ (np.abs(np.fft.rfft(frames[part] * window, axis=-1)) ** 2).T
    loudest = mel.max()
    if loudest <= _LEAST_POWER:
        return np.full(mel.shape, SILENCE_DB, dtype=np.float32)
    relative = 10.0 * np.log10(np.maximum(mel, _LEAST_POWER) / loudest)
    return np.asarray(np.maximum(relative, SILENCE_DB), dtype=np.float32)


def stream_decibels(audio: F32, columns: int) -> F32:
    """What a live stream that begins with this sound sees, in the published scale.

    Args:
        audio: (samples,) float32 mono at 16 kHz, finite.
        columns: how many are wanted; silence follows the sound.

    Returns:
        (128, columns) float32 in -80..0; the speaker's own level is 0.
    """
    heard = np.zeros(columns * HOP_SAMPLES, dtype=np.float32)
    heard[: len(audio)] = audio[: len(heard)]
    scaled, _ = log_mel(heard, initial_log_mel())
    return decibels(scaled.T)
