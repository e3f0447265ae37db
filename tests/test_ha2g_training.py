"""Every term of the loss, then whole runs: overfitting, going on after a kill, two processes."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ha2g_live.engines.published import Draws, Prediction, TextEncoder
from ha2g_live.training.ha2g import losses
from ha2g_live.training.ha2g import run as run_module
from ha2g_live.training.ha2g import step as step_module
from ha2g_live.training.ha2g.autoencoder import AutoencoderConfig, own_autoencoder
from ha2g_live.training.ha2g.checkpoint import load_checkpoint
from ha2g_live.training.ha2g.dataset import DataSet, open_dataset
from ha2g_live.training.ha2g.embeddings import read_embeddings, set_embeddings
from ha2g_live.training.ha2g.parallel import Team
from ha2g_live.training.ha2g.run import Trainer
from ha2g_live.training.ha2g.settings import Settings
from ha2g_live.training.ha2g.step import Batch, TrainingError, read_batch, usual_seeds
from ha2g_live.training.ha2g.trainer import main, train
from tests.small_ha2g_data import write_small

TINY = Settings(
    hidden=16,
    channels=(16, 16, 32, 64),
    text_width=16,
    batch=4,
    epochs=2,
    warmup_epochs=1,
    threads=1,
    autoencoder_steps=20,
)
OPTIONS = [
    *("--hidden", "16", "--channels", "16,16,32,64", "--text-width", "16", "--batch", "4"),
    *("--warmup-epochs", "1", "--threads", "1", "--autoencoder-steps", "20", "--device", "cpu"),
]
COMMAND = [sys.executable, "-W", "ignore", "-m", "ha2g_live.training.ha2g.trainer"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    dataset = write_small(tmp_path_factory.mktemp("ha2g") / "data", train=2, frames=54)
    own_autoencoder(dataset, AutoencoderConfig(steps=20), quiet=True)
    return dataset  # 3 windows a clip


@pytest.fixture
def trainer(data: DataSet) -> Trainer:
    return Trainer(data, TINY, Team(), None)


def first_batch(data: DataSet, count: int = 4) -> Batch:
    return read_batch(data.train, np.arange(count), usual_seeds(count), streaming=False)


def terms_of(trainer: Trainer, batch: Batch) -> tuple[dict[str, torch.Tensor], Prediction]:
    trainer.network.train()
    return trainer.step.terms(batch, Draws(1))


def reached(trainer: Trainer, term: torch.Tensor) -> set[str]:
    """Names of the parameters that the term trains."""
    trainer.network.zero_grad(set_to_none=True)
    term.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    return {
        name
        for name, value in trainer.network.named_parameters()
        if value.grad is not None and bool(value.grad.abs().sum() > 0)
    }


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(folder / "last.pt", weights_only=True)
    return {**saved["network"], **{f"dis.{k}": v for k, v in saved["discriminator"].items()}}


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return [
            {name: value for name, value in row.items() if name != "seconds"}
            for row in csv.DictReader(file)
        ]


# --- the terms


def test_published_settings() -> None:
    published = Settings()
    expressive, gesture = (
        published.weights_for("ted_expressive"),
        published.weights_for("ted_gesture"),
    )
    assert expressive == {
        "regression": 250.0,
        "gan": 5.0,
        "kl": 0.1,
        "style": 0.05,
        "contrast_high": 0.2,
        "contrast_low": -0.005,
        "physical": 0.01,
    }
    assert gesture == {**expressive, "regression": 70.0}
    assert (published.batch_for("ted_expressive"), published.batch_for("ted_gesture")) == (96, 256)
    assert (published.epochs, published.warmup_epochs) == (100, 10)
    assert (published.rate, published.beta1, published.beta2) == (5e-4, 0.5, 0.999)
    assert (published.hidden, published.text_width) == (300, 300)
    assert published.channels == (32, 64, 128, 256)


def test_small_losses_by_hand() -> None:
    found = losses.huber(torch.tensor([0.05, 0.3]), torch.zeros(2), 0.1)
    assert float(found) == pytest.approx((0.5 * 0.05**2 / 0.1 + 0.3 - 0.05) / 2)
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, np.log(2.0)]])
    by_hand = -0.5 * (((1 + 0 - 1 - 1) + (1 + np.log(2.0) - 0 - 2)) / 2)
    assert float(losses.divergence(mean, log_variance)) == pytest.approx(by_hand)
    still, apart = torch.zeros(2, 5, 9), torch.full((2, 5, 9), 0.2)
    apart[1] = 99.0  # clamped
    found = losses.style_divergence(still, apart, torch.zeros(2, 4), torch.ones(2, 4))
    assert float(found) == pytest.approx((-45 * (0.2 - 0.025) - 1000.0) / 2, rel=1e-4)
    half = torch.tensor([[0.5], [0.25]])
    assert float(losses.generator_gan(half)) == pytest.approx(np.log(8.0) / 2, rel=1e-5)
    found = losses.discriminator_gan(half, half)
    by_hand = np.log(8.0) / 2 - (np.log(0.5) + np.log(0.75)) / 2
    assert float(found) == pytest.approx(by_hand, rel=1e-5)


def test_contrastive_by_hand() -> None:
    text = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    audio = torch.tensor([[0.6, 0.8], [0.8, -0.6]])  # unit vectors already
    distance = np.sqrt([[0.8, 0.4], [0.4, 3.2]])  # text i to audio j
    closeness = np.exp(1.0 / distance)
    by_hand = -np.log(np.diag(closeness) / closeness.sum(axis=1)).mean()
    assert float(losses.contrastive(text, audio)) == pytest.approx(by_hand, rel=1e-5)
    second = -np.log(closeness[1, 1] / closeness[1].sum())
    assert float(losses.contrastive(text[1:], audio, first=1)) == pytest.approx(second, rel=1e-5)


def test_each_level_is_compared_with_its_own_bones(trainer: Trainer, data: DataSet) -> None:
    poses = first_batch(data).poses
    levels = [poses[..., trainer.network.level_dims(i)] for i in range(3)]
    levels[1] = levels[1] + 1.0
    prediction = Prediction(levels, style=None)  # type: ignore[arg-type]
    found = step_module.regression(trainer.network, prediction, poses)
    assert float(found) == pytest.approx(0.95)


def test_what_each_term_trains(trainer: Trainer, data: DataSet) -> None:
    terms, _ = terms_of(trainer, first_batch(data))
    assert set(terms) == {"regression", "kl", "style", "contrast_high", "contrast_low", "physical"}
    of = {name: reached(trainer, term) for name, term in terms.items()}
    of = {term: {n for n in names if ".se." not in n} for term, names in of.items()}  # may be dead
    everything = {n for n, _ in trainer.network.named_parameters() if ".se." not in n}
    own_text = {name for name in everything if name.startswith("text.")}
    assert of["regression"] == everything - own_text
    assert of["style"] == of["physical"] == of["regression"]
    assert {name.split(".")[2] for name in of["kl"]} == {
        *("speaker_embedding", "speaker_mu", "speaker_logvar")
    }
    assert {".".join(name.split(".")[:2]) for name in of["kl"]} == {"poses.2"}
    for term, depth, other in (("contrast_high", "high", "low"), ("contrast_low", "low", "high")):
        assert own_text | {f"audio.fc_{depth}.weight", "audio.conv1.weight"} <= of[term]
        assert not {f"audio.fc_{other}.weight", "poses.0.gru.weight_ih_l0"} & of[term]


def test_the_total_is_the_weighted_sum(trainer: Trainer, data: DataSet) -> None:
    report = trainer.step.run(first_batch(data), Draws(1), judged=True)
    weights = TINY.weights_for("ted_gesture")
    assert report["total"] == pytest.approx(sum(weights[k] * report[k] for k in weights), rel=1e-5)
    assert weights["contrast_low"] < 0.0 < weights["contrast_high"]
    assert report["contrast_low"] > 0.0


def test_style_is_compared_with_other_speakers_and_the_same_sound(
    trainer: Trainer, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[Any, ...]] = []
    real = trainer.network.cascade

    def cascade(*inputs: Any, **drawn: Any) -> Prediction:
        heard.append((torch.is_grad_enabled(), *inputs, drawn["noise"]))
        return real(*inputs, **drawn)

    monkeypatch.setattr(trainer.network, "cascade", cascade)
    batch = first_batch(data)
    terms_of(trainer, batch)
    (grad, blended, texts, speaker, given, known, noise), second = heard
    assert grad is True
    assert second[0] is False  # the second run is detached
    assert second[1] is blended
    assert second[2] is texts
    assert second[4] is given
    assert second[5] is known
    assert not torch.equal(second[6], noise)
    assert sorted(second[3].tolist()) == sorted(speaker.tolist())  # of the same batch
    seen = set()
    for seed in range(8):
        trainer.step.terms(batch, Draws(seed))
        seen.add(tuple(heard[-1][3].tolist()))
    assert len(seen) > 1, "the speakers are never shuffled"


def test_the_gan_waits_for_its_epochs(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(data, replace(TINY, warmup_epochs=1), Team(), None)
    judge = {k: v.clone() for k, v in trainer.step.discriminator.state_dict().items()}
    row = trainer.run_epoch()
    assert "gan" not in row
    assert "discriminator" not in row
    for name, value in trainer.step.discriminator.state_dict().items():
        assert torch.equal(value, judge[name]), name
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    real = losses.discriminator_gan

    def judge_loss(true: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        seen.append((true.detach(), made.detach()))
        return real(true, made)

    monkeypatch.setattr(step_module, "discriminator_gan", judge_loss)
    row = trainer.run_epoch()
    assert row["gan"] > 0.0
    assert row["discriminator"] == pytest.approx(real(*seen[0]).item())
    moved = [
        not torch.equal(value, judge[name])
        for name, value in trainer.step.discriminator.state_dict().items()
    ]
    assert all(moved), "a weight that never moves is not trained"


def test_the_judge_learns_without_moving_the_generator_and_the_other_way_round(
    trainer: Trainer, data: DataSet
) -> None:
    step = trainer.step
    trainer.network.train()
    _, prediction = step.terms(first_batch(data), Draws(1))
    step._teach_judge(first_batch(data).poses, prediction.poses.detach())
    assert all(value.grad is None for value in trainer.network.parameters())
    step.discriminator.zero_grad(set_to_none=True)
    step._gan(prediction.poses).backward()  # type: ignore[no-untyped-call]
    assert all(value.grad is None for value in step.discriminator.parameters())
    trained = trainer.network.poses[0].get_parameter("gru.weight_ih_l0").grad
    assert trained is not None
    assert float(trained.abs().sum()) > 0.0
    assert all(value.requires_grad for value in step.discriminator.parameters())


# --- the streaming variant


def test_streaming_draws_seeds_and_hears_no_words(data: DataSet, tmp_path: Path) -> None:
    settings = replace(TINY, streaming=True, epochs=1, warmup_epochs=0)
    trainer = train(data, tmp_path, settings, Team())
    assert "contrast_high" not in trainer.rows[0]
    assert "contrast_low" not in trainer.rows[0]
    assert trainer.rows[0]["gan"] > 0.0
    lengths: set[int] = set()
    wide = Trainer(data, replace(settings, batch=6), Team(), None)
    for epoch in range(1, 60):
        for batch in wide._epoch_batches(epoch):
            known = batch.known.sum(dim=1)
            assert torch.equal(batch.known, (torch.arange(34) < known[:, None]).float())
            assert not batch.words.any()
            lengths |= {int(count) for count in known}
    assert lengths == set(range(4, 34))
    np.testing.assert_array_equal(
        read_batch(data.train, np.arange(2), usual_seeds(2), streaming=True).spectrogram,
        data.train.spectrogram(np.arange(2), "stream"),
    )
    saved = load_checkpoint(tmp_path / "best.pt")
    assert (saved.seed, saved.reference, saved.text, saved.epoch) == ("all", "stream", False, 1)
    assert saved.speakers == data.speakers


def test_constant_text_features_are_those_of_the_network_and_are_trained(data: DataSet) -> None:
    trainer = Trainer(data, replace(TINY, streaming=True), Team(), None)
    nothing = torch.zeros(4, 34, dtype=torch.int64)
    for found, full in zip(
        trainer.step._texts(nothing, Draws(1)), trainer.network.texts(nothing), strict=True
    ):
        torch.testing.assert_close(found, full)
    batch = read_batch(data.train, np.arange(4), usual_seeds(4), streaming=True)
    terms, _ = terms_of(trainer, batch)
    assert "poses.0.text_encoder.decoder.weight" in reached(trainer, terms["regression"])


# --- whole runs


def test_overfits_a_tiny_data_set(tmp_path: Path) -> None:
    """Four windows, learnt by heart: far better than the best pose that does not move."""
    data = write_small(tmp_path / "data", train=1, val=0, frames=64)
    settings = replace(TINY, hidden=128, rate=1e-3, epochs=60, warmup_epochs=45)
    trainer = Trainer(data, settings, Team(), None)
    while trainer.epoch < settings.epochs:
        trainer.run_epoch()
    trainer.save(tmp_path)

    batch = first_batch(data)
    still = batch.poses.mean(dim=(0, 1)).expand_as(batch.poses)
    levels = [still[..., trainer.network.level_dims(i)] for i in range(3)]
    of_still = step_module.regression(
        trainer.network,
        Prediction(levels, style=None),  # type: ignore[arg-type]
        batch.poses,
    )
    assert trainer.rows[0]["regression"] > float(of_still)
    assert trainer.rows[-1]["regression"] < 0.5 * float(of_still)

    network = load_checkpoint(tmp_path / "best.pt").network
    with torch.inference_mode():
        made = network(batch.spectrogram, batch.words, batch.speaker, batch.poses, batch.known)
    unseen = batch.known[0] == 0
    errors = [(poses - batch.poses)[:, unseen].square().mean() for poses in (made.poses, still)]
    assert float(errors[0]) < 0.5 * float(errors[1])


def test_goes_on_after_a_kill_as_if_nothing_had_been(data: DataSet, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = [*OPTIONS, "--dataset", str(data.path), "--epochs", "3"]
    assert main([*options, "--out", str(whole)]) == 0
    process = subprocess.Popen(
        [*COMMAND, *options, "--out", str(killed)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (killed / "last.pt").exists() and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        process.kill()  # SIGKILL where there are signals
        process.wait()
    done = len(torch.load(killed / "last.pt", weights_only=True)["rows"])
    assert 1 <= done < 3
    assert main([*options, "--out", str(killed)]) == 0
    assert log_of(killed) == log_of(whole)
    resumed = weights_of(killed)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, resumed[name]), name
    best = [load_checkpoint(folder / "best.pt") for folder in (whole, killed)]
    assert best[0].epoch == best[1].epoch
    resumed = best[1].network.state_dict()
    for name, value in best[0].network.state_dict().items():
        assert torch.equal(value, resumed[name]), name


def test_what_an_epoch_left_unfinished_is_written_over(data: DataSet, tmp_path: Path) -> None:
    settings = replace(TINY, epochs=1)
    train(data, tmp_path, settings, Team())
    before = log_of(tmp_path)
    (tmp_path / "last.pt.part").write_bytes(b"half")
    with (tmp_path / "log.csv").open("a") as file:
        file.write("2,1,1,0.5\n")  # as if killed between the table and last.pt
    train(data, tmp_path, settings, Team())
    assert log_of(tmp_path) == before
    train(data, tmp_path, replace(settings, epochs=2), Team())
    assert [row["epoch"] for row in log_of(tmp_path)] == ["1", "2"]
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_two_processes_compute_what_one_does(data: DataSet, tmp_path: Path) -> None:
    """In double precision, where rounding is far below what Adam would turn into a difference."""
    options = [*OPTIONS, "--dataset", str(data.path), "--epochs", "2", "--double"]
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert main([*options, "--out", str(alone)]) == 0
    launcher = ["-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [sys.executable, *launcher, "--standalone", *COMMAND[3:], *options, "--out", str(together)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("epoch 1/2") == 1  # one of them speaks
    for one, two in zip(log_of(alone), log_of(together), strict=True):
        for name, value in one.items():
            rel = 1e-4 if name == "fgd" else 1e-6  # the autoencoder computes in single precision
            assert value == two[name] or float(value) == pytest.approx(float(two[name]), rel=rel)
    single = weights_of(alone)
    for name, weight in weights_of(together).items():
        torch.testing.assert_close(weight, single[name], rtol=1e-6, atol=1e-8)


def test_two_processes_end_with_one_line(data: DataSet, tmp_path: Path) -> None:
    options = [*OPTIONS, "--dataset", str(data.path), "--epochs", "1", "--batch", "5"]
    launcher = ["-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [sys.executable, *launcher, "--standalone", *COMMAND[3:], *options, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert ended.returncode != 0
    assert "--batch 5 cannot be shared equally by 2 processes" in ended.stderr


# --- what a user can do wrong


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch", "7"], "6 training windows, fewer than a batch of 7"),
        (["--batch", "1"], "--batch must be at least 2 a process, got 1"),
        (["--rate", "0"], "--rate must be between 0 and 1, got 0.0"),
        (["--epochs", "0"], "--epochs must be 1 or more, got 0"),
        (["--channels", "16,16,32"], "--channels must be four multiples of 16"),
        (["--gan", "nan"], "--gan must be 0 or more, got nan"),
        (["--dataset", "nowhere"], "no data set folder nowhere"),
        (["--embeddings", "nowhere.vec"], "nowhere.vec cannot be read"),
        (["--autoencoder", "nowhere.pt"], "there is no file nowhere.pt"),
    ],
)
def test_a_mistake_is_one_line(
    data: DataSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    given = [*OPTIONS, "--dataset", str(data.path), "--out", str(tmp_path / "run"), *options]
    assert main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_device_that_is_not_there_is_one_line(
    data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    given = ["--dataset", str(data.path), "--out", str(tmp_path), "--device", "cuda"]
    assert main(given) == 2
    assert "there is no CUDA device" in capsys.readouterr().err


def test_a_log_for_tensorboard_needs_its_package(
    data: DataSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    given = [*OPTIONS, "--dataset", str(data.path), "--out", str(tmp_path), "--tensorboard"]
    assert main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install tensorboard" in line


def test_other_settings_do_not_go_on(
    data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "run", tmp_path / "other"
    train(data, out, replace(TINY, epochs=1), Team())
    given = [*OPTIONS, "--dataset", str(data.path), "--out", str(out)]
    capsys.readouterr()
    assert main([*given, "--rate", "0.001"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "last.pt was trained with --rate 0.0005, not 0.001" in line
    write_small(other, train=3, frames=54)
    assert main([*given, "--dataset", str(other)]) == 2
    assert "was trained on other data" in capsys.readouterr().err
    (out / "last.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    assert main(given) == 2
    assert "last.pt is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("term", ["regression", "style", "physical"])
def test_a_loss_that_is_not_finite_stops_the_run(
    data: DataSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    term: str,
) -> None:
    train(data, tmp_path, replace(TINY, epochs=1), Team())
    before = (tmp_path / "last.pt").read_bytes()
    real = step_module.Step.terms

    def terms(self: step_module.Step, batch: Batch, draws: Draws) -> Any:
        found, prediction = real(self, batch, draws)
        return {**found, term: found[term] * float("nan")}, prediction

    monkeypatch.setattr(step_module.Step, "terms", terms)
    capsys.readouterr()
    given = [*OPTIONS, "--dataset", str(data.path), "--out", str(tmp_path), "--epochs", "2"]
    assert main(given) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"the term '{term}' of the loss became nan in epoch 2, batch 1" in line
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_gradient_that_is_not_finite_moves_no_weight(trainer: Trainer, data: DataSet) -> None:
    before = {k: v.detach().clone() for k, v in trainer.network.named_parameters()}
    weight = trainer.network.audio.conv1.weight
    hook = weight.register_hook(lambda g: g * float("inf"))  # type: ignore[no-untyped-call]
    with pytest.raises(TrainingError, match="'gradient' of the loss became"):
        trainer.step.run(first_batch(data), Draws(1), judged=False)
    hook.remove()
    for name, value in trainer.network.named_parameters():
        assert torch.equal(value, before[name]), name


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to another process there")
def test_ctrl_c_is_one_line_and_keeps_the_finished_epochs(data: DataSet, tmp_path: Path) -> None:
    options = [*OPTIONS, "--dataset", str(data.path), "--epochs", "500", "--out", str(tmp_path)]
    process = subprocess.Popen([*COMMAND, *options], stderr=subprocess.PIPE, text=True)
    try:
        while not (tmp_path / "log.csv").exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "stopped; " in said.splitlines()[-1]
    assert len(torch.load(tmp_path / "last.pt", weights_only=True)["rows"]) >= 1


def test_validation_picks_the_epoch_of_the_lowest_fgd(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter((3.0, 1.0, 2.0))
    monkeypatch.setattr(run_module, "frechet_distance", lambda *_: next(scores))
    trainer = train(data, tmp_path, replace(TINY, epochs=3), Team())
    assert [row["best"] for row in trainer.rows] == [1.0, 1.0, 0.0]
    assert load_checkpoint(tmp_path / "best.pt").epoch == 2
    assert torch.load(tmp_path / "last.pt", weights_only=True)["rows"] == trainer.rows


def test_without_validation_windows_the_latest_epoch_is_kept(tmp_path: Path) -> None:
    data = write_small(tmp_path / "data", train=2, val=0, frames=54)
    trainer = train(data, tmp_path / "run", TINY, Team())
    assert "fgd" not in trainer.rows[0]
    assert load_checkpoint(tmp_path / "run" / "best.pt").epoch == 2


def test_word_vectors_reach_every_text_encoder(
    trainer: Trainer, data: DataSet, tmp_path: Path
) -> None:
    path = tmp_path / "words.vec"
    known = data.words[2]
    numbers = " ".join(str(i / 4) for i in range(16))
    path.write_text(f"2 16\n{known} {numbers}\nelsewhere {numbers}\n", encoding="utf-8")
    vectors = read_embeddings(path, data.words, 16)
    assert list(vectors) == [2]
    set_embeddings(trainer.network, vectors)
    encoders = [m for m in trainer.network.modules() if isinstance(m, TextEncoder)]
    assert len(encoders) == 4
    for encoder in encoders:
        assert torch.equal(encoder.embedding.weight[2], torch.arange(16) / 4)
        assert not torch.equal(encoder.embedding.weight[3], torch.arange(16) / 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{word} 1 2 3\n", "has 3 numbers, expected 16"),
        ("{word} 1 two\n", "holds what is not a number"),
        ("other 1 2\n", "has none of the data set's"),
    ],
)
def test_bad_word_vectors_are_one_line(
    data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = tmp_path / "words.vec"
    path.write_text(text.format(word=data.words[2]), encoding="utf-8")
    given = [*OPTIONS, "--dataset", str(data.path), "--out", str(tmp_path / "run")]
    assert main([*given, "--embeddings", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert open_dataset(data.path).words == data.words
