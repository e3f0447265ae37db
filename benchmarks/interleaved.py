"""Times calls side by side: interleaved, so that a machine that slows down slows all of them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ha2g_live.realtime.stats import machine

Call = Callable[[], object]
Figures = dict[str, dict[str, float]]


def measure(calls: Mapping[str, Call], count: int, unit_s: float, warm_ups: int) -> Figures:
    """Percentiles of ``count`` calls of each.

    Args:
        calls: what to time, by name.
        count: timed rounds.
        unit_s: what the figures count, 1e-3 for milliseconds.
        warm_ups: rounds before, not timed.
    """
    for _ in range(warm_ups):
        for call in calls.values():
            call()
    taken = {name: np.empty(count) for name in calls}
    for i in range(count):
        for name, call in calls.items():
            started_ns = time.perf_counter_ns()
            call()
            taken[name][i] = (time.perf_counter_ns() - started_ns) * 1e-9 / unit_s
        if i % max(1, count // 20) == 0 and sys.stderr.isatty():
            print(f"\r{100 * i // count:3d} %", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r     \r", end="", file=sys.stderr)
    return {
        name: dict(zip(("p50", "p95", "p99"), np.percentile(values, (50, 95, 99)), strict=True))
        for name, values in taken.items()
    }


def ratios(figures: Figures, pairs: tuple[tuple[str, str], ...]) -> dict[str, float]:
    """Median of the first over that of the second, for the pairs that were timed."""
    return {
        f"{slow} / {fast}": figures[slow]["p50"] / figures[fast]["p50"]
        for slow, fast in pairs
        if slow in figures
    }


def show(report: Mapping[str, Any], unit: str, decimals: int = 1) -> None:
    """Print the machine, a table of the figures, and the ratios.

    Args:
        report: "machine", figures under the unit's name, "ratios".
        unit: "milliseconds" or "microseconds".
        decimals: of a ratio.
    """
    print(machine_line(report["machine"]))
    print(f"{unit:<34}{'p50':>10}{'p95':>10}{'p99':>10}")
    for name, row in report[unit].items():
        print(f"{name:<34}{row['p50']:>10.1f}{row['p95']:>10.1f}{row['p99']:>10.1f}")
    for name, ratio in report["ratios"].items():
        print(f"{name}: {ratio:.{decimals}f}")


def machine_line(host: Mapping[str, Any] | None = None) -> str:
    """The machine, as a report names it."""
    host = machine() if host is None else host
    return f"{host['cpu']}, {host['cores']} cores, {host['os']}, Python {host['python']}"


def write_json(path: Path | None, report: Mapping[str, Any]) -> None:
    """Write the figures, if a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
