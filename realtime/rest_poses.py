"""Where the arms are while nothing is said: poses that a streamer can choose, on the 55 bones.

Each is given as directions of the left arm's bones, x out to the person's left, y up, z forward,
and turned into rotations by the retargeting; the right arm is its mirror image.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ha2g_live.realtime.humanoid import BONE_COUNT, BONE_INDEX, BONE_NAMES
from ha2g_live.realtime.retarget import to_directions, to_rotations
from ha2g_live.realtime.skeleton import bone_index
from ha2g_live.realtime.types import F32

_Vec = tuple[float, float, float]
# Upper arm, forearm, the hand from the wrist to the middle knuckle, and across the knuckles from
# the little to the index finger.
_ARMS: dict[str, tuple[_Vec, _Vec, _Vec, _Vec]] = {
    "sides": ((0.20, -0.97, -0.02), (0.10, -0.97, 0.20), (0.06, -0.98, 0.16), (-0.35, 0.1, 0.93)),
    "front": ((0.26, -0.95, 0.06), (-0.46, -0.30, 0.83), (-0.66, -0.42, 0.62), (-0.2, 0.9, 0.4)),
    "hips": ((0.66, -0.70, -0.28), (-0.36, -0.88, 0.32), (-0.52, -0.78, 0.34), (0.1, 0.35, 0.9)),
    "desk": ((0.22, -0.86, 0.45), (-0.36, -0.10, 0.93), (-0.44, -0.10, 0.89), (-0.86, 0.1, -0.4)),
}
_CURL_RAD = (0.30, 0.42)  # of a relaxed finger, at its root and in its middle
_FINGERS = ("index", "middle", "ring", "little")
_SPREAD_RAD = {"index": 0.06, "middle": 0.0, "ring": -0.05, "little": -0.12}


def _unit(vector: _Vec) -> F32:
    v = np.array(vector, dtype=np.float32)
    return np.asarray(v / np.linalg.norm(v), dtype=np.float32)


def _turn(v: F32, axis: F32, angle_rad: float) -> F32:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    turned = c * v + s * np.cross(axis, v) + (1 - c) * float(axis @ v) * axis
    return np.asarray(turned, dtype=np.float32)


def _directions(name: str) -> F32:
    """(42, 3) of a person who stands upright with the arms as named, HA2G axes."""
    upright = np.zeros((BONE_COUNT, 4), dtype=np.float32)
    upright[:, 3] = 1.0
    out = to_directions(upright)
    upper, fore, hand, across = (_unit(v) for v in _ARMS[name])
    across = _unit(tuple(across - float(across @ hand) * hand))
    palm = np.asarray(np.cross(hand, across), dtype=np.float32)  # out of the palm
    for side, mirror in (("left", 1.0), ("right", -1.0)):
        # x out, y up, z forward to HA2G's x to the left, y down, z backward.
        signs = np.array((mirror, -1.0, -1.0), dtype=np.float32)
        shoulder, elbow, wrist = (f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist"))
        out[bone_index(shoulder, elbow)] = signs * upper
        out[bone_index(elbow, wrist)] = signs * fore
        for finger in _FINGERS:
            knuckle = _turn(hand, palm, 2.5 * _SPREAD_RAD[finger] + 0.02)
            first = _turn(_turn(hand, palm, _SPREAD_RAD[finger]), across, -_CURL_RAD[0])
            second = _turn(first, across, -_CURL_RAD[1])
            for bone, direction in ((0, knuckle), (1, first), (2, second)):
                ends = (wrist if bone == 0 else f"{side}_{finger}_{bone}",
                        f"{side}_{finger}_{bone + 1}")  # fmt: skip
                out[bone_index(*ends)] = signs * direction
        for bone in range(3):
            # The thumb's rest, carried along with the hand, is found by the retargeting.
            start = wrist if bone == 0 else f"{side}_thumb_{bone}"
            out[bone_index(start, f"{side}_thumb_{bone + 1}")] = 0.0
    return out


@cache
def rest_pose(name: str) -> F32:
    """(55, 4) float32 local rotations of a rest pose, to be read only.

    Args:
        name: "sides", "front", "hips" or "desk".

    Raises:
        KeyError: there is no such pose.
    """
    pose = to_rotations(_directions(name))
    for bone, bone_name in enumerate(BONE_NAMES):
        if not bone_name.startswith(("Left", "Right")) or "Shoulder" in bone_name:
            pose[bone] = (0.0, 0.0, 0.0, 1.0)
    pose.setflags(write=False)
    return pose


ARM_BONES: tuple[tuple[int, ...], tuple[int, ...]] = tuple(  # type: ignore[assignment]
    tuple(
        BONE_INDEX[bone]
        for bone in BONE_NAMES
        if bone.startswith(side) and not bone.endswith(("Leg", "Foot", "Toes", "Eye"))
    )
    for side in ("Left", "Right")
)
"""Clavicle to fingertips of the left and of the right arm."""
