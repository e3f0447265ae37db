"""The default engine: ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from ha2g_live.engines.base import Engine, ModelSpec, State, check_bindings
from ha2g_live.engines.window import WindowEngine
from ha2g_live.realtime.errors import ModelError
from ha2g_live.realtime.types import F32

_ELEMENT = {"tensor(float)": "float32"}


class OnnxEngine:
    """Steps a live model in ONNX Runtime."""

    def __init__(self, session: onnxruntime.InferenceSession, spec: ModelSpec) -> None:
        self._session = session
        self._spec = spec
        self._outputs = list(spec.outputs(1))

    @property
    def spec(self) -> ModelSpec:
        """What the opened model is."""
        return self._spec

    def step(self, audio: F32, style: F32, noise: F32, state: State) -> tuple[F32, State]:
        """One step; see ``engines.base.Engine``."""
        feed = {"audio": audio, "style": style, "noise": noise, **state}
        directions, *after = self._session.run(self._outputs, feed)
        return np.asarray(directions), dict(zip(self._spec.state, after, strict=True))

    def close(self) -> None:
        """Nothing is held that garbage collection does not release."""


class OnnxWindows:
    """Runs the windows of a published model in ONNX Runtime; see ``window.WindowModel``."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    def predict(self, audio: F32, style: F32, noise: F32, given: F32, known: F32) -> F32:
        """One window."""
        feed = {"audio": audio, "style": style, "noise": noise, "given": given, "known": known}
        return np.asarray(self._session.run(["poses"], feed)[0])

    def close(self) -> None:
        """Nothing is held that garbage collection does not release."""


def open_engine(path: Path, threads: int, hop_frames: int | None = None) -> Engine:
    """Open ``path`` on ``threads`` CPU threads.

    Args:
        path: an exported model of either kind.
        threads: CPU threads of one step.
        hop_frames: pose frames from one window to the next, for a window model.

    Raises:
        ConfigError: the hop is out of its range.
        ModelError: the file cannot be loaded or does not fit the contract.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning worker thread would take a whole core from the game or the stream software.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime raises classes of its own, all of Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path} is not a readable ONNX model ({reason}): check --model") from None
    spec = ModelSpec.from_metadata(session.get_modelmeta().custom_metadata_map, str(path))
    for kind, expected, found in (
        ("input", spec.inputs(1), session.get_inputs()),
        ("output", spec.outputs(1), session.get_outputs()),
    ):
        declared = {b.name: (_ELEMENT.get(b.type, b.type), tuple(b.shape)) for b in found}
        check_bindings(kind, expected, declared, str(path))
    if spec.windows is not None:
        return WindowEngine(OnnxWindows(session), spec, hop_frames)
    return OnnxEngine(session, spec)
