"""What the clean voice of a stream says: voice activity, turns, onsets.

A turn is speech between pauses of at least 1.5 s. Everything is taken at a hop of 10 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g.metrics import audio_onsets_s
from ha2g_live.training.measures import Bools, runs

F64 = npt.NDArray[np.float64]

HOP = 160
HOP_S = HOP / SAMPLE_RATE_HZ
LEVEL_WINDOW_S = 0.025
SPEECH_BELOW_LOUD_DB = 25.0
TURN_PAUSE_S = 1.5


@dataclass(frozen=True, slots=True)
class Heard:
    """A voice, analysed.

    Attributes:
        duration_s: its length.
        speaking: (hops,) voice activity.
        turns_s: (first, end) of each turn.
        onsets_s: acoustic onsets inside speech.
        strength: (hops,) onset strength.
        beats_s: onsets as the published beat consistency takes them.
    """

    duration_s: float
    speaking: Bools
    turns_s: list[tuple[float, float]]
    onsets_s: F64
    strength: F64
    beats_s: F64


def voice_activity(voice: F32) -> Bools:
    """(hops,) whether somebody speaks.

    The RMS of 25 ms is above its 95th percentile minus 25 dB; gaps below 250 ms are closed, then
    bursts below 120 ms dropped.

    Args:
        voice: (n,) float32 at 16 kHz, the clean voice.
    """
    hops = max(1, -(-len(voice) // HOP))
    if not voice.any():
        return np.zeros(hops, dtype=np.bool_)
    window = round(LEVEL_WINDOW_S * SAMPLE_RATE_HZ)
    power = np.concatenate(([0.0], np.cumsum(voice.astype(np.float64) ** 2)))
    centre = np.arange(hops) * HOP
    first = np.clip(centre - window // 2, 0, len(voice))
    end = np.clip(centre + window - window // 2, 0, len(voice))
    rms = np.sqrt(np.maximum(power[end] - power[first], 0.0) / np.maximum(end - first, 1))
    active = rms > np.percentile(rms, 95) * 10.0 ** (-SPEECH_BELOW_LOUD_DB / 20.0)
    for gap, end_gap in runs(~active, 1):
        if gap > 0 and end_gap < hops and (end_gap - gap) * HOP_S < 0.25:
            active[gap:end_gap] = True
    for burst, end_burst in runs(active, 1):
        if (end_burst - burst) * HOP_S < 0.12:
            active[burst:end_burst] = False
    return np.asarray(active)


def turns_of(speaking: Bools) -> list[tuple[float, float]]:
    """(first, end) in seconds of the turns in (hops,) voice activity."""
    turns: list[tuple[float, float]] = []
    for first, end in runs(speaking, 1):
        if turns and first * HOP_S - turns[-1][1] < TURN_PAUSE_S - 1e-9:
            turns[-1] = (turns[-1][0], end * HOP_S)
        else:
            turns.append((first * HOP_S, end * HOP_S))
    return turns


def hear(voice: F32) -> Heard:
    """Analyse a voice once, for many motions.

    Args:
        voice: (n,) float32 at 16 kHz, the clean voice.
    """
    import librosa

    speaking = voice_activity(voice)
    onsets, strength = np.zeros(0), np.zeros(len(speaking))
    if speaking.any():
        found = librosa.onset.onset_strength(y=voice, sr=SAMPLE_RATE_HZ, hop_length=HOP)
        frames = librosa.onset.onset_detect(
            onset_envelope=found, sr=SAMPLE_RATE_HZ, hop_length=HOP, units="frames"
        )
        frames = np.asarray(frames, dtype=np.int64)
        frames = frames[frames < len(speaking)]
        onsets = frames[speaking[frames]] * HOP_S
        strength[: len(found)] = found[: len(strength)]
    return Heard(
        len(voice) / SAMPLE_RATE_HZ,
        speaking,
        turns_of(speaking),
        onsets,
        strength,
        audio_onsets_s(voice),
    )
