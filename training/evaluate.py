"""Scores the live model on speakers and clips it was never trained on.

    ha2g-live evaluate

reads ``./corpus`` and ``./run/model.onnx`` (the bundled model where there is none) and writes
``table.md``, ``scores.json`` and plots. Beside the model stand real people, the planner whose
motion it learnt, the planner's motion to the wrong voices, and the mean pose.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ha2g_live.engines import BUNDLED_MODEL
from ha2g_live.engines.base import REST
from ha2g_live.realtime.errors import ConfigError, Ha2gError
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.skeleton import MEAN_DIRECTION, normalise
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.drift import drift
from ha2g_live.training.evaluate_plot import draw
from ha2g_live.training.evaluate_table import table
from ha2g_live.training.ha2g.autoencoder import AutoencoderConfig
from ha2g_live.training.hearing import Heard, hear
from ha2g_live.training.likeness import corpus_features, floor, windows_of
from ha2g_live.training.people import PEOPLE, figures
from ha2g_live.training.playback import MEASURED_FPS, at_fps
from ha2g_live.training.repetition import repeated_choices, typical_distance_m
from ha2g_live.training.rows import Begun, Job, Judge, Row, Shown, Stage, open_stage
from ha2g_live.training.separability import separability
from ha2g_live.training.trials import SPLITS, Trial, read_about, read_trials

NON_SPEECH = "non_speech"
PLANNER, SHUFFLED, MEAN_POSE = "planner", "planner, shuffled audio", "mean pose"
MODEL, PUBLISHED = "model", "published architecture"


def main(argv: list[str] | None = None) -> int:
    """The ``evaluate`` command: with ``--dataset`` that of the published system."""
    which = Parser(prog="ha2g-live evaluate", add_help=False, allow_abbrev=False)
    which.add_argument("--dataset")
    arguments = sys.argv[1:] if argv is None else argv
    if which.parse_known_args(arguments)[0].dataset is not None:
        from ha2g_live.training.ha2g import evaluate as published

        return published.main(arguments)
    return _main(arguments)


def _main(argv: list[str]) -> int:
    parser = Parser(
        prog="ha2g-live evaluate",
        description="Score the live model; with --dataset DIR, HA2G as published on a data set "
        "(see  ha2g-live evaluate --dataset DIR --help).",
    )
    parser.add_argument(
        "--corpus", type=Path, default=Path("corpus"), help="folder of the corpus (corpus)"
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="model to score (run/model.onnx, or the bundled one where that is missing)",
    )
    parser.add_argument(
        "--published",
        type=Path,
        metavar="FOLDER",
        help="HA2G as published, trained on the same corpus, as `ha2g-live import` wrote it",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("run/evaluation"), help="folder (run/evaluation)"
    )
    parser.add_argument("--split", choices=SPLITS, default=SPLITS[0], help="streams (held_out)")
    parser.add_argument("--minutes", type=float, metavar="N", help="of speech (the whole split)")
    parser.add_argument(
        "--drift-minutes", type=float, default=60.0, metavar="N", help="of one stream (60)"
    )
    parser.add_argument(
        "--autoencoder-steps", type=int, default=AutoencoderConfig().steps, metavar="N"
    )
    parser.add_argument("--seed", type=int, default=0, help="gestures, shifts and pairs (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(argv)
    if options.seed < 0:
        raise ConfigError(f"--seed must not be negative, got {options.seed}")
    if options.jobs < 1:
        raise ConfigError(f"--jobs must be 1 or more, got {options.jobs}")
    if not options.drift_minutes >= 0:
        raise ConfigError(f"--drift-minutes must not be negative, got {options.drift_minutes:g}")
    model = options.model or _usual_model()
    with open_stage(model, options.jobs) as stage:
        scores = evaluate(
            options.corpus,
            stage,
            options.out,
            split=options.split,
            minutes=options.minutes,
            published=options.published,
            drift_minutes=options.drift_minutes,
            config=AutoencoderConfig(steps=options.autoencoder_steps),
            seed=options.seed,
            jobs=options.jobs,
            quiet=options.quiet,
        )
    print(table(scores))
    print(f"wrote table.md, scores.json and plots to {options.out}", file=sys.stderr)
    return 0


def _usual_model() -> Path:
    own = Path("run") / "model.onnx"
    return own if own.is_file() else BUNDLED_MODEL


def evaluate(
    corpus: Path,
    stage: Stage,
    out: Path,
    *,
    split: str = SPLITS[0],
    minutes: float | None = None,
    published: Path | None = None,
    drift_minutes: float = 60.0,
    config: AutoencoderConfig | None = None,
    seed: int = 0,
    jobs: int = 1,
    quiet: bool = False,
) -> dict[str, Any]:
    """Score everything and write the files.

    Args:
        corpus: its folder.
        stage: the model.
        out: folder to write; keeps the autoencoder too.
        split: one of ``trials.SPLITS``.
        minutes: how much of it; all when left out.
        published: folder of a window model to score beside.
        drift_minutes: length of the stream on which drift is measured; 0 leaves it out.
        config: training of the autoencoder.
        seed: of the gestures, the shifts and the pairs.
        jobs: processes for the published model.
        quiet: no progress bars.

    Returns:
        What ``scores.json`` holds.

    Raises:
        Ha2gError: the corpus or a model cannot be read, or ``out`` cannot be written.
    """
    about = read_about(corpus)
    trials = read_trials(corpus, split, minutes)
    silent = read_trials(corpus, NON_SPEECH) if about["streams"].get(NON_SPEECH) else []
    features = corpus_features(corpus, out, config, quiet)
    heard = [hear(t.voice) for t in tqdm(trials, desc="voices", disable=quiet or None)]
    planned = [Shown(at_fps(t.directions), _planned_choices(t, about)) for t in trials]
    latents = {
        t.name: features.of(windows)
        if len(windows := windows_of(s.directions, MEASURED_FPS))
        else np.zeros((0, 1))
        for t, s in zip(trials, planned, strict=True)
    }
    typical_m = typical_distance_m([s.directions for s in planned], MEASURED_FPS)
    judge = Judge(features, latents, floor(list(latents.values()), seed), typical_m, seed)

    rows = planner_rows(trials, planned, heard, silent)
    rows += model_rows(stage, MODEL, trials, heard, silent, seed, quiet, styles=True)
    if published is not None:
        with open_stage(published, jobs) as other:
            rows += model_rows(other, PUBLISHED, trials, heard, silent, seed, quiet)
    found = [
        {"name": row.name, **judge.scores(row)}
        for row in tqdm(rows, desc="scores", disable=quiet or None)
    ]
    by_name = {row["name"]: row for row in found}
    _compare_with_planner(by_name)
    own = {
        row.name.removeprefix(f"{MODEL}, "): [s.directions for s in row.shown]
        for row in rows
        if row.name.startswith(f"{MODEL}, ")
    }
    by_style: dict[str, list[F32]] = {}
    for trial, shown in zip(trials, planned, strict=True):
        by_style.setdefault(trial.style, []).append(shown.directions)
    by_name[MODEL].update(separability(own, MEASURED_FPS, seed))
    by_name[PLANNER].update(separability(by_style, MEASURED_FPS, seed))
    if drift_minutes:
        style = stage.engine.spec.usual_style
        by_name[f"{MODEL}, {style}"].update(
            _drift(stage, style, trials, drift_minutes, seed, quiet)
        )
    scores = {
        "model": f"{stage.engine.spec.name} {stage.engine.spec.version}",
        "default_style": stage.engine.spec.usual_style,
        "split": split,
        "minutes": sum(trial.minutes for trial in trials),
        "streams": len(trials),
        "seed": seed,
        "autoencoder_steps": (config or AutoencoderConfig()).steps,
        "repetition_typical_m": typical_m,
        "people": {person: figures(person) for person in PEOPLE},
        "rows": found,
    }
    _write(out, scores, rows)
    return scores


# --- rows


def planner_rows(
    trials: Sequence[Trial],
    planned: Sequence[Shown],
    heard: Sequence[Heard],
    silent: Sequence[Trial],
) -> list[Row]:
    """The planner, its control with the next stream's voice, the mean pose, and each style."""
    names = [trial.name for trial in trials]
    still = normalise(MEAN_DIRECTION if not trials else _mean_pose(trials))
    without = _by_kind(silent, [Shown(at_fps(trial.directions)) for trial in silent])
    fixed = [Shown(np.broadcast_to(still, s.directions.shape).copy()) for s in planned]
    rows = [
        Row(PLANNER, planned, heard, names, without),
        Row(SHUFFLED, planned, [*heard[1:], *heard[:1]], names),
        Row(MEAN_POSE, fixed, heard, names),
    ]
    for style in sorted({trial.style for trial in trials}):
        which = [n for n, trial in enumerate(trials) if trial.style == style]
        rows.append(
            Row(
                f"{PLANNER}, {style}",
                [planned[n] for n in which],
                [heard[n] for n in which],
                names,
            )
        )
    return rows


def model_rows(
    stage: Stage,
    name: str,
    trials: Sequence[Trial],
    heard: Sequence[Heard],
    silent: Sequence[Trial],
    seed: int,
    quiet: bool,
    styles: bool = False,
) -> list[Row]:
    """A model on every stream in the style it was planned in, and on all of them in each style.

    Without ``styles`` only the first.
    """
    spec = stage.engine.spec
    plans: list[tuple[str, list[str], list[str]]] = [
        (
            name,
            [stage.style_of(trial) for trial in (*trials, *silent)],
            [trial.name for trial in trials],
        )
    ]
    for style in spec.styles if styles else ():
        alike = [trial.name for trial in trials if trial.style == style]
        plans.append(
            (
                f"{name}, {style}",
                [style] * (len(trials) + len(silent)),
                alike or [trial.name for trial in trials],
            )
        )
    rows = []
    for row_name, chosen, reference in plans:
        jobs = [
            Job(trial.samples, style, seed + n)
            for n, (trial, style) in enumerate(zip((*trials, *silent), chosen, strict=True))
        ]
        bar = tqdm(stage.show_all(jobs), total=len(jobs), desc=row_name, disable=quiet or None)
        shown = list(bar)
        rows.append(
            Row(
                row_name,
                shown[: len(trials)],
                heard,
                reference,
                _by_kind(silent, shown[len(trials) :]),
                spec.timing.delay_s,
            )
        )
    return rows


def _mean_pose(trials: Sequence[Trial]) -> F32:
    total = np.sum([trial.directions.sum(axis=0) for trial in trials], axis=0)
    return np.asarray(total, dtype=np.float32)


def _by_kind(trials: Sequence[Trial], shown: Sequence[Shown]) -> dict[str, list[Shown]]:
    kinds: dict[str, list[Shown]] = {}
    for trial, motion in zip(trials, shown, strict=True):
        kinds.setdefault(trial.kind, []).append(motion)
    return kinds


def _planned_choices(trial: Trial, about: dict[str, Any]) -> Begun | None:
    """The planner's gestures; None where they are not among the corpus's choices."""
    choices: list[str] = about["choices"]
    if trial.name not in about["streams"].get("unheard", []):
        return None
    return [
        (frame / 15.0, choices[trial.choice[frame]])
        for frame in np.flatnonzero(trial.age == 0)
        if 0 <= trial.choice[frame] < len(choices)
        and not choices[trial.choice[frame]].startswith(REST)
    ]


def _compare_with_planner(rows: dict[str, dict[str, Any]]) -> None:
    """Add the amplitude over the planner's, and FGD over its floor."""
    for name, row in rows.items():
        style = name.partition(", ")[2]
        planner = rows.get(f"{PLANNER}, {style}", rows[PLANNER])
        sides = ("speed_mean_left", "speed_mean_right")
        row["amplitude"] = sum(row[s] for s in sides) / max(sum(planner[s] for s in sides), 1e-9)
        row["fgd_over_floor"] = row["fgd"] / row["fgd_floor"]


def _drift(
    stage: Stage, style: str, trials: Sequence[Trial], minutes: float, seed: int, quiet: bool
) -> dict[str, float]:
    """Drift over one long stream, the voices one after the other and again."""
    wanted = round(minutes * 60 * SAMPLE_RATE_HZ)
    sound = np.concatenate([trial.samples for trial in trials])
    sound = np.tile(sound, -(-wanted // len(sound)))[:wanted]
    work = stage.show_all([Job(sound, style, seed)])
    (shown,) = tqdm(work, total=1, desc="drift", disable=quiet or None)
    found = drift(shown.directions, MEASURED_FPS)
    if shown.begun is not None:
        found["drift_repeated_choices"] = repeated_choices([shown.begun])
    return found


# --- files


def _write(out: Path, scores: dict[str, Any], rows: Sequence[Row]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_plain(scores), indent=1, allow_nan=False)
        (out / "scores.json").write_text(text + "\n", encoding="utf-8")
        (out / "table.md").write_text(table(scores) + "\n", encoding="utf-8")
        draw(out, scores, rows)
    except OSError as error:
        raise Ha2gError(f"cannot write the scores to {out} ({error})") from error


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: null, and "never" for a time that does not come."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "never"
    return value


if __name__ == "__main__":
    sys.exit(main())
