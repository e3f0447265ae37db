"""Is a pose one that a person can take? Checked on every frame that leaves, to be counted.

Bends are angles between neighbouring bones. The ranges are the usual clinical ones for active
movement (Norkin and White, *Measurement of Joint Motion*), with 15 degrees for the difference
between a joint's axis and the line between two joints.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.skeleton import bone_index
from ha2g_live.realtime.types import F32

_ALLOWANCE_DEG = 15.0
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
