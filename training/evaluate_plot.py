"""The pictures of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ha2g_live.realtime.errors import MissingExtra
from ha2g_live.training.alignment import LAGS_S, lag_name
from ha2g_live.training.measures import FPS, motion_curves
from ha2g_live.training.people import ALIGNMENT_SPAN, span
from ha2g_live.training.playback import MEASURED_FPS
from ha2g_live.training.rows import Row

_BARS = (
    ("mean speed, m/s", "speed_mean"),
    ("p95 speed, m/s", "speed_p95"),
    ("path, m/min", "path_m_per_min"),
    ("still share", "still_share"),
    ("peaks a minute", "peaks_per_min"),
    ("two-handed", "two_handed"),
    ("left-right correlation", "speed_correlation"),
    ("height p5, m", "height_p5"),
    ("height p95, m", "height_p95"),
    ("mean jerk, m/s³", "jerk_mean"),
    ("p95 jerk, m/s³", "jerk_p95"),
    ("head p50, deg/s", "head_p50"),
)
_PEOPLE, _SPAN = "#3c4048", "#dfe3ea"
_COLOURS = ("#2b6cb0", "#d9822b", "#b3b8c2", "#a8467f", "#2f9e7a", "#8c6d1f", "#5b8fd6", "#c0504d")
_CURVE_S = 45.0


def draw(out: Path, scores: dict[str, Any], rows: Sequence[Row]) -> None:
    """Write ``bars.png``, ``speeds.png``, ``alignment.png`` and ``height.png``.

    Args:
        out: folder, there already.
        scores: what ``evaluate`` gives.
        rows: the motion of the same rows.

    Raises:
        MissingExtra: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("the plots of ha2g-live evaluate", "matplotlib", "train") from error

    def picture(name: str, size: tuple[float, float]) -> Any:
        # A figure of its own, without pyplot: no global state, no display.
        figure = Figure(figsize=size, dpi=110, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        made.append((out / name, figure))
        return figure

    made: list[tuple[Path, Any]] = []
    found = {row["name"]: row for row in scores["rows"]}
    default = f"model, {scores['default_style']}"
    main = [n for n in (default, "planner", "mean pose", "published architecture") if n in found]
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(main)}
    _draw_bars(picture("bars.png", (14.0, 9.0)), found)
    motion = {row.name: row for row in rows}
    _draw_speeds(picture("speeds.png", (8.0, 4.5)), motion, main, colours)
    shuffled = "planner, shuffled audio"
    lagged = [*(name for name in main if name != "mean pose"), shuffled]
    _draw_lags(
        picture("alignment.png", (8.0, 4.5)),
        {name: found[name] for name in lagged if name in found},
        {**colours, shuffled: _PEOPLE},
    )
    _draw_height(picture("height.png", (12.0, 5.0)), motion, main, colours)
    for path, figure in made:
        figure.savefig(path)


def _draw_bars(figure: Any, rows: dict[str, dict[str, Any]]) -> None:
    """One panel for each figure, a bar for each row, the span of the people behind."""
    names = [name for name in rows if name not in {"mean pose", "planner, shuffled audio"}]
    for panel, (title, name) in enumerate(_BARS):
        axes = figure.add_subplot(3, 4, panel + 1)
        low, high = span(name)
        if math.isfinite(low):
            axes.axvspan(low, high, color=_SPAN, zorder=0)
            if low == high:
                axes.axvline(low, color=_PEOPLE, lw=1, zorder=0)
        for place, row in enumerate(names):
            keys = [k for k in (name, f"{name}_left", f"{name}_right") if k in rows[row]]
            value = float(np.mean([rows[row][k] for k in keys]))
            axes.barh(
                place,
                value if math.isfinite(value) else 0.0,
                height=0.7,
                color=_COLOURS[1] if row.startswith("planner") else _COLOURS[0],
            )
        axes.set_yticks(range(len(names)), names if panel % 4 == 0 else [], fontsize=7)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=9)
        axes.tick_params(axis="x", labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Grey: the span of real people. Blue: model; orange: planner.", fontsize=10)


def _draw_speeds(
    figure: Any, motion: dict[str, Row], main: list[str], colours: dict[str, str]
) -> None:
    axes = figure.add_subplot()
    edges = np.linspace(0.0, 2.0, 81)
    for name in main:
        speed = np.concatenate(
            [
                motion_curves(s.directions, MEASURED_FPS).speed_m_s.ravel()
                for s in motion[name].shown
            ]
        )
        above = [(speed > edge).mean() for edge in edges]
        axes.plot(edges, np.maximum(above, 1e-4), label=name, color=colours[name])
    low, high = span("speed_median")
    axes.plot([low, high], [0.5, 0.5], color=_PEOPLE, lw=4, solid_capstyle="butt", label="people")
    low, high = span("speed_p95")
    axes.plot([low, high], [0.05, 0.05], color=_PEOPLE, lw=4, solid_capstyle="butt")
    axes.set(yscale="log", ylim=(1e-3, 1.0), xlim=(0, 2), xlabel="wrist speed, m/s")
    axes.set_ylabel("share of time above")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def _draw_lags(figure: Any, rows: dict[str, dict[str, Any]], colours: dict[str, str]) -> None:
    axes = figure.add_subplot()
    axes.axhspan(*ALIGNMENT_SPAN, color=_SPAN, label="people, at lag 0")
    axes.axhline(0.0, color=_PEOPLE, lw=0.8)
    for name, row in rows.items():
        curve = [row[lag_name(lag_s)] for lag_s in LAGS_S]
        axes.plot(1000 * np.array(LAGS_S), curve, label=name, color=colours[name])
    axes.set(xlabel="hands taken earlier by, ms", ylabel="onsets on speed peaks, over chance")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def _draw_height(
    figure: Any, motion: dict[str, Row], main: list[str], colours: dict[str, str]
) -> None:
    """The right wrist's height in the first stream, and where somebody speaks."""
    names = [name for name in main if name != "mean pose"]
    for place, name in enumerate(names):
        axes = figure.add_subplot(len(names), 1, place + 1)
        row = motion[name]
        height = motion_curves(row.shown[0].directions, MEASURED_FPS).wrists_m[:, :, 1]
        height = height[: round(_CURVE_S * FPS)]
        time_s = np.arange(len(height)) / FPS
        for first, end in row.heard[0].turns_s:
            axes.axvspan(first, end, color=_SPAN)
        axes.plot(time_s, height[:, 0], color=colours[name], lw=1.0, label="left")
        axes.plot(time_s, height[:, 1], color=colours[name], lw=1.0, ls=":", label="right")
        axes.set_xlim(0, time_s[-1])
        axes.set_ylabel("height, m", fontsize=8)
        axes.set_title(f"{name}; grey: turns of speech", fontsize=9)
        axes.legend(frameon=False, fontsize=7, loc="upper right")
    axes.set_xlabel("s")
