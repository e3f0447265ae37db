"""Clips, prosody, planner and corpus: gestures follow the voice they are planned on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.skeleton import MEAN_DIRECTION, bone_index, normalise
from ha2g_live.realtime.timebase import columns_complete, samples_heard_at
from ha2g_live.training.catalogue import Catalogue, family_of, load_catalogue, wrist_speed_m_s
from ha2g_live.training.clips import directions_of, mirror
from ha2g_live.training.corpus import (
    build,
    held_out,
    make_audio,
    plan_streams,
    read_speech_table,
)
from ha2g_live.training.dataset import Lanes, audio_of, load_corpus
from ha2g_live.training.planner import STYLES, plan
from ha2g_live.training.prosody import analyse
from tests.small_data import write_clip, write_data

FOREARM = bone_index("left_elbow", "left_wrist")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def catalogue(data: Path) -> Catalogue:
    return load_catalogue(data)


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


@pytest.mark.parametrize(
    ("motion", "family"),
    [
        ("ChrBrad@Idle01_BeatLowLf02", "beat"),
        ("ChrConnor@IdleStand01_BeatFlipRt01", "beatflip"),
        ("ChrGarza@IdleStand01_NegateForwardLowBt01", "negateforward"),
        ("ChrBrad@Idle01_InclusivityPosBt01", "inclusivitypos"),
        ("ChrBrad@Idle01_ScratchHeadLf01", "scratch"),
    ],
)
def test_family_is_read_from_the_name(motion: str, family: str) -> None:
    assert family_of(motion) == family


def test_catalogue_takes_what_belongs_in_talk(catalogue: Catalogue) -> None:
    names = set(catalogue.names)
    assert {"beat:set_idle01_beatmidlf01", "beat:set_idle01_beatmidlf01:mirror"} <= names
    assert not any("stop" in name for name in names)  # a family that is not used
    assert not any("chop" in name for name in names)  # placeholder times
    assert catalogue.idle_count == 1
    assert all(name.startswith("idle:") for name in catalogue.names[: catalogue.idle_count])
    rng = np.random.default_rng(0)
    drawn = {catalogue.clips[catalogue.draw(0.0, 1.0, rng)].hands for _ in range(20)}
    assert drawn == {"left"}


def test_prosody_of_real_speech() -> None:
    samples = read_audio(demo_clip())
    padded = np.concatenate((np.zeros(32_000, np.float32), samples, np.zeros(32_000, np.float32)))
    prosody = analyse(padded)
    assert 1.9 < prosody.phrases[0][0] < 3.0
    assert prosody.phrases[-1][1] < len(padded) / 16_000 - 1.9
    assert len(prosody.phrases) >= 3  # he pauses often
    assert 8 <= len(prosody.peaks) <= 30
    for peak in prosody.peaks:
        assert any(start - 0.1 <= peak.time_s <= end + 0.1 for start, end in prosody.phrases)


def test_prosody_of_silence() -> None:
    assert analyse(np.zeros(32_000, np.float32)).phrases == ()


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_hands_follow_the_voice(style: object, catalogue: Catalogue) -> None:
    chosen = next(s for s in STYLES if s is style)
    silence = np.zeros(4 * 16_000, np.float32)
    samples = np.concatenate((silence, read_audio(demo_clip()), silence))
    frames = len(samples) * 15 // 16_000
    planned = plan(analyse(samples), frames, chosen, catalogue, seed=1)
    speed = wrist_speed_m_s(planned.directions, 15.0).mean(axis=1)
    spoken = speed[4 * 15 : -4 * 15]
    assert spoken.mean() > 5 * speed[15 : 4 * 15 - 5].mean()  # still before the first word
    assert spoken.mean() > 5 * speed[-2 * 15 :].mean()  # and two seconds after the last
    assert np.linalg.norm(planned.directions, axis=-1) == pytest.approx(1.0, abs=1e-4)
    begins = planned.age == 0
    assert planned.choice[0] < catalogue.idle_count
    assert np.all(np.diff(planned.choice)[~begins[1:]] == 0)
    assert np.all(planned.age[~begins] == planned.age[np.flatnonzero(~begins) - 1] + 1)


def test_a_plan_looks_back_only(catalogue: Catalogue) -> None:
    """Cutting the end of a recording changes no gesture that began before the cut."""
    samples = read_audio(demo_clip())
    full = analyse(samples)
    cut_s = full.phrases[2][1] + 0.05
    early = type(full)(
        tuple(p for p in full.phrases if p[0] < cut_s),
        tuple(p for p in full.peaks if p.time_s < cut_s),
    )
    frames = len(samples) * 15 // 16_000
    one = plan(full, frames, STYLES[1], catalogue, seed=4)
    other = plan(early, frames, STYLES[1], catalogue, seed=4)
    until = int(cut_s * 15) - 2
    np.testing.assert_array_equal(one.choice[:until], other.choice[:until])


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


def test_speakers_are_either_trained_on_or_held_out(data: Path) -> None:
    recordings = read_speech_table(data)
    splits = plan_streams(recordings, hours=0.1, seed=0)
    speaker_of = {recording.path: recording.speaker for recording in recordings}
    for split, streams in splits.items():
        for stream in streams:
            for path in stream.recordings:
                assert held_out(speaker_of[path]) == (split == "held_out")


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
    for stream in streams[:6]:
        voice, heard = make_audio(stream)
        assert len(voice) == len(heard)
        silent = voice == 0.0
        assert silent.any()
        assert np.abs(heard[silent]).max() > 0.0
        speech_db, noise_db = (
            10 * np.log10(np.mean(x[mask] ** 2))
            for x, mask in ((voice, np.abs(voice) > 0.01), (heard, silent[: len(heard)]))
        )
        assert speech_db > noise_db
