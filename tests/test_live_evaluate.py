"""Scores of the live model: what each number answers to, and the command from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ha2g_live.engines import open_engine
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.cli import main
from ha2g_live.realtime.errors import ConfigError, Ha2gError
from ha2g_live.realtime.skeleton import MEAN_DIRECTION, bone_index, normalise
from ha2g_live.realtime.types import F32
from ha2g_live.training.drift import drift
from ha2g_live.training.ha2g.autoencoder import AutoencoderConfig
from ha2g_live.training.likeness import corpus_features, finger_speed, floor, windows_of
from ha2g_live.training.people import PEOPLE, figures, span
from ha2g_live.training.repetition import repeated_choices, repetition, typical_distance_m
from ha2g_live.training.rows import Shown, false_gestures, show
from ha2g_live.training.separability import separability
from ha2g_live.training.trials import read_trials
from tests.small_ha2g import small_checkpoint, write_imported
from tests.small_model import CHOICES, STYLES, write_small_model

FPS = 30.0
SPEECH_S = 11.0


def waving(rng: np.random.Generator, seconds: float, size_rad: float, fps: float = FPS) -> F32:
    """Forearms that wander smoothly about the mean pose."""
    count = round(seconds * fps)
    waves = np.zeros((count, 2, 2))
    for _ in range(6):
        phase = rng.uniform(0, 2 * np.pi, (2, 2))
        hz = rng.uniform(0.2, 1.2, (2, 2))
        waves += np.sin(2 * np.pi * hz * np.arange(count)[:, None, None] / fps + phase)
    waves *= size_rad / 2
    motion = np.tile(normalise(MEAN_DIRECTION), (count, 1, 1))
    for hand, side in enumerate(("left", "right")):
        bone = bone_index(f"{side}_elbow", f"{side}_wrist")
        x, y = np.sin(waves[:, hand, 0]), np.sin(waves[:, hand, 1])
        motion[:, bone] = normalise(np.stack((x, y, -np.ones(count)), axis=-1))
    return motion


# --- the numbers


def test_repetition_finds_the_copies_that_are_there() -> None:
    rng = np.random.default_rng(0)
    fresh = [waving(rng, 40.0, 0.8) for _ in range(4)]
    typical = typical_distance_m(fresh, FPS)
    assert 0.02 < typical < 0.3
    assert repetition(fresh, FPS, typical) < 0.1
    looped = [np.concatenate([motion[:300]] * 4) for motion in fresh]  # every 10 s the same
    assert repetition(looped, FPS, typical) > 0.6
    assert np.isnan(repetition([np.repeat(fresh[0][:1], 900, axis=0)], FPS, typical))


def test_repeated_choices_by_hand() -> None:
    stream = [(0.0, "a"), (10.0, "b"), (30.0, "a"), (100.0, "a"), (101.0, "b")]
    assert repeated_choices([stream]) == pytest.approx(1 / 5)
    assert repeated_choices([stream[:2], stream[2:3]]) == 0.0
    assert np.isnan(repeated_choices([]))


def test_styles_that_differ_are_told_apart_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    sizes = {"small": 0.2, "middle": 0.5, "large": 0.9}
    found = separability(
        {name: [waving(rng, 45.0, size) for _ in range(6)] for name, size in sizes.items()}, FPS
    )
    assert found["style_accuracy"] > 0.9
    assert found["style_chance"] == pytest.approx(1 / 3)
    same = separability({name: [waving(rng, 45.0, 0.5) for _ in range(12)] for name in sizes}, FPS)
    assert same["style_accuracy"] < 0.65
    alone = separability({"one": [waving(rng, 45.0, 0.5)] * 2}, FPS)
    assert np.isnan(alone["style_accuracy"])


def test_drift_is_seen_where_there_is_one() -> None:
    rng = np.random.default_rng(0)
    steady = waving(rng, 12 * 60.0, 0.6)
    found = drift(steady, FPS)
    assert found["drift_minutes"] == 12
    assert abs(found["drift_speed_per_hour"]) < 1.0
    assert found["drift_pose_deg"] < 3 * found["drift_pose_usual_deg"] + 0.2
    fading = np.concatenate([waving(rng, 60.0, 0.9 - 0.07 * minute) for minute in range(12)])
    sinking = drift(fading, FPS)
    assert sinking["drift_speed_per_hour"] < -3.0
    assert sinking["drift_speed_p"] < 0.001
    leaning = steady.copy()
    leaning[len(leaning) // 2 :, bone_index("spine", "neck")] = normalise(np.array([0.3, -1, 0]))
    assert drift(leaning, FPS)["drift_pose_deg"] > 5 * found["drift_pose_deg"]
    assert np.isnan(drift(steady[:3000], FPS)["drift_speed_p"])


def test_false_gestures_are_counted_by_kind() -> None:
    rng = np.random.default_rng(0)
    still = Shown(np.tile(normalise(MEAN_DIRECTION), (3600, 1, 1)))
    wave = waving(rng, 60.0, 0.9, 60.0)
    part = np.maximum(np.sin(2 * np.pi * np.arange(3600) / 360), 0.0)  # 3 s in 6
    moving = Shown(normalise(still.directions + part[:, None, None] * (wave - still.directions)))
    found = false_gestures({"music": [moving], "keyboard": [still, still]})
    assert found["false_per_min_keyboard"] == 0.0
    assert 8 <= found["false_per_min_music"] <= 20
    assert found["false_per_min"] == pytest.approx(found["false_per_min_music"] / 3)
    assert np.isnan(false_gestures({})["false_per_min"])


def test_fingers_turn_as_fast_as_they_do() -> None:
    motion = np.tile(normalise(MEAN_DIRECTION), (61, 1, 1))
    angle = np.radians(90.0) * np.arange(61) / 60
    fingers = [b for b in range(42) if 5 <= b <= 19 or 22 <= b <= 36]
    motion[:, fingers] = np.stack((np.cos(angle), np.sin(angle), 0 * angle), axis=-1)[:, None]
    assert finger_speed([motion], 60.0) == pytest.approx(90.0, rel=0.01)
    motion[:, 3] = motion[:, 5]  # an arm is not a finger
    assert finger_speed([motion], 60.0) == pytest.approx(90.0, rel=0.01)


def test_windows_are_those_of_15_poses_a_second() -> None:
    motion = waving(np.random.default_rng(0), 4.0, 0.5, 60.0)
    windows = windows_of(motion, 60.0)
    assert windows.shape == (3, 34, 126)
    expected = (motion[::4][10:44] - MEAN_DIRECTION).reshape(34, 126)
    assert np.array_equal(windows[1], expected.astype(np.float32))
    with pytest.raises(ConfigError, match="multiple of 15"):
        windows_of(motion, 50.0)


def test_the_floor_is_low_for_the_same_and_high_for_two_kinds() -> None:
    rng = np.random.default_rng(0)
    same = [rng.standard_normal((200, 4)) for _ in range(8)]
    apart = [rng.standard_normal((200, 4)) + 5.0 * (n % 2) for n in range(8)]
    assert floor(same) < 0.1
    assert floor(apart) > floor(same)
    assert np.isnan(floor(same[:1]))


def test_figures_of_people_lie_in_their_span() -> None:
    for person in PEOPLE:
        for name, value in figures(person).items():
            low, high = span(name)
            assert low <= value <= high
    assert span("speed_mean_left") == (0.26, 0.54)
    assert np.isnan(span("fgd")).all()


# --- the command


def write_corpus(folder: Path, rng: np.random.Generator) -> Path:
    """Three speech streams of a split, two without speech, and motion to train on."""
    folder.mkdir()
    voice = read_audio(demo_clip())[: int(SPEECH_S * 16_000)]
    voice = np.concatenate((np.zeros(32_000, np.float32), voice, np.zeros(56_000, np.float32)))
    names: dict[str, list[str]] = {"train": [], "unheard": [], "held_out": [], "non_speech": []}

    def add(split: str, kind: str, samples: F32, clean: F32, size_rad: float) -> None:
        name = f"{split}_{len(names[split])}"
        names[split].append(name)
        frames = len(samples) * 15 // 16_000
        entries: dict[str, Any] = {
            "columns": np.zeros((4, 128), np.float16),
            "directions": waving(rng, frames / 15, size_rad, 15.0).astype(np.float16),
            "choice": np.tile(np.arange(2, 4, dtype=np.int16), frames)[:frames],
            "age": np.tile(np.arange(30, dtype=np.int32), frames)[:frames],
            "style": np.int64(len(names[split]) % 2),
            "phrases": np.zeros((0, 2)),
        }
        if split != "train":
            sound = {"samples": samples, "voice": clean}
            entries |= {k: (v * 32767).astype(np.int16) for k, v in sound.items()}
            entries["kind"] = kind
        np.savez(folder / f"{name}.npz", **entries)

    for _ in range(2):
        add("train", "speech", voice, voice, 0.6)
        noise = (0.05 * rng.standard_normal(5 * 16_000)).astype(np.float32)
        add("non_speech", "keyboard", noise, 0 * noise, 0.0)
    for split in ("held_out", "unheard"):
        for _ in range(3):
            add(split, "speech", voice, voice, 0.6)
    about = {
        "seed": 0,
        "hours": 0.1,
        "styles": list(STYLES),
        "choices": list(CHOICES),
        "idle_count": 2,
        "rest": normalise(MEAN_DIRECTION).tolist(),
        "streams": names,
    }
    (folder / "corpus.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("live") / "corpus", np.random.default_rng(0))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    write_small_model(path)
    return path


def command(corpus: Path, model: Path, out: Path, *more: str) -> list[str]:
    given = ["--corpus", str(corpus), "--model", str(model), "--out", str(out)]
    short = ["--autoencoder-steps", "20", "--drift-minutes", "4", "--quiet"]
    return ["evaluate", *given, *short, *more]


def test_the_command_scores_every_row(
    corpus: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    published = write_imported(tmp_path / "published", small_checkpoint("ted_expressive"))
    asked = command(corpus, model, out, "--split", "unheard", "--published", str(published))
    assert main(asked) == 0
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in scores["rows"]}
    planner, shuffled, still = (
        rows[name] for name in ("planner", "planner, shuffled audio", "mean pose")
    )
    assert {"planner, calm", "planner, lively", "model", "model, calm", "model, lively"} < set(rows)
    window = rows["published architecture"]
    assert window["delay_s"] > 0.3
    assert window["minutes"] == pytest.approx(planner["minutes"], rel=0.01)
    assert window["repeated_choices"] is None  # it chooses nothing
    assert planner["fgd"] == pytest.approx(0.0, abs=1e-6)
    assert planner["amplitude"] == 1.0
    assert shuffled["speed_mean_left"] == planner["speed_mean_left"]
    assert still["speed_mean_left"] == still["alignment"] == still["finger_speed"] == 0.0
    assert still["fgd"] > rows["planner"]["fgd_floor"]
    assert rows["model"]["fgd"] > 0
    assert rows["model"]["false_per_min_keyboard"] >= 0
    assert planner["false_per_min_keyboard"] == 0.0
    assert rows["model, calm"]["drift_minutes"] == 4.0
    assert rows["model"]["onsets"] == planner["onsets"] > 20
    # The planner's choices alternate every 2 s: all but the first two of a stream were there.
    assert planner["repeated_choices"] > 0.5
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table.strip() == capsys.readouterr().out.strip()
    assert "| mean speed, m/s | 0.36 / 0.36 | 0.54 / 0.53 |" in table
    assert "| ... keyboard |" in table
    for name in ("bars", "speeds", "alignment", "height"):
        assert (out / f"{name}.png").stat().st_size > 5000


def test_the_autoencoder_is_kept_until_the_corpus_changes(corpus: Path, tmp_path: Path) -> None:
    config = AutoencoderConfig(steps=3)
    poses = windows_of(waving(np.random.default_rng(0), 4.0, 0.5, 15.0), 15.0)
    first = corpus_features(corpus, tmp_path, config, quiet=True).of(poses)
    stamp = (tmp_path / "autoencoder.pt").read_bytes()
    assert np.array_equal(corpus_features(corpus, tmp_path, config, quiet=True).of(poses), first)
    assert (tmp_path / "autoencoder.pt").read_bytes() == stamp
    longer = corpus_features(corpus, tmp_path, AutoencoderConfig(steps=4), quiet=True)
    assert not np.array_equal(longer.of(poses), first)


def test_a_models_choices_are_noted(model: Path) -> None:
    engine = open_engine("onnx", model)
    samples = read_audio(demo_clip())[: 8 * 16_000]
    shown = show(engine, samples, "calm", 0)
    assert shown.begun is not None
    assert shown.begun, "a network of random weights begins a gesture every few steps"
    assert all(name in CHOICES and not name.startswith("idle:") for _, name in shown.begun)
    times = [time_s for time_s, _ in shown.begun]
    assert times == sorted(times)
    assert times[-1] <= 8.0
    engine.close()


def test_the_same_seed_says_the_same_in_one_process_or_two(
    corpus: Path, model: Path, tmp_path: Path
) -> None:
    texts = []
    for jobs in ("1", "2"):
        arguments = command(corpus, model, tmp_path / jobs, "--minutes", "0.2", "--jobs", jobs)
        assert main([*arguments, "--drift-minutes", "0"]) == 0
        texts.append((tmp_path / jobs / "scores.json").read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["streams"] == 1


def test_mistakes_are_one_line(
    corpus: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(command(tmp_path / "none", model, out)) == 2
    assert "build a corpus with" in capsys.readouterr().err
    assert main(command(corpus, model, out, "--minutes", "0")) == 2
    assert "more than 0" in capsys.readouterr().err
    assert main(command(corpus, model, out, "--jobs", "0")) == 2
    assert "--jobs must be 1 or more" in capsys.readouterr().err
    assert main(command(corpus, tmp_path / "no.onnx", out)) == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "taken").write_text("")
    assert main(command(corpus, model, tmp_path / "taken")) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_stream_without_sound_or_damaged_is_said(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(Ha2gError, match="has no samples, voice, kind"):
        read_trials(corpus, "train")
    about = json.loads((corpus / "corpus.json").read_text(encoding="utf-8"))
    about["streams"]["held_out"] = []
    (tmp_path / "corpus.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(Ha2gError, match="no streams of 'held_out'"):
        read_trials(tmp_path, "held_out")
    (tmp_path / "unheard_0.npz").write_bytes(b"nothing")
    with pytest.raises(Ha2gError, match=r"unheard_0.npz cannot be read"):
        read_trials(tmp_path, "unheard")
    (tmp_path / "corpus.json").write_text("{}", encoding="utf-8")
    with pytest.raises(Ha2gError, match="it has no streams"):
        read_trials(tmp_path, "unheard")
