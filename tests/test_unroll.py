"""GRU nodes written out compute what they computed, and half precision is close to single."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ha2g_live.engines import BUNDLED_MODEL, open_engine
from ha2g_live.engines.base import Capabilities, ModelSpec
from ha2g_live.engines.half import halved
from ha2g_live.engines.onnx import OnnxEngine
from ha2g_live.engines.unroll import unrolled
from ha2g_live.engines.window import seeded
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import ModelError
from ha2g_live.realtime.stepper import advance, initial_state
from ha2g_live.realtime.types import F32
from tests.small_ha2g import small_checkpoint, write_imported

FRAMES, INPUTS, HIDDEN = 7, 5, 6


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def answers(model: onnx.ModelProto, feed: dict[str, F32]) -> list[F32]:
    return [np.asarray(answer) for answer in session(model).run(None, feed)]


def gru(
    direction: str = "bidirectional",
    frames: int | str = FRAMES,
    bias: bool = True,
    extra: tuple[str, ...] = (),
    **attributes: Any,
) -> onnx.ModelProto:
    """A model that is one GRU node with both of its outputs."""
    rng = np.random.default_rng(1)
    ways = 2 if direction == "bidirectional" else 1
    shapes: dict[str, tuple[int, ...]] = {
        "W": (ways, 3 * HIDDEN, INPUTS),
        "R": (ways, 3 * HIDDEN, HIDDEN),
    }
    if bias:
        shapes["B"] = (ways, 6 * HIDDEN)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    told: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "linear_before_reset": 1,
        "direction": direction,
        **attributes,
    }
    given = ["X", "W", "R", *(["B"] if bias else []), *extra]
    node = helper.make_node("GRU", given, ["Y", "Y_h"], "layer", **told)
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [frames, "batch", INPUTS])]
    for name in extra:
        if name:
            start: list[str | int | None] = [ways, "batch", HIDDEN]
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, start))
    outputs = [
        helper.make_tensor_value_info("Y", TensorProto.FLOAT, [frames, ways, "batch", HIDDEN]),
        helper.make_tensor_value_info("Y_h", TensorProto.FLOAT, [ways, "batch", HIDDEN]),
    ]
    graph = helper.make_graph([node], "gru", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_computes_the_same(direction: str, bias: bool) -> None:
    model = gru(direction, bias=bias)
    written = unrolled(model)
    onnx.checker.check_model(written)
    assert all(node.op_type != "GRU" for node in written.graph.node)
    for batch in (1, 4):
        shape = (FRAMES, batch, INPUTS)
        feed = {"X": np.random.default_rng(batch).standard_normal(shape).astype(np.float32)}
        for expected, found in zip(answers(model, feed), answers(written, feed), strict=True):
            assert found.shape == expected.shape
            assert float(np.abs(found - expected).max()) <= 1e-5


def test_the_model_itself_is_left_alone() -> None:
    model = gru()
    before = model.SerializeToString()
    unrolled(model)
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: gru(frames="time"), "an unknown number of frames"),
        (lambda: gru(linear_before_reset=0), "its reset gate before the product"),
        (lambda: gru(extra=("", "start")), "a start or lengths of its own"),
        (lambda: gru("forward", activations=["Sigmoid", "Relu"]), "activations of its own"),
        (lambda: gru(layout=1), "layout set"),
    ],
)
def test_other_kinds_are_refused(make: Callable[[], onnx.ModelProto], reason: str) -> None:
    with pytest.raises(ModelError, match=f"'layer' has {reason}"):
        unrolled(make())


def window(spec: ModelSpec, batch: int) -> dict[str, F32]:
    rng = np.random.default_rng(batch)
    shapes = spec.inputs(batch)
    feed = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    feed["audio"] = rng.uniform(-1, 1, shapes["audio"]).astype(np.float32)
    feed["style"] = spec.style_vector(batch=batch)
    feed["given"], feed["known"] = seeded(0.3 * feed["given"][:, :4])
    return feed


@pytest.mark.parametrize("skeleton", ["ted_gesture", "ted_expressive"])
def test_a_published_model_computes_the_same(skeleton: str, tmp_path: Path) -> None:
    folder = write_imported(tmp_path, small_checkpoint(skeleton))
    model = onnx.load(str(folder / "model.onnx"))
    assert any(node.op_type == "GRU" for node in model.graph.node)
    written = unrolled(model)
    assert all(node.op_type != "GRU" for node in written.graph.node)
    spec = open_engine("onnx", folder).spec
    for batch in (1, 3):
        feed = window(spec, batch)
        (expected,), (found,) = answers(model, feed), answers(written, feed)
        assert float(np.abs(found - expected).max() / np.abs(expected).max()) <= 1e-5


def test_a_published_model_in_half_precision_is_close(tmp_path: Path) -> None:
    folder = write_imported(tmp_path, small_checkpoint())
    model = onnx.load(str(folder / "model.onnx"))
    feed = window(open_engine("onnx", folder).spec, 2)
    (expected,), (found,) = answers(model, feed), answers(halved(unrolled(model)), feed)
    assert found.dtype == np.float32
    assert float(np.abs(found - expected).max()) <= 1e-2


@pytest.fixture(scope="module")
def halves() -> tuple[OnnxEngine, OnnxEngine]:
    """The bundled network in single and in half precision."""
    model = onnx.load(str(BUNDLED_MODEL))
    spec = open_engine("onnx").spec
    half = halved(model)
    onnx.checker.check_model(half)
    assert half.ByteSize() < 0.7 * model.ByteSize()
    return (
        OnnxEngine(session(model), spec, Capabilities()),
        OnnxEngine(session(half), spec, Capabilities(precision="fp16")),
    )


def test_a_live_step_in_half_precision_is_close(halves: tuple[OnnxEngine, OnnxEngine]) -> None:
    """From the same state each time; what was chosen is the same to the last bit."""
    single, half = halves
    rng = np.random.default_rng(0)
    state, spec = single.spec.initial_state(2), single.spec
    shapes = spec.inputs(2)
    for _ in range(60):
        audio = rng.normal(-0.25, 0.32, shapes["audio"]).astype(np.float32)
        noise = rng.gumbel(size=shapes["noise"]).astype(np.float32)
        inputs = audio, spec.style_vector(batch=2), noise
        found, after = half.step(*inputs, state)
        expected, state = single.step(*inputs, state)
        assert float(np.abs(found - expected).max()) <= 1e-2
        np.testing.assert_array_equal(after["choice"], state["choice"])
        np.testing.assert_array_equal(after["age"], state["age"])


def test_half_precision_stays_close_over_speech(halves: tuple[OnnxEngine, OnnxEngine]) -> None:
    samples = read_audio(demo_clip())[: 10 * 16_000]
    found = []
    for engine in halves:
        start = initial_state(engine.spec, engine.spec.usual_style, 7)
        chunks, _ = advance(engine, samples, start)
        found.append(np.stack([chunk.directions for chunk in chunks]))
    assert float(np.abs(found[0] - found[1]).max()) <= 1e-2


def test_a_weight_that_does_not_fit_is_refused() -> None:
    weights = numpy_helper.from_array(np.full((2, 2), 1e6, np.float32), "W")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["X", "W"], ["Y"])],
        "product",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["batch", 2])],
        [weights],
    )
    with pytest.raises(ModelError, match="'W' is too large for half precision"):
        halved(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
