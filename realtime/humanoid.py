"""The 55 humanoid bones that avatars agree on, and a default adult to put them on.

Names and order are Unity's HumanBodyBones, which the VMC protocol uses on the wire. Axes are
Unity's: left-handed, x right, y up, z forward; the avatar faces +z, so its left side is at -x.
Rotations are local quaternions (x, y, z, w); all identity is the T-pose with the palms down.

The proportions are our own round numbers for an adult of about 1.69 m.
"""

from __future__ import annotations

import numpy as np

from ha2g_live.realtime.rotation_arrays import multiply, rotate
from ha2g_live.realtime.skeleton import JOINT_NAMES
from ha2g_live.realtime.types import F32

_FINGERS = ("Thumb", "Index", "Middle", "Ring", "Little")
_PHALANGES = ("Proximal", "Intermediate", "Distal")

# fmt: off
BONE_NAMES: tuple[str, ...] = (
    "Hips", "LeftUpperLeg", "RightUpperLeg", "LeftLowerLeg", "RightLowerLeg", "LeftFoot",
    "RightFoot", "Spine", "Chest", "Neck", "Head", "LeftShoulder", "RightShoulder",
    "LeftUpperArm", "RightUpperArm", "LeftLowerArm", "RightLowerArm", "LeftHand", "RightHand",
    "LeftToes", "RightToes", "LeftEye", "RightEye", "Jaw",
    *(f"{side}{finger}{phalanx}"
      for side in ("Left", "Right") for finger in _FINGERS for phalanx in _PHALANGES),
    "UpperChest",
)
"""Unity's HumanBodyBones, in Unity's order."""

# Bone without its side, parent, local position of the left one. The body and each hand stand
# parents first.
_BODY: tuple[tuple[str, str, tuple[float, float, float]], ...] = (
    ("Spine", "Hips", (0.0, 0.08, -0.02)),
    ("Chest", "Spine", (0.0, 0.12, 0.0)),
    ("UpperChest", "Chest", (0.0, 0.13, -0.005)),
    ("Neck", "UpperChest", (0.0, 0.16, 0.005)),
    ("Head", "Neck", (0.0, 0.08, 0.02)),
    ("Jaw", "Head", (0.0, 0.01, 0.03)),
)
_SIDE: tuple[tuple[str, str, tuple[float, float, float]], ...] = (
    ("Eye", "Head", (-0.032, 0.08, 0.07)),
    ("UpperLeg", "Hips", (-0.09, -0.05, 0.0)),
    ("LowerLeg", "UpperLeg", (0.0, -0.42, 0.005)),
    ("Foot", "LowerLeg", (0.0, -0.39, -0.015)),
    ("Toes", "Foot", (0.0, -0.06, 0.13)),
    ("Shoulder", "UpperChest", (-0.03, 0.13, 0.01)),
    ("UpperArm", "Shoulder", (-0.14, -0.015, -0.005)),
    ("LowerArm", "UpperArm", (-0.27, 0.0, 0.0)),
    ("Hand", "LowerArm", (-0.25, 0.0, 0.0)),
    ("ThumbProximal", "Hand", (-0.027, -0.009, 0.025)),
    ("ThumbIntermediate", "ThumbProximal", (-0.03, -0.008, 0.032)),
    ("ThumbDistal", "ThumbIntermediate", (-0.022, -0.004, 0.024)),
    ("IndexProximal", "Hand", (-0.09, 0.002, 0.025)),
    ("IndexIntermediate", "IndexProximal", (-0.042, 0.0, 0.0)),
    ("IndexDistal", "IndexIntermediate", (-0.025, 0.0, 0.0)),
    ("MiddleProximal", "Hand", (-0.092, 0.004, 0.003)),
    ("MiddleIntermediate", "MiddleProximal", (-0.046, 0.0, 0.0)),
    ("MiddleDistal", "MiddleIntermediate", (-0.029, 0.0, 0.0)),
    ("RingProximal", "Hand", (-0.087, 0.002, -0.018)),
    ("RingIntermediate", "RingProximal", (-0.042, 0.0, 0.0)),
    ("RingDistal", "RingIntermediate", (-0.028, 0.0, 0.0)),
    ("LittleProximal", "Hand", (-0.079, -0.003, -0.036)),
    ("LittleIntermediate", "LittleProximal", (-0.033, 0.0, 0.0)),
    ("LittleDistal", "LittleIntermediate", (-0.02, 0.0, 0.0)),
)
# fmt: on

BONE_COUNT = len(BONE_NAMES)

BONE_INDEX: dict[str, int] = {name: index for index, name in enumerate(BONE_NAMES)}
"""Index of each bone by name."""

HIPS_REST_M: F32 = np.array((0.0, 0.94, 0.0), dtype=np.float32)
"""(3,) where the hips stand above the ground."""
HIPS_REST_M.setflags(write=False)


def _lay_out() -> tuple[tuple[int, ...], F32]:
    """Parents and local positions in the order of ``BONE_NAMES``; the right side is mirrored."""
    parents = [-1] * BONE_COUNT
    offsets = np.zeros((BONE_COUNT, 3), dtype=np.float32)
    offsets[0] = HIPS_REST_M
    rows = [*_BODY]
    for side, mirror in (("Left", 1.0), ("Right", -1.0)):
        for name, parent, (x, y, z) in _SIDE:
            shared = parent in ("Hips", "Head", "UpperChest")
            rows.append((side + name, parent if shared else side + parent, (mirror * x, y, z)))
    for name, parent, offset in rows:
        parents[BONE_INDEX[name]] = BONE_INDEX[parent]
        offsets[BONE_INDEX[name]] = offset
    offsets.setflags(write=False)
    return tuple(parents), offsets


PARENTS, REST_OFFSETS_M = _lay_out()
"""Parent of each bone (-1 for Hips), and (55, 3) float32 position of each in its parent's frame."""


def _parents_first() -> tuple[int, ...]:
    # Unity's order is not parents first: UpperChest is last.
    def depth(bone: int) -> int:
        return 0 if bone == 0 else 1 + depth(PARENTS[bone])

    return tuple(sorted(range(BONE_COUNT), key=lambda bone: (depth(bone), bone)))


WALK_ORDER: tuple[int, ...] = _parents_first()
"""All bones, parents before children."""

FACE_POINTS_M: F32 = np.array(
    (
        (0.0, 0.045, 0.11),
        (0.032, 0.085, 0.08),
        (-0.032, 0.085, 0.08),
        (0.075, 0.06, -0.025),
        (-0.075, 0.06, -0.025),
    ),
    dtype=np.float32,
)
"""(5, 3) nose, right eye, left eye, right ear, left ear in the Head bone's frame.

At rest the directions between them, and from the neck to the nose, are within a few degrees of the
means of TED Expressive.
"""
FACE_POINTS_M.setflags(write=False)


def _ted_bones() -> tuple[int, ...]:
    body = {"spine": "Spine", "neck": "Neck"}
    limb = {"shoulder": "UpperArm", "elbow": "LowerArm", "wrist": "Hand"}
    bones = []
    for joint in JOINT_NAMES[:-5]:
        side, _, part = joint.partition("_")
        if joint in body:
            name = body[joint]
        elif part in limb:
            name = side.capitalize() + limb[part]
        else:
            finger, _, number = part.partition("_")
            name = side.capitalize() + finger.capitalize() + _PHALANGES[int(number) - 1]
        bones.append(BONE_INDEX[name])
    return tuple(bones)


TED_BONES: tuple[int, ...] = _ted_bones()
"""The bone at whose joint each of the first 38 TED joints lies; the last five are the face points.

SMPL-X counts the thumb from its carpal joint and so does Unity: thumb_1, 2, 3 are ThumbProximal,
Intermediate, Distal.
"""


def world_pose(rotations: F32, hips_m: F32) -> tuple[F32, F32]:
    """Forward kinematics on the default skeleton.

    Args:
        rotations: (..., 55, 4) local unit quaternions.
        hips_m: (..., 3) position of the hips.

    Returns:
        World rotations (..., 55, 4) and world positions (..., 55, 3), float32.
    """
    rotations = np.asarray(rotations, dtype=np.float32)
    world = np.empty_like(rotations)
    positions = np.empty((*rotations.shape[:-1], 3), dtype=np.float32)
    for bone in WALK_ORDER:
        parent = PARENTS[bone]
        if parent < 0:
            world[..., bone, :] = rotations[..., bone, :]
            positions[..., bone, :] = hips_m
            continue
        turned = world[..., parent, :]
        world[..., bone, :] = multiply(turned, rotations[..., bone, :])
        positions[..., bone, :] = positions[..., parent, :] + rotate(turned, REST_OFFSETS_M[bone])
    return world, positions


def joint_positions(rotations: F32, hips_m: F32) -> F32:
    """(..., 55, 4) local rotations and (..., 3) hips to (..., 55, 3) world positions."""
    return world_pose(rotations, hips_m)[1]


def ted_joint_positions(rotations: F32, hips_m: F32) -> F32:
    """The 43 TED joints of a humanoid pose.

    Args:
        rotations: (..., 55, 4) local unit quaternions.
        hips_m: (..., 3) position of the hips.

    Returns:
        (..., 43, 3) float32 world positions, Unity axes, in the order of ``JOINT_NAMES``.
    """
    world, positions = world_pose(rotations, hips_m)
    head = BONE_INDEX["Head"]
    face = positions[..., None, head, :] + rotate(world[..., None, head, :], FACE_POINTS_M)
    return np.concatenate((positions[..., TED_BONES, :], face), axis=-2)
