"""Legs whose feet stay where they are while the hips move."""

from __future__ import annotations

from typing import Any

from ha2g_live.realtime.kernel import kernel
from ha2g_live.realtime.reach import Arm, at, reached, turn_of_fore, turn_of_upper
from ha2g_live.realtime.rig import put
from ha2g_live.realtime.rotation import Quat, Vec, blend, inverse, length, multiply, rotate
from ha2g_live.realtime.types import F32


@kernel
def plant(offsets: Any, legs: Any, moved: Vec, hips: Quat, out: F32) -> None:
    """Write the local rotations of both legs.

    Args:
        offsets: (55, 3) float64 rest position of each bone in its parent's frame.
        legs: (2, 3) upper leg, lower leg and foot of each side.
        moved: how far the hips are from their rest, metres.
        hips: their rotation.
        out: (55, 4) pose to write into.
    """
    for side in range(legs.shape[0]):
        upper, lower, foot = legs[side, 0], legs[side, 1], legs[side, 2]
        thigh, shin = at(offsets, lower), at(offsets, foot)
        if length(thigh) < 1e-4 or length(shin) < 1e-4:
            continue
        root = at(offsets, upper)
        stands = blend(1.0, root, 1.0, blend(1.0, thigh, 1.0, shin))
        hip = blend(1.0, moved, 1.0, rotate(hips, root))
        knee = blend(1.0, hip, 1.0, rotate(hips, thigh))
        ankle = blend(1.0, knee, 1.0, rotate(hips, shin))
        # A knee bends about the axis to the avatar's right; its plane is that of walking.
        straight = Arm(hip, knee, ankle, rotate(hips, (1.0, 0.0, 0.0)), length(thigh), length(shin))
        bent = reached(straight, stands, 0.0)
        thigh_turn = multiply(turn_of_upper(straight, bent), hips)
        shin_turn = multiply(turn_of_fore(straight, bent), hips)
        put(out, upper, multiply(inverse(hips), thigh_turn))
        put(out, lower, multiply(inverse(thigh_turn), shin_turn))
        put(out, foot, inverse(shin_turn))
