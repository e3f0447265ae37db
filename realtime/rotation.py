"""Vectors and rotations for the kernels, as tuples: the compiler keeps them in registers.

A quaternion is xyzw. A rotation vector is axis times angle in radians.
"""

from __future__ import annotations

import math

from ha2g_live.realtime.kernel import kernel

Vec = tuple[float, float, float]
Quat = tuple[float, float, float, float]

IDENTITY: Quat = (0.0, 0.0, 0.0, 1.0)


@kernel
def dot(a: Vec, b: Vec) -> float:
    """Scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel
def cross(a: Vec, b: Vec) -> Vec:
    """Vector product."""
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


@kernel
def blend(s: float, a: Vec, t: float, b: Vec) -> Vec:
    """``s * a + t * b``."""
    return (s * a[0] + t * b[0], s * a[1] + t * b[1], s * a[2] + t * b[2])


@kernel
def scaled(s: float, v: Vec) -> Vec:
    """``s * v``."""
    return (s * v[0], s * v[1], s * v[2])


@kernel
def length(v: Vec) -> float:
    """Euclidean norm."""
    return math.sqrt(dot(v, v))


@kernel
def unit(v: Vec) -> Vec:
    """The vector scaled to length one; NaN for the zero vector."""
    norm = length(v)
    return (v[0] / norm, v[1] / norm, v[2] / norm)


@kernel
def across(v: Vec) -> Vec:
    """Some unit vector at a right angle to a unit vector."""
    return unit(cross(v, (0.0, 0.0, 1.0) if abs(v[2]) < 0.7 else (0.0, 1.0, 0.0)))


@kernel
def ramp(x: float, low: float, high: float) -> float:
    """Smooth step from 0 at ``low`` to 1 at ``high``."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


# --- unit quaternions


@kernel
def multiply(a: Quat, b: Quat) -> Quat:
    """The rotation ``b`` followed by ``a``."""
    return (
        a[3] * b[0] + a[0] * b[3] + a[1] * b[2] - a[2] * b[1],
        a[3] * b[1] - a[0] * b[2] + a[1] * b[3] + a[2] * b[0],
        a[3] * b[2] + a[0] * b[1] - a[1] * b[0] + a[2] * b[3],
        a[3] * b[3] - a[0] * b[0] - a[1] * b[1] - a[2] * b[2],
    )


@kernel
def inverse(q: Quat) -> Quat:
    """The rotation back."""
    return (-q[0], -q[1], -q[2], q[3])


@kernel
def rotate(q: Quat, v: Vec) -> Vec:
    """The vector turned by a quaternion."""
    axis = (q[0], q[1], q[2])
    t = cross(axis, v)
    return blend(1.0, blend(1.0, v, 2.0 * q[3], t), 2.0, cross(axis, t))


@kernel
def about(axis: Vec, angle_rad: float) -> Quat:
    """Rotation about a unit vector."""
    s = math.sin(0.5 * angle_rad)
    return (s * axis[0], s * axis[1], s * axis[2], math.cos(0.5 * angle_rad))


@kernel
def swing(a: Vec, b: Vec) -> Quat:
    """Shortest turn from one unit vector to another; if they are opposite, about any axis."""
    w = 1.0 + dot(a, b)
    if w < 1e-9:
        x, y, z = across(a)
        return (x, y, z, 0.0)
    x, y, z = cross(a, b)
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    return (x / norm, y / norm, z / norm, w / norm)


@kernel
def part(q: Quat, share: float) -> Quat:
    """The same turn, by a share of its angle (the short way round)."""
    sine = math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2])
    if sine < 1e-12:
        return IDENTITY
    sign = 1.0 if q[3] >= 0.0 else -1.0
    half = share * math.atan2(sine, abs(q[3]))
    s = sign * math.sin(half) / sine
    return (s * q[0], s * q[1], s * q[2], math.cos(half))


@kernel
def unit_quat(q: Quat) -> Quat:
    """A quaternion scaled to length one; NaN for zero."""
    norm = math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    return (q[0] / norm, q[1] / norm, q[2] / norm, q[3] / norm)


# --- rotation vectors


@kernel
def to_vector(q: Quat) -> Vec:
    """The rotation vector of a unit quaternion, the short way round."""
    sine = math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2])
    sign = 1.0 if q[3] >= 0.0 else -1.0
    if sine < 1e-12:
        return (2.0 * sign * q[0], 2.0 * sign * q[1], 2.0 * sign * q[2])
    scale = sign * 2.0 * math.atan2(sine, abs(q[3])) / sine
    return (scale * q[0], scale * q[1], scale * q[2])


@kernel
def from_vector(turn: Vec) -> Quat:
    """The unit quaternion of a rotation vector."""
    angle = length(turn)
    s = 0.5 if angle < 1e-9 else math.sin(0.5 * angle) / angle
    return (s * turn[0], s * turn[1], s * turn[2], math.cos(0.5 * angle))


@kernel
def vector_between(a: Vec, b: Vec) -> Vec:
    """Smallest rotation from one unit vector to another; if they are opposite, about any axis."""
    axis = cross(a, b)
    sine, cosine = length(axis), dot(a, b)
    if sine < 1e-9 and cosine < 0.0:
        return scaled(math.pi, across(a))
    return scaled(math.atan2(sine, cosine) / max(sine, 1e-300), axis)


@kernel
def turned(v: Vec, turn: Vec) -> Vec:
    """A vector turned by a rotation vector (Rodrigues' formula)."""
    angle = length(turn)
    if angle < 1e-12:
        return v
    axis = unit(turn)
    cosine, sine = math.cos(angle), math.sin(angle)
    flat = blend(cosine, v, sine, cross(axis, v))
    return blend(1.0, flat, dot(axis, v) * (1.0 - cosine), axis)


@kernel
def vector_rate(turn: Vec, angular: Vec) -> Vec:
    """Rate of a rotation vector that gives an angular velocity; angles up to pi.

    It is the inverse of the left Jacobian of the rotation at ``turn``, times ``angular``.
    """
    half = max(0.5 * length(turn), 1e-4)
    second = (1.0 - half / math.tan(half)) / (4.0 * half**2)
    once = cross(turn, angular)
    return blend(1.0, blend(1.0, angular, -0.5, once), second, cross(turn, once))
