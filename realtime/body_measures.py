"""How thick an avatar is, from its mesh where that can be read, else from its skeleton."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.body import Measures
from ha2g_live.realtime.gltf import Glb, GltfMeshError, index_of, obj, objects
from ha2g_live.realtime.humanoid import BONE_COUNT, BONE_INDEX, PARENTS, REST_OFFSETS_M, WALK_ORDER

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_MOST_VERTICES = 2_000_000
_FEWEST = 12  # vertices from which a thickness is taken
_WITHIN = (0.55, 1.8)
"""A measure outside these shares of what the skeleton suggests is hair, a skirt or a weapon."""
_TRUNK = ("Hips", "Spine", "Chest", "UpperChest")


def scaled_measures(offsets: F64, scale: float) -> Measures:
    """An adult's measures on another skeleton: widths by the shoulders, others by height."""
    width = _shoulders_m(offsets) / _shoulders_m(REST_OFFSETS_M.astype(np.float64))
    width = min(max(width, 0.6 * scale), 1.6 * scale)
    values = {
        field.name: getattr(Measures(), field.name) * (width if "half" in field.name else scale)
        for field in fields(Measures)
    }
    return Measures(**values)


def measures_of(glb: Glb, nodes: dict[int, int], flip: F64, guess: Measures) -> Measures:
    """Measures from the vertices of the file's skins at rest.

    Args:
        glb: the file.
        nodes: node of each bone.
        flip: signs that take the file's axes to Unity's.
        guess: what the skeleton suggests; it stands where the mesh says nothing sensible.
    """
    try:
        vertices, bones = skin_vertices(glb, nodes)
    except GltfMeshError:
        return guess
    if len(vertices) < _FEWEST:
        return guess
    vertices = vertices * flip
    joints = {bone: flip * glb.world[node][:3, 3] for bone, node in nodes.items()}
    found: dict[str, float] = {}
    trunk = vertices[np.isin(bones, [BONE_INDEX[name] for name in _TRUNK])]
    for name, bone in (("hips", "Hips"), ("belly", "Spine"), ("chest", "UpperChest")):
        joint = joints.get(BONE_INDEX[bone], joints.get(BONE_INDEX["Chest"]))
        if joint is None:
            continue
        near = trunk[np.abs(trunk[:, 1] - joint[1]) < 0.25 * guess.chest_depth_m]
        if len(near) >= _FEWEST:
            back, front = np.quantile(near[:, 2], (0.03, 0.97))
            found[f"{name}_half_m"] = float(np.quantile(np.abs(near[:, 0] - joint[0]), 0.95))
            found[f"{name}_depth_m"] = float(front - back)
            found[f"{name}_forward_m"] = float((front + back) / 2 - joint[2])
    _head(vertices, bones, joints, found)
    _forearm(vertices, bones, joints, found)
    return replace(guess, **{name: _sensible(guess, name, value) for name, value in found.items()})


def _shoulders_m(offsets: F64) -> float:
    places = np.zeros((BONE_COUNT, 3))
    for bone in WALK_ORDER[1:]:
        places[bone] = places[PARENTS[bone]] + offsets[bone]
    left, right = places[BONE_INDEX["LeftUpperArm"]], places[BONE_INDEX["RightUpperArm"]]
    return float(np.linalg.norm(left - right))


def _sensible(guess: Measures, name: str, value: float) -> float:
    usual: float = getattr(guess, name)
    if name.endswith("forward_m"):  # may be on either side of the spine
        room = 0.5 * guess.chest_depth_m
        return min(max(value, -room), room)
    return min(max(value, _WITHIN[0] * usual), _WITHIN[1] * usual)


def _head(vertices: F64, bones: I64, joints: dict[int, F64], found: dict[str, float]) -> None:
    joint = joints[BONE_INDEX["Head"]]
    head = vertices[bones == BONE_INDEX["Head"]]
    head = head[head[:, 1] > joint[1]]
    if len(head) >= _FEWEST:
        found["head_height_m"] = float(np.quantile(head[:, 1], 0.98) - joint[1])
        # Hair lies outside; the middle half of the vertices is face and skull.
        found["head_radius_m"] = float(np.quantile(np.abs(head[:, 0] - joint[0]), 0.9))
        found["head_forward_m"] = float(np.median(head[:, 2]) - joint[2])


def _forearm(vertices: F64, bones: I64, joints: dict[int, F64], found: dict[str, float]) -> None:
    ends: dict[str, list[float]] = {"elbow_radius_m": [], "wrist_radius_m": []}
    for side in ("Left", "Right"):
        elbow, wrist = (joints[BONE_INDEX[f"{side}{bone}"]] for bone in ("LowerArm", "Hand"))
        along = wrist - elbow
        length = float(np.linalg.norm(along))
        arm = vertices[bones == BONE_INDEX[f"{side}LowerArm"]] - elbow
        if len(arm) < _FEWEST or length < 1e-4:
            continue
        share = arm @ along / length**2
        far = np.linalg.norm(arm - share[:, None] * along, axis=1)
        for name, near in (("elbow_radius_m", share < 0.4), ("wrist_radius_m", share > 0.6)):
            if near.sum() >= _FEWEST:
                ends[name].append(float(np.quantile(far[near], 0.7)))
    found.update({name: float(np.mean(values)) for name, values in ends.items() if values})


class Skinned(NamedTuple):
    """One primitive of a skinned mesh.

    Attributes:
        primitive: its JSON.
        joints: (k,) nodes of the skin's joints.
        bind: (k, 4, 4) what takes a vertex of each to its rest in space.
        position: (n, 3) vertices.
        joint: (n, 4) rows of ``joints`` that hold each vertex.
        weight: (n, 4) how much.
    """

    primitive: dict[str, Any]
    joints: I64
    bind: F64
    position: npt.NDArray[Any]
    joint: npt.NDArray[Any]
    weight: npt.NDArray[Any]


def skinned(glb: Glb, most: int = _MOST_VERTICES) -> Iterator[Skinned]:
    """All primitives that hang on a skin.

    Raises:
        GltfMeshError: one cannot be read, or they have more than ``most`` vertices.
    """
    total = 0
    for node in glb.nodes:
        mesh = index_of(node.get("mesh"), len(glb.items("meshes")))
        skin = index_of(node.get("skin"), len(glb.items("skins")))
        if mesh < 0 or skin < 0:
            continue
        joints, bind = skin_joints(glb, skin)
        for primitive in objects(glb.items("meshes")[mesh].get("primitives")):
            attributes = obj(primitive.get("attributes"))
            if not {"POSITION", "JOINTS_0", "WEIGHTS_0"} <= set(attributes):
                continue
            position, joint, weight = (
                glb.accessor(attributes[name]) for name in ("POSITION", "JOINTS_0", "WEIGHTS_0")
            )
            total += len(position)
            if total > most:
                raise GltfMeshError(f"has more than {most} vertices")
            if not len(position) == len(joint) == len(weight) or position.shape[1] != 3:
                raise GltfMeshError("is damaged: a mesh's lists differ in length; export it again")
            if joint.min(initial=0) < 0 or joint.max(initial=0) >= len(joints):
                raise GltfMeshError("is damaged: a mesh names a joint that is not there")
            yield Skinned(primitive, joints, bind, position, joint, weight)


def skin_vertices(glb: Glb, nodes: dict[int, int]) -> tuple[F64, I64]:
    """All skinned vertices at rest (n, 3) in the file's axes, and the bone that holds each most.

    Raises:
        GltfMeshError: a mesh cannot be read.
    """
    owner = bone_of_node(glb, nodes)
    places: list[F64] = []
    bones: list[I64] = []
    for _, joints, bind, position, joint, weight in skinned(glb):
        strongest = joint[np.arange(len(joint)), weight.argmax(axis=1)].astype(np.int64)
        turn = bind[strongest]
        places.append(
            np.einsum("nij,nj->ni", turn[:, :3, :3], position.astype(np.float64)) + turn[:, :3, 3]
        )
        bones.append(owner[joints[strongest]])
    if not places:
        return np.zeros((0, 3)), np.zeros(0, dtype=np.int64)
    return np.concatenate(places), np.concatenate(bones)


def skin_joints(glb: Glb, skin: int) -> tuple[I64, F64]:
    """Nodes of a skin's joints (n,), and what takes a vertex to its rest in space (n, 4, 4)."""
    item = glb.items("skins")[skin]
    listed = item.get("joints")
    joints = [index_of(j, len(glb.nodes)) for j in listed] if isinstance(listed, list) else []
    if not joints or min(joints) < 0:
        raise GltfMeshError("is damaged: a skin names a node that is not there; export it again")
    inverse = np.broadcast_to(np.eye(4), (len(joints), 4, 4))
    if "inverseBindMatrices" in item:
        inverse = glb.accessor(item["inverseBindMatrices"])
        if inverse.shape != (len(joints), 4, 4):
            raise GltfMeshError("is damaged: a skin's matrices do not fit its joints")
    return np.array(joints), glb.world[joints] @ inverse.astype(np.float64)


def bone_of_node(glb: Glb, nodes: dict[int, int]) -> I64:
    """(nodes,) the bone that each node hangs on, itself included; -1 for none."""
    own = {node: bone for bone, node in nodes.items()}
    owner = np.full(len(glb.nodes), -1)
    for node in range(len(glb.nodes)):
        above = node
        while above >= 0 and above not in own:
            above = glb.parents[above]
        owner[node] = own.get(above, -1)
    return owner
