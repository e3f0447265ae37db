"""The skinned mesh of an avatar's file, for showing it: at rest, with the 55 bones' weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.avatar import axes_of, nodes_of
from ha2g_live.realtime.body_measures import bone_of_node, skinned
from ha2g_live.realtime.gltf import Glb, GltfError, index_of, obj, open_glb
from ha2g_live.realtime.humanoid import BONE_COUNT
from ha2g_live.realtime.types import F32

MOST_VERTICES = 150_000
"""A page shows no more than that."""
_PLAIN = (0.8, 0.8, 0.82, 1.0)


@dataclass(frozen=True, slots=True)
class MeshPart:
    """A part of one colour.

    Attributes:
        vertices: (n, 3) float32 at rest, Unity axes, the ground at zero.
        faces: (m, 3) uint32.
        weights: (n, 55) float32, rows that sum to one.
        colour: red, green, blue, 0..255.
    """

    vertices: F32
    faces: npt.NDArray[np.uint32]
    weights: F32
    colour: tuple[int, int, int]


def avatar_mesh(path: Path) -> list[MeshPart]:
    """The parts of a file's skinned meshes; none where it cannot be shown (compressed, too large).

    Raises:
        AvatarError: the file is no avatar.
    """
    try:
        glb = open_glb(path)
        _, nodes = nodes_of(glb)
        owner = bone_of_node(glb, nodes)
        return _parts(glb, axes_of(glb, nodes), owner)
    except GltfError:
        return []


def _parts(glb: Glb, flip: Any, owner: Any) -> list[MeshPart]:
    parts: list[MeshPart] = []
    for primitive, joints, bind, position, joint, weight in skinned(glb, MOST_VERTICES):
        if "indices" not in primitive or primitive.get("mode", 4) != 4:
            continue
        bones = np.maximum(owner[joints], 0)
        corners = glb.accessor(primitive["indices"]).reshape(-1)
        faces = corners[: len(corners) // 3 * 3].reshape(-1, 3)
        if faces.max(initial=0) >= len(position):
            return []
        share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-6)
        turn = np.einsum("nk,nkij->nij", share, bind[joint])
        place = np.einsum("nij,nj->ni", turn[:, :3, :3], position) + turn[:, :3, 3]
        dense = np.zeros((len(position), BONE_COUNT), dtype=np.float32)
        for k in range(joint.shape[1]):
            np.add.at(dense, (np.arange(len(joint)), bones[joint[:, k]]), share[:, k])
        # A mirror image turns a face inside out.
        order = (0, 2, 1) if np.prod(flip) < 0 else (0, 1, 2)
        parts.append(
            MeshPart(
                (place * flip).astype(np.float32),
                faces[:, order].astype(np.uint32),
                dense,
                _colour(glb, primitive),
            )
        )
    return parts


def _colour(glb: Glb, primitive: dict[str, Any]) -> tuple[int, int, int]:
    materials = glb.items("materials")
    index = index_of(primitive.get("material"), len(materials))
    shading = obj(materials[index].get("pbrMetallicRoughness")) if index >= 0 else {}
    factor = shading.get("baseColorFactor", _PLAIN)
    if not isinstance(factor, list | tuple) or len(factor) < 3:
        factor = _PLAIN
    # The file's colours are linear, a page's are not.
    red, green, blue = (round(255 * min(max(float(c), 0.0), 1.0) ** (1 / 2.2)) for c in factor[:3])
    return red, green, blue
