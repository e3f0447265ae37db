"""Is a pose one that a person can take? Checked on every frame that leaves, to be counted.

Bends are angles between neighbouring bones. The ranges are the usual clinical ones for active
movement (Norkin and White, *Measurement of Joint Motion*), with 15 degrees for the difference
between a joint's axis and the line between two joints.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.skeleton import BONES, JOINT_NAMES, bone_index
from ha2g_live.realtime.types import F32

_ALLOWANCE_DEG = 15.0
_HAIR_RAD = 1e-3  # inside a limit, so that rounding does not leave a joint outside
_SIDES = ("left", "right")
_FINGERS = ("index", "middle", "little", "ring", "thumb")


def _bends() -> list[tuple[str, int, int, float]]:
    """(name, bone, next bone, largest angle between them in degrees)."""
    rows: list[tuple[str, int, int, float]] = []
    for side in _SIDES:
        shoulder, elbow, wrist = (f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist"))
        upper, fore = bone_index(shoulder, elbow), bone_index(elbow, wrist)
        hand = bone_index(wrist, f"{side}_middle_1")
        rows.append((f"{side} elbow", upper, fore, 150.0))
        rows.append((f"{side} wrist", fore, hand, 85.0))
        for finger in _FINGERS:
            base, middle, tip = (f"{side}_{finger}_{k}" for k in (1, 2, 3))
            root, first = bone_index(wrist, base), bone_index(base, middle)
            rows.append((f"{side} {finger} base", root, first, 95.0))
            rows.append((f"{side} {finger} middle", first, bone_index(middle, tip), 110.0))
    return rows


_BENDS = _bends()
_FIRST = np.array([bone for _, bone, _, _ in _BENDS])
_NEXT = np.array([bone for _, _, bone, _ in _BENDS])
_LEAST_COSINE = np.array(
    [math.cos(math.radians(limit + _ALLOWANCE_DEG)) for _, _, _, limit in _BENDS]
)
# The base of a finger before its middle, whose bend is measured against it.
_FINGER_ROWS = [
    np.array([i for i, row in enumerate(_BENDS) if row[0].endswith(f" {joint}")])
    for joint in ("base", "middle")
]
_WRISTS = [i for i, row in enumerate(_BENDS) if row[0].endswith(" wrist")]
_HANDS = [
    np.array([i for i, (_, end) in enumerate(BONES) if JOINT_NAMES[end].startswith(fingers)])
    for fingers in (tuple(f"{side}_{finger}" for finger in _FINGERS) for side in _SIDES)
]
_SPINE = bone_index("spine", "neck")
_NOSE = bone_index("neck", "nose")
_CLAVICLES = [bone_index("neck", f"{side}_shoulder") for side in _SIDES]
_UPRIGHT = np.array([0.0, -1.0, 0.0])
_SPINE_DEG = 45.0
_NECK_DEG = 100.0  # between the spine and the line to the nose, which is 45 at rest
_CLAVICLE_DEG = (55.0, 125.0)  # between the spine and the line to the shoulder, 105 at rest

NAMES: tuple[str, ...] = (
    *(name for name, _, _, _ in _BENDS),
    "spine",
    "neck",
    "left clavicle",
    "right clavicle",
)


def straighten_hands(directions: F32) -> F32:
    """Open wrists and fingers of (..., 42, 3) that bend further than a person's, to their limit.

    A network's fist is now and then a little too tight, or a hand folded back too far; a hand is
    turned as a whole. Other poses come back as they are.
    """
    opened = directions
    for row, hand in zip(_WRISTS, _HANDS, strict=True):
        fore, palm = opened[..., _FIRST[row], :], opened[..., _NEXT[row], :]
        cosine = np.einsum("...j,...j->...", fore, palm)
        if (cosine >= _LEAST_COSINE[row]).all():
            continue
        excess = np.arccos(np.clip(cosine, -1.0, 1.0)) - np.arccos(_LEAST_COSINE[row])
        opened = np.array(opened)
        opened[..., hand, :] = _turned(
            opened[..., hand, :],
            _across(np.cross(palm, fore), fore),
            np.where(excess > 0.0, excess + _HAIR_RAD, 0.0)[..., None, None],
        )
    for rows in _FINGER_ROWS:
        first, following = opened[..., _FIRST[rows], :], opened[..., _NEXT[rows], :]
        bend = np.einsum("...ij,...ij->...i", first, following)
        least = _LEAST_COSINE[rows]
        if (bend >= least).all():
            continue
        across = _across(following - bend[..., None] * first, first)
        angle = np.arccos(least) - _HAIR_RAD
        at_limit = np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * across
        opened = np.array(opened)
        opened[..., _NEXT[rows], :] = np.where((bend < least)[..., None], at_limit, following)
    return opened


def _turned(vectors: F32, axis: F32, angle_rad: F32) -> F32:
    """(..., n, 3) vectors turned about (..., 3) unit axes."""
    axis = axis[..., None, :]
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    along = np.einsum("...j,...j->...", axis, vectors)[..., None] * axis
    return np.asarray(
        cosine * vectors + sine * np.cross(axis, vectors) + (1.0 - cosine) * along, dtype=np.float32
    )


def _across(wanted: F32, vectors: F32) -> F32:
    """``wanted`` at length one; where it is nearly zero, anything at right angles to ``vectors``.

    Folded flat onto the bone before, a joint may open to any side.
    """
    length = np.linalg.norm(wanted, axis=-1, keepdims=True)
    return np.where(length > 1e-4, wanted / np.maximum(length, 1e-4), _any_across(vectors))


def _any_across(vectors: F32) -> F32:
    """(..., 3) unit vectors at right angles to the given ones."""
    helper = np.where(np.abs(vectors[..., :1]) < 0.9, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    across = np.cross(vectors, helper)
    return np.asarray(across / np.linalg.norm(across, axis=-1, keepdims=True), dtype=np.float32)


def outside(directions: F32) -> npt.NDArray[np.bool_]:
    """Which joints of (..., 42, 3) unit directions are beyond human range: (..., len(NAMES)).

    A direction that is not a number is beyond it.
    """
    cosine = np.einsum("...ij,...ij->...i", directions[..., _FIRST, :], directions[..., _NEXT, :])
    spine = directions[..., _SPINE, :]
    tilt = spine @ _UPRIGHT
    nose = np.einsum("...j,...j->...", spine, directions[..., _NOSE, :])
    lift = np.einsum("...j,...ij->...i", spine, directions[..., _CLAVICLES, :])
    high, low = (math.cos(math.radians(angle)) for angle in _CLAVICLE_DEG)
    # Written so that NaN counts as outside.
    inside = np.concatenate(
        (
            cosine >= _LEAST_COSINE,
            (tilt >= math.cos(math.radians(_SPINE_DEG)))[..., None],
            (nose >= math.cos(math.radians(_NECK_DEG)))[..., None],
            (lift <= high) & (lift >= low),
        ),
        axis=-1,
    )
    return np.asarray(~inside, dtype=np.bool_)
