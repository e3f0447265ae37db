"""The encoder of a motion autoencoder, built from the tensors of a file.

A file tells widths and taps by the shapes of its tensors, and which layers there are by their
names: ``pose_encoder.net.0.0.weight`` is a convolution in a block with batch norm,
``pose_encoder.out_net.3.weight`` a layer of its own, and a number without tensors a LeakyReLU.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ha2g_live.engines.ted import WINDOW_FRAMES
from ha2g_live.realtime.errors import ModelError

STRIDE_OF_TAPS = {4: 2}
"""A file names the taps of a convolution but not its stride: 2 for 4 taps, 1 for others."""

_PREFIX = "pose_encoder."


class Encoder(nn.Module):
    """(windows, 34, pose_dim) poses to (windows, latents)."""

    def __init__(self, net: nn.Sequential, out_net: nn.Sequential, fc_mu: nn.Module) -> None:
        super().__init__()
        self.net, self.out_net, self.fc_mu = net, out_net, fc_mu

    def forward(self, poses: Tensor) -> Tensor:
        """The mean of the latents."""
        heard = self.net(poses.transpose(1, 2))  # (windows, channels, frames)
        latents: Tensor = self.fc_mu(self.out_net(heard.flatten(1)))
        return latents


def block(convolution: nn.Module, channels: int, slope: float) -> nn.Sequential:
    """A convolution, batch norm, LeakyReLU."""
    return nn.Sequential(convolution, nn.BatchNorm1d(channels), nn.LeakyReLU(slope))


def encoder_tensors(found: Any, path: Path) -> dict[str, Tensor]:
    """The encoder's tensors by their names without the prefix.

    Args:
        found: what a file holds: a state dict, or a dict with one in it.
        path: of the file, for messages.

    Raises:
        ModelError: there are none.
    """
    if not isinstance(found, Mapping):
        raise ModelError(f"{path} holds a {type(found).__name__}, expected a dict of tensors")
    for tensors in (found, *(value for value in found.values() if isinstance(value, Mapping))):
        # Networks that were trained on several GPUs have "module." before every name.
        named = {
            str(name).removeprefix("module."): value
            for name, value in tensors.items()
            if isinstance(value, Tensor)
        }
        ours = {k.removeprefix(_PREFIX): v for k, v in named.items() if k.startswith(_PREFIX)}
        if ours:
            return ours
    raise ModelError(f"{path} is no motion autoencoder: it has no tensor {_PREFIX}net.0.0.weight")


def build_encoder(
    tensors: dict[str, Tensor], path: Path, pose_dim: int, slopes: tuple[float, float]
) -> Encoder:
    """The encoder that has these tensors, filled.

    Args:
        tensors: from ``encoder_tensors``.
        path: of the file, for messages.
        pose_dim: numbers in a pose that it must take.
        slopes: of LeakyReLU after convolutions and after linear layers.

    Raises:
        ModelError: the tensors do not make an encoder of such poses; the message names one.
    """
    fc_mu = _layer(tensors, "fc_mu") if "fc_mu.weight" in tensors else nn.Identity()
    encoder = Encoder(
        _sequence(tensors, "net", slopes[0]), _sequence(tensors, "out_net", slopes[1]), fc_mu
    )
    own = encoder.state_dict()
    for name, value in own.items():
        if name not in tensors and not name.endswith("num_batches_tracked"):
            raise ModelError(f"{path}: the tensor {_PREFIX}{name} is missing")
        if name in tensors and tensors[name].shape != value.shape:
            raise ModelError(
                f"{path}: the tensor {_PREFIX}{name} has the shape {list(tensors[name].shape)}, "
                f"expected {list(value.shape)}"
            )
    for name in tensors:
        if name not in own and not name.startswith("fc_logvar."):
            raise ModelError(f"{path}: the tensor {_PREFIX}{name} is not known")
    _check_sizes(encoder, path, pose_dim)
    encoder.load_state_dict({name: tensors.get(name, value) for name, value in own.items()})
    return encoder


def _sequence(tensors: dict[str, Tensor], part: str, slope: float) -> nn.Sequential:
    """The layers ``part.0``, ``part.1``, ...; a number without tensors is a LeakyReLU."""
    pattern = re.compile(rf"{part}\.(\d+)\.(?:0\.)?weight")
    present = {int(match[1]) for name in tensors if (match := pattern.fullmatch(name))}
    layers: list[nn.Module] = []
    for i in range(max(present, default=-1) + 1):
        name = f"{part}.{i}"
        if f"{name}.0.weight" in tensors:
            convolution = _layer(tensors, f"{name}.0")
            layers.append(block(convolution, len(tensors[f"{name}.0.weight"]), slope))
        elif i in present:
            layers.append(_layer(tensors, name))
        else:
            layers.append(nn.LeakyReLU(slope))
    return nn.Sequential(*layers)


def _layer(tensors: dict[str, Tensor], name: str) -> nn.Module:
    """The layer whose weight has this shape."""
    shape, bias = tensors[f"{name}.weight"].shape, f"{name}.bias" in tensors
    if len(shape) == 3:
        taps = shape[2]
        return nn.Conv1d(shape[1], shape[0], taps, STRIDE_OF_TAPS.get(taps, 1), bias=bias)
    if len(shape) == 2:
        return nn.Linear(shape[1], shape[0], bias=bias)
    return nn.BatchNorm1d(math.prod(shape))


def _check_sizes(encoder: Encoder, path: Path, pose_dim: int) -> None:
    """Each layer must take what the one before gives, for a window of 34 poses."""
    shape: tuple[int, ...] = (1, pose_dim, WINDOW_FRAMES)
    with torch.inference_mode():
        value = torch.zeros(shape)
        for part, layers in (("net", encoder.net), ("out_net", encoder.out_net)):
            if not len(layers):
                raise ModelError(f"{path}: the tensor {_PREFIX}{part}.0.weight is missing")
            for i, layer in enumerate(layers):
                value = _try(layer.eval(), value, f"{part}.{i}", path)
            value = value.flatten(1)
        _try(encoder.fc_mu.eval(), value, "fc_mu", path)


def _try(layer: nn.Module, value: Tensor, name: str, path: Path) -> Tensor:
    try:
        result: Tensor = layer(value)
    except (RuntimeError, ValueError) as error:
        inside = ".0.weight" if isinstance(layer, nn.Sequential) else ".weight"
        weight = next(layer.parameters())
        raise ModelError(
            f"{path}: the tensor {_PREFIX}{name}{inside} of shape {list(weight.shape)} does not "
            f"take the {list(value.shape[1:])} numbers before it, for windows of {WINDOW_FRAMES} "
            "poses: it belongs to other poses or another architecture"
        ) from error
    return result
