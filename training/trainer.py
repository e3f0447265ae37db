"""Trains the live network on a corpus.

    ha2g-live train --corpus corpus --out run

writes ``run/checkpoint.pt``, from which the same command goes on, and ``run/model.onnx``.
The network lives on its own past: each lane walks through whole streams, and from batch to batch
it keeps its state and the poses it made itself. At first the seeds are the true poses; over the
first ``--own-after`` steps they give way to its own.
"""

from __future__ import annotations

import csv
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from ha2g_live.engines.network import LiveNetwork, NetworkConfig
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.options import Parser
from ha2g_live.training.contrast import PhraseEncoder, contrast
from ha2g_live.training.corpus import PHRASE_FEATURES
from ha2g_live.training.dataset import Batch, Lanes, load_corpus
from ha2g_live.training.ha2g.losses import huber, style_divergence
from ha2g_live.training.judge import JUDGE_FRAMES, Judge, feature_distance, judge_loss
from ha2g_live.training.losses import REGRESSION_WEIGHT, STYLE_WEIGHT, level_loss

CHECKPOINT = "checkpoint.pt"
MODEL = "model.onnx"


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of a run.

    Attributes:
        steps: optimiser steps in all.
        lanes: streams trained on side by side.
        frames: pose frames of one step (the gradient's reach).
        rate: highest learning rate; it rises over 200 steps and falls to zero along a cosine.
        own_after: step from which the seeds are all the network's own.
        seed_noise: standard deviation of noise on the seeds.
        motion_weight: weight of the distance of velocities, in units of the regression weight.
        change_weight: the same of accelerations: what trembles is far off here.
        choice_weight: weight of the choice head's cross entropy.
        gan_after: step from which the judge counts.
        gan_weight: weight of the judge's verdict.
        match_weight: weight of feature matching.
        contrast_weight: weight of the contrast of sound and phrase.
        style_every: steps between two uses of the style divergence.
        average: decay of the running average of weights, which is what is exported.
        seed: seed of everything drawn.
        threads: CPU threads.
    """

    steps: int = 5000
    lanes: int = 64
    frames: int = 60
    rate: float = 1.5e-3
    own_after: int = 700
    seed_noise: float = 0.01
    motion_weight: float = 2.0
    change_weight: float = 1.0
    choice_weight: float = 3.0
    gan_after: int = 1500
    gan_weight: float = 0.02
    match_weight: float = 0.5
    contrast_weight: float = 0.1
    style_every: int = 8
    average: float = 0.998
    seed: int = 0
    threads: int = 2


class Trainer:
    """One run: networks, optimisers, lanes and what is carried between steps."""

    def __init__(self, config: TrainConfig, corpus: Path) -> None:
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        self.config = config
        streams, self.about = load_corpus(corpus, "train")
        self.sizes = NetworkConfig(len(self.about["styles"]), len(self.about["choices"]))
        self.network = LiveNetwork(self.sizes)
        self.average = LiveNetwork(self.sizes)
        self.average.load_state_dict(self.network.state_dict())
        self.judge = Judge()
        self.phrases = PhraseEncoder(PHRASE_FEATURES)
        self.optimiser = torch.optim.AdamW(
            [*self.network.parameters(), *self.phrases.parameters()],
            lr=config.rate,
            betas=(0.9, 0.99),
            weight_decay=1e-4,
        )
        self.judge_optimiser = torch.optim.Adam(self.judge.parameters(), lr=4e-4, betas=(0.5, 0.99))
        self.rng = np.random.default_rng(config.seed)
        self.lanes = Lanes(streams, config.lanes, config.frames, self.rng)
        self.state = {
            name: torch.zeros(config.lanes, *shape)
            for name, shape in self.sizes.state_shapes.items()
        }
        self.step_number = 0

    def rate_now(self) -> float:
        """Learning rate of the step to come."""
        warm = min(1.0, (self.step_number + 1) / 200)
        along = self.step_number / self.config.steps
        return float(self.config.rate * warm * 0.5 * (1.0 + np.cos(np.pi * min(along, 1.0))))

    def step(self) -> dict[str, float]:
        """One optimiser step; returns the losses by name."""
        config, batch = self.config, self.lanes.next()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate_now()
        self._begin_streams(batch)
        with torch.autocast("cpu", torch.bfloat16):
            losses, emitted = self._forward(batch)
        total = sum(weight * value for weight, value in losses.values())
        assert isinstance(total, Tensor)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        with torch.no_grad():
            for kept, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(
                    now, 1.0 - min(config.average, (1 + self.step_number) / (10 + self.step_number))
                )
        report = {name: float(value.detach()) for name, (_, value) in losses.items()}
        if self._judging():
            report["judge"] = self._train_judge(batch, emitted.detach())
        report["gradient"] = float(norm)
        self.step_number += 1
        return report

    def _judging(self) -> bool:
        # The judge learns for a while before the network listens to it.
        return self.step_number >= self.config.gan_after - 300 and self.step_number % 2 == 0

    def _begin_streams(self, batch: Batch) -> None:
        restarted = torch.from_numpy(batch.restarted)
        for name, carried in self.state.items():
            self.state[name] = carried.detach() * ~restarted.reshape(-1, *[1] * (carried.ndim - 1))
        self.state["seeds"][restarted] = torch.from_numpy(batch.first_seeds)[restarted]

    def _forward(self, batch: Batch) -> tuple[dict[str, tuple[float, Tensor]], Tensor]:
        config, network, state = self.config, self.network, self.state
        lanes, frames = batch.label.shape
        targets = torch.from_numpy(batch.targets)
        style = functional.one_hot(torch.from_numpy(batch.style), self.sizes.styles).float()
        over_time = style[:, None].expand(-1, frames, -1)
        choice = functional.one_hot(torch.from_numpy(batch.choice), self.sizes.choices).float()
        age = torch.from_numpy(batch.age)[..., None]

        heard, blends, state["context"] = network.hear(
            torch.from_numpy(batch.audio), style, state["context"]
        )
        choice_loss = self._choice_loss(batch, heard, over_time)
        given = [part.unbind(1) for part in network.given(blends, over_time, choice, age)]
        own = self._own_seeds(lanes, frames)
        emitted, levels, directions = self._unroll(given, state, targets, own)
        mean = network.mean_direction
        now = torch.cat((state["seeds_before"][:, -1:], emitted[:, :-1]), dim=1)
        true_now = torch.cat((now[:, :1].detach(), targets[:, :-1, 0]), dim=1)
        speed, true_speed = emitted - now, targets[:, :, 0] - true_now
        change = huber(speed[:, 1:] - speed[:, :-1], true_speed[:, 1:] - true_speed[:, :-1], 0.05)
        losses = {
            "pose": (REGRESSION_WEIGHT / 6, level_loss(levels, targets)),
            "unit": (REGRESSION_WEIGHT / 6, huber(directions - mean, targets, 0.1)),
            "motion": (REGRESSION_WEIGHT * config.motion_weight, huber(speed, true_speed, 0.05)),
            "change": (REGRESSION_WEIGHT * config.change_weight, change),
            "choice": (config.choice_weight, choice_loss),
        }
        low, _, high = heard.chunk(3, dim=-1)
        embedded = self.phrases(torch.from_numpy(batch.phrase))
        losses["contrast"] = (config.contrast_weight, contrast(low, high, embedded))
        if self.step_number >= config.gan_after and self._judging():
            losses |= self._verdict(emitted, targets[:, :, 0])
        if self.step_number % config.style_every == 0 and self.step_number > config.own_after:
            losses["style"] = (STYLE_WEIGHT, self._style_loss(blends, style, choice, age, emitted))
        return losses, emitted

    def _choice_loss(self, batch: Batch, heard: Tensor, style: Tensor) -> Tensor:
        """Cross entropy of what was begun, the choices before being the true ones."""
        network = self.network
        before = torch.from_numpy(batch.choice_before)
        known = functional.one_hot(before.clamp(min=0), self.sizes.choices).float()
        known = known * (before >= 0)[..., None]
        age_before = torch.from_numpy(batch.age_before)[..., None]
        hidden, odds = self.state["choice_hidden"], []
        for t in range(heard.shape[1]):
            now, hidden = network.odds_of(
                heard[:, t], style[:, t], known[:, t], age_before[:, t], hidden
            )
            odds.append(now)
        self.state["choice_hidden"] = hidden.detach()
        stacked = torch.stack(odds, dim=1).float()
        return functional.cross_entropy(
            stacked.flatten(0, 1), torch.from_numpy(batch.label).flatten()
        )

    def _own_seeds(self, lanes: int, frames: int) -> Tensor:
        """(lanes, frames, 1): 1 where the next seed is the network's own pose, 0 the true one."""
        share = min(1.0, self.step_number / max(1, self.config.own_after))
        return (torch.rand(lanes, frames, 1) < share).float()

    def _unroll(
        self,
        given: list[tuple[Tensor, ...]],
        state: dict[str, Tensor],
        targets: Tensor,
        own: Tensor,
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """Run the cascade over time on its own poses; leaves the last state detached."""
        network = self.network
        seeds, hidden = state["seeds"], state["hidden"]
        state["seeds_before"] = seeds.detach()
        emitted, directions = [], []
        levels: list[list[Tensor]] = []
        for t in range(targets.shape[1]):
            noisy = seeds + self.config.seed_noise * torch.randn_like(seeds)
            outputs, ahead, hidden = network.pose([part[t] for part in given], noisy, hidden)
            levels.append(outputs)
            directions.append(ahead)
            pose = ahead[:, 0] - network.mean_direction
            emitted.append(pose)
            following = own[:, t] * pose + (1.0 - own[:, t]) * targets[:, t, 0]
            seeds = torch.cat((seeds[:, 1:], following[:, None]), dim=1)
        state["seeds"], state["hidden"] = seeds.detach(), hidden.detach()
        stacked = [torch.stack(parts, dim=1).float() for parts in zip(*levels, strict=True)]
        return torch.stack(emitted, dim=1), stacked, torch.stack(directions, dim=1)

    def _style_loss(
        self, blends: Tensor, style: Tensor, choice: Tensor, age: Tensor, emitted: Tensor
    ) -> Tensor:
        network, order = self.network, torch.randperm(len(style))
        other = style[order]
        with torch.no_grad():
            over_time = other[:, None].expand(-1, choice.shape[1], -1)
            given = [p.unbind(1) for p in network.given(blends, over_time, choice, age)]
            seeds, hidden, poses = self.state["seeds_before"], self.state["hidden"] * 0, []
            for t in range(choice.shape[1]):
                _, ahead, hidden = network.pose([part[t] for part in given], seeds, hidden)
                poses.append(ahead[:, 0] - network.mean_direction)
                seeds = torch.cat((seeds[:, 1:], poses[-1][:, None]), dim=1)
        z, other_z = network.style_embedding(style), network.style_embedding(other)
        return style_divergence(emitted, torch.stack(poses, dim=1), z, other_z) / emitted.shape[1]

    def _verdict(self, emitted: Tensor, targets: Tensor) -> dict[str, tuple[float, Tensor]]:
        """What the judge says of a stretch, and how far what it sees is from the target."""
        self.judge.requires_grad_(False)
        made, real = self._stretch(emitted, targets)
        score, features = self.judge(made)
        _, wanted = self.judge(real)
        self.judge.requires_grad_(True)
        return {
            "gan": (self.config.gan_weight, -score.float().mean()),
            "match": (self.config.match_weight, feature_distance(wanted, features)),
        }

    def _stretch(self, *poses: Tensor) -> tuple[Tensor, ...]:
        frames = min(JUDGE_FRAMES, poses[0].shape[1])
        start = int(self.rng.integers(0, poses[0].shape[1] - frames + 1))
        return tuple(part[:, start : start + frames] for part in poses)

    def _train_judge(self, batch: Batch, emitted: Tensor) -> float:
        made, real = self._stretch(emitted.float(), torch.from_numpy(batch.targets[:, :, 0]))
        loss = judge_loss(self.judge(real)[0], self.judge(made)[0])
        self.judge_optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.judge_optimiser.step()
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write a checkpoint; a crash while writing leaves the old one."""
        unfinished = path.with_suffix(".part")
        torch.save(
            {
                "step": self.step_number,
                "config": asdict(self.config),
                "styles": self.about["styles"],
                "choices": self.about["choices"],
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "judge": self.judge.state_dict(),
                "phrases": self.phrases.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "judge_optimiser": self.judge_optimiser.state_dict(),
            },
            unfinished,
        )
        unfinished.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Lanes begin new streams.

        Raises:
            Ha2gError: it belongs to another corpus or is damaged.
        """
        saved = load_checkpoint(path)
        if saved["choices"] != self.about["choices"] or saved["styles"] != self.about["styles"]:
            raise Ha2gError(f"{path} was trained on another corpus: choose another --out")
        self.step_number = int(saved["step"])
        for part in ("network", "average", "judge", "phrases", "optimiser", "judge_optimiser"):
            getattr(self, part).load_state_dict(saved[part])


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code in it.

    Raises:
        Ha2gError: it is missing or damaged.
    """
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        saved["average"], saved["choices"]
    except FileNotFoundError as error:
        raise Ha2gError(f"{path} is missing: train first with  ha2g-live train") from error
    except Exception as error:
        raise Ha2gError(f"{path} is not a checkpoint of this program ({error})") from error
    return saved


def train(config: TrainConfig, corpus: Path, out: Path, save_every: int = 250) -> None:
    """Run to ``config.steps``, from the checkpoint in ``out`` if there is one.

    Writes ``checkpoint.pt`` and ``log.csv``.
    """
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, corpus)
    checkpoint = out / CHECKPOINT
    if checkpoint.exists():
        trainer.load(checkpoint)
    log_path = out / "log.csv"
    fields = [
        "step",
        "seconds",
        "rate",
        "pose",
        "unit",
        "motion",
        "change",
        "choice",
        "contrast",
        "gan",
        "match",
        "style",
        "judge",
        "gradient",
    ]
    fresh = not log_path.exists()
    with log_path.open("a", newline="", encoding="utf-8") as file:
        log = csv.DictWriter(file, fields)
        if fresh:
            log.writeheader()
        recent: dict[str, list[float]] = {}
        bar = tqdm(
            total=config.steps,
            initial=trainer.step_number,
            unit="step",
            desc="train",
            smoothing=0.05,
        )
        started_s = time.monotonic()
        while trainer.step_number < config.steps:
            for name, value in trainer.step().items():
                recent.setdefault(name, []).append(value)
            bar.update()
            number = trainer.step_number
            if number % 25 == 0 or number == config.steps:
                means = {name: float(np.mean(values)) for name, values in recent.items()}
                log.writerow(
                    {
                        "step": number,
                        "seconds": round(time.monotonic() - started_s),
                        "rate": trainer.rate_now(),
                    }
                    | {name: f"{value:.6g}" for name, value in means.items()}
                )
                file.flush()
                bar.set_postfix({k: f"{means[k]:.4f}" for k in ("pose", "motion", "choice")})
                recent.clear()
            if number % save_every == 0 or number == config.steps:
                trainer.save(checkpoint)
        bar.close()


def main(argv: list[str] | None = None) -> int:
    """The ``train`` command."""
    defaults = TrainConfig()
    parser = Parser(
        prog="ha2g-live train",
        description="Train the live network on a corpus. `--recipe ha2g` trains HA2G instead.",
    )
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="folder of the corpus")
    parser.add_argument("--out", type=Path, default=Path("run"), help="folder of the run")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--lanes", type=int, default=defaults.lanes)
    parser.add_argument("--frames", type=int, default=defaults.frames)
    parser.add_argument("--rate", type=float, default=defaults.rate)
    parser.add_argument("--own-after", type=int, default=defaults.own_after)
    parser.add_argument("--gan-after", type=int, default=defaults.gan_after)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--threads", type=int, default=defaults.threads)
    options = vars(parser.parse_args(argv))
    corpus, out = options.pop("corpus"), options.pop("out")
    train(TrainConfig(**options), corpus, out)
    # The export reads checkpoints with this file.
    from ha2g_live.training.export import export_checkpoint

    export_checkpoint(out / CHECKPOINT, out / MODEL, out.resolve().name, "1")
    print(f"wrote {out / MODEL}: score it with  ha2g-live evaluate", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
