"""Streaming features: exact under any blocking, right against librosa, level that behaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ha2g_live.realtime.features import LogMelState, initial_log_mel, log_mel, mel_filters
from ha2g_live.realtime.timebase import MEL_BANDS, SAMPLE_RATE_HZ, columns_complete


def speech_like(seconds: float, level_db: float = -26.0, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    syllables = np.clip(np.sin(2 * np.pi * 4 * t), 0, None)
    tone = sum(np.sin(2 * np.pi * 130 * k * t) / k for k in range(1, 12))
    sound = syllables * (tone + 0.1 * rng.standard_normal(len(t)))
    loud = sound / np.sqrt(np.mean(sound**2)) * 10 ** (level_db / 20)
    return np.asarray(loud, dtype=np.float32)


@pytest.mark.parametrize("longest_block", [1, 160, 511, 513, 5000])
def test_blocks_of_any_size_give_the_same_bits(longest_block: int) -> None:
    samples = speech_like(0.3 if longest_block == 1 else 4.0)
    whole, end = log_mel(samples, initial_log_mel())
    rng = np.random.default_rng(longest_block)
    state, parts, at = initial_log_mel(), [], 0
    while at < len(samples):
        size = int(rng.integers(1, longest_block + 1))
        columns, state = log_mel(samples[at : at + size], state)
        parts.append(columns)
        at += size
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    for name in ("level_db", "noise_db", "mean_db", "swing_db"):
        assert getattr(state, name) == getattr(end, name)
    np.testing.assert_array_equal(state.tail, end.tail)


def test_mel_filters_are_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=1024, n_mels=MEL_BANDS)
    np.testing.assert_allclose(mel_filters(), theirs, atol=1e-7)


def test_columns_are_librosas_centred_spectrogram_up_to_the_reference() -> None:
    librosa = pytest.importorskip("librosa")
    samples = speech_like(2.0)
    columns, _ = log_mel(samples, initial_log_mel())
    power = librosa.feature.melspectrogram(
        y=samples, sr=SAMPLE_RATE_HZ, n_fft=1024, hop_length=512, n_mels=128, pad_mode="constant"
    )
    theirs = 10 * np.log10(power.T[: len(columns)] + 1e-10)
    ours = (columns - 1.0) * 40.0  # decibels against the speaker's level of each column
    inside = (columns > -0.99).all(axis=1) & (columns < 1.49).all(axis=1)
    assert inside.sum() > 20
    offset = theirs[inside] - ours[inside]
    # One reference per column, the same for all its bands.
    assert np.ptp(offset, axis=1).max() < 1e-3


def test_number_of_columns() -> None:
    for count in (0, 1, 511, 512, 513, 1024, 16_000):
        columns, _ = log_mel(np.zeros(count, np.float32), initial_log_mel())
        assert columns.shape == (columns_complete(count), MEL_BANDS)


def test_quiet_and_loud_speakers_come_to_look_alike() -> None:
    means = []
    for level_db in (-40.0, -14.0):
        columns, _ = log_mel(speech_like(40.0, level_db), initial_log_mel())
        means.append(columns[-200:].mean())
    before = [
        log_mel(speech_like(1.0, level), initial_log_mel())[0].mean() for level in (-40.0, -14.0)
    ]
    assert abs(means[0] - means[1]) < 0.35 * abs(before[0] - before[1])


def test_level_holds_in_silence_and_room_noise() -> None:
    _, spoken = log_mel(speech_like(10.0), initial_log_mel())
    noise = np.random.default_rng(1).standard_normal(20 * SAMPLE_RATE_HZ).astype(np.float32) * 1e-3
    _, after = log_mel(noise, spoken)
    assert abs(after.level_db - spoken.level_db) < 1.0


def test_the_future_changes_nothing_heard() -> None:
    samples = speech_like(3.0)
    louder = samples.copy()
    louder[24_000:] *= 8.0
    one, _ = log_mel(samples, initial_log_mel())
    other, _ = log_mel(louder, initial_log_mel())
    same = columns_complete(24_000)
    np.testing.assert_array_equal(one[:same], other[:same])
    assert not np.array_equal(one[same:], other[same:])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_samples_are_refused_and_leave_the_state_alone(bad: float) -> None:
    state: LogMelState = initial_log_mel()
    samples = speech_like(0.1)
    samples[7] = bad
    with pytest.raises(ValueError, match="finite"):
        log_mel(samples, state)
    np.testing.assert_array_equal(state.tail, np.zeros(512, np.float32))


def test_a_loud_fan_is_not_taken_for_a_soft_voice() -> None:
    """Without a word spoken, steady noise may not be pulled up to the level of speech."""
    fan = np.random.default_rng(2).standard_normal(60 * SAMPLE_RATE_HZ).astype(np.float32) * 1e-2
    columns, state = log_mel(fan, initial_log_mel())
    assert state.level_db > -33.0  # the fan is at -40 dB
    assert state.noise_db == pytest.approx(-40.0, abs=1.0)
    assert columns[-300:].mean() <= columns[:30].mean()
    tail = fan[: 5 * SAMPLE_RATE_HZ]
    voice, _ = log_mel(speech_like(5.0, -26.0) + tail, state)
    assert voice.max(axis=1).mean() > columns[-300:].max(axis=1).mean()
