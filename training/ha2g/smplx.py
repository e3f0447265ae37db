"""From SMPL-X joint rotations to the joints of TED Expressive.

SMPL-X (Pavlakos et al., CVPR 2019) has 55 joints in axes with y up, z forward and x to the
person's left. Its model file is under a licence of its own, so none comes with ha2g-live: a user's
own file gives exact proportions, and an adult of our own does where there is none. The bones'
directions depend on proportions only through the rest pose.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ha2g_live.engines.ted import skeleton
from ha2g_live.realtime.humanoid import BONE_INDEX, FACE_POINTS_M, PARENTS, REST_OFFSETS_M
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g.dataset import DataSetError
from ha2g_live.training.ha2g.kinematics import F64, rotation_matrices

_SIDES = ("left", "right")
_FINGERS = ("index", "middle", "pinky", "ring", "thumb")
JOINTS: tuple[str, ...] = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2"),
    *("left_ankle", "right_ankle", "spine3", "left_foot", "right_foot", "neck"),
    *("left_collar", "right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "jaw", "left_eye", "right_eye"),
    *(f"{side}_{finger}{n}" for side in _SIDES for finger in _FINGERS for n in (1, 2, 3)),
)
"""The 55 joints in SMPL-X's order, which is that of the pose vector."""


def _parent(joint: str) -> int:
    chain = {
        "pelvis": "",
        **{"spine1": "pelvis", "spine2": "spine1", "spine3": "spine2"},
        **{"neck": "spine3", "head": "neck", "jaw": "head"},
    }
    limbs = {
        **{"hip": "pelvis", "knee": "hip", "ankle": "knee", "foot": "ankle", "eye": "head"},
        **{"collar": "spine3", "shoulder": "collar", "elbow": "shoulder", "wrist": "elbow"},
    }
    if joint in chain:
        above = chain[joint]
        return JOINTS.index(above) if above else -1
    side, _, part = joint.partition("_")
    if part in limbs:
        above = limbs[part]
        return JOINTS.index(above if above in chain else f"{side}_{above}")
    finger, number = part[:-1], int(part[-1])
    return JOINTS.index(f"{side}_wrist" if number == 1 else f"{side}_{finger}{number - 1}")


JOINT_PARENTS: tuple[int, ...] = tuple(_parent(joint) for joint in JOINTS)
"""Parent of each joint, -1 for the pelvis; parents stand before their children."""

_BODY_JOINTS = (
    *("spine3", "neck", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist"),
)
_TED_JOINTS = [JOINTS.index(joint) for joint in (*_BODY_JOINTS, *JOINTS[25:])]
_HEAD = JOINTS.index("head")
UNREADABLE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What numpy raises for an .npz file that is damaged or not one."""
_TO_HA2G = np.array((1.0, -1.0, -1.0))
_FROM_UNITY = np.array((-1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Body:
    """A rest pose.

    Attributes:
        name: where it is from, for people.
        template: (55, 3) rest positions of the joints, metres.
        shapes: (55, 3, n) what each shape coefficient adds to them.
    """

    name: str
    template: F64
    shapes: F64

    @classmethod
    def approximate(cls) -> Body:
        """The proportions of ha2g-live's default adult."""
        offsets = _FROM_UNITY * REST_OFFSETS_M
        positions = np.zeros((len(JOINTS), 3))
        for index, joint in enumerate(JOINTS):
            positions[index] = _humanoid_position(BONE_INDEX[_humanoid_bone(joint)], offsets)
        return cls("approximate proportions", positions, np.zeros((len(JOINTS), 3, 0)))

    @classmethod
    def load(cls, path: Path) -> Body:
        """The user's own SMPL-X file (.npz).

        Raises:
            DataSetError: it is missing or not such a file.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                regressor = np.asarray(file["J_regressor"], dtype=np.float64)
                vertices = np.asarray(file["v_template"], dtype=np.float64)
                directions = np.asarray(file["shapedirs"], dtype=np.float64)
                parents = np.asarray(file["kintree_table"])[0].astype(np.int64)
            template = regressor @ vertices
            shapes = np.einsum("jv,vxn->jxn", regressor, directions, optimize=True)
            if template.shape != (len(JOINTS), 3) or tuple(parents[1:]) != JOINT_PARENTS[1:]:
                raise ValueError("its joints are not those of SMPL-X")
        except (*UNREADABLE, KeyError, IndexError) as error:
            raise DataSetError(
                f"{path} is not an SMPL-X body model ({error}): give the .npz file of SMPL-X, or "
                "leave out --body-model"
            ) from error
        return cls(f"SMPL-X body model {path.name}", template, shapes)

    def joints(self, betas: F64) -> F64:
        """(55, 3) rest positions for (n,) shape coefficients; those it has none for are ignored."""
        count = min(len(betas), self.shapes.shape[-1])
        positions: F64 = self.template + self.shapes[..., :count] @ betas[:count]
        return positions


def ted_positions(poses: F64, betas: F64, body: Body) -> F32:
    """Rotations to joints in the scale and axes of TED Expressive; the person faces the viewer.

    Bones take the lengths of the data set's mean pose, so its filters hold, and the pelvis's turn
    about the vertical is undone in every frame.

    Args:
        poses: (frames, 165) rotation vectors of the 55 joints.
        betas: (n,) shape coefficients.
        body: the rest pose.

    Returns:
        (frames, 43, 3) float32.
    """
    bones = skeleton("ted_expressive")
    points = _joints(poses.reshape(len(poses), len(JOINTS), 3), body.joints(betas))
    mean = bones.mean_pose.astype(np.float64)
    positions = np.empty((len(poses), bones.joint_count, 3))
    positions[:, 0] = mean[0]
    for parent, child in bones.bones:
        bone = points[:, child] - points[:, parent]
        length = np.linalg.norm(bone, axis=-1, keepdims=True)
        reach = np.linalg.norm(mean[child] - mean[parent])
        positions[:, child] = positions[:, parent] + reach * bone / np.maximum(length, 1e-9)
    return positions.astype(np.float32)


def _joints(turns: F64, rest: F64) -> F64:
    """(frames, 43, 3) TED joints, HA2G axes, in the body's own lengths."""
    local = rotation_matrices(turns)
    forward = local[:, 0, :, 2]
    yaw = np.arctan2(forward[:, 0], forward[:, 2])
    undo = np.zeros((len(turns), 3))
    undo[:, 1] = -yaw
    world = np.empty_like(local)
    positions = np.zeros((len(turns), len(JOINTS), 3))
    for joint, parent in enumerate(JOINT_PARENTS):
        if parent < 0:
            world[:, joint] = rotation_matrices(undo) @ local[:, joint]
            continue
        world[:, joint] = world[:, parent] @ local[:, joint]
        positions[:, joint] = positions[:, parent] + world[:, parent] @ (rest[joint] - rest[parent])
    face = positions[:, None, _HEAD] + (_FROM_UNITY * FACE_POINTS_M) @ np.swapaxes(
        world[:, _HEAD], -1, -2
    )
    joints: F64 = np.concatenate((positions[:, _TED_JOINTS], face), axis=1) * _TO_HA2G
    return joints


def _humanoid_bone(joint: str) -> str:
    centre = {
        **{"pelvis": "Hips", "spine1": "Spine", "spine2": "Chest", "spine3": "UpperChest"},
        **{"neck": "Neck", "head": "Head", "jaw": "Jaw"},
    }
    limbs = {
        **{"hip": "UpperLeg", "knee": "LowerLeg", "ankle": "Foot", "foot": "Toes", "eye": "Eye"},
        **{"collar": "Shoulder", "shoulder": "UpperArm", "elbow": "LowerArm", "wrist": "Hand"},
    }
    if joint in centre:
        return centre[joint]
    side, _, part = joint.partition("_")
    if part in limbs:
        return side.capitalize() + limbs[part]
    finger = "Little" if part.startswith("pinky") else part[:-1].capitalize()
    return side.capitalize() + finger + ("Proximal", "Intermediate", "Distal")[int(part[-1]) - 1]


def _humanoid_position(bone: int, offsets: Any) -> Any:
    parent = PARENTS[bone]
    return offsets[bone] + (0.0 if parent < 0 else _humanoid_position(parent, offsets))
