"""Gain and gate of the input."""

from __future__ import annotations

import numpy as np
import pytest

from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.input_level import WANTED_DB, InputState, condition
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32


def run(
    samples: F32, gain: float | str, gate: float | str, block: int = 320
) -> tuple[F32, InputState]:
    state, out = InputState(), []
    for at in range(0, len(samples), block):
        heard, state = condition(samples[at : at + block], gain, gate, state)
        out.append(heard)
    return np.concatenate(out), state


def level_db(samples: F32) -> float:
    return float(10.0 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12))


def hiss(seconds: float, rms_db: float) -> F32:
    noise = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE_HZ))
    return np.asarray(10.0 ** (rms_db / 20.0) * noise, dtype=np.float32)


@pytest.fixture(scope="module")
def speech() -> F32:
    return read_audio(demo_clip())


def test_with_the_usual_knobs_the_sound_is_the_very_same(speech: F32) -> None:
    heard, state = run(speech, 0.0, "off")
    np.testing.assert_array_equal(heard, speech)
    assert -40.0 < state.voice_db < -5.0  # levels are followed all the same


def test_gain_by_hand(speech: F32) -> None:
    heard, _ = run(speech, -12.0, "off")
    np.testing.assert_allclose(heard[1600:], speech[1600:] * 10 ** (-12 / 20), atol=1e-6)


@pytest.mark.parametrize(("gain", "gate"), [("auto", "auto"), (6.0, -40.0)])
def test_block_sizes_make_no_difference(speech: F32, gain: float | str, gate: float | str) -> None:
    small, _ = run(speech, gain, gate, 77)
    large, _ = run(speech, gain, gate, 5000)
    np.testing.assert_allclose(small, large, atol=1e-6)


@pytest.mark.parametrize("too_soft_db", [-20.0, -12.0, 6.0])
def test_automatic_gain_brings_a_voice_to_its_level(speech: F32, too_soft_db: float) -> None:
    quiet = np.tile(speech, 4) * np.float32(10.0 ** (too_soft_db / 20.0))
    heard, state = run(quiet, "auto", "off")
    assert state.voice_db + state.gain_db == pytest.approx(WANTED_DB, abs=2.0)
    end = heard[-len(speech) :]
    loud = np.sort(np.abs(end))[-len(end) // 3 :]
    assert level_db(loud) == pytest.approx(-12.5, abs=3.0)  # a voice's peaks are that far above


def test_automatic_gate_shuts_a_fan_out_and_lets_the_voice_through(speech: F32) -> None:
    fan = hiss(4.0, -48.0)
    noisy = np.concatenate((fan, speech + hiss(len(speech) / SAMPLE_RATE_HZ, -48.0)))
    heard, state = run(noisy, 0.0, "auto")
    assert level_db(heard[SAMPLE_RATE_HZ : 4 * SAMPLE_RATE_HZ]) < -90.0
    assert state.room == pytest.approx(-46.0, abs=4.0)
    voice, said = heard[len(fan) :], noisy[len(fan) :]
    loud = np.abs(said) > 0.05
    assert np.mean(np.abs(voice[loud] - said[loud]) < 1e-6) > 0.97


def test_a_gate_by_hand_and_digital_silence() -> None:
    heard, _ = run(hiss(1.0, -50.0), 0.0, -40.0)
    assert level_db(heard[1600:]) < -90.0
    heard, _ = run(hiss(1.0, -30.0), 0.0, -40.0)
    assert level_db(heard[1600:]) == pytest.approx(-30.0, abs=0.5)
    heard, state = run(np.zeros(16000, np.float32), "auto", "auto")
    assert not heard.any()
    assert state.gain_db == 0.0


def test_a_gate_opens_and_closes_without_a_click() -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(16000) / 16000).astype(np.float32)
    tone[:4000] *= 0.001
    tone[12000:] *= 0.001
    heard, _ = run(tone, 0.0, -30.0)
    # The steepest step of the tone itself is 0.079.
    assert np.abs(np.diff(heard)).max() < 0.1


def test_a_knob_that_is_turned_takes_hold_and_lets_go() -> None:
    state = InputState()
    loud = np.full(1600, 0.1, np.float32)
    heard, state = condition(loud, 6.0, "off", state)
    assert heard[-1] == pytest.approx(0.1 * 10**0.3, rel=1e-3)
    heard, state = condition(loud, 0.0, "off", state)
    assert heard[-1] == pytest.approx(0.1, rel=1e-3)
    heard, state = condition(loud, 0.0, "off", state)
    np.testing.assert_array_equal(heard, loud)
