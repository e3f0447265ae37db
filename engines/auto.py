"""``--engine auto``: the engine that was measured to be fastest on this machine.

The first start measures every engine that can run here and notes the winner in the cache; later
starts read the note. Whatever could change the answer is part of its name: the model, the engines
that can run here and their versions, the processor, the number of threads.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import json
import logging
import sys
import time
from pathlib import Path

import llvmlite.binding
import numpy as np

from ha2g_live.engines.base import Engine
from ha2g_live.engines.cache import cache_dir, file_digest, key_of, write_whole
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.features import silent_columns

WARM_UPS, STEPS = 10, 60
AGREES = 1e-2
"""Largest difference in directions from the CPU that an engine may show and still be chosen."""
WORTH = 0.8
"""Another engine than the CPU must take at most this part of its time: it costs a start, memory,
and the game beside it a piece of the GPU."""

log = logging.getLogger(__name__)


def candidates() -> tuple[str, ...]:
    """Engines that can run here, the CPU first; PyTorch is the reference and is not offered."""
    from ha2g_live.engines.onnx import providers_here

    names = ["onnx" if name == "cpu" else f"onnx-{name}" for name in providers_here()]
    wheels = ("tensorrt", "tensorrt_rtx")
    if any(importlib.util.find_spec(name) for name in wheels) and nvidia_gpus():
        names.append("tensorrt")
    return tuple(names)


def engines_here() -> tuple[str, ...]:
    """Every engine that can run here, PyTorch too where it is installed."""
    names = list(candidates())
    if importlib.util.find_spec("torch") and importlib.util.find_spec("onnx"):
        names.append("torch")
        if nvidia_gpus():
            names.append("torch-cuda")
    return tuple(names)


def nvidia_gpus() -> int:
    """How many NVIDIA GPUs the driver of this machine offers; 0 without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def choose(path: Path, threads: int) -> str:
    """The name of the best engine for a model, from the note of an earlier start if there is one.

    Args:
        path: the model file.
        threads: CPU threads of a step.

    Raises:
        ModelError: the model cannot be opened on the CPU.
    """
    names = candidates()
    if len(names) == 1:
        return names[0]
    note = _note_path(path, names, threads)
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))["engine"]
        if noted in names:
            return str(noted)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or one that cannot be read: measure
    times = measure(path, names, threads)
    cpu_s = times[names[0]]
    best = min(times, key=lambda name: times[name])
    chosen = best if times[best] <= WORTH * cpu_s else names[0]
    shown = ", ".join(f"{name} {1e3 * took_s:.2f} ms" for name, took_s in times.items())
    log.info("a model step takes: %s; chosen: %s", shown, chosen)
    try:
        content = {"engine": chosen, "median_s": times}
        write_whole(note, json.dumps(content, indent=2).encode())
    except OSError as error:
        log.info("the choice of engine cannot be kept: %s", error)
    return chosen


def measure(path: Path, names: tuple[str, ...], threads: int) -> dict[str, float]:
    """Median seconds of a step of each engine that runs and agrees with the first.

    Raises:
        ModelError: the model cannot be opened by the first.
    """
    from ha2g_live.engines import open_engine

    times: dict[str, float] = {}
    reference = None
    for name in names:
        try:
            engine = open_engine(name, path, threads)
            answer, took_s = _timed(engine)
            engine.close()
        except (Ha2gError, RuntimeError) as error:
            if name == names[0]:
                raise
            log.info("%s cannot be used here: %s", name, error)
            continue
        except Exception as error:
            # Foreign runtimes raise classes of their own; one that breaks is not chosen.
            if name == names[0]:
                raise
            log.warning("%s fails on this machine: %s", name, error)
            continue
        reference = answer if reference is None else reference
        if float(np.abs(answer - reference).max()) > AGREES:
            log.warning("%s computes something else than the CPU: left out", name)
            continue
        times[name] = took_s
    return times


def _timed(engine: Engine) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], float]:
    """The first answer to silence, and the median seconds of a step."""
    bound = engine.bind(1)
    bound.audio[:] = silent_columns(engine.spec.timing.columns)
    bound.run()
    answer = bound.directions.copy()
    for _ in range(WARM_UPS):
        bound.run()
    times = []
    for _ in range(STEPS):
        started_s = time.perf_counter()
        bound.run()
        times.append(time.perf_counter() - started_s)
    return answer, float(np.median(times))


def _note_path(path: Path, names: tuple[str, ...], threads: int) -> Path:
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml",
                     "onnxruntime-openvino", "tensorrt", "tensorrt-rtx")
        if _installed(name)
    ]  # fmt: skip
    processor = llvmlite.binding.get_host_cpu_name()
    key = key_of(file_digest(path), names, versions, processor, threads)
    return cache_dir() / "engine" / f"{key}.json"


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
