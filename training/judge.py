"""The discriminator of the live recipe: judges stretches of motion, at several time scales."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ha2g_live.realtime.skeleton import POSE_DIM

JUDGE_FRAMES = 45
"""Length of the stretches it judges: three seconds, a few movements of a chain."""

_WIDTH = 96


class Judge(nn.Module):
    """Scores (B, T, 126) poses frame by frame: above zero for the planner's, below for made ones.

    It sees poses and velocities. Convolutions with growing strides give a verdict for each
    stretch rather than one for all, and their activations are what feature matching compares.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.weight_norm(nn.Conv1d(c_in, _WIDTH, 5, stride, padding=2))
            for c_in, stride in ((2 * POSE_DIM, 1), (_WIDTH, 2), (_WIDTH, 2))
        )
        self.out = nn.Conv1d(_WIDTH, 1, 3, padding=1)

    def forward(self, poses: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, T, 126) poses minus the mean -> (B, T / 4) scores, activations of each layer."""
        # Hands are quick where poses differ little from frame to frame: give changes more weight.
        speed = 4.0 * (poses[:, 1:] - poses[:, :-1])
        x = torch.cat((poses[:, 1:], speed), dim=2).transpose(1, 2)
        activations = []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
            activations.append(x)
        return self.out(x).squeeze(1), activations


def judge_loss(real: Tensor, made: Tensor) -> Tensor:
    """Hinge loss of the judge."""
    return functional.relu(1.0 - real).mean() + functional.relu(1.0 + made).mean()


def feature_distance(real: list[Tensor], made: list[Tensor]) -> Tensor:
    """Mean distance of the judge's activations for a motion and its target.

    The same sound and choices lead to both, so that they may be compared place by place.
    """
    terms = [functional.l1_loss(b, a.detach()) for a, b in zip(real, made, strict=True)]
    return torch.stack(terms).mean()
