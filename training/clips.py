"""Gesture and idle clips as 42-bone directions.

A clip file (``.npz``) holds a skeleton and its motion, right-handed, y up, facing +z, in metres:
``joints``, ``parents``, ``offset_m``, ``local_quat_xyzw`` and ``root_pos_m``; or, z up and facing
-y, ``joints`` with world positions ``pos`` and world rotations ``world_quat_xyzw``. And ``fps``.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.humanoid import BONE_NAMES
from ha2g_live.realtime.retarget import to_directions
from ha2g_live.realtime.skeleton import (
    BONES,
    JOINT_NAMES,
    bone_index,
    joint_directions,
    normalise,
)
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]

FACE_JOINTS = ("nose", "right_eye", "left_eye", "right_ear", "left_ear")
_FACE_BONES = [
    bone_index("neck", "nose"),
    bone_index("nose", "right_eye"),
    bone_index("nose", "left_eye"),
    bone_index("right_eye", "right_ear"),
    bone_index("left_eye", "left_ear"),
]


_FIRST_FRAMES = 3
_CLAVICLE_BONES = [bone_index("neck", "left_shoulder"), bone_index("neck", "right_shoulder")]


@dataclass(frozen=True, slots=True)
class Clip:
    """A piece of motion.

    Attributes:
        name: set and motion, "brad_Idle03_BeatMidBt01".
        family: what the motion is (``lexicon.family_of``); "" for rest.
        hands: "left", "right" or "both".
        fps: frames a second.
        directions: (frames, 42, 3) float32 unit vectors, HA2G axes.
    """

    name: str
    family: str
    hands: str
    fps: float
    directions: F32

    @property
    def duration_s(self) -> float:
        """Length of the clip."""
        return (len(self.directions) - 1) / self.fps

    def at(self, times_s: npt.ArrayLike) -> F32:
        """(n, 42, 3) directions at any times, held at both ends."""
        position = np.clip(np.asarray(times_s) * self.fps, 0, len(self.directions) - 1)
        below = np.minimum(position.astype(int), len(self.directions) - 2)
        share = (position - below)[:, None, None]
        return normalise((1 - share) * self.directions[below] + share * self.directions[below + 1])

    def mirrored(self) -> Clip:
        """Left and right exchanged."""
        hands = {"left": "right", "right": "left"}.get(self.hands, self.hands)
        return Clip(f"{self.name}:mirror", self.family, hands, self.fps, mirror(self.directions))


def mirror(directions: F32) -> F32:
    """(..., 42, 3) directions of the mirror image."""
    return directions[..., _MIRROR_BONE, :] * np.array([-1, 1, 1], dtype=np.float32)


def _mirror_bones() -> list[int]:
    def other(name: str) -> str:
        if name.startswith("left_"):
            return "right_" + name.removeprefix("left_")
        return "left_" + name.removeprefix("right_") if name.startswith("right_") else name

    return [bone_index(other(JOINT_NAMES[p]), other(JOINT_NAMES[c])) for p, c in BONES]


_MIRROR_BONE = _mirror_bones()


def rotate(quat_xyzw: F64, vector: F64) -> F64:
    """(..., 3) vectors turned by (..., 4) unit quaternions."""
    axis, w = quat_xyzw[..., :3], quat_xyzw[..., 3:]
    cross = 2.0 * np.cross(axis, vector)
    turned: F64 = vector + w * cross + np.cross(axis, cross)
    return turned


def multiply(a: F64, b: F64) -> F64:
    """Product of (..., 4) quaternions xyzw: first ``b``, then ``a``."""
    av, aw, bv, bw = a[..., :3], a[..., 3:], b[..., :3], b[..., 3:]
    vector = aw * bv + bw * av + np.cross(av, bv)
    return np.concatenate((vector, aw * bw - np.sum(av * bv, -1, keepdims=True)), axis=-1)


def _world(file: dict[str, npt.NDArray[np.generic]]) -> tuple[dict[str, int], F64, F64]:
    """Joint names to index, world positions (frames, joints, 3), rotations (frames, joints, 4)."""
    index = {str(name): i for i, name in enumerate(file["joints"])}
    if "pos" in file:
        z_up_to_y_up = [0, 2, 1]
        positions = file["pos"].astype(float)[..., z_up_to_y_up] * [1, 1, -1]
        turns = file["world_quat_xyzw"].astype(float)[..., [*z_up_to_y_up, 3]] * [1, 1, -1, 1]
        return index, positions, turns
    parents = file["parents"].astype(int)
    offsets = file["offset_m"].astype(float)
    local = file["local_quat_xyzw"].astype(float)
    frames = len(local)
    positions = np.zeros((frames, len(parents), 3))
    rotations = np.zeros((frames, len(parents), 4))
    for joint, parent in enumerate(parents):
        if parent < 0:
            positions[:, joint] = file["root_pos_m"]
            rotations[:, joint] = local[:, joint]
        else:
            positions[:, joint] = positions[:, parent] + rotate(
                rotations[:, parent], np.broadcast_to(offsets[joint], (frames, 3))
            )
            rotations[:, joint] = multiply(rotations[:, parent], local[:, joint])
    return index, positions, rotations


_FINGERS = ("index", "middle", "little", "ring", "thumb")


def _source_names(index: dict[str, int]) -> tuple[dict[str, str], str]:
    """Our joints by the source's names, for the three skeletons we know, and the head's name."""
    names: dict[str, str] = {}
    if "JtSpineA" in index:
        names |= {"spine": "JtSpineA", "neck": "JtNeckA"}
        for side, mark in (("left", "Lf"), ("right", "Rt")):
            for ours, theirs in (("shoulder", "Shoulder"), ("elbow", "Elbow"), ("wrist", "Wrist")):
                names[f"{side}_{ours}"] = f"Jt{theirs}{mark}"
            for finger in _FINGERS:
                for k, letter in enumerate("ABC", 1):
                    names[f"{side}_{finger}_{k}"] = f"Jt{finger.capitalize()}{letter}{mark}"
        return names, "JtSkullA"
    if "Bip01 Spine" in index:
        names |= {"spine": "Bip01 Spine", "neck": "Bip01 Neck"}
        for side, mark in (("left", "L"), ("right", "R")):
            for ours, theirs in (("shoulder", "UpperArm"), ("elbow", "Forearm"), ("wrist", "Hand")):
                names[f"{side}_{ours}"] = f"Bip01 {mark} {theirs}"
            for number, finger in enumerate(("thumb", "index", "middle", "ring", "little")):
                for k, tail in enumerate(("", "1", "2"), 1):
                    names[f"{side}_{finger}_{k}"] = f"Bip01 {mark} Finger{number}{tail}"
        return names, "Bip01 Head"
    names |= {"spine": "Spine", "neck": "Neck"}
    for side in ("left", "right"):
        mark = side.capitalize()
        for ours, theirs in (("shoulder", "Arm"), ("elbow", "ForeArm"), ("wrist", "Hand")):
            names[f"{side}_{ours}"] = f"{mark}{theirs}"
        for finger in _FINGERS:
            theirs = "Pinky" if finger == "little" else finger.capitalize()
            for k in (1, 2, 3):
                names[f"{side}_{finger}_{k}"] = f"{mark}Hand{theirs}{k}"
    return names, "Head"


def directions_of(path: Path, idle: bool = False) -> tuple[F32, float]:
    """Read a clip file: (frames, 42, 3) directions in HA2G axes, and its frame rate.

    The face joints, which the clips do not have, are the points of our own rest pose turned with
    the head. A gesture begins looking straight ahead; somebody who idles does so on average.
    Skeletons differ in where their neck and shoulders stand, which would make an avatar shrug:
    the lines from neck to shoulder are turned so that the clip begins with ours.

    Args:
        path: the file.
        idle: whether it is somebody who idles.

    Raises:
        Ha2gError: the file is not a clip.
    """
    try:
        with np.load(path) as archive:
            file = {key: archive[key] for key in archive.files}
        index, positions, rotations = _world(file)
        names, head = _source_names(index)
        found = {ours: positions[:, index[theirs]] for ours, theirs in names.items()}
        head_turn = rotations[:, index[head]]
        fps = float(file["fps"])
    except (KeyError, OSError, ValueError) as error:
        raise Ha2gError(f"{path} is not a gesture clip ({error!r})") from error

    across = found["left_shoulder"] - found["right_shoulder"]
    ahead = slice(None) if idle else slice(0, _FIRST_FRAMES)
    across = across[ahead].mean(axis=0)
    yaw = float(np.arctan2(across[2], across[0]))
    joints = np.zeros((len(head_turn), len(JOINT_NAMES), 3))
    for ours, track in found.items():
        joints[:, JOINT_NAMES.index(ours)] = track
    joints -= joints[:, :1]
    joints = _turn_y(joints, yaw)
    joints[..., 1:] *= -1.0  # right-handed y up, facing +z -> HA2G: y down, z backward
    directions = joint_directions(joints.astype(np.float32))
    for bone in _CLAVICLE_BONES:
        directions[:, bone] = _recentre(directions[:, bone], _rest_directions()[bone])
    directions[:, _FACE_BONES] = _face(head_turn, ahead, yaw)
    return directions, fps


def _turn_y(points: F64, yaw_rad: float) -> F64:
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    return np.stack((cos * x + sin * z, y, -sin * x + cos * z), axis=-1)


def _face(head_turn: F64, ahead: slice, yaw_rad: float) -> F32:
    """(frames, 5, 3) face bone directions of a turning head.

    Whatever axes the source gives its head bone, the head's turn away from where it looks in the
    frames ``ahead`` is the same rotation of space, and that is what moves the mean face.
    """
    signs = np.sign(np.sum(head_turn * head_turn[:1], axis=-1, keepdims=True))
    average = (head_turn * np.where(signs == 0, 1, signs))[ahead].mean(axis=0)
    average /= np.linalg.norm(average)
    back = average * np.array([-1, -1, -1, 1])
    turn = multiply(head_turn, np.broadcast_to(back, head_turn.shape))
    template = _rest_directions()[_FACE_BONES].astype(float)
    template[:, 1:] *= -1.0
    moved = rotate(turn[:, None, :], np.broadcast_to(template, (len(turn), 5, 3)))
    moved = _turn_y(moved, yaw_rad)
    moved[..., 1:] *= -1.0
    return moved.astype(np.float32)


@functools.cache
def _rest_directions() -> F32:
    """(42, 3) directions of the humanoid skeleton's rest pose."""
    identity = np.zeros((len(BONE_NAMES), 4), dtype=np.float32)
    identity[:, 3] = 1.0
    return to_directions(identity)


def _recentre(track: F32, rest: F32) -> F32:
    """Turn all of (frames, 3) by what takes the track's beginning to ``rest``."""
    begin = normalise(track[:_FIRST_FRAMES].mean(axis=0)).astype(float)
    axis = np.cross(begin, rest)
    quat = np.append(axis, 1.0 + begin @ rest)  # the half-way quaternion of a swing
    turn = np.broadcast_to(quat / np.linalg.norm(quat), (len(track), 4))
    return rotate(turn, track.astype(float)).astype(np.float32)


def rest_pose(clips: list[Clip]) -> F32:
    """(42, 3) average pose of idle clips, made symmetrical."""
    mean = normalise(np.mean([clip.directions.mean(axis=0) for clip in clips], axis=0))
    return normalise(mean + mirror(mean))


def read_table(data: Path, name: str) -> list[dict[str, str]]:
    """The rows of a table of the data folder, ``gestures.csv`` or ``speech.csv``.

    Raises:
        Ha2gError: the table is not there.
    """
    table = data / name
    if not table.is_file():
        raise Ha2gError(f"{table} is missing: --data must name the folder that holds it")
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
