"""A live network of random weights, small enough to make and export in a moment."""

from __future__ import annotations

from pathlib import Path

import torch

from ha2g_live.engines.base import ModelSpec
from ha2g_live.engines.network import LiveNetwork, NetworkConfig
from ha2g_live.training.export import export_network

STYLES = ("calm", "lively")
CHOICES = ("idle:a", "idle:b", "beat:left", "beat:both", "offer:right")


def small_network(seed: int = 0) -> LiveNetwork:
    torch.manual_seed(seed)
    hidden = (8, 8, 12, 12, 16, 16)
    sizes = NetworkConfig(len(STYLES), len(CHOICES), channels=16, hidden=hidden, resting=2)
    network = LiveNetwork(sizes).eval()
    for head in network.audio.heads:  # equal tensors would be stored once, under one name
        assert isinstance(head, torch.nn.Sequential)
        norm = head[1]
        assert isinstance(norm, torch.nn.LayerNorm)
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, std=0.1)
    return network


def write_small_model(path: Path, seed: int = 0) -> LiveNetwork:
    network = small_network(seed)
    spec = ModelSpec("small", "0", STYLES, CHOICES, network.config.state_shapes)
    export_network(network, spec, path, card="random weights")
    return network
