"""One training step of HA2G: the loss terms of a batch, and the two updates (section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ha2g_live.engines.published import Discriminator, Draws, Ha2g, Prediction
from ha2g_live.engines.ted import SEED_FRAMES, WINDOW_FRAMES
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.training.ha2g.dataset import Int64, Split
from ha2g_live.training.ha2g.losses import (
    HUBER_BETA,
    PhysicalLoss,
    contrastive,
    discriminator_gan,
    divergence,
    generator_gan,
    huber,
    style_divergence,
)
from ha2g_live.training.ha2g.parallel import Team
from ha2g_live.training.ha2g.settings import TERMS

_TEXT_TERMS = ("contrast_high", "contrast_low")
LONGEST_SEED = WINDOW_FRAMES - 1


class TrainingError(Ha2gError):
    """Training cannot go on."""


@dataclass(frozen=True)
class Batch:
    """This process's rows of a batch: B windows.

    Attributes:
        spectrogram: (B, 128, 70) dB.
        words: (B, 34) word ids.
        poses: (B, 34, D) directions minus their mean.
        known: (B, 34) 1 at the seed frames.
        speaker: (B,) ids.
        speakers: (batch,) ids of the whole batch, of all processes.
    """

    spectrogram: Tensor
    words: Tensor
    poses: Tensor
    known: Tensor
    speaker: Tensor
    speakers: Tensor


def read_batch(
    split: Split,
    windows: Int64,
    seeds: Int64,
    streaming: bool,
    team: Team | None = None,
    dtype: torch.dtype = torch.float32,
) -> Batch:
    """Fetch windows.

    Args:
        split: where from.
        windows: (batch,) window numbers of the whole batch.
        seeds: (batch,) seed frames of each.
        streaming: spectrograms as a live stream sees them, and no words.
        team: whose process this is; alone when left out.
        dtype: of spectrograms and poses.
    """
    team = team or Team()
    own = team.rows(len(windows))
    rows = windows[own]
    speakers = torch.from_numpy(split.speakers_at(windows))
    words = np.zeros((len(rows), WINDOW_FRAMES), np.int64) if streaming else split.words_at(rows)
    known = np.arange(WINDOW_FRAMES) < seeds[own, None]
    tensors = (
        torch.from_numpy(split.spectrogram(rows, "stream" if streaming else "clip")),
        torch.from_numpy(words),
        torch.from_numpy(split.poses(rows)),
        torch.from_numpy(known.astype(np.float32)),
        speakers[own],
        speakers,
    )
    types = (torch.int64 if tensor.dtype == torch.int64 else dtype for tensor in tensors)
    return Batch(*(t.to(team.device, kind) for t, kind in zip(tensors, types, strict=True)))


def usual_seeds(count: int) -> Int64:
    """The published seed length, for ``count`` windows."""
    return np.full(count, SEED_FRAMES, dtype=np.int64)


def regression(network: Ha2g, prediction: Prediction, poses: Tensor) -> Tensor:
    """Huber loss of every level against the bones it predicts, summed over the levels."""
    return torch.stack(
        [
            huber(output, poses[..., network.level_dims(level)], HUBER_BETA)
            for level, output in enumerate(prediction.levels)
        ]
    ).sum()


class Step:
    """Updates the networks by one batch after the other.

    Args:
        network: the generator.
        discriminator: the judge.
        weights: of each of ``TERMS``, signed; a term of weight 0 is left out.
        rate: of both Adam optimisers.
        betas: likewise.
        text: whether words are heard; without them the contrastive terms are left out.
        team: the processes.
    """

    def __init__(
        self,
        network: Ha2g,
        discriminator: Discriminator,
        weights: Mapping[str, float],
        rate: float,
        betas: tuple[float, float],
        text: bool,
        team: Team,
    ) -> None:
        self.network, self.discriminator, self.team = network, discriminator, team
        self.weights = {
            name: weights[name]
            for name in TERMS
            if weights[name] != 0.0 and (text or name not in _TEXT_TERMS)
        }
        self.text = text
        dtype = next(network.parameters()).dtype
        self.physical = PhysicalLoss(network.skeleton).to(team.device, dtype)
        self.optimiser = torch.optim.Adam(network.parameters(), rate, betas)
        self.judge_optimiser = torch.optim.Adam(discriminator.parameters(), rate, betas)

    def run(self, batch: Batch, draws: Draws, judged: bool) -> dict[str, float]:
        """Update both networks.

        Args:
            batch: this process's rows.
            draws: random numbers of this step.
            judged: whether the GAN term counts yet (not in the warm-up epochs).

        Returns:
            The terms as they are, averaged over the whole batch; "total" (weighted),
            "discriminator" where it learnt, and "gradient", the norm of the generator's gradient.

        Raises:
            TrainingError: a term or a gradient is not finite; the generator was not updated.
        """
        self.network.train()
        self.discriminator.train()
        judged = judged and "gan" in self.weights
        terms, prediction = self.terms(batch, draws)
        report = {} if not judged else self._teach_judge(batch.poses, prediction.poses.detach())
        if judged:
            terms["gan"] = self._gan(prediction.poses)
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        values = self.team.average(torch.stack([*terms.values(), total])).tolist()
        report |= dict(zip([*terms, "total"], values, strict=True))
        _check_finite(report)
        self.optimiser.zero_grad(set_to_none=True)
        (total / self.team.world).backward()  # type: ignore[no-untyped-call]
        report["gradient"] = self._update(self.network, self.optimiser, "gradient")
        return report

    def terms(self, batch: Batch, draws: Draws) -> tuple[dict[str, Tensor], Prediction]:
        """All terms that are switched on but the GAN's, over this process's rows."""
        network, wanted = self.network, self.weights
        rows, levels = len(batch.poses), len(network.poses)
        z_shape = (rows, levels, network.config.style)
        blended, (low, _, high) = network.blend(batch.spectrogram, batch.speaker)
        texts = self._texts(batch.words, draws)
        prediction = network.cascade(
            *(blended, texts, batch.speaker, batch.poses, batch.known),
            noise=draws.normal(*z_shape),
            draws=draws,
        )
        terms: dict[str, Tensor] = {}
        if "regression" in wanted:
            terms["regression"] = regression(network, prediction, batch.poses)
        if "kl" in wanted:
            terms["kl"] = divergence(prediction.style.mean, prediction.style.log_variance)
        if "style" in wanted:
            order = draws.permutation(len(batch.speakers))
            other = batch.speakers[order][self.team.rows(len(batch.speakers))]
            with torch.no_grad():  # the other speaker's motion is what to get away from
                second = network.cascade(
                    *(blended, texts, other, batch.poses, batch.known),
                    noise=draws.normal(*z_shape),
                    draws=draws,
                )
            terms["style"] = style_divergence(
                prediction.poses, second.poses, prediction.style.z, second.style.z
            )
        if self.text:
            said = network.text(batch.words, draws).flatten(0, 1)
            for name, depth in (("contrast_high", high), ("contrast_low", low)):
                if name in wanted:
                    heard = self.team.gather(depth.flatten(0, 1))
                    terms[name] = contrastive(said, heard, first=self.team.rank * len(said))
        if "physical" in wanted:
            terms["physical"] = self.physical(prediction.poses)
        return terms, prediction

    def _texts(self, words: Tensor, draws: Draws) -> list[Tensor]:
        if self.text:
            return self.network.texts(words, draws)
        # Without words the text features are constants that are learnt: one row serves all.
        return [row.expand(len(words), -1, -1) for row in self.network.texts(words[:1])]

    def _gan(self, made: Tensor) -> Tensor:
        self.discriminator.requires_grad_(False)
        term = generator_gan(self.discriminator(made))
        self.discriminator.requires_grad_(True)
        return term

    def _teach_judge(self, real: Tensor, made: Tensor) -> dict[str, float]:
        loss = discriminator_gan(self.discriminator(real), self.discriminator(made))
        report = {"discriminator": float(self.team.average(loss))}
        _check_finite(report)
        self.judge_optimiser.zero_grad(set_to_none=True)
        (loss / self.team.world).backward()  # type: ignore[no-untyped-call]
        self._update(self.discriminator, self.judge_optimiser, "discriminator gradient")
        return report

    def _update(self, module: nn.Module, optimiser: torch.optim.Optimizer, what: str) -> float:
        self.team.add_up_gradients(module.parameters())
        gradients = [value.grad for value in module.parameters() if value.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients))
        _check_finite({what: norm})
        optimiser.step()
        return norm


def _check_finite(report: Mapping[str, float]) -> None:
    for name, value in report.items():
        if not np.isfinite(value):
            raise TrainingError(f"the term {name!r} of the loss became {value}")
