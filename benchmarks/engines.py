"""Engines side by side: time of a step by batch, and how many live streams that carries.

    python -m ha2g_live.benchmarks.engines [--batches 1,8,50,400] [--published] [--json FILE]

Every engine that can run here steps the same speech in turns with the others, so a slow moment of
the machine is everybody's. The rows "with features" also hear: sound to mel columns of every
stream, the chances, stacking and unstacking of states. A stream needs 15 steps a second. How many
streams an engine carries is found by larger and larger batches, until the slowest of a hundred
takes longer than there is time for. The memory is that of a process of its own for each row.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ha2g_live.benchmarks.interleaved import machine_line, write_json
from ha2g_live.engines import open_engine
from ha2g_live.engines.auto import engines_here
from ha2g_live.engines.base import Engine
from ha2g_live.realtime import stepper
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.features import silent_columns
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.stats import machine
from ha2g_live.realtime.timebase import POSE_FPS, samples_heard_at

BATCHES = (1, 8, 50, 100, 400)
WARM_UPS = 5
LARGER = 1.25
MOST_STREAMS = 4096
HEARING = ", with features"

Call = Callable[[], None]
Opened = tuple[str, Path | None, Engine]
"""An engine, its name, and the model it was opened with; None for the bundled one."""


def bound_call(engine: Engine, batch: int) -> Call:
    """The engine's own step, its buffers filled with what a stream hears."""
    bound = engine.bind(batch)
    rng = np.random.default_rng(0)
    bound.audio[:] = silent_columns(engine.spec.timing.columns)
    bound.audio += rng.uniform(0.0, 1.5, bound.audio.shape).astype(np.float32)
    if engine.spec.windows is None:
        bound.noise[:] = rng.gumbel(size=bound.noise.shape)
    return bound.run


def streams_call(engine: Engine, batch: int) -> Call:
    """All that the model's part of ``batch`` live streams takes, a pose frame of each."""
    clip = read_audio(demo_clip())
    rng = np.random.default_rng(0)
    sounds = [np.roll(clip, int(rng.integers(len(clip)))) for _ in range(batch)]
    styles = engine.spec.styles
    states = [stepper.initial_state(engine.spec, styles[n % len(styles)], n) for n in range(batch)]
    states = [state for _, state in stepper.step_together(engine, states)]

    def frame() -> None:
        nonlocal states
        step = states[0].next_step
        start, stop = samples_heard_at(step - 1), samples_heard_at(step)
        where = np.arange(start, stop) % len(clip)
        heard = [
            stepper.hear(sound[where], state) for sound, state in zip(sounds, states, strict=True)
        ]
        states = [state for _, state in stepper.step_together(engine, heard)]

    return frame


def measure(
    calls: dict[tuple[str, int], Call], rounds: int
) -> dict[tuple[str, int], dict[str, Any]]:
    """Times and processor share of each call, in turns."""
    times: dict[tuple[str, int], list[float]] = {name: [] for name in calls}
    busy: dict[tuple[str, int], list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(WARM_UPS):
            call()
    gc.collect()
    gc.freeze()  # as a live run does
    for n in range(rounds):
        for name, call in calls.items():
            cpu_s, started_s = time.process_time(), time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started_s)
            busy[name].append(time.process_time() - cpu_s)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{n + 1}/{rounds} rounds" + ("\n" if n + 1 == rounds else ""))
    return {
        name: {
            **{f"p{p}_ms": 1e3 * float(np.percentile(values, p)) for p in (50, 95, 99)},
            "max_ms": 1e3 * max(values),
            "cores": float(np.sum(busy[name]) / np.sum(values)),
        }
        for name, values in times.items()
    }


def rows(
    engines: dict[str, Opened], batches: list[int], rounds: int, threads: int
) -> list[dict[str, Any]]:
    """One row for each engine, batch and kind of call."""
    calls: dict[tuple[str, int], Call] = {}
    for title, (_, _, engine) in engines.items():
        for batch in batches:
            if engine.spec.windows is not None and batch > 8:
                continue  # a window of the published network takes 50 ms a stream
            calls[title, batch] = bound_call(engine, batch)
            if title == "onnx" and engine.spec.windows is None:
                calls[f"{title}{HEARING}", batch] = streams_call(engine, batch)
    found = measure(calls, rounds)
    made = []
    for (title, batch), figures in found.items():
        opened = engines[title.removesuffix(HEARING)]
        made.append(
            {
                "engine": title,
                "precision": opened[2].capabilities.precision,
                "batch": batch,
                **{key: round(value, 3) for key, value in figures.items()},
                "in time": figures["p99_ms"] < 1e3 * time_for(opened[2]),
                "memory_mb": memory_mb(opened, batch, threads, title.endswith(HEARING)),
            }
        )
    return made


def time_for(engine: Engine) -> float:
    """Seconds from one step of a stream to the next."""
    return engine.spec.timing.every_frames / POSE_FPS


def capacity(
    engines: dict[str, Opened], found: list[dict[str, Any]], rounds: int
) -> dict[str, int]:
    """The largest batch of each engine whose p99 lies inside its time."""
    in_time: dict[str, int] = {}
    for row in found:
        title = row["engine"]
        in_time[title] = max(in_time.get(title, 0), row["batch"] if row["in time"] else 0)
    for title, most in in_time.items():
        engine = engines[title.removesuffix(HEARING)][2]
        make = streams_call if title.endswith(HEARING) else bound_call
        limit = engine.capabilities.max_batch or MOST_STREAMS
        batch = most
        while batch and (batch := max(batch + 1, int(batch * LARGER))) <= limit:
            (figures,) = measure({(title, batch): make(engine, batch)}, rounds).values()
            if figures["p99_ms"] >= 1e3 * time_for(engine):
                break
            in_time[title] = batch
    return in_time


def memory_mb(opened: Opened, batch: int, threads: int, hearing: bool) -> int:
    """Peak memory of a process that does nothing but step this batch."""
    name, path, _ = opened
    told = [name, "" if path is None else str(path), str(batch), str(threads), str(int(hearing))]
    child = "import sys; from ha2g_live.benchmarks.engines import alone; alone(*sys.argv[1:])"
    command = [sys.executable, "-c", child, *told]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return round(float(done.stdout.split()[-1]) / 1e6)


def alone(name: str, path: str, batch: str, threads: str, hearing: str) -> None:
    """Step one batch some times and print the memory of this process, in bytes."""
    engine = open_engine(name, Path(path) if path else None, int(threads))
    call = (streams_call if int(hearing) else bound_call)(engine, int(batch))
    most = 0
    for _ in range(WARM_UPS):
        call()
        most = max(most, psutil.Process().memory_info().rss)
    print(most)


def table(report: dict[str, Any]) -> str:
    """The rows as Markdown."""
    lines = [
        "| engine | precision | streams in a batch | median ms | p95 | p99 | max | cores busy "
        "| memory MB | p99 in time |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        shown = " | ".join(f"{row[key]:.2f}" for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms"))
        lines.append(
            f"| {row['engine']} | {row['precision']} | {row['batch']} | {shown} | "
            f"{row['cores']:.2f} | {row['memory_mb']} | {'yes' if row['in time'] else 'no'} |"
        )
    streams = ", ".join(f"{name} {most}" for name, most in report["streams_in_time"].items())
    lines += [
        "",
        f"streams in time: {streams}",
        machine_line(report["machine"]),
    ]
    return "\n".join(lines)


def _opened(name: str, path: Path | None, threads: int) -> Opened:
    return name, path, open_engine(name, path, threads)


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = Parser(
        prog="python -m ha2g_live.benchmarks.engines",
        description="Time a step of every engine by batch.",
    )
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engines", help="names with commas (all that can run here)")
    parser.add_argument("--model", type=Path, help="a model of your own")
    parser.add_argument(
        "--other-model", type=Path, action="append", default=[], metavar="FILE",
        help="beside it on ONNX Runtime, for example one of `ha2g-live engines lower`",
    )  # fmt: skip
    parser.add_argument("--published", action="store_true", help="the published network, too")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(argv)
    batches = [max(1, int(text)) for text in options.batches.split(",")]
    names = options.engines.split(",") if options.engines else list(engines_here())
    with tempfile.TemporaryDirectory() as temporary:
        engines = {name: _opened(name, options.model, options.threads) for name in names}
        for path in options.other_model:
            engines[f"onnx {path.stem}"] = _opened("onnx", path, options.threads)
        found = rows(engines, batches, max(10, options.rounds), options.threads)
        if options.published:
            from ha2g_live.benchmarks.windows import write_drawn

            write_drawn(Path(temporary))
            published = {
                f"published network on {name}": _opened(name, Path(temporary), options.threads)
                for name in names
            }
            found += rows(published, [1, 8], 20, options.threads)
            engines |= published
        streams = capacity(engines, found, max(10, options.rounds))
    report = {
        "machine": machine(),
        "threads": options.threads,
        "rows": found,
        "streams_in_time": streams,
    }
    print(table(report))
    write_json(options.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
