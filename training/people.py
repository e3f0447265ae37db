"""Figures of real people, to stand beside a model's.

Two fully tracked speakers, measured with the definitions of ``measures``, ``alignment`` and
``promptness``: Z, 8.7 minutes of monologue in four takes, of which one is calm and one lively, and
B, one fluent take of 63 s. They are few: what counts is the span that they cover, not the mean.
"""

from __future__ import annotations

import math

PEOPLE: dict[str, dict[str, float | tuple[float, float]]] = {
    "Z, calm take": {
        "speed_mean": (0.27, 0.26),
        "speed_median": (0.15, 0.12),
        "speed_p95": (0.85, 0.89),
        "path_m_per_min": (16.0, 16.0),
        "still_share": (0.32, 0.33),
        "peaks_per_min": (52.0, 44.0),
        "episode_peak": (0.83, 0.82),
        "two_handed": (0.89, 1.0),
        "speed_correlation": 0.88,
        "alone_share": 0.04,
        "height_p5": -0.50,
        "height_p95": -0.18,
        "jerk_mean": 27.0,
        "jerk_p95": 100.0,
    },
    "Z, lively take": {
        "speed_mean": (0.40, 0.41),
        "speed_median": (0.32, 0.32),
        "speed_p95": (1.10, 1.11),
        "path_m_per_min": (24.0, 25.0),
        "still_share": (0.13, 0.15),
        "peaks_per_min": (87.0, 78.0),
        "episode_peak": (0.92, 1.03),
        "two_handed": (0.93, 0.96),
        "speed_correlation": 0.84,
        "alone_share": 0.03,
        "height_p5": -0.50,
        "height_p95": -0.07,
        "jerk_mean": 46.0,
        "jerk_p95": 152.0,
    },
    "Z": {
        "speed_mean": (0.36, 0.36),
        "speed_median": (0.26, 0.25),
        "speed_p95": (1.04, 1.04),
        "path_m_per_min": (22.0, 22.0),
        "still_share": (0.20, 0.20),
        "peaks_per_min": (73.0, 68.0),
        "episode_peak": (0.87, 0.97),
        "two_handed": (0.95, 0.96),
        "speed_correlation": 0.81,
        "height_p5": -0.50,
        "height_p95": -0.10,
        "jerk_mean": 40.0,
        "jerk_p95": 134.0,
        "alignment": 0.056,
        "z": 3.9,
        "best_lag_s": 0.0,
        "correlation": 0.30,
        "correlation_lag_s": 0.0,
        "correlation_chance": 0.12,
        "onset_to_movement_s": -0.03,
        "moved_within_250ms": 0.75,
        "moved_chance": 0.15,
        "below_25_s": 0.4,
        "below_10_s": 1.0,
        "rest_s": 1.5,
    },
    "B": {
        "speed_mean": (0.54, 0.53),
        "speed_median": (0.43, 0.42),
        "speed_p95": (1.38, 1.36),
        "path_m_per_min": (33.0, 32.0),
        "still_share": (0.02, 0.01),
        "peaks_per_min": (97.0, 100.0),
        "episode_peak": (1.02, 0.98),
        "two_handed": (0.95, 0.96),
        "speed_correlation": 0.69,
        "alone_share": 0.04,
        "height_p5": -0.53,
        "height_p95": -0.10,
        "jerk_mean": 50.0,
        "jerk_p95": 138.0,
        "head_p50": 25.0,
        "head_p95": 55.0,
    },
}
"""Published reference figures; a pair is (left, right). Where Z was measured twice this is the
better alignment, and the lower share of turns that begin within 250 ms (75 to 86 %)."""
ALIGNMENT_SPAN = (0.041, 0.056)
"""Z's alignment as measured twice, with z 3.5 and 3.9."""


def figures(person: str) -> dict[str, float]:
    """One person's figures by the names that ``measures_of`` and ``alignment`` use."""
    flat: dict[str, float] = {}
    for name, value in PEOPLE[person].items():
        if isinstance(value, tuple):
            flat[f"{name}_left"], flat[f"{name}_right"] = value
        else:
            flat[name] = value
    return flat


def span(name: str) -> tuple[float, float]:
    """Lowest and highest figure of any person; both hands of a pair. NaN where nobody has it.

    Args:
        name: of a figure; a pair with or without ``_left`` or ``_right``.
    """
    base = name.removesuffix("_left").removesuffix("_right")
    values: list[float] = []
    for person in PEOPLE.values():
        value = person.get(base)
        if value is not None:
            values += value if isinstance(value, tuple) else (value,)
    return (min(values), max(values)) if values else (math.nan, math.nan)
