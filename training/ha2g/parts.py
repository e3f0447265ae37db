"""The networks cut into the parts that a published checkpoint holds, by its names.

A checkpoint keeps ``audio``, ``g1`` .. ``g6`` (``g3`` for TED Gesture), ``text`` and ``dis`` apart.
In the text encoders every weight of a convolution appears under two names.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ha2g_live.engines.published import Discriminator, Ha2g
from ha2g_live.realtime.errors import Ha2gError

_ALIASES = {".conv1.": ".net.0.", ".conv2.": ".net.4."}
"""Inside a text block, the second name of each convolution."""

Parts = dict[str, dict[str, Tensor]]


def modules_of(network: Ha2g, discriminator: Discriminator) -> dict[str, nn.Module]:
    """The part's module by the part's name."""
    levels = {f"g{i}": level for i, level in enumerate(network.poses, 1)}
    return {
        # Published, the audio learner sits inside a wrapper.
        "audio": nn.ModuleDict({"feat_extractor": network.audio}),
        **levels,
        "text": network.text,
        "dis": discriminator,
    }


def names_of(network: Ha2g, discriminator: Discriminator) -> dict[str, dict[str, tuple[int, ...]]]:
    """Name and shape of every tensor of every part, second names included."""
    return {
        part: {name: tuple(value.shape) for name, value in tensors.items()}
        for part, tensors in to_parts(network, discriminator).items()
    }


def to_parts(network: Ha2g, discriminator: Discriminator) -> Parts:
    """Every tensor of every part by its published names."""
    parts: Parts = {}
    for part, module in modules_of(network, discriminator).items():
        tensors = dict(module.state_dict())
        seconds = {second_name(name): value for name, value in tensors.items() if second_name(name)}
        parts[part] = {**tensors, **seconds}
    return parts


def load_parts(
    network: Ha2g, discriminator: Discriminator, parts: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Fill the networks. Where a tensor has two names, the second is the one taken.

    Raises:
        Ha2gError: a part or a tensor is missing, is not known, or has another shape.
    """
    modules = modules_of(network, discriminator)
    expected = names_of(network, discriminator)
    for part, module in modules.items():
        if part not in parts:
            raise Ha2gError(f"the part {part!r} is missing")
        found = parts[part]
        for name, shape in expected[part].items():
            if name not in found:
                raise Ha2gError(f"{part}: the tensor {name!r} is missing")
            if tuple(found[name].shape) != shape:
                raise Ha2gError(
                    f"{part}: the tensor {name!r} has the shape {tuple(found[name].shape)}, "
                    f"expected {shape}"
                )
        unknown = sorted(set(found) - set(expected[part]))
        if unknown:
            raise Ha2gError(f"{part}: the tensor {unknown[0]!r} is not known")
        own = module.state_dict()
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(found[second_name(name) or name])


def second_name(name: str) -> str:
    """The other name of a text encoder's tensor, or nothing."""
    for first, second in _ALIASES.items():
        if "tcn." in name and first in name:
            return name.replace(first, second)
    return ""
