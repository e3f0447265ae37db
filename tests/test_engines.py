"""Engines: the contract is checked when a model is opened, and the engines agree."""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from ha2g_live.engines import BUNDLED_MODEL, auto, open_engine
from ha2g_live.engines.auto import engines_here
from ha2g_live.engines.base import SPEC_KEY, Engine, ModelSpec, State, Wrapped, warm_up
from ha2g_live.engines.cache import HOME_VARIABLE
from ha2g_live.engines.onnx import PROVIDERS, providers_here
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import ConfigError, ModelError
from ha2g_live.realtime.stepper import advance, initial_state
from ha2g_live.realtime.types import F32
from tests.small_model import write_small_model

ENGINES = engines_here()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    write_small_model(path)
    return path


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, model: Path) -> Iterator[Engine]:
    opened = open_engine(request.param, model)
    yield opened
    opened.close()


def feed(spec: ModelSpec, batch: int, seed: int) -> tuple[F32, F32, F32]:
    rng = np.random.default_rng(seed)
    audio, style, noise = (
        rng.standard_normal(spec.inputs(batch)[name]).astype(np.float32)
        for name in ("audio", "style", "noise")
    )
    return audio, style, noise


def test_shapes_are_those_of_the_contract(engine: Engine) -> None:
    warm_up(engine)
    for batch in (1, 3):
        state = engine.spec.initial_state(batch)
        directions, state = engine.step(*feed(engine.spec, batch, 0), state)
        assert directions.shape == engine.spec.outputs(batch)["directions"]
        assert directions.dtype == np.float32
        for name, shape in engine.spec.state.items():
            assert state[name].shape == (batch, *shape)
            assert state[name].dtype == np.float32


def test_state_is_a_value(engine: Engine) -> None:
    """The same state gives the same answer again, and is not written to."""
    inputs = feed(engine.spec, 1, 1)
    _, state = engine.step(*inputs, engine.spec.initial_state())
    kept: State = {name: value.copy() for name, value in state.items()}
    first, _ = engine.step(*inputs, state)
    again, _ = engine.step(*inputs, kept)
    np.testing.assert_array_equal(first, again)
    for name, value in state.items():
        np.testing.assert_array_equal(value, kept[name])


def test_a_returned_array_is_the_callers_to_keep(engine: Engine) -> None:
    first, state = engine.step(*feed(engine.spec, 1, 2), engine.spec.initial_state())
    copy = first.copy()
    engine.step(*feed(engine.spec, 1, 3), state)
    np.testing.assert_array_equal(first, copy)


@pytest.mark.parametrize("which", ["small", "bundled"])
def test_engines_agree_over_ten_seconds_of_speech(which: str, model: Path) -> None:
    path = model if which == "small" else BUNDLED_MODEL
    samples = read_audio(demo_clip())[: 10 * 16_000]
    answers = []
    for name in ENGINES:
        engine = open_engine(name, path)
        chunks, _ = advance(engine, samples, initial_state(engine.spec, engine.spec.styles[0], 7))
        answers.append(np.stack([chunk.directions for chunk in chunks]))
        engine.close()
    assert len(answers[0]) == 10 * 15 + 1
    for other in answers[1:]:
        assert float(np.abs(answers[0] - other).max()) <= 1e-4


def test_bundled_model_says_what_it_is() -> None:
    engine = open_engine()
    assert len(engine.spec.styles) >= 2
    assert any(name.startswith("idle:") for name in engine.spec.choices)
    card = {e.key: e.value for e in onnx.load(str(BUNDLED_MODEL)).metadata_props}["model_card"]
    assert "LibriSpeech" in card
    assert "SmartBody" in card
    assert BUNDLED_MODEL.stat().st_size < 20e6


def test_unknown_engine_and_threads() -> None:
    with pytest.raises(ConfigError, match="no engine 'fast': choose one of auto, onnx, onnx-cuda"):
        open_engine("fast")
    with pytest.raises(ConfigError, match="threads must be 1 or more, got 0"):
        open_engine(threads=0)


@pytest.mark.parametrize("name", ENGINES)
def test_wrong_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"not a model" * 100)
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    for path in (tmp_path / "missing.onnx", tmp_path, garbage, empty):
        with pytest.raises(ModelError) as caught:
            open_engine(name, path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def rewrite(model: Path, out: Path, spec: ModelSpec | None, extra: str = "") -> Path:
    proto = onnx.load(str(model))
    properties = {} if spec is None else {SPEC_KEY: spec.to_json() + extra}
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, properties)
    onnx.save(proto, str(out))
    return out


@pytest.mark.parametrize("name", ENGINES)
def test_a_model_that_is_not_ours_is_refused(name: str, model: Path, tmp_path: Path) -> None:
    foreign = rewrite(model, tmp_path / "foreign.onnx", None)
    with pytest.raises(ModelError, match="is not a ha2g-live model"):
        open_engine(name, foreign)
    spec = open_engine("onnx", model).spec
    damaged = rewrite(model, tmp_path / "damaged.onnx", spec, extra="}")
    with pytest.raises(ModelError, match="damaged spec"):
        open_engine(name, damaged)


def test_bindings_are_held_against_the_spec(model: Path, tmp_path: Path) -> None:
    spec = open_engine("onnx", model).spec
    wrong = replace(spec, styles=(*spec.styles, "third"))
    with pytest.raises(ModelError, match="input 'style' is float32"):
        open_engine("onnx", rewrite(model, tmp_path / "wrong.onnx", wrong))
    missing = replace(spec, state={**spec.state, "mood": (3,)})
    with pytest.raises(ModelError, match="has no input 'mood'"):
        open_engine("onnx", rewrite(model, tmp_path / "missing.onnx", missing))


def test_unknown_style_names_the_known_ones(model: Path) -> None:
    spec = open_engine("onnx", model).spec
    with pytest.raises(ModelError, match="no style 'grumpy': choose one of calm, lively"):
        spec.style_vector("grumpy")


def test_bound_steps_are_the_steps(engine: Engine) -> None:
    """Buffers and functional steps answer alike, also after a look, which keeps nothing."""
    for batch in (1, 5):
        bound, state = engine.bind(batch), engine.spec.initial_state(batch)
        for n in range(6):
            bound.audio[:], bound.style[:], bound.noise[:] = feed(engine.spec, batch, 50 + n)
            bound.run(keep=False)
            ahead = bound.directions.copy()
            bound.run()
            expected, state = engine.step(bound.audio, bound.style, bound.noise, state)
            np.testing.assert_allclose(bound.directions, expected, atol=1e-5)
            np.testing.assert_array_equal(bound.directions, ahead)
        for name, value in bound.read_state().items():
            np.testing.assert_allclose(value, state[name], atol=1e-4)


def test_a_bound_state_can_be_taken_out_and_put_back(engine: Engine) -> None:
    bound = engine.bind(2)
    bound.audio[:], bound.style[:], bound.noise[:] = feed(engine.spec, 2, 9)
    bound.run()
    kept = bound.read_state()
    bound.run()
    answer = bound.directions.copy()
    bound.run()
    bound.write_state(kept)
    bound.run()
    np.testing.assert_allclose(bound.directions, answer, atol=1e-6)
    assert all(value.flags.owndata for value in kept.values())


def test_streams_of_a_batch_are_independent(engine: Engine) -> None:
    audio, style, noise = feed(engine.spec, 4, 3)
    together, _ = engine.step(audio, style, noise, engine.spec.initial_state(4))
    for n in range(4):
        one = slice(n, n + 1)
        alone, _ = engine.step(audio[one], style[one], noise[one], engine.spec.initial_state())
        np.testing.assert_allclose(together[one], alone, atol=1e-5)


def test_a_batch_that_cannot_be_is_refused(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="a batch of 0 streams is not possible"):
        engine.bind(0)


def test_a_step_allocates_nothing() -> None:
    """Ten thousand steps of the bundled model, two of three of them looks."""
    bound = open_engine().bind(1)
    for _ in range(10):
        bound.run()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for step in range(10_000):
            bound.run(keep=step % 3 == 0)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2048  # the loop's own numbers
    assert peak - before < 4096


def test_a_second_start_takes_the_optimised_graph(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "cache"))
    first = open_engine("onnx", model)
    (kept,) = (tmp_path / "cache" / "optimised").iterdir()
    written_ns = kept.stat().st_ino
    second = open_engine("onnx", model)
    assert kept.stat().st_ino == written_ns
    inputs = feed(first.spec, 1, 4)
    one, _ = first.step(*inputs, first.spec.initial_state())
    two, _ = second.step(*inputs, second.spec.initial_state())
    np.testing.assert_array_equal(one, two)
    kept.write_bytes(kept.read_bytes()[:1000])
    third, _ = open_engine("onnx", model).step(*inputs, first.spec.initial_state())
    np.testing.assert_array_equal(one, third)
    assert "is damaged and made again" in caplog.text
    assert len(kept.read_bytes()) > 1000


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "file"))
    engine = open_engine("onnx", model)
    engine.step(*feed(engine.spec, 1, 4), engine.spec.initial_state())


def test_a_model_with_something_unknown_is_refused(model: Path, tmp_path: Path) -> None:
    proto = onnx.load(str(model))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("mood", 1, ["batch", 1]))
    (style,) = (value for value in proto.graph.input if value.name == "style")
    proto.graph.node.append(onnx.helper.make_node("ReduceSum", [style.name], ["mood"], keepdims=1))
    path = tmp_path / "more.onnx"
    onnx.save(proto, str(path))
    with pytest.raises(ModelError, match="has output 'mood', which this version does not know"):
        open_engine("onnx", path)


def test_providers_that_are_not_built_in_are_named() -> None:
    missing = [name for name in PROVIDERS if name not in providers_here()]
    assert "cpu" in providers_here()
    for name in missing:
        with pytest.raises(ConfigError, match=f"cannot run on '{name}', only on"):
            open_engine(f"onnx-{name}")


# --- auto


class Slowed(Wrapped):
    """A bound step that takes at least so long."""

    least_s = 0.0

    def run(self, keep: bool = True) -> None:
        time.sleep(self.least_s)
        super().run(keep)


def test_auto_takes_what_is_measured_fastest_and_remembers_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setattr(auto, "candidates", lambda: ("torch", "onnx"))
    opened: list[str] = []
    real = open_engine

    def noting(name: str, *rest: object) -> Engine:
        engine = real(name, *rest)  # type: ignore[arg-type]
        opened.append(name)
        if name == "torch":

            def slow(batch: int) -> Wrapped:
                bound = Slowed(engine, batch)
                bound.least_s = 0.01
                return bound

            engine.bind = slow  # type: ignore[method-assign]
        return engine

    monkeypatch.setattr("ha2g_live.engines.open_engine", noting)
    assert auto.choose(model, 1) == "onnx"
    assert opened == ["torch", "onnx"]
    assert auto.choose(model, 1) == "onnx"
    assert opened == ["torch", "onnx"]
    (note,) = (tmp_path / "engine").iterdir()
    note.write_text("{")
    assert auto.choose(model, 1) == "onnx"
    assert len(opened) == 4
    assert json.loads(note.read_text())["engine"] == "onnx"


def test_auto_leaves_out_what_breaks_or_differs(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setattr(auto, "candidates", lambda: ("torch", "onnx", "onnx-cuda"))
    real = open_engine

    def wrong(name: str, *rest: object) -> Engine:
        engine = real(name, *rest)  # type: ignore[arg-type]
        if name == "onnx":
            step = engine.step
            engine.step = lambda *inputs: (  # type: ignore[method-assign]
                step(*inputs)[0] + 0.1,
                step(*inputs)[1],
            )
            engine.bind = lambda batch: Wrapped(engine, batch)  # type: ignore[method-assign]
        return engine

    monkeypatch.setattr("ha2g_live.engines.open_engine", wrong)
    assert set(auto.measure(model, ("torch", "onnx", "onnx-cuda"), 1)) == {"torch"}
    assert auto.choose(model, 1) == "torch"


def test_auto_opens(model: Path) -> None:
    assert open_engine("auto", model).capabilities.precision == "fp32"
