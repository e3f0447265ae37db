"""Models in lower precision: what decides stays single, and the file says what it is."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from ha2g_live.engines import BUNDLED_MODEL, open_engine
from ha2g_live.engines.compare import MEAN_DEG, compare
from ha2g_live.engines.half import deciding
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.cli import main
from tests.small_ha2g import small_checkpoint, write_imported

SPEECH = read_audio(demo_clip())[: 10 * 16_000]


@pytest.fixture(scope="module", params=["fp16", "int8"])
def lower(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lower") / f"{request.param}.onnx"
    assert main(["engines", "lower", str(request.param), "--out", str(path)]) == 0
    return path


def test_the_motion_stays_close_and_chooses_the_same(lower: Path) -> None:
    engine = open_engine("onnx", lower)
    assert engine.capabilities.precision == lower.stem
    assert lower.stat().st_size < 0.7 * BUNDLED_MODEL.stat().st_size
    found = compare(open_engine(), engine, SPEECH)
    assert found.choices == 0
    assert 0.0 < found.mean_deg < MEAN_DEG


def test_what_decides_is_not_computed_in_eight_bits(tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    assert main(["engines", "lower", "int8", "--out", str(path)]) == 0
    graph = onnx.load(str(path)).graph
    eight_bit = {name for node in graph.node if "Integer" in node.op_type for name in node.output}
    assert len(eight_bit) >= 12  # two products of each of six levels at least
    every = {name for node in graph.node for name in (*node.input, *node.output)}
    assert not eight_bit & deciding(graph, every)


def test_the_model_card_is_taken_along(lower: Path) -> None:
    def entries(path: Path) -> dict[str, str]:
        return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}

    assert entries(lower)["model_card"] == entries(BUNDLED_MODEL)["model_card"]


def test_mistakes_are_one_line(
    lower: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"not a model")
    imported = write_imported(tmp_path, small_checkpoint()) / "model.onnx"
    for model, said in (
        (lower, "is no live model in fp32"),
        (imported, "is no live model in fp32"),
        (garbage, "is not a readable ONNX model"),
        (tmp_path / "missing.onnx", "does not exist"),
    ):
        assert main(["engines", "lower", "int8", "--model", str(model), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not out.exists()
    in_the_way = garbage / "out.onnx"
    assert main(["engines", "lower", "int8", "--out", str(in_the_way)]) == 2
    assert "cannot write" in capsys.readouterr().err
