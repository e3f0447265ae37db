"""The table of an evaluation, as Markdown."""

from __future__ import annotations

import math
from typing import Any

from ha2g_live.training.people import span

_BOTH = ("_left", "_right")

LINES: tuple[tuple[str, str, str], ...] = (
    ("mean speed, m/s", "speed_mean", ".2f"),
    ("median speed, m/s", "speed_median", ".2f"),
    ("p95 speed, m/s", "speed_p95", ".2f"),
    ("path, m/min", "path_m_per_min", ".0f"),
    ("share of time < .05 m/s", "still_share", ".2f"),
    ("speed peaks a minute", "peaks_per_min", ".0f"),
    ("median peak of an episode, m/s", "episode_peak", ".2f"),
    ("episodes two-handed", "two_handed", ".2f"),
    ("correlation of left and right speed", "speed_correlation", ".2f"),
    ("moving while the other hand is < .1 m/s", "alone_share", ".2f"),
    ("wrist height over shoulder, p5, m", "height_p5", ".2f"),
    ("wrist height over shoulder, p95, m", "height_p95", ".2f"),
    ("jerk, mean, m/s^3", "jerk_mean", ".0f"),
    ("jerk, p95, m/s^3", "jerk_p95", ".0f"),
    ("head, p50, deg/s", "head_p50", ".0f"),
    ("head, p95, deg/s", "head_p95", ".0f"),
    ("fingers, deg/s", "finger_speed", ".0f"),
    ("amplitude over the planner's", "amplitude", ".2f"),
    ("onsets on speed peaks, over shifts in turns", "alignment", "+.3f"),
    ("... z", "z", ".1f"),
    ("... at the best lag", "best_alignment", "+.3f"),
    ("... z", "best_z", ".1f"),
    ("... that lag, s", "best_lag_s", ".2f"),
    ("... over shifts of the whole recording", "whole_alignment", "+.3f"),
    ("published beat consistency (people are at chance)", "beat_consistency", ".3f"),
    ("correlation of speed and onset strength", "correlation", ".2f"),
    ("... lag, s", "correlation_lag_s", ".2f"),
    ("... by chance", "correlation_chance", ".2f"),
    ("speech onset to movement, s", "onset_to_movement_s", ".2f"),
    ("... share within 250 ms", "moved_within_250ms", ".2f"),
    ("... by chance", "moved_chance", ".2f"),
    ("last word to below .25 m/s, s", "below_25_s", ".2f"),
    ("last word to below .10 m/s, s", "below_10_s", ".2f"),
    ("last word to rest, s", "rest_s", ".2f"),
    ("shown behind the sound live, s", "delay_s", ".2f"),
    ("false gestures a minute without speech", "false_per_min", ".2f"),
    ("FGD to the planner", "fgd", ".1f"),
    ("... floor: two halves of the planner", "fgd_floor", ".1f"),
    ("... over the floor", "fgd_over_floor", ".2f"),
    ("diversity", "diversity", ".1f"),
    ("near copies within a minute", "repetition", ".2f"),
    ("same gesture within a minute", "repeated_choices", ".2f"),
    ("styles told apart", "style_accuracy", ".2f"),
    ("... by chance", "style_chance", ".2f"),
    ("drift of speed over an hour, share", "drift_speed_per_hour", "+.2f"),
    ("... p", "drift_speed_p", ".2f"),
    ("drift of the pose, deg", "drift_pose_deg", ".2f"),
    ("... by chance", "drift_pose_usual_deg", ".2f"),
)
"""(for people, name of the figure, format)."""
_NO_SPAN = {"z", "best_lag_s", "moved_chance", "correlation_chance", "correlation_lag_s"}


def table(scores: dict[str, Any]) -> str:
    """Markdown: all figures of the main rows, then every style of the planner and the model.

    Args:
        scores: what ``evaluate`` gives.
    """
    rows = {row["name"]: row for row in scores["rows"]}
    default = f"model, {scores['default_style']}"
    styles = [name for name in rows if ", " in name and not name.endswith("shuffled audio")]
    main = [name for name in rows if name not in styles]
    columns = {name: rows[name] for name in ([default] if default in rows else []) + main}
    people = {name: scores["people"][name] for name in ("Z", "B")}
    kinds = sorted(
        {key for row in rows.values() for key in row if key.startswith("false_per_min_")}
    )
    lines = [*LINES]
    at = [name for _, name, _ in lines].index("false_per_min") + 1
    lines[at:at] = [
        (f"... {key.removeprefix('false_per_min_').replace('_', ' ')}", key, ".2f") for key in kinds
    ]
    text = [
        f"Model {scores['model']}, {scores['streams']} streams, {scores['minutes']:.0f} minutes of "
        f"the split {scores['split']}. Left / right wrist. In brackets: whether the model's "
        "default style lies within the span of the people.",
        "",
        *_grid({**people, **columns}, lines, default),
        "",
        "Every style of the planner (P) and of the model (M):",
        "",
        *_grid(
            {
                f"{'P' if name.startswith('planner') else 'M'} {name.partition(', ')[2]}": rows[
                    name
                ]
                for name in sorted(styles, key=lambda name: name.partition(", ")[2::-2])
            },
            lines,
            "",
        ),
    ]
    return "\n".join(text)


def _grid(
    columns: dict[str, dict[str, float]], lines: list[tuple[str, str, str]], marked: str
) -> list[str]:
    heads = list(columns)
    text = [f"| | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for title, name, form in lines:
        cells = [_cell(columns[head], name, form) for head in heads]
        if all(cell in {"", "-"} for cell in cells):
            continue
        if marked in heads and name not in _NO_SPAN:
            cells[heads.index(marked)] += _inside(columns[marked], name, form)
        text.append(f"| {title} | {' | '.join(cells)} |")
    return text


def _cell(row: dict[str, float], name: str, form: str) -> str:
    names = [name] if name in row else [name + side for side in _BOTH if name + side in row]
    return " / ".join(_number(row[key], form) for key in names)


def _number(value: float, form: str) -> str:
    if math.isnan(value):
        return "-"
    return "never" if math.isinf(value) else format(value, form)


def _inside(row: dict[str, float], name: str, form: str) -> str:
    """Compared as printed: the figures of the people are known to those digits only."""
    low, high = span(name)
    values = [row[key] for key in (name, *(name + side for side in _BOTH)) if key in row]
    if low == high or not (low <= high) or not values or not all(map(math.isfinite, values)):
        return ""
    return " (in)" if all(low <= float(format(v, form)) <= high for v in values) else " (out)"
