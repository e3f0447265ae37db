"""Losses of the live recipe: the weights of HA2G (section 3.4), and its levels on whole poses."""

from __future__ import annotations

import torch
from torch import Tensor

from ha2g_live.realtime.skeleton import LEVELS
from ha2g_live.training.ha2g.losses import HUBER_BETA, huber

REGRESSION_WEIGHT = 250.0
STYLE_WEIGHT = 0.05

_LEVEL_DIMS = [[3 * bone + axis for bone in bones for axis in range(3)] for bones in LEVELS]


def level_loss(levels: list[Tensor], targets: Tensor) -> Tensor:
    """Sum over the levels of the Huber distance of each to its bones of ``targets`` (..., 126)."""
    return torch.stack(
        [
            huber(found, targets[..., dims], HUBER_BETA)
            for found, dims in zip(levels, _LEVEL_DIMS, strict=True)
        ]
    ).sum()
