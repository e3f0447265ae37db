"""How soon the hands follow: from the first sound to movement, from the last word to rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ha2g_live.training.hearing import TURN_PAUSE_S, Heard
from ha2g_live.training.measures import FPS, Bools, Curves, runs

F64 = npt.NDArray[np.float64]

_STARTS_BEFORE_S, _STARTS_WITHIN_S = 0.5, 3.0
_START_M_S, _START_HOLD_S, _START_STILL_S = 0.1, 0.1, 0.3
_REST_M_S, _REST_HOLD_S = 0.05, 0.5
_LEAST_SILENCE_AFTER_S = 3.0
_RANDOM_STARTS = 50


def starts(
    moved: Sequence[Curves], heard: Sequence[Heard], rng: np.random.Generator
) -> dict[str, float]:
    """From the first sound after at least 1.5 s of silence to the first movement.

    Movement begins where the faster wrist, after 300 ms below 0.1 m/s, rises above it and stays so
    for 100 ms; it is looked for from half a second before the sound until 3 s after. Turns
    at whose sound the hands were moving all the while are left out; those without any movement
    count as infinitely late. Chance is the share within 250 ms of random moments.
    """
    found: list[float] = []
    by_chance: list[float] = []
    for curve, voice in zip(moved, heard, strict=True):
        rises = _rises_s(curve.speed_m_s.max(axis=1))
        length_s = min(voice.duration_s, len(curve.speed_m_s) / FPS)
        before = 0.0
        for first, end in voice.turns_s:
            if first - before >= TURN_PAUSE_S - 1e-9 and first + _STARTS_WITHIN_S <= length_s:
                delay = _delay_s(curve, rises, first)
                if delay is not None:
                    found.append(delay)
            before = end
        last_s = length_s - _STARTS_WITHIN_S
        for moment in rng.uniform(_STARTS_BEFORE_S, max(last_s, _STARTS_BEFORE_S), _RANDOM_STARTS):
            delay = _delay_s(curve, rises, float(moment))
            if delay is not None:
                by_chance.append(delay)
    return {
        "onset_to_movement_s": float(np.median(found)) if found else float("nan"),
        "moved_within_250ms": _share_within(found),
        "moved_chance": _share_within(by_chance),
        "starts": float(len(found)),
    }


def _rises_s(speed: F64) -> F64:
    """Times at which a (frames,) speed, after stillness, begins to be above 0.1 m/s."""
    still = runs(speed <= _START_M_S, round(_START_STILL_S * FPS))
    ends_of_still = {end for _, end in still}
    long = runs(speed > _START_M_S, round(_START_HOLD_S * FPS))
    return np.array([first / FPS for first, _ in long if first in ends_of_still])


def _delay_s(curve: Curves, rises: F64, moment_s: float) -> float | None:
    """First rise near a moment, from it; None where the hands were moving and went on."""
    from_s = moment_s - _STARTS_BEFORE_S
    near = rises[(rises >= from_s) & (rises <= moment_s + _STARTS_WITHIN_S)]
    if len(near):
        return float(near[0] - moment_s)
    first, end = (max(0, round(t * FPS)) for t in (from_s, moment_s + _STARTS_WITHIN_S))
    moving = (curve.speed_m_s[first:end].max(axis=1) > _START_M_S).mean()
    return None if moving > 0.5 else float("inf")


def _share_within(delays: list[float]) -> float:
    return float((np.abs(delays) <= 0.25).mean()) if delays else float("nan")


def ends(moved: Sequence[Curves], heard: Sequence[Heard]) -> dict[str, float]:
    """Median times from the end of a turn, before at least 3 s of silence, to slower hands.

    To the first moment below 0.25 and below 0.1 m/s, and to the beginning of the first half second
    below 0.05 m/s, of the faster wrist. What does not happen before the next turn is infinite.
    """
    found: dict[str, list[float]] = {"below_25_s": [], "below_10_s": [], "rest_s": []}
    for curve, voice in zip(moved, heard, strict=True):
        speed = curve.speed_m_s.max(axis=1)
        length_s = min(voice.duration_s, len(speed) / FPS)
        nexts = [first for first, _ in voice.turns_s[1:]] + [length_s]
        for (_, end), until in zip(voice.turns_s, nexts, strict=True):
            if min(until, length_s) - end < _LEAST_SILENCE_AFTER_S:
                continue
            after = speed[round(end * FPS) : round(min(until, length_s) * FPS)]
            found["below_25_s"].append(_first_s(after < 0.25, 1))
            found["below_10_s"].append(_first_s(after < 0.1, 1))
            found["rest_s"].append(_first_s(after < _REST_M_S, round(_REST_HOLD_S * FPS)))
    medians = {
        name: float(np.median(times)) if times else float("nan") for name, times in found.items()
    }
    return {**medians, "ends": float(len(found["rest_s"]))}


def _first_s(mask: Bools, least: int) -> float:
    where = runs(mask, least)
    return where[0][0] / FPS if where else float("inf")
