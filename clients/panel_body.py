"""A neutral body for the control page, made of rounded parts that hang on its bones.

Everything is in the page's axes: right-handed, x to the avatar's left, y up, z forward. Rotations
are w first there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.body import Measures
from ha2g_live.realtime.humanoid import BONE_INDEX, BONE_NAMES, PARENTS
from ha2g_live.realtime.types import F32

_SIDES = 20
_RINGS = 7
_SKIN, _SHIRT, _LEGS, _DARK, _LIPS = (
    (232, 190, 160),
    (84, 120, 176),
    (62, 70, 88),
    (42, 36, 40),
    (176, 84, 84),
)


@dataclass(frozen=True, slots=True)
class Part:
    """A mesh that hangs on a bone.

    Attributes:
        name: unique among the parts.
        bone: index of the bone.
        vertices: (n, 3) float32 in the bone's frame, page axes, metres.
        faces: (m, 3) uint32.
        colour: red, green, blue, 0..255.
    """

    name: str
    bone: int
    vertices: F32
    faces: npt.NDArray[np.uint32]
    colour: tuple[int, int, int]


def to_page(position: F32) -> F32:
    """(..., 3) positions from Unity's axes to the page's."""
    return np.asarray(position * np.array((-1.0, 1.0, 1.0)), dtype=np.float32)


def turn_to_page(rotations: F32) -> F32:
    """(..., 4) quaternions xyzw in Unity's axes to wxyz in the page's."""
    x, y, z, w = np.moveaxis(rotations, -1, 0)
    return np.stack((w, x, -y, -z), axis=-1)


def tube(
    start: F32,
    end: F32,
    first_m: float,
    last_m: float,
    wide: tuple[float, float] = (1.0, 1.0),
    cap: float = 1.0,
) -> tuple[F32, npt.NDArray[np.uint32]]:
    """A rounded tube between two points.

    Args:
        start: (3,) centre of one end.
        end: (3,) of the other.
        first_m: radius at the start.
        last_m: radius at the end.
        wide: how much wider than deep (x against z) it is at both ends, for a trunk.
        cap: how far the ends bulge, for their radius.

    Returns:
        Vertices (n, 3) and faces (m, 3).
    """
    axis = end - start
    length = float(np.linalg.norm(axis))
    axis = axis / max(length, 1e-6)
    helper = np.array((0.0, 0.0, 1.0)) if abs(axis[2]) < 0.9 else np.array((1.0, 0.0, 0.0))
    across = np.cross(helper, axis)
    across /= np.linalg.norm(across)
    other = np.cross(axis, across)
    bend = np.linspace(0.0, np.pi / 2, _RINGS)
    rings = [(-cap * first_m * np.cos(a), first_m * np.sin(a), wide[0]) for a in bend]
    rings += [(length + cap * last_m * np.sin(a), last_m * np.cos(a), wide[1]) for a in bend]
    angle = np.linspace(0.0, 2 * np.pi, _SIDES, endpoint=False)
    vertices = np.concatenate(
        [
            start
            + along * axis
            + radius * (np.cos(angle)[:, None] * across * w + np.sin(angle)[:, None] * other)
            for along, radius, w in rings
        ]
    )
    return vertices.astype(np.float32), _faces(len(rings))


def ball(centre: F32, radii: tuple[float, float, float]) -> tuple[F32, npt.NDArray[np.uint32]]:
    """An ellipsoid."""
    tilt = np.linspace(0.0, np.pi, 2 * _RINGS)
    angle = np.linspace(0.0, 2 * np.pi, _SIDES, endpoint=False)
    points = [
        np.stack(
            (np.sin(t) * np.cos(angle), np.full(_SIDES, -np.cos(t)), -np.sin(t) * np.sin(angle)), 1
        )
        for t in tilt
    ]
    return (np.concatenate(points) * radii + centre).astype(np.float32), _faces(len(tilt))


def _faces(rings: int) -> npt.NDArray[np.uint32]:
    ring, side = np.meshgrid(np.arange(rings - 1), np.arange(_SIDES), indexing="ij")
    a = (ring * _SIDES + side).ravel()
    b = (ring * _SIDES + (side + 1) % _SIDES).ravel()
    quads = np.concatenate(
        (np.stack((a, b, b + _SIDES), 1), np.stack((a, b + _SIDES, a + _SIDES), 1))
    )
    return quads.astype(np.uint32)


def neutral_body(offsets_m: F32, measures: Measures) -> list[Part]:
    """The parts of a body with this skeleton and thickness."""
    at = to_page(offsets_m)
    m = measures
    parts: list[Part] = []

    def add(
        name: str, bone: str, mesh: tuple[F32, npt.NDArray[np.uint32]], colour: tuple[int, int, int]
    ) -> None:
        parts.append(Part(name, BONE_INDEX[bone], mesh[0], mesh[1], colour))

    def forward(z: float) -> F32:
        return np.array((0.0, 0.0, 0.6 * z), dtype=np.float32)

    # Each part begins as wide as the one below it ends.
    rows = (
        ("Hips", m.hips_half_m, m.hips_depth_m, m.hips_forward_m),
        ("Spine", m.belly_half_m, m.belly_depth_m, m.belly_forward_m),
        ("Chest", m.chest_half_m, m.chest_depth_m, m.chest_forward_m),
        ("UpperChest", m.chest_half_m, m.chest_depth_m, m.chest_forward_m),
        ("Neck", 0.7 * m.chest_half_m, 0.62 * m.chest_depth_m, 0.0),
    )
    for (bone, half, depth, ahead), (above, next_half, next_depth, next_ahead) in pairwise(rows):
        last = above == "Neck"
        end = at[BONE_INDEX[above]] * (0.8 if last else 1.0)
        mesh = tube(
            forward(ahead),
            end + forward(next_ahead),
            depth / 2,
            next_depth / 2,
            (2 * half / depth, 2 * next_half / next_depth),
            0.45 if last or bone == "Hips" else 0.2,
        )
        add(f"trunk{bone}", bone, mesh, _LEGS if bone == "Hips" else _SHIRT)
    add(
        "neck",
        "Neck",
        tube(at[0] * 0, at[BONE_INDEX["Head"]], m.neck_radius_m, 0.9 * m.neck_radius_m),
        _SKIN,
    )
    _head(add, m)
    for side in ("Left", "Right"):

        def bone_at(name: str, side: str = side) -> F32:
            return np.asarray(at[BONE_INDEX[side + name]], dtype=np.float32)

        zero = np.zeros(3, dtype=np.float32)
        elbow, wrist = 1.15 * m.elbow_radius_m, m.wrist_radius_m
        add(
            side + "clavicle",
            f"{side}Shoulder",
            tube(zero, 0.85 * bone_at("UpperArm"), 0.9 * elbow, elbow),
            _SHIRT,
        )
        add(
            side + "upper",
            f"{side}UpperArm",
            tube(zero, bone_at("LowerArm"), 1.2 * elbow, 0.85 * elbow),
            _SHIRT,
        )
        add(
            side + "fore",
            f"{side}LowerArm",
            tube(zero, bone_at("Hand"), 0.8 * elbow, wrist),
            _SKIN,
        )
        palm = 0.5 * (bone_at("IndexProximal") + bone_at("LittleProximal"))
        add(side + "palm", f"{side}Hand", ball(0.62 * palm, _palm_radii(bone_at, m)), _SKIN)
        for finger in ("Thumb", "Index", "Middle", "Ring", "Little"):
            thin = m.finger_radius_m * (0.85 if finger == "Little" else 1.0)
            for phalanx, after in (
                ("Proximal", "Intermediate"),
                ("Intermediate", "Distal"),
                ("Distal", ""),
            ):
                end = bone_at(finger + after) if after else 0.75 * bone_at(finger + "Distal")
                add(
                    side + finger + phalanx,
                    side + finger + phalanx,
                    tube(zero, end, thin, 0.9 * thin),
                    _SKIN,
                )
        add(side + "thigh", f"{side}UpperLeg", tube(zero, bone_at("LowerLeg"), 0.085, 0.055), _LEGS)
        add(side + "shin", f"{side}LowerLeg", tube(zero, bone_at("Foot"), 0.055, 0.04), _LEGS)
        add(
            side + "foot",
            f"{side}Foot",
            tube(np.array((0, -0.03, -0.03)), bone_at("Toes") * (1, 0.5, 1), 0.04, 0.035),
            _DARK,
        )
    return parts


def _palm_radii(bone_at: object, m: Measures) -> tuple[float, float, float]:
    index, little = bone_at("IndexProximal"), bone_at("LittleProximal")  # type: ignore[operator]
    width = 0.62 * float(np.linalg.norm(index - little)) + m.finger_radius_m
    return 0.6 * float(np.linalg.norm(index)), 1.05 * m.palm_radius_m, width


def _head(add: object, m: Measures) -> None:
    put = add  # the caller's way to add a part
    r, top, ahead = m.head_radius_m, m.head_height_m, m.head_forward_m
    middle = np.array((0.0, 0.5 * top, ahead), dtype=np.float32)
    face_z = ahead + 1.06 * r
    put("skull", "Head", ball(middle, (0.94 * r, 0.60 * top, 1.08 * r)), _SKIN)  # type: ignore[operator]
    put(
        "hair",
        "Head",  # type: ignore[operator]
        ball(middle + np.array((0.0, 0.10 * top, -0.16 * r)), (1.0 * r, 0.56 * top, 1.08 * r)),
        _DARK,
    )
    put(
        "nose",
        "Head",  # type: ignore[operator]
        ball(np.array((0.0, 0.42 * top, face_z)), (0.10 * r, 0.10 * top, 0.16 * r)),
        _SKIN,
    )
    for side, away in (("left", 1.0), ("right", -1.0)):
        eye = np.array((away * 0.36 * r, 0.56 * top, face_z - 0.16 * r))
        put(f"{side}_white", "Head", ball(eye, (0.17 * r, 0.075 * top, 0.10 * r)), (245, 245, 245))  # type: ignore[operator]
        put(
            f"{side}_iris",
            "Head",  # type: ignore[operator]
            ball(eye + np.array((0, 0, 0.07 * r)), (0.075 * r, 0.05 * top, 0.05 * r)),
            (60, 44, 36),
        )
        ear = np.array((away * 0.96 * r, 0.48 * top, ahead - 0.1 * r))
        put(f"{side}_ear", "Head", ball(ear, (0.08 * r, 0.16 * top, 0.18 * r)), _SKIN)  # type: ignore[operator]


def mouth(measures: Measures) -> tuple[F32, F32, npt.NDArray[np.uint32]]:
    """Where the mouth is in the head's frame, and its mesh about that place at size one."""
    m = measures
    place = np.array((0.0, 0.22 * m.head_height_m, m.head_forward_m + 0.93 * m.head_radius_m))
    vertices, faces = ball(np.zeros(3, dtype=np.float32), (1.0, 1.0, 1.0))
    return place.astype(np.float32), vertices, faces


def lids(measures: Measures) -> tuple[list[F32], tuple[float, float, float]]:
    """Where both eyelids are in the head's frame when closed, and their size."""
    m = measures
    r, top = m.head_radius_m, m.head_height_m
    z = m.head_forward_m + 1.06 * r - 0.145 * r
    places = [np.array((away * 0.36 * r, 0.56 * top, z), dtype=np.float32) for away in (1.0, -1.0)]
    return places, (0.19 * r, 0.085 * top, 0.115 * r)


def bone_paths() -> list[str]:
    """Path of each bone in the page's scene: parents above children."""
    paths = [""] * len(BONE_NAMES)

    def path(bone: int) -> str:
        parent = PARENTS[bone]
        return ("/avatar" if parent < 0 else path(parent)) + "/" + BONE_NAMES[bone]

    for bone in range(len(BONE_NAMES)):
        paths[bone] = path(bone)
    return paths


LIP_COLOUR = _LIPS
SKIN_COLOUR = _SKIN
