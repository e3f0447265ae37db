"""TensorRT compiles both networks without a GPU, and plans are kept and checked."""

from __future__ import annotations

import importlib.util
import io
import logging
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import onnx
import pytest

from ha2g_live.benchmarks.windows import write_drawn
from ha2g_live.engines import BUNDLED_MODEL, tensorrt_plan
from ha2g_live.engines import build as build_command
from ha2g_live.engines.cuda import Gpu, find_gpu
from ha2g_live.engines.sealed import read_sealed, write_sealed
from ha2g_live.engines.tensorrt import open_engine as open_tensorrt
from ha2g_live.engines.tensorrt_build import MODULES, build, find_module, targets
from ha2g_live.engines.tensorrt_plan import Plan, inspect_plan, plan_of, read_spec
from ha2g_live.realtime.errors import ConfigError, MissingExtra, ModelError
from tests.small_model import write_small_model

WHEEL = any(importlib.util.find_spec(name) for name in MODULES)
needs_wheel = pytest.mark.skipif(not WHEEL, reason="no TensorRT is installed")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    write_small_model(path)
    return path


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Models that were compiled, in order."""
    compiled: list[bytes] = []

    def counted(module: ModuleType, model: bytes, *rest: object) -> object:
        compiled.append(model)
        return build(module, model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tensorrt_plan, "build", counted)
    return compiled


# --- compiling


@needs_wheel
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_live_network_compiles(precision: str, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    plan = plan_of(
        BUNDLED_MODEL, precision, 8, tmp_path, progress=lambda what, done: told.append((what, done))
    )
    assert plan.made_now
    assert len(plan.content) > 1e6
    inspect_plan(plan, read_spec(BUNDLED_MODEL), find_module())
    assert plan.bindings["input"]["audio"] == ("float32", (-1, 3, 128))
    shares = [done for _, done in told]
    assert shares == sorted(shares)
    assert 0.0 < shares[0] <= shares[-1] <= 1.0
    assert all(what for what, _ in told)


@needs_wheel
@pytest.mark.timeout(900)
def test_the_published_network_compiles_without_loops(tmp_path: Path, builds: list[bytes]) -> None:
    write_drawn(tmp_path)
    model = tmp_path / "model.onnx"
    plan = plan_of(model, folder=tmp_path / "plans")
    operations = {node.op_type for node in onnx.load_model_from_string(builds[0]).graph.node}
    assert not operations & {"GRU", "Loop", "Scan"}
    inspect_plan(plan, read_spec(model), find_module())
    assert plan.bindings["output"] == {"poses": ("float32", (-1, 34, 126))}


@needs_wheel
def test_a_plan_that_does_not_fit_the_contract_is_refused(small: Path, tmp_path: Path) -> None:
    plan, spec = plan_of(small, folder=tmp_path), read_spec(small)
    other = replace(spec, state={**spec.state, "age": (2,)})
    with pytest.raises(ModelError, match=r"'age' is float32 \['batch', 1\], expected"):
        inspect_plan(plan, other, find_module())


@needs_wheel
def test_a_model_that_tensorrt_cannot_read_is_one_line(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_plan, "_prepared", lambda path, precision: b"not a model")
    with pytest.raises(ModelError, match="TensorRT cannot read the model") as caught:
        plan_of(small, folder=tmp_path)
    assert "\n" not in str(caught.value)


@needs_wheel
def test_ctrl_c_stops_the_compiler(small: Path, tmp_path: Path) -> None:
    def interrupted(what: str, done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan_of(small, folder=tmp_path, progress=interrupted)
    assert not list(tmp_path.glob("*.plan"))


# --- the cache


@needs_wheel
def test_a_plan_is_compiled_once(small: Path, tmp_path: Path, builds: list[bytes]) -> None:
    first = plan_of(small, folder=tmp_path)
    again = plan_of(small, folder=tmp_path)
    assert len(builds) == 1
    assert (first.made_now, again.made_now) == (True, False)
    assert again.content == first.content
    assert again.bindings == first.bindings


@needs_wheel
def test_what_a_plan_depends_on_makes_another(
    small: Path, tmp_path: Path, builds: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plans"
    plan_of(small, folder=folder)
    plan_of(small, max_batch=2, folder=folder)
    plan_of(small, "fp16", folder=folder)
    write_small_model(small, seed=1)
    plan_of(small, folder=folder)
    monkeypatch.setattr(tensorrt_plan, "targets", lambda module, gpu: ("another GPU",))
    plan_of(small, folder=folder)
    monkeypatch.setattr(find_module(), "__version__", "0.0")
    plan_of(small, folder=folder)
    assert len(builds) == 6
    assert len(list(folder.glob("*.plan"))) == 6


@needs_wheel
@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "renamed"])
def test_a_damaged_plan_is_said_and_made_again(
    harm: str,
    small: Path,
    tmp_path: Path,
    builds: list[bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = plan_of(small, folder=tmp_path)
    assert whole.path is not None
    stored = bytearray(whole.path.read_bytes())
    if harm == "flip":
        stored[len(stored) // 2] ^= 1
    elif harm == "renamed":  # a sound file in the wrong place
        write_sealed(whole.path, {"model": "another"}, b"plan")
        stored = bytearray(whole.path.read_bytes())
    whole.path.write_bytes(stored[: {"cut": -100, "empty": 0}.get(harm, len(stored))])
    with caplog.at_level(logging.WARNING):
        assert plan_of(small, folder=tmp_path).made_now
    (record,) = caplog.records
    assert "it is made again" in record.getMessage()
    assert str(whole.path) in record.getMessage()
    assert "\n" not in record.getMessage()
    assert len(builds) == 2
    assert not plan_of(small, folder=tmp_path).made_now


@needs_wheel
def test_a_folder_that_cannot_be_written_costs_only_time(small: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file where the folder should be")
    plan = plan_of(small, folder=taken / "plans")
    assert plan.made_now
    assert plan.path is None


@needs_wheel
def test_a_gpu_takes_a_plan_made_without_one() -> None:
    module = find_module("tensorrt_rtx")
    (several,) = targets(module, None)
    assert targets(module, Gpu("GeForce", 89)) == ("GeForce 89", several)
    assert targets(module, Gpu("GTX", 61)) == ("GTX 61",)


def test_sealed_files_hold_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_sealed(path, {"name": "x"}, b"content")
    head, content = read_sealed(path)
    assert (head["name"], content) == ("x", b"content")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


# --- what is refused


def test_settings_out_of_range(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no precision 'int4': choose one of fp32, fp16"):
        plan_of(small, "int4", folder=tmp_path)
    with pytest.raises(ConfigError, match=r"largest batch must be in 1\.\.4096, got 0"):
        plan_of(small, max_batch=0, folder=tmp_path)


def test_without_the_package_one_line_says_what_to_install() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'ha2g-live\[tensorrt\]'"):
        find_module("no_tensorrt_of_this_name")


@needs_wheel
@pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU")
def test_without_a_gpu_one_line_says_so() -> None:
    with pytest.raises(ModelError, match=r"no NVIDIA GPU found.*use --engine onnx") as caught:
        open_tensorrt(BUNDLED_MODEL, 1)
    assert "\n" not in str(caught.value)


# --- the command


@needs_wheel
def test_the_command_compiles_and_says_where(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--model", str(small), "--max-batch", "4", "--out", str(tmp_path / "out")]
    assert build_command.main(told) == 0
    (path,) = (tmp_path / "out").glob("*.plan")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for part in ("small 0, fp32, up to 4 streams, compiled in", str(path), " MB", " for "):
        assert part in said
    assert build_command.main(told) == 0
    assert "was compiled before" in capsys.readouterr().err


def test_the_bar_stays_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(build_command, "_SHOW_EVERY_S", 0.0)
    bar = build_command.Bar()
    bar("Optimizing graph", 0.5)
    bar.end()
    shown = terminal.getvalue()
    assert "[###############---------------]  50 %  Optimizing graph" in shown
    assert "\n" not in shown
    assert shown.isascii()


def test_a_plan_says_what_it_is() -> None:
    plan = Plan(None, b"", {"input": {}, "output": {}}, "a GPU", made_now=True)
    with pytest.raises(ModelError, match="the compiled plan has no input 'audio'"):
        inspect_plan(plan, read_spec(BUNDLED_MODEL), ModuleType("tensorrt"))
