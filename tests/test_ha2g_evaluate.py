"""The autoencoder and the command: training, import, refusals, and what is written."""

from __future__ import annotations

import argparse
import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from ha2g_live.engines.ted import WINDOW_FRAMES, Skeleton, skeleton
from ha2g_live.realtime import cli
from ha2g_live.realtime.errors import ConfigError, Ha2gError, ModelError
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g import autoencoder, evaluate, scores
from ha2g_live.training.ha2g.autoencoder import WIDTHS, Autoencoder, AutoencoderConfig
from ha2g_live.training.ha2g.checkpoint import save_checkpoint
from ha2g_live.training.ha2g.dataset import DataSet, Int64, Split, open_dataset
from ha2g_live.training.ha2g.example import write_example
from ha2g_live.training.ha2g.writer import Clip, DataSetWriter
from tests.small_ha2g import small_checkpoint

SHORT = AutoencoderConfig(steps=40, batch=32)
NAMES = ("ted_expressive", "ted_gesture")


def _clip(bones: Skeleton, rng: np.random.Generator, frames: int) -> Clip:
    """Aimless motion over noise."""
    poses = 0.03 * rng.normal(size=(frames, bones.pose_dim)).cumsum(axis=0)
    audio = rng.normal(scale=0.1, size=frames * 16000 // 15)
    windows = range(0, frames - WINDOW_FRAMES + 1, 10)
    return Clip(poses.astype(np.float32), audio.astype(np.float32), [], "somebody", windows)


def _write(path: Path, seed: int) -> DataSet:
    """A very small data set of TED Gesture's bones."""
    bones, rng = skeleton("ted_gesture"), np.random.default_rng(seed)
    with DataSetWriter(path, bones, "made for tests") as writer:
        for split in ("train", "test"):
            writer.add(split, _clip(bones, rng, 90))
    return open_dataset(path)


@pytest.fixture(scope="module", params=NAMES)
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """People whose hands stop on the beats of their speech."""
    path = tmp_path_factory.mktemp("evaluate") / "data"
    write_example(path, request.param, videos=3, seconds=16)
    return open_dataset(path)


@pytest.fixture(scope="module")
def features(dataset: DataSet) -> autoencoder.Features:
    return autoencoder.own_autoencoder(dataset, SHORT, quiet=True)


@dataclass(frozen=True)
class Noisy:
    """The ground truth with noise, and a jump at every second border of a clip."""

    name: str
    noise: float

    def windows(self, split: Split, windows: Int64) -> F32:
        rng = np.random.default_rng(0)
        truth = split.poses(windows)
        noisy: F32 = truth + rng.normal(scale=self.noise, size=truth.shape).astype(np.float32)
        return noisy

    def clip(self, split: Split, clip: int) -> F32:
        truth = split.clip_poses(clip)
        jumps = (np.arange(len(truth)) // 30 % 2)[:, None]
        return np.asarray(truth + 5 * self.noise * jumps, dtype=np.float32)


def _selection(dataset: DataSet) -> scores.Selection:
    # The training split is the largest, and nothing here is learnt from it but the latents.
    return scores.select(dataset.train, dataset.skeleton, None, 3, 0, quiet=True)


# --- scores


def test_ground_truth_and_its_control(dataset: DataSet, features: autoencoder.Features) -> None:
    truth, control = scores.score(_selection(dataset), features, [])
    assert truth.scores.fgd == pytest.approx(0.0, abs=1e-9)
    assert truth.scores.bc > control.scores.bc + 0.1
    assert 0.5 < truth.scores.seam < 1.5
    assert control.scores.bc_windows > 0
    assert control.scores.diversity == truth.scores.diversity > 0.0


def test_worse_motion_scores_worse(dataset: DataSet, features: autoencoder.Features) -> None:
    models = [Noisy("little", 0.01), Noisy("much", 0.1)]
    truth, _, little, much = (
        row.scores for row in scores.score(_selection(dataset), features, models)
    )
    assert 0.0 < little.fgd < much.fgd
    # Not so beat consistency: what trembles has a beat near every onset.
    assert truth.jerk < little.jerk < much.jerk < much.jerk_p95
    assert truth.seam < little.seam < much.seam
    assert truth.wrist_speed < much.wrist_speed


def test_the_control_gives_no_window_its_own_sound() -> None:
    seen = []
    for count in (2, 3, 50):
        order = scores.others(count, 0)
        assert sorted(order) == list(range(count))
        assert (order != np.arange(count)).all()
        seen.append(order.tolist())
    assert scores.others(50, 0).tolist() == seen[-1] != scores.others(50, 1).tolist()


def test_a_model_of_another_data_set_is_refused(
    dataset: DataSet, features: autoencoder.Features
) -> None:
    class Other(Noisy):
        def windows(self, split: Split, windows: Int64) -> F32:
            return super().windows(split, windows)[..., :-3]

    class Broken(Noisy):
        def clip(self, split: Split, clip: int) -> F32:
            return np.full_like(super().clip(split, clip), np.nan)

    with pytest.raises(Ha2gError, match="other makes poses of the shape"):
        scores.score(_selection(dataset), features, [Other("other", 0.1)])
    with pytest.raises(Ha2gError, match="broken makes poses that are not finite"):
        scores.score(_selection(dataset), features, [Broken("broken", 0.1)])


def test_selection(dataset: DataSet) -> None:
    def chosen(windows: int | None, seed: int) -> list[int]:
        found = scores.select(dataset.train, dataset.skeleton, windows, 2, seed, quiet=True)
        assert len(found.clips) == 2
        return [int(window) for window in found.windows]

    assert chosen(None, 0) == list(range(len(dataset.train)))
    assert chosen(5, 0) == chosen(5, 0) != chosen(5, 1)
    assert len(set(chosen(5, 0))) == 5
    for windows, message in ((1, "at least 2, got 1"), (-3, "at least 2, got -3")):
        with pytest.raises(ConfigError, match=message):
            chosen(windows, 0)
    with pytest.raises(ConfigError, match="there are 0 windows"):
        scores.select(Split(None, 27), skeleton("ted_gesture"), None, 2, 0)


# --- our own autoencoder


def test_training_learns_and_repeats_itself(dataset: DataSet) -> None:
    network, losses = autoencoder.train_autoencoder(dataset, SHORT, quiet=True)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    before = torch.get_rng_state()
    again, _ = autoencoder.train_autoencoder(dataset, SHORT, quiet=True)
    assert torch.equal(before, torch.get_rng_state())
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    other, _ = autoencoder.train_autoencoder(
        dataset, AutoencoderConfig(steps=1, seed=1), quiet=True
    )
    assert not torch.equal(
        network.state_dict()["pose_encoder.fc_mu.weight"],
        other.state_dict()["pose_encoder.fc_mu.weight"],
    )


@pytest.mark.parametrize("name", NAMES)
def test_latents_are_as_many_as_published(name: str) -> None:
    bones = skeleton(name)
    network = Autoencoder(bones.pose_dim, WIDTHS[name]).eval()
    poses = torch.randn(3, WINDOW_FRAMES, bones.pose_dim)
    assert network.pose_encoder(poses).shape == (3, {126: 128, 27: 32}[bones.pose_dim])
    assert network(poses).shape == poses.shape


def test_it_is_kept_and_used_until_data_or_settings_change(tmp_path: Path) -> None:
    data = _write(tmp_path / "data", 0)
    poses = data.test.poses(np.arange(4))
    config = AutoencoderConfig(steps=2)
    first = autoencoder.own_autoencoder(data, config, quiet=True).of(poses)
    kept = data.path / autoencoder.FILE
    stamp = kept.stat().st_mtime_ns
    reused = autoencoder.own_autoencoder(data, config, quiet=True)
    assert kept.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(reused.of(poses), first)
    assert not reused.imported
    autoencoder.own_autoencoder(data, AutoencoderConfig(steps=3), quiet=True)
    assert json.loads(torch.load(kept, weights_only=True)["config"])["steps"] == 3
    stamp = kept.stat().st_mtime_ns
    autoencoder.own_autoencoder(data, quiet=True)  # any settings will do
    assert kept.stat().st_mtime_ns == stamp

    other = _write(tmp_path / "other", 1)
    (other.path / autoencoder.FILE).write_bytes(kept.read_bytes())
    autoencoder.own_autoencoder(other, AutoencoderConfig(steps=3), quiet=True)
    assert (other.path / autoencoder.FILE).read_bytes() != kept.read_bytes()

    torch.save({"pose_encoder.net.0.0.weight": torch.zeros(2)}, kept)
    with pytest.raises(ModelError, match="was not trained here"):
        autoencoder.own_autoencoder(data, config, quiet=True)


def test_nothing_to_train_on(tmp_path: Path) -> None:
    bones, rng = skeleton("ted_gesture"), np.random.default_rng(0)
    with DataSetWriter(tmp_path / "data", bones, "made for tests") as writer:
        writer.add("test", _clip(bones, rng, 80))
    with pytest.raises(Ha2gError, match="0 training windows"):
        autoencoder.own_autoencoder(open_dataset(tmp_path / "data"), quiet=True)
    with pytest.raises(ConfigError, match="at least 1 step"):
        AutoencoderConfig(steps=0)


# --- weights from elsewhere


def _published(name: str) -> tuple[Autoencoder, dict[str, torch.Tensor]]:
    """A network with weights and statistics of its own, and its tensors."""
    bones = skeleton(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = Autoencoder(bones.pose_dim, WIDTHS[name])
        network.train()(torch.randn(8, WINDOW_FRAMES, bones.pose_dim))
    return network.eval(), dict(network.state_dict())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrapped", [False, True])
def test_published_naming_round_trips(name: str, wrapped: bool, tmp_path: Path) -> None:
    network, tensors = _published(name)
    size = WIDTHS[name].latents
    tensors["pose_encoder.fc_logvar.weight"] = torch.zeros(size, size)
    tensors["pose_encoder.fc_logvar.bias"] = torch.zeros(size)
    saved: dict[str, object] = dict(tensors)
    if wrapped:
        settings = argparse.Namespace(name="autoencoder", epochs=100)
        inside = {f"module.{key}": value for key, value in tensors.items()}
        saved = {"args": settings, "epoch": 99, "gen_dict": inside}
    torch.save(saved, tmp_path / "published.bin")
    dim = skeleton(name).pose_dim
    found = autoencoder.import_autoencoder(tmp_path / "published.bin", name, dim)
    poses = torch.randn(5, WINDOW_FRAMES, dim)
    with torch.inference_mode():
        expected = network.pose_encoder(poses).double().numpy()
    assert found.imported
    np.testing.assert_allclose(found.of(poses.numpy()), expected, atol=1e-6)


def test_widths_are_those_of_the_file(tmp_path: Path) -> None:
    widths = autoencoder.Widths((8, 12, 16, 6), (40,), 20)
    network = Autoencoder(27, widths).eval()
    tensors = {k: v for k, v in network.state_dict().items() if ".fc_mu." not in k}
    torch.save(tensors, tmp_path / "narrow.bin")
    found = autoencoder.import_autoencoder(tmp_path / "narrow.bin", "ted_gesture", 27)
    poses = torch.randn(2, WINDOW_FRAMES, 27)
    with torch.inference_mode():
        heard = network.pose_encoder.net(poses.transpose(1, 2)).flatten(1)
        expected = network.pose_encoder.out_net(heard).double().numpy()
    np.testing.assert_allclose(found.of(poses.numpy()), expected, atol=1e-6)
    other = autoencoder.import_autoencoder(
        tmp_path / "narrow.bin", "ted_gesture", 27, slopes=(0.01, 0.3)
    )
    assert np.abs(other.of(poses.numpy()) - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pose_encoder.net.1.1.running_var": None}, "net.1.1.running_var is missing"),
        ({"pose_encoder.out_net.0.weight": torch.zeros(256, 100)}, r"out_net.0.weight of shape"),
        ({"pose_encoder.fc_mu.weight": torch.zeros(32, 31)}, r"fc_mu.weight of shape \[32, 31\]"),
        ({"pose_encoder.gru.weight": torch.zeros(3)}, "pose_encoder.gru.weight is not known"),
        ({"pose_encoder.net.0.0.bias": torch.zeros(5)}, r"net.0.0.bias has the shape \[5\]"),
    ],
)
def test_a_file_that_does_not_fit_names_the_tensor(
    change: dict[str, torch.Tensor | None], message: str, tmp_path: Path
) -> None:
    _, tensors = _published("ted_gesture")
    changed = {**tensors, **change}
    kept = {name: value for name, value in changed.items() if value is not None}
    torch.save(kept, tmp_path / "other.bin")
    with pytest.raises(ModelError, match=message) as caught:
        autoencoder.import_autoencoder(tmp_path / "other.bin", "ted_gesture", 27)
    assert "\n" not in str(caught.value)


def test_an_autoencoder_of_the_other_data_set_is_refused(tmp_path: Path) -> None:
    torch.save(_published("ted_expressive")[1], tmp_path / "other.bin")
    with pytest.raises(
        ModelError, match=r"pose_encoder\.net\.0\.0\.weight of shape \[64, 126, 3\]"
    ):
        autoencoder.import_autoencoder(tmp_path / "other.bin", "ted_gesture", 27)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.target,)


def test_a_malicious_file_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "made-by-the-file"
    torch.save(
        {"gen_dict": _published("ted_gesture")[1], "args": Evil(str(target))}, tmp_path / "x"
    )
    with pytest.raises(Ha2gError, match=r"was not opened: it names '[a-z]+\.mkdir'") as caught:
        autoencoder.import_autoencoder(tmp_path / "x", "ted_gesture", 27)
    assert not target.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        (b"", "damaged or not a file"),
        (b"not a torch file at all", "damaged or not a file"),
        (b"PK\x03\x04 cut off", "damaged or not a file"),
    ],
)
def test_what_is_not_a_torch_file(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "nobody.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Ha2gError, match=message):
        autoencoder.import_autoencoder(path, "ted_gesture", 27)


@pytest.mark.parametrize("saved", [[1, 2], {"a": 1}, {"decoder.weight": torch.zeros(2)}])
def test_a_torch_file_without_an_encoder(saved: object, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "other.bin")
    with pytest.raises(ModelError, match=r"expected a dict|no motion autoencoder"):
        autoencoder.import_autoencoder(tmp_path / "other.bin", "ted_gesture", 27)


def test_the_check_says_what_can_be_compared() -> None:
    encoder = Autoencoder(27, WIDTHS["ted_gesture"]).pose_encoder
    own = autoencoder.Features(encoder, "ted_gesture", "own", imported=False)
    assert "trained here: they are NOT comparable" in own.check_line(110.8, True)
    imported = autoencoder.Features(encoder, "ted_gesture", "file", imported=True)
    assert "agrees" in imported.check_line(109.0, True)
    assert "NOT comparable" in imported.check_line(90.0, True)
    assert "on the whole test split only" in imported.check_line(109.0, False)


# --- the command


def test_the_command_writes_its_files(
    dataset: DataSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        evaluate, "load_models", lambda paths, _: [Noisy(path.stem, 0.05) for path in paths]
    )
    out = tmp_path / "scores"
    arguments = ["--dataset", str(dataset.path), "--out", str(out), "--quiet"]
    arguments += ["--model", "a/run.pt", "--model", "b/run.pt", "--autoencoder-steps", "5"]
    assert evaluate.main(arguments) == 0
    names = ["ground truth", "ground truth, other audio", "run (1)", "run (2)"]
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == names
    assert lines[1].removeprefix(names[0]).split()[0] == "0.000"
    assert "NOT comparable" in printed

    stored = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert stored["split"] == "test"
    assert stored["windows"] == len(dataset.test)
    assert [row["name"] for row in stored["rows"]] == names
    with (out / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["bc"]) for row in rows] == [row["bc"] for row in stored["rows"]]
    picture = (out / "scores.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_without_a_model_or_a_border_it_still_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bones, rng = skeleton("ted_gesture"), np.random.default_rng(0)
    with DataSetWriter(tmp_path / "data", bones, "made for tests") as writer:
        for split in ("train", "test"):
            for _ in range(2):
                clip = _clip(bones, rng, WINDOW_FRAMES)
                writer.add(split, Clip(clip.poses, 0 * clip.audio, [], "one", [0]))
    arguments = ["--dataset", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--quiet"]
    assert evaluate.main([*arguments, "--autoencoder-steps", "2"]) == 0
    truth = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))["rows"][0]
    assert truth["bc"] is None  # silence has no onsets
    assert truth["seam"] is None
    assert "-" in capsys.readouterr().out.splitlines()[1].split()


def test_an_empty_split(tmp_path: Path) -> None:
    data = _write(tmp_path / "data", 0)
    with pytest.raises(ConfigError, match=r"the split 'val' of .* is empty.*: train, test"):
        evaluate.main(["--dataset", str(data.path), "--split", "val", "--quiet"])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--windows", "1"], "at least 2, got 1"),
        (["--seed", "-1"], "--seed must not be negative"),
        (["--clips", "-1"], "--clips must not be negative"),
        (["--autoencoder", "nowhere.bin"], "there is no file nowhere.bin"),
    ],
)
def test_mistakes(dataset: DataSet, extra: list[str], message: str, tmp_path: Path) -> None:
    arguments = ["--dataset", str(dataset.path), "--out", str(tmp_path / "out"), "--quiet"]
    with pytest.raises(Ha2gError, match=message):
        evaluate.main([*arguments, *extra])
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_is_scored_through_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = _write(tmp_path / "data", 0)
    save_checkpoint(tmp_path / "small.pt", small_checkpoint("ted_gesture"))
    arguments = ["evaluate", "--dataset", str(data.path), "--model", str(tmp_path / "small.pt")]
    arguments += ["--autoencoder-steps", "2", "--out", str(tmp_path / "out"), "--quiet"]
    assert cli.main(arguments) == 0
    capsys.readouterr()
    rows = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))["rows"]
    assert rows[2]["name"] == "small"
    assert rows[0]["fgd"] < 1e-9 < rows[2]["fgd"]
    assert rows[2]["seam"] is not None
    assert cli.main([*arguments, "--model", str(tmp_path / "nowhere.pt")]) == 2
    error = capsys.readouterr().err
    assert "there is no checkpoint" in error
    assert error.count("\n") == 1
