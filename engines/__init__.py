"""Runs the live network: one contract (``base.py``), one file for each runtime."""

from __future__ import annotations

import importlib
from pathlib import Path

from ha2g_live.engines.base import Engine
from ha2g_live.realtime.errors import ConfigError, ModelError

ENGINES = ("onnx", "torch")
"""Names of the engines; each is a module of this package with an ``open_engine``."""

BUNDLED_MODEL = Path(__file__).parent / "models" / "live.onnx"


def open_engine(name: str = "onnx", model: Path | None = None, threads: int = 1) -> Engine:
    """Open a model with the named engine.

    Args:
        name: one of ``ENGINES``.
        model: an exported model; the bundled one when left out.
        threads: CPU threads of one step.

    Raises:
        ConfigError: there is no such engine, or ``threads`` is below 1.
        ModelError: the file is missing, damaged or not a live model.
        MissingExtra: the engine needs a package that is not installed.
    """
    if name not in ENGINES:
        raise ConfigError(f"no engine {name!r}: choose one of {', '.join(ENGINES)}")
    if threads < 1:
        raise ConfigError(f"threads must be 1 or more, got {threads}")
    path = BUNDLED_MODEL if model is None else model
    if not path.is_file():
        raise ModelError(f"model file {path} does not exist: check --model")
    module = importlib.import_module(f"ha2g_live.engines.{name}")
    engine: Engine = module.open_engine(path, threads)
    return engine
