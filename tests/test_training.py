"""Losses by hand; training learns, resumes and exports what it learnt."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from ha2g_live.engines import open_engine
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.training import losses
from ha2g_live.training.corpus import build
from ha2g_live.training.export import export_checkpoint
from ha2g_live.training.styles import STYLES
from ha2g_live.training.trainer import TrainConfig, Trainer, load_checkpoint, train
from tests.small_data import write_data

TINY = TrainConfig(steps=6, lanes=4, frames=40, own_after=2, gan_after=3, style_every=2, threads=1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = write_data(tmp_path_factory.mktemp("data"))
    out = tmp_path_factory.mktemp("corpus")
    build(data, out, hours=60 / 3600, seed=1, jobs=1)
    return out


def test_level_loss_reads_each_level_against_its_own_bones() -> None:
    target = torch.randn(2, 3, 126)
    exact = [target[..., dims] for dims in losses._LEVEL_DIMS]
    assert float(losses.level_loss(exact, target)) == 0.0
    exact[2] = exact[2] + 1.0
    assert float(losses.level_loss(exact, target)) == pytest.approx(0.95)


def test_training_learns_resumes_and_exports(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(TINY, corpus, run, save_every=3)
    first = load_checkpoint(run / "checkpoint.pt")
    assert first["step"] == 6

    longer = TrainConfig(**{**first["config"], "steps": 9})
    train(longer, corpus, run, save_every=3)
    second = load_checkpoint(run / "checkpoint.pt")
    assert second["step"] == 9
    moved = [
        not torch.equal(second["network"][name], value) for name, value in first["network"].items()
    ]
    assert all(moved), "a weight that never moves is not trained"
    with (run / "log.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == [6, 9]

    out = tmp_path / "model.onnx"
    spec = export_checkpoint(run / "checkpoint.pt", out, "tiny", "1")
    engine = open_engine("onnx", out)
    assert engine.spec == spec
    assert spec.styles == tuple(style.name for style in STYLES)
    assert spec.usual_style == "natural"
    noise = np.zeros((1, spec.noise_size), np.float32)
    audio = np.full((1, 3, 128), -1.0, np.float32)
    directions, _ = engine.step(audio, spec.style_vector("calm"), noise, spec.initial_state())
    assert np.linalg.norm(directions, axis=-1) == pytest.approx(1.0, abs=1e-3)


def test_training_fits_what_it_sees(corpus: Path) -> None:
    config = TrainConfig(
        steps=400, lanes=4, frames=40, rate=3e-3, own_after=0, gan_after=1000, threads=1
    )
    trainer = Trainer(config, corpus)
    seen = [trainer.step() for _ in range(80)]
    for name in ("pose", "choice"):
        before = np.mean([report[name] for report in seen[:10]])
        after = np.mean([report[name] for report in seen[-10:]])
        assert after < 0.6 * before, name


def test_checkpoint_of_another_corpus_is_refused(corpus: Path, tmp_path: Path) -> None:
    trainer = Trainer(TINY, corpus)
    trainer.about = {**trainer.about, "choices": ["other"]}
    trainer.save(tmp_path / "checkpoint.pt")
    with pytest.raises(Ha2gError, match="another corpus"):
        Trainer(TINY, corpus).load(tmp_path / "checkpoint.pt")


def test_damaged_or_missing_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    with pytest.raises(Ha2gError, match="is not a checkpoint"):
        load_checkpoint(tmp_path / "broken.pt")
    with pytest.raises(Ha2gError, match="is missing"):
        load_checkpoint(tmp_path / "none.pt")
