"""Clips and corpus: streams are dealt, heard and stored as said, the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.skeleton import MEAN_DIRECTION, bone_index, normalise
from ha2g_live.realtime.timebase import columns_complete, samples_heard_at
from ha2g_live.training import sound
from ha2g_live.training.catalogue import held_out_clip, load_catalogue
from ha2g_live.training.clips import directions_of, mirror
from ha2g_live.training.corpus import build, phrase_features
from ha2g_live.training.dataset import Lanes, audio_of, load_corpus
from ha2g_live.training.prosody import Peak, Prosody
from ha2g_live.training.streams import (
    SPLITS,
    held_out_speaker,
    make_sound,
    plan_streams,
    read_speech_table,
)
from ha2g_live.training.styles import STYLES
from tests.small_data import write_clip, write_data

FOREARM = bone_index("left_elbow", "left_wrist")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def corpus(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus")
    build(data, out, hours=60 / 3600, seed=3, jobs=1)
    return out


def test_a_hanging_arm_points_down_and_a_bent_one_forward(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.npz", "left", np.pi / 2, frames=31)
    directions, fps = directions_of(tmp_path / "clip.npz")
    assert fps == 30.0
    assert directions[0, FOREARM] == pytest.approx((0, 1, -0.08), abs=0.01)  # y is down
    assert directions[15, FOREARM] == pytest.approx((0, -0.08, -1), abs=0.01)  # -z is forward
    right = bone_index("right_elbow", "right_wrist")
    assert directions[15, right] == pytest.approx((0, 1, -0.08), abs=0.01)
    shoulder = bone_index("neck", "left_shoulder")
    assert directions[0, shoulder, 0] > 0.9  # x is to the person's left


def test_mirror_exchanges_the_sides() -> None:
    pose = normalise(MEAN_DIRECTION)
    flipped = mirror(pose)
    np.testing.assert_array_equal(mirror(flipped), pose)
    right = bone_index("right_elbow", "right_wrist")
    assert flipped[right] == pytest.approx(pose[FOREARM] * np.array([-1, 1, 1]))


def test_a_file_that_is_no_clip(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(Ha2gError, match="is not a gesture clip"):
        directions_of(tmp_path / "other.npz")


def test_corpus_is_the_same_for_the_same_seed(data: Path, corpus: Path, tmp_path: Path) -> None:
    build(data, tmp_path, hours=60 / 3600, seed=3, jobs=1)
    names = sorted(path.name for path in corpus.glob("*.npz"))
    assert names == sorted(path.name for path in tmp_path.glob("*.npz"))
    for name in names:
        with np.load(corpus / name) as one, np.load(tmp_path / name) as other:
            for key in one.files:
                np.testing.assert_array_equal(one[key], other[key])


def test_building_goes_on_where_it_stopped(data: Path, corpus: Path, tmp_path: Path) -> None:
    build(data, tmp_path, hours=60 / 3600, seed=3, jobs=1)
    files = sorted(tmp_path.glob("train_*.npz"))
    kept = files[0].stat().st_mtime_ns
    files[-1].unlink()
    build(data, tmp_path, hours=60 / 3600, seed=3, jobs=1)
    assert files[-1].read_bytes() == (corpus / files[-1].name).read_bytes()
    if len(files) > 1:
        assert files[0].stat().st_mtime_ns == kept


def test_another_corpus_is_not_mixed_in(data: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text("{}")
    with pytest.raises(Ha2gError, match="holds another corpus"):
        build(data, tmp_path, hours=60 / 3600, seed=3, jobs=1)


def test_speakers_are_either_trained_on_or_held_out(data: Path) -> None:
    recordings = read_speech_table(data)
    splits = plan_streams(recordings, hours=0.5, seed=0)
    assert tuple(splits) == SPLITS
    speaker_of = {recording.path: recording.speaker for recording in recordings}
    for split, streams in splits.items():
        assert streams
        for stream in streams:
            assert stream.split == split
            assert bool(stream.turns) == (stream.kind == "speech")
            for turn in stream.turns:
                (speaker,) = {speaker_of[path] for path in turn}
                assert held_out_speaker(speaker) == (split != "train")
    kinds = {stream.kind for stream in splits["non_speech"]}
    assert kinds == set(sound.KINDS)
    assert {stream.style for stream in splits["train"]} == set(range(len(STYLES)))


def test_clips_are_either_trained_on_or_held_out(data: Path) -> None:
    trained, kept = load_catalogue(data), load_catalogue(data, held_out=True)
    for catalogue, held_out in ((trained, False), (kept, True)):
        units = catalogue.units[catalogue.first_gesture :]
        assert units
        for unit in units:
            assert held_out_clip(unit.name.split("/")[0].removesuffix(":mirror")) == held_out


def test_missing_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(Ha2gError, match=r"gestures\.csv is missing"):
        load_catalogue(tmp_path)
    with pytest.raises(Ha2gError, match=r"speech\.csv is missing"):
        read_speech_table(tmp_path)
    with pytest.raises(Ha2gError, match=r"corpus\.json is missing"):
        load_corpus(tmp_path, "train")


def test_lanes_walk_through_streams_without_a_gap(corpus: Path) -> None:
    streams, about = load_corpus(corpus, "train")
    lanes = Lanes(streams, lanes=2, frames=20, rng=np.random.default_rng(0))
    batch = lanes.next()
    assert batch.audio.shape == (2, 20, 3, 128)
    assert batch.restarted.all()
    assert batch.label.max() <= len(about["choices"])
    following = lanes.next()
    going_on = ~following.restarted
    np.testing.assert_array_equal(following.targets[going_on, 0, 0], batch.targets[going_on, -1, 1])
    np.testing.assert_array_equal(following.choice_before[going_on, 0], batch.choice[going_on, -1])


def test_lanes_hear_what_a_live_step_hears(corpus: Path) -> None:
    stream = load_corpus(corpus, "train")[0][0]
    audio = audio_of(stream, 0, 40)
    for step in (0, 1, 7, 39):
        end = columns_complete(samples_heard_at(step))
        expected = np.full((3, 128), -1.0, np.float32)
        have = min(end, 3)
        if have:
            expected[3 - have :] = stream.columns[end - have : end]
        np.testing.assert_array_equal(audio[step], expected)


def test_corpus_file_says_what_it_is_made_of(corpus: Path) -> None:
    about = json.loads((corpus / "corpus.json").read_text())
    assert about["styles"] == [style.name for style in STYLES]
    assert about["seed"] == 3


def test_the_planner_hears_the_voice_and_the_network_the_room(data: Path) -> None:
    recordings = read_speech_table(data)
    streams = plan_streams(recordings, hours=0.3, seed=0)["train"]
    for stream in streams[:4]:
        voice, heard = make_sound(stream)
        assert len(voice) == len(heard)
        assert np.abs(heard).max() <= 1.0
        silent = voice == 0.0
        assert silent.any()
        assert np.abs(heard[silent]).max() > 0.0
        assert np.abs(heard - voice).max() > 0.0


def test_where_nobody_speaks_the_planner_hears_nothing(data: Path) -> None:
    splits = plan_streams(read_speech_table(data), hours=0.1, seed=0)
    music = next(s for s in splits["non_speech"] if s.kind == "music")
    voice, heard = make_sound(music)
    assert not voice.any()
    assert np.abs(heard).max() > 0.01


def test_held_out_streams_keep_their_sound(corpus: Path) -> None:
    about = json.loads((corpus / "corpus.json").read_text())
    for split in ("unheard", "held_out", "non_speech"):
        for name in about["streams"][split]:
            with np.load(corpus / f"{name}.npz") as file:
                assert file["samples"].dtype == np.int16
                assert len(file["samples"]) == len(file["voice"])
                assert file["phrases"].shape[1] == 2
                assert (len(file["phrases"]) > 0) == (split != "non_speech")
                assert (str(file["kind"]) == "speech") == (split != "non_speech")
                assert len(file["directions"]) == len(file["samples"]) * 15 // 16_000
                if split == "non_speech":
                    assert (file["choice"] < about["idle_count"]).all()


def test_phrase_features_look_back_only() -> None:
    level = np.linspace(0.0, 5.0, 400)
    prosody = Prosody(((1.0, 2.0),), (Peak(1.5, 1.0),), level_db=level)
    found = phrase_features(prosody, 60)
    np.testing.assert_array_equal(found[:, 0], (np.arange(60) >= 15) & (np.arange(60) < 30))
    assert not found[:22, 4].any()  # nothing of a peak before it was heard
    assert found[23, 4] > found[29, 4] > 0.0
    assert (np.diff(found[15:30, 1]) > 0).all()
    assert (np.diff(found[30:, 2]) > 0).all()
    later = Prosody(((1.0, 2.0), (3.0, 3.5)), (Peak(1.5, 1.0), Peak(3.2, 1.0)), level_db=level)
    np.testing.assert_array_equal(phrase_features(later, 60)[:45], found[:45])
