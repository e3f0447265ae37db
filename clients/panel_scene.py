"""The avatar in the control page's scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ha2g_live.clients.panel_body import (
    LIP_COLOUR,
    SKIN_COLOUR,
    ball,
    bone_paths,
    lids,
    mouth,
    neutral_body,
    to_page,
    turn_to_page,
)
from ha2g_live.realtime.avatar import Avatar
from ha2g_live.realtime.avatar_mesh import MeshPart, avatar_mesh
from ha2g_live.realtime.humanoid import BONE_COUNT, BONE_INDEX, PARENTS, WALK_ORDER
from ha2g_live.realtime.mouth import VISEMES
from ha2g_live.realtime.rotation_arrays import multiply, rotate
from ha2g_live.realtime.types import F32, PoseFrame

_STILL = 2e-4
"""A quaternion that changed by less is not sent again."""
_VIEW_FROM_M = (0.35, 0.12, 1.75)
_SHADE = (238, 240, 246)
_NAMES = {name.lower(): name for name in VISEMES} | dict(
    zip("aiueo", ("aa", "ih", "ou", "ee", "oh"), strict=True)
)
# Width and height of the mouth at each viseme, as shares of the head's radius.
_SHAPES = {"aa": (0.30, 0.26), "ih": (0.36, 0.09), "ou": (0.14, 0.13), "ee": (0.34, 0.15),
           "oh": (0.20, 0.22)}  # fmt: skip
_CLOSED = (0.30, 0.022)


class Scene:
    """Shows frames. One node a bone; only turns that changed are sent.

    Threads: one.

    Args:
        server: viser's.
        avatar: whose body is shown.
        file: the avatar's file; a body of its proportions is shown where its mesh cannot be.
    """

    def __init__(self, server: Any, avatar: Avatar, file: Path | None) -> None:
        self._server = server
        self._unity_offsets = avatar.offsets_m
        self._offsets = to_page(avatar.offsets_m)
        scene = server.scene
        scene.set_up_direction("+y")
        scene.set_background_image(_backdrop())
        scene.add_grid(
            "/floor",
            width=6.0,
            height=6.0,
            plane="xz",
            cell_size=0.25,
            cell_color=(205, 210, 220),
            section_color=(180, 186, 200),
        )
        paths = bone_paths()
        self._bones = [
            scene.add_frame(path, show_axes=False, position=tuple(self._offsets[bone]))
            for bone, path in enumerate(paths)
        ]
        self._skins: list[Any] = []
        self._mouth: Any = None
        self._lids: list[Any] = []
        meshes = [] if file is None or not avatar.t_posed else avatar_mesh(file)
        if meshes:
            self._add_skins(meshes)
        else:
            self._add_parts(avatar, paths)
        self._sent = np.tile(np.array((1.0, 0.0, 0.0, 0.0), np.float32), (BONE_COUNT, 1))
        self._places = np.zeros((BONE_COUNT, 3), dtype=np.float32)
        self._hips = self._offsets[0].copy()
        self._lips = (0.0, 0.0)
        if self._mouth is not None:
            self._set_mouth(_CLOSED)
        eyes_m = float(
            sum(
                self._offsets[BONE_INDEX[name], 1]
                for name in ("Hips", "Spine", "Chest", "UpperChest", "Neck", "Head")
            )
        )

        @server.on_client_connect  # type: ignore[untyped-decorator]
        def _frame(client: Any) -> None:
            look_at = np.array((0.0, eyes_m - 0.30, 0.0))
            client.camera.position = look_at + np.array(_VIEW_FROM_M)
            client.camera.look_at = look_at
            client.camera.up_direction = (0.0, 1.0, 0.0)
            client.camera.fov = 0.75

    def _add_skins(self, meshes: list[MeshPart]) -> None:
        places = self._world(_AT_REST)[1] + self._offsets[0]
        rest = np.tile(np.array((1.0, 0.0, 0.0, 0.0)), (BONE_COUNT, 1))
        for n, part in enumerate(meshes):
            self._skins.append(
                self._server.scene.add_mesh_skinned(
                    f"/skin/{n}",
                    to_page(part.vertices),
                    part.faces[:, ::-1].copy(),
                    bone_wxyzs=rest,
                    bone_positions=places,
                    skin_weights=part.weights,
                    color=part.colour,
                    side="double",
                )
            )

    def _add_parts(self, avatar: Avatar, paths: list[str]) -> None:
        scene, measures = self._server.scene, avatar.measures
        for part in neutral_body(avatar.offsets_m, measures):
            scene.add_mesh_simple(
                f"{paths[part.bone]}/{part.name}", part.vertices, part.faces, color=part.colour
            )
        head = paths[BONE_INDEX["Head"]]
        place, vertices, faces = mouth(measures)
        self._radius = measures.head_radius_m
        self._mouth = scene.add_mesh_simple(
            f"{head}/mouth", vertices, faces, color=LIP_COLOUR, position=tuple(place)
        )
        spots, size = lids(measures)
        for n, spot in enumerate(spots):
            self._lids.append(
                scene.add_mesh_simple(
                    f"{head}/lid{n}",
                    *ball(np.zeros(3, np.float32), size),
                    color=SKIN_COLOUR,
                    position=tuple(spot),
                    visible=False,
                )
            )

    def _world(self, rotations: F32) -> tuple[F32, F32]:
        """World turns wxyz and places of all bones in the page's axes, the hips at the origin."""
        turns = np.empty((BONE_COUNT, 4), dtype=np.float32)
        places = np.zeros((BONE_COUNT, 3), dtype=np.float32)
        for bone in WALK_ORDER:
            parent = PARENTS[bone]
            turns[bone] = rotations[bone]
            if parent >= 0:
                turns[bone] = multiply(turns[parent], rotations[bone])
                places[bone] = places[parent] + rotate(turns[parent], self._unity_offsets[bone])
        return turn_to_page(turns), to_page(places)

    def show(self, frame: PoseFrame) -> None:
        """Move the avatar."""
        if self._skins:
            self._show_skins(frame)
            return
        turns = turn_to_page(frame.rotations)
        hips = to_page(frame.hips_m)
        with self._server.atomic():
            for bone in np.flatnonzero(np.abs(turns - self._sent).max(axis=1) > _STILL):
                self._bones[bone].wxyz = tuple(turns[bone].tolist())
                self._sent[bone] = turns[bone]
            if np.abs(hips - self._hips).max() > _STILL:
                self._bones[0].position = tuple(hips.tolist())
                self._hips = hips
            self._show_face(frame.blends)

    def _show_skins(self, frame: PoseFrame) -> None:
        turns, places = self._world(frame.rotations)
        places = places + to_page(frame.hips_m)
        changed = np.flatnonzero(
            (np.abs(turns - self._sent).max(axis=1) > _STILL)
            | (np.abs(places - self._places).max(axis=1) > _STILL)
        )
        with self._server.atomic():
            for bone in changed:
                turn, place = tuple(turns[bone].tolist()), tuple(places[bone].tolist())
                for skin in self._skins:
                    skin.bones[bone].wxyz = turn
                    skin.bones[bone].position = place
        self._sent[changed] = turns[changed]
        self._places[changed] = places[changed]

    def _show_face(self, blends: dict[str, float]) -> None:
        wide, high = _CLOSED
        for name, value in blends.items():
            shape = _SHAPES.get(_NAMES.get(name.lower(), ""))
            if shape is not None:
                wide += value * (shape[0] - _CLOSED[0])
                high += value * (shape[1] - _CLOSED[1])
        if "jawOpen" in blends:
            high = _CLOSED[1] + 0.32 * blends["jawOpen"]
            wide = _CLOSED[0] - 0.16 * blends.get("mouthPucker", 0.0)
        if abs(wide - self._lips[0]) + abs(high - self._lips[1]) > 0.004:
            self._set_mouth((wide, high))
        closed = max(blends.get(name, 0.0) for name in ("blink", "Blink", "eyeBlinkLeft"))
        for lid in self._lids:
            if lid.visible != (closed > 0.5):
                lid.visible = closed > 0.5

    def _set_mouth(self, shape: tuple[float, float]) -> None:
        self._lips = shape
        wide, high = shape
        self._mouth.scale = (wide * self._radius, high * self._radius, 0.12 * self._radius)


_AT_REST = np.tile(np.array((0.0, 0.0, 0.0, 1.0), dtype=np.float32), (BONE_COUNT, 1))


def _backdrop() -> Any:
    """A plain light wall, a little darker below."""
    shade = np.linspace(1.0, 0.9, 32)[:, None, None] * np.array(_SHADE)
    return np.broadcast_to(shade, (32, 32, 3)).astype(np.uint8)
