"""Runs a compiled plan: buffers made once, and the whole step as one CUDA graph."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import numpy as np

from ha2g_live.engines.base import ModelSpec, State
from ha2g_live.engines.cuda import Cuda
from ha2g_live.engines.sealed import read_sealed, write_sealed
from ha2g_live.engines.tensorrt_build import is_rtx
from ha2g_live.engines.tensorrt_plan import Plan, inspect_plan
from ha2g_live.realtime.errors import ModelError

_WARM_UPS = 2

log = logging.getLogger(__name__)


class Loaded:
    """A plan on the GPU.

    TensorRT-RTX finishes compiling when a plan first runs. What that made is kept beside the plan.

    Args:
        plan: the plan.
        spec: what the model says of itself; the engine's bindings are held against it.
        module: TensorRT.
    """

    def __init__(self, plan: Plan, spec: ModelSpec, module: ModuleType) -> None:
        self._module = module
        self._logger = module.Logger(module.Logger.ERROR)
        self._runtime = module.Runtime(self._logger)
        self._engine: Any = inspect_plan(plan, spec, module, self._runtime)
        self._cache_path = None if plan.path is None else plan.path.with_suffix(".runtime")
        self._config: Any = None
        self._cache: Any = None
        if is_rtx(module):
            self._configure()

    def context(self) -> Any:
        """A new execution context.

        Raises:
            ModelError: the GPU has no memory for it.
        """
        context = (
            self._engine.create_execution_context()
            if self._config is None
            else self._engine.create_execution_context(self._config)
        )
        if context is None:
            raise ModelError("the GPU has no room for the model: close what else uses it")
        return context

    def keep_compiled(self) -> None:
        """Write what TensorRT-RTX has compiled so far, for the next start."""
        if self._cache is None or self._cache_path is None:
            return
        content = bytes(self._cache.serialize())
        with contextlib.suppress(OSError):
            write_sealed(self._cache_path, {}, content)

    def _configure(self) -> None:
        self._config = self._engine.create_runtime_config()
        strategy = getattr(self._module, "DynamicShapesKernelSpecializationStrategy", None)
        if strategy is not None:  # not in the background: a graph would keep the slow kernels
            self._config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER
        self._cache = self._config.create_runtime_cache()
        if self._cache_path is not None:
            with contextlib.suppress(OSError, ModelError):  # without it the start is slower
                self._cache.deserialize(read_sealed(self._cache_path)[1])
        self._config.set_runtime_cache(self._cache)


class Execution:
    """A plan with buffers for a fixed number of streams.

    There are two sets of state on the GPU. A step reads one and writes the other, and which is
    which changes with each step that is kept.

    Threads: one thread at a time.

    Args:
        loaded: the plan.
        inputs: shapes by name; those named by ``state`` stay on the GPU.
        outputs: likewise; a state's new value is ``next_`` and its name.
        state: names of the states.
        graph: record each step as a CUDA graph and replay that.

    Attributes:
        inputs: by name; fill these, they are copied to the GPU by each run.
        outputs: by name; overwritten by each run.
    """

    def __init__(
        self,
        loaded: Loaded,
        inputs: dict[str, tuple[int, ...]],
        outputs: dict[str, tuple[int, ...]],
        state: Iterable[str] = (),
        graph: bool = True,
    ) -> None:
        self._cuda = Cuda()
        try:
            self._state_names = tuple(state)
            self._set_up(loaded.context(), inputs, outputs)
            self._steps = self._record(graph)
            loaded.keep_compiled()
        except BaseException:
            self._cuda.close()
            raise

    def _set_up(
        self,
        context: Any,
        inputs: dict[str, tuple[int, ...]],
        outputs: dict[str, tuple[int, ...]],
    ) -> None:
        self._context = context
        self._newest = 0
        states = {name: inputs[name] for name in self._state_names}
        later = {f"next_{name}" for name in states}
        host, device = self._cuda.host_array, self._cuda.device_memory
        self.inputs = {name: host(s) for name, s in inputs.items() if name not in states}
        self.outputs = {name: host(s) for name, s in outputs.items() if name not in later}
        self._copies = {name: host(shape) for name, shape in states.items()}
        self._addresses = {
            name: device(array.nbytes)
            for name, array in (*self.inputs.items(), *self.outputs.items())
        }
        self._states = tuple(
            {name: device(array.nbytes) for name, array in self._copies.items()} for _ in range(2)
        )
        for name, shape in inputs.items():
            if not context.set_input_shape(name, shape):
                raise ModelError(f"the compiled plan refuses {name!r} as {list(shape)}")
        for name, address in self._addresses.items():
            context.set_tensor_address(name, address)

    def run(self, keep: bool = True) -> None:
        """One step. Without ``keep`` the state stays as it was."""
        self._steps[self._newest]()
        self._cuda.wait()
        if keep and self._state_names:
            self._newest = 1 - self._newest

    def read_state(self) -> State:
        """A copy of the state."""
        for name, address in self._states[self._newest].items():
            self._cuda.to_host(self._copies[name], address)
        self._cuda.wait()
        return {name: np.array(array) for name, array in self._copies.items()}

    def write_state(self, state: State) -> None:
        """Replace the state; the arrays are copied."""
        for name, address in self._states[self._newest].items():
            self._copies[name][:] = state[name]
            self._cuda.to_device(address, self._copies[name])
        self._cuda.wait()

    def close(self) -> None:
        """Release the GPU's memory. May be called twice."""
        self._context = None
        self._cuda.close()

    def _record(self, graph: bool) -> tuple[Callable[[], None], ...]:
        """The step from each set of state to the other."""
        count = 2 if self._state_names else 1
        if not graph:
            return tuple(self._from(newest) for newest in range(count))
        steps: list[Callable[[], None]] = []
        for newest in range(count):
            step = self._from(newest)
            # The first calls allocate and compile, which a graph may not contain.
            for _ in range(_WARM_UPS):
                step()
            self._cuda.wait()
            if not self._capturable():
                log.warning("this plan cannot be recorded as a CUDA graph: steps take longer")
                return tuple(self._from(each) for each in range(count))
            steps.append(self._cuda.capture(step))
        return tuple(steps)

    def _capturable(self) -> bool:
        ask = getattr(self._context, "is_stream_capturable", None)
        return ask is None or bool(ask(self._cuda.stream))

    def _from(self, newest: int) -> Callable[[], None]:
        def step() -> None:
            for name, address in self._states[newest].items():
                self._context.set_tensor_address(name, address)
            for name, address in self._states[1 - newest].items():
                self._context.set_tensor_address(f"next_{name}", address)
            for name, array in self.inputs.items():
                self._cuda.to_device(self._addresses[name], array)
            if not self._context.execute_async_v3(self._cuda.stream):
                raise ModelError("TensorRT cannot run the model on this GPU: use --engine onnx")
            for name, array in self.outputs.items():
                self._cuda.to_host(array, self._addresses[name])

        return step
