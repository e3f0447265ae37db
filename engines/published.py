"""HA2G as published: audio learner, text encoder, pose levels and discriminator, in PyTorch.

Source: *Learning Hierarchical Cross-Modal Association for Co-Speech Gesture Generation* (Liu et
al., CVPR 2022), section 3. Parameters carry the names of the published checkpoints, so that those
load by name. The hierarchy is data (``ted.Skeleton.levels``): one loop runs the 6 levels of TED
Expressive or the 3 of TED Gesture.

Shapes: B windows, 34 pose frames, T mel columns (70 for a window), D numbers in a pose.
A speaker is an id (B,) of int64, or weights (B, speakers) that mix several.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ha2g_live.engines.ted import WINDOW_FRAMES, skeleton

_STAGE_BLOCKS = (3, 4, 6, 3)
_TEXT_BLOCKS = 4
_GRU_LAYERS = 4
_DROPOUT = 0.3
_EMBEDDING_DROPOUT = 0.1
_DISCRIMINATOR_HIDDEN = 64


@dataclass(frozen=True)
class Ha2gConfig:
    """Sizes of the networks. All but the first three are as published unless asked otherwise.

    Attributes:
        skeleton: one of ``ted.NAMES``.
        speakers: size of the speaker vocabulary.
        words: size of the word vocabulary.
        hidden: width of the pose levels' recurrence.
        channels: channels of the four stages of the audio learner, multiples of 16.
        text: width of the word embedding and of the text encoder.
        features: width of audio and text features.
        style: width of the style z.
    """

    skeleton: str
    speakers: int
    words: int
    hidden: int = 300
    channels: tuple[int, int, int, int] = (32, 64, 128, 256)
    text: int = 300
    features: int = 32
    style: int = 16

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return {**asdict(self), "channels": list(self.channels)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Ha2gConfig:
        """From the plain values of a checkpoint."""
        return cls(**{**values, "channels": tuple(values["channels"])})


class Draws:
    """The random numbers of one training step, the same however a batch is split over processes.

    Every draw is made for the whole batch from one seed, and each process takes its own rows.

    Args:
        seed: names the step.
        rank: which process this is.
        world: how many processes there are.
        device: where the numbers are wanted.
    """

    def __init__(
        self, seed: int, rank: int = 0, world: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        self._generator = torch.Generator(device=device).manual_seed(seed)
        self._rank, self._world, self._device = rank, world, device

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers; the first axis is this process's part of the batch."""
        return self._rows(torch.randn, shape)

    def kept(self, share: float, shape: torch.Size) -> Tensor:
        """A dropout mask that keeps ``share`` of the numbers and scales them up by as much."""
        return (self._rows(torch.rand, tuple(shape)) < share).to(torch.float32) / share

    def permutation(self, count: int) -> Tensor:
        """A shuffle of ``count`` things, the same in every process."""
        return torch.randperm(count, generator=self._generator, device=self._device)

    def _rows(self, draw: Any, shape: tuple[int, ...]) -> Tensor:
        batch, *rest = shape
        every: Tensor = draw(
            self._world * batch, *rest, generator=self._generator, device=self._device
        )
        return every[self._rank * batch : (self._rank + 1) * batch]


def _dropout(values: Tensor, rate: float, draws: Draws | None) -> Tensor:
    return values if draws is None else values * draws.kept(1.0 - rate, values.shape)


def _embed(table: nn.Module, speaker: Tensor) -> Tensor:
    """Rows of an embedding by id, or a blend of rows by weights."""
    assert isinstance(table, nn.Embedding)
    if speaker.dtype == torch.int64:
        return functional.embedding(speaker, table.weight)
    return speaker @ table.weight


# --- hierarchical audio learner (section 3.2)


class _SqueezeExcite(nn.Module):
    """Scales each channel by what all channels hold on average."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = channels // 8
        self.fc = nn.Sequential(
            nn.Linear(channels, narrow), nn.ReLU(), nn.Linear(narrow, channels), nn.Sigmoid()
        )

    def forward(self, maps: Tensor) -> Tensor:
        mean = functional.adaptive_avg_pool2d(maps, 1).flatten(1)
        scale: Tensor = self.fc(mean)
        return maps * scale[:, :, None, None]


class _Block(nn.Module):
    """Residual block. Its first half runs convolution, ReLU, batch norm, in this order."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.se = _SqueezeExcite(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.bn1(functional.relu(self.conv1(maps)))
        inner = self.se(self.bn2(self.conv2(inner)))
        return functional.relu(inner + self.downsample(maps))


class AudioLearner(nn.Module):
    """Spectrogram to features of three depths, and how a speaker blends them for each level."""

    def __init__(self, config: Ha2gConfig, levels: int) -> None:
        super().__init__()
        one, two, three, four = config.channels
        mid, high = three // 4, four // 16  # after the pixel shuffles
        self.levels = levels
        self.conv1 = nn.Conv2d(1, one, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(one)
        inputs = one
        for stage, (channels, blocks) in enumerate(
            zip(config.channels, _STAGE_BLOCKS, strict=True), 1
        ):
            first = _Block(inputs, channels, stride=1 if stage == 1 else 2)
            others = (_Block(channels, channels, stride=1) for _ in range(blocks - 1))
            self.add_module(f"layer{stage}", nn.Sequential(first, *others))
            inputs = channels
        self.conv_low, self.bn_low = nn.Conv2d(two, two, 2), nn.BatchNorm2d(two)
        self.conv_mid, self.bn_mid = nn.Conv2d(mid, mid, 3), nn.BatchNorm2d(mid)
        self.conv_high, self.bn_high = nn.Conv2d(high, high, 3), nn.BatchNorm2d(high)
        self.fc_low = nn.Linear(two * 63, config.features)
        self.fc_mid = nn.Linear(mid * 62, config.features)
        self.fc_high = nn.Linear(high * 62, config.features)
        self.speaker_embedding = nn.Sequential(
            nn.Embedding(config.speakers, config.style), nn.Linear(config.style, config.style)
        )
        self.fc1 = nn.Linear(config.style, 2 * config.style)
        self.fc2 = nn.Linear(2 * config.style, 3 * levels)

    def features(self, spectrogram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 128, T) decibels to low, mid and high features, (B, 34, features) each."""
        maps = self.bn1(functional.relu(self.conv1(spectrogram[:, None])))
        stages = []
        for stage in range(1, len(_STAGE_BLOCKS) + 1):
            maps = self.get_submodule(f"layer{stage}")(maps)
            stages.append(maps)
        low = self.bn_low(functional.relu(self.conv_low(stages[1])))
        mid = self.bn_mid(functional.relu(self.conv_mid(functional.pixel_shuffle(stages[2], 2))))
        high = self.bn_high(functional.relu(self.conv_high(functional.pixel_shuffle(stages[3], 4))))
        return (
            self.fc_low(low.flatten(1, 2).transpose(1, 2)),
            self.fc_mid(mid.flatten(1, 2).transpose(1, 2)),
            self.fc_high(high.flatten(1, 2).transpose(1, 2)),
        )

    def blend_weights(self, speaker: Tensor) -> Tensor:
        """(B, 3, levels): how much of the low, mid and high feature each level hears."""
        table, project = self.speaker_embedding
        hidden = functional.elu(self.fc1(functional.elu(project(_embed(table, speaker)))))
        weights: Tensor = self.fc2(hidden).unflatten(1, (3, self.levels))
        return weights.softmax(dim=1)


# --- text encoder (section 3.2)


class _CausalConv(nn.Module):
    """Weight-normed convolution over time that sees this frame and one before it."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.bias = nn.Parameter(torch.zeros(channels))
        self.weight_v = nn.Parameter(0.01 * torch.randn(channels, channels, 2))
        self.weight_g = nn.Parameter(self.weight_v.detach().norm(dim=(1, 2), keepdim=True))

    def forward(self, values: Tensor) -> Tensor:
        weight = self.weight_v * (self.weight_g / self.weight_v.norm(dim=(1, 2), keepdim=True))
        padded = functional.pad(values, (self.dilation, 0))
        return functional.conv1d(padded, weight, self.bias, dilation=self.dilation)


class _TextBlock(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _CausalConv(channels, dilation)
        self.conv2 = _CausalConv(channels, dilation)

    def forward(self, values: Tensor, draws: Draws | None) -> Tensor:
        inner = values
        for conv in (self.conv1, self.conv2):
            inner = _dropout(functional.relu(conv(inner)), _DROPOUT, draws)
        return functional.relu(inner + values)


class TextEncoder(nn.Module):
    """Words to features: a temporal convolutional network over one word id a frame."""

    def __init__(self, config: Ha2gConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.words, config.text)
        blocks = [_TextBlock(config.text, 2**block) for block in range(_TEXT_BLOCKS)]
        self.tcn = nn.ModuleDict({"network": nn.ModuleList(blocks)})
        self.decoder = nn.Linear(config.text, config.features)

    def forward(self, words: Tensor, draws: Draws | None = None) -> Tensor:
        """(B, 34) word ids, 0 where no word starts, to (B, 34, features)."""
        values = _dropout(self.embedding(words), _EMBEDDING_DROPOUT, draws).transpose(1, 2)
        blocks = self.tcn["network"]
        assert isinstance(blocks, nn.ModuleList)
        for block in blocks:
            values = block(values, draws)
        features: Tensor = self.decoder(values.transpose(1, 2))
        return features


# --- hierarchical pose inferer (section 3.3)


class _Gru(nn.GRU):
    """Bidirectional GRU whose two directions are added, with dropout from ``Draws``."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden, _GRU_LAYERS, batch_first=True, bidirectional=True)

    def run(self, values: Tensor, draws: Draws | None = None) -> Tensor:
        """(B, frames, inputs) to (B, frames, hidden)."""
        if draws is None:
            values, _ = self(values)
        else:
            start = values.new_zeros(2, len(values), self.hidden_size)
            for layer in range(self.num_layers):
                if layer:
                    values = _dropout(values, _DROPOUT, draws)
                values, _ = torch.gru(
                    values, start, self._layer(layer), True, 1, 0.0, self.training, True, True
                )
        forward, backward = values.chunk(2, dim=2)
        return forward + backward

    def _layer(self, layer: int) -> list[Tensor]:
        return [
            getattr(self, f"{name}_l{layer}{way}")
            for way in ("", "_reverse")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]


@dataclass(frozen=True)
class Style:
    """The style z of a level: (B, style) each."""

    z: Tensor
    mean: Tensor
    log_variance: Tensor


class PoseLevel(nn.Module):
    """One level of the hierarchy: predicts its own bones on all 34 frames."""

    def __init__(self, config: Ha2gConfig, bones: int) -> None:
        super().__init__()
        self.text_encoder = TextEncoder(config)
        self.speaker_embedding = nn.Sequential(
            nn.Embedding(config.speakers, config.style), nn.Linear(config.style, config.style)
        )
        self.speaker_mu = nn.Linear(config.style, config.style)
        self.speaker_logvar = nn.Linear(config.style, config.style)
        self.gru = _Gru(3 * bones + 1 + 2 * config.features + config.style, config.hidden)
        self.out = nn.Sequential(
            nn.Linear(config.hidden, config.hidden // 2),
            nn.LeakyReLU(),
            nn.Linear(config.hidden // 2, 3 * bones),
        )

    def style(self, speaker: Tensor, noise: Tensor | None) -> Style:
        """The speaker's z; its mean when ``noise`` (B, style) is left out."""
        table, project = self.speaker_embedding
        embedded = project(_embed(table, speaker))
        mean, log_variance = self.speaker_mu(embedded), self.speaker_logvar(embedded)
        z = mean if noise is None else mean + torch.exp(0.5 * log_variance) * noise
        return Style(z, mean, log_variance)

    def forward(
        self, slot: Tensor, audio: Tensor, text: Tensor, z: Tensor, draws: Draws | None = None
    ) -> Tensor:
        """(B, 34, 3 * bones + 1) slot and flag, features and z to (B, 34, 3 * bones)."""
        every_frame = z[:, None].expand(-1, slot.shape[1], -1)
        hidden = self.gru.run(torch.cat((slot, audio, text, every_frame), dim=2), draws)
        poses: Tensor = self.out(hidden)
        return poses


@dataclass(frozen=True)
class Prediction:
    """What the cascade answers.

    Attributes:
        levels: output of each level, (B, 34, 3 * bones of the level).
        style: z of the last level.
    """

    levels: list[Tensor]
    style: Style

    @property
    def poses(self) -> Tensor:
        """(B, 34, D), directions minus their mean."""
        return self.levels[-1]


class Ha2g(nn.Module):
    """The generator: audio learner, the text encoder of the contrastive loss, the pose levels."""

    def __init__(self, config: Ha2gConfig) -> None:
        super().__init__()
        self.config = config
        self.skeleton = skeleton(config.skeleton)
        levels = self.skeleton.levels
        self.audio = AudioLearner(config, len(levels))
        self.text = TextEncoder(config)
        self.poses = nn.ModuleList(PoseLevel(config, len(bones)) for bones in levels)
        below: tuple[int, ...] = ()
        for i, bones in enumerate(levels):
            self.register_buffer(f"dims{i}", _dims(bones), persistent=False)
            carried = [below.index(bone) if bone in below else len(below) for bone in bones]
            self.register_buffer(f"carried{i}", _dims(carried), persistent=False)
            below = bones

    @property
    def levels(self) -> list[PoseLevel]:
        """The pose levels, coarse to fine."""
        return [level for level in self.poses if isinstance(level, PoseLevel)]

    def level_dims(self, level: int) -> Tensor:
        """Which numbers of a whole pose a level predicts."""
        return self.get_buffer(f"dims{level}")

    def blend(self, spectrogram: Tensor, speaker: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The audio feature of each level, and the three (low, mid, high) they are made of."""
        low, mid, high = self.audio.features(spectrogram)
        weights = self.audio.blend_weights(speaker)[..., None, None]
        blended = [
            weights[:, 0, level] * low + weights[:, 1, level] * mid + weights[:, 2, level] * high
            for level in range(len(self.poses))
        ]
        return blended, [low, mid, high]

    def texts(self, words: Tensor, draws: Draws | None = None) -> list[Tensor]:
        """The text feature of each level; (B, 34) word ids."""
        return [level.text_encoder(words, draws) for level in self.levels]

    def cascade(
        self,
        audio: list[Tensor],
        texts: list[Tensor],
        speaker: Tensor,
        given: Tensor,
        known: Tensor,
        noise: Tensor | None = None,
        draws: Draws | None = None,
    ) -> Prediction:
        """Coarse to fine.

        Args:
            audio: feature of each level, (B, 34, features).
            texts: likewise.
            speaker: ids or weights.
            given: (B, 34, D) poses; only those at known frames are looked at.
            known: (B, 34) 1 at the seed frames, 0 elsewhere.
            noise: (B, levels, style) normal noise of z; its mean when left out.
            draws: dropout; none when left out.
        """
        flag = known[:, :, None]
        outputs: list[Tensor] = []
        carry = given.new_zeros(*given.shape[:2], 0)
        for i, level in enumerate(self.levels):
            style = level.style(speaker, None if noise is None else noise[:, i])
            # What is new at this level is not in `carry`: it reads the zeros put behind it.
            carry = functional.pad(carry, (0, 3))[..., self.get_buffer(f"carried{i}")]
            slot = flag * given[..., self.level_dims(i)] + (1.0 - flag) * carry
            carry = level(torch.cat((slot, flag), dim=2), audio[i], texts[i], style.z, draws)
            outputs.append(carry)
        return Prediction(outputs, style)

    def forward(
        self,
        spectrogram: Tensor,
        words: Tensor,
        speaker: Tensor,
        given: Tensor,
        known: Tensor,
        noise: Tensor | None = None,
        draws: Draws | None = None,
    ) -> Prediction:
        """One window: (B, 128, 70) decibels and (B, 34) words; see ``cascade`` for the rest."""
        audio, _ = self.blend(spectrogram, speaker)
        texts = self.texts(words, draws)
        return self.cascade(audio, texts, speaker, given, known, noise, draws)


class Discriminator(nn.Module):
    """Tells poses of people from made ones, (B, 34, D) to (B, 1) in 0..1."""

    def __init__(self, pose_dim: int) -> None:
        super().__init__()
        self.pre_conv = nn.Sequential(
            nn.Conv1d(pose_dim, 16, 3),
            nn.BatchNorm1d(16),
            nn.LeakyReLU(),
            nn.Conv1d(16, 8, 3),
            nn.BatchNorm1d(8),
            nn.LeakyReLU(),
            nn.Conv1d(8, 8, 3),
        )
        self.gru = _Gru(8, _DISCRIMINATOR_HIDDEN)
        self.out = nn.Linear(_DISCRIMINATOR_HIDDEN, 1)
        self.out2 = nn.Linear(WINDOW_FRAMES - 6, 1)

    def forward(self, poses: Tensor) -> Tensor:
        """(B, 34, D) to (B, 1)."""
        return torch.sigmoid(self.logit(poses))

    def logit(self, poses: Tensor) -> Tensor:
        """The same before the sigmoid."""
        features = self.gru.run(self.pre_conv(poses.transpose(1, 2)).transpose(1, 2))
        verdict: Tensor = self.out2(self.out(features).squeeze(2))
        return verdict


def _dims(bones: tuple[int, ...] | list[int]) -> Tensor:
    return torch.tensor([3 * bone + axis for bone in bones for axis in range(3)])
