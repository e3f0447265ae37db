"""The few calls to CUDA that the TensorRT engine makes.

What GPU there is, is asked of the driver itself, so the question can be answered on any machine.
The rest goes through the package ``cuda-python``.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ha2g_live.realtime.errors import MissingExtra, ModelError
from ha2g_live.realtime.types import F32

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # attributes of the driver's interface
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first NVIDIA GPU.

    Attributes:
        name: as its maker calls it.
        capability: major and minor compute capability as one number, 89 for 8.9.
    """

    name: str
    capability: int


def find_gpu() -> Gpu | None:
    """The first NVIDIA GPU that the driver offers; None without a driver or a GPU."""
    try:
        driver: Any = ctypes.CDLL(_DRIVER)
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    calls: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("cuInit", (0,)),
        ("cuDeviceGet", (ctypes.byref(device), 0)),
        ("cuDeviceGetName", (name, _NAME_BYTES, device)),
        ("cuDeviceGetAttribute", (ctypes.byref(major), _CAPABILITY_MAJOR, device)),
        ("cuDeviceGetAttribute", (ctypes.byref(minor), _CAPABILITY_MINOR, device)),
    )
    if any(getattr(driver, call)(*arguments) != 0 for call, arguments in calls):
        return None
    return Gpu(name.value.decode(errors="replace"), 10 * major.value + minor.value)


class Cuda:
    """A stream on the first GPU, and the memory that is used in it.

    Threads: one thread at a time.

    Attributes:
        stream: the stream's handle.
    """

    def __init__(self) -> None:
        try:
            self._runtime: Any = importlib.import_module("cuda.bindings.runtime")
        except ImportError as error:
            raise MissingExtra(
                "the TensorRT engine", str(error.name or "cuda-python"), "tensorrt"
            ) from error
        self._do("cudaSetDevice", 0)
        self.stream = int(
            self._do("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking)
        )
        self._memory: list[int] = []
        self._graphs: list[Any] = []

    def device_memory(self, size_bytes: int) -> int:
        """The address of memory on the GPU, zeroed; it lasts until ``close``."""
        address = int(self._do("cudaMalloc", size_bytes))
        self._memory.append(address)
        self._do("cudaMemset", address, 0, size_bytes)
        return address

    def host_array(self, shape: tuple[int, ...]) -> F32:
        """A float32 array of zeros in memory that the GPU copies from and to directly.

        The memory lasts as long as somebody holds the array, also beyond ``close``.
        """
        count = int(np.prod(shape))
        runtime = self._runtime
        address = int(self._do("cudaHostAlloc", 4 * count, runtime.cudaHostAllocDefault))
        memory = (ctypes.c_float * count).from_address(address)
        # Not at the end of the program: by then the driver may have gone, and takes all with it.
        weakref.finalize(memory, runtime.cudaFreeHost, address).atexit = False
        array: F32 = np.ctypeslib.as_array(memory).reshape(shape)
        array[:] = 0.0
        return array

    def to_device(self, address: int, array: F32) -> None:
        """Copy an array of ``host_array`` to the GPU, in the stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._do("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, self.stream)

    def to_host(self, array: F32, address: int) -> None:
        """Copy from the GPU to an array of ``host_array``, in the stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._do("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, self.stream)

    def wait(self) -> None:
        """Until all work in the stream is done."""
        self._do("cudaStreamSynchronize", self.stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what ``work`` puts into the stream; the answer puts all of it there at once."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._do("cudaStreamBeginCapture", self.stream, mode)
        try:
            work()
        finally:
            graph = self._do("cudaStreamEndCapture", self.stream)
        recorded = self._do("cudaGraphInstantiate", graph, 0)
        self._do("cudaGraphDestroy", graph)
        self._graphs.append(recorded)
        return lambda: self._do("cudaGraphLaunch", recorded, self.stream)

    def close(self) -> None:
        """Free everything but the arrays. May be called twice."""
        if not self.stream:
            return
        self._do("cudaStreamSynchronize", self.stream)
        for graph in self._graphs:
            self._do("cudaGraphExecDestroy", graph)
        for address in self._memory:
            self._do("cudaFree", address)
        self._do("cudaStreamDestroy", self.stream)
        self._graphs, self._memory, self.stream = [], [], 0

    def _do(self, name: str, *arguments: Any) -> Any:
        code, *answers = getattr(self._runtime, name)(*arguments)
        if int(code) != 0:
            _, text = self._runtime.cudaGetErrorString(code)
            said = text.decode() if isinstance(text, bytes) else str(text)
            raise ModelError(
                f"the GPU failed ({name}: {said}): close what else uses it, or use --engine onnx"
            )
        return answers[0] if answers else None
