"""Times a window of the published network: PyTorch eager against ONNX Runtime, in one run.

    python -m ha2g_live.benchmarks.windows [--model FOLDER] [--threads N] [--json FILE]

Without a model the network has the published sizes and weights drawn from a generator, which take
as long as trained ones. Calls are interleaved, so that a machine that slows down slows all of them.
Figures are medians and percentiles of one window (34 poses, 2.3 s of sound); ratios are of medians.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ha2g_live.engines import open_engine
from ha2g_live.engines.ted import SEED_FRAMES, WINDOW_COLUMNS, WINDOW_FRAMES
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.stats import machine
from ha2g_live.training.golden import SPEAKERS, WORDS, golden_network
from ha2g_live.training.ha2g.checkpoint import (
    FILE_NAME,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from ha2g_live.training.ha2g.export import export_window_model

CALLS = 60
EAGER = "PyTorch eager, as published"
FOLDED = "PyTorch eager, words folded"
ONNX = "ONNX Runtime"
ENGINE = "ONNX Runtime with seed and join"
Call = Callable[[], object]


def write_drawn(folder: Path) -> None:
    """An imported model of the published sizes with drawn weights."""
    network, discriminator = golden_network("benchmark", "expressive")
    speakers = tuple(f"speaker {n}" for n in range(SPEAKERS))
    words = tuple(f"word {n}" for n in range(WORDS))
    checkpoint = Checkpoint(
        network, discriminator, speakers, words, "start", "clip", True, 0, "drawn weights"
    )
    save_checkpoint(folder / FILE_NAME, checkpoint)
    export_window_model(checkpoint, folder / "model.onnx", "drawn weights")


def calls(folder: Path, threads: int) -> dict[str, Call]:
    """Everything that is timed, by name."""
    torch.set_num_threads(threads)
    network = load_checkpoint(folder).network
    rng = np.random.default_rng(0)
    engine = open_engine("onnx", folder, threads)
    spec = engine.spec
    audio = rng.uniform(-1, 1, (1, WINDOW_COLUMNS, 128)).astype(np.float32)
    style, noise = spec.style_vector(), np.zeros((1, spec.noise_size), np.float32)
    given = np.zeros((1, WINDOW_FRAMES, network.skeleton.pose_dim), np.float32)
    known = np.zeros((1, WINDOW_FRAMES), np.float32)
    known[:, :SEED_FRAMES] = 1.0
    inputs = audio, style, noise, given, known

    decibels = torch.from_numpy((audio - 1.0) * 40.0).transpose(1, 2)
    words, speaker = torch.zeros(1, WINDOW_FRAMES, dtype=torch.int64), torch.tensor([0])
    seed, flags = torch.from_numpy(given), torch.from_numpy(known)

    def eager() -> None:
        with torch.inference_mode():
            network(decibels, words, speaker, seed, flags)

    folded, model = (_windows(name, folder, threads) for name in ("torch", "onnx"))
    state = spec.initial_state()
    return {
        EAGER: eager,
        FOLDED: lambda: folded.predict(*inputs),
        ONNX: lambda: model.predict(*inputs),
        ENGINE: lambda: engine.step(audio, style, noise, state),
    }


def _windows(name: str, folder: Path, threads: int) -> Any:
    """The window model inside an engine."""
    return open_engine(name, folder, threads)._model  # type: ignore[attr-defined]


def measure(timed: dict[str, Call], count: int) -> dict[str, Any]:
    """Time ``count`` interleaved calls of each; milliseconds."""
    taken_ms = {name: np.empty(count) for name in timed}
    for i in range(-3, count):
        for name, call in timed.items():
            started = time.perf_counter_ns()
            call()
            if i >= 0:
                taken_ms[name][i] = (time.perf_counter_ns() - started) / 1e6
        print(f"\r{max(0, 100 * i // count):3d} %", end="", file=sys.stderr, flush=True)
    print("\r     \r", end="", file=sys.stderr)
    figures = {
        name: dict(zip(("p50", "p95", "p99"), np.percentile(taken, (50, 95, 99)), strict=True))
        for name, taken in taken_ms.items()
    }
    ratios = {
        f"{slow} / {ONNX}": figures[slow]["p50"] / figures[ONNX]["p50"] for slow in (EAGER, FOLDED)
    }
    return {"machine": machine(), "calls": count, "milliseconds": figures, "ratios": ratios}


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = Parser(
        prog="python -m ha2g_live.benchmarks.windows",
        description="Time a window of the published network.",
    )
    parser.add_argument("--model", type=Path, help="an imported model; drawn weights otherwise")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.model
        if folder is None:
            folder = Path(temporary)
            write_drawn(folder)
        report = measure(calls(folder, options.threads), max(5, options.calls))
    report["threads"] = options.threads
    host = report["machine"]
    print(
        f"{host['cpu']}, {host['cores']} cores, {host['os']}, Python {host['python']}; "
        f"{options.threads} thread(s)"
    )
    print(f"{'milliseconds a window':<34}{'p50':>9}{'p95':>9}{'p99':>9}")
    for name, row in report["milliseconds"].items():
        print(f"{name:<34}{row['p50']:>9.1f}{row['p95']:>9.1f}{row['p99']:>9.1f}")
    for name, ratio in report["ratios"].items():
        print(f"{name}: {ratio:.2f}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
