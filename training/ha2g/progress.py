"""What a training run shows of itself: a table of epochs and a plot of them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ha2g_live.realtime.errors import Ha2gError, MissingExtra
from ha2g_live.training.ha2g.settings import TERMS

COLUMNS = (
    *("epoch", "seconds", "batches", "total", *TERMS, "discriminator", "gradient"),
    *("val_regression", "fgd", "best"),
)
Row = dict[str, float]

_LINE, _SECOND, _MUTED = "#2a6fbb", "#d1682b", "#8a8f98"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one.

    Raises:
        Ha2gError: the disk is full or gone.
    """
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise Ha2gError(
            f"{path} cannot be written ({error}): make room, or choose another --out"
        ) from error


def write_log(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write all epochs as CSV; a term that did not count yet is left blank."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({name: _number(name, value) for name, value in row.items()})
    write_whole(path, text.getvalue().encode())


def _number(name: str, value: float) -> str:
    return str(int(value)) if name in ("epoch", "batches", "best") else f"{value:.9g}"


def plot(path: Path, rows: Sequence[Row], warmup_epochs: int, title: str) -> None:
    """Draw the curves of all epochs as a PNG.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("the plot of the losses", "matplotlib", "train") from error

    figure = Figure(figsize=(12.0, 6.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    panels: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
        (
            "Huber loss, sum of levels",
            (("regression", "training", _LINE), ("val_regression", "validation", _SECOND)),
        ),
        ("FGD on validation", (("fgd", "", _SECOND),)),
        ("GAN", (("gan", "generator", _LINE), ("discriminator", "discriminator", _SECOND))),
        (
            "contrastive with the text",
            (("contrast_high", "high feature", _LINE), ("contrast_low", "low feature", _SECOND)),
        ),
        ("divergence of z (KL)", (("kl", "", _LINE),)),
        ("style divergence", (("style", "", _LINE),)),
        ("physical", (("physical", "", _LINE),)),
        ("total, weighted", (("total", "", _LINE),)),
    )
    for axes, (name, curves) in zip(figure.subplots(2, 4).flat, panels, strict=True):
        _panel(axes, name, curves, rows, warmup_epochs)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_whole(path, buffer.getvalue())


def _panel(
    axes: Any,
    name: str,
    curves: Sequence[tuple[str, str, str]],
    rows: Sequence[Row],
    warmup_epochs: int,
) -> None:
    axes.set_title(name, fontsize=10, loc="left")
    drawn = 0
    lowest, highest = np.inf, -np.inf
    for column, label, colour in curves:
        points = [(row["epoch"], row[column]) for row in rows if column in row]
        if not points:
            continue
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, color=colour, lw=1.6, marker="o" if len(points) < 3 else "")
        axes.lines[-1].set_label(label)
        lowest, highest = min(lowest, *values), max(highest, *values)
        drawn += 1
    if not drawn:
        axes.text(0.5, 0.5, "not used yet", ha="center", va="center", transform=axes.transAxes)
        axes.texts[-1].set_color(_MUTED)
    elif lowest > 0.0 and highest > 10.0 * lowest:
        axes.set_yscale("log")
    if name.startswith("FGD"):
        best = [row for row in rows if row.get("best") and "fgd" in row]
        if best:
            epoch, fgd = best[-1]["epoch"], best[-1]["fgd"]
            axes.plot([epoch], [fgd], "o", color=_SECOND, ms=7)
            axes.lines[-1].set_label(f"best: {fgd:.4g}, epoch {epoch:.0f}")
            axes.legend(fontsize=8, frameon=False)
    elif drawn > 1:
        axes.legend(fontsize=8, frameon=False)
    last = max((row["epoch"] for row in rows), default=1.0)
    axes.set_xlim(0, max(last, 2.0) + 0.5)
    if 0 < warmup_epochs < last:  # from here on the GAN term counts
        axes.axvline(warmup_epochs + 0.5, color=_MUTED, lw=0.8, ls=":")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25, lw=0.6)
    axes.tick_params(labelsize=8, colors="#444444")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("epoch", fontsize=8)
