"""Rotations of many bones at once, as arrays of unit quaternions xyzw (..., 4).

``rotation`` has the same for one rotation inside the kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ha2g_live.realtime.types import F32


def multiply(a: F32, b: F32) -> F32:
    """The rotations ``b`` followed by ``a``."""
    ax, ay, az, aw = np.moveaxis(a, -1, 0)
    bx, by, bz, bw = np.moveaxis(b, -1, 0)
    return np.stack(
        (
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ),
        axis=-1,
    )


def inverse(q: F32) -> F32:
    """The rotations back."""
    return np.asarray(q * np.array((-1.0, -1.0, -1.0, 1.0), dtype=np.float32))


def rotate(q: F32, v: F32) -> F32:
    """Vectors (..., 3) turned."""
    axis, w = q[..., :3], q[..., 3:]
    t: F32 = 2.0 * np.cross(axis, v)
    return v + w * t + np.cross(axis, t)


def power(q: F32, share: Any) -> F32:
    """The same turns, by a share of their angle (the short way round)."""
    q = np.where(q[..., 3:] < 0.0, -q, q)
    sine = np.linalg.norm(q[..., :3], axis=-1)
    half = np.arctan2(sine, q[..., 3]) * share
    scale = np.where(sine > 1e-9, np.sin(half) / np.maximum(sine, 1e-9), share)
    turned = np.concatenate((scale[..., None] * q[..., :3], np.cos(half)[..., None]), axis=-1)
    unit = turned / np.linalg.norm(turned, axis=-1, keepdims=True)
    return np.asarray(unit, dtype=np.float32)


def slerp(a: F32, b: F32, share: Any) -> F32:
    """From ``a`` at share 0 to ``b`` at 1, beyond them too, the short way round."""
    return multiply(power(multiply(b, inverse(a)), share), a)


def mirror(q: F32) -> F32:
    """The rotations' mirror images across the plane between left and right (x to -x)."""
    return np.asarray(q * np.array((1.0, -1.0, -1.0, 1.0), dtype=np.float32))
