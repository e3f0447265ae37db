"""One call to TensorRT's builder, for the modules ``tensorrt`` and ``tensorrt_rtx`` alike."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ha2g_live.engines.cuda import Gpu
from ha2g_live.realtime.errors import MissingExtra, ModelError

MODULES = ("tensorrt", "tensorrt_rtx")
"""Modules that may be installed: for all GPUs, and for GeForce RTX and RTX workstation GPUs."""

PORTABLE = (80, 86, 89, 120)
"""Compute capabilities that a plan is made for where there is no GPU: Ampere, Ada, Blackwell.
TensorRT-RTX has no float32 products for Turing (75)."""

Progress = Callable[[str, float], None]
"""Told what is being done, and how much of all is done, 0 to 1."""

Bindings = dict[str, dict[str, tuple[str, tuple[int, ...]]]]
"""``input`` and ``output``: element type and shape by name; -1 is the free batch axis."""


@dataclass(frozen=True, slots=True)
class Built:
    """What the builder made.

    Attributes:
        plan: the serialised engine.
        bindings: of the engine.
        timing_cache: what the builder measured, to be given to the next build; None without one.
    """

    plan: bytes
    bindings: Bindings
    timing_cache: bytes | None


def find_module(name: str | None = None) -> ModuleType:
    """TensorRT: the named one of ``MODULES``, or whichever is installed, the full one first.

    Raises:
        MissingExtra: it is not installed.
        ModelError: it is installed but cannot be loaded.
    """
    for candidate in MODULES if name is None else (name,):
        try:
            return importlib.import_module(candidate)
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError, RuntimeError) as error:  # a library that it needs
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(
                f"{candidate} is installed but cannot be loaded ({reason}): install it again"
            ) from None
    raise MissingExtra("the TensorRT engine", name or MODULES[-1], "tensorrt")


def is_rtx(module: ModuleType) -> bool:
    """Whether this is TensorRT-RTX, which also compiles for GPUs that are not here."""
    return str(module.__name__).endswith("_rtx")


def targets(module: ModuleType, gpu: Gpu | None) -> tuple[str, ...]:
    """What plans of this module may be for to run here, as a part of their names.

    The first is what a new plan is made for. One for several capabilities, made on a machine
    without a GPU, is as good on a GPU of one of them.
    """
    portable = _portable(module)
    several = "capabilities " + " ".join(map(str, portable))
    if gpu is None:
        return (several,)
    own = f"{gpu.name} {gpu.capability}"
    return (own, several) if gpu.capability in portable else (own,)


def build(
    module: ModuleType,
    model: bytes,
    max_batch: int,
    gpu: Gpu | None,
    timing_cache: bytes | None = None,
    progress: Progress | None = None,
) -> Built:
    """Compile an ONNX model.

    Args:
        module: TensorRT.
        model: the ONNX model, its first axes the batch, in the precision it is to have.
        max_batch: most streams; the plan is tuned for one.
        gpu: the GPU that is here; without one only TensorRT-RTX can compile.
        timing_cache: that of an earlier build.
        progress: told how far it is; called in TensorRT's own threads.

    Raises:
        ModelError: TensorRT refuses the model, or needs a GPU.
    """
    if gpu is None and not is_rtx(module):
        raise ModelError(
            "no NVIDIA GPU found, and TensorRT compiles only for the GPU it sees: install "
            "tensorrt-rtx, or run this on the machine with the GPU"
        )
    logger = _logger(module)
    builder = module.Builder(logger)
    flag = module.NetworkDefinitionCreationFlag
    typed = 1 << int(flag.STRONGLY_TYPED) if hasattr(flag, "STRONGLY_TYPED") else 0
    network = builder.create_network(typed)
    parser = module.OnnxParser(network, logger)
    if not parser.parse(model):
        raise ModelError(f"TensorRT cannot read the model ({logger.said()}): use --engine onnx")
    config = builder.create_builder_config()
    config.add_optimization_profile(_profile(builder, network, max_batch))
    # TF32 keeps 10 bits of a product, which is not what fp32 promises.
    config.clear_flag(module.BuilderFlag.TF32)
    if is_rtx(module):
        _aim(module, config, gpu)
    else:
        config.set_timing_cache(config.create_timing_cache(timing_cache or b""), False)
    monitor = None if progress is None else _monitor(module, progress)
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.stopped is not None:
        raise monitor.stopped
    if plan is None:
        raise ModelError(f"TensorRT cannot compile the model ({logger.said()}): use --engine onnx")
    timings = None if is_rtx(module) else bytes(config.get_timing_cache().serialize())
    return Built(bytes(plan), _bindings(module, network), timings)


def _portable(module: ModuleType) -> tuple[int, ...]:
    known = getattr(module, "ComputeCapability", None)
    return tuple(number for number in PORTABLE if hasattr(known, f"SM{number}"))


def _aim(module: ModuleType, config: Any, gpu: Gpu | None) -> None:
    names = ["CURRENT"] if gpu is not None else [f"SM{number}" for number in _portable(module)]
    config.num_compute_capabilities = len(names)
    for i, name in enumerate(names):
        config.set_compute_capability(getattr(module.ComputeCapability, name), i)


def _profile(builder: Any, network: Any, max_batch: int) -> Any:
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        one, most = ((batch, *tuple(tensor.shape)[1:]) for batch in (1, max_batch))
        profile.set_shape(tensor.name, one, one, most)
    return profile


def _bindings(module: ModuleType, network: Any) -> Bindings:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    return {
        kind: {t.name: (element_name(module, t.dtype), tuple(map(int, t.shape))) for t in tensors}
        for kind, tensors in (("input", inputs), ("output", outputs))
    }


def element_name(module: ModuleType, dtype: Any) -> str:
    """TensorRT's element type as NumPy calls it; of what NumPy has no name for, TensorRT's own."""
    names = {module.DataType.FLOAT: "float32", module.DataType.HALF: "float16"}
    return names.get(dtype, str(dtype))


def _logger(module: ModuleType) -> Any:
    """Keeps what TensorRT says went wrong, and prints nothing."""

    class Logger(module.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

        def said(self) -> str:
            return self.errors[0][:_SAID_CHARACTERS] if self.errors else "it does not say why"

    return Logger()


_SAID_CHARACTERS = 300


def _monitor(module: ModuleType, progress: Progress) -> Any:
    """Turns nested phases into one number; None where this TensorRT tells of no progress."""
    if not hasattr(module, "IProgressMonitor"):
        return None

    class Monitor(module.IProgressMonitor):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.stopped: BaseException | None = None
            self._lock = threading.Lock()
            self._phases: dict[str, list[Any]] = {}  # parent, steps done, steps
            self._shown = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases[phase_name] = [parent_phase, 0, max(num_steps, 1)]

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                with self._lock:
                    self._phases[phase_name][1] = step + 1
                    self._shown = max(self._shown, self._done(phase_name, 0.0))
                    progress(phase_name, self._shown)
            except BaseException as error:  # Ctrl-C too: it must not unwind through TensorRT
                self.stopped = error
            return self.stopped is None

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._phases.pop(phase_name, None)

        def _done(self, phase: str, inner: float) -> float:
            """How much of all is done when of a phase's present step ``inner`` is."""
            parent, steps_done, steps = self._phases[phase]
            done = min(1.0, float(steps_done + inner) / steps)
            return done if parent not in self._phases else self._done(parent, done)

    return Monitor()
