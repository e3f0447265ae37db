"""The open format, the windows that go into it, and the made-up recordings."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest

from ha2g_live.engines.ted import NAMES, Skeleton, skeleton
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.features import initial_log_mel, log_mel
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g import example, windows
from ha2g_live.training.ha2g.dataset import DataSet, DataSetError, first_column, open_dataset
from ha2g_live.training.ha2g.spectrogram import clip_decibels, column_count, stream_decibels
from ha2g_live.training.ha2g.writer import Clip, DataSetWriter

FRAMES = 60
SAMPLES = (64000, 56000, 64000)  # the second clip's sound ends before its poses


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("open") / "data"


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    rng = np.random.default_rng(0)
    return [
        Clip(
            poses=rng.normal(size=(FRAMES, 126)).astype(np.float32),
            audio=(0.1 * rng.normal(size=SAMPLES[k])).astype(np.float32),
            words=[("hello", 0.0), (f"word{k}", 0.999), ("late", 99.0)],
            speaker=f"person{k}",
            windows=[0, 10, 26],
        )
        for k in range(3)
    ]


@pytest.fixture(scope="module")
def data(folder: Path, clips: list[Clip]) -> DataSet:
    with DataSetWriter(folder, skeleton("ted_expressive"), "a test") as writer:
        for clip in clips:
            writer.add("train", clip)
        writer.add("val", replace(clips[0], speaker="stranger", words=[("new", 0.5)]))
        writer.notes["about"] = {"kept": 3}
    return open_dataset(folder)


def test_what_is_written_is_read(data: DataSet, clips: list[Clip]) -> None:
    assert data.skeleton is skeleton("ted_expressive")
    assert data.speakers == ("person0", "person1", "person2")
    assert data.words == ("", "<unknown>", "hello", "word0", "word1", "word2")
    assert (data.source, data.notes) == ("a test", {"about": {"kept": 3}})
    assert (len(data.train), len(data.val), len(data.test)) == (9, 3, 0)
    assert (data.train.clips, data.test.clips) == (3, 0)
    split = data.train
    for k, clip in enumerate(clips):
        np.testing.assert_array_equal(split.clip_poses(k), clip.poses)
        np.testing.assert_array_equal(split.clip_audio(k), clip.audio.astype(np.float16))
        assert split.clip_speaker(k) == k
        assert split.windows_of(k).tolist() == [3 * k, 3 * k + 1, 3 * k + 2]
    assert (split.clip_of(5), split.frame_of(5)) == (1, 26)


def test_windows_are_pieces_of_their_clips(data: DataSet, clips: list[Clip]) -> None:
    split, chosen = data.train, np.array([7, 0, 2])
    poses, words = split.poses(chosen), split.words_at(chosen)
    assert poses.dtype == np.float32
    assert poses.shape == (3, 34, 126)
    assert words.dtype == np.int64
    assert words.shape == (3, 34)
    for row, (clip, first) in enumerate(((2, 10), (0, 0), (0, 26))):
        np.testing.assert_array_equal(poses[row], clips[clip].poses[first : first + 34])
        np.testing.assert_array_equal(words[row], split.clip_words(clip)[first : first + 34])
    assert split.speakers_at(chosen).tolist() == [2, 0, 0]
    assert split.speakers_at(chosen).dtype == np.int64
    # hello at frame 0 and word2 at floor(0.999 * 15) = 14; what starts after the end is left out
    assert np.flatnonzero(words[1]).tolist() == [0, 14]
    assert words[0][4] == data.words.index("word2")


def test_strangers_and_new_words_of_later_splits(data: DataSet) -> None:
    assert data.val.words_at(np.array([0]))[0, 7] == 1
    assert data.val.clip_speaker(0) == 0


@pytest.mark.parametrize("reference", ["clip", "stream"])
def test_spectrogram_windows(data: DataSet, reference: str) -> None:
    split = data.train
    whole = split.clip_spectrogram(1, reference)
    assert whole.shape == (128, column_count(SAMPLES[1]))
    found = split.spectrogram(np.array([3, 4, 5]), reference)
    assert found.dtype == np.float32
    assert found.shape == (3, 128, 70)
    assert found.min() >= -80.0
    assert found.max() <= 0.0
    for row, first in enumerate((0, 10, 26)):
        column = first * 16000 // 15 // 512
        piece = whole[:, column : column + 70]
        np.testing.assert_array_equal(found[row, :, : piece.shape[1]], piece)
        assert (found[row, :, piece.shape[1] :] == -80.0).all()
    assert whole.shape[1] < first_column(np.array([26]))[0] + 70  # so the last one was filled up
    with pytest.raises(ConfigError, match="no reference 'loud'"):
        split.spectrogram(np.array([0]), "loud")


def test_audio_windows(data: DataSet) -> None:
    split = data.train
    np.testing.assert_array_equal(split.audio(1), split.clip_audio(0)[10666 : 10666 + 36267])
    whole, last = split.clip_audio(1), split.audio(5)
    begin = 26 * 16000 // 15
    assert last.shape == (36267,)
    np.testing.assert_array_equal(last[: len(whole) - begin], whole[begin:])
    assert (last[len(whole) - begin :] == 0.0).all()


def test_references_are_the_features_computed_apart(data: DataSet) -> None:
    audio = data.train.clip_audio(2)
    mel = librosa.feature.melspectrogram(y=audio, sr=16000, n_fft=1024, hop_length=512, n_mels=128)
    published = librosa.power_to_db(mel, ref=np.max)
    np.testing.assert_allclose(clip_decibels(audio), published, atol=1e-3)
    np.testing.assert_allclose(data.train.clip_spectrogram(2), published, atol=0.04)  # float16
    columns, state = [], initial_log_mel()
    for block in np.array_split(audio, 7):
        some, state = log_mel(block, state)
        columns.append(some)
    live = np.clip((np.concatenate(columns).T - 1.0) * 40.0, -80.0, 0.0)
    stored = data.train.clip_spectrogram(2, "stream")
    np.testing.assert_allclose(stored[:, : live.shape[1]], live, atol=0.04)
    assert stored.shape[1] - live.shape[1] == 1  # its sound ends before the column is complete


def test_digital_silence_is_silence() -> None:
    silence = np.zeros(5000, np.float32)
    assert (clip_decibels(silence) == -80.0).all()
    assert (stream_decibels(silence, 12) == -80.0).all()


def test_a_split_goes_to_another_process_as_its_path(data: DataSet) -> None:
    sent = pickle.dumps(data.train)
    assert len(sent) < 1000
    np.testing.assert_array_equal(
        pickle.loads(sent).poses(np.array([8])), data.train.poses(np.array([8]))
    )


def test_a_failed_conversion_leaves_nothing(tmp_path: Path, clips: list[Clip]) -> None:
    def convert() -> None:
        with DataSetWriter(tmp_path / "out", skeleton("ted_expressive"), "") as writer:
            writer.add("train", clips[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        convert()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_conversion_does_not_open(tmp_path: Path, clips: list[Clip]) -> None:
    code = """
import os, pickle, sys
from pathlib import Path
from ha2g_live.engines.ted import skeleton
from ha2g_live.training.ha2g.writer import DataSetWriter
with DataSetWriter(Path(sys.argv[1]), skeleton("ted_expressive"), "") as writer:
    writer.add("train", pickle.load(sys.stdin.buffer))
    os._exit(9)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    assert subprocess.run(command, input=pickle.dumps(clips[0]), check=False).returncode == 9
    with pytest.raises(DataSetError, match="no data set folder"):
        open_dataset(tmp_path / "out")
    (unfinished,) = tmp_path.iterdir()
    with pytest.raises(DataSetError, match=r"no dataset\.json"):
        open_dataset(unfinished)
    with DataSetWriter(tmp_path / "out", skeleton("ted_expressive"), "") as again:
        again.add("train", clips[0])
    assert len(open_dataset(tmp_path / "out").train) == 3
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


def test_writer_refuses_what_does_not_fit(tmp_path: Path, clips: list[Clip]) -> None:
    with DataSetWriter(tmp_path / "out", skeleton("ted_expressive"), "") as writer:
        with pytest.raises(ValueError, match="leaves the clip"):
            writer.add("train", replace(clips[0], windows=[27]))
        with pytest.raises(ValueError, match="sound"):
            writer.add("train", replace(clips[0], audio=np.zeros(0, np.float32)))
        with pytest.raises(ValueError, match="split"):
            writer.add("dev", clips[0])
        other = np.zeros((128, 9), np.float32)
        with pytest.raises(ValueError, match="spectrograms of shapes"):
            writer.add("train", replace(clips[0], stream_spectrogram=other))
        writer.add("train", clips[0])
        writer.add("val", clips[1])
        with pytest.raises(ValueError, match="before those of other splits"):
            writer.add("train", clips[2])
    with pytest.raises(DataSetError, match="exists already"):
        DataSetWriter(tmp_path / "out", skeleton("ted_expressive"), "")


def _rewrite(path: Path, **changes: Any) -> None:
    about = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(about | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("gone", "is missing"),
        ("cut", "is damaged"),
        ("pickle", "is damaged"),
        ("shape", "expected float32"),
        ("shorter", "do not fit each other"),
        ("window", "do not fit each other"),
        ("words", "a word that is not there"),
        ("speakers", "a speaker or a word"),
        ("foreign", "not of this program"),
        ("entry", "no entry 'speakers'"),
        ("json", "is damaged"),
        ("version", "version 99"),
    ],
)
def test_damage_is_one_clear_line(
    tmp_path: Path, clips: list[Clip], fault: str, message: str
) -> None:
    path = tmp_path / "out"
    with DataSetWriter(path, skeleton("ted_expressive"), "") as writer:
        writer.add("train", clips[0])
    about, poses = path / "dataset.json", path / "train" / "poses.npy"
    if fault == "gone":
        poses.unlink()
    elif fault == "cut":
        poses.write_bytes(poses.read_bytes()[:5000])
    elif fault == "pickle":
        np.save(poses, np.array([{}], dtype=object), allow_pickle=True)
    elif fault == "shape":
        np.save(poses, np.zeros((FRAMES, 27), np.float32))
    elif fault == "shorter":
        np.save(poses, np.zeros((FRAMES - 1, 126), np.float32))
    elif fault == "window":
        np.save(path / "train" / "windows.npy", np.array([[0, 27]]))
    elif fault == "words":
        _rewrite(about, words=["", "<unknown>"])
    elif fault == "speakers":
        _rewrite(about, speakers=[])
    elif fault == "foreign":
        _rewrite(about, format="another")
    elif fault == "entry":
        stored = json.loads(about.read_text(encoding="utf-8"))
        del stored["speakers"]
        about.write_text(json.dumps(stored), encoding="utf-8")
    elif fault == "json":
        about.write_bytes(b"\xff\xfe{")
    else:
        _rewrite(about, version=99)
    with pytest.raises(DataSetError, match=message) as caught:
        open_dataset(path)
    assert "\n" not in str(caught.value)
    assert "convert" in str(caught.value)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="no data set folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataSetError, match="ha2g-live dataset convert"):
        open_dataset(tmp_path)


# --- windows


def test_resampling_is_linear_in_time() -> None:
    ramp = np.arange(50, dtype=np.float32).reshape(-1, 1, 1)  # 2 s at 25 a second
    found = windows.resample_poses(ramp, 2.0)
    np.testing.assert_allclose(found[:, 0, 0], np.arange(30) * 25 / 15, rtol=1e-6)
    slow = windows.resample_poses(ramp, 5.0)  # 10 a second
    np.testing.assert_allclose(slow[:74, 0, 0], np.arange(74) * 10 / 15, rtol=1e-5)
    assert slow[74, 0, 0] == 49.0  # nothing follows the last pose


def _moving(bones: Skeleton) -> F32:
    """42 poses that no filter drops."""
    raw = example.example_clips(bones.name, videos=1, seconds=6.0)["train"][0]
    return windows.resample_poses(raw.positions, raw.duration_s)[:42]


@pytest.mark.parametrize("name", NAMES)
def test_each_filter_drops_what_it_must(name: str) -> None:
    bones = skeleton(name)
    good = _moving(bones)
    tests = windows.FILTERS
    assert not any(drops(good, 2, bones) for drops in tests.values())
    assert tests["too few words"](good, 1, bones)

    still = np.broadcast_to(bones.mean_pose, good.shape)
    assert tests["static pose"](still + 0.019, 2, bones)
    assert not tests["static pose"](still + 0.021, 2, bones)

    def leaning(degrees: np.ndarray[Any, Any]) -> F32:
        parent, child = bones.bones[0]
        pose: F32 = good.copy()
        angle = np.radians(degrees)
        up = np.stack((np.sin(angle), -np.cos(angle), np.zeros(42)), axis=-1)
        pose[:, child] = pose[:, parent] + 0.2 * up
        return pose

    for most, dropped in ((29.0, False), (31.0, True)):
        assert tests["tilted spine"](leaning(np.where(np.arange(42) == 5, most, 0)), 2, bones) == (
            dropped
        )
    for mean, dropped in ((19.0, False), (21.0, True)):
        assert tests["tilted spine"](leaning(np.full(42, mean)), 2, bones) == dropped

    for spread, dropped in ((0.0013, True), (0.0015, False)):
        pose = np.repeat(good[:1], 42, axis=0)
        pose[::2, bones.wrists[1], 2] += 2.0 * np.sqrt(spread)  # that variance, in one wrist
        assert tests["still wrists"](pose, 2, bones) == dropped


def test_cut_takes_42_poses_every_10_and_counts_words_that_sound() -> None:
    bones = skeleton("ted_expressive")
    raw = example.example_clips(videos=1, seconds=8.0)["train"][0]
    poses = windows.resample_poses(raw.positions, raw.duration_s)
    count: Counter[str] = Counter()
    words = [("a", 0.1, 0.2), ("b", 0.5, 0.6), ("c", 3.0, 3.1), ("d", 6.5, 6.6)]
    only_words = {"too few words": windows.too_few_words}
    kept = windows.cut(poses, words, bones, count, only_words)
    # 42 poses are 2.8 s; c sounds in windows that begin at 10 .. 40, d in those from 60 on
    assert kept == [0]
    assert count == {"kept": 1, "too few words": 7}
    assert windows.cut(poses, raw.words, bones, Counter(), {}) == list(range(0, 120 - 41, 10))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"duration_s": 0.0}, "empty"),
        ({"audio": np.zeros(0, np.float32)}, "empty"),
        ({"audio": np.full(99999, np.nan, np.float32)}, "not finite"),
        ({"duration_s": 600.0}, "impossible frame rate"),
        ({"audio": np.zeros(16000, np.float32)}, "too little sound"),
    ],
)
def test_impossible_clips_are_counted_and_left_out(change: dict[str, Any], reason: str) -> None:
    raw = example.example_clips(videos=1, seconds=6.0)["train"][0]
    tally = windows.Tally()
    assert windows.prepare(replace(raw, **change), skeleton("ted_expressive"), tally) is None
    assert tally.clips == {reason: 1}
    with pytest.raises(ValueError, match=r"expected \[10, 3\]"):
        windows.prepare(raw, skeleton("ted_gesture"), tally)


# --- made-up recordings


@pytest.mark.parametrize("name", NAMES)
def test_recordings_survive_and_each_fault_is_dropped_by_its_filter(
    name: str, tmp_path: Path
) -> None:
    tallies = example.write_example(tmp_path / "out", name, videos=2, seconds=12.0)
    recordings = example.example_clips(name, videos=2, seconds=12.0)
    bones = skeleton(name)
    for split, tally in tallies.items():
        assert tally.computed == 0
        assert set(tally.windows) == {*windows.FILTERS, "kept"}
        good = [raw for raw in recordings[split] if raw.speaker != example.FAULT_SPEAKER]
        counted = windows.Tally()
        for raw in good:
            assert windows.prepare(raw, bones, counted) is not None
        assert counted.windows["kept"] >= 0.85 * counted.windows.total()
        faulty = [raw for raw in recordings[split] if raw.speaker == example.FAULT_SPEAKER]
        for fault, raw in zip(example.FAULTS, faulty, strict=True):
            alone = windows.Tally()
            assert windows.prepare(raw, bones, alone) is None
            assert alone.windows == {fault: 2}
            others = {key: value for key, value in windows.FILTERS.items() if key != fault}
            assert windows.prepare(raw, bones, windows.Tally(), others) is not None
    assert open_dataset(tmp_path / "out").skeleton.name == name


def test_recordings_depend_on_the_seed_only() -> None:
    one, same, other = (example.example_clips(videos=2, seconds=4.0, seed=s) for s in (1, 1, 2))
    for split, raws in one.items():
        for a, b, c in zip(raws, same[split], other[split], strict=True):
            np.testing.assert_array_equal(a.positions, b.positions)
            np.testing.assert_array_equal(a.audio, b.audio)
            assert a.words == b.words
            assert not np.array_equal(a.audio, c.audio)
    assert not np.array_equal(one["train"][0].audio, one["val"][0].audio)


@pytest.mark.parametrize("name", NAMES)
def test_the_hands_stop_on_the_beats(name: str) -> None:
    raw = example.example_clips(name, videos=1, seconds=12.0)["train"][0]
    bones = skeleton(name)
    wrist = raw.positions[:, bones.wrists[0]] - raw.positions[:, 0]
    speed = np.linalg.norm(np.diff(wrist, axis=0), axis=-1) * example.FPS
    middles_s = (np.arange(len(speed)) + 1.0) / example.FPS
    starts_s = np.array([start for _, start, _ in raw.words])
    at_beats = np.interp(starts_s + 0.5 / example.FPS, middles_s, speed)
    between = np.interp((starts_s[1:] + starts_s[:-1]) / 2, middles_s, speed)
    assert at_beats.mean() < 0.25 * between.mean()
    heard_s = librosa.onset.onset_detect(y=raw.audio, sr=16000, units="time")
    nearest = np.abs(heard_s[:, None] - starts_s).min(axis=0)
    assert np.median(nearest) < 0.07


def test_recordings_refuse_settings_that_make_none() -> None:
    with pytest.raises(ConfigError, match="--videos must be at least 1, got 0"):
        example.example_clips(videos=0)
    with pytest.raises(ConfigError, match="--seconds must be at least 3, got nan"):
        example.example_clips(seconds=float("nan"))
