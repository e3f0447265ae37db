"""The engine for NVIDIA GPUs: TensorRT, compiled for the model once and kept.

It serves many streams in one step. For a single live stream a CPU is fast enough, and this engine
is worth its installation only where the CPU is wanted for something else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ha2g_live.engines.base import Bound, Capabilities, Engine, ModelSpec, State, check_batch
from ha2g_live.engines.cuda import find_gpu
from ha2g_live.engines.tensorrt_build import find_module
from ha2g_live.engines.tensorrt_plan import DEFAULT_MAX_BATCH, plan_of, read_spec
from ha2g_live.engines.tensorrt_run import Execution, Loaded
from ha2g_live.engines.window import WindowEngine
from ha2g_live.realtime.errors import ModelError
from ha2g_live.realtime.types import F32

_KEPT_EXECUTIONS = 4


class TensorRtEngine:
    """Steps a live model in TensorRT.

    Args:
        loaded: the plan on the GPU.
        spec: what the model says of itself.
        capabilities: of the GPU and the plan.
        graph: replay steps as CUDA graphs.
    """

    def __init__(
        self, loaded: Loaded, spec: ModelSpec, capabilities: Capabilities, graph: bool = True
    ) -> None:
        self._loaded = loaded
        self._spec = spec
        self._capabilities = capabilities
        self._graph = graph
        self._of_steps: dict[int, TensorRtBound] = {}
        self._bound: list[TensorRtBound] = []

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
        batch = len(audio)
        bound = self._of_steps.pop(batch, None)
        if bound is None:
            check_batch(batch, self._capabilities)
            bound = TensorRtBound(self._loaded, self._spec, batch, self._graph)
        self._of_steps[batch] = bound  # the one used last comes last
        if len(self._of_steps) > _KEPT_EXECUTIONS:
            self._of_steps.pop(next(iter(self._of_steps))).close()
        bound.audio[:], bound.style[:], bound.noise[:] = audio, style, noise
        bound.write_state(state)
        bound.run()
        return bound.directions.copy(), bound.read_state()

    def bind(self, batch: int) -> Bound:
        """Buffers for ``batch`` streams."""
        check_batch(batch, self._capabilities)
        bound = TensorRtBound(self._loaded, self._spec, batch, self._graph)
        self._bound.append(bound)
        return bound

    def close(self) -> None:
        """Release the GPU's memory. May be called twice."""
        for bound in (*self._of_steps.values(), *self._bound):
            bound.close()
        self._of_steps, self._bound = {}, []


class TensorRtBound:
    """Buffers for a fixed number of streams; see ``engines.base.Bound``."""

    def __init__(self, loaded: Loaded, spec: ModelSpec, batch: int, graph: bool = True) -> None:
        self._execution = Execution(
            loaded, spec.inputs(batch), spec.outputs(batch), spec.state, graph
        )
        self.audio = self._execution.inputs["audio"]
        self.style = self._execution.inputs["style"]
        self.noise = self._execution.inputs["noise"]
        self.directions = self._execution.outputs["directions"]
        self.style[:] = spec.style_vector(batch=batch)
        self._execution.write_state(spec.initial_state(batch))

    def run(self, keep: bool = True) -> None:
        """One step; see ``engines.base.Bound``."""
        self._execution.run(keep)

    def read_state(self) -> State:
        """A copy of the state."""
        return self._execution.read_state()

    def write_state(self, state: State) -> None:
        """Replace the state; the arrays are copied."""
        self._execution.write_state(state)

    def close(self) -> None:
        """Release the GPU's memory; the arrays stay readable."""
        self._execution.close()


class TensorRtWindows:
    """Runs the windows of a published model in TensorRT; see ``window.WindowModel``."""

    def __init__(
        self, loaded: Loaded, spec: ModelSpec, capabilities: Capabilities, graph: bool = True
    ) -> None:
        self._loaded = loaded
        self._spec = spec
        self._capabilities = capabilities
        self._graph = graph
        self._executions: dict[int, Execution] = {}

    def predict(self, audio: F32, style: F32, noise: F32, given: F32, known: F32) -> F32:
        """One window."""
        execution = self._execution(len(audio))
        arrays = {"audio": audio, "style": style, "noise": noise, "given": given, "known": known}
        for name, array in arrays.items():
            execution.inputs[name][:] = array
        execution.run()
        return np.array(execution.outputs["poses"])

    def close(self) -> None:
        """Release the GPU's memory. May be called twice."""
        for execution in self._executions.values():
            execution.close()
        self._executions = {}

    def _execution(self, batch: int) -> Execution:
        execution = self._executions.pop(batch, None)
        if execution is None:
            check_batch(batch, self._capabilities)
            shapes = self._spec.inputs(batch), self._spec.outputs(batch)
            execution = Execution(self._loaded, *shapes, graph=self._graph)
        self._executions[batch] = execution
        if len(self._executions) > _KEPT_EXECUTIONS:
            self._executions.pop(next(iter(self._executions))).close()
        return execution


def open_engine(
    path: Path,
    threads: int,
    hop_frames: int | None = None,
    *,
    precision: str = "fp32",
    max_batch: int = DEFAULT_MAX_BATCH,
    folder: Path | None = None,
    graph: bool = True,
) -> Engine:
    """Open ``path``; the first time, TensorRT compiles it.

    Args:
        path: an exported model of either kind.
        threads: not used; the work is done on the GPU.
        hop_frames: pose frames from one window to the next, for a window model.
        precision: ``fp32`` or ``fp16``.
        max_batch: most streams in one step.
        folder: where compiled plans are kept; the user's cache when left out.
        graph: replay steps as CUDA graphs.

    Raises:
        ConfigError: the hop, the precision or the batch is out of its range.
        MissingExtra: TensorRT, onnx or cuda-python is not installed.
        ModelError: the file cannot be read or compiled, or there is no NVIDIA GPU.
    """
    module = find_module()
    spec = read_spec(path)
    gpu = find_gpu()
    if gpu is None:
        raise ModelError(
            "no NVIDIA GPU found, which the TensorRT engine runs on: install its driver, "
            "or use --engine onnx"
        )
    plan = plan_of(path, precision, max_batch, folder, module=module)
    loaded = Loaded(plan, spec, module)
    capabilities = Capabilities(gpu.name, precision, max_batch)
    if spec.windows is not None:
        windows = TensorRtWindows(loaded, spec, capabilities, graph)
        return WindowEngine(windows, spec, hop_frames, capabilities)
    return TensorRtEngine(loaded, spec, capabilities, graph)
