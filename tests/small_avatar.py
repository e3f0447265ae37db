"""Made-up avatar files: a skeleton with a box of skin on each bone, as .glb or .vrm."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ha2g_live.realtime.humanoid import BONE_NAMES, PARENTS, REST_OFFSETS_M, WALK_ORDER
from ha2g_live.realtime.types import F32


def _vrm1_name(name: str) -> str:
    for unity, vrm in (
        ("ThumbIntermediate", "ThumbProximal#"),
        ("ThumbProximal", "ThumbMetacarpal"),
    ):
        if unity in name:
            name = name.replace(unity, vrm)
            break
    name = name.replace("#", "")
    return name[0].lower() + name[1:]


def document(
    kind: str = "vrm1",
    offsets_m: F32 = REST_OFFSETS_M,
    leave_out: tuple[str, ...] = (),
    names: dict[str, str] | None = None,
) -> tuple[dict[str, Any], bytes]:
    """JSON and binary data of an avatar file.

    Args:
        kind: "vrm1", "vrm0" or "glb".
        offsets_m: (55, 3) rest positions, Unity axes.
        leave_out: bones that the file does not have; their children hang on the bone above.
        names: node names, by bone; the bone's own when left out.
    """
    flip = np.array((1.0, 1.0, -1.0) if kind == "vrm0" else (-1.0, 1.0, 1.0))
    nodes: list[dict[str, Any]] = [{"name": "root", "children": []}]
    node_of: dict[int, int] = {}
    for bone in WALK_ORDER:
        parent = PARENTS[bone]
        place = offsets_m[bone] * flip
        while parent >= 0 and parent not in node_of:
            place = place + offsets_m[parent] * flip
            parent = PARENTS[parent]
        if BONE_NAMES[bone] in leave_out:
            continue
        name = (names or {}).get(BONE_NAMES[bone], BONE_NAMES[bone])
        nodes.append({"name": name, "translation": place.tolist(), "children": []})
        node_of[bone] = len(nodes) - 1
        nodes[node_of[parent] if parent >= 0 else 0]["children"].append(node_of[bone])
    vertices, joints, faces = _skin(offsets_m, flip, list(node_of))
    blobs = [
        vertices.astype("<f4").tobytes(),
        np.column_stack((joints, np.zeros((len(joints), 3)))).astype("<u2").tobytes(),
        np.tile(np.array((1.0, 0, 0, 0), "<f4"), (len(joints), 1)).tobytes(),
        faces.astype("<u4").tobytes(),
    ]
    views, at = [], 0
    for blob in blobs:
        views.append({"buffer": 0, "byteOffset": at, "byteLength": len(blob)})
        at += len(blob)
    kinds = ((5126, "VEC3"), (5123, "VEC4"), (5126, "VEC4"), (5125, "SCALAR"))
    counts = (len(vertices), len(joints), len(joints), faces.size)
    glb: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [*nodes, {"name": "body", "mesh": 0, "skin": 0}],
        "meshes": [
            {
                "primitives": [
                    {
                        "attributes": {"POSITION": 0, "JOINTS_0": 1, "WEIGHTS_0": 2},
                        "indices": 3,
                        "material": 0,
                    }
                ],
                "extras": {"targetNames": ["jawOpen"]},
            }
        ],
        "materials": [{"pbrMetallicRoughness": {"baseColorFactor": [1.0, 0.0, 0.0, 1.0]}}],
        "skins": [{"joints": list(node_of.values())}],
        "accessors": [
            {"bufferView": k, "componentType": c, "type": t, "count": n}
            for k, ((c, t), n) in enumerate(zip(kinds, counts, strict=True))
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": at}],
    }
    # Vertices are given in the joint's own frame, so no inverse matrices are needed.
    if kind == "vrm1":
        human = {_vrm1_name(BONE_NAMES[b]): {"node": n} for b, n in node_of.items()}
        glb["extensions"] = {
            "VRMC_vrm": {
                "humanoid": {"humanBones": human},
                "meta": {"name": "Made Up"},
                "expressions": {"preset": {"aa": {}, "blink": {}}},
            }
        }
    elif kind == "vrm0":
        human0 = [
            {"bone": BONE_NAMES[b][0].lower() + BONE_NAMES[b][1:], "node": n}
            for b, n in node_of.items()
        ]
        glb["extensions"] = {"VRM": {"humanoid": {"humanBones": human0}, "meta": {"title": "Old"}}}
    return glb, b"".join(blobs)


def _skin(offsets_m: F32, flip: Any, bones: list[int]) -> tuple[Any, Any, Any]:
    """A box of 12 by 24 by 18 cm about each trunk bone, small ones elsewhere."""
    corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    vertices, joints, faces = [], [], []
    for joint, bone in enumerate(bones):
        name = BONE_NAMES[bone]
        size = (0.14, 0.05, 0.09) if name in ("Hips", "Spine", "Chest", "UpperChest") else (
            0.03, 0.03, 0.03)  # fmt: skip
        points = np.concatenate([corners * size, 0.9 * corners * size, 0.8 * corners * size])
        faces.append(np.array([(0, 1, 2), (1, 3, 2)]) + 24 * joint)
        vertices.append(points)
        joints += [joint] * len(points)
    return np.concatenate(vertices), np.array(joints), np.concatenate(faces)


def pack(glb: dict[str, Any], data: bytes) -> bytes:
    """The file's bytes."""
    text = json.dumps(glb).encode()
    text += b" " * (-len(text) % 4)
    data += bytes(-len(data) % 4)
    total = 12 + 8 + len(text) + 8 + len(data)
    return (
        struct.pack("<3I", 0x46546C67, 2, total)
        + struct.pack("<2I", len(text), 0x4E4F534A)
        + text
        + struct.pack("<2I", len(data), 0x004E4942)
        + data
    )


def write_avatar(path: Path, **options: Any) -> Path:
    """Write a made-up avatar; see ``document``."""
    path.write_bytes(pack(*document(**options)))
    return path
