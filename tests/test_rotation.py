"""Rotations as the kernels count them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ha2g_live.realtime.rotation import (
    Vec,
    cross,
    dot,
    length,
    rotate,
    scaled,
    swing,
    turned,
    unit,
    vector_between,
    vector_rate,
)

AXES = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, 0.0, -1.0)]


def random_vector(rng: Any) -> Vec:
    x, y, z = rng.normal(size=3).tolist()
    return (x, y, z)


def some_units(seed: int) -> list[Vec]:
    rng = np.random.default_rng(seed)
    return [*AXES, *(unit(random_vector(rng)) for _ in range(40))]


def test_both_shortest_turns_take_a_to_b() -> None:
    for a, b in zip(some_units(0), some_units(1)[::-1], strict=True):
        np.testing.assert_allclose(rotate(swing(a, b), a), b, atol=1e-12)
        turn = vector_between(a, b)
        np.testing.assert_allclose(turned(a, turn), b, atol=1e-12)
        np.testing.assert_allclose(length(turn), math.acos(dot(a, b)), atol=1e-7)
        assert dot(turn, a) == pytest.approx(0.0, abs=1e-12)


def test_opposite_vectors_are_half_a_turn_apart() -> None:
    for a in some_units(2):
        back = scaled(-1.0, a)
        turn = vector_between(a, back)
        assert length(turn) == pytest.approx(math.pi)
        assert dot(turn, a) == pytest.approx(0.0, abs=1e-12)
        np.testing.assert_allclose(rotate(swing(a, back), a), back, atol=1e-12)


def test_no_turn_between_a_vector_and_itself() -> None:
    for a in some_units(3):
        np.testing.assert_allclose(vector_between(a, a), 0.0, atol=1e-12)
        assert turned(a, (0.0, 0.0, 0.0)) == a


def test_the_rate_of_a_rotation_vector_gives_its_angular_velocity() -> None:
    """A vector carried along moves as the angular velocity says, by central differences."""
    rng, h = np.random.default_rng(4), 1e-5
    for a in some_units(5):
        turn, angular = scaled(0.8, random_vector(rng)), random_vector(rng)
        if length(turn) > math.pi:
            continue
        rate = np.array(vector_rate(turn, angular))
        before, after = (turned(a, tuple(np.array(turn) + s * h * rate)) for s in (-1, 1))
        moved = (np.array(after) - np.array(before)) / (2.0 * h)
        np.testing.assert_allclose(moved, cross(angular, turned(a, turn)), atol=1e-8)
