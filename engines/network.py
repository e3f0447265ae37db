"""The live network: HA2G made streamable. The whole definition is in this file.

HA2G (Liu et al., CVPR 2022) reads a whole window of sound with a residual network (Hierarchical
Audio Learner) and fills in a whole window of poses with bidirectional recurrences (Hierarchical
Pose Inferer). Neither can run live. What is kept here is the idea: audio features of three
depths, blended per pose level by weights that depend on the speaker's style (section 3.2), and a
cascade of levels from coarse to fine, each fed by the level before, its own blend of audio, the
style and the last emitted poses (section 3.3). What is different: everything looks backward only,
one step is one pose frame, and the memory of a stream is a dictionary that goes in and comes out.

What the audio does not say, *which* gesture to make, is a choice: a head gives the odds of
carrying on or of beginning each known gesture, the noise input picks (Gumbel-max), and the pose
levels are conditioned on the choice and on the time since it was made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ha2g_live.realtime.skeleton import BONE_COUNT, LEVELS, MEAN_DIRECTION, POSE_DIM
from ha2g_live.realtime.timebase import COLUMNS_PER_STEP, FRAMES_AHEAD, MEL_BANDS, POSE_FPS

State = dict[str, Tensor]

SEED_FRAMES = 4
AUDIO_FEATURE = 32
_DEPTHS = ((1,), (2,), (4, 8))
"""Dilations of the temporal blocks up to the low, mid and high feature: they look back 2, 6 and
30 frames (0.13, 0.4 and 2 s)."""
_KERNEL = 3
_USUAL_COLUMN, _COLUMN_SPREAD = -0.25, 0.32  # mean and spread of mel columns of speech
_AGE_PERIODS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_CHOICE_HIDDEN = 128
_DECISION = 2.0
"""How much further than its log odds say a start from rest is from even. What sounds a little like
speech is not begun at all, what probably is speech at once: a false start costs more than 70 ms."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes of a live network.

    Attributes:
        styles: number of speaker styles.
        choices: number of gestures to choose between.
        channels: width of the audio learner.
        hidden: width of the recurrence of each pose level.
        resting: how many of the choices are rest; they come first.
    """

    styles: int
    choices: int
    channels: int = 128
    hidden: tuple[int, ...] = (96, 96, 128, 192, 224, 256)
    resting: int = 0

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the state arrays without the batch axis."""
        look_back = sum((_KERNEL - 1) * d for depth in _DEPTHS for d in depth)
        return {
            "context": (look_back, self.channels),
            "hidden": (sum(self.hidden),),
            "choice_hidden": (_CHOICE_HIDDEN,),
            "choice": (self.choices,),
            "age": (1,),
            "seeds": (SEED_FRAMES, POSE_DIM),
        }


class AudioLearner(nn.Module):
    """Causal Hierarchical Audio Learner: columns to features of three depths."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bands = nn.ModuleList(
            nn.Conv1d(c_in, 32, 5, stride=2, padding=2) for c_in in (COLUMNS_PER_STEP, 32, 32)
        )
        self.project = nn.Linear(32 * MEL_BANDS // 8, channels)
        self.norm = nn.LayerNorm(channels)
        self.blocks = nn.ModuleList(
            nn.Conv1d(channels, channels, _KERNEL, dilation=d) for depth in _DEPTHS for d in depth
        )
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(channels, AUDIO_FEATURE), nn.LayerNorm(AUDIO_FEATURE))
            for _ in _DEPTHS
        )
        for layer in (*self.bands, self.project, *self.blocks):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, columns: Tensor, context: Tensor) -> tuple[list[Tensor], Tensor]:
        """(B, T, 3, 128) columns, (B, 30, C) context -> three (B, T, 32) features, new context."""
        batch, frames = columns.shape[:2]
        # Without scales that are about one, the first hours of training hear next to nothing.
        x = (columns - _USUAL_COLUMN) / _COLUMN_SPREAD
        x = x.reshape(batch * frames, COLUMNS_PER_STEP, MEL_BANDS)
        for conv in self.bands:
            x = functional.relu(conv(x))  # (B*T, 32, mel/2), /4, /8
        x = functional.relu(self.norm(self.project(x.flatten(1)))).reshape(batch, frames, -1)
        features: list[Tensor] = []
        kept: list[Tensor] = []
        start = 0
        block = iter(self.blocks)
        for depth, head in zip(_DEPTHS, self.heads, strict=True):
            for dilation in depth:
                past = (_KERNEL - 1) * dilation
                x, seen = self._look_back(next(block), x, context[:, start : start + past])
                kept.append(seen[:, -past:])
                start += past
            features.append(head(x))
        return features, torch.cat(kept, dim=1)

    @staticmethod
    def _look_back(conv: nn.Module, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        seen = torch.cat((past, x), dim=1)
        return x + functional.relu(conv(seen.transpose(1, 2))).transpose(1, 2), seen


class Recurrence(nn.Module):
    """A gated recurrent unit whose input part can be computed for many frames at once."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.from_input = nn.Linear(inputs, 3 * hidden)
        self.from_hidden = nn.Linear(hidden, 3 * hidden)

    def forward(self, projected: Tensor, hidden: Tensor) -> Tensor:
        """(B, 3 H) projected input and (B, H) state -> (B, H) new state."""
        xr, xz, xn = projected.chunk(3, dim=-1)
        hr, hz, hn = self.from_hidden(hidden).chunk(3, dim=-1)
        reset, update = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
        fresh = torch.tanh(xn + reset * hn)
        return fresh + update * (hidden - fresh)


class PoseLevel(nn.Module):
    """One level of the Hierarchical Pose Inferer.

    A bone that the level before has starts from its prediction, a new bone from its last seed;
    the level adds a correction.
    """

    dims: Tensor
    source: Tensor

    def __init__(
        self, bones: tuple[int, ...], before: tuple[int, ...], given: int, hidden: int
    ) -> None:
        super().__init__()
        dims = [3 * bone + axis for bone in bones for axis in range(3)]
        dims_before = [3 * bone + axis for bone in before for axis in range(3)]
        # Where each of our dimensions stands in (last seed, level before) put side by side.
        source = [POSE_DIM + dims_before.index(dim) if dim in dims_before else dim for dim in dims]
        self.register_buffer("dims", torch.tensor(dims), persistent=False)
        self.register_buffer("source", torch.tensor(source), persistent=False)
        size = len(dims)
        self.given = nn.Linear(given, 3 * hidden, bias=False)
        self.recurrence = Recurrence(len(dims_before) * FRAMES_AHEAD + SEED_FRAMES * size, hidden)
        self.out = nn.Sequential(
            nn.Linear(hidden, hidden // 2),
            nn.LeakyReLU(0.01),
            nn.Linear(hidden // 2, size * FRAMES_AHEAD),
        )

    def project(self, known: Tensor) -> Tensor:
        """(..., given) what is known of a frame before any pose -> (..., 3 H)."""
        projected: Tensor = self.given(known)
        return projected

    def forward(
        self, given: Tensor, before: Tensor, seeds: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One frame.

        Args:
            given: (B, 3 H) projection of audio, style and choice.
            before: (B, 3 frames, dims of the level before), minus the mean.
            seeds: (B, 4, 126) last emitted poses, minus the mean.
            hidden: (B, H).

        Returns:
            (B, 3, dims of this level) poses ahead, and the new hidden state.
        """
        own_seeds = seeds[:, :, self.dims]
        inputs = torch.cat((before.flatten(1), own_seeds.flatten(1)), dim=1)
        hidden = self.recurrence(given + self.recurrence.from_input(inputs), hidden)
        last = seeds[:, -1:].expand(-1, FRAMES_AHEAD, -1)
        start = torch.cat((last, before), dim=2)[:, :, self.source]
        change = self.out(hidden).reshape(start.shape)
        return start + change, hidden


class LiveNetwork(nn.Module):
    """Audio learner, choice head and six pose levels."""

    mean_direction: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        levels = len(LEVELS)
        self.audio = AudioLearner(config.channels)
        self.style_embedding = nn.Linear(config.styles, 16, bias=False)
        self.blend = nn.Sequential(
            nn.Linear(16, 16), nn.ELU(), nn.Linear(16, 32), nn.ELU(), nn.Linear(32, 3 * levels)
        )
        self.choice_embedding = nn.Linear(config.choices, 48, bias=False)
        age = 2 + 2 * len(_AGE_PERIODS_S)
        self.chooser = Recurrence(3 * AUDIO_FEATURE + 16 + 48 + age, _CHOICE_HIDDEN)
        self.odds = nn.Linear(_CHOICE_HIDDEN, config.choices + 1)
        given = AUDIO_FEATURE + 16 + 48 + age
        self.levels = nn.ModuleList(
            PoseLevel(bones, before, given, hidden)
            for bones, before, hidden in zip(LEVELS, ((), *LEVELS[:-1]), config.hidden, strict=True)
        )
        mean = torch.from_numpy(np.array(MEAN_DIRECTION)).reshape(POSE_DIM)
        self.register_buffer("mean_direction", mean, persistent=False)

    def hear(
        self, columns: Tensor, style: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, 3, 128) -> (B, T, 96) features, (B, T, 6 levels, 32) blends, new context."""
        features, context = self.audio(columns, context)
        weight = self.blend(self.style_embedding(style)).reshape(-1, 3, len(LEVELS))
        weight = torch.softmax(weight, dim=1)
        stacked = torch.stack(features, dim=2)  # (B, T, 3 depths, 32)
        blends = torch.einsum("btdf,bdl->btlf", stacked, weight)
        return torch.cat(features, dim=2), blends, context

    def odds_of(
        self, heard: Tensor, style: Tensor, choice: Tensor, age: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log odds (B, choices + 1) of carrying on (entry 0) or beginning a gesture.

        ``choice`` and ``age`` are those of the frame before.
        """
        inputs = torch.cat(
            (heard, self.style_embedding(style), self.choice_embedding(choice), age_features(age)),
            dim=-1,
        )
        hidden = self.chooser(self.chooser.from_input(inputs), hidden)
        return self.odds(hidden), hidden

    def _decided(self, odds: Tensor, choice: Tensor) -> Tensor:
        """The odds with starts from rest made surer, one way or the other."""
        first = 1 + self.config.resting
        if first == 1:
            return odds
        resting = choice[:, : first - 1].sum(dim=1, keepdim=True)
        stay, start = odds[:, :first], odds[:, first:]
        log_odds = start.logsumexp(dim=1, keepdim=True) - stay.logsumexp(dim=1, keepdim=True)
        return torch.cat((stay, start + resting * (_DECISION - 1.0) * log_odds), dim=1)

    def given(self, blends: Tensor, style: Tensor, choice: Tensor, age: Tensor) -> list[Tensor]:
        """Per level the (..., 3 H) projection of what is known of a frame before any pose.

        Shapes may carry a time axis: ``blends`` (..., 6, 32), the others (..., size).
        """
        known = torch.cat(
            (self.style_embedding(style), self.choice_embedding(choice), age_features(age)), dim=-1
        )
        return [
            level.project(torch.cat((blends[..., i, :], known), dim=-1))
            for i, level in enumerate(self._pose_levels())
        ]

    def _pose_levels(self) -> list[PoseLevel]:
        return [level for level in self.levels if isinstance(level, PoseLevel)]

    def pose(
        self, given: list[Tensor], seeds: Tensor, hidden: Tensor
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """One frame of the cascade.

        Returns:
            The (B, 3, dims) output of every level, minus the mean; the last level's as unit
            directions (B, 3, 126); the new hidden states.
        """
        outputs: list[Tensor] = []
        states: list[Tensor] = []
        before = seeds.new_zeros(seeds.shape[0], FRAMES_AHEAD, 0)
        parts = torch.split(hidden, list(self.config.hidden), dim=1)
        for level, known, state in zip(self.levels, given, parts, strict=True):
            before, state_after = level(known, before, seeds, state)
            outputs.append(before)
            states.append(state_after)
        full = (before + self.mean_direction).reshape(-1, FRAMES_AHEAD, BONE_COUNT, 3)
        length = torch.sqrt(torch.sum(full * full, dim=-1, keepdim=True) + 1e-8)
        return outputs, (full / length).reshape(before.shape), torch.cat(states, dim=1)

    def forward(
        self, audio: Tensor, style: Tensor, noise: Tensor, state: State
    ) -> tuple[Tensor, State]:
        """The step of the engine contract (``engines/base.py``)."""
        heard, blends, context = self.hear(audio[:, None], style, state["context"])
        odds, choice_hidden = self.odds_of(
            heard[:, 0], style, state["choice"], state["age"], state["choice_hidden"]
        )
        picked = self._decided(odds, state["choice"]) + noise
        fresh = functional.one_hot(picked[:, 1:].argmax(dim=1), self.config.choices).float()
        # In the first step of a stream nothing has been chosen yet, so something must be.
        none_yet = (state["choice"].sum(dim=1, keepdim=True) < 0.5).float()
        begins = (picked[:, 1:].amax(dim=1, keepdim=True) > picked[:, :1]).float()
        begins = torch.maximum(begins, none_yet)
        choice = begins * fresh + (1.0 - begins) * state["choice"]
        age = (1.0 - begins) * (state["age"] + 1.0)
        given = self.given(blends[:, 0], style, choice, age)
        _, directions, hidden = self.pose(given, state["seeds"], state["hidden"])
        emitted = directions[:, :1] - self.mean_direction
        return directions.reshape(-1, FRAMES_AHEAD, BONE_COUNT, 3), {
            "context": context,
            "hidden": hidden,
            "choice_hidden": choice_hidden,
            "choice": choice,
            "age": age,
            "seeds": torch.cat((state["seeds"][:, 1:], emitted), dim=1),
        }


def age_features(age: Tensor) -> Tensor:
    """(..., 1) pose frames since the choice -> (..., 14): how fresh it is, and slow clocks."""
    age_s = age / POSE_FPS
    clocks = [
        wave(age_s * (2.0 * math.pi / period))
        for period in _AGE_PERIODS_S
        for wave in (torch.sin, torch.cos)
    ]
    return torch.cat((torch.exp(-age_s / 0.3), torch.exp(-age_s / 2.0), *clocks), dim=-1)
