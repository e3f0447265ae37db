"""Scores motion on a data set: a table, ``scores.json``, ``scores.csv`` and ``scores.png``.

    ha2g-live evaluate --dataset DIR --model CHECKPOINT

The ground truth is always scored beside the models, and once more against the sound of other
windows: a beat consistency that did not fall there would measure nothing.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ha2g_live.realtime.errors import ConfigError, Ha2gError
from ha2g_live.realtime.options import Parser
from ha2g_live.training.ha2g.autoencoder import (
    SLOPES,
    AutoencoderConfig,
    import_autoencoder,
    own_autoencoder,
)
from ha2g_live.training.ha2g.dataset import SPLITS, DataSet, open_dataset
from ha2g_live.training.ha2g.scores import Generator, Scored, Scores, score, select

_COLUMNS = (
    ("", "name", ""),
    ("FGD", "fgd", "{:.3f}"),
    ("BC", "bc", "{:.3f}"),
    ("diversity", "diversity", "{:.1f}"),
    ("jerk m/s3", "jerk", "{:.1f}"),
    ("jerk 95 %", "jerk_p95", "{:.1f}"),
    ("seam", "seam", "{:.2f}"),
    ("wrist m/s", "wrist_speed", "{:.3f}"),
)


def table(rows: Sequence[Scores]) -> str:
    """The rows as aligned text."""
    lines = [[heading for heading, _, _ in _COLUMNS]]
    for row in rows:
        values = asdict(row)
        lines.append([_cell(values[field], form) for _, field, form in _COLUMNS])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cell(value: str | float, form: str) -> str:
    if isinstance(value, str):
        return value
    return form.format(value) if math.isfinite(value) else "-"


def write(out: Path, rows: Sequence[Scored], about: dict[str, object]) -> None:
    """Write ``scores.json``, ``scores.csv`` and ``scores.png``."""
    from ha2g_live.training.ha2g.scores_plot import draw

    flat = [asdict(row.scores) for row in rows]
    # JSON has no NaN.
    plain = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in flat
    ]
    try:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**about, "rows": plain}, indent=2, allow_nan=False)
        (out / "scores.json").write_text(text + "\n", encoding="utf-8")
        with (out / "scores.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(flat[0]))
            writer.writeheader()
            writer.writerows(plain)
        draw(out / "scores.png", rows)
    except OSError as error:
        raise Ha2gError(f"cannot write the scores to {out} ({error})") from error


def load_models(paths: Sequence[Path], dataset: DataSet) -> list[Generator]:
    """Open the checkpoints."""
    from ha2g_live.training.ha2g.generator import load_generator

    return [load_generator(path, dataset) for path in paths]


def main(argv: list[str] | None = None) -> int:
    """The ``evaluate`` command."""
    parser = Parser(prog="ha2g-live evaluate", description="Score motion on a data set.")
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--model",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a checkpoint or its folder; may be repeated; the ground truth alone without one",
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="what to score on (test)")
    parser.add_argument(
        "--autoencoder",
        type=Path,
        metavar="FILE",
        help="published weights; without them one is trained and kept in the data set's folder",
    )
    parser.add_argument(
        "--slopes",
        type=float,
        nargs=2,
        default=list(SLOPES),
        metavar=("CONV", "LINEAR"),
        help="LeakyReLU slopes of that file, which its tensors do not tell (0.2 0.2)",
    )
    parser.add_argument(
        "--autoencoder-steps",
        type=int,
        metavar="N",
        help="train our own for N steps, unless the one that is kept was "
        f"({AutoencoderConfig().steps}, or any that is kept)",
    )
    parser.add_argument("--windows", type=int, metavar="N", help="score N random windows (all)")
    parser.add_argument(
        "--clips", type=int, default=32, metavar="N", help="whole clips for the seams (32)"
    )
    parser.add_argument("--seed", type=int, default=0, help="chooses windows and pairs (0)")
    parser.add_argument("--out", type=Path, default=Path("scores"), help="folder to write (scores)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(argv)
    if options.seed < 0:
        raise ConfigError(f"--seed must not be negative, got {options.seed}")
    if options.clips < 0:
        raise ConfigError(f"--clips must not be negative, got {options.clips}")

    dataset = open_dataset(options.dataset)
    split = dataset.split(options.split)
    if len(split) == 0:
        full = ", ".join(name for name in SPLITS if len(dataset.split(name))) or "none"
        raise ConfigError(
            f"the split {options.split!r} of {dataset.path} is empty: choose another with --split "
            f"(with windows: {full})"
        )
    selection = select(
        split, dataset.skeleton, options.windows, options.clips, options.seed, options.quiet
    )
    models = load_models(options.model, dataset)
    if options.autoencoder is not None:
        slopes = (options.slopes[0], options.slopes[1])
        features = import_autoencoder(
            options.autoencoder, dataset.skeleton.name, dataset.skeleton.pose_dim, slopes
        )
    else:
        steps = options.autoencoder_steps
        config = None if steps is None else AutoencoderConfig(steps=steps)
        features = own_autoencoder(dataset, config, options.quiet)
    rows = score(selection, features, models)
    whole = options.split == "test" and len(selection.windows) == len(split)
    check = features.check_line(rows[0].scores.diversity, whole)
    about = {
        "dataset": str(dataset.path),
        "split": options.split,
        "windows": len(selection.windows),
        "windows_in_split": len(split),
        "clips": len(selection.clips),
        "seed": options.seed,
        "autoencoder": features.source,
        "check": check,
    }
    write(options.out, rows, about)
    print(table([row.scores for row in rows]))
    print(f"\n{len(selection.windows)} of {len(split)} windows of {options.split}; {check}")
    print(f"wrote scores.json, scores.csv and scores.png to {options.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
