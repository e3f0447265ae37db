"""Times a window of the published network: PyTorch eager against ONNX Runtime, in one run.

    python -m ha2g_live.benchmarks.windows [--model FOLDER] [--threads N] [--json FILE]

Without a model the network has the published sizes and weights drawn from a generator, which take
as long as trained ones. Calls are interleaved. Figures are medians and percentiles of one window
(34 poses, 2.3 s of sound); ratios are of medians.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from ha2g_live.benchmarks.interleaved import Call, measure, ratios, show, write_json
from ha2g_live.engines import MODEL_FILE, open_engine
from ha2g_live.engines.ted import SEED_FRAMES, WINDOW_COLUMNS, WINDOW_FRAMES
from ha2g_live.engines.window import WindowEngine, WindowModel, seeded
from ha2g_live.realtime.errors import ModelError
from ha2g_live.realtime.features import decibels
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


def write_drawn(folder: Path) -> None:
    """An imported model of the published sizes with drawn weights."""
    network, discriminator = golden_network("benchmark", "expressive")
    speakers = tuple(f"speaker {n}" for n in range(SPEAKERS))
    words = tuple(f"word {n}" for n in range(WORDS))
    checkpoint = Checkpoint(
        network, discriminator, speakers, words, "start", "clip", True, 0, "drawn weights"
    )
    save_checkpoint(folder / FILE_NAME, checkpoint)
    export_window_model(checkpoint, folder / MODEL_FILE, "drawn weights")


def calls(folder: Path, threads: int) -> dict[str, Call]:
    """Everything that is timed, by name."""
    torch.set_num_threads(threads)
    network = load_checkpoint(folder).network
    rng = np.random.default_rng(0)
    engine = open_engine("onnx", folder, threads)
    spec = engine.spec
    audio = rng.uniform(-1, 1, (1, WINDOW_COLUMNS, 128)).astype(np.float32)
    style, noise = spec.style_vector(), np.zeros((1, spec.noise_size), np.float32)
    given, known = seeded(np.zeros((1, SEED_FRAMES, network.skeleton.pose_dim), np.float32))
    inputs = audio, style, noise, given, known

    spectrogram = torch.from_numpy(decibels(audio)).transpose(1, 2)
    words, speaker = torch.zeros(1, WINDOW_FRAMES, dtype=torch.int64), torch.tensor([0])
    seed, flags = torch.from_numpy(given), torch.from_numpy(known)

    def eager() -> None:
        with torch.inference_mode():
            network(spectrogram, words, speaker, seed, flags)

    folded, model = (_windows(name, folder, threads) for name in ("torch", "onnx"))
    state = spec.initial_state()
    return {
        EAGER: eager,
        FOLDED: lambda: folded.predict(*inputs),
        ONNX: lambda: model.predict(*inputs),
        ENGINE: lambda: engine.step(audio, style, noise, state),
    }


def _windows(name: str, folder: Path, threads: int) -> WindowModel:
    """The window model inside an engine."""
    engine = open_engine(name, folder, threads)
    if not isinstance(engine, WindowEngine):
        raise ModelError(f"{folder} has no windows: import a published model")
    return engine.model


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
        count = max(5, options.calls)
        figures = measure(calls(folder, options.threads), count, unit_s=1e-3, warm_ups=3)
    report = {
        "machine": machine(),
        "threads": options.threads,
        "calls": count,
        "milliseconds": figures,
        "ratios": ratios(figures, ((EAGER, ONNX), (FOLDED, ONNX))),
    }
    print(f"one window of 34 poses, {options.threads} thread(s)")
    show(report, "milliseconds", decimals=2)
    write_json(options.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
