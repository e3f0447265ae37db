"""The motion autoencoder whose latent features FGD and diversity are measured on.

Known of the published autoencoder (HA2G, CVPR 2022; the measure is that of Yoon et al., "Speech
gesture generation from the trimodal context", 2020): it is convolutional over windows of 34 poses,
and for TED Expressive it maps 126 numbers a pose to 128 latents.

Our reading, not confirmed: 27 numbers to 32 latents for TED Gesture; two convolutions of 3 taps,
one of 4 taps with stride 2 (batch norm and LeakyReLU after each), one of 3 taps, no padding,
flattened channel-major; two linear layers with batch norm and LeakyReLU, one more, then the mean of
the latents; the decoder is the mirror image. The widths of a file that is imported come from its
tensors; the slopes of its LeakyReLU are not in a file and are arguments.

So scores with an autoencoder trained here cannot be compared with published ones. Scores with an
imported one can be where the ground truth's diversity comes out as published: ``check_line``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ha2g_live.engines.ted import WINDOW_FRAMES
from ha2g_live.realtime.errors import ConfigError, Ha2gError, ModelError
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g.checkpoint import save_tensors
from ha2g_live.training.ha2g.dataset import DataSet, Split
from ha2g_live.training.ha2g.encoder import (
    STRIDE_OF_TAPS,
    Encoder,
    block,
    build_encoder,
    encoder_tensors,
)
from ha2g_live.training.ha2g.pickled import read_pickle

FILE = "autoencoder.pt"
FORMAT = "ha2g-live motion autoencoder"
SLOPES = (0.2, 0.2)
"""Slopes of LeakyReLU after convolutions and after linear layers."""
PUBLISHED_DIVERSITY = {"ted_expressive": 175.2, "ted_gesture": 110.8}
"""Diversity of the ground truth (HA2G, CVPR 2022)."""
_CHECK_TOLERANCE = 0.05  # 500 random pairs scatter by a percent or two


@dataclass(frozen=True, slots=True)
class Widths:
    """Sizes of an encoder.

    Attributes:
        convolutions: channels after each of the four convolutions.
        linear: width of each hidden linear layer.
        latents: numbers that describe a window.
    """

    convolutions: tuple[int, int, int, int]
    linear: tuple[int, ...]
    latents: int


WIDTHS = {
    "ted_expressive": Widths((64, 128, 128, 64), (512, 256), 128),
    "ted_gesture": Widths((32, 64, 64, 32), (256, 128), 32),
}
"""What we train. Only the 128 latents are a published figure."""
_TAPS = (3, 3, 4, 3)


@dataclass(frozen=True, slots=True)
class AutoencoderConfig:
    """Settings of our own training; Adam on the mean squared error of the poses."""

    steps: int = 2000
    batch: int = 128
    rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"an autoencoder needs at least 1 step of training, got {self.steps}")


class Autoencoder(nn.Module):
    """Encoder and its mirror image, to be trained."""

    def __init__(self, pose_dim: int, widths: Widths) -> None:
        super().__init__()
        channels = (pose_dim, *widths.convolutions)
        frames, convolutions, mirrored = WINDOW_FRAMES, list[nn.Module](), list[nn.Module]()
        for i, taps in enumerate(_TAPS):
            stride = STRIDE_OF_TAPS.get(taps, 1)
            frames = (frames - taps) // stride + 1
            there = nn.Conv1d(channels[i], channels[i + 1], taps, stride)
            back = nn.ConvTranspose1d(channels[i + 1], channels[i], taps, stride)
            last = i == len(_TAPS) - 1
            convolutions.append(there if last else block(there, channels[i + 1], SLOPES[0]))
            mirrored.append(back if i == 0 else block(back, channels[i], SLOPES[0]))
        sizes = (channels[-1] * frames, *widths.linear, widths.latents)
        self.pose_encoder = Encoder(
            nn.Sequential(*convolutions), _linear(sizes), nn.Linear(sizes[-1], sizes[-1])
        )
        self.from_latents = _linear(sizes[::-1])
        self.decoder = nn.Sequential(*mirrored[::-1])
        self._shape = (channels[-1], frames)

    def forward(self, poses: Tensor) -> Tensor:
        """(windows, 34, pose_dim) poses, rebuilt from their latents."""
        spread = self.from_latents(self.pose_encoder(poses)).unflatten(1, self._shape)
        rebuilt: Tensor = self.decoder(spread).transpose(1, 2)
        return rebuilt


def _linear(sizes: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(itertools.pairwise(sizes)):
        layers.append(nn.Linear(before, after))
        if i < len(sizes) - 2:
            layers += [nn.BatchNorm1d(after), nn.LeakyReLU(SLOPES[1])]
    return nn.Sequential(*layers)


# --- files


@dataclass(frozen=True, slots=True)
class Features:
    """An encoder that is ready to be used, and where it is from.

    Attributes:
        encoder: in evaluation mode.
        skeleton: name of the data set's skeleton.
        source: for people.
        imported: False for one trained here.
    """

    encoder: Encoder
    skeleton: str
    source: str
    imported: bool

    def of(self, poses: F32, batch: int = 256) -> npt.NDArray[np.float64]:
        """(windows, 34, pose_dim) poses to (windows, latents) features."""
        with torch.inference_mode():
            parts = [
                self.encoder(torch.from_numpy(np.ascontiguousarray(poses[i : i + batch])))
                for i in range(0, len(poses), batch)
            ]
        return np.asarray(torch.cat(parts).double().numpy())

    def check_line(self, ground_truth_diversity: float, whole_test_split: bool) -> str:
        """One line for the user: whether FGD and diversity can be compared with published ones.

        Args:
            ground_truth_diversity: as measured with this autoencoder.
            whole_test_split: whether on all of the test split, as the published one.
        """
        if not self.imported:
            return (
                "FGD and diversity use an autoencoder trained here: they are NOT comparable with "
                "published scores"
            )
        if not whole_test_split:
            return (
                "whether the imported autoencoder agrees with published scores shows on the whole "
                "test split only: run with --split test and without --windows"
            )
        published = PUBLISHED_DIVERSITY[self.skeleton]
        text = f"ground-truth diversity {ground_truth_diversity:.1f}, published {published:.1f}: "
        if abs(ground_truth_diversity / published - 1.0) <= _CHECK_TOLERANCE:
            return text + "the imported autoencoder agrees, scores are comparable"
        return text + "they differ, scores are NOT comparable with published ones"


def import_autoencoder(
    path: Path, skeleton: str, pose_dim: int, slopes: tuple[float, float] = SLOPES
) -> Features:
    """Read an encoder from a torch file, its sizes from the tensors; runs no code in the file.

    Args:
        path: a state dict, or a dict that holds one, with names such as
            ``pose_encoder.net.0.0.weight``.
        skeleton: name of the data set's skeleton.
        pose_dim: numbers in a pose that it must take.
        slopes: of LeakyReLU after convolutions and after linear layers.

    Raises:
        Ha2gError: missing, damaged, could run code, no autoencoder, or one of other poses.
    """
    tensors = encoder_tensors(read_pickle(path), path)
    encoder = build_encoder(tensors, path, pose_dim, slopes)
    return Features(encoder.eval(), skeleton, f"{path}", imported=True)


# --- training


def own_autoencoder(
    dataset: DataSet, config: AutoencoderConfig | None = None, quiet: bool = False
) -> Features:
    """The autoencoder kept beside the data set, trained now where there is none that fits.

    Args:
        dataset: what it is trained on; one that was trained on other windows does not fit.
        config: settings it must have been trained with; any will do when left out.
        quiet: no progress bar.

    Raises:
        Ha2gError: there is nothing to train on, or the folder cannot be written to.
    """
    path = dataset.path / FILE
    made_of = {"format": FORMAT, "data": data_hash(dataset)}
    if config is not None:
        made_of["config"] = json.dumps(asdict(config))
    source = f"{path}, trained here"
    if path.exists():
        found = read_pickle(path)
        if not isinstance(found, dict) or found.get("format") != FORMAT:  # never overwrite these
            raise ModelError(
                f"{path} was not trained here: move it and give it with --autoencoder FILE"
            )
        if {name: found.get(name) for name in made_of} == made_of:
            tensors = encoder_tensors(found.get("state"), path)
            encoder = build_encoder(tensors, path, dataset.skeleton.pose_dim, SLOPES)
            return Features(encoder.eval(), dataset.skeleton.name, source, imported=False)
    config = config or AutoencoderConfig()
    network, _ = train_autoencoder(dataset, config, quiet)
    made_of["config"] = json.dumps(asdict(config))
    values = {**made_of, "state": network.state_dict()}
    save_tensors(path, values, "give an autoencoder with --autoencoder FILE")
    encoder = network.pose_encoder.eval()
    return Features(encoder, dataset.skeleton.name, source, imported=False)


def train_autoencoder(
    dataset: DataSet, config: AutoencoderConfig, quiet: bool = False
) -> tuple[Autoencoder, list[float]]:
    """Train on the windows of the ``train`` split; the same settings give the same weights.

    Returns:
        The network, and the loss of every step.

    Raises:
        Ha2gError: the split has fewer than 2 windows.
    """
    split = dataset.train
    if len(split) < 2:
        raise Ha2gError(
            f"{dataset.path} has {len(split)} training windows, an autoencoder needs at least 2: "
            "give one with --autoencoder FILE"
        )
    size = min(config.batch, len(split))

    def draw(rng: np.random.Generator) -> F32:
        return split.poses(rng.choice(len(split), size, replace=False))

    return fit_autoencoder(draw, dataset.skeleton.name, dataset.skeleton.pose_dim, config, quiet)


def fit_autoencoder(
    draw: Callable[[np.random.Generator], F32],
    skeleton: str,
    pose_dim: int,
    config: AutoencoderConfig,
    quiet: bool = False,
) -> tuple[Autoencoder, list[float]]:
    """Train on batches; the same settings and batches give the same weights.

    Args:
        draw: gives (windows, 34, pose_dim) poses, directions minus their mean.
        skeleton: name of the skeleton, which says the widths.
        pose_dim: numbers in a pose.
        config: settings.
        quiet: no progress bar.

    Returns:
        The network, and the loss of every step.
    """
    rng = np.random.default_rng(config.seed)
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = Autoencoder(pose_dim, WIDTHS[skeleton]).train()
        optimiser = torch.optim.Adam(network.parameters(), lr=config.rate)
        bar = tqdm(range(config.steps), desc="autoencoder", unit="step", disable=quiet or None)
        for step in bar:
            for group in optimiser.param_groups:
                group["lr"] = config.rate * 0.5 * (1.0 + math.cos(math.pi * step / config.steps))
            poses = torch.from_numpy(draw(rng))
            loss = nn.functional.mse_loss(network(poses), poses)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(float(loss.detach()))
            if step % 50 == 0:
                bar.set_postfix(loss=f"{losses[-1]:.4f}")
    return network, losses


def data_hash(dataset: DataSet) -> str:
    """Changes when the training windows of a data set change."""
    state = hashlib.blake2b(dataset.skeleton.name.encode(), digest_size=16)
    split: Split = dataset.train
    for clip in range(split.clips):
        windows = split.windows_of(clip)
        state.update(np.array([split.frame_of(int(w)) for w in windows], dtype="<i8").tobytes())
        state.update(split.clip_poses(clip).astype("<f4").tobytes())
    return state.hexdigest()
