"""Made-up music: songs of random tempo, key, chords, instruments and parts.

A song is a loop of a few bars, rendered once for each part and played over and over, as much real
music is; parts come and go at the loop's seams and swell inside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.filters import (
    add,
    at_level,
    band_pass,
    faded,
    high_pass,
    low_pass,
    seconds,
    times_s,
)
from ha2g_live.training.noise import white_noise
from ha2g_live.training.room import room

_TABLE = 4096
_HARMONICS = 32
_TEMPO_BPM = (60.0, 170.0)
_SCALES = (
    (0, 2, 4, 5, 7, 9, 11),  # major
    (0, 2, 3, 5, 7, 8, 10),  # minor
    (0, 2, 3, 5, 7, 9, 10),  # dorian
    (0, 2, 4, 5, 7, 9, 10),  # mixolydian
    (0, 3, 5, 6, 7, 10, 12),  # blues
    (0, 2, 4, 7, 9, 12, 14),  # pentatonic
)
_ARRANGEMENTS = (
    ("pad", "chords", "bass", "melody", "drums"),
    ("pad", "bass", "drums"),
    ("chords", "bass", "drums"),
    ("chords", "melody"),
    ("bass", "melody", "drums"),
    ("chords",),
    ("drums",),
    ("melody",),
    ("pad",),
    ("pad", "melody"),
)
_DRUM_PATTERNS = (  # kick, snare, hat on sixteenths
    ("x.......x.......", "....x.......x...", "x.x.x.x.x.x.x.x."),
    ("x...x...x...x...", "....x.......x...", "..x...x...x...x."),
    ("x.....x...x.....", "....x.......x..x", "xxxxxxxxxxxxxxxx"),
    ("x..x..x.x..x..x.", "....x.......x...", "x...x...x...x..."),
    ("x.........x.....", "........x.......", "x..xx..xx..xx..x"),
)


@dataclass(frozen=True, slots=True)
class Instrument:
    """How a note sounds.

    Attributes:
        bright: (harmonics,) levels at its start.
        dark: (harmonics,) levels once the highs have died away.
        attack_s: time to full level.
        bright_s: time constant of the highs' decay.
        decay_s: time constant of the rest; infinity for a sound that is held.
        release_s: time to silence after the note's end.
        vibrato_hz: rate.
        vibrato: depth, share of the frequency.
        detune: the second voice's distance, share of the frequency; 0 for one voice.
    """

    bright: F32
    dark: F32
    attack_s: float
    bright_s: float
    decay_s: float
    release_s: float
    vibrato_hz: float
    vibrato: float
    detune: float


@dataclass(frozen=True, slots=True)
class Score:
    """What a song's parts share.

    Attributes:
        step: samples of a sixteenth.
        steps: sixteenths in the loop.
        swing: share of a step by which every second one comes late.
        key: MIDI note of the scale's first.
        scale: semitones.
        chords: scale degrees, evenly spread over the loop.
    """

    step: float
    steps: int
    swing: float
    key: int
    scale: tuple[int, ...]
    chords: tuple[int, ...]

    def at(self, step: int) -> int:
        """Sample at which a sixteenth begins."""
        return int((step + (self.swing if step % 2 else 0.0)) * self.step)

    def note(self, degree: int) -> int:
        """MIDI note of a scale degree, any octave."""
        octave, index = divmod(degree, len(self.scale))
        return self.key + 12 * octave + self.scale[index]

    def chord_at(self, step: int) -> int:
        """Scale degree of the chord that sounds."""
        return self.chords[step * len(self.chords) // self.steps]


def music(count: int, rng: np.random.Generator) -> F32:
    """(count,) songs of 20 to 100 s, with short gaps between them."""
    track = np.zeros(count, np.float32)
    at = 0
    while at < count:
        length = min(count - at, seconds(float(rng.uniform(20.0, 100.0))))
        add(track, at, song(length, rng))
        at += length + seconds(float(rng.uniform(0.2, 2.5)))
    return track


def song(count: int, rng: np.random.Generator) -> F32:
    """(count,) one song, at one level."""
    tempo_bpm = float(rng.uniform(*_TEMPO_BPM))
    bars = 2 if tempo_bpm < 90.0 else 4
    scale = _SCALES[int(rng.integers(len(_SCALES)))]
    score = Score(
        step=15.0 * SAMPLE_RATE_HZ / tempo_bpm,
        steps=bars * int(rng.choice([12, 16], p=[0.2, 0.8])),
        swing=float(rng.choice([0.0, 0.0, 0.2, 0.33])),
        key=int(rng.integers(45, 57)),
        scale=scale,
        chords=(0, *(int(degree) for degree in rng.integers(0, 7, int(rng.choice([1, 3]))))),
    )
    parts = _ARRANGEMENTS[int(rng.integers(len(_ARRANGEMENTS)))]
    loop = score.at(score.steps)
    repeats = -(-count // loop)
    time_s = times_s(repeats * loop)
    mix = np.zeros(repeats * loop, np.float32)
    for part in parts:
        variants = [_part(part, score, rng) for _ in range(2)]
        played = np.concatenate([variants[int(rng.integers(2))] for _ in range(repeats)])
        # A part is silent for whole loops, but the first in the list plays on.
        plays = (rng.random(repeats) < 0.8) | (part == parts[0])
        levels = plays * rng.uniform(0.7, 1.0, repeats)
        seams = np.repeat(np.arange(repeats), 2) * loop + np.tile([400, loop - 400], repeats)
        envelope = np.interp(np.arange(repeats * loop), seams, np.repeat(levels, 2))
        if part != "drums" and rng.random() < 0.4:
            period_s, depth = rng.uniform(2.0, 12.0), rng.uniform(0.2, 0.45)
            envelope *= 1.0 - depth + depth * np.sin(2 * np.pi * time_s / period_s)
        mix += at_level(played, float(rng.uniform(0.4, 1.0))) * envelope.astype(np.float32)
    mix = mix[:count]
    if rng.random() < 0.4:
        mix = low_pass(mix, float(rng.uniform(2000.0, 7000.0)), 1)
    if rng.random() < 0.4:
        mix = room(mix, rng)
    # As mastering does: the loudest moments are held down.
    mix = np.tanh(at_level(mix, float(rng.uniform(0.1, 0.5))))
    return faded(mix, float(rng.choice([0.01, 0.5, 3.0])), float(rng.choice([0.05, 1.0, 4.0])))


def instrument(rng: np.random.Generator, held: bool) -> Instrument:
    """Draw an instrument: strings, organs and flutes if held, else plucked or struck ones."""
    harmonics = np.arange(1, _HARMONICS + 1)
    levels = harmonics ** -float(rng.uniform(0.8, 2.2)) * rng.uniform(0.3, 1.0, _HARMONICS)
    levels *= 1.0 - harmonics / (_HARMONICS + 1)  # the row ends softly
    if rng.random() < 0.3:
        levels[1::2] *= rng.uniform(0.0, 0.2)  # reeds, square waves
    if rng.random() < 0.2:
        levels[int(rng.integers(2, 5)) :] *= 0.03  # flutes
    dark = levels * np.exp(-harmonics / float(rng.uniform(1.5, 6.0)))
    return Instrument(
        bright=levels.astype(np.float32),
        dark=dark.astype(np.float32),
        attack_s=float(rng.uniform(0.02, 0.4) if held else rng.uniform(0.001, 0.01)),
        bright_s=float(np.inf if held and rng.random() < 0.6 else rng.uniform(0.05, 0.5)),
        decay_s=float(np.inf if held else rng.uniform(0.2, 1.5)),
        release_s=float(rng.uniform(0.05, 0.6)),
        vibrato_hz=float(rng.uniform(4.0, 7.0)),
        vibrato=float(rng.uniform(0.002, 0.012) if rng.random() < 0.5 else 0.0),
        detune=float(rng.uniform(0.001, 0.008) if rng.random() < 0.4 else 0.0),
    )


def tone(player: Instrument, midi: float, duration: int) -> F32:
    """One note of ``duration`` samples and its release, full scale about 1."""
    pitch_hz = 440.0 * 2.0 ** ((midi - 69) / 12)
    release = seconds(player.release_s)
    count = duration + release
    time_s = times_s(count)
    phase = pitch_hz * time_s
    if player.vibrato:
        swing = player.vibrato * pitch_hz / (2 * np.pi * player.vibrato_hz)
        phase += swing * np.sin(2 * np.pi * player.vibrato_hz * time_s)
    highs = np.exp(-time_s / player.bright_s) if np.isfinite(player.bright_s) else 1.0
    bright, dark = _cycle(player.bright, pitch_hz), _cycle(player.dark, pitch_hz)
    index = (phase * _TABLE).astype(np.int32) & (_TABLE - 1)
    note = dark[index] + highs * (bright - dark)[index]
    if player.detune:
        index = (phase * ((1.0 + player.detune) * _TABLE)).astype(np.int32) & (_TABLE - 1)
        note += dark[index] + highs * (bright - dark)[index]
    if np.isfinite(player.decay_s):
        note *= np.exp(-time_s / player.decay_s)
    return faded(note, player.attack_s, player.release_s)


@cache
def _basis() -> F32:
    cycle = np.arange(_TABLE) / _TABLE
    harmonics = np.arange(1, _HARMONICS + 1)[:, None]
    # Phases that spread the harmonics keep the peaks low.
    return np.sin(2 * np.pi * (harmonics * cycle + harmonics**2 * 0.13)).astype(np.float32)


def _cycle(levels: F32, pitch_hz: float) -> F32:
    """One cycle as a table, without the harmonics that would fold back."""
    keep = min(_HARMONICS, max(1, int(7600.0 / pitch_hz)))
    return np.asarray(levels[:keep] @ _basis()[:keep], dtype=np.float32)


def _part(part: str, score: Score, rng: np.random.Generator) -> F32:
    """A part's loop: (samples of the loop,); what rings past its end sounds at its beginning."""
    track = np.zeros(2 * score.at(score.steps), np.float32)
    if part == "drums":
        _drums(track, score, rng)
    elif part == "melody":
        _melody(track, score, rng)
    elif part == "bass":
        _bass(track, score, rng)
    elif part == "pad":
        _chords(track, score, rng, pattern=[_chord_steps(score)], held=True)
    else:
        pattern = ([2], [4], [3, 3, 2], [4, 2, 2], [1])[int(rng.integers(5))]
        _chords(track, score, rng, pattern=pattern, held=bool(rng.random() < 0.2))
    half = len(track) // 2
    return track[:half] + track[half:]


def _chord_steps(score: Score) -> int:
    """Sixteenths that a chord lasts."""
    return max(1, score.steps // len(score.chords))


def _chords(
    track: F32, score: Score, rng: np.random.Generator, pattern: list[int], held: bool
) -> None:
    """Chords struck together, strummed, or broken into single notes."""
    player = instrument(rng, held)
    tones = (0, 2, 4) if rng.random() < 0.6 else (0, 2, 4, 6)
    broken = not held and (pattern == [1] or rng.random() < 0.3)
    strum = 0 if held else int(rng.integers(0, 400))
    octave = int(rng.integers(0, 2)) * 12
    notes: dict[tuple[int, int], F32] = {}
    step, beat = 0, 0
    while step < score.steps:
        length = pattern[beat % len(pattern)]
        chosen = [tones[beat % len(tones)]] if broken else tones
        level = float(rng.uniform(0.6, 1.0))
        for i, degree in enumerate(chosen):
            midi = score.note(score.chord_at(step) + degree) + octave
            if (midi, length) not in notes:
                notes[midi, length] = tone(player, midi, int(length * score.step * 0.95))
            add(track, score.at(step) + i * strum, level * notes[midi, length])
        step += length
        beat += 1


def _bass(track: F32, score: Score, rng: np.random.Generator) -> None:
    """The chord's root, one or two octaves down, in an even or a syncopated pattern."""
    player = instrument(rng, held=bool(rng.random() < 0.3))
    pattern = ([4], [2], [3, 3, 2], [8], [6, 2])[int(rng.integers(5))]
    down = 12 if score.key < 50 else 24
    step, beat = 0, 0
    while step < score.steps:
        length = pattern[beat % len(pattern)]
        fifth = 4 if beat % 4 == 3 and rng.random() < 0.3 else 0
        midi = score.note(score.chord_at(step) + fifth) - down
        add(track, score.at(step), tone(player, midi, int(length * score.step * 0.8)))
        step += length
        beat += 1


def _melody(track: F32, score: Score, rng: np.random.Generator) -> None:
    """A walk over the scale in notes of changing length, with rests."""
    player = instrument(rng, held=bool(rng.random() < 0.6))
    octave = int(rng.integers(0, 3)) * 12
    lengths = rng.choice([1, 2, 2, 3, 4, 4, 6, 8], 6)  # a rhythm that comes back
    rest = float(rng.uniform(0.0, 0.3))
    degree, step, beat = int(rng.integers(0, 7)), 0, 0
    while step < score.steps:
        length = int(lengths[beat % len(lengths)])
        if rng.random() >= rest:
            sound = tone(player, score.note(degree) + octave, int(length * score.step * 0.9))
            add(track, score.at(step), float(rng.uniform(0.5, 1.0)) * sound)
        degree = int(np.clip(degree + rng.integers(-3, 4), -3, 11))
        step += length
        beat += 1


def _drums(track: F32, score: Score, rng: np.random.Generator) -> None:
    """Kick, snare and hat in one of a few patterns, with ghost notes and the odd fill."""
    pattern = _DRUM_PATTERNS[int(rng.integers(len(_DRUM_PATTERNS)))]
    for hit, beats, level in zip(
        (_kick(rng), _snare(rng), _hat(rng)), pattern, (1.0, 0.8, 0.35), strict=True
    ):
        if rng.random() < 0.12:
            continue
        for step in range(score.steps):
            loud = 1.0 if beats[step % 16] == "x" else 0.35 * float(rng.random() < 0.06)
            if loud:
                add(track, score.at(step), level * loud * float(rng.uniform(0.6, 1.0)) * hit)


def _kick(rng: np.random.Generator) -> F32:
    time_s = times_s(seconds(float(rng.uniform(0.15, 0.4))))
    end_hz, sweep_hz, fall_s = rng.uniform(40, 65), rng.uniform(60, 250), rng.uniform(0.015, 0.05)
    phase = end_hz * time_s + sweep_hz * fall_s * (1.0 - np.exp(-time_s / fall_s))
    body = np.sin(2 * np.pi * phase) * np.exp(-time_s / (time_s[-1] / 4))
    return faded(body.astype(np.float32), 0.001, 0.01)


def _snare(rng: np.random.Generator) -> F32:
    time_s = times_s(seconds(float(rng.uniform(0.12, 0.3))))
    rattle = band_pass(white_noise(len(time_s), rng), float(rng.uniform(500, 1800)), 7500.0)
    body = np.sin(2 * np.pi * float(rng.uniform(150, 260)) * time_s) * np.exp(-time_s / 0.04)
    hit = rattle * np.exp(-time_s / (time_s[-1] / 4)) + float(rng.uniform(0.1, 0.8)) * body
    return faded(hit.astype(np.float32), 0.001, 0.01)


def _hat(rng: np.random.Generator) -> F32:
    time_s = times_s(seconds(float(rng.choice([0.05, 0.09, 0.3]))))
    hiss = high_pass(white_noise(len(time_s), rng), float(rng.uniform(3500, 6000)))
    return faded(hiss * np.exp(-time_s / (time_s[-1] / 4)), 0.001, 0.01)
