"""Lips from sound: five visemes 100 times a second, a few hundredths of a second after the voice.

A frame of 25 ms ends every 10 ms. Its spectrum in ``BANDS`` mel bands, less what the room gives off
(per band the softest level of the last seconds) and relative to the speaker's own loudness, goes
with the frames 20, 40 and 60 ms before it through a small network: silence, the five vowels that
avatars know, closed lips (m, b, p), other consonants. What is shown follows in ``RISE_S`` and
``FALL_S``. Nothing looks ahead: half a frame, half a hop and the rise make the delay.

The visemes are those of VRM: aa, ih (as in "see"), ou, ee (as in "bed"), oh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.kernel import entry
from ha2g_live.realtime.rotation import ramp
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]

VISEMES = ("aa", "ih", "ou", "ee", "oh")
CLASSES = ("silence", *VISEMES, "closed", "consonant")
HOP_SAMPLES = 160
WINDOW_SAMPLES = 400
BANDS = 26
BACK_FRAMES = (0, 2, 4, 6)
"""The frames that the network sees, counted back from the newest."""
FEATURES = BANDS * len(BACK_FRAMES)
RISE_S, FALL_S = 0.020, 0.035
_FFT = 512
_BAND_HZ = (100.0, 6500.0)
_HISTORY = max(BACK_FRAMES) + 1
_BUCKET_FRAMES = 150
_BUCKETS = 3
_FLOOR_SHARE = 1.3  # the softest level lies below the mean of the same noise
_LOUD_KEPT = math.exp(-HOP_SAMPLES / SAMPLE_RATE_HZ / 8.0)  # of the loudness, from frame to frame
_ABOVE_ROOM = 16.0
_LEAST_LOUD = 1e-7  # -70 dB: softer than this is nobody
_CONSONANT_OPEN = 0.3
_PITCH_LAGS = (40, 200)  # 400 to 80 Hz
_VOICED = 0.45
_OCTAVE = 0.9
_VOICING = (0.5, 0.75)
"""Height of the autocorrelation's peak of a sound without a voice, and of one with."""
_VOICED_KEPT = math.exp(-HOP_SAMPLES / SAMPLE_RATE_HZ / 0.12)
_PITCH_KEPT = math.exp(-HOP_SAMPLES / SAMPLE_RATE_HZ / 6.0)


@dataclass(frozen=True, slots=True)
class MouthState:
    """What the lips remember.

    Attributes:
        tail: newest samples, less than a window and a hop.
        frames: frames made so far.
        memory: (k,) float64, see ``_memory``.
        history: (7, BANDS) float32 features of the newest frames, the newest first.
        shown: (9,) visemes, openness, speech, how voiced it lately was and now is.
    """

    tail: F32
    frames: int
    memory: F64
    history: F32
    shown: F64


class MouthFrames(NamedTuple):
    """What ``hear`` found; frame ``first + i`` ends with sample ``(first + i + 1) * HOP_SAMPLES``.

    Attributes:
        first: index of the first frame.
        visemes: (n, 5) float32, 0..1.
        open: (n,) float32 how far the mouth is open, 0..1.
        speech: (n,) float32 whether there is a voice, 0..1.
        level: (n,) float32 power against the speaker's loudness, 0..1.
        pitch: (n,) float32 semitones above the speaker's usual; 0 without a voice.
    """

    first: int
    visemes: F32
    open: F32
    speech: F32
    level: F32
    pitch: F32


class Weights(NamedTuple):
    """The network: two layers."""

    inner: F64
    inner_bias: F64
    outer: F64
    outer_bias: F64


_BANDS_AT = 4  # loudness, frames in the bucket, pitch, spare; then smoothed power; then buckets
_MEMORY = _BANDS_AT + BANDS * (1 + _BUCKETS)


def initial_mouth() -> MouthState:
    """The state before the first sample."""
    memory = np.zeros(_MEMORY)
    memory[0] = _LEAST_LOUD
    memory[_BANDS_AT + BANDS :] = 1e-9
    return MouthState(
        tail=np.zeros(WINDOW_SAMPLES - HOP_SAMPLES, dtype=np.float32),
        frames=0,
        memory=memory,
        history=np.full((_HISTORY, BANDS), -4.0, dtype=np.float32),
        shown=np.zeros(len(VISEMES) + 4),
    )


def hear(
    samples: F32, state: MouthState, net: Weights | None = None
) -> tuple[MouthFrames, MouthState]:
    """Lips for (n,) float32 samples at 16 kHz, finite; blocks of any size give the same frames.

    ``net`` is the bundled network when left out.
    """
    power, pitch_power, state = _spectra(samples, state)
    count = len(power)
    features = np.empty((count, FEATURES), dtype=np.float32)
    extra = np.empty((count, 3))
    memory, history, shown = state.memory.copy(), state.history.copy(), state.shown.copy()
    _features(power, pitch_power, memory, history, features, extra)
    out = np.empty((count, len(VISEMES) + 2))
    _lips(features, extra, net or weights(), shown, out)
    frames = MouthFrames(
        first=state.frames,
        visemes=out[:, : len(VISEMES)].astype(np.float32),
        open=out[:, len(VISEMES)].astype(np.float32),
        speech=out[:, len(VISEMES) + 1].astype(np.float32),
        level=extra[:, 0].astype(np.float32),
        pitch=extra[:, 1].astype(np.float32),
    )
    return frames, replace(
        state, frames=state.frames + count, memory=memory, history=history, shown=shown
    )


def features_of(samples: F32) -> F32:
    """(frames, FEATURES) what the network sees of a whole recording; for training."""
    power, pitch_power, state = _spectra(samples, initial_mouth())
    features = np.empty((len(power), FEATURES), dtype=np.float32)
    extra = np.empty((len(power), 3))
    _features(power, pitch_power, state.memory, state.history, features, extra)
    return features


def odds_of(features: F32, net: Weights | None = None) -> F64:
    """(n, classes) what the network takes each frame for."""
    w = net or weights()
    logits = np.tanh(features @ w.inner + w.inner_bias) @ w.outer + w.outer_bias
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


@cache
def weights() -> Weights:
    """The bundled network (``training/visemes.py`` makes it)."""
    source = resources.files("ha2g_live.realtime").joinpath("assets/visemes.npz")
    with source.open("rb") as file, np.load(file) as stored:
        return Weights(*(stored[name].astype(np.float64) for name in Weights._fields))


@cache
def _mel() -> F32:
    """(FFT bins, BANDS) triangular filters, evenly spaced in mel (O'Shaughnessy)."""
    low, high = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in _BAND_HZ)
    edges = 700.0 * (10.0 ** (np.linspace(low, high, BANDS + 2) / 2595.0) - 1.0)
    hz = np.fft.rfftfreq(_FFT, 1.0 / SAMPLE_RATE_HZ)[:, None]
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    filters = np.clip(np.minimum(rising, falling), 0.0, None)
    return np.asarray(filters / filters.sum(axis=0), dtype=np.float32)


_HANN = (
    0.5 - 0.5 * np.cos(2.0 * np.pi * (np.arange(WINDOW_SAMPLES) + 0.5) / WINDOW_SAMPLES)
).astype(np.float32)
_WINDOW_LAGS = np.fft.irfft(np.abs(np.fft.rfft(_HANN, 2 * _FFT)) ** 2)[: _PITCH_LAGS[1] + 1]


def _spectra(samples: F32, state: MouthState) -> tuple[F32, F32, MouthState]:
    """Band powers (n, BANDS), voicing and its lag (n, 2) of the frames that are complete now."""
    sound = np.concatenate((state.tail, samples.astype(np.float32, copy=False)))
    count = max(0, (len(sound) - WINDOW_SAMPLES) // HOP_SAMPLES + 1)
    tail = sound[count * HOP_SAMPLES :].copy()
    if count == 0:
        return (
            np.zeros((0, BANDS), np.float32),
            np.zeros((0, 2), np.float32),
            replace(state, tail=tail),
        )
    windows = np.lib.stride_tricks.sliding_window_view(sound, WINDOW_SAMPLES)
    windows = windows[: count * HOP_SAMPLES : HOP_SAMPLES] * _HANN
    spectrum = np.abs(np.fft.rfft(windows, _FFT)).astype(np.float32) ** 2
    spectrum *= 1.0 / (_HANN @ _HANN)
    power = spectrum @ _mel()
    # Autocorrelation below 1 kHz, divided by that of the window (Boersma, 1993).
    low = spectrum.copy()
    low[:, 32:] = 0.0
    lags = np.fft.irfft(low)[:, : _PITCH_LAGS[1] + 1] / _WINDOW_LAGS
    span = lags[:, _PITCH_LAGS[0] :]
    # Twice the period fits as well: the shortest that nearly does is the voice's.
    near = span >= _OCTAVE * span.max(axis=1, keepdims=True)
    best = _peak_after(span, near.argmax(axis=1))
    voiced = span[np.arange(count), best] / np.maximum(lags[:, 0], 1e-12)
    found = np.stack((voiced, best + _PITCH_LAGS[0]), axis=1).astype(np.float32)
    return power.astype(np.float32), found, replace(state, tail=tail)


def _peak_after(
    span: npt.NDArray[np.floating[Any]], start: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Of each row, the first local maximum from a column on."""
    rising = np.diff(span, axis=1, append=-np.inf) > 0.0
    later = np.arange(span.shape[1]) >= start[:, None]
    return np.asarray((later & ~rising).argmax(axis=1))


@entry
def _features(
    power: F32,
    voicing: F32,
    memory: F64,
    history: F32,
    out: F32,
    extra: F64,
) -> None:
    """Features (n, FEATURES); level, pitch and voicing (n, 3)."""
    for n in range(power.shape[0]):
        total = room = 0.0
        bucket = int(memory[1]) // _BUCKET_FRAMES
        fresh = int(memory[1]) % _BUCKET_FRAMES == 0
        for k in range(_HISTORY - 1, 0, -1):
            for band in range(BANDS):
                history[k, band] = history[k - 1, band]
        for band in range(BANDS):
            value = float(power[n, band])
            at = _BANDS_AT + band
            memory[at] += 0.2 * (value - memory[at])
            # The room: the softest smoothed level of the last buckets of time.
            place = _BANDS_AT + BANDS * (1 + bucket) + band
            memory[place] = memory[at] if fresh else min(memory[place], memory[at])
            floor = memory[place]
            for other in range(_BUCKETS):
                floor = min(floor, memory[_BANDS_AT + BANDS * (1 + other) + band])
            clean = max(value - _FLOOR_SHARE * floor, 0.05 * value)
            total += clean
            room += floor
            history[0, band] = clean
        memory[1] = (memory[1] + 1.0) % (_BUCKETS * _BUCKET_FRAMES)
        # Nobody speaks as softly as the room: its own flicker is not taken for a voice.
        memory[0] = max(total, memory[0] * _LOUD_KEPT, _ABOVE_ROOM * room, _LEAST_LOUD)
        scale = memory[0] / BANDS
        for band in range(BANDS):
            level = math.log10(max(history[0, band] / scale, 1e-4))
            history[0, band] = level
        for k in range(len(BACK_FRAMES)):
            for band in range(BANDS):
                out[n, k * BANDS + band] = history[BACK_FRAMES[k], band]
        extra[n, 0] = min(max(1.0 + math.log10(max(total / memory[0], 1e-9)) / 3.0, 0.0), 1.0)
        extra[n, 2] = voicing[n, 0]
        extra[n, 1] = 0.0
        if voicing[n, 0] > _VOICED and extra[n, 0] > 0.4:
            tone = 12.0 * math.log2(SAMPLE_RATE_HZ / voicing[n, 1] / 100.0)
            if memory[3] == 0.0:
                memory[2], memory[3] = tone, 1.0
            memory[2] = tone + (memory[2] - tone) * _PITCH_KEPT
            extra[n, 1] = min(max(tone - memory[2], -12.0), 12.0)


@entry
def _lips(
    features: F32,
    extra: F64,
    net: Weights,
    shown: F64,
    out: F64,
) -> None:
    """Visemes, openness and speech (n, 7), each following what the network says."""
    hidden = np.empty(net.inner.shape[1])
    odds = np.empty(net.outer.shape[1])
    rise = 1.0 - math.exp(-HOP_SAMPLES / SAMPLE_RATE_HZ / RISE_S)
    fall = 1.0 - math.exp(-HOP_SAMPLES / SAMPLE_RATE_HZ / FALL_S)
    for n in range(features.shape[0]):
        for k in range(hidden.shape[0]):
            total = net.inner_bias[k]
            for f in range(features.shape[1]):
                total += features[n, f] * net.inner[f, k]
            hidden[k] = math.tanh(total)
        top = -1e9
        for c in range(odds.shape[0]):
            total = net.outer_bias[c]
            for k in range(hidden.shape[0]):
                total += hidden[k] * net.outer[k, c]
            odds[c] = total
            top = max(top, total)
        total = 0.0
        for c in range(odds.shape[0]):
            odds[c] = math.exp(odds[c] - top)
            total += odds[c]
        for c in range(odds.shape[0]):
            odds[c] /= total
        # A fan or a hiss has no pitch; what is said has one every tenth of a second or two.
        # By chance noise has one too, but seldom in two frames that follow each other.
        voiced = ramp(min(extra[n, 2], shown[8]), _VOICING[0], _VOICING[1])
        shown[8] = extra[n, 2]
        shown[7] = max(voiced, shown[7] * _VOICED_KEPT)
        strength = (0.35 + 0.65 * extra[n, 0] * extra[n, 0]) * shown[7]
        opened = 0.0
        for v in range(5):
            wanted = strength * odds[1 + v]
            if v == 1:  # a consonant shows the teeth a little
                wanted += strength * _CONSONANT_OPEN * odds[7]
            share = rise if wanted > shown[v] else fall
            shown[v] += share * (wanted - shown[v])
            out[n, v] = shown[v]
            opened += shown[v]
        out[n, 5] = min(opened, 1.0)
        speech = (1.0 - odds[0]) * shown[7]
        shown[6] += (rise if speech > shown[6] else fall) * (speech - shown[6])
        out[n, 6] = shown[6]
        shown[5] = out[n, 5]
