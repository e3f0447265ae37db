"""Plans: models as TensorRT compiled them, kept on disk and checked before they are used.

A plan fits one model, one TensorRT, one kind of GPU. All of that makes its name, so a stale plan is
simply not found and a new one is made. A damaged one is said to be, and made again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ha2g_live import __version__
from ha2g_live.engines.base import ModelSpec, check_bindings
from ha2g_live.engines.cache import cache_dir, file_digest, keep_newest, key_of
from ha2g_live.engines.cuda import Gpu, find_gpu
from ha2g_live.engines.sealed import read_sealed, write_sealed
from ha2g_live.engines.tensorrt_build import Bindings, Progress, build, find_module, targets
from ha2g_live.realtime.errors import ConfigError, MissingExtra, ModelError

PRECISIONS = ("fp32", "fp16")
DEFAULT_MAX_BATCH = 64
_MOST_BATCH = 4096
_KEPT_FILES = 12
_FOLDER = "tensorrt"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled model.

    Attributes:
        path: its file; None where the cache could not be written.
        content: the serialised engine.
        bindings: of the engine, as it was compiled.
        target: the GPU or the compute capabilities it is for.
        made_now: it was compiled by this call, not found.
    """

    path: Path | None
    content: bytes
    bindings: Bindings
    target: str
    made_now: bool


def plan_of(
    model: Path,
    precision: str = "fp32",
    max_batch: int = DEFAULT_MAX_BATCH,
    folder: Path | None = None,
    *,
    module: ModuleType | None = None,
    progress: Progress | None = None,
) -> Plan:
    """The plan of a model from the cache, compiled and kept there first where there is none.

    Args:
        model: an exported model of either kind.
        precision: one of ``PRECISIONS``; what goes in and comes out is float32 always.
        max_batch: most streams in one step.
        folder: where plans are kept; the user's cache when left out.
        module: TensorRT; the installed one when left out.
        progress: told how far compiling is.

    Raises:
        ConfigError: there is no such precision, or the batch is out of range.
        MissingExtra: TensorRT or onnx is not installed.
        ModelError: the model cannot be read or compiled.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"no precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    if not 1 <= max_batch <= _MOST_BATCH:
        raise ConfigError(f"the largest batch must be in 1..{_MOST_BATCH}, got {max_batch}")
    module = find_module() if module is None else module
    gpu = find_gpu()
    folder = cache_dir() / _FOLDER if folder is None else folder
    head = {
        "model": _digest(model),
        "program": __version__,
        "compiler": f"{module.__name__} {module.__version__}",
        "precision": precision,
        "max_batch": max_batch,
    }
    heads = [{**head, "target": target} for target in targets(module, gpu)]
    paths = [folder / f"{model.stem}-{precision}-{key_of(*h.values())}.plan" for h in heads]
    for path, wanted in zip(paths, heads, strict=True):
        found = _found(path, wanted)
        if found is not None:
            return found
    return _made(paths[0], heads[0], _prepared(model, precision), module, gpu, progress)


def inspect_plan(plan: Plan, spec: ModelSpec, module: ModuleType, runtime: Any = None) -> Any:
    """Hold a plan's bindings against the contract.

    Without a GPU the bindings are those of the network that was compiled.

    Args:
        plan: the plan.
        spec: what the model says of itself.
        module: TensorRT.
        runtime: TensorRT's runtime where there is a GPU: the engine is loaded and asked.

    Returns:
        The loaded engine; None without a runtime.

    Raises:
        ModelError: a binding does not fit, or the engine cannot be loaded.
    """
    where = "the compiled plan" if plan.path is None else str(plan.path)
    engine, bindings = None, plan.bindings
    if runtime is not None:
        engine = runtime.deserialize_cuda_engine(plan.content)
        if engine is None:
            raise ModelError(f"{where} cannot be loaded on this GPU: remove it, it is made again")
        bindings = _bindings_of(engine, module)
    for kind, expected in (("input", spec.inputs(1)), ("output", spec.outputs(1))):
        found = {
            name: (element, tuple("batch" if size == -1 else size for size in shape))
            for name, (element, shape) in bindings[kind].items()
        }
        check_bindings(kind, expected, found, where)
    return engine


def read_spec(path: Path) -> ModelSpec:
    """What a model file says of itself.

    Raises:
        MissingExtra: onnx is not installed.
        ModelError: the file cannot be read, or this engine cannot compile it.
    """
    metadata = {entry.key: entry.value for entry in _load(path).metadata_props}
    spec = ModelSpec.from_metadata(metadata, str(path))
    if spec.precision != "fp32":
        raise ModelError(
            f"{path} is a model of precision {spec.precision}, and TensorRT compiles the fp32 "
            "one: give --model that one"
        )
    return spec


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error}): check --model") from None


def _load(path: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("the TensorRT engine", str(error.name), "tensorrt") from error
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf raises classes of its own
        raise ModelError(f"{path} is not a readable ONNX model ({error}): check --model") from None


def _prepared(path: Path, precision: str) -> bytes:
    """The model as TensorRT gets it: without loops, in the precision asked for."""
    spec, model = read_spec(path), _load(path)
    from ha2g_live.engines.half import halved
    from ha2g_live.engines.unroll import unrolled

    if spec.windows is not None:
        model = unrolled(model)
    if precision == "fp16":
        model = halved(model)
    return bytes(model.SerializeToString())


def _found(path: Path, head: Mapping[str, Any]) -> Plan | None:
    try:
        stored, content = read_sealed(path)
        if any(stored.get(name) != value for name, value in head.items()):
            raise ModelError(f"{path} was made for something else")
        bindings = {
            kind: {name: (str(element), tuple(shape)) for name, (element, shape) in named.items()}
            for kind, named in stored["bindings"].items()
        }
    except OSError:
        return None
    except (ModelError, KeyError, TypeError, ValueError, AttributeError) as error:
        log.warning("%s; it is made again", error)
        return None
    with contextlib.suppress(OSError):
        path.touch()  # those not used for longest go first
    return Plan(path, content, bindings, str(head["target"]), made_now=False)


def _made(
    path: Path,
    head: Mapping[str, Any],
    prepared: bytes,
    module: ModuleType,
    gpu: Gpu | None,
    progress: Progress | None,
) -> Plan:
    key = key_of(head["compiler"], head["target"])
    timings_path = path.parent / f"timings-{key}.cache"
    timings = None
    with contextlib.suppress(OSError, ModelError):  # it only saves time
        timings = read_sealed(timings_path)[1]
    built = build(module, prepared, int(head["max_batch"]), gpu, timings, progress)
    kept: Path | None = path
    try:
        write_sealed(path, {**head, "bindings": built.bindings}, built.plan)
        if built.timing_cache is not None:
            write_sealed(timings_path, {}, built.timing_cache)
        keep_newest(path.parent, _KEPT_FILES)
    except OSError as error:  # a read-only home: slower to start, and that is all
        log.warning("the compiled plan cannot be kept: %s", error)
        kept = None
    return Plan(kept, built.plan, built.bindings, str(head["target"]), made_now=True)


def _bindings_of(engine: Any, module: ModuleType) -> Bindings:
    from ha2g_live.engines.tensorrt_build import element_name

    found: Bindings = {"input": {}, "output": {}}
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        is_input = engine.get_tensor_mode(name) == module.TensorIOMode.INPUT
        element = element_name(module, engine.get_tensor_dtype(name))
        shape = tuple(map(int, engine.get_tensor_shape(name)))
        found["input" if is_input else "output"][name] = (element, shape)
    return found
