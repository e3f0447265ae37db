"""Is a pose one that a person can take? Checked on every frame that leaves, to be counted.

Bends are angles between neighbouring bones. The ranges are the usual clinical ones for active
movement (Norkin and White, *Measurement of Joint Motion*), with 15 degrees for the difference
between a joint's axis and the line between two joints.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.kernel import entry, kernel
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
_CLAVICLES = tuple(bone_index("neck", f"{side}_shoulder") for side in _SIDES)
_SPINE_COSINE = math.cos(math.radians(45.0))  # of its angle to upright
_NECK_COSINE = math.cos(math.radians(100.0))  # of spine and line to the nose, 45 degrees at rest
# Of the spine and the line to the shoulder, 105 degrees at rest.
_CLAVICLE_LOW, _CLAVICLE_HIGH = (math.cos(math.radians(angle)) for angle in (125.0, 55.0))

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
    shape = directions.shape[:-2]
    poses = np.array(directions, dtype=np.float32, order="C").reshape(-1, *directions.shape[-2:])
    beyond = np.empty((len(poses), len(NAMES)), dtype=np.bool_)
    _outside(poses, beyond)
    return beyond.reshape(*shape, len(NAMES))


@entry
def _outside(poses: F32, out: npt.NDArray[np.bool_]) -> None:
    # Written so that NaN counts as outside.
    for n in range(poses.shape[0]):
        pose = poses[n]
        for row in range(len(_FIRST)):
            out[n, row] = not _cosine(pose, _FIRST[row], _NEXT[row]) >= _LEAST_COSINE[row]
        rest = len(_FIRST)
        out[n, rest] = not -pose[_SPINE, 1] >= _SPINE_COSINE
        out[n, rest + 1] = not _cosine(pose, _SPINE, _NOSE) >= _NECK_COSINE
        for side in range(2):
            lift = _cosine(pose, _SPINE, _CLAVICLES[side])
            out[n, rest + 2 + side] = not (_CLAVICLE_LOW <= lift <= _CLAVICLE_HIGH)


@kernel
def _cosine(pose: F32, one: int, other: int) -> float:
    return float(
        pose[one, 0] * pose[other, 0]
        + pose[one, 1] * pose[other, 1]
        + pose[one, 2] * pose[other, 2]
    )
