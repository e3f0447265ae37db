"""The default engine: ONNX Runtime, on the CPU or with another of its execution providers.

On the CPU the graph that ONNX Runtime optimised is kept on disk (``engines.cache``): the next start
skips the optimising, and the memory it takes, which is three times that of the weights.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np
import onnxruntime

from ha2g_live.engines.base import (
    Bound,
    Capabilities,
    Engine,
    ModelSpec,
    State,
    check_batch,
    check_bindings,
)
from ha2g_live.engines.cache import cache_dir, file_digest, keep_newest, key_of
from ha2g_live.engines.window import WindowEngine
from ha2g_live.realtime.errors import ConfigError, ModelError
from ha2g_live.realtime.types import F32

CPU = "CPUExecutionProvider"
PROVIDERS = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
"""Our names of execution providers, and ONNX Runtime's."""

_ELEMENT = {"tensor(float)": "float32"}
_OPTIMISED = "optimised"
_KEPT_FILES = 8

log = logging.getLogger(__name__)


def providers_here() -> tuple[str, ...]:
    """Our names of the providers that the installed ONNX Runtime was built with; cpu is first."""
    built = set(onnxruntime.get_available_providers())
    return tuple(name for name, provider in PROVIDERS.items() if provider in built)


class OnnxEngine:
    """Steps a live model in ONNX Runtime."""

    def __init__(
        self, session: onnxruntime.InferenceSession, spec: ModelSpec, capabilities: Capabilities
    ) -> None:
        self._session = session
        self._spec = spec
        self._capabilities = capabilities
        self._outputs = list(spec.outputs(1))

    @property
    def spec(self) -> ModelSpec:
        """What the opened model is."""
        return self._spec

    @property
    def capabilities(self) -> Capabilities:
        """Where and how it computes."""
        return self._capabilities

    def step(self, audio: F32, style: F32, noise: F32, state: State) -> tuple[F32, State]:
        """One step; see ``engines.base.Engine``."""
        feed = {"audio": audio, "style": style, "noise": noise, **state}
        directions, *after = self._session.run(self._outputs, feed)
        return np.asarray(directions), dict(zip(self._spec.state, after, strict=True))

    def bind(self, batch: int) -> Bound:
        """Buffers for ``batch`` streams."""
        check_batch(batch, self._capabilities)
        return OnnxBound(self._session, self._spec, batch)

    def close(self) -> None:
        """Nothing is held that garbage collection does not release."""


class OnnxBound:
    """Buffers bound to a session once; see ``engines.base.Bound``.

    There are two sets of state arrays. A step reads one and writes the other, and which is which
    changes with each step that is kept.
    """

    def __init__(self, session: onnxruntime.InferenceSession, spec: ModelSpec, batch: int) -> None:
        shapes = spec.inputs(batch)
        self._session = session
        self._options = onnxruntime.RunOptions()
        self._states = (spec.initial_state(batch), spec.initial_state(batch))
        self._newest = 0
        self.audio = np.zeros(shapes["audio"], dtype=np.float32)
        self.style = spec.style_vector(batch=batch)
        self.noise = np.zeros(shapes["noise"], dtype=np.float32)
        self.directions = np.zeros(spec.outputs(batch)["directions"], dtype=np.float32)
        self._bindings = tuple(
            self._binding(self._states[read], self._states[1 - read]) for read in (0, 1)
        )

    def _binding(self, before: State, after: State) -> onnxruntime.IOBinding:
        binding = self._session.io_binding()
        given = {"audio": self.audio, "style": self.style, "noise": self.noise, **before}
        wanted = {"directions": self.directions, **{f"next_{n}": v for n, v in after.items()}}
        for name, array in given.items():
            binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        for name, array in wanted.items():
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        return binding

    def run(self, keep: bool = True) -> None:
        """One step; see ``engines.base.Bound``."""
        self._session.run_with_iobinding(self._bindings[self._newest], self._options)
        if keep:
            self._newest = 1 - self._newest

    def read_state(self) -> State:
        """A copy of the state."""
        return {name: value.copy() for name, value in self._states[self._newest].items()}

    def write_state(self, state: State) -> None:
        """Replace the state; the arrays are copied."""
        for name, value in self._states[self._newest].items():
            value[:] = state[name]


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


def open_engine(
    path: Path, threads: int, hop_frames: int | None = None, *, provider: str = "cpu"
) -> Engine:
    """Open ``path``.

    Args:
        path: an exported model of either kind.
        threads: CPU threads of one step.
        hop_frames: pose frames from one window to the next, for a window model.
        provider: one of ``PROVIDERS``.

    Raises:
        ConfigError: the hop is out of its range, or the installed ONNX Runtime lacks the provider.
        ModelError: the file cannot be loaded or does not fit the contract.
    """
    if provider not in providers_here():
        raise ConfigError(
            f"this ONNX Runtime cannot run on {provider!r}, only on {', '.join(providers_here())}: "
            "see docs/engines.md for the package that can"
        )
    session = _session(path, threads, provider)
    spec = ModelSpec.from_metadata(session.get_modelmeta().custom_metadata_map, str(path))
    for kind, expected, found in (
        ("input", spec.inputs(1), session.get_inputs()),
        ("output", spec.outputs(1), session.get_outputs()),
    ):
        declared = {b.name: (_ELEMENT.get(b.type, b.type), tuple(b.shape)) for b in found}
        check_bindings(kind, expected, declared, str(path))
    batch = session.get_inputs()[0].shape[0]
    capabilities = Capabilities(
        device=provider,
        precision=spec.precision,
        max_batch=batch if isinstance(batch, int) else None,
    )
    if spec.windows is not None:
        return WindowEngine(OnnxWindows(session), spec, hop_frames, capabilities)
    return OnnxEngine(session, spec, capabilities)


def _session(path: Path, threads: int, provider: str) -> onnxruntime.InferenceSession:
    try:
        if provider != "cpu":
            # What a provider cannot do itself, the CPU does.
            return onnxruntime.InferenceSession(
                str(path), _options(threads), providers=[PROVIDERS[provider], CPU]
            )
        return _cpu_session(path, threads)
    except Exception as error:  # ONNX Runtime raises classes of its own, all of Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path} is not a readable ONNX model ({reason}): check --model") from None


def _cpu_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session on the graph optimised before, or on the file itself, which is then optimised."""
    kept = _optimised_path(path)
    if kept.is_file():
        with contextlib.suppress(OSError):
            kept.touch()  # those not used for longest go first
        options = _options(threads)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return onnxruntime.InferenceSession(str(kept), options, providers=[CPU])
        except Exception as error:
            log.warning("the cached model %s is damaged and made again (%s)", kept, error)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            options = _options(threads)
            options.optimized_model_filepath = str(Path(folder) / kept.name)
            onnxruntime.InferenceSession(str(path), options, providers=[CPU])
            # Whole or not at all, also when two programs start at once.
            os.replace(options.optimized_model_filepath, kept)
        keep_newest(kept.parent, _KEPT_FILES)
        options = _options(threads)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return onnxruntime.InferenceSession(str(kept), options, providers=[CPU])
    except OSError as error:  # a read-only home: slower to start, and that is all
        log.info("the optimised model cannot be kept: %s", error)
        return onnxruntime.InferenceSession(str(path), _options(threads), providers=[CPU])


def _optimised_path(path: Path) -> Path:
    """The optimised graph may use what only this processor and this version can do."""
    key = key_of(
        file_digest(path),
        onnxruntime.__version__,
        llvmlite.binding.get_host_cpu_name(),
        sorted(llvmlite.binding.get_host_cpu_features().items()),
    )
    return cache_dir() / _OPTIMISED / f"{path.stem}-{key}.onnx"


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning worker thread would take a whole core from the game or the stream software.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
