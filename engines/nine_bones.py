"""TED Gesture's nine bones to the 42 of TED Expressive, so that its models can move an avatar.

Spine, shoulders and arms are the same bones. The head turns by as much as the line from neck to
nose does. Hands have no bones there: they are held relaxed, in the mean pose, and go with the
forearm.

TED Gesture looks along +z with the person's left at -x, TED Expressive along -z with it at +x: a
half turn about the vertical, as their mean directions show.
"""

from __future__ import annotations

import numpy as np

from ha2g_live.engines.ted import skeleton
from ha2g_live.realtime.skeleton import BONES, MEAN_DIRECTION, bone_index, normalise
from ha2g_live.realtime.types import F32

_HALF_TURN = np.array([-1.0, 1.0, -1.0], dtype=np.float32)
_SAME = {
    0: bone_index("spine", "neck"),
    3: bone_index("neck", "left_shoulder"),
    4: bone_index("left_shoulder", "left_elbow"),
    5: bone_index("left_elbow", "left_wrist"),
    6: bone_index("neck", "right_shoulder"),
    7: bone_index("right_shoulder", "right_elbow"),
    8: bone_index("right_elbow", "right_wrist"),
}
"""Bone of TED Gesture: the same bone of TED Expressive."""
_NECK_TO_NOSE = 1
_HEAD = list(range(bone_index("neck", "nose"), len(BONES)))
_LEFT, _RIGHT = bone_index("left_elbow", "left_wrist"), bone_index("right_elbow", "right_wrist")
_HANDS = {_LEFT: list(range(5, 20)), _RIGHT: list(range(22, 37))}
"""Forearm: the bones of its hand."""


def to_expressive(directions: F32) -> F32:
    """(..., 9, 3) unit vectors of TED Gesture to (..., 42, 3) of TED Expressive."""
    turned = directions * _HALF_TURN
    full = np.empty((*directions.shape[:-2], len(BONES), 3), dtype=np.float32)
    for bone, same in _SAME.items():
        full[..., same, :] = turned[..., bone, :]
    usual = normalise(skeleton("ted_gesture").mean_direction[_NECK_TO_NOSE] * _HALF_TURN)
    full[..., _HEAD, :] = _carried(usual, turned[..., _NECK_TO_NOSE, :], _HEAD)
    for forearm, hand in _HANDS.items():
        usual = normalise(MEAN_DIRECTION[forearm])
        full[..., hand, :] = _carried(usual, full[..., forearm, :], hand)
    return full


def _carried(usual: F32, now: F32, bones: list[int]) -> F32:
    """Mean directions of ``bones``, turned as the shortest way turns ``usual`` to ``now``."""
    axis = np.cross(usual, now)[..., None, :]
    cosine = (now @ usual)[..., None, None]
    mean = normalise(MEAN_DIRECTION[bones])
    across = np.cross(axis, np.broadcast_to(mean, (*now.shape[:-1], *mean.shape)))
    # Rodrigues' rotation; straight back, where the way is not defined, it stays finite.
    twice = np.cross(axis, across) / np.maximum(1.0 + cosine, 1e-3)
    return normalise(mean + across + twice)
