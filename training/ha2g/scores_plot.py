"""The picture of an evaluation: every number, the spread of beats, and one clip over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ha2g_live.realtime.errors import MissingExtra
from ha2g_live.realtime.timebase import POSE_FPS

if TYPE_CHECKING:
    from ha2g_live.training.ha2g.scores import Scored

_PANELS = (
    ("FGD", "fgd", "lower is better", "{:.3g}"),
    ("Beat consistency", "bc", "ground truth is the aim", "{:.3f}"),
    ("Diversity", "diversity", "ground truth is the aim", "{:.1f}"),
    ("Jerk, m/s³", "jerk", "ground truth is the aim", "{:.1f}"),
    ("Seam error", "seam", "1 is no seam", "{:.2f}"),
    ("Wrist speed, m/s", "wrist_speed", "ground truth is the aim", "{:.3f}"),
)
# Dark grey for what is true, light for its control, then colours that the colour-blind tell apart.
_TRUTH, _CONTROL = "#3c4048", "#b3b8c2"
_MODELS = ("#2b6cb0", "#d9822b", "#2f9e7a", "#a8467f", "#8c6d1f", "#5b8fd6", "#c0504d")
_CONTROL_ROW = 1
_MAX_CURVE_S = 30.0


def draw(path: Path, rows: Sequence[Scored]) -> None:
    """Write a .png.

    Args:
        path: where to.
        rows: the ground truth, its control, then the models.

    Raises:
        MissingExtra: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
        from matplotlib.patches import Patch
    except ImportError as error:
        raise MissingExtra("the plot of ha2g-live evaluate", "matplotlib", "train") from error

    colours = [_TRUTH, _CONTROL, *(_MODELS[i % len(_MODELS)] for i in range(len(rows) - 2))]
    layout = ConstrainedLayoutEngine(h_pad=0.09, hspace=0.06)
    # A figure of its own, without pyplot: no global state, no display.
    figure = Figure(figsize=(12, 8.4), dpi=110, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 6, height_ratios=(1.25, 1.0, 0.85))
    for column, panel in enumerate(_PANELS):
        _bars(figure.add_subplot(grid[0, column]), panel, rows, colours)
    _beats(figure.add_subplot(grid[1, :]), rows, colours)
    _curves(figure.add_subplot(grid[2, :]), rows, colours)
    marks = [
        Patch(color=colour, label=row.scores.name)
        for row, colour in zip(rows, colours, strict=True)
    ]
    figure.legend(
        handles=marks, loc="outside upper left", ncols=4, frameon=False, fontsize=10, handlelength=1
    )
    figure.savefig(path, format="png")


def _bars(
    axes: Any, panel: tuple[str, str, str, str], rows: Sequence[Scored], colours: list[str]
) -> None:
    title, field, aim, form = panel
    shown = [i for i in range(len(rows)) if field == "bc" or i != _CONTROL_ROW]
    values = [float(getattr(rows[i].scores, field)) for i in shown]
    heights = [value if math.isfinite(value) else 0.0 for value in values]
    bars = axes.bar(range(len(shown)), heights, color=[colours[i] for i in shown], width=0.72)
    texts = [form.format(value) if math.isfinite(value) else "none" for value in values]
    labels = axes.bar_label(bars, texts, padding=3, fontsize=8.5, color=_TRUTH)
    for label in labels:  # keeps the dashed line off the figures
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    if math.isfinite(values[0]) and values[0] > 0.0:
        axes.axhline(values[0], color=_TRUTH, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.set_ylim(0.0, 1.15 * max(heights) if max(heights) > 1e-9 else 1.0)
    axes.set_xlim(-0.7, max(len(shown) - 0.3, 1.7))
    axes.set_title(title, fontsize=10.5, loc="left", color=_TRUTH)
    axes.set_xlabel(aim, fontsize=8.5, color="#6b7280", loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    _plain(axes, left=False)


def _beats(axes: Any, rows: Sequence[Scored], colours: list[str]) -> None:
    edges = np.linspace(0.0, 1.0, 26)
    for i, (row, colour) in enumerate(zip(rows, colours, strict=True)):
        found = row.beats[~np.isnan(row.beats)]
        share = np.histogram(found, edges)[0] / max(1, len(found))
        axes.stairs(
            share,
            edges,
            color=colour,
            linewidth=3.4 if i == 0 else 1.6,  # seen also where a model lies on top of it
            fill=i == _CONTROL_ROW,
            alpha=0.55 if i == _CONTROL_ROW else 1.0,
            zorder=1 if i == _CONTROL_ROW else 3,
        )
        if len(found):
            axes.axvline(found.mean(), color=colour, linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(bottom=0.0)
    axes.set_title("Beat consistency of each window", fontsize=10.5, loc="left", color=_TRUTH)
    axes.set_xlabel("beat consistency (dashed: mean)", fontsize=9, color="#6b7280")
    axes.set_ylabel("share of windows", fontsize=9, color="#6b7280")
    _plain(axes)


def _curves(axes: Any, rows: Sequence[Scored], colours: list[str]) -> None:
    axes.set_title("Wrist speed in one clip", fontsize=10.5, loc="left", color=_TRUTH)
    _plain(axes)
    if not len(rows[0].wrist_speed_m_s):
        axes.text(0.5, 0.5, "no clip is longer than a window", ha="center", va="center")
        axes.set_xticks([])
        axes.set_yticks([])
        return
    limit = int(_MAX_CURVE_S * POSE_FPS)
    for row, colour in zip(rows, colours, strict=True):
        speed = row.wrist_speed_m_s[:limit]
        time_s = (np.arange(len(speed)) + 0.5) / POSE_FPS
        width = 3.0 if colour == _TRUTH else 1.4
        axes.plot(time_s, speed, color=colour, linewidth=width, solid_capstyle="round")
    axes.set_xlim(0.0, min(len(rows[0].wrist_speed_m_s), limit) / POSE_FPS)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("time, s", fontsize=9, color="#6b7280")
    axes.set_ylabel("m/s", fontsize=9, color="#6b7280")


def _plain(axes: Any, left: bool = True) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines["left"].set_visible(left)
    axes.spines[["left", "bottom"]].set_color("#9ca3af")
    axes.tick_params(labelsize=8.5, colors="#6b7280")
