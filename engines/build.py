"""The command ``ha2g-live build``: compile a model for a GPU ahead of its first use."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from ha2g_live.engines import model_path
from ha2g_live.engines.tensorrt_build import find_module
from ha2g_live.engines.tensorrt_plan import (
    DEFAULT_MAX_BATCH,
    PRECISIONS,
    inspect_plan,
    plan_of,
    read_spec,
)
from ha2g_live.realtime.options import Parser, say

_BAR_CHARACTERS = 30
_SHOW_EVERY_S = 0.1
_BYTES_PER_MB = 1e6


class Bar:
    """A progress bar in one line of a terminal; elsewhere it shows nothing."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._shown_s = 0.0
        self._used = False

    def __call__(self, doing: str, done: float) -> None:
        """Show that ``done`` of all, 0 to 1, is done."""
        now_s = time.monotonic()
        if not self._on or now_s - self._shown_s < _SHOW_EVERY_S:
            return
        self._shown_s, self._used = now_s, True
        full = round(_BAR_CHARACTERS * done)
        bar = "#" * full + "-" * (_BAR_CHARACTERS - full)
        room = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r" + f"[{bar}] {100 * done:3.0f} %  {doing}".ljust(room)[:room])
        sys.stderr.flush()

    def end(self) -> None:
        """Clear the line."""
        if self._used:
            sys.stderr.write("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r")
            sys.stderr.flush()


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: arguments behind ``build``.

    Returns:
        0.

    Raises:
        Ha2gError: it cannot be compiled; one line says why.
    """
    parser = Parser(
        prog="ha2g-live build",
        description="Compile a model for a GPU now, so that the first start does not have to.",
    )
    parser.add_argument("--engine", choices=("tensorrt",), default="tensorrt")
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="a model, or a folder of `ha2g-live import`"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0])
    parser.add_argument(
        "--max-batch",
        type=int,
        default=DEFAULT_MAX_BATCH,
        metavar="N",
        help=f"most streams in one step ({DEFAULT_MAX_BATCH}); the engine opens plans of "
        f"{DEFAULT_MAX_BATCH}",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to put it, in place of the cache"
    )
    options = parser.parse_args(argv)
    module = find_module()
    path = model_path(options.model)
    spec = read_spec(path)
    started_s, bar = time.perf_counter(), Bar()
    try:
        plan = plan_of(
            path, options.precision, options.max_batch, options.out, module=module, progress=bar
        )
    finally:
        bar.end()
    took_s = time.perf_counter() - started_s
    inspect_plan(plan, spec, module)
    verb = f"compiled in {took_s:.1f} s" if plan.made_now else "was compiled before"
    say(
        f"{spec.name} {spec.version}, {options.precision}, up to {options.max_batch} streams, "
        f"{verb} by {module.__name__} {module.__version__} for {plan.target}: "
        f"{len(plan.content) / _BYTES_PER_MB:.1f} MB"
        + (", but it could not be kept" if plan.path is None else f" in {plan.path}")
    )
    return 0
