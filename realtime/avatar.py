"""The user's avatar: its skeleton, its body, the names of its expressions.

Everything is in Unity's axes and as if the bones were not turned at rest, as the humanoid pose
wants it. A bone that the file does not have is put where turning it is the same as turning a bone
that is there: in the trunk at its parent, a clavicle at the upper arm, the neck at the head.
``fold`` does that turning for the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.avatar_names import missing_names, plain_nodes, vrm0_nodes, vrm1_nodes
from ha2g_live.realtime.body import Measures
from ha2g_live.realtime.body_measures import measures_of, scaled_measures
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.gltf import Glb, GltfError, obj, objects, open_glb
from ha2g_live.realtime.humanoid import (
    BONE_COUNT,
    BONE_INDEX,
    BONE_NAMES,
    PARENTS,
    REST_OFFSETS_M,
    WALK_ORDER,
)
from ha2g_live.realtime.rotation_arrays import multiply
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]

_NEEDED = (
    "Hips", "Spine", "Head",
    "LeftUpperArm", "LeftLowerArm", "LeftHand", "RightUpperArm", "RightLowerArm", "RightHand",
)  # fmt: skip
_TRUNK = ("Chest", "UpperChest")
_WITH_CHILD = {"Neck": "Head", "LeftShoulder": "LeftUpperArm", "RightShoulder": "RightUpperArm"}
"""Bones whose turn the bone at their end takes over; turning the parent would turn others too."""
_SMALLEST_M, _TALLEST_M = 0.1, 20.0
_T_POSE_WITHIN = 0.985  # cosine between an arm and the horizontal that counts as a T-pose


class AvatarError(Ha2gError):
    """The file is no avatar that can be moved."""


@dataclass(frozen=True, slots=True)
class Avatar:
    """An avatar's facts.

    Attributes:
        name: its title.
        kind: "vrm1", "vrm0", "glb" or "default".
        offsets_m: (55, 3) float32 rest position of each bone in its parent's frame, Unity axes;
            of the hips above the ground.
        present: (55,) which bones it has.
        measures: how thick its body is.
        blends: names of the expressions and shapes it has.
        t_posed: whether the file's own rest is the T-pose.
    """

    name: str
    kind: str
    offsets_m: F32
    present: npt.NDArray[np.bool_]
    measures: Measures
    blends: tuple[str, ...] = ()
    t_posed: bool = True

    def fold(self, rotations: F32) -> F32:
        """A pose (55, 4) in which bones that the avatar lacks are not turned.

        Their turns are taken over by the parent in the trunk, elsewhere by the bone at their end.
        """
        if self.present.all():
            return rotations
        out: F32 = rotations.copy()
        for name in reversed(_TRUNK):
            bone = BONE_INDEX[name]
            if not self.present[bone]:
                out[PARENTS[bone]] = multiply(out[PARENTS[bone]], out[bone])
        for name, child in _WITH_CHILD.items():
            bone, end = BONE_INDEX[name], BONE_INDEX[child]
            if not self.present[bone]:
                out[end] = multiply(out[bone], out[end])
        out[~self.present] = (0.0, 0.0, 0.0, 1.0)
        return out


def default_avatar() -> Avatar:
    """The default skeleton."""
    return Avatar(
        name="default",
        kind="default",
        offsets_m=REST_OFFSETS_M,
        present=np.ones(BONE_COUNT, dtype=np.bool_),
        measures=Measures(),
    )


def read_avatar(path: Path) -> Avatar:
    """The avatar in a .vrm or .glb file.

    Raises:
        AvatarError: the file is missing, damaged, or holds no humanoid; one line says which.
    """
    try:
        return _read(path)
    except GltfError as error:
        raise AvatarError(f"the avatar {path} {error}") from error


def _read(path: Path) -> Avatar:
    glb = open_glb(path)
    kind, nodes = nodes_of(glb)
    flip = axes_of(glb, nodes)
    joints = {bone: flip * glb.world[node][:3, 3] for bone, node in nodes.items()}
    height_m = float(joints[BONE_INDEX["Head"]][1] - min(joint[1] for joint in joints.values()))
    if not _SMALLEST_M <= height_m <= _TALLEST_M:
        raise AvatarError(
            f"the avatar {path} is {height_m:.3g} m tall up to the head: export it in metres"
        )
    scale = _scale(joints)
    offsets, t_posed = _offsets(joints, scale)
    present = np.zeros(BONE_COUNT, dtype=np.bool_)
    present[list(nodes)] = True
    return Avatar(
        name=_title(glb, kind) or path.stem,
        kind=kind,
        offsets_m=offsets.astype(np.float32),
        present=present,
        measures=measures_of(glb, nodes, flip, scaled_measures(offsets, scale)),
        blends=_blends(glb, kind),
        t_posed=t_posed,
    )


def nodes_of(glb: Glb) -> tuple[str, dict[int, int]]:
    """What kind of file it is, and the node of each bone that it has.

    Raises:
        AvatarError: it lacks a bone that is needed.
    """
    if glb.extension("VRMC_vrm"):
        kind, nodes = "vrm1", vrm1_nodes(glb)
    elif glb.extension("VRM"):
        kind, nodes = "vrm0", vrm0_nodes(glb)
    else:
        kind, nodes = "glb", plain_nodes(glb)
    missing = missing_names(nodes, _NEEDED)
    if missing:
        raise AvatarError(
            f"the avatar {glb.path} has no bone {', '.join(missing)}: export it as a humanoid, "
            "best as .vrm"
        )
    return kind, nodes


def axes_of(glb: Glb, nodes: dict[int, int]) -> F64:
    """Signs that take the file's axes to Unity's, the avatar facing +z."""
    left, right = (
        glb.world[nodes[BONE_INDEX[f"{side}UpperArm"]]][0, 3] for side in ("Left", "Right")
    )
    # glTF is right-handed. Facing +z its left is at +x; VRM 0 faces -z with its left at -x.
    faces_back = left < right
    return np.array((1.0, 1.0, -1.0) if faces_back else (-1.0, 1.0, 1.0))


def _scale(joints: dict[int, F64]) -> float:
    """Size against the default skeleton, by the line from hips to head."""
    hips, head = joints[0], joints[BONE_INDEX["Head"]]
    default = sum(
        REST_OFFSETS_M[BONE_INDEX[name], 1]
        for name in ("Spine", "Chest", "UpperChest", "Neck", "Head")
    )
    return float(max(np.linalg.norm(head - hips), 1e-3) / default)


def _offsets(joints: dict[int, F64], scale: float) -> tuple[F64, bool]:
    """(55, 3) rest positions in the parents' frames with the arms in a T-pose; if they were."""
    t_posed = True
    places = np.zeros((BONE_COUNT, 3))
    offsets = np.zeros((BONE_COUNT, 3))
    for bone in WALK_ORDER:
        parent = PARENTS[bone]
        name = BONE_NAMES[bone]
        if bone in joints:
            places[bone] = joints[bone]
        elif parent < 0 or name in _TRUNK:
            places[bone] = places[parent]
        elif name in _WITH_CHILD:
            places[bone] = joints[BONE_INDEX[_WITH_CHILD[name]]]
        else:
            places[bone] = places[parent] + scale * REST_OFFSETS_M[bone]
        offsets[bone] = places[bone] - (places[parent] if parent >= 0 else 0.0)
    # The ground is where the lowest joint stands, but for what a sole is thick.
    offsets[0] = (0.0, max(places[0, 1], 0.0), 0.0)
    for side, away in (("Left", -1.0), ("Right", 1.0)):
        for start, end in (("UpperArm", "LowerArm"), ("LowerArm", "Hand")):
            bone = BONE_INDEX[side + end]
            length = float(np.linalg.norm(offsets[bone]))
            if length < 1e-4:
                raise AvatarError(f"the avatar's {side}{start} has no length: export it again")
            straight = offsets[bone, 0] * away / length
            if straight < _T_POSE_WITHIN:  # an A-pose: the whole arm is turned up
                t_posed = False
                _raise_arm(offsets, BONE_INDEX[side + start], offsets[bone] / length, away)
    return offsets, t_posed


def _raise_arm(offsets: F64, bone: int, along: F64, away: float) -> None:
    """Turn everything below a bone so that ``along`` becomes horizontal."""
    goal = np.array((away, 0.0, 0.0))
    axis = np.cross(along, goal)
    cosine = float(along @ goal)
    cross = np.array(
        ((0, -axis[2], axis[1]), (axis[2], 0, -axis[0]), (-axis[1], axis[0], 0)), dtype=np.float64
    )
    turn = np.eye(3) + cross + cross @ cross / (1.0 + cosine)
    below = {bone}
    for child in WALK_ORDER:
        if PARENTS[child] in below:
            below.add(child)
            offsets[child] = turn @ offsets[child]


def _title(glb: Glb, kind: str) -> str:
    meta = obj(glb.extension("VRMC_vrm" if kind == "vrm1" else "VRM").get("meta"))
    title = meta.get("name") or meta.get("title") or ""
    return " ".join(str(title).split())[:60]


def _blends(glb: Glb, kind: str) -> tuple[str, ...]:
    names: list[Any] = []
    if kind == "vrm1":
        expressions = obj(glb.extension("VRMC_vrm").get("expressions"))
        names += [*obj(expressions.get("preset")), *obj(expressions.get("custom"))]
    elif kind == "vrm0":
        groups = objects(obj(glb.extension("VRM").get("blendShapeMaster")).get("blendShapeGroups"))
        names += [group.get("name") for group in groups]
    for mesh in glb.items("meshes"):
        targets = obj(mesh.get("extras")).get("targetNames")
        names += targets if isinstance(targets, list) else []
    return tuple(dict.fromkeys(str(name) for name in names if isinstance(name, str) and name))
