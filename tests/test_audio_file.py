from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ha2g_live.realtime.audio_file import demo_clip, read_audio, stream_audio
from ha2g_live.realtime.errors import AudioFileError
from ha2g_live.realtime.types import F32

FORMATS = [
    ("wav", "WAV", "PCM_16", 1e-3),
    ("wav", "WAV", "FLOAT", 1e-3),
    ("flac", "FLAC", "PCM_24", 1e-3),
    ("ogg", "OGG", "VORBIS", 0.05),
    ("opus", "OGG", "OPUS", 0.05),
    ("mp3", "MP3", "MPEG_LAYER_III", 0.05),
]


def tone(rate_hz: int, seconds: float = 2.0) -> F32:
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)


@pytest.mark.parametrize(("suffix", "kind", "subtype", "tolerance"), FORMATS)
def test_every_format_gives_the_sound_that_was_written(
    tmp_path: Path, suffix: str, kind: str, subtype: str, tolerance: float
) -> None:
    if not soundfile.check_format(kind, subtype):
        pytest.skip(f"this libsndfile has no {kind} {subtype}")
    path = tmp_path / f"tone.{suffix}"
    left = tone(48_000)
    stereo = np.stack((left, 0.5 * left), axis=1)
    soundfile.write(path, stereo, 48_000, format=kind, subtype=subtype)
    samples = read_audio(path)
    assert samples.dtype == np.float32
    assert abs(len(samples) - 32_000) <= 1
    middle = slice(4000, 28_000)
    assert np.abs(samples[middle] - 0.75 * tone(16_000)[middle]).max() < tolerance


@pytest.mark.parametrize(("suffix", "kind", "subtype", "tolerance"), FORMATS)
def test_decoding_in_pieces_changes_nothing(
    tmp_path: Path, suffix: str, kind: str, subtype: str, tolerance: float
) -> None:
    if not soundfile.check_format(kind, subtype):
        pytest.skip(f"this libsndfile has no {kind} {subtype}")
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(16_000, 5.0), 16_000, format=kind, subtype=subtype)
    whole, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_allclose(read_audio(path), whole, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
@pytest.mark.parametrize("block_samples", [1, 320, 100_000])
def test_the_stream_is_the_file_in_blocks(tmp_path: Path, rate_hz: int, block_samples: int) -> None:
    path = tmp_path / "noise.wav"
    noise = np.random.default_rng(3).uniform(-1, 1, 40_001).astype(np.float32)
    soundfile.write(path, noise, rate_hz, subtype="FLOAT")
    blocks = list(stream_audio(path, block_samples))
    assert all(len(block) == block_samples for block in blocks[:-1])
    assert 0 < len(blocks[-1]) <= block_samples
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(path))
    if rate_hz == 16_000:
        np.testing.assert_array_equal(np.concatenate(blocks), noise)


def test_the_demo_clip_is_eleven_seconds_of_speech() -> None:
    samples = read_audio(demo_clip())
    assert len(samples) == 11 * 16_000
    assert 0.05 < float(np.sqrt(np.mean(samples**2))) < 0.5


def write_bad_files(folder: Path) -> None:
    (folder / "folder").mkdir()
    (folder / "text.wav").write_text("this is no sound")
    (folder / "nothing.wav").write_bytes(b"")
    (folder / "headerless.raw").write_bytes(bytes(1000))
    soundfile.write(folder / "empty.wav", np.zeros(0, dtype=np.float32), 16_000)
    soundfile.write(folder / "slow.wav", np.zeros(100, dtype=np.float32), 100)
    soundfile.write(folder / "whole.flac", tone(48_000), 48_000)
    data = (folder / "whole.flac").read_bytes()
    (folder / "cut.flac").write_bytes(data[: len(data) // 2])
    for name, value in (("nan", np.nan), ("inf", -np.inf), ("unscaled", 21034.0)):
        samples = np.stack((tone(48_000), tone(48_000)), axis=1)
        samples[70_000, 1] = value
        soundfile.write(folder / f"{name}.wav", samples, 48_000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent.wav", "does not exist"),
        ("folder", "is a folder"),
        ("text.wav", "cannot be read"),
        ("nothing.wav", "cannot be read"),
        ("headerless.raw", "cannot be read"),
        ("cut.flac", "cannot be read"),
        ("empty.wav", "holds no sound"),
        ("slow.wav", "sample rate of 100 Hz"),
        ("nan.wav", "sample 70000 (1.458 s) is nan"),
        ("inf.wav", "sample 70000 (1.458 s) is -inf"),
        ("unscaled.wav", "sample 70000 (1.458 s) is 21034.0"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, name: str, says: str) -> None:
    write_bad_files(tmp_path)
    with pytest.raises(AudioFileError) as caught:
        read_audio(tmp_path / name)
    message = str(caught.value)
    assert says in message
    assert name in message
    assert "\n" not in message
    with pytest.raises(AudioFileError):
        list(stream_audio(tmp_path / name, 320))


def test_a_file_that_ends_early_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not soundfile.check_format("MP3", "MPEG_LAYER_III"):
        pytest.skip("this libsndfile has no MP3")
    path = tmp_path / "tone.mp3"
    soundfile.write(path, tone(48_000), 48_000, format="MP3")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert 0 < len(read_audio(path)) < 30_000
    assert "it is damaged or cut" in caplog.text
