"""Sounds people make without speaking: breath, laughter, coughs.

A voice here is a pulse train through formants (source and filter, Fant 1960). Laughter follows
what is measured of it: 4 to 6 calls a second, each a breathy vowel with an h before it, higher
than speech, falling in pitch and level through the bout (Bachorowski et al. 2001).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.filters import (
    add,
    at_level,
    band_pass,
    faded,
    gain,
    high_pass,
    low_pass,
    resonances,
    seconds,
    times_s,
)
from ha2g_live.training.noise import pink_noise, white_noise

_TABLE = 2048
_VOWELS_HZ = (  # first three formants of a grown man; women's lie about a sixth higher
    (700.0, 1220.0, 2600.0),  # ha
    (600.0, 1170.0, 2400.0),  # huh
    (530.0, 1700.0, 2500.0),  # heh
    (450.0, 900.0, 2400.0),  # ho
    (330.0, 2100.0, 2800.0),  # hee
)
_NOSE_HZ = (280.0, 1050.0, 2200.0)
_WIDTHS_HZ = (110.0, 130.0, 190.0, 260.0, 330.0)


def laughter(count: int, rng: np.random.Generator) -> F32:
    """(count,) bouts of laughter, chuckles through the nose, now and then a cough; gaps between."""
    track = np.zeros(count, np.float32)
    at = seconds(float(rng.uniform(0.0, 0.4)))
    female = bool(rng.random() < 0.5)
    while at < count:
        if rng.random() < 0.25:
            female = not female
        kind = rng.choice(["song", "nose", "breathy", "cough"], p=[0.58, 0.16, 0.16, 0.1])
        piece = cough(female, rng) if kind == "cough" else laugh(str(kind), female, rng)
        add(track, at, piece * gain(-float(rng.uniform(0.0, 12.0))))
        gap_s = rng.uniform(0.1, 0.8) if rng.random() < 0.5 else rng.uniform(0.8, 4.0)
        at += len(piece) + seconds(float(gap_s))
    return track


def laugh(kind: str, female: bool, rng: np.random.Generator) -> F32:
    """One bout: a row of calls, then often the breath that follows.

    Args:
        kind: "song" (voiced vowels), "nose" (a chuckle, mouth closed) or "breathy" (no voice).
        female: whose pitch and formants.
        rng: source of chance.

    Returns:
        (n,) 0.3 to 4 s.
    """
    calls = int(rng.integers(2, 7) if kind == "nose" else rng.integers(3, 13))
    # Calls slow down through the bout.
    periods = (1.0 + 0.03 * np.arange(calls)) / rng.uniform(4.0, 6.5)
    periods *= rng.normal(1.0, 0.06, calls).clip(0.8, 1.2)
    if rng.random() < 0.35:
        periods[0] *= rng.uniform(1.3, 2.5)  # a long first one
    ends = np.cumsum(periods)
    time_s = times_s(seconds(float(ends[-1])))
    call = np.minimum(np.searchsorted(ends, time_s, side="right"), calls - 1)
    within = (time_s - (ends - periods)[call]) / periods[call]  # 0..1 through each call

    levels = 10 ** (-(np.arange(calls) * rng.uniform(0.2, 2.2) + rng.normal(0, 2, calls)) / 20)
    levels[0] *= rng.uniform(0.5, 1.2)
    voiced = (rng.random(calls) < 0.88) * (kind != "breathy")
    h_share, voice_share = rng.uniform(0.15, 0.35), rng.uniform(0.3, 0.55)
    open_ = np.clip((within - h_share) / voice_share, 0.0, 1.0)
    envelope = np.sin(np.pi * open_ ** rng.uniform(0.55, 0.9)) ** rng.uniform(0.7, 1.5)
    breath = np.clip(within / (h_share + voice_share + 0.15), 0.0, 1.0)
    # In a hearty laugh the air does not stop between the calls.
    breath = np.maximum(np.sin(np.pi * breath**0.7), rng.uniform(0.0, 0.35))

    base_hz = rng.uniform(220, 480) if female else rng.uniform(130, 300)
    fall, arch = rng.uniform(0.1, 0.5), rng.uniform(-0.05, 0.25)
    steps = 1.0 + rng.normal(0, 0.07, calls)
    pitch_hz = base_hz * (1.0 - fall * time_s / ends[-1]) * steps[call]
    pitch_hz *= 1.0 + arch * np.sin(np.pi * open_) - rng.uniform(0.0, 0.25) * open_
    voice = _glottis(pitch_hz, rng) * (envelope * (levels * voiced)[call])
    air = white_noise(len(time_s), rng) * (breath * levels[call])
    airiness = gain(float(rng.uniform(-24.0, -6.0))) if kind == "song" else 0.3
    source = (voice + airiness * air).astype(np.float32)
    if kind == "nose":
        sound = low_pass(_tract(source, _NOSE_HZ, female, rng), 2500.0)
    else:
        first, last = rng.choice(len(_VOWELS_HZ), 2, p=[0.35, 0.3, 0.15, 0.12, 0.08])
        sound = _tract(source, _VOWELS_HZ[first], female, rng)
        if first != last:  # the mouth closes, or opens, through the bout
            blend = np.clip(time_s / ends[-1] + 0.2 * np.sin(7.0 * time_s), 0.0, 1.0)
            sound += blend * (_tract(source, _VOWELS_HZ[last], female, rng) - sound)
    sound = at_level(sound, 0.05)
    if rng.random() < 0.55:
        gasp = breath_stroke(float(rng.uniform(0.15, 0.5)), True, rng)
        quiet = np.zeros(seconds(float(rng.uniform(0.02, 0.15))), np.float32)
        sound = np.concatenate((sound, quiet, gasp * gain(-float(rng.uniform(6.0, 20.0)))))
    return faded(sound, 0.005, 0.02)


def cough(female: bool, rng: np.random.Generator) -> F32:
    """One to three coughs: a burst, breath, often a short voiced end."""
    pieces: list[F32] = []
    for _ in range(int(rng.integers(1, 4))):
        time_s = times_s(seconds(float(rng.uniform(0.2, 0.45))))
        rate = float(rng.uniform(10.0, 25.0))
        air = white_noise(len(time_s), rng) * (
            np.exp(-time_s * 3 * rate) + 0.4 * np.exp(-time_s * rate)
        )
        end = np.exp(-(((time_s - time_s[-1] * 0.7) / 0.05) ** 2)) * float(rng.uniform(0.0, 0.6))
        pitch_hz = np.linspace(1.2, 0.8, len(time_s)) * (280.0 if female else 160.0)
        source = (air + _glottis(pitch_hz, rng) * end).astype(np.float32)
        vowel = _VOWELS_HZ[int(rng.integers(3))]
        pieces.append(faded(_tract(source, vowel, female, rng), 0.001, 0.05))
        pieces.append(np.zeros(seconds(float(rng.uniform(0.03, 0.3))), np.float32))
    return at_level(np.concatenate(pieces), 0.05)


def breathing(count: int, rng: np.random.Generator) -> F32:
    """(count,) breath in and out close to a microphone, with sighs, sniffs and puffs."""
    track = np.zeros(count, np.float32)
    at = seconds(float(rng.uniform(0.0, 0.4)))
    cycle_s = float(rng.uniform(1.2, 2.0) if rng.random() < 0.2 else rng.uniform(2.5, 5.0))
    in_level, out_level = rng.uniform(0.3, 1.0, 2)
    while at < count:
        chance = rng.random()
        if chance < 0.12:
            pieces = [sniff(rng) for _ in range(int(rng.integers(1, 3)))]
        elif chance < 0.2:
            pieces = [puff(rng) for _ in range(int(rng.integers(1, 3)))]
        elif chance < 0.3:
            pieces = [
                in_level * breath_stroke(float(rng.uniform(0.8, 1.5)), True, rng),
                1.3 * out_level * breath_stroke(float(rng.uniform(1.2, 2.5)), False, rng),
            ]
        else:
            length_s = cycle_s * float(rng.uniform(0.8, 1.2))
            pieces = [
                in_level * breath_stroke(0.35 * length_s, True, rng),
                out_level * breath_stroke(0.45 * length_s, False, rng),
            ]
        for piece in pieces:
            add(track, at, piece * gain(float(rng.normal(0.0, 2.0))))
            at += len(piece) + seconds(0.1 * cycle_s * float(rng.uniform(0.3, 1.5)))
        at += seconds(0.1 * cycle_s * float(rng.uniform(0.0, 2.0)))
    return track


def breath_stroke(duration_s: float, inward: bool, rng: np.random.Generator) -> F32:
    """Air through the mouth or the nose: shaped noise of RMS 0.05, brighter on the way in."""
    count = seconds(duration_s)
    through = np.linspace(0.0, 1.0, count, dtype=np.float32)
    peak = float(rng.uniform(0.45, 0.75) if inward else rng.uniform(0.15, 0.4))
    power = np.log(0.5) / np.log(peak)
    envelope = np.sin(np.pi * through**power) ** float(rng.uniform(0.8, 2.0))
    air = white_noise(count, rng) if inward else pink_noise(count, rng)
    spread = float(rng.uniform(0.85, 1.2))
    mouth = (600.0, 1500.0, 2900.0) if inward else (450.0, 1150.0, 2500.0)
    sound = resonances(
        air,
        [spread * f for f in (*mouth, 3900.0, 5200.0)],
        [float(w) for w in rng.uniform(250.0, 900.0, 5)],
    )
    sound = high_pass(sound, float(rng.uniform(200.0, 600.0)))
    # Air does not flow evenly.
    flutter = 1.0 + 0.25 * low_pass(white_noise(count, rng), 12.0) * 20.0
    return at_level(sound * envelope.astype(np.float32) * np.clip(flutter, 0.3, 2.0), 0.05)


def sniff(rng: np.random.Generator) -> F32:
    """A short breath in through the nose."""
    count = seconds(float(rng.uniform(0.1, 0.35)))
    air = band_pass(
        white_noise(count, rng), float(rng.uniform(700, 1800)), float(rng.uniform(4e3, 7e3))
    )
    envelope = np.sin(np.pi * np.linspace(0.0, 1.0, count) ** 1.5).astype(np.float32)
    return at_level(air * envelope, 0.05)


def puff(rng: np.random.Generator) -> F32:
    """Breath that hits the microphone: a rumble with a little hiss."""
    count = seconds(float(rng.uniform(0.08, 0.5)))
    rumble = low_pass(white_noise(count, rng), float(rng.uniform(60.0, 250.0)))
    hiss = pink_noise(count, rng) * gain(-float(rng.uniform(15.0, 30.0)))
    envelope = np.linspace(0.0, 1.0, count) ** 0.3 * np.linspace(1.0, 0.0, count)
    return at_level((at_level(rumble, 1.0) + hiss) * envelope.astype(np.float32), 0.05)


@cache
def _pulse() -> F32:
    """One cycle of glottal flow, differentiated: opens slowly, closes fast (Rosenberg 1971)."""
    cycle = np.arange(_TABLE) / _TABLE
    opening, closing = 0.4, 0.16
    flow = np.where(cycle < opening, 0.5 - 0.5 * np.cos(np.pi * cycle / opening), 0.0)
    close = (cycle >= opening) & (cycle < opening + closing)
    flow[close] = np.cos(0.5 * np.pi * (cycle[close] - opening) / closing)
    pulse = np.diff(flow, append=flow[0])
    # Rounded, as far as 16 kHz can carry it.
    pulse = np.convolve(np.tile(pulse, 3), np.hanning(61) / 30.0, "same")[_TABLE : 2 * _TABLE]
    return np.asarray(pulse / pulse.std(), dtype=np.float32)


def _glottis(pitch_hz: np.ndarray, rng: np.random.Generator) -> F32:
    """Pulses at a pitch that may change, (n,) Hz, with the unsteadiness of a real voice."""
    count = len(pitch_hz)
    knots = np.arange(0, count + 320, 320)
    wobble = np.interp(np.arange(count), knots, rng.normal(0.0, 0.015, len(knots)))
    phase = np.cumsum(pitch_hz * (1.0 + wobble)) / SAMPLE_RATE_HZ
    loud = np.interp(np.arange(count), knots, rng.uniform(0.75, 1.0, len(knots)))
    index = (phase * _TABLE).astype(np.int64) & (_TABLE - 1)
    return np.asarray(_pulse()[index] * loud, dtype=np.float32)


def _tract(
    source: F32, vowel_hz: tuple[float, float, float], female: bool, rng: np.random.Generator
) -> F32:
    """A source through a vocal tract in the position of a vowel."""
    size = (1.17 if female else 1.0) * float(rng.uniform(0.92, 1.08))
    centres = [f * size * float(rng.uniform(0.95, 1.05)) for f in (*vowel_hz, 3500.0, 4500.0)]
    return resonances(source, centres, _WIDTHS_HZ)
