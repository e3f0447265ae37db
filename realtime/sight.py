"""The directions of one frame as the solvers see them, and the best fit of a rigid part to them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ha2g_live.realtime.kernel import kernel
from ha2g_live.realtime.rotation import Quat, Vec, cross, dot
from ha2g_live.realtime.skeleton import BONE_COUNT
from ha2g_live.realtime.types import F32

_PRIOR = 1e-3
"""Pull of a rigid fit towards its parent's orientation; it decides only what is not shown."""
_SHORTEST = 1e-6


class Sight(NamedTuple):
    """One frame's directions, Unity axes."""

    seen: Any  # (42, 3) float64 unit vectors
    valid: Any  # (42,) whether there is one


@kernel
def empty_sight() -> Sight:
    """Room for one frame."""
    return Sight(np.zeros((BONE_COUNT, 3)), np.zeros(BONE_COUNT, dtype=np.bool_))


@kernel
def look(directions: F32, sight: Sight) -> None:
    """Unit vectors in Unity axes; a direction that is not one is marked."""
    for bone in range(directions.shape[0]):
        x, y, z = (
            float(directions[bone, 0]),
            float(directions[bone, 1]),
            float(directions[bone, 2]),
        )
        length = math.sqrt(x * x + y * y + z * z)
        sight.valid[bone] = _SHORTEST < length < math.inf  # false for NaN too
        if sight.valid[bone]:
            sight.seen[bone, 0] = -x / length
            sight.seen[bone, 1] = -y / length
            sight.seen[bone, 2] = -z / length


@kernel
def take(sight: Sight, bone: int) -> Vec:
    """The direction of a bone."""
    return (sight.seen[bone, 0], sight.seen[bone, 1], sight.seen[bone, 2])


@kernel
def fit(rest: Any, weights: Any, sight: Sight, bones: Any, prior: Quat) -> Quat:
    """Rotation that best turns ``rest`` (n, 3) into the directions of ``bones``.

    Davenport's q-method for Wahba's problem: the answer is the eigenvector of the largest
    eigenvalue of a symmetric 4x4 matrix, here found by squaring the matrix again and again. The
    prior adds its own projector, so that one direction, or none, still has one answer.
    """
    k = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            k[i, j] = _PRIOR * prior[i] * prior[j]
    for n in range(len(bones)):
        if sight.valid[bones[n]]:
            a = (rest[n, 0], rest[n, 1], rest[n, 2])
            _add_pair(k, weights[n], a, take(sight, bones[n]))
    return _dominant(k)


@kernel
def _add_pair(k: Any, w: float, a: Vec, b: Vec) -> None:
    """Add what a weighted pair of unit vectors says about the rotation from ``a`` to ``b``."""
    axis, cosine = cross(a, b), dot(a, b)
    for i in range(3):
        for j in range(3):
            k[i, j] += w * (a[i] * b[j] + a[j] * b[i])
        # The added w on the diagonal keeps every eigenvalue positive.
        k[i, i] += w * (1.0 - cosine)
        k[i, 3] += w * axis[i]
        k[3, i] += w * axis[i]
    k[3, 3] += w * (1.0 + cosine)


@kernel
def _dominant(k: Any) -> Quat:
    """Unit eigenvector of the largest eigenvalue of a (4, 4) positive matrix, which is used up."""
    square = np.empty((4, 4))
    for _ in range(24):
        scale = 1.0 / (k[0, 0] + k[1, 1] + k[2, 2] + k[3, 3])
        for i in range(4):
            for j in range(4):
                k[i, j] *= scale
        for i in range(4):
            for j in range(i, 4):
                total = 0.0
                for m in range(4):
                    total += k[i, m] * k[m, j]
                square[i, j] = total
                square[j, i] = total
        k, square = square, k
    best = 0
    for i in range(1, 4):
        if k[i, i] > k[best, best]:
            best = i
    norm = math.sqrt(k[0, best] ** 2 + k[1, best] ** 2 + k[2, best] ** 2 + k[3, best] ** 2)
    return (k[0, best] / norm, k[1, best] / norm, k[2, best] / norm, k[3, best] / norm)
