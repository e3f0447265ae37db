"""The losses of HA2G (section 3.4), with the published weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ha2g_live.engines.ted import Skeleton

HUBER_BETA = 0.1
STYLE_BETA = 0.05
STYLE_FLOOR = -1000.0
_EPSILON = 1e-5


def huber(found: Tensor, wanted: Tensor, beta: float) -> Tensor:
    """``d^2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``; averaged."""
    return functional.smooth_l1_loss(found, wanted, beta=beta)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of z from a standard normal, averaged over its numbers."""
    return -0.5 * torch.mean(1.0 + log_variance - mean.square() - log_variance.exp())


def style_divergence(poses: Tensor, other_poses: Tensor, z: Tensor, other_z: Tensor) -> Tensor:
    """Another style should give another motion: the closer, the higher.

    Args:
        poses: (B, 34, D) of the batch.
        other_poses: the same with other speakers, without gradient.
        z: (B, style) of the batch.
        other_z: of the other speakers.
    """
    apart = functional.smooth_l1_loss(poses, other_poses, beta=STYLE_BETA, reduction="none")
    styles = (z - other_z).abs().mean(dim=1)
    return torch.clamp(-apart.sum(dim=(1, 2)) / (styles + _EPSILON), min=STYLE_FLOOR).mean()


def contrastive(text: Tensor, audio: Tensor, first: int = 0) -> Tensor:
    """Text frame i should be nearest to audio frame i.

    Args:
        text: (n, features) frames.
        audio: (N, features) frames, of which ``audio[first + i]`` belongs to ``text[i]``.
        first: see there; above 0 where this process holds a part of the batch.
    """
    text, audio = functional.normalize(text, dim=1), functional.normalize(audio, dim=1)
    closeness = 1.0 / torch.cdist(text, audio, compute_mode="donot_use_mm_for_euclid_dist")
    own = torch.arange(first, first + len(text), device=text.device)
    return functional.cross_entropy(closeness, own)


class PhysicalLoss(nn.Module):
    """How far the angles of a pose are from those of people (the physical regularisation)."""

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        pairs = torch.tensor(skeleton.angle_pairs)
        self._bones = len(skeleton.bones)
        self._palms = skeleton.palm_normals
        self.register_buffer("first", pairs[:, 0])
        self.register_buffer("second", pairs[:, 1])
        self.register_buffer("mean_direction", torch.tensor(skeleton.mean_direction))
        self.register_buffer("angle_mean", torch.tensor(skeleton.angle_mean))
        self.register_buffer("angle_var", torch.tensor(skeleton.angle_var))

    def forward(self, poses: Tensor) -> Tensor:
        """(B, 34, D) directions minus their mean to one number."""
        bones = poses.reshape(*poses.shape[:2], self._bones, 3) + self.get_buffer("mean_direction")
        palms = [
            torch.linalg.cross(bones[:, :, one], bones[:, :, other]) for one, other in self._palms
        ]
        vectors = torch.cat((bones, *(palm[:, :, None] for palm in palms)), dim=2)
        units = functional.normalize(vectors, dim=3)
        first, second = self.get_buffer("first"), self.get_buffer("second")
        cosine = (units[:, :, first] * units[:, :, second]).sum(dim=3)
        # Where two bones point the same way the slope of acos is infinite.
        angle = torch.acos(cosine.clamp(-1.0 + 1e-7, 1.0 - 1e-7)) / math.pi
        off = (angle - self.get_buffer("angle_mean")).square()
        return (off / (2.0 * self.get_buffer("angle_var"))).mean(dim=(0, 1)).sum()


def generator_gan(judged: Tensor) -> Tensor:
    """Non-saturating: (B, 1) of made poses should be taken for people."""
    return -torch.log(judged + 1e-8).mean()


def discriminator_gan(real: Tensor, made: Tensor) -> Tensor:
    """(B, 1) of people should be near 1 and of made poses near 0."""
    return -(torch.log(real + 1e-8) + torch.log(1.0 - made + 1e-8)).mean()
