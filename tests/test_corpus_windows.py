"""A corpus as a data set for the published system: what is trained on is what is heard live."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ha2g_live.engines import open_engine
from ha2g_live.engines.base import ModelSpec
from ha2g_live.engines.ted import WINDOW_FRAMES, skeleton
from ha2g_live.engines.timing import WindowSpec
from ha2g_live.engines.window import WindowEngine
from ha2g_live.realtime.features import initial_log_mel, log_mel
from ha2g_live.realtime.offline import animate
from ha2g_live.realtime.skeleton import MEAN_DIRECTION, normalise
from ha2g_live.realtime.timebase import POSE_FPS, SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.corpus_windows import convert_corpus, main
from ha2g_live.training.ha2g.dataset import open_dataset
from ha2g_live.training.ha2g.importer import import_checkpoint
from ha2g_live.training.ha2g.trainer import main as train

STYLES = ("calm", "lively")
FRAMES = 64  # windows at 0, 10, 20, 30
STREAMS = {
    "train": (("train_0", 1), ("train_1", 1), ("train_2", 0), ("train_3", 0)),
    "unheard": (("unheard_0", 1),),
    "held_out": (("held_out_0", 0),),
    "non_speech": (("non_speech_0", 0),),
}
SAMPLES = FRAMES * SAMPLE_RATE_HZ // POSE_FPS


def sound_of(name: str) -> F32:
    """A tone that swells and fades, another for every stream."""
    rng = np.random.default_rng(list(name.encode()))
    time_s = np.arange(SAMPLES) / SAMPLE_RATE_HZ
    swell = np.sin(2.0 * np.pi * rng.uniform(0.5, 1.0) * time_s) ** 2
    tone = np.sin(2.0 * np.pi * rng.uniform(150.0, 300.0) * time_s)
    # Whole numbers of 16 bits, as a stream of the corpus stores what was heard.
    return np.asarray(np.round(0.2 * swell * tone * 32768) / 32768, dtype=np.float32)


def directions_of(name: str) -> F32:
    """Arms that sway about the mean pose."""
    rng = np.random.default_rng(list(name.encode()))
    sway = np.sin(np.arange(FRAMES) / POSE_FPS * rng.uniform(3.0, 6.0))
    return normalise(MEAN_DIRECTION + 0.3 * sway[:, None, None] * rng.uniform(-1, 1, (42, 3)))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    about = {
        "seed": 5,
        "styles": STYLES,
        "streams": {kind: [name for name, _ in streams] for kind, streams in STREAMS.items()},
    }
    (folder / "corpus.json").write_text(json.dumps(about), encoding="utf-8")
    for kind, streams in STREAMS.items():
        for name, style in streams:
            sound = sound_of(name)
            columns, _ = log_mel(sound, initial_log_mel())
            heard = {} if kind == "train" else {"samples": (sound * 32768).astype(np.int16)}
            np.savez(
                folder / f"{name}.npz",
                columns=columns.astype(np.float16),
                directions=directions_of(name).astype(np.float16),
                style=np.int64(style),
                **heard,  # type: ignore[arg-type]  # numpy's stub mixes it up with allow_pickle
            )
    return folder


def test_streams_become_clips(corpus: Path, tmp_path: Path) -> None:
    counts = convert_corpus(corpus, tmp_path / "windows")
    assert counts == {"train": 16, "val": 4, "test": 4}
    data = open_dataset(tmp_path / "windows")
    assert data.skeleton is skeleton("ted_expressive")
    assert data.speakers == STYLES
    assert data.words == ("", "<unknown>")
    assert data.notes["corpus"] == {"seed": 5, "minutes": None}
    order = {
        "train": ["train_2", "train_0", "train_3", "train_1"],  # the styles take turns
        "val": ["unheard_0"],
        "test": ["held_out_0"],
    }
    styles = {name: style for streams in STREAMS.values() for name, style in streams}
    for split_name, names in order.items():
        split = data.split(split_name)
        assert split.clips == len(names)
        for clip, name in enumerate(names):
            assert data.speakers[split.clip_speaker(clip)] == STYLES[styles[name]]
            found = data.skeleton.to_directions(split.clip_poses(clip))
            np.testing.assert_allclose(found, directions_of(name), atol=2e-3)
            assert (split.clip_words(clip) == 0).all()
            assert [split.frame_of(int(w)) for w in split.windows_of(clip)] == [0, 10, 20, 30]


def test_only_what_is_evaluated_has_sound(corpus: Path, tmp_path: Path) -> None:
    convert_corpus(corpus, tmp_path / "windows")
    data = open_dataset(tmp_path / "windows")
    np.testing.assert_allclose(data.test.clip_audio(0), sound_of("held_out_0"), atol=1e-4)
    assert len(data.train.clip_audio(0)) == 0
    silence = data.train.audio(3)
    assert silence.shape == data.test.audio(3).shape
    assert not silence.any()


class Listener:
    """A window model that stays at the mean pose and keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[F32] = []

    def predict(self, audio: F32, style: F32, noise: F32, given: F32, known: F32) -> F32:
        self.heard.append(audio[0].copy())
        return np.zeros_like(given)

    def close(self) -> None:
        pass


def test_a_window_holds_what_a_stream_hears_for_these_frames(corpus: Path, tmp_path: Path) -> None:
    convert_corpus(corpus, tmp_path / "windows")
    data = open_dataset(tmp_path / "windows")
    listener = Listener()
    spec = ModelSpec("fake", "1", STYLES, (), {}, windows=WindowSpec("ted_expressive", "all", 6))
    animate(sound_of("train_2"), WindowEngine(listener, spec, hop_frames=1), tail_s=0.0)
    for reference in ("stream", "clip"):
        for window in data.train.windows_of(0):
            trained_on = data.train.spectrogram(np.array([window]), reference)[0]
            # The window of step n ends with frame n - 1.
            step = data.train.frame_of(int(window)) + WINDOW_FRAMES
            live = np.clip((listener.heard[step].T - 1.0) * 40.0, -80.0, 0.0)
            np.testing.assert_allclose(trained_on, live, atol=0.05)
            assert trained_on.std() > 5.0


def test_minutes_are_shared_by_the_styles(corpus: Path, tmp_path: Path) -> None:
    a_stream = FRAMES / POSE_FPS / 60
    counts = convert_corpus(corpus, tmp_path / "windows", minutes=1.5 * a_stream)
    assert counts == {"train": 8, "val": 4, "test": 4}
    assert open_dataset(tmp_path / "windows").speakers == STYLES
    options = ["--corpus", str(corpus), "--out", str(tmp_path / "fewer"), "--minutes", "0.01"]
    assert main(options) == 2
    assert not (tmp_path / "fewer").exists()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no corpus.json", "corpus.json is missing: build a corpus"),
        ("no styles", "corpus.json is damaged (no entry 'styles')"),
        ("stream is missing", "train_1.npz is missing: build the corpus again"),
        ("stream is cut", "train_1.npz is damaged"),
        ("other poses", "train_1.npz does not hold a stream of this corpus"),
        ("a style is never heard", "no training stream was taken of the style 'odd'"),
        ("minutes", "--minutes must be above 0, got -1"),
    ],
)
def test_a_mistake_is_one_line(
    fault: str, said: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream, about = corpus / "train_1.npz", corpus / "corpus.json"
    options = ["--corpus", str(corpus), "--out", str(tmp_path / "windows")]
    values = json.loads(about.read_text(encoding="utf-8"))
    match fault:
        case "no corpus.json":
            about.unlink()
        case "no styles":
            del values["styles"]
            about.write_text(json.dumps(values), encoding="utf-8")
        case "stream is missing":
            stream.unlink()
        case "stream is cut":
            stream.write_bytes(stream.read_bytes()[:1000])
        case "other poses":
            np.savez(stream, columns=np.zeros((9, 128)), directions=np.zeros((64, 9, 3)), style=1)
        case "a style is never heard":
            about.write_text(json.dumps(values | {"styles": [*STYLES, "odd"]}), encoding="utf-8")
        case "minutes":
            options += ["--minutes", "-1"]
    assert main(options) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in line
    assert not (tmp_path / "windows").exists()


def test_corpus_to_model_to_motion(corpus: Path, tmp_path: Path) -> None:
    assert main(["--corpus", str(corpus), "--out", str(tmp_path / "windows")]) == 0
    run = tmp_path / "run"
    sizes = ["--hidden", "16", "--channels", "16,16,32,64", "--text-width", "16", "--batch", "8"]
    where = ["--dataset", str(tmp_path / "windows"), "--out", str(run), "--device", "cpu"]
    few = ["--epochs", "1", "--autoencoder-steps", "5", "--threads", "1"]
    assert train([*where, *sizes, *few, "--streaming"]) == 0
    made = import_checkpoint(run / "best.pt", tmp_path / "model").checkpoint
    assert made.speakers == STYLES
    assert (made.seed, made.reference, made.text) == ("all", "stream", False)
    engine = open_engine("onnx", tmp_path / "model" / "model.onnx", hop_frames=3)
    try:
        motions = [
            animate(sound_of("held_out_0"), engine, style=style, fps=15.0).directions
            for style in STYLES
        ]
    finally:
        engine.close()
    np.testing.assert_allclose(np.linalg.norm(motions[0], axis=2), 1.0, atol=1e-4)
    assert not np.array_equal(motions[0], motions[1])
