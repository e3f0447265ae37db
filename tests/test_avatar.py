"""Reading avatars: three kinds of file, missing bones, other rests, and files that lie."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ha2g_live.realtime.avatar import AvatarError, default_avatar, read_avatar
from ha2g_live.realtime.avatar_mesh import avatar_mesh
from ha2g_live.realtime.body import Measures
from ha2g_live.realtime.humanoid import (
    BONE_COUNT,
    BONE_INDEX,
    BONE_NAMES,
    HIPS_REST_M,
    PARENTS,
    REST_OFFSETS_M,
    WALK_ORDER,
    joint_positions,
)
from ha2g_live.realtime.rest_poses import rest_pose
from ha2g_live.realtime.rotation_arrays import multiply, rotate
from ha2g_live.realtime.types import F32
from tests.small_avatar import document, pack, write_avatar

MIXAMO = {
    "Hips": "mixamorig:Hips", "Spine": "mixamorig:Spine", "Chest": "mixamorig:Spine1",
    "UpperChest": "mixamorig:Spine2", "Neck": "mixamorig:Neck", "Head": "mixamorig:Head",
    **{
        f"{side}{bone}": f"mixamorig:{side}{name}"
        for side in ("Left", "Right")
        for bone, name in (
            ("Shoulder", "Shoulder"), ("UpperArm", "Arm"), ("LowerArm", "ForeArm"),
            ("Hand", "Hand"), ("UpperLeg", "UpLeg"), ("LowerLeg", "Leg"), ("Foot", "Foot"),
            ("Toes", "ToeBase"),
            *((f"{finger}{joint}", f"Hand{mark}{number}")
              for finger, mark in (("Thumb", "Thumb"), ("Index", "Index"), ("Middle", "Middle"),
                                   ("Ring", "Ring"), ("Little", "Pinky"))
              for number, joint in enumerate(("Proximal", "Intermediate", "Distal"), 1)),
        )
    },
}  # fmt: skip
UNREAL = {
    "Hips": "pelvis", "Spine": "spine_01", "Chest": "spine_02", "UpperChest": "spine_03",
    "Neck": "neck_01", "Head": "head",
    **{
        f"{side}{bone}": f"{name}_{side[0].lower()}"
        for side in ("Left", "Right")
        for bone, name in (
            ("Shoulder", "clavicle"), ("UpperArm", "upperarm"), ("LowerArm", "lowerarm"),
            ("Hand", "hand"), ("UpperLeg", "thigh"), ("LowerLeg", "calf"), ("Foot", "foot"),
            ("Toes", "ball"),
            *((f"{finger}{joint}", f"{mark}_0{number}")
              for finger, mark in (("Thumb", "thumb"), ("Index", "index"), ("Middle", "middle"),
                                   ("Ring", "ring"), ("Little", "pinky"))
              for number, joint in enumerate(("Proximal", "Intermediate", "Distal"), 1)),
        )
    },
}  # fmt: skip
BIPED = {
    "Hips": "Bip01 Pelvis", "Spine": "Bip01 Spine", "Chest": "Bip01 Spine1",
    "UpperChest": "Bip01 Spine2", "Neck": "Bip01 Neck", "Head": "Bip01 Head",
    **{
        f"{side}{bone}": f"Bip01 {side[0]} {name}"
        for side in ("Left", "Right")
        for bone, name in (
            ("Shoulder", "Clavicle"), ("UpperArm", "UpperArm"), ("LowerArm", "Forearm"),
            ("Hand", "Hand"), ("UpperLeg", "Thigh"), ("LowerLeg", "Calf"), ("Foot", "Foot"),
            ("Toes", "Toe0"),
            *((f"{finger}{joint}", f"Finger{n}{'' if number == 0 else number}")
              for n, finger in enumerate(("Thumb", "Index", "Middle", "Ring", "Little"))
              for number, joint in enumerate(("Proximal", "Intermediate", "Distal"))),
        )
    },
}  # fmt: skip


def places(offsets_m: F32, rotations: F32) -> F32:
    """(55, 3) positions of a pose on a skeleton, the hips where they are at rest."""
    turns = rotations.copy()
    out = np.zeros((BONE_COUNT, 3), np.float32)
    out[0] = offsets_m[0]
    for bone in WALK_ORDER[1:]:
        parent = PARENTS[bone]
        turns[bone] = multiply(turns[parent], rotations[bone])
        out[bone] = out[parent] + rotate(turns[parent], offsets_m[bone])
    return out


@pytest.mark.parametrize("kind", ["vrm1", "vrm0", "glb"])
def test_a_skeleton_is_read_in_unitys_axes(tmp_path: Path, kind: str) -> None:
    avatar = read_avatar(write_avatar(tmp_path / "me.vrm", kind=kind))
    assert avatar.kind == kind
    assert avatar.present.all()
    assert avatar.name == {"vrm1": "Made Up", "vrm0": "Old", "glb": "me"}[kind]
    np.testing.assert_allclose(avatar.offsets_m, REST_OFFSETS_M, atol=1e-6)


@pytest.mark.parametrize("names", [MIXAMO, UNREAL, BIPED], ids=["mixamo", "unreal", "biped"])
def test_names_of_common_tools_are_known(tmp_path: Path, names: dict[str, str]) -> None:
    without = ("LeftEye", "RightEye", "Jaw")
    path = write_avatar(tmp_path / "me.glb", kind="glb", names=names, leave_out=without)
    avatar = read_avatar(path)
    assert [BONE_NAMES[b] for b in np.flatnonzero(~avatar.present)] == list(without)
    np.testing.assert_allclose(avatar.offsets_m[:21], REST_OFFSETS_M[:21], atol=1e-6)


def test_expressions_and_shapes_are_listed(tmp_path: Path) -> None:
    assert read_avatar(write_avatar(tmp_path / "me.vrm")).blends == ("aa", "blink", "jawOpen")


@pytest.mark.parametrize(
    "without",
    [("UpperChest",), ("Chest", "UpperChest"), ("Neck",), ("LeftShoulder", "RightShoulder"),
     ("UpperChest", "Neck", "LeftShoulder")],
)  # fmt: skip
def test_bones_that_are_missing_are_moved_by_their_neighbours(
    tmp_path: Path, without: tuple[str, ...]
) -> None:
    """Turning the bones that are there puts all joints where turning all bones would."""
    avatar = read_avatar(write_avatar(tmp_path / "me.vrm", leave_out=without))
    pose = np.array(rest_pose("front"))
    for name, turn in (("Chest", 0.2), ("UpperChest", 0.15), ("Neck", -0.2), ("LeftShoulder", 0.3)):
        pose[BONE_INDEX[name]] = (np.sin(turn / 2), 0.0, 0.0, np.cos(turn / 2))
    folded = avatar.fold(pose)
    identity = (0.0, 0.0, 0.0, 1.0)
    assert all((folded[BONE_INDEX[name]] == identity).all() for name in without)
    there = [bone for bone in range(BONE_COUNT) if avatar.present[bone]]
    np.testing.assert_allclose(
        places(avatar.offsets_m, folded)[there], places(avatar.offsets_m, pose)[there], atol=1e-5
    )


def test_with_all_bones_nothing_is_folded() -> None:
    pose = np.array(rest_pose("desk"))
    assert default_avatar().fold(pose) is pose
    np.testing.assert_allclose(
        places(REST_OFFSETS_M, pose), joint_positions(pose, HIPS_REST_M), atol=1e-6
    )


def test_an_a_pose_is_raised_to_the_t_pose(tmp_path: Path) -> None:
    offsets = REST_OFFSETS_M.copy()
    turn = np.radians(40.0)
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        c, s = np.cos(sign * turn), np.sin(sign * turn)
        spin = np.array(((c, -s, 0), (s, c, 0), (0, 0, 1)))
        below = {BONE_INDEX[f"{side}UpperArm"]}
        for bone in WALK_ORDER:
            if PARENTS[bone] in below:
                below.add(bone)
                offsets[bone] = spin @ offsets[bone]
    avatar = read_avatar(write_avatar(tmp_path / "me.glb", kind="glb", offsets_m=offsets))
    assert not avatar.t_posed
    np.testing.assert_allclose(avatar.offsets_m, REST_OFFSETS_M, atol=1e-5)


def test_the_body_is_measured_from_the_mesh(tmp_path: Path) -> None:
    measures = read_avatar(write_avatar(tmp_path / "me.vrm")).measures
    # The boxes are 28 cm wide and 18 cm deep.
    assert measures.chest_half_m == pytest.approx(0.14, abs=0.03)
    assert measures.chest_depth_m == pytest.approx(0.18, abs=0.04)


def test_a_smaller_body_is_thinner(tmp_path: Path) -> None:
    glb, data = document(offsets_m=np.float32(0.6) * REST_OFFSETS_M)
    del glb["meshes"][0]["primitives"][0]["attributes"]["WEIGHTS_0"]
    (tmp_path / "me.vrm").write_bytes(pack(glb, data))
    measures = read_avatar(tmp_path / "me.vrm").measures
    assert measures.head_radius_m == pytest.approx(0.6 * Measures().head_radius_m, rel=1e-3)
    assert measures.chest_half_m == pytest.approx(0.6 * Measures().chest_half_m, rel=1e-3)


def test_the_mesh_is_read_with_its_weights(tmp_path: Path) -> None:
    (part,) = avatar_mesh(write_avatar(tmp_path / "me.vrm"))
    assert part.colour == (255, 0, 0)
    np.testing.assert_allclose(part.weights.sum(axis=1), 1.0)
    head = part.vertices[part.weights[:, BONE_INDEX["Head"]] == 1.0]
    rest = joint_positions(_upright(), HIPS_REST_M)
    np.testing.assert_allclose(head.mean(axis=0), rest[BONE_INDEX["Head"]], atol=1e-5)


def _upright() -> F32:
    pose = np.zeros((BONE_COUNT, 4), np.float32)
    pose[:, 3] = 1.0
    return pose


def _without_bone() -> bytes:
    return pack(*document(leave_out=("LeftHand",)))


def _ring() -> bytes:
    glb, data = document()
    glb["nodes"][1]["children"].append(0)
    return pack(glb, data)


def _edited(key: str, value: Any) -> bytes:
    glb, data = document()
    glb[key] = value
    return pack(glb, data)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "does not begin with"),
        (b"PNG and more of it, enough for a header", "does not begin with"),
        (b'{"asset": {"version": "2.0"}}', "export it as one binary file"),
        (struct.pack("<3I", 0x46546C67, 1, 12) + bytes(8), "version 1"),
        (pack(*document())[:4000], "cut off"),
        (struct.pack("<5I", 0x46546C67, 2, 24, 4, 0x4E4F534A) + b"{]  ", "cannot be parsed"),
        (pack({"asset": {}}, b""), "no bone Hips"),
        (_without_bone(), "no bone LeftHand"),
        (_ring(), "ring|two parents"),
        (_edited("nodes", [{"translation": [1e300, 0, 0]}]), "translation"),
        (pack(*document(offsets_m=np.float32(100.0) * REST_OFFSETS_M)), "export it in metres"),
    ],
)
def test_a_file_that_is_no_avatar_is_said_in_one_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "bad.vrm"
    path.write_bytes(content)
    with pytest.raises(AvatarError, match=said) as caught:
        read_avatar(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(AvatarError, match="cannot be read"):
        read_avatar(tmp_path / "none.vrm")


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("accessors", 0, "count"), 4_000_000_000),
        (("accessors", 0, "count"), -5),
        (("accessors", 0, "byteOffset"), 10**8),
        (("accessors", 1, "bufferView"), 99),
        (("bufferViews", 0, "byteLength"), 10**9),
        (("skins", 0, "joints"), [99_999]),
        (("skins", 0, "joints"), []),
        (("accessors", 0, "sparse"), {}),
        (("bufferViews", 0, "extensions"), {"EXT_meshopt_compression": {}}),
    ],
)
def test_a_lying_mesh_leaves_the_skeleton_and_shows_nothing(
    tmp_path: Path, where: tuple[Any, ...], value: Any
) -> None:
    glb, data = document()
    item: Any = glb
    for key in where[:-1]:
        item = item[key]
    item[where[-1]] = value
    path = tmp_path / "me.vrm"
    path.write_bytes(pack(json.loads(json.dumps(glb)), data))
    avatar = read_avatar(path)
    np.testing.assert_allclose(avatar.offsets_m, REST_OFFSETS_M, atol=1e-6)
    assert avatar.measures.chest_depth_m == pytest.approx(Measures().chest_depth_m, rel=0.01)
    assert avatar_mesh(path) == []
