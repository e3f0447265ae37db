"""The TensorRT engine keeps the contract: on a GPU where there is one, else on a pretence of one.

The pretence tests the order of copies, states and graphs; it says nothing about TensorRT.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ha2g_live.engines import BUNDLED_MODEL, open_engine, tensorrt_run
from ha2g_live.engines.base import Engine
from ha2g_live.engines.cuda import find_gpu
from ha2g_live.engines.tensorrt import open_engine as open_tensorrt
from ha2g_live.engines.tensorrt_build import MODULES
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.stepper import advance, initial_state
from ha2g_live.realtime.types import F32
from tests.host_gpu import HostCuda, host_engine
from tests.small_ha2g import small_checkpoint, write_imported
from tests.small_model import write_small_model

needs_gpu = pytest.mark.skipif(
    find_gpu() is None
    or not importlib.util.find_spec("cuda")
    or not any(importlib.util.find_spec(name) for name in MODULES),
    reason="needs an NVIDIA GPU, TensorRT and cuda-python",
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    write_small_model(path)
    return path


# --- the engine on a pretence of a GPU


@pytest.fixture
def pretence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_run, "Cuda", HostCuda)
    monkeypatch.setattr(HostCuda, "recorded", 0)
    monkeypatch.setattr(HostCuda, "replayed", 0)


def random_inputs(engine: Engine, batch: int, seed: int) -> tuple[F32, F32, F32]:
    rng = np.random.default_rng(seed)
    shapes = engine.spec.inputs(batch)
    audio, noise = (rng.standard_normal(shapes[n]).astype(np.float32) for n in ("audio", "noise"))
    return audio, engine.spec.style_vector(batch=batch), noise


def check_steps(engine: Engine, reference: Engine, tolerance: float) -> None:
    """Steps of several batches, one after the other, against another engine."""
    for batch in (1, 3, 1):
        ours = theirs = engine.spec.initial_state(batch)
        for seed in range(4):
            inputs = random_inputs(engine, batch, seed)
            found, ours = engine.step(*inputs, ours)
            expected, theirs = reference.step(*inputs, theirs)
            assert float(np.abs(found - expected).max()) <= tolerance


def check_bound(engine: Engine, tolerance: float) -> None:
    """A bound against steps: steps that are kept, looks ahead, states read and written."""
    bound, state = engine.bind(2), engine.spec.initial_state(2)
    for seed in range(6):
        inputs = random_inputs(engine, 2, seed)
        bound.audio[:], bound.style[:], bound.noise[:] = inputs
        expected, after = engine.step(*inputs, state)
        if seed in (1, 2, 4):
            bound.run(keep=False)
            assert float(np.abs(bound.directions - expected).max()) <= tolerance
            for name, value in bound.read_state().items():
                np.testing.assert_allclose(value, state[name], atol=tolerance)
        bound.run()
        assert float(np.abs(bound.directions - expected).max()) <= tolerance
        state = after
    start = engine.spec.initial_state(2)
    bound.write_state(start)
    for name, value in bound.read_state().items():
        np.testing.assert_array_equal(value, start[name])
    bound.run()
    expected, _ = engine.step(*random_inputs(engine, 2, 5), start)
    assert float(np.abs(bound.directions - expected).max()) <= tolerance


@pytest.mark.usefixtures("pretence")
@pytest.mark.parametrize("graph", [True, False])
def test_steps_and_bound_on_a_pretence(small: Path, graph: bool) -> None:
    reference = open_engine("onnx", small)
    engine = host_engine(small, reference.spec, graph)
    check_steps(engine, reference, 1e-6)
    check_bound(engine, 1e-6)
    assert (HostCuda.recorded > 0) is graph
    assert (HostCuda.replayed > 0) is graph
    with pytest.raises(ConfigError, match="a batch of 9 streams is not possible"):
        engine.bind(9)
    engine.close()
    engine.close()


# --- the engine on a GPU


@pytest.fixture(params=["fp32", "fp16"])
def on_gpu(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, float]]:
    engine = open_tensorrt(BUNDLED_MODEL, 1, precision=request.param, max_batch=8)
    yield engine, {"fp32": 1e-4, "fp16": 1e-2}[request.param]
    engine.close()


@needs_gpu
def test_speech_on_the_gpu(on_gpu: tuple[Engine, float]) -> None:
    engine, tolerance = on_gpu
    samples = read_audio(demo_clip())[: 10 * 16_000]
    found = []
    for each in (engine, open_engine("onnx")):
        chunks, _ = advance(each, samples, initial_state(each.spec, each.spec.usual_style, 7))
        found.append(np.stack([chunk.directions for chunk in chunks]))
    assert float(np.abs(found[0] - found[1]).max()) <= tolerance


@needs_gpu
def test_steps_and_bound_on_the_gpu(on_gpu: tuple[Engine, float]) -> None:
    engine, tolerance = on_gpu
    check_bound(engine, tolerance)
    assert engine.capabilities.max_batch == 8


@needs_gpu
def test_graphs_compute_what_single_calls_do() -> None:
    recorded = open_tensorrt(BUNDLED_MODEL, 1, max_batch=8)
    called = open_tensorrt(BUNDLED_MODEL, 1, max_batch=8, graph=False)
    check_steps(recorded, called, 1e-5)
    recorded.close()
    called.close()


@needs_gpu
def test_windows_on_the_gpu(tmp_path: Path) -> None:
    folder = write_imported(tmp_path, small_checkpoint())
    engine = open_tensorrt(folder / "model.onnx", 1, max_batch=4)
    check_steps(engine, open_engine("onnx", folder), 1e-4)
    engine.close()
