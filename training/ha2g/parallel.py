"""Processes that train one network together, each on its rows of every batch.

Losses are means over the whole batch. Each process computes its rows' mean divided by the number of
processes, so that the sum over processes is the loss and the sum of gradients its gradient. What
looks across rows (batch norm, the contrastive loss) exchanges values and their gradients, so two
processes compute what one does, to rounding.

The processes are started by torch's launcher, ``torchrun``, which sets RANK and WORLD_SIZE.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from ha2g_live.realtime.errors import ConfigError

_CPU = torch.device("cpu")
_TIMEOUT = datetime.timedelta(minutes=30)
"""Longer than the first process takes to train a motion autoencoder while the others wait. When a
process dies, the launcher ends the others at once."""


@dataclass(frozen=True)
class Team:
    """The processes of a run; alone unless started by ``torchrun``.

    Attributes:
        rank: which of them this is; the first, 0, writes and shows.
        world: how many there are.
        device: where this one computes.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = _CPU

    @property
    def leads(self) -> bool:
        """Whether this process writes and shows."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """This process's rows of a whole batch of so many."""
        own = batch // self.world
        return slice(self.rank * own, (self.rank + 1) * own)

    def add_up(self, values: Tensor) -> Tensor:
        """Sum over the processes, in place and without gradient."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def average(self, values: Tensor) -> Tensor:
        """Mean over the processes, without gradient."""
        return self.add_up(values.detach().clone()) / self.world

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes one after the other, with gradient."""
        if self.world == 1:
            return rows
        before = rows.new_zeros(self.rank * len(rows), *rows.shape[1:])
        after = rows.new_zeros((self.world - self.rank - 1) * len(rows), *rows.shape[1:])
        return add_up(torch.cat((before, rows, after)))

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum every gradient over the processes, in one exchange."""
        if self.world == 1:
            return
        found = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.add_up(torch.cat([gradient.flatten() for gradient in found]))
        parts = torch.split(flat, [gradient.numel() for gradient in found])
        for gradient, part in zip(found, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        """Return when all processes have come here."""
        self.add_up(torch.zeros(1, device=self.device))

    def close(self) -> None:
        """Leave; only for an orderly end."""
        if self.world > 1:
            dist.destroy_process_group()


def this_rank() -> int:
    """Rank of this process according to its launcher; 0 without one."""
    return int(os.environ.get("RANK", "0"))


def join(device: str | None) -> Team:
    """Find this process's place and device, and wait for the others.

    Args:
        device: "cpu", "cuda", or None for a GPU if there is one.

    Raises:
        ConfigError: there is no such device.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind = device or ("cuda" if gpus else "cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if kind == "cuda" and local >= gpus:
        have = f"there are {gpus} CUDA devices" if gpus else "there is no CUDA device"
        raise ConfigError(f"--device cuda: {have}, process {local} needs one: try --device cpu")
    place = torch.device("cuda", local) if kind == "cuda" else torch.device("cpu")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if kind == "cuda":
        torch.cuda.set_device(place)
    if world > 1:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=_TIMEOUT)
    return Team(this_rank() if world > 1 else 0, world, place)


class _AddUp(torch.autograd.Function):
    """Sum over the processes. Each uses the sum, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def add_up(values: Tensor) -> Tensor:
    """Sum over the processes, with gradient."""
    summed: Tensor = _AddUp.apply(values)  # type: ignore[no-untyped-call]
    return summed


class TeamNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the batches of all processes, on any device.

    The mean is exchanged before the variance: the sum of squares alone would lose digits where
    the mean is large.
    """

    def _check_input_dim(self, values: Tensor) -> None:
        """Any shape (B, channels, ...)."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalise each channel; the shape stays."""
        if not self.training:
            plain: Tensor = super().forward(values)
            return plain
        axes = [axis for axis in range(values.dim()) if axis != 1]
        shape = [1, -1] + [1] * (values.dim() - 2)
        count = values.numel() // values.shape[1] * dist.get_world_size()
        mean = add_up(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = add_up(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += 1


def share_norms(module: nn.Module) -> None:
    """Put a ``TeamNorm`` with the same tensors in the place of every batch norm inside."""
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            norm = TeamNorm(child.num_features, child.eps, child.momentum)
            norm.load_state_dict(child.state_dict())
            module.add_module(name, norm.to(next(child.parameters()).device))
        else:
            share_norms(child)
