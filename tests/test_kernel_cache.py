"""The compiled kernels: a second start finds all of them on disk, and never one that is old."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ha2g_live
from ha2g_live.realtime import kernel

ROOT = Path(__file__).parents[1]
PACKAGE = Path(ha2g_live.__file__).parent
REALTIME = PACKAGE / "realtime"

LIVE_RUN = """
import importlib, json
import numpy as np
from ha2g_live.realtime import contact, joint_limits, kernel, pipeline, retarget
from tests.fakes import EchoEngine

def entries():
    for file in kernel.FILES:
        module = importlib.import_module("ha2g_live.realtime." + file.removesuffix(".py"))
        for name, value in vars(module).items():
            if hasattr(value, "py_func") and value.__module__ == module.__name__:
                if value.stats.cache_path is not None:
                    yield f"{module.__name__}.{name}", value

def loaded():
    return {
        name: [sum(entry.stats.cache_hits.values()), sum(entry.stats.cache_misses.values())]
        for name, entry in entries()
    }

live = pipeline.Pipeline(EchoEngine(), [], pipeline.Settings(tail_s=0.5))
live.prepare()
prepared = loaded()
live = pipeline.Pipeline(EchoEngine(), [], pipeline.Settings(tail_s=0.5))
pipeline.run_fast(live, [np.zeros(4000, np.float32), np.ones(12000, np.float32)])
live.schedule.sample(10.0)
ran = loaded()
retarget.to_directions(live.latest.rotations)
joint_limits.angles(live.latest.rotations)
contact.clearance_m(live.latest.rotations, contact.DEFAULT_FIGURE)
contact.hand_points(live.latest.rotations, contact.DEFAULT_FIGURE)
print(json.dumps({"prepared": prepared, "ran": ran, "all": loaded()}))
"""

LENGTH = """
import numpy as np
from ha2g_live.realtime import trajectory
pose = np.full((55, 4), 0.5)
shown = trajectory.evaluate(trajectory.start_at(0, pose), 0.0)
print(float(np.linalg.norm(shown[0])), sum(trajectory._show.stats.cache_hits.values()))
"""


def run(program: str, folder: Path, **environment: str) -> str:
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(folder), **environment}
    return subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=ROOT,
        env=settings,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def files_in(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def two_starts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any, Any]:
    """What two starts in a row loaded and compiled, and the cache's files after each."""
    folder = tmp_path_factory.mktemp("cache")
    first, first_files = json.loads(run(LIVE_RUN, folder)), files_in(folder)
    second, second_files = json.loads(run(LIVE_RUN, folder)), files_in(folder)
    return first, first_files, second, second_files


def test_a_first_start_compiles_every_entry_once(two_starts: tuple[Any, Any, Any, Any]) -> None:
    first, files, _, _ = two_starts
    assert len(first["all"]) >= 5
    # One signature each: a second one would be compiled in the middle of a run.
    assert set(map(tuple, first["all"].values())) == {(0, 1)}
    assert len(files) == 2 * len(first["all"])  # an index and one overload


def test_a_second_start_compiles_nothing(two_starts: tuple[Any, Any, Any, Any]) -> None:
    _, first_files, second, second_files = two_starts
    assert set(map(tuple, second["all"].values())) == {(1, 0)}
    assert second_files == first_files


def test_nothing_is_left_to_compile_once_a_run_was_prepared(
    two_starts: tuple[Any, Any, Any, Any],
) -> None:
    first, _, second, _ = two_starts
    for start in (first, second):
        assert start["prepared"] == start["ran"]


def test_an_edit_of_a_kernel_in_another_file_is_noticed(tmp_path: Path) -> None:
    copy = tmp_path / "ha2g_live" / "realtime"
    copy.mkdir(parents=True)
    for name in ("__init__.py", *kernel.FILES):
        shutil.copy(REALTIME / name, copy / name)
    shutil.copy(PACKAGE / "__init__.py", copy.parent)

    def shown() -> str:
        return run(LENGTH, tmp_path / "cache", PYTHONPATH=str(tmp_path)).strip()

    assert [shown(), shown()] == ["1.0 0", "1.0 1"]
    text = (copy / "rotation.py").read_text(encoding="utf-8")
    edited = text.replace("return (q[0] / norm,", "norm *= 0.5\n    return (q[0] / norm,")
    assert edited != text
    (copy / "rotation.py").write_text(edited, encoding="utf-8")
    assert [shown(), shown()] == ["2.0 0", "2.0 1"]


def imports_of(path: Path) -> set[str]:
    """Names of the realtime files that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            package, _, module = node.module.rpartition(".")
            if package == "ha2g_live.realtime":
                names.add(f"{module}.py")
            elif node.module == "ha2g_live.realtime":
                names.update(f"{name.name}.py" for name in node.names)
    return names


def test_the_cache_knows_every_file_that_a_kernel_can_draw_on() -> None:
    """All files that define kernels, and all files of the project that those import."""
    compiling = {
        path.name
        for path in REALTIME.glob("*.py")
        if "\n@kernel\n" in path.read_text(encoding="utf-8")
        or "\n@entry\n" in path.read_text(encoding="utf-8")
    }
    needed, found = set(compiling), set(compiling)
    while found:
        found = {name for file in found for name in imports_of(REALTIME / file)} - needed
        needed |= found
    assert set(kernel.FILES) == needed


def test_only_the_kernel_file_asks_numba_to_compile() -> None:
    for path in PACKAGE.glob("*/*.py"):
        if path.name != "kernel.py":
            assert "njit" not in path.read_text(encoding="utf-8"), path
