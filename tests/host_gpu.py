"""Stands in for a GPU: the engine's own steps, on this machine's memory and ONNX Runtime.

It follows the calls of CUDA and TensorRT that the engine makes: addresses, copies in a stream, a
recorded graph that is replayed. It says nothing about either of them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ha2g_live.engines.base import Capabilities, ModelSpec
from ha2g_live.engines.tensorrt import TensorRtEngine
from ha2g_live.realtime.types import F32


class HostCuda:
    """In place of ``engines.cuda.Cuda``."""

    recorded = 0
    replayed = 0

    def __init__(self) -> None:
        self.stream = len(STREAMS) + 1
        STREAMS.append(self)
        self._memory: list[Any] = []
        self._recording: list[Callable[[], None]] | None = None

    def device_memory(self, size_bytes: int) -> int:
        self._memory.append(ctypes.create_string_buffer(size_bytes))
        return ctypes.addressof(self._memory[-1])

    def host_array(self, shape: tuple[int, ...]) -> F32:
        return np.zeros(shape, dtype=np.float32)

    def to_device(self, address: int, array: F32) -> None:
        self.put(lambda: ctypes.memmove(address, array.ctypes.data, array.nbytes))

    def to_host(self, array: F32, address: int) -> None:
        self.put(lambda: ctypes.memmove(array.ctypes.data, address, array.nbytes))

    def put(self, work: Callable[[], Any]) -> None:
        """Into the stream: done at once, or recorded and not done."""
        if self._recording is None:
            work()
        else:
            self._recording.append(work)

    def wait(self) -> None:
        assert self._recording is None

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self._recording = []
        work()
        graph, self._recording = self._recording, None
        HostCuda.recorded += 1

        def replay() -> None:
            HostCuda.replayed += 1
            for each in graph:
                each()

        return replay

    def close(self) -> None:
        self.stream = 0


STREAMS: list[HostCuda] = []


class HostContext:
    """In place of TensorRT's execution context."""

    def __init__(self, model: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        addresses = dict(self._addresses)  # a recorded graph keeps those of its recording

        def compute() -> None:
            feed = {name: _at(addresses[name], shape) for name, shape in self._shapes.items()}
            names = [output.name for output in self._session.get_outputs()]
            for name, value in zip(names, self._session.run(names, feed), strict=True):
                ctypes.memmove(addresses[name], value.ctypes.data, value.nbytes)

        STREAMS[stream - 1].put(compute)
        return True


def _at(address: int, shape: tuple[int, ...]) -> F32:
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)


class HostLoaded:
    """In place of ``engines.tensorrt_run.Loaded``."""

    def __init__(self, model: Path) -> None:
        self._model = model

    def context(self) -> HostContext:
        return HostContext(self._model)

    def keep_compiled(self) -> None:
        """Nothing was."""


def host_engine(model: Path, spec: ModelSpec, graph: bool = True) -> TensorRtEngine:
    """The TensorRT engine on this machine; ``tensorrt_run.Cuda`` must be ``HostCuda``."""
    loaded: Any = HostLoaded(model)
    return TensorRtEngine(loaded, spec, Capabilities("a pretence", "fp32", 8), graph)
