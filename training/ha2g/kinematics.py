"""Rotations of many joints at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def rotation_matrices(vectors: npt.NDArray[np.floating[Any]]) -> F64:
    """(..., 3) rotation vectors in radians to (..., 3, 3) matrices (Rodrigues' formula)."""
    turns = np.asarray(vectors, dtype=np.float64)
    angle = np.linalg.norm(turns, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(turns, -1, 0)
    zero = np.zeros_like(x)
    skew = np.stack((zero, -z, y, z, zero, -x, -y, x, zero), axis=-1).reshape(*x.shape, 3, 3)
    # sinc(a / pi) is sin(a) / a, exact at zero too.
    once = np.sinc(angle / np.pi)
    twice = 0.5 * np.sinc(0.5 * angle / np.pi) ** 2
    matrices: F64 = np.eye(3) + once * skew + twice * (skew @ skew)
    return matrices
