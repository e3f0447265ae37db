"""Ranges of human joints, soft and continuous, on local rotations.

A joint's rotation is taken apart as ``centre * swing * twist``: the middle of its range, a turn of
the bone's direction away from it (a rotation vector at right angles to the bone), and a turn about
the bone. Each of the three angles is left alone up to ``MARGIN_RAD`` from the end of its range and
bends from there, as a hyperbolic tangent, into the end, which is never passed. So a joint comes to
its stop as flesh does, with no step in position, speed or acceleration, and since nearly the whole
of a turn lies on one side of the middle, an impossible pose goes to the nearer end and does not
flip.

Ranges: the usual clinical ones for active movement (Norkin and White, *Measurement of Joint
Motion*), the shoulder's spread over clavicle and arm, the spine's over its three bones. For what
lies between a joint's axis and the bones of an avatar ``_ALLOWANCE_DEG`` are added to each end.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.humanoid import BONE_COUNT, BONE_INDEX, BONE_NAMES
from ha2g_live.realtime.kernel import entry, kernel
from ha2g_live.realtime.rotation import (
    Quat,
    Vec,
    about,
    from_vector,
    inverse,
    length,
    multiply,
    rotate,
    swing,
    to_vector,
    unit,
)
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]

MARGIN_RAD = math.radians(12.0)
"""Where a range begins to resist, from its end; half the range where that is less."""
_ALLOWANCE_DEG = 8.0

_Range = tuple[float, float]
_FREE: _Range = (-180.0, 180.0)
# Of the right side, degrees, Unity axes: about the bone, and of its direction about two axes at
# right angles to it. An arm or finger lies along x: bent forward is -y, bent down is -z. A trunk
# bone or leg lies along y: bowed forward is +x, leaning to the right is -z.
_ARM: dict[str, tuple[_Range, _Range, _Range]] = {
    "Shoulder": ((-15, 15), (-30, 25), (-15, 40)),
    "LowerArm": ((-95, 95), (-150, 5), (-25, 25)),
    "Hand": ((-55, 55), (-45, 45), (-85, 75)),
}
_FINGER: dict[str, tuple[_Range, _Range, _Range]] = {
    "Proximal": ((-20, 20), (-25, 25), (-88, 30)),
    "Intermediate": ((-10, 10), (-10, 10), (-110, 5)),
    "Distal": ((-10, 10), (-10, 10), (-85, 10)),
}
_THUMB: dict[str, tuple[_Range, _Range, _Range]] = {
    "Proximal": ((-55, 55), (-55, 55), (-55, 55)),
    "Intermediate": ((-30, 30), (-60, 60), (-60, 60)),
    "Distal": ((-30, 30), (-80, 80), (-80, 80)),
}
_TRUNK: dict[str, tuple[_Range, _Range, _Range]] = {
    "Hips": ((-30, 30), (-20, 20), (-20, 20)),
    "Spine": ((-20, 20), (-20, 30), (-20, 20)),
    "Chest": ((-20, 20), (-20, 30), (-20, 20)),
    "UpperChest": ((-20, 20), (-20, 30), (-20, 20)),
    "Neck": ((-40, 40), (-40, 40), (-30, 30)),
    "Head": ((-50, 50), (-45, 45), (-35, 35)),
}
_UPPER_ARM_CENTRE = (0.62, -0.40, 0.68)
"""Direction of the right arm in the middle of its range: out, down and forward."""
_UPPER_ARM_CONE_DEG = 104.0
_UPPER_ARM_TWIST_DEG = 105.0


class _Table:
    """The ranges of all bones in the form the kernel wants."""

    def __init__(self) -> None:
        self.axis = np.ones(BONE_COUNT, dtype=np.int64)  # that a bone lies along
        self.centre = np.zeros((BONE_COUNT, 4))
        self.centre[:, 3] = 1.0
        self.half_rad = np.full((BONE_COUNT, 3), math.pi)
        self.round = np.zeros(BONE_COUNT, dtype=np.bool_)
        for name, ranges in _TRUNK.items():
            self._set(name, 1, ranges, 1.0)
        for side, mirror in (("Right", 1.0), ("Left", -1.0)):
            for name, ranges in _ARM.items():
                self._set(side + name, 0, ranges, mirror)
            for finger in ("Index", "Middle", "Ring", "Little"):
                for name, ranges in _FINGER.items():
                    self._set(side + finger + name, 0, ranges, mirror)
            for name, ranges in _THUMB.items():
                self._set(side + "Thumb" + name, 0, ranges, mirror)
            self._set_upper_arm(side, mirror)

    def _set(self, name: str, axis: int, ranges: tuple[_Range, ...], mirror: float) -> None:
        bone = BONE_INDEX[name]
        twist, first, second = ranges
        self.axis[bone] = axis
        # A mirror image keeps turns about x and turns those about y and z round.
        spread = [twist, first, second] if axis == 0 else [first, twist, second]
        middle = np.radians([(low + high) / 2 for low, high in spread]) * (1.0, mirror, mirror)
        along = np.zeros(3)
        along[axis] = middle[axis]
        bent = _of_vector(middle - along)
        self.centre[bone] = _times(bent, _of_vector(along))
        self.half_rad[bone] = [
            math.radians((high - low) / 2 + _ALLOWANCE_DEG) for low, high in spread
        ]

    def _set_upper_arm(self, side: str, mirror: float) -> None:
        bone = BONE_INDEX[side + "UpperArm"]
        x, y, z = np.array(_UPPER_ARM_CENTRE) / np.linalg.norm(_UPPER_ARM_CENTRE)
        self.axis[bone] = 0
        self.centre[bone] = swing((mirror, 0.0, 0.0), (mirror * x, y, z))
        self.round[bone] = True
        cone, twist = math.radians(_UPPER_ARM_CONE_DEG), math.radians(_UPPER_ARM_TWIST_DEG)
        self.half_rad[bone] = (twist, cone, cone)


def _of_vector(turn: F64) -> F64:
    angle = float(np.linalg.norm(turn))
    if angle == 0.0:
        return np.array([0.0, 0.0, 0.0, 1.0])
    return np.append(np.sin(angle / 2) * turn / angle, np.cos(angle / 2))


def _times(a: F64, b: F64) -> F64:
    return np.array(multiply(tuple(a), tuple(b)))


_TABLE = _Table()
_AXIS, _CENTRE, _HALF_RAD, _ROUND = _TABLE.axis, _TABLE.centre, _TABLE.half_rad, _TABLE.round
LIMITED: tuple[str, ...] = tuple(
    name for name, half in zip(BONE_NAMES, _HALF_RAD, strict=True) if half.max() < math.pi
)
"""Bones that have a range; legs, toes, eyes and jaw have none here."""


def limit(rotations: F32) -> F32:
    """Poses within the ranges; where a joint is well inside its range it comes back as it is.

    Args:
        rotations: (..., 55, 4) local unit quaternions xyzw, Unity axes.

    Returns:
        (..., 55, 4) float32.
    """
    out = np.array(rotations, dtype=np.float32, order="C")
    _limit(out.reshape(-1, BONE_COUNT, 4))
    return out


def angles(rotations: F32) -> F64:
    """Angles from the middle of the range, as shares of the way to its end: above 1 is outside.

    Args:
        rotations: (..., 55, 4) local unit quaternions.

    Returns:
        (..., 55, 3): about x, y and z, where one axis is the bone's own.
    """
    source = np.array(rotations, dtype=np.float64, order="C")
    out = np.empty((*source.shape[:-1], 3))
    _angles(source.reshape(-1, BONE_COUNT, 4), out.reshape(-1, BONE_COUNT, 3))
    return np.asarray(out / _HALF_RAD)


@entry
def _limit(poses: F32) -> None:
    for frame in range(poses.shape[0]):
        for bone in range(poses.shape[1]):
            axis = _AXIS[bone]
            if _HALF_RAD[bone, 0] >= math.pi:
                continue
            q = (
                float(poses[frame, bone, 0]),
                float(poses[frame, bone, 1]),
                float(poses[frame, bone, 2]),
                float(poses[frame, bone, 3]),
            )
            turned = _apart(bone, q)
            soft = _soft(bone, axis, turned)
            # A joint that is well inside keeps its very numbers.
            if soft == turned:
                continue
            q = _together(bone, axis, soft)
            sign = 1.0 if q[3] >= 0.0 else -1.0
            for k in range(4):
                poses[frame, bone, k] = sign * q[k]


@entry
def _angles(poses: F64, out: F64) -> None:
    for frame in range(poses.shape[0]):
        for bone in range(poses.shape[1]):
            x, y, z, w = poses[frame, bone]
            out[frame, bone] = _apart(bone, (x, y, z, w))
            if _ROUND[bone]:
                out[frame, bone, 1] = math.hypot(out[frame, bone, 1], out[frame, bone, 2])
                out[frame, bone, 2] = 0.0


@kernel
def _along(axis: int) -> Vec:
    return (1.0, 0.0, 0.0) if axis == 0 else (0.0, 1.0, 0.0)


@kernel
def _apart(bone: int, q: Quat) -> Vec:
    """Swing and twist from the middle of the range, one vector: the bone's own axis is twist."""
    axis = _AXIS[bone]
    c = (_CENTRE[bone, 0], _CENTRE[bone, 1], _CENTRE[bone, 2], _CENTRE[bone, 3])
    away = multiply(inverse(c), q)
    along = _along(axis)
    bent = swing(along, unit(rotate(away, along)))
    twist = to_vector(multiply(inverse(bent), away))
    turn = to_vector(bent)
    if axis == 0:
        return (twist[0], turn[1], turn[2])
    return (turn[0], twist[1], turn[2])


@kernel
def _together(bone: int, axis: int, v: Vec) -> Quat:
    c = (_CENTRE[bone, 0], _CENTRE[bone, 1], _CENTRE[bone, 2], _CENTRE[bone, 3])
    bent = (0.0, v[1], v[2]) if axis == 0 else (v[0], 0.0, v[2])
    return multiply(multiply(c, from_vector(bent)), about(_along(axis), v[axis]))


@kernel
def _soft(bone: int, axis: int, v: Vec) -> Vec:
    """The angles with their ends made soft."""
    half = (_HALF_RAD[bone, 0], _HALF_RAD[bone, 1], _HALF_RAD[bone, 2])
    if _ROUND[bone]:
        bend = (0.0, v[1], v[2]) if axis == 0 else (v[0], 0.0, v[2])
        angle = length(bend)
        scale = _eased(angle, half[2]) / angle if angle > 1e-9 else 1.0
        twist = _eased(v[axis], half[axis])
        if scale == 1.0 and twist == v[axis]:
            return v
        if axis == 0:
            return (twist, scale * v[1], scale * v[2])
        return (scale * v[0], twist, scale * v[2])
    return (_eased(v[0], half[0]), _eased(v[1], half[1]), _eased(v[2], half[2]))


@kernel
def _eased(angle: float, half: float) -> float:
    margin = min(MARGIN_RAD, 0.5 * half)
    over = abs(angle) - (half - margin)
    if over <= 0.0:
        return angle
    held = half - margin + margin * math.tanh(over / margin)
    return held if angle > 0.0 else -held
