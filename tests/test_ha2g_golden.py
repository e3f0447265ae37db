"""The networks and losses against measured values of the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ha2g_live.engines import published, window
from ha2g_live.engines.published import Draws, Ha2g, Ha2gConfig
from ha2g_live.training import golden
from ha2g_live.training.ha2g import losses

HERE = Path(__file__).parent
NETWORKS = HERE / "ha2g_golden.npz"
LOSSES = HERE / "ha2g_golden_losses.npz"


def read(path: Path, only: str = "") -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files if only in name or name == "salt"}


def failures(arrays: dict[str, npt.NDArray[Any]]) -> set[str]:
    return {row.name.split("/")[-1] for row in golden.compare(arrays) if not row.passed}


@pytest.mark.parametrize(("path", "count"), [(NETWORKS, 27), (LOSSES, 3)])
def test_every_output_is_the_published_one(
    path: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert golden.main([str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == count + 1
    assert lines[-1] == f"{count} outputs, 0 over tolerance"


def test_every_output_in_the_file_is_recomputed() -> None:
    inputs = {"spectrogram", "words", "speaker", "seed"}
    stored = {name for name in read(NETWORKS) if name.rsplit("/", 1)[-1] not in inputs}
    assert {row.name for row in golden.compare(read(NETWORKS))} == stored - {"salt"}


def test_a_wrong_value_is_said_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = read(NETWORKS, "gesture/")
    arrays["gesture/level2"] = arrays["gesture/level2"].copy()
    arrays["gesture/level2"][0, 20, 3] += 1e-4
    path = tmp_path / "off.npz"
    np.savez(path, **arrays)
    assert golden.main([str(path)]) == 1
    over = [line for line in capsys.readouterr().out.splitlines() if "OVER" in line]
    assert len(over) == 1
    assert over[0].startswith("gesture/level2")


def test_any_salt_and_any_number_of_windows(tmp_path: Path) -> None:
    arrays = read(NETWORKS, "gesture/")
    inputs = {
        "spectrogram": arrays["gesture/spectrogram"][1:3],
        "words": arrays["gesture/words"][1:3],
        "speaker": np.array([2]),
        "seed": arrays["gesture/seed"],
    }
    with torch.inference_mode():
        outputs = dict(golden.network_outputs(*golden.golden_network("other", "gesture"), inputs))
    own: dict[str, Any] = {f"gesture/{name}": value for name, value in (inputs | outputs).items()}
    assert len(own["gesture/joined"]) == 64
    path = tmp_path / "own.npz"
    np.savez(path, salt="other", **own)
    assert golden.main([str(path)]) == 0
    np.savez(path, salt="ha2g", **own)
    assert golden.main([str(path)]) == 1


def test_losses_of_any_number_of_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        name: (0.3 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in {
            "text_feat": (20, 32),
            "audio_feat": (20, 32),
            "pose": (2, 34, 27),
            "target": (2, 34, 27),
        }.items()
    }
    arrays |= dict(golden.loss_outputs(arrays))
    path = tmp_path / "losses.npz"
    np.savez(path, **arrays)
    assert golden.main([str(path)]) == 0
    arrays["physical"] = arrays["physical"] * (1 + 3e-6)
    np.savez(path, **arrays)
    assert golden.main([str(path)]) == 1


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.zeros(3)}, "neither networks nor losses"),
        ({"gesture/spectrogram": np.zeros((1, 128, 70), np.float32)}, "lacks the entry 'salt'"),
    ],
)
def test_a_foreign_file_is_one_line(
    arrays: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "foreign.npz"
    np.savez(path, **arrays)
    with pytest.raises(SystemExit, match="2"):
        golden.main([str(path)])
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_a_damaged_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "damaged.npz"
    path.write_bytes(NETWORKS.read_bytes()[:1000])
    with pytest.raises(SystemExit, match="2"):
        golden.main([str(path)])
    assert capsys.readouterr().err.count("\n") == 1


# --- each of these mistakes must be seen


def test_the_order_inside_a_block_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    def usual_order(self: Any, maps: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(maps)))
        inner = self.se(self.bn2(self.conv2(inner)))
        return functional.relu(inner + self.downsample(maps))

    monkeypatch.setattr(published._Block, "forward", usual_order)
    wrong = failures(read(NETWORKS, "gesture/"))
    assert {"feat_low", "feat_mid", "feat_high", "windows"} <= wrong
    assert not {"blend_weight", "text_feat"} & wrong


def test_levels_are_matched_by_bone(monkeypatch: pytest.MonkeyPatch) -> None:
    make = golden.golden_network

    def by_position(salt: str, which: str) -> Any:
        network, discriminator = make(salt, which)
        for level, (below, bones) in enumerate(
            zip(network.skeleton.levels[:-1], network.skeleton.levels[1:], strict=True), 1
        ):
            places = [min(place, len(below)) for place in range(len(bones))]
            network.get_buffer(f"carried{level}").copy_(published._dims(places))
        return network, discriminator

    monkeypatch.setattr(golden, "golden_network", by_position)
    assert failures(read(NETWORKS, "gesture/")) >= {"level2", "level3", "windows", "joined"}
    assert "level1" not in failures(read(NETWORKS, "gesture/"))


@pytest.mark.parametrize("mistake", ["no flag", "first poses"])
def test_the_seed_matters(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = golden.seeded

    def wrong(seed: Any) -> tuple[Tensor, Tensor]:
        given, known = seeded(seed)
        if mistake == "no flag":
            return given, torch.zeros_like(known)
        return given.flip(1).roll(4, 1), known  # the seed in the wrong order

    monkeypatch.setattr(golden, "seeded", wrong)
    assert failures(read(NETWORKS, "gesture/")) >= {"level1", "level3", "windows", "joined"}


def test_the_cross_fade_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "join", lambda kept, following: following)
    assert failures(read(NETWORKS, "gesture/")) == {"joined"}


# --- what the golden values cannot see: training


def test_dropout_and_noise_are_the_same_however_a_batch_is_split() -> None:
    whole = Draws(5).normal(4, 3)
    halves = [Draws(5, rank, 2).normal(2, 3) for rank in range(2)]
    torch.testing.assert_close(whole, torch.cat(halves))
    kept = Draws(5).kept(0.7, torch.Size((1000, 10)))
    assert torch.unique(kept).tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert abs(float(kept.mean()) - 1.0) < 0.05


def test_without_dropout_training_answers_as_evaluation_does() -> None:
    """The recurrence is run layer by layer in training; it must be the same recurrence."""
    torch.manual_seed(0)
    gru = published._Gru(5, 7)
    values = torch.randn(2, 6, 5)

    class Nothing(Draws):
        def kept(self, share: float, shape: torch.Size) -> Tensor:
            return torch.ones(shape)

    torch.testing.assert_close(gru.run(values, Nothing(0)), gru.run(values))


def test_a_blend_of_speakers_lies_between_them() -> None:
    network = Ha2g(Ha2gConfig("ted_gesture", 3, 4, 16, (16, 16, 32, 64), 16)).eval()
    level = network.levels[0]
    with torch.inference_mode():
        by_id = level.style(torch.tensor([2]), None).z
        by_weight = level.style(torch.tensor([[0.0, 0.0, 1.0]]), None).z
        noisy = level.style(torch.tensor([2]), torch.ones(1, 16))
    torch.testing.assert_close(by_id, by_weight)
    torch.testing.assert_close(noisy.z, noisy.mean + torch.exp(0.5 * noisy.log_variance))


def test_huber_is_the_papers() -> None:
    found = losses.huber(torch.tensor([0.05, 0.3]), torch.zeros(2), 0.1)
    assert float(found) == pytest.approx((0.5 * 0.05**2 / 0.1 + (0.3 - 0.05)) / 2)


def test_the_divergence_of_a_standard_normal_is_nothing() -> None:
    nothing = torch.zeros(3, 16)
    assert float(losses.divergence(nothing, nothing)) == 0.0
    assert float(losses.divergence(nothing + 1.0, nothing)) == pytest.approx(0.5)


def test_style_divergence_rewards_different_motion() -> None:
    torch.manual_seed(0)
    poses, z, other_z = torch.zeros(2, 34, 6), torch.zeros(2, 16), torch.ones(2, 16)
    near = losses.style_divergence(poses, poses + 0.01, z, other_z)
    far = losses.style_divergence(poses, poses + 0.2, z, other_z)
    # 34 * 6 numbers, each 0.2 - 0.05 / 2, over a style distance of 1.
    assert float(far) == pytest.approx(-34 * 6 * 0.175, rel=1e-3)
    assert far < near < 0
    floor = losses.style_divergence(poses, poses + 9.0, z, z)
    assert float(floor) == losses.STYLE_FLOOR


def test_the_contrastive_loss_looks_for_the_own_frame() -> None:
    torch.manual_seed(0)
    text = torch.randn(12, 8)
    audio = text + 0.05 * torch.randn(12, 8)
    right = float(losses.contrastive(text, audio))
    assert right < 0.1 < float(losses.contrastive(text, audio.roll(1, 0)))
    part = losses.contrastive(text[4:8], audio, first=4)
    whole = [float(losses.contrastive(text[i : i + 1], audio, first=i)) for i in range(4, 8)]
    assert float(part) == pytest.approx(np.mean(whole))
