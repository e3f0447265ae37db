"""How much room a figure takes: its skeleton, the volumes of its body, the points of its hands.

A figure is what the contact kernel needs of an avatar. The body is a few capsules, each fixed to a
bone: the trunk's lie across it from side to side, so that it is wider than deep. A hand is a set of
points with a thickness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.humanoid import BONE_INDEX, PARENTS, REST_OFFSETS_M
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_SIDES = ("Left", "Right")
_FINGERS = ("Thumb", "Index", "Middle", "Ring", "Little")
_TIP_SHARE = 0.8
"""Length of a finger's last phalanx, which no joint ends, for that of the one before it."""


@dataclass(frozen=True, slots=True)
class Measures:
    """Thickness of a body, metres. The defaults are those of the default skeleton's adult.

    Attributes:
        hips_half_m, hips_depth_m: half the width, and the depth from back to belly, at the hips.
        belly_half_m, belly_depth_m: the same below the ribs.
        chest_half_m, chest_depth_m: the same at the height of the armpits, without the arms.
        hips_forward_m, belly_forward_m, chest_forward_m: how far the middle of the trunk lies
            before the spine's joints at these heights.
        neck_radius_m: of the neck.
        head_radius_m: of the head, seen from above.
        head_height_m: from the head's joint to the crown.
        head_forward_m: how far the middle of the head lies before its joint.
        elbow_radius_m, wrist_radius_m: of the forearm at its ends.
        palm_radius_m, finger_radius_m: half the thickness of palm and fingers.
    """

    hips_half_m: float = 0.165
    hips_depth_m: float = 0.21
    belly_half_m: float = 0.145
    belly_depth_m: float = 0.20
    chest_half_m: float = 0.155
    chest_depth_m: float = 0.215
    hips_forward_m: float = 0.02
    belly_forward_m: float = 0.03
    chest_forward_m: float = 0.03
    neck_radius_m: float = 0.058
    head_radius_m: float = 0.085
    head_height_m: float = 0.19
    head_forward_m: float = 0.025
    elbow_radius_m: float = 0.043
    wrist_radius_m: float = 0.029
    palm_radius_m: float = 0.018
    finger_radius_m: float = 0.009


class Figure(NamedTuple):
    """One avatar as the kernel sees it; float64 in Unity axes, metres.

    Attributes:
        offsets: (55, 3) rest position of each bone in its parent's frame.
        volume_bone: (n,) bone that carries each capsule of the body.
        volume_ends: (n, 2, 3) both ends of its axis in that bone's frame.
        volume_radius: (n,).
        point_bone: (2, m) bone that carries each point of the left and the right hand.
        point_at: (2, m, 3) where it is in that bone's frame.
        point_radius: (m,).
        arm_radius: elbow and wrist.
    """

    offsets: F64
    volume_bone: I64
    volume_ends: F64
    volume_radius: F64
    point_bone: I64
    point_at: F64
    point_radius: F64
    arm_radius: F64


def figure(offsets_m: F32 = REST_OFFSETS_M, measures: Measures | None = None) -> Figure:
    """A skeleton and its thickness as the kernel sees them.

    Args:
        offsets_m: (55, 3) rest position of each bone in its parent's frame.
        measures: of the body; an adult's when left out.
    """
    m = measures or Measures()
    offsets = offsets_m.astype(np.float64)
    bones, ends, radii = [], [], []

    def across(bone: str, half_m: float, depth_m: float, forward_m: float, up_m: float) -> None:
        radius = depth_m / 2
        reach = max(half_m - radius, 0.0)
        bones.append(BONE_INDEX[bone])
        ends.append([(side * reach, up_m, forward_m) for side in (-1.0, 1.0)])
        radii.append(radius)

    spine, chest, upper = (
        float(offsets[BONE_INDEX[bone], 1]) for bone in ("Spine", "Chest", "UpperChest")
    )
    middle_half = (m.belly_half_m + m.chest_half_m) / 2
    middle_depth = (m.belly_depth_m + m.chest_depth_m) / 2
    middle_forward = (m.belly_forward_m + m.chest_forward_m) / 2
    across("Hips", m.hips_half_m, m.hips_depth_m, m.hips_forward_m, 0.0)
    across("Spine", m.belly_half_m, m.belly_depth_m, m.belly_forward_m, 0.3 * spine)
    across("Chest", middle_half, middle_depth, middle_forward, 0.2 * chest)
    across("UpperChest", m.chest_half_m, m.chest_depth_m, m.chest_forward_m, 0.15 * upper)
    # The shoulders' slope: narrower, so that raised arms are free.
    slope = 0.6 * float(offsets[BONE_INDEX["Neck"], 1])
    across("UpperChest", 0.75 * m.chest_half_m, 0.7 * m.chest_depth_m, m.chest_forward_m, slope)
    bones.append(BONE_INDEX["Neck"])
    ends.append([(0.0, -0.01, 0.0), tuple(offsets[BONE_INDEX["Head"]])])
    radii.append(m.neck_radius_m)
    bones.append(BONE_INDEX["Head"])
    top = m.head_height_m - m.head_radius_m
    low = min(0.3 * m.head_radius_m, top)
    ends.append([(0.0, low, m.head_forward_m), (0.0, top, m.head_forward_m)])
    radii.append(m.head_radius_m)

    points = [_hand_points(side, offsets, m) for side in _SIDES]
    return Figure(
        offsets=offsets,
        volume_bone=np.array(bones),
        volume_ends=np.array(ends, dtype=np.float64),
        volume_radius=np.array(radii, dtype=np.float64),
        point_bone=np.array([[bone for bone, _, _ in side] for side in points]),
        point_at=np.array([[at for _, at, _ in side] for side in points], dtype=np.float64),
        point_radius=np.array([radius for _, _, radius in points[0]], dtype=np.float64),
        arm_radius=np.array((m.elbow_radius_m, m.wrist_radius_m)),
    )


def _hand_points(side: str, offsets: F64, m: Measures) -> list[tuple[int, F64, float]]:
    """(bone, place, radius): the palm first, then knuckles, middle joints and fingertips."""
    hand = BONE_INDEX[f"{side}Hand"]
    knuckle = offsets[BONE_INDEX[f"{side}MiddleProximal"]]
    points = [(hand, 0.55 * knuckle, m.palm_radius_m)]
    for finger in _FINGERS:
        proximal, middle, last = (
            BONE_INDEX[f"{side}{finger}{phalanx}"]
            for phalanx in ("Proximal", "Intermediate", "Distal")
        )
        if finger != "Thumb":
            points.append((proximal, np.zeros(3), m.palm_radius_m))
        points.append((middle, np.zeros(3), m.finger_radius_m))
        points.append((last, np.zeros(3), m.finger_radius_m))
        points.append((last, _TIP_SHARE * offsets[last], m.finger_radius_m))
    return points


PARENT = np.array(PARENTS)
"""(55,) parent of each bone."""
