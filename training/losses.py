"""Losses of HA2G (section 3.4) that apply to the live network, and its discriminator."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ha2g_live.realtime.skeleton import LEVELS, POSE_DIM

REGRESSION_WEIGHT = 250.0
GAN_WEIGHT = 5.0
STYLE_WEIGHT = 0.05
REGRESSION_BETA = 0.1
STYLE_BETA = 0.05
DISCRIMINATOR_FRAMES = 34

_LEVEL_DIMS = [[3 * bone + axis for bone in bones for axis in range(3)] for bones in LEVELS]


def huber(found: Tensor, wanted: Tensor, beta: float) -> Tensor:
    """``d^2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``; averaged."""
    return functional.smooth_l1_loss(found, wanted, beta=beta)


def level_loss(levels: list[Tensor], targets: Tensor) -> Tensor:
    """Sum over the levels of the Huber distance of each to its bones of ``targets`` (..., 126)."""
    return torch.stack(
        [
            huber(found, targets[..., dims], REGRESSION_BETA)
            for found, dims in zip(levels, _LEVEL_DIMS, strict=True)
        ]
    ).sum()


def style_divergence(poses: Tensor, other_poses: Tensor, z: Tensor, other_z: Tensor) -> Tensor:
    """Different styles should move differently.

    Args:
        poses: (B, T, 126) of the batch.
        other_poses: the same with other speakers' styles, detached.
        z, other_z: (B, size) style vectors.
    """
    apart = functional.smooth_l1_loss(poses, other_poses, beta=STYLE_BETA, reduction="none").sum(
        dim=(1, 2)
    )
    distance = (z - other_z).abs().mean(dim=1) + 1e-5
    return torch.clamp(-apart / distance, min=-1000.0).mean()


class Discriminator(nn.Module):
    """Tells recorded windows of 34 poses from generated ones (architecture of the paper)."""

    def __init__(self) -> None:
        super().__init__()
        self.local = nn.Sequential(
            nn.Conv1d(POSE_DIM, 16, 3),
            nn.BatchNorm1d(16),
            nn.LeakyReLU(0.01),
            nn.Conv1d(16, 8, 3),
            nn.BatchNorm1d(8),
            nn.LeakyReLU(0.01),
            nn.Conv1d(8, 8, 3),
        )
        self.recurrence = nn.GRU(
            8, 64, num_layers=4, bidirectional=True, dropout=0.3, batch_first=True
        )
        self.per_frame = nn.Linear(64, 1)
        self.verdict = nn.Linear(DISCRIMINATOR_FRAMES - 6, 1)

    def forward(self, poses: Tensor) -> Tensor:
        """(B, 34, 126) poses minus the mean -> (B,) logits, high for recorded ones."""
        local = self.local(poses.transpose(1, 2)).transpose(1, 2)
        both, _ = self.recurrence(local)
        added = both[..., :64] + both[..., 64:]
        verdict: Tensor = self.verdict(self.per_frame(added).squeeze(-1))
        return verdict.squeeze(-1)
