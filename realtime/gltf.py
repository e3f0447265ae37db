"""Reading binary glTF 2.0 files (.glb, .vrm): the container, node transforms, accessors.

Only what an avatar's skeleton and skin need. Files come from anywhere, so every number in them is
held against the file's size before memory is asked for.

Source: the glTF 2.0 specification of the Khronos Group. Axes are glTF's: right-handed, y up.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.errors import Ha2gError

F64 = npt.NDArray[np.float64]

MAX_FILE_BYTES = 500_000_000
_MAX_JSON_BYTES = 64_000_000
_MAX_NODES = 65_536
MAX_ELEMENTS = 4_000_000
"""Most elements of one accessor."""

_MAGIC, _JSON_CHUNK, _BIN_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
_DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class GltfError(Ha2gError):
    """The file is no glTF that can be read here. The message does not name the file."""


class GltfMeshError(GltfError):
    """The nodes are sound, but mesh data cannot be read."""


@dataclass(frozen=True, slots=True)
class Glb:
    """An open file.

    Attributes:
        path: where the accessors' data is read from.
        document: the JSON of the file.
        bin_start: offset of the binary chunk in the file.
        bin_bytes: its length; 0 if there is none.
        nodes: the JSON of the nodes.
        parents: parent of each node, -1 for a root.
        world: (nodes, 4, 4) world transforms, column vectors.
    """

    path: Path
    document: dict[str, Any]
    bin_start: int
    bin_bytes: int
    nodes: list[dict[str, Any]]
    parents: list[int]
    world: F64

    def items(self, key: str) -> list[dict[str, Any]]:
        """A top-level list of objects, for example ``"meshes"``; empty if there is none."""
        return objects(self.document.get(key))

    def extension(self, name: str) -> dict[str, Any]:
        """A top-level extension; empty if there is none."""
        return obj(obj(self.document.get("extensions")).get(name))

    def accessor(self, index: Any) -> npt.NDArray[Any]:
        """The data of an accessor.

        Returns:
            (count, width) float32 for floats and normalised integers, else unsigned integers as
            int64; (count, 4, 4) for matrices (column vectors).

        Raises:
            GltfMeshError: it is compressed, sparse, or does not lie inside the file.
        """
        return _read_accessor(self, index)


def obj(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """The value if it is a list, with what is no object in it replaced by empty ones."""
    return [obj(item) for item in value] if isinstance(value, list) else []


def index_of(value: Any, count: int) -> int:
    """The value if it is an index below ``count``, else -1."""
    return value if type(value) is int and 0 <= value < count else -1


def open_glb(path: Path) -> Glb:
    """Read a file's JSON and work out where its nodes stand.

    Raises:
        GltfError: it is not a .glb or .vrm, is damaged, or is larger than is sensible.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size > MAX_FILE_BYTES:
                raise GltfError(
                    f"has {size // 1_000_000} MB, more than {MAX_FILE_BYTES // 1_000_000} MB;"
                    " export it with smaller textures"
                )
            document, start, length = _read_chunks(file, size)
    except OSError as error:
        raise GltfError(f"cannot be read: {error.strerror or error}; check the path") from None
    nodes = objects(document.get("nodes"))
    if len(nodes) > _MAX_NODES:
        raise GltfError(f"has {len(nodes)} nodes, more than {_MAX_NODES}; export it without props")
    parents, order = _hierarchy(nodes)
    return Glb(path, document, start, length, nodes, parents, _world(nodes, parents, order))


def _read_chunks(file: Any, size: int) -> tuple[dict[str, Any], int, int]:
    head = file.read(20)
    if head[:4] != struct.pack("<I", _MAGIC):
        if head.lstrip()[:1] == b"{":
            raise GltfError("is a glTF text file (.gltf); export it as one binary file, .glb")
        raise GltfError("is not a binary glTF (.glb or .vrm): it does not begin with 'glTF'")
    if len(head) < 20:
        raise GltfError(f"is cut off after {len(head)} bytes; export or download it again")
    _, version, total, length, kind = struct.unpack("<5I", head)
    if version != 2:
        raise GltfError(f"is glTF version {version}; only version 2 can be read: export it again")
    if total > size or 20 + length > size:
        claimed = max(total, 20 + length)
        raise GltfError(f"is cut off: {size} of {claimed} bytes; export or download it again")
    if kind != _JSON_CHUNK or length > _MAX_JSON_BYTES:
        raise GltfError(
            f"is damaged: its first chunk is no JSON of at most {_MAX_JSON_BYTES} bytes"
        )
    try:
        document = json.loads(file.read(length))
    except (ValueError, RecursionError):
        raise GltfError("is damaged: its JSON cannot be parsed; export it again") from None
    if not isinstance(document, dict):
        raise GltfError("is damaged: its JSON is no object; export it again")
    head = file.read(8)
    if len(head) < 8:
        return document, 0, 0
    bin_length, kind = struct.unpack("<2I", head)
    start = 20 + length + 8
    if kind != _BIN_CHUNK:
        return document, 0, 0
    if start + bin_length > size:
        raise GltfError(
            f"is cut off: {size} of {start + bin_length} bytes; export or download it again"
        )
    return document, start, bin_length


def _hierarchy(nodes: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """Parent of each node, and an order with parents first."""
    parents = [-1] * len(nodes)
    for parent, node in enumerate(nodes):
        children = node.get("children")
        for child in children if isinstance(children, list) else ():
            index = index_of(child, len(nodes))
            if index < 0:
                raise GltfError(
                    f"is damaged: node {parent} has a child {child!r:.40}; export again"
                )
            if parents[index] >= 0:
                raise GltfError(f"is damaged: node {index} has two parents; export it again")
            parents[index] = parent
    order = [index for index, parent in enumerate(parents) if parent < 0]
    at = 0
    while at < len(order):
        order.extend(nodes[order[at]].get("children") or ())
        at += 1
    if len(order) < len(nodes):
        raise GltfError("is damaged: its nodes form a ring; export it again")
    return parents, order


def _numbers(node: dict[str, Any], key: str, default: tuple[float, ...]) -> F64:
    value = node.get(key, default)
    fits = isinstance(value, (list, tuple)) and len(value) == len(default)
    if not fits or not all(type(x) in (int, float) and abs(x) < 1e12 for x in value):
        raise GltfError(f"is damaged: a node's {key} is {value!r:.40}; export it again")
    return np.array(value, dtype=np.float64)


def _local(node: dict[str, Any]) -> F64:
    if "matrix" in node:
        return np.array(_numbers(node, "matrix", (0.0,) * 16).reshape(4, 4).T)
    x, y, z, w = _numbers(node, "rotation", (0.0, 0.0, 0.0, 1.0))
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    x, y, z, w = (x / norm, y / norm, z / norm, w / norm) if norm > 1e-12 else (0, 0, 0, 1)
    out = np.eye(4)
    out[:3, :3] = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    out[:3, :3] *= _numbers(node, "scale", (1.0, 1.0, 1.0))
    out[:3, 3] = _numbers(node, "translation", (0.0, 0.0, 0.0))
    return out


def _world(nodes: list[dict[str, Any]], parents: list[int], order: list[int]) -> F64:
    world = np.empty((len(nodes), 4, 4))
    with np.errstate(over="ignore", invalid="ignore"):
        for index in order:
            local = _local(nodes[index])
            world[index] = local if parents[index] < 0 else world[parents[index]] @ local
    if not np.isfinite(world).all() or (len(nodes) and np.abs(world).max() > 1e12):
        raise GltfError("is damaged: its nodes lie beyond all measure; export it again")
    return world


def _natural(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_FILE_BYTES:
        raise GltfMeshError(f"is damaged: {what} is {value!r:.40}; export it again")
    return value


def _read_accessor(glb: Glb, index: Any) -> npt.NDArray[Any]:
    accessors, views = glb.items("accessors"), glb.items("bufferViews")
    number = index_of(index, len(accessors))
    if number < 0:
        raise GltfMeshError(f"is damaged: there is no accessor {index!r:.40}; export it again")
    accessor = accessors[number]
    view_index = index_of(accessor.get("bufferView"), len(views))
    if "sparse" in accessor or view_index < 0:
        raise GltfMeshError("has compressed or sparse mesh data; export it without compression")
    view = views[view_index]
    if "EXT_meshopt_compression" in obj(view.get("extensions")) or view.get("buffer") != 0:
        raise GltfMeshError("has compressed or outside mesh data; export it without compression")
    dtype, width = (
        _DTYPES.get(accessor.get("componentType", 0)),
        _WIDTHS.get(str(accessor.get("type"))),
    )
    if dtype is None or width is None:
        raise GltfMeshError(f"is damaged: accessor {number} has no known type; export it again")
    count = _natural(accessor.get("count"), f"the count of accessor {number}")
    if count > MAX_ELEMENTS:
        raise GltfMeshError(f"has {count} elements in one mesh, more than {MAX_ELEMENTS}")
    element = np.dtype(dtype).itemsize * width
    stride = _natural(view.get("byteStride", 0), "a stride") or element
    inside = _natural(accessor.get("byteOffset", 0), "an offset")
    start = _natural(view.get("byteOffset", 0), "an offset") + inside
    span = (count - 1) * stride + element if count else 0
    length = _natural(view.get("byteLength"), "the length of a buffer view")
    if stride < element or inside + span > length or start + span > glb.bin_bytes:
        raise GltfMeshError(f"is damaged: accessor {number} reaches past its data; export it again")
    with glb.path.open("rb") as file:
        file.seek(glb.bin_start + start)
        data = file.read(span)
    if len(data) < span:
        raise GltfMeshError("was cut off while it was read; try again")
    flat = np.ndarray((count, width), dtype, data, strides=(stride, np.dtype(dtype).itemsize))
    return _values(flat, dtype, bool(accessor.get("normalized")))


def _values(flat: npt.NDArray[Any], dtype: str, normalized: bool) -> npt.NDArray[Any]:
    if dtype == "<f4":
        out = np.array(flat, dtype=np.float32)
        if not np.isfinite(out).all():
            raise GltfMeshError("is damaged: mesh data is not finite; export it again")
        return np.asarray(out.reshape(-1, 4, 4).transpose(0, 2, 1) if out.shape[1] == 16 else out)
    if normalized:
        top = float(np.iinfo(dtype).max)
        return np.asarray(np.maximum(flat.astype(np.float32) / np.float32(top), np.float32(-1.0)))
    return flat.astype(np.int64)
