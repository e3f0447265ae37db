"""A small network of the published form, untrained, for tests."""

from __future__ import annotations

from pathlib import Path

import torch

from ha2g_live.engines.published import Discriminator, Ha2g, Ha2gConfig
from ha2g_live.training.ha2g.checkpoint import FILE_NAME, Checkpoint, save_checkpoint
from ha2g_live.training.ha2g.export import export_window_model

SPEAKERS = ("anna", "ben", "carla")


def small_checkpoint(skeleton: str = "ted_gesture", **changes: object) -> Checkpoint:
    """An untrained network that takes a few milliseconds a window."""
    torch.manual_seed(3)
    config = Ha2gConfig(
        skeleton, len(SPEAKERS), words=5, hidden=16, channels=(16, 16, 32, 64), text=16
    )
    network = Ha2g(config)
    fields: dict[str, object] = {
        "network": network.eval(),
        "discriminator": Discriminator(network.skeleton.pose_dim).eval(),
        "speakers": SPEAKERS,
        "words": ("", "<unknown>", "and", "so", "well"),
        "seed": "start",
        "reference": "clip",
        "text": True,
        "epoch": 7,
        "source": "a test",
        **changes,
    }
    return Checkpoint(**fields)  # type: ignore[arg-type]


def write_imported(folder: Path, checkpoint: Checkpoint) -> Path:
    """The folder that ``ha2g-live import`` would make of it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder / FILE_NAME, checkpoint)
    export_window_model(checkpoint, folder / "model.onnx", "small")
    return folder
