"""Runs the network: one contract (``base.py``), one file for each runtime."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ha2g_live.engines.base import Engine
from ha2g_live.realtime.errors import ConfigError, ModelError

AUTO = "auto"
_OPENERS: dict[str, tuple[str, dict[str, Any]]] = {
    "onnx": ("onnx", {}),
    "onnx-cuda": ("onnx", {"provider": "cuda"}),
    "onnx-directml": ("onnx", {"provider": "directml"}),
    "onnx-coreml": ("onnx", {"provider": "coreml"}),
    "onnx-openvino": ("onnx", {"provider": "openvino"}),
    "tensorrt": ("tensorrt", {}),
    "tensorrt-fp16": ("tensorrt", {"precision": "fp16"}),
    "torch": ("torch", {}),
    "torch-cuda": ("torch", {"device": "cuda"}),
}
"""Name of an engine: the module of this package, and what its ``open_engine`` is told."""

ENGINES = tuple(_OPENERS)
"""Names of the engines."""

BUNDLED_MODEL = Path(__file__).parent / "models" / "live.onnx"
MODEL_FILE = "model.onnx"
"""The model in a folder that ``ha2g-live import`` made."""


def open_engine(
    name: str = "onnx",
    model: Path | None = None,
    threads: int = 1,
    hop_frames: int | None = None,
) -> Engine:
    """Open a model with the named engine.

    Args:
        name: one of ``ENGINES``, or ``auto`` for what was measured to be best on this machine.
        model: an exported model, or a folder with a ``model.onnx``; the bundled one when left out.
        threads: CPU threads of one step.
        hop_frames: pose frames from one window to the next, 1 to 30, for a window model only.

    Raises:
        ConfigError: there is no such engine or its device is not here, ``threads`` is below 1, or
            ``hop_frames`` is out of its range or given for a model without windows.
        ModelError: the file is missing, damaged or not a live model.
        MissingExtra: the engine needs a package that is not installed.
    """
    if name not in (AUTO, *ENGINES):
        raise ConfigError(f"no engine {name!r}: choose one of {', '.join((AUTO, *ENGINES))}")
    if threads < 1:
        raise ConfigError(f"threads must be 1 or more, got {threads}")
    path = model_path(model)
    if name == AUTO:
        from ha2g_live.engines.auto import choose

        name = choose(path, threads)
    module, told = _OPENERS[name]
    opener = importlib.import_module(f"ha2g_live.engines.{module}")
    engine: Engine = opener.open_engine(path, threads, hop_frames, **told)
    if hop_frames is not None and engine.spec.windows is None:
        engine.close()
        raise ConfigError(
            f"--hop is for a model with windows, and {engine.spec.name!r} has none: leave --hop out"
        )
    return engine


def model_path(model: Path | None) -> Path:
    """The file of a model that was named by itself or by its folder.

    Raises:
        ModelError: there is none.
    """
    path = BUNDLED_MODEL if model is None else model
    if path.is_dir():
        path = path / MODEL_FILE
    if not path.is_file():
        raise ModelError(f"model file {path} does not exist: check --model")
    return path
