"""Sounds that are not speech, made up from chance: the hands have to lie still while they last."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.filters import (
    add,
    at_level,
    band_pass,
    convolve,
    faded,
    gain,
    high_pass,
    low_pass,
    seconds,
    times_s,
)
from ha2g_live.training.human_sounds import breathing, laughter
from ha2g_live.training.music import instrument, music, tone
from ha2g_live.training.noise import coloured_noise, mains_hum, pink_noise, white_noise
from ha2g_live.training.room import room

KINDS = (
    "music",
    "keyboard",
    "breathing",
    "laughter",
    "fan",
    "knocks",
    "hum_tones",
    "silence",
)
LEVEL_RMS = 0.05


def non_speech(kind: str, count: int, rng: np.random.Generator) -> F32:
    """A sound without speech, with natural gaps.

    Args:
        kind: one of ``KINDS``.
        count: samples at 16 kHz.
        rng: source of chance; the same one gives the same sound.

    Returns:
        (count,) in -1..1, whose active part has RMS 0.05 (clicks may lose their peaks); zeros for
        "silence".

    Raises:
        ConfigError: there is no such kind.
    """
    make = _MAKERS.get(kind)
    if make is None:
        raise ConfigError(f"no sound is called {kind!r}: choose one of {', '.join(KINDS)}")
    if count <= 0:
        return np.zeros(0, np.float32)
    return np.clip(at_level(make(count, rng), LEVEL_RMS), -1.0, 1.0)


def keyboard(count: int, rng: np.random.Generator) -> F32:
    """(count,) typing in bursts and single keys, soft to loud, with a mouse now and then."""
    keys = [_click(rng, body_hz=float(rng.uniform(250, 900))) for _ in range(6)]
    keys.append(_click(rng, body_hz=float(rng.uniform(120, 300))) * 1.6)  # the space bar
    mouse = [_click(rng, body_hz=float(rng.uniform(1200, 3000))) for _ in range(2)]
    ticks = [np.zeros(count, np.float32) for _ in (*keys, *mouse)]
    release = float(rng.uniform(0.1, 0.6))

    def press(at: int, which: int, level: float, held_s: float) -> None:
        for moment, loud in ((at, level), (at + seconds(held_s), level * release)):
            if moment < count:
                ticks[which][moment] += loud

    at = seconds(float(rng.uniform(0.0, 0.4)))
    while at < count:
        chance, loud = rng.random(), gain(float(rng.uniform(-14.0, 0.0)))
        if chance < 0.2:  # the mouse: one click, two, or a row from its wheel
            number = int(rng.choice([1, 2, 8], p=[0.5, 0.3, 0.2]))
            for _ in range(number):
                which = len(keys) + int(rng.integers(len(mouse)))
                press(at, which, 0.7 * loud, float(rng.uniform(0.05, 0.12)))
                at += seconds(
                    float(rng.uniform(0.1, 0.2) if number < 8 else rng.uniform(0.03, 0.08))
                )
        else:
            rate_hz = float(rng.uniform(3.0, 12.0))
            for _ in range(int(rng.integers(1, 4) if chance < 0.4 else rng.integers(4, 50))):
                which = int(rng.choice(len(keys), p=[0.14] * 6 + [0.16]))
                press(
                    at, which, loud * float(rng.uniform(0.4, 1.0)), float(rng.uniform(0.05, 0.12))
                )
                at += seconds(float(rng.gamma(6.0, 1.0 / (6.0 * rate_hz))))
        at += seconds(float(rng.exponential(0.5) if rng.random() < 0.6 else rng.uniform(1.0, 4.0)))
    track = np.zeros(count, np.float32)
    for line, hit in zip(ticks, (*keys, *mouse), strict=True):
        track += convolve(line, hit)
    return room(track, rng) if rng.random() < 0.4 else track


def _click(rng: np.random.Generator, body_hz: float) -> F32:
    """A key's noise: a snap, and the case that rings for some milliseconds."""
    time_s = times_s(seconds(0.06))
    snap = high_pass(white_noise(len(time_s), rng), float(rng.uniform(500, 2500)), 1)
    hit = snap * np.exp(-time_s / float(rng.uniform(0.001, 0.004)))
    hit += _modes(time_s, body_hz * rng.uniform(1.0, 8.0, 5), rng.uniform(0.003, 0.015, 5), rng)
    return faded(hit, 0.0002, 0.01)


def _modes(
    time_s: F32, centres_hz: np.ndarray, decay_s: np.ndarray, rng: np.random.Generator
) -> F32:
    """Damped sines, as a struck body rings: (n,) peaks below about 2."""
    centres_hz = np.minimum(centres_hz, 7500.0)
    levels = rng.uniform(0.2, 1.0, len(centres_hz)) * (centres_hz[0] / centres_hz) ** 0.5
    turns = centres_hz[:, None] * time_s + rng.random(len(centres_hz))[:, None]
    ring = levels[:, None] * np.sin(2 * np.pi * turns) * np.exp(-time_s / decay_s[:, None])
    return np.asarray(ring.sum(0), dtype=np.float32)


def fan(count: int, rng: np.random.Generator) -> F32:
    """(count,) a fan, an air conditioner, a drive: steady noise with the blades' hum."""
    track = coloured_noise(count, float(rng.uniform(0.3, 2.0)), rng)
    track = low_pass(track, float(rng.uniform(1500.0, 7500.0)), 1)
    for _ in range(int(rng.integers(0, 4))):  # grilles and cases resonate
        centre_hz = float(rng.uniform(150.0, 3000.0))
        ringing = band_pass(track, 0.9 * centre_hz, 1.1 * centre_hz, 1)
        track = track + float(rng.uniform(0.2, 1.5)) * ringing
    time_s = times_s(count)
    blades_hz = float(rng.uniform(60.0, 400.0))
    drift = 0.3 * np.sin(2 * np.pi * float(rng.uniform(0.05, 0.3)) * time_s)
    level = float(np.std(track)) * gain(float(rng.uniform(-22.0, -2.0)))
    for harmonic in range(1, int(rng.integers(2, 7))):
        turn = 2 * np.pi * harmonic * (blades_hz * time_s + drift)
        track += (level / harmonic * np.sin(turn)).astype(np.float32)
    if rng.random() < 0.4:
        track += level * float(rng.uniform(0.2, 1.0)) * mains_hum(count, rng)
    wander = 1.0 + 0.06 * np.sin(2 * np.pi * float(rng.uniform(0.05, 0.5)) * time_s)
    return np.asarray(track * wander, dtype=np.float32)


def knocks(count: int, rng: np.random.Generator) -> F32:
    """(count,) bumps on the table, knocks on a door, a cup put down, a chair, paper."""
    track = np.zeros(count, np.float32)
    at = seconds(float(rng.uniform(0.0, 0.5)))
    makers = (_bump, _door, _cup, _creak, _paper)
    while at < count:
        piece = makers[int(rng.choice(len(makers), p=[0.35, 0.2, 0.15, 0.2, 0.1]))](rng)
        piece = at_level(piece, LEVEL_RMS * gain(float(rng.uniform(-12.0, 0.0))))
        add(track, at, piece)
        at += len(piece) + seconds(float(rng.exponential(1.2)))
    return room(track, rng) if rng.random() < 0.6 else track


def _bump(rng: np.random.Generator) -> F32:
    """A hand, an elbow or a knee against the table."""
    time_s = times_s(seconds(float(rng.uniform(0.15, 0.4))))
    centres_hz = float(rng.uniform(60, 200)) * np.concatenate(([1.0], rng.uniform(1.3, 9.0, 5)))
    hit = _modes(time_s, centres_hz, rng.uniform(0.01, 0.07, 6), rng)
    skin = low_pass(white_noise(len(time_s), rng), 1500.0) * np.exp(-time_s / 0.008)
    return faded(hit + float(rng.uniform(0.2, 2.0)) * skin, 0.001, 0.03)


def _door(rng: np.random.Generator) -> F32:
    """Two to five knocks, alike and evenly spaced."""
    hit = _bump(rng)
    spacing = seconds(float(rng.uniform(0.14, 0.35)))
    number = int(rng.integers(2, 6))
    track = np.zeros(spacing * number + len(hit), np.float32)
    for i in range(number):
        add(track, i * spacing + int(rng.integers(0, 300)), hit * float(rng.uniform(0.6, 1.0)))
    return track


def _cup(rng: np.random.Generator) -> F32:
    """China or glass that rings: a few hits close together."""
    time_s = times_s(seconds(0.5))
    ring = _modes(time_s, rng.uniform(1500, 7000, 6), rng.uniform(0.01, 0.12, 6), rng)
    track = np.zeros(seconds(0.9), np.float32)
    at = 0
    for level in np.sort(rng.uniform(0.1, 1.0, int(rng.integers(1, 4))))[::-1]:
        add(track, at, faded(ring, 0.0005, 0.05) * float(level))
        at += seconds(float(rng.uniform(0.04, 0.15)))
    return track


def _creak(rng: np.random.Generator) -> F32:
    """Wood that sticks and slips: pulses of a wandering rate that make it ring."""
    count = seconds(float(rng.uniform(0.25, 1.4)))
    through = np.linspace(0.0, 1.0, count)
    rates = rng.uniform(6.0, 60.0, 4)
    rate_hz = np.interp(through, np.linspace(0.0, 1.0, 4), rates)
    rate_hz *= 1.0 + 0.3 * np.repeat(rng.standard_normal(count // 80 + 1), 80)[:count]
    slips = np.diff(np.floor(np.cumsum(np.abs(rate_hz)) / SAMPLE_RATE_HZ), prepend=0.0) > 0
    pulses = (slips * rng.uniform(0.3, 1.0, count)).astype(np.float32)
    ring = _modes(
        times_s(seconds(0.05)), rng.uniform(300, 3500, 5), rng.uniform(0.003, 0.01, 5), rng
    )
    envelope = np.sin(np.pi * through ** float(rng.uniform(0.5, 1.5))).astype(np.float32)
    return convolve(pulses * envelope, ring)


def _paper(rng: np.random.Generator) -> F32:
    """A rustle: hiss with a quickly changing level."""
    count = seconds(float(rng.uniform(0.3, 1.2)))
    knots = np.arange(0, count + 200, 200)
    level = np.interp(np.arange(count), knots, rng.exponential(1.0, len(knots)) ** 1.5)
    hiss = high_pass(white_noise(count, rng), float(rng.uniform(1500.0, 3500.0)))
    return faded(hiss * level.astype(np.float32), 0.03, 0.1)


def hum_tones(count: int, rng: np.random.Generator) -> F32:
    """(count,) chimes, rings, beeps, sweeps and stretches of mains hum."""
    track = np.zeros(count, np.float32)
    at = seconds(float(rng.uniform(0.0, 0.5)))
    makers = (_chime, _ring, _beeps, _sweep, _hum)
    while at < count:
        piece = makers[int(rng.choice(len(makers), p=[0.35, 0.2, 0.15, 0.15, 0.15]))](rng)
        add(track, at, at_level(piece, LEVEL_RMS * gain(float(rng.uniform(-10.0, 0.0)))))
        at += len(piece) + seconds(float(rng.uniform(0.2, 3.0)))
    return track


def _chime(rng: np.random.Generator) -> F32:
    """A notification: one to five notes of a bell or some instrument."""
    notes = float(rng.uniform(60, 90)) + rng.choice([0, 3, 4, 5, 7, 9, 12, 16], 5)
    player = instrument(rng, held=False)
    partials = np.concatenate(([1.0], rng.uniform(1.8, 6.0, 3)))
    bell = bool(rng.random() < 0.5)
    track = np.zeros(seconds(2.0), np.float32)
    at = 0
    for midi in notes[: int(rng.integers(1, 6))]:
        if bell:
            pitch_hz = 440.0 * 2.0 ** ((midi - 69) / 12)
            note = _modes(times_s(seconds(1.0)), pitch_hz * partials, 0.25 / partials, rng)
        else:
            note = tone(player, float(midi), seconds(0.4))
        add(track, at, faded(note, 0.002, 0.1))
        at += seconds(float(rng.choice([0.09, 0.15, 0.25])))
    return track


def _ring(rng: np.random.Generator) -> F32:
    """A telephone: two tones at once, or two in quick turns, on and off."""
    low_hz, high_hz = rng.uniform(380, 900), rng.uniform(420, 2200)
    time_s = times_s(seconds(float(rng.uniform(0.4, 2.0))))
    low, high = (np.sin(2 * np.pi * f * time_s) for f in (low_hz, high_hz))
    turn = (time_s * float(rng.uniform(10.0, 25.0))) % 1.0 < 0.5
    burst = np.where(turn, low, high) if rng.random() < 0.5 else low + high
    burst = faded(burst.astype(np.float32), 0.005, 0.02)
    quiet = np.zeros(seconds(float(rng.uniform(0.2, 2.0))), np.float32)
    return np.concatenate([burst, quiet] * int(rng.integers(1, 4)))


def _beeps(rng: np.random.Generator) -> F32:
    """An alarm or a keypad: short tones, alike or each its own."""
    same = bool(rng.random() < 0.6)
    pitch_hz = float(rng.uniform(400, 3500))
    length_s, quiet_s = float(rng.uniform(0.04, 0.3)), float(rng.uniform(0.03, 0.4))
    pieces: list[F32] = []
    for _ in range(int(rng.integers(1, 9))):
        if not same:
            pitch_hz = float(rng.uniform(400, 2500))
        wave = np.sin(2 * np.pi * pitch_hz * times_s(seconds(length_s)))
        pieces += [faded(wave, 0.003, 0.01), np.zeros(seconds(quiet_s), np.float32)]
    return np.concatenate(pieces)


def _sweep(rng: np.random.Generator) -> F32:
    """A sine that glides up or down, once or to and fro."""
    time_s = times_s(seconds(float(rng.uniform(0.3, 4.0))))
    low, high = np.log(rng.uniform(100, 800)), np.log(rng.uniform(600, 5000))
    glide = time_s / time_s[-1]
    if rng.random() < 0.4:
        glide = 0.5 - 0.5 * np.cos(2 * np.pi * float(rng.uniform(0.3, 3.0)) * time_s)
    if rng.random() < 0.4:
        glide = 1.0 - glide
    pitch_hz = np.exp(low + (high - low) * glide)
    turns = np.cumsum(pitch_hz.astype(np.float64)) / SAMPLE_RATE_HZ
    return faded(np.sin(2 * np.pi * turns).astype(np.float32), 0.02, 0.05)


def _hum(rng: np.random.Generator) -> F32:
    """A bad cable for some seconds."""
    count = seconds(float(rng.uniform(1.0, 6.0)))
    hiss = gain(-float(rng.uniform(15.0, 40.0))) * pink_noise(count, rng)
    return faded(mains_hum(count, rng) + hiss, 0.01, 0.01)


def _silence(count: int, rng: np.random.Generator) -> F32:
    del rng
    return np.zeros(count, np.float32)


_MAKERS: MappingProxyType[str, Callable[[int, np.random.Generator], F32]] = MappingProxyType(
    {
        "music": music,
        "keyboard": keyboard,
        "breathing": breathing,
        "laughter": laughter,
        "fan": fan,
        "knocks": knocks,
        "hum_tones": hum_tones,
        "silence": _silence,
    }
)
