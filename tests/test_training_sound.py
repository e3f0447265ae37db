"""Made-up sound: the same for the same seed, of the level and the character it claims."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.filters import active_rms
from ha2g_live.training.noise import coloured_noise
from ha2g_live.training.room import room_response
from ha2g_live.training.sound import (
    KINDS,
    band_limit,
    disturb,
    noise,
    non_speech,
    pink_noise,
    room,
    vary_voice,
)

SEEDS = range(4)
SOUNDING = [kind for kind in KINDS if kind != "silence"]
COUNT = 8 * SAMPLE_RATE_HZ
FRAME = 1024


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def power(samples: F32) -> npt.NDArray[np.float64]:
    """(frames, bins) power spectra of the frames within 30 dB of the loudest one."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    spectra = np.abs(np.fft.rfft(frames * np.hanning(FRAME))) ** 2
    loud = spectra.sum(1)
    return np.asarray(spectra[loud > 1e-3 * loud.max()], dtype=np.float64)


def flatness(samples: F32) -> float:
    """How noise-like a sound is where it is loud, whatever its tilt: 0 for tones, .56 for noise."""
    bands = power(samples)[:, 16:256].reshape(-1, 20, 12) + 1e-12  # 250 Hz to 4 kHz, 190 Hz each
    means = bands.mean(2)
    return float(np.average(np.exp(np.log(bands).mean(2)) / means, weights=means))


def levels_db(samples: F32, frame: int = 320) -> npt.NDArray[np.float64]:
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    return np.asarray(10 * np.log10((frames**2).mean(1) + 1e-12), dtype=np.float64)


def pitch_hz(frame: F32) -> float:
    """The strongest period from 80 to 600 Hz."""
    spectrum = np.fft.rfft(frame - frame.mean(), 2 * len(frame))
    lags = np.fft.irfft(np.abs(spectrum) ** 2)
    shortest, longest = SAMPLE_RATE_HZ // 600, SAMPLE_RATE_HZ // 80
    return SAMPLE_RATE_HZ / float(shortest + np.argmax(lags[shortest:longest]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_makes_the_same_sound(kind: str) -> None:
    first = non_speech(kind, COUNT, rng(1))
    np.testing.assert_array_equal(first, non_speech(kind, COUNT, rng(1)))
    if kind != "silence":
        assert not np.array_equal(first, non_speech(kind, COUNT, rng(2)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 100, 5_000, 20_001, COUNT])
def test_any_length(kind: str, count: int) -> None:
    for seed in SEEDS:
        samples = non_speech(kind, count, rng(seed))
        assert samples.shape == (count,)
        assert samples.dtype == np.float32
        assert np.isfinite(samples).all()
        assert np.abs(samples).max(initial=0.0) <= 1.0


@pytest.mark.parametrize("kind", SOUNDING)
def test_the_active_part_has_the_level_promised(kind: str) -> None:
    for seed in SEEDS:
        assert active_rms(non_speech(kind, COUNT, rng(seed))) == pytest.approx(0.05, rel=0.1)


def test_silence_is_silent() -> None:
    assert not non_speech("silence", COUNT, rng(0)).any()


def test_an_unknown_kind() -> None:
    with pytest.raises(ConfigError, match="no sound is called 'whale': choose one of music, "):
        non_speech("whale", 10, rng(0))


def test_a_keyboard_is_impulsive_and_a_fan_is_steady() -> None:
    for seed in SEEDS:
        typed, blown = (non_speech(kind, COUNT, rng(seed)) for kind in ("keyboard", "fan"))
        assert np.abs(typed).max() / typed.std() > 10.0
        assert np.abs(blown).max() / blown.std() < 6.0
        assert levels_db(typed).std() > 6.0
        assert levels_db(blown, 3200).std() < 2.0


def test_breath_and_fans_are_noise_and_chimes_are_tones() -> None:
    def of(kind: str) -> float:
        return float(np.median([flatness(non_speech(kind, COUNT, rng(k))) for k in range(8)]))

    assert flatness(noise(COUNT, rng(0))) > 0.4
    assert of("breathing") > 0.4
    assert of("fan") > 0.4
    assert of("hum_tones") < 0.15
    assert of("hum_tones") < of("laughter") < of("breathing")  # voices are both


def test_breath_and_laughter_leave_gaps() -> None:
    for kind in ("breathing", "laughter", "knocks", "keyboard"):
        for seed in SEEDS:
            loud = levels_db(non_speech(kind, COUNT, rng(seed))) > -50.0
            assert 0.05 < loud.mean() < 0.97, (kind, seed)


def test_music_holds_its_tones() -> None:
    """From one frame to the next the strongest bin mostly stays; in noise it does not."""
    held = []
    for seed in range(12):
        peaks = power(non_speech("music", COUNT, rng(seed)))[:, 3:256].argmax(1)
        held.append(float((np.abs(np.diff(peaks)) <= 1).mean()))
    peaks = power(noise(COUNT, rng(0)))[:, 3:256].argmax(1)
    assert np.median(held) > 0.6 > float((np.abs(np.diff(peaks)) <= 1).mean())


def test_laughter_is_voiced_and_comes_in_calls() -> None:
    """The level swings 3 to 8 times a second, and the loud parts have a pitch above talk's."""
    rates, pitches = [], []
    for seed in range(8):
        laugh = non_speech("laughter", COUNT, rng(seed))
        envelope = 10 ** (levels_db(laugh) / 20)
        swing = np.abs(np.fft.rfft(envelope - envelope.mean()))
        hz = np.fft.rfftfreq(len(envelope), 320 / SAMPLE_RATE_HZ)
        talk = (hz > 2.0) & (hz < 12.0)
        rates.append(float(hz[talk][swing[talk].argmax()]))
        loudest = np.argsort(levels_db(laugh, FRAME))[-20:]
        pitches += [pitch_hz(laugh[k * FRAME : (k + 1) * FRAME]) for k in loudest]
    assert 3.0 < np.median(rates) < 8.0
    assert 130.0 < np.median(pitches) < 500.0
    assert np.std(pitches) > 40.0  # more than one person


def test_noise_has_its_colour() -> None:
    for exponent in (0.0, 1.0, 2.0):
        samples = coloured_noise(COUNT, exponent, rng(3))
        spectrum = power(samples).mean(0)
        hz = np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE_HZ)
        band = (hz > 200) & (hz < 6000)
        slope = np.polyfit(np.log(hz[band]), np.log(spectrum[band]), 1)[0]
        assert slope == pytest.approx(-exponent, abs=0.15)
    for make in (pink_noise, noise):
        assert float(make(COUNT, rng(4)).std()) == pytest.approx(1.0, abs=0.02)
        assert len(make(0, rng(4))) == 0


def test_a_room_keeps_the_onset_where_it_was() -> None:
    samples = np.zeros(COUNT, np.float32)
    samples[4000:8000] = pink_noise(4000, rng(0))
    for seed in range(8):
        response = room_response(rng(seed))
        assert response[0] == 1.0
        assert np.abs(response[1:]).max() < 1.0
        assert (response[1:] ** 2).sum() < 0.55  # the direct sound is at least 3 dB above
        heard = room(samples, rng(seed))
        assert len(heard) == COUNT
        assert np.abs(heard[:4000]).max() < 1e-5
        assert heard[4000] == pytest.approx(samples[4000], abs=1e-4)
        assert np.abs(heard[8000:10000]).max() > 1e-3  # it rings on


def test_a_microphone_cuts_lows_and_highs_and_delays_nothing() -> None:
    lows = np.sin(2 * np.pi * 25.0 * np.arange(COUNT) / SAMPLE_RATE_HZ).astype(np.float32)
    voice = pink_noise(COUNT, rng(0))
    for seed in range(8):
        assert band_limit(lows, rng(seed))[8000:].std() < 0.5 * lows.std()
        heard = band_limit(voice, rng(seed)).astype(np.float64)
        product = np.fft.rfft(heard) * np.conj(np.fft.rfft(voice))
        lag = int(np.argmax(np.fft.irfft(product)))
        assert 0 <= lag <= SAMPLE_RATE_HZ // 1000


def test_another_voice_changes_pitch_and_length_together() -> None:
    tone = np.sin(2 * np.pi * 1000.0 * np.arange(COUNT) / SAMPLE_RATE_HZ).astype(np.float32)
    lengths = set()
    for seed in range(8):
        varied = vary_voice(tone, rng(seed))
        assert abs(len(varied) / COUNT - 1.0) < 0.065
        bin_hz = SAMPLE_RATE_HZ / len(varied)
        peak_hz = float(np.abs(np.fft.rfft(varied)).argmax()) * bin_hz
        assert peak_hz == pytest.approx(1000.0 * COUNT / len(varied), abs=2.0)
        lengths.add(len(varied))
    assert len(lengths) == 8
    assert len(vary_voice(np.zeros(0, np.float32), rng(0))) == 0


def test_what_the_network_hears_of_a_voice() -> None:
    voice = non_speech("laughter", COUNT, rng(5))
    found_db = []
    for seed in range(30):
        heard = disturb(voice, rng(seed))
        np.testing.assert_array_equal(heard, disturb(voice, rng(seed)))
        assert heard.shape == voice.shape
        assert heard.dtype == np.float32
        assert np.abs(heard).max() <= 1.0
        loud = np.sqrt(np.mean(heard[np.abs(voice) > 0.03] ** 2))
        found_db.append(20 * np.log10(loud))
    assert np.ptp(found_db) > 12.0
    assert min(found_db) > -40.0
    assert max(found_db) < -4.0


def test_a_disturbed_voice_stands_above_what_disturbs_it() -> None:
    """The second half has no voice: what is left there is noise, room and at times music."""
    voice = np.zeros(COUNT, np.float32)
    voice[: COUNT // 2] = pink_noise(COUNT // 2, rng(0))
    for seed in range(20):
        heard = disturb(voice, rng(seed))
        rest = heard[COUNT // 2 + SAMPLE_RATE_HZ :]
        assert heard[: COUNT // 2].std() > 1.9 * rest.std()


def test_silence_stays_quiet_when_disturbed() -> None:
    heard = disturb(np.zeros(COUNT, np.float32), rng(2))
    assert np.isfinite(heard).all()
    assert 0.0 < active_rms(heard) < 0.05
    assert len(disturb(np.zeros(0, np.float32), rng(2))) == 0
