"""Streaming log-mel features whose scale the future cannot change.

The spectrogram is the one of HA2G (section 4.1; librosa's defaults): 16 kHz, 128 Slaney mel bands,
Hann window of 1024, hop 512, centred frames. HA2G measures decibels against the loudest moment of
the whole clip, which a live system cannot know. Here the reference is a level that follows the
speaker: it rises within a second towards louder speech, sinks over about ten seconds towards
softer speech, and holds while nobody speaks, so that a room's noise is never pulled up to the
level of a voice. What counts as speech for it is anything well above the noise floor, which is
followed too: it falls at once, rises slowly, and jumps to any sound that stays level for a second
or two, which a fan does and a voice does not.

Column ``k`` is centred on sample ``512 k`` and complete after sample ``512 (k + 1)``. Every column
is computed by the same operations on the same numbers however the samples were cut into blocks,
so the result is the same bit for bit.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.kernel import entry
from ha2g_live.realtime.timebase import FFT_SAMPLES, HOP_SAMPLES, MEL_BANDS, SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

DYNAMIC_RANGE_DB = 80.0
"""Bands quieter than the reference by more than this read as silence (HA2G's floor)."""

_SILENCE_POWER = 1e-10
_MEL_HEADROOM_DB = 36.0
"""A mel band of loud speech stands about this far above the signal's RMS level."""

_START_LEVEL_DB = -26.0
_MIN_LEVEL_DB = -50.0
_MAX_LEVEL_DB = -8.0
_RISE = 0.05  # per column: time constant 0.6 s
_SINK = 0.0032  # per column: time constant 10 s
_START_NOISE_DB = -66.0
_NOISE_FALL = 0.3  # per column: the floor is found within a tenth of a second
_NOISE_RISE_DB = 0.02  # per column: 0.6 dB a second
_MIN_NOISE_DB = -70.0  # digital silence must not make the faintest hiss look like a voice
_SWING_SHARE = 0.05  # per column: time constant 0.6 s
_START_SWING_DB = 10.0
_STEADY_SWING_DB = 1.5  # speech swings by 6 dB and more
_STEADY_RISE = 0.2
_SPEECH_OVER_NOISE_DB = 12.0
_NOISE_BELOW_REFERENCE_DB = 22.0  # in a loud room the room, not the speaker, sets the scale
_SPEECH_MIN_DB = -58.0


@dataclass(frozen=True, slots=True)
class LogMelState:
    """Everything the features remember of a stream.

    Attributes:
        tail: the samples that the next column still needs, fewer than 1024.
        level_db: level of the speaker, RMS dB of full scale.
        noise_db: level of the room.
        mean_db: level of everything, over the last half second or so.
        swing_db: how far the level strays from that.
    """

    tail: F32
    level_db: float = _START_LEVEL_DB
    noise_db: float = _START_NOISE_DB
    mean_db: float = _START_NOISE_DB
    swing_db: float = _START_SWING_DB


def initial_log_mel() -> LogMelState:
    """The state before the first sample: half a window of silence, as centred frames have it."""
    return LogMelState(tail=np.zeros(FFT_SAMPLES - HOP_SAMPLES, dtype=np.float32))


def log_mel(samples: F32, state: LogMelState) -> tuple[F32, LogMelState]:
    """Feed samples, get the columns they complete.

    Args:
        samples: (n,) float32 mono at 16 kHz, finite, any length.
        state: what the call before returned, or ``initial_log_mel()``.

    Returns:
        (columns, 128) float32 and the new state. 1 is the speaker's level, -1 is silence.

    Raises:
        ValueError: a sample is not a finite number.
    """
    if not np.isfinite(samples).all():
        raise ValueError("audio samples must be finite numbers, found NaN or infinity")
    pending = np.concatenate((state.tail, samples.astype(np.float32, copy=False)))
    count = max(0, (len(pending) - FFT_SAMPLES) // HOP_SAMPLES + 1)
    columns = np.empty((count, MEL_BANDS), dtype=np.float32)
    levels = state
    for k in range(count):
        frame = pending[k * HOP_SAMPLES : k * HOP_SAMPLES + FFT_SAMPLES]
        levels = _follow(frame, levels)
        columns[k] = _column(frame, _reference_db(levels))
    return columns, replace(levels, tail=pending[count * HOP_SAMPLES :].copy())


def newest_columns(samples: F32, state: LogMelState) -> F32:
    """The columns that end with the last sample, wherever that falls; the levels stay as they are.

    Args:
        samples: (1024 + 512 (n - 1),) the newest samples.
        state: after those samples.

    Returns:
        (n, 128) as ``log_mel`` scales them.
    """
    count = (len(samples) - FFT_SAMPLES) // HOP_SAMPLES + 1
    reference_db = _reference_db(state)
    starts = range(0, count * HOP_SAMPLES, HOP_SAMPLES)
    return np.stack([_column(samples[at : at + FFT_SAMPLES], reference_db) for at in starts])


def over_noise_db(samples: F32, state: LogMelState) -> float:
    """How far the RMS level of (n,) samples stands above that of the room."""
    power = float(np.dot(samples, samples)) / len(samples)
    return 10.0 * math.log10(power + _SILENCE_POWER) - state.noise_db


def decibels(columns: F32) -> F32:
    """Columns as ``log_mel`` scales them to dB in -80..0, HA2G's own scale; louder is cut off."""
    relative = (columns - 1.0) * (DYNAMIC_RANGE_DB / 2)
    return np.asarray(np.clip(relative, -DYNAMIC_RANGE_DB, 0.0), dtype=np.float32)


def silent_columns(count: int) -> F32:
    """(count, 128) columns of digital silence, for the time before a stream began."""
    return np.full((count, MEL_BANDS), -1.0, dtype=np.float32)


def _reference_db(state: LogMelState) -> float:
    return max(state.level_db, state.noise_db + _NOISE_BELOW_REFERENCE_DB)


def _follow(frame: F32, state: LogMelState) -> LogMelState:
    """Move the speaker's level and the noise floor by one column."""
    power = float(np.dot(frame, frame)) / FFT_SAMPLES
    now_db = 10.0 * math.log10(power + _SILENCE_POWER)
    mean_db = state.mean_db + _SWING_SHARE * (now_db - state.mean_db)
    swing_db = state.swing_db + _SWING_SHARE * (abs(now_db - mean_db) - state.swing_db)
    level_db, noise_db = state.level_db, state.noise_db
    if now_db < noise_db:
        noise_db = max(noise_db + _NOISE_FALL * (now_db - noise_db), _MIN_NOISE_DB)
    elif swing_db < _STEADY_SWING_DB:
        noise_db += _STEADY_RISE * (now_db - noise_db)
    else:
        noise_db += _NOISE_RISE_DB
    if now_db > max(noise_db + _SPEECH_OVER_NOISE_DB, _SPEECH_MIN_DB):
        level_db += (_RISE if now_db > level_db else _SINK) * (now_db - level_db)
        level_db = min(max(level_db, _MIN_LEVEL_DB), _MAX_LEVEL_DB)
    return replace(state, level_db=level_db, noise_db=noise_db, mean_db=mean_db, swing_db=swing_db)


def _column(frame: F32, reference_db: float) -> F32:
    window, _ = mel_tables()
    first, length, weights = _bands()
    out = np.empty(MEL_BANDS, dtype=np.float32)
    _scaled_bands(np.fft.rfft(frame * window), first, length, weights, reference_db, out)
    return out


@functools.cache
def _bands() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The filters without their zeros: first bin and length of each, and all weights in a row."""
    rows = [np.flatnonzero(row) for row in mel_filters()]
    weights = np.concatenate([row[bins] for row, bins in zip(mel_filters(), rows, strict=True)])
    first = np.array([bins[0] if len(bins) else 0 for bins in rows])
    return first, np.array([len(bins) for bins in rows]), weights


@entry
def _scaled_bands(
    spectrum: npt.NDArray[np.complex128],
    first: npt.NDArray[np.int64],
    length: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    reference_db: float,
    out: F32,
) -> None:
    """Bands of a spectrum in dB against the reference, scaled to -1 at the floor, into (128,)."""
    at = 0
    for band in range(len(first)):
        power = 0.0
        for k in range(length[band]):
            value = spectrum[first[band] + k]
            power += weights[at + k] * (value.real * value.real + value.imag * value.imag)
        at += length[band]
        mel_db = 10.0 * math.log10(power + _SILENCE_POWER)
        relative = mel_db - (reference_db + _MEL_HEADROOM_DB)
        relative = min(max(relative, -DYNAMIC_RANGE_DB), DYNAMIC_RANGE_DB / 4)
        out[band] = relative * (2.0 / DYNAMIC_RANGE_DB) + 1.0


@functools.cache
def mel_tables() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What turns samples into mel bands: the Hann window (1024,) and the mel filters (128, 513)."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(FFT_SAMPLES) / FFT_SAMPLES)
    return window, mel_filters()


def mel_filters() -> npt.NDArray[np.float64]:
    """(128, 513) triangular filters of equal area on the Slaney mel scale, 0 to 8 kHz.

    The scale is linear below 1 kHz (200/3 Hz a mel) and logarithmic above (27 mels an octave and
    a bit: a factor of 6.4 in 27 mels), as in Slaney's Auditory Toolbox.
    """
    nyquist_hz = SAMPLE_RATE_HZ / 2
    edges_hz = _mel_to_hz(np.linspace(0.0, _hz_to_mel(nyquist_hz), MEL_BANDS + 2))
    bins_hz = np.linspace(0.0, nyquist_hz, FFT_SAMPLES // 2 + 1)
    lower, centre, upper = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising = (bins_hz - lower) / (centre - lower)
    falling = (upper - bins_hz) / (upper - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters: npt.NDArray[np.float64] = triangles * 2.0 / (upper - lower)
    return filters


_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27.0


def _hz_to_mel(frequency_hz: float) -> float:
    if frequency_hz < _LOG_START_HZ:
        return frequency_hz / _LINEAR_HZ_PER_MEL
    return _LOG_START_MEL + math.log(frequency_hz / _LOG_START_HZ) / _LOG_STEP


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(
        mel < _LOG_START_MEL,
        mel * _LINEAR_HZ_PER_MEL,
        _LOG_START_HZ * np.exp(_LOG_STEP * (mel - _LOG_START_MEL)),
    )
