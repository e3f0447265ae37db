"""Deals recordings into streams: who speaks when, in which style, and what is heard besides."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.clips import read_table
from ha2g_live.training.filters import active_rms, add, at_level, gain
from ha2g_live.training.sound import KINDS, disturb, non_speech, vary_voice
from ha2g_live.training.styles import STYLES

STREAM_S = 90.0
HELD_OUT_SPEAKERS = 0.14
"""Share of the speakers that no training stream contains."""

SPLITS = ("train", "unheard", "held_out", "non_speech")
"""Training; speakers never trained on; speakers and clips never trained on; no speech at all."""

_SHARE = {"train": 1.0, "unheard": 0.06, "held_out": 0.06, "non_speech": 0.025}
_SILENT_STREAMS = 0.25  # of the training streams: nobody speaks
_OFTEN = (*KINDS, "music", "keyboard", "laughter", "knocks", "hum_tones")
"""What training hears besides speech: sounds that could be taken for it twice as often."""
_TURN_S = (8.0, 22.0)
_BREAK_S = (0.05, 0.6)  # between two recordings of a turn
_PAUSES_S = ((0.2, 0.7, 2.0), (0.55, 2.0, 7.0), (0.25, 7.0, 16.0))  # chance, shortest, longest
_TEST_PAUSE_S = (2.5, 6.0)
_PAUSE_ABOUT_S = 4.5
_ROUND_S = 60.0
_LONG_PAUSE_S = 2.0
_FILLED = 0.6  # of the long pauses: something else is heard
_FILL_DB = (-14.0, 8.0)  # against the voice


@dataclass(frozen=True, slots=True)
class Recording:
    """A row of ``speech.csv``."""

    path: Path
    speaker: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What one stream is made of; everything else follows from the seed.

    Attributes:
        name: of its file.
        split: one of ``SPLITS``.
        kind: "speech", or what is heard instead (``sound.KINDS``).
        turns: the recordings of each turn, in order, one speaker a turn; none where nobody speaks.
        style: index of the style.
        seed: of all chance in it.
    """

    name: str
    split: str
    kind: str
    turns: tuple[tuple[Path, ...], ...]
    style: int
    seed: int


def held_out_speaker(speaker: str) -> bool:
    """Whether a speaker is kept from training. Depends on the name alone."""
    return zlib.crc32(speaker.encode()) % 10_000 < HELD_OUT_SPEAKERS * 10_000


def read_speech_table(data: Path) -> list[Recording]:
    """The recordings listed in ``speech.csv``.

    Raises:
        Ha2gError: the table is not there.
    """
    return [
        Recording(data / row["file"], row["speaker"], float(row["duration_s"]))
        for row in read_table(data, "speech.csv")
    ]


def plan_streams(
    recordings: Sequence[Recording], hours: float, seed: int
) -> dict[str, list[StreamPlan]]:
    """Deal recordings into streams, for each of ``SPLITS``.

    Args:
        recordings: all there are.
        hours: of training streams; the other splits get their share on top.
        seed: of the dealing and of each stream.
    """
    rng = np.random.default_rng(seed)
    streams: dict[str, list[StreamPlan]] = {}
    for split in SPLITS:
        budget_s = hours * 3600.0 * _SHARE[split]
        if split == "non_speech":
            streams[split] = _silent(split, max(len(KINDS), round(budget_s / STREAM_S)), rng)
            continue
        silent_s = budget_s * _SILENT_STREAMS if split == "train" else 0.0
        pool = [r for r in recordings if held_out_speaker(r.speaker) == (split != "train")]
        spoken = _spoken(split, pool, budget_s - silent_s, rng)
        streams[split] = spoken + _silent(split, round(silent_s / STREAM_S), rng, len(spoken))
    return streams


def _spoken(
    split: str, pool: list[Recording], budget_s: float, rng: np.random.Generator
) -> list[StreamPlan]:
    """Streams of turns; each turn is one speaker's, as long as their recordings last."""
    by_speaker: dict[str, list[Recording]] = {}
    for recording in pool:
        by_speaker.setdefault(recording.speaker, []).append(recording)
    streams: list[StreamPlan] = []
    turns: list[tuple[Path, ...]] = []
    stream_s = filled_s = 0.0
    waiting: list[str] = []
    while by_speaker and filled_s < budget_s:
        waiting = waiting or _round(by_speaker, rng)
        own = by_speaker[waiting.pop()]
        turn, turn_s, until_s = [], 0.0, rng.uniform(*_TURN_S)
        for i in rng.permutation(len(own)):
            if turn_s >= until_s:
                break
            turn.append(own[i].path)
            turn_s += own[i].duration_s
        turns.append(tuple(turn))
        stream_s += turn_s + _PAUSE_ABOUT_S
        if stream_s >= STREAM_S:
            number = len(streams)
            seed = int(rng.integers(2**31))
            name = f"{split}_{number:05d}"
            style = number % len(STYLES)
            streams.append(StreamPlan(name, split, "speech", tuple(turns), style, seed))
            filled_s += stream_s
            turns, stream_s = [], 0.0
    return streams


def _round(by_speaker: dict[str, list[Recording]], rng: np.random.Generator) -> list[str]:
    """Everybody's turns in some order: who has recorded more speaks more often."""
    often = [
        speaker
        for speaker, own in sorted(by_speaker.items())
        for _ in range(max(1, round(sum(r.duration_s for r in own) / _ROUND_S)))
    ]
    return [often[i] for i in rng.permutation(len(often))]


def _silent(split: str, count: int, rng: np.random.Generator, first: int = 0) -> list[StreamPlan]:
    kinds = _OFTEN if split == "train" else KINDS
    return [
        StreamPlan(
            f"{split}_{first + i:05d}",
            split,
            kinds[i % len(kinds)],
            (),
            i % len(STYLES) if split == "train" else 0,
            int(rng.integers(2**31)),
        )
        for i in range(count)
    ]


def make_sound(stream: StreamPlan) -> tuple[F32, F32]:
    """A stream's sound.

    Returns:
        The voice alone, which the planner hears, and the voice in a room, among noise, music,
        typing and laughter, which the network hears: hands do not move to a keyboard.
    """
    rng = np.random.default_rng(stream.seed)
    if stream.kind != "speech":
        count = int(STREAM_S * SAMPLE_RATE_HZ)
        return np.zeros(count, np.float32), disturb(non_speech(stream.kind, count, rng), rng)
    parts = [np.zeros(int(rng.uniform(0.3, 3.0) * SAMPLE_RATE_HZ), np.float32)]
    pauses: list[tuple[int, int]] = []
    for turn in stream.turns:
        for at, path in enumerate(turn):
            samples = vary_voice(_read(path), rng)
            # One speaker's recordings, and speakers, are alike in level, but not quite.
            samples = at_level(samples, gain(-26.0 + float(rng.uniform(-2.0, 2.0))))
            last = at + 1 == len(turn)
            pause_s = _pause_s(stream.split, rng) if last else float(rng.uniform(*_BREAK_S))
            start = sum(map(len, parts)) + len(samples)
            parts += [samples, np.zeros(int(pause_s * SAMPLE_RATE_HZ), np.float32)]
            if pause_s >= _LONG_PAUSE_S:
                pauses.append((start, len(parts[-1])))
    parts.append(np.zeros(int(3.0 * SAMPLE_RATE_HZ), np.float32))
    voice = np.concatenate(parts)
    mixed = voice.copy()
    level = active_rms(voice)
    for start, count in pauses:
        if stream.split == "train" and rng.random() < _FILLED:
            kind = _OFTEN[int(rng.integers(len(_OFTEN)))]
            fill = at_level(non_speech(kind, count, rng), level * gain(rng.uniform(*_FILL_DB)))
            add(mixed, start, fill)
    return voice, disturb(mixed, rng)


def _read(path: Path) -> F32:
    samples, rate = soundfile.read(path, dtype="float32")
    if rate != SAMPLE_RATE_HZ or samples.ndim != 1:
        raise Ha2gError(f"{path} must be 16 kHz mono, is {rate} Hz: resample it")
    return np.asarray(samples, dtype=np.float32)


def _pause_s(split: str, rng: np.random.Generator) -> float:
    if split != "train":
        return float(rng.uniform(*_TEST_PAUSE_S))
    _, low_s, high_s = _PAUSES_S[int(rng.choice(len(_PAUSES_S), p=[p[0] for p in _PAUSES_S]))]
    return float(rng.uniform(low_s, high_s))
