"""Engines: the contract is checked when a model is opened, and the engines agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from ha2g_live.engines import BUNDLED_MODEL, ENGINES, open_engine
from ha2g_live.engines.base import SPEC_KEY, Engine, ModelSpec, State, warm_up
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import ConfigError, ModelError
from ha2g_live.realtime.stepper import advance, initial_state
from ha2g_live.realtime.types import F32
from tests.small_model import write_small_model


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
    with pytest.raises(ConfigError, match="no engine 'fast': choose one of onnx, torch"):
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
