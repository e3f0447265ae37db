"""One person drawn from 42 directions, seen from the front, the side or between.

Pure: the same directions give the same pixels. The figure has an adult's proportions in place of
the data set's nominal lengths, whose arms and hands are long for a person. Hips and legs are not
driven, so the pelvis stands still below the spine joint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ha2g_live.realtime.canvas import (
    INK,
    LEFT,
    PAPER,
    RIGHT,
    WHITE,
    Canvas,
    Colour,
    Part,
    Window,
    mix,
    view_axes,
)
from ha2g_live.realtime.skeleton import JOINT_NAMES, MEAN_DIRECTION, joint_positions, normalise
from ha2g_live.realtime.types import F32

if TYPE_CHECKING:
    from PIL import Image

_SHIRT: Colour = (122, 135, 150)
_PELVIS: Colour = (208, 213, 220)
_SKIN: Colour = (240, 214, 190)
_HAIR: Colour = (74, 68, 70)

# fmt: off
DRAWN_LENGTHS_M: F32 = np.array((
    0.36, 0.185, 0.185, 0.29, 0.26,
    0.092, 0.042, 0.026, 0.090, 0.046, 0.029, 0.082, 0.033, 0.021, 0.085, 0.042, 0.027,
    0.040, 0.042, 0.034,
    0.29, 0.26,
    0.092, 0.042, 0.026, 0.090, 0.046, 0.029, 0.082, 0.033, 0.021, 0.085, 0.042, 0.027,
    0.040, 0.042, 0.034,
    0.19, 0.14, 0.14, 0.15, 0.15,
), dtype=np.float32)
"""(42,) bone lengths of the figure, an adult of about 1.75 m. Speeds in m/s are measured on it."""
# fmt: on
DRAWN_LENGTHS_M.setflags(write=False)

_FINGER_TIPS_M = {"index": 0.021, "middle": 0.023, "ring": 0.022, "little": 0.018, "thumb": 0.025}
_FACE = [JOINT_NAMES.index(n) for n in ("nose", "right_eye", "left_eye", "right_ear", "left_ear")]


def _vector(x: float, y: float, z: float) -> F32:
    return np.array((x, y, z), dtype=np.float32)


def drawn_positions(directions: F32) -> F32:
    """(..., 42, 3) directions to (..., 43, 3) joint positions in metres of the drawn figure."""
    return joint_positions(directions, DRAWN_LENGTHS_M)


def _centred_face(positions: F32) -> F32:
    face = positions[_FACE]
    centred: F32 = face - face.mean(axis=0)
    return centred


def _neutral_face() -> F32:
    """The mean face made symmetric: a head that looks straight ahead."""
    face = _centred_face(drawn_positions(normalise(MEAN_DIRECTION)))
    mirrored = face[[0, 2, 1, 4, 3]] * _vector(-1, 1, 1)
    symmetric: F32 = (face + mirrored) / np.float32(2)
    return symmetric


_NEUTRAL_FACE = _neutral_face()


def head_rotation(positions: F32) -> F32:
    """(3, 3) turn of the head: best fit of the neutral face to nose, eyes and ears (Kabsch).

    Args:
        positions: (43, 3) joint positions.
    """
    u, _, vt = np.linalg.svd(_NEUTRAL_FACE.T @ _centred_face(positions))
    handed = np.diag([1.0, 1.0, float(np.sign(np.linalg.det(u @ vt))) or 1.0])
    turn: F32 = (u @ handed @ vt).T.astype(np.float32)
    return turn


def _torso(canvas: Canvas, joint: dict[str, F32]) -> None:
    neck, left, right = joint["neck"], joint["left_shoulder"], joint["right_shoulder"]
    spine = joint["spine"]
    level = _vector(1, 0, 0)
    across = normalise(left - right)
    chest = neck + np.float32(0.42) * (spine - neck)
    half = normalise(across + level)
    hips = spine + _vector(0, 0.19, 0.01)
    waist = (spine + 0.055 * half, spine - 0.055 * half)
    ribs = (chest + 0.07 * across, chest - 0.07 * across)
    pelvis: list[Part] = [((hips + 0.09 * level, hips - 0.09 * level, *waist), (0.085,) * 4)]
    canvas.solid(pelvis, _PELVIS, nearer_m=-0.02, edge=0.3)
    hem = spine + _vector(0, 0.075, 0)
    shirt: list[Part] = [
        ((left, right, neck), (0.045, 0.045, 0.05)),
        ((*ribs, left, right), (0.086, 0.086, 0.04, 0.04)),
        ((*ribs, *waist), (0.086, 0.086, 0.08, 0.08)),
        ((*waist, hem + 0.07 * level, hem - 0.07 * level), (0.08, 0.08, 0.082, 0.082)),
    ]
    canvas.solid(shirt, _SHIRT)


def _head(canvas: Canvas, joint: dict[str, F32], positions: F32) -> None:
    """Head, hair and face, turned as nose, eyes and ears say. Head axes are those of HA2G."""
    turn = head_rotation(positions)
    centre = joint["nose"] - turn @ _vector(0, 0.026, -0.118)

    def at(*offsets: tuple[float, float, float]) -> F32:
        moved: F32 = centre + np.array(offsets, dtype=np.float32) @ turn.T
        return moved

    def seen(normal: tuple[float, float, float]) -> float:
        """How much a direction of the head points at the viewer, -1..1."""
        return -float(view_axes(turn @ _vector(*normal), canvas.view)[2])

    nape = at((0, 0.06, 0.02))[0]
    canvas.solid([((joint["neck"], nape), (0.05, 0.045))], mix(_SKIN, INK, 0.14), nearer_m=-0.15)
    canvas.solid([(at((0, -0.033, 0.014), (0, 0.02, 0.036)), (0.092, 0.07))], _HAIR)
    jaw = at((0, -0.01, -0.02), (0, 0.03, -0.022), (0.014, 0.08, -0.05), (-0.014, 0.08, -0.05))
    canvas.solid([(jaw, (0.078, 0.07, 0.032, 0.032))], _SKIN, nearer_m=0.012)
    face_m = canvas.project(jaw)[2]

    def feature(points: F32, radius_m: float, colour: Colour) -> None:
        """Paint on the face: just after it, whatever the feature's own depth."""
        nearer_m = canvas.project(points)[2] - face_m + 0.03
        canvas.solid([(points, (radius_m,) * len(points))], colour, nearer_m=nearer_m, edge=0.0)

    for side in (1.0, -1.0):
        sideways = seen((side, 0, 0.1))
        if sideways > -0.3:
            ear = at((side * 0.083, 0.004, 0.016), (side * 0.079, 0.03, 0.01))
            canvas.solid([(ear, (0.016, 0.011))], _SKIN, nearer_m=0.1 if sideways > 0.1 else -0.05)
        front = seen((side * 0.45, 0, -0.9))
        if front > 0.3:
            feature(at((side * 0.031, -0.004, -0.09)), 0.0095 * min(1.0, 1.6 * front), INK)
            feature(
                at((side * 0.044, -0.033, -0.083), (side * 0.02, -0.031, -0.092)), 0.0034, _HAIR
            )
    smile = at((0.022, 0.056, -0.08), (0.009, 0.061, -0.087), (-0.009, 0.061, -0.087),
               (-0.022, 0.056, -0.08))  # fmt: skip
    if seen((0, 0.2, -1)) > 0.25:
        for i in range(3):
            feature(smile[i : i + 2], 0.0034, mix(_SKIN, (150, 50, 50), 0.65))
    nose = at((0, 0.0, -0.097), (0, 0.024, -0.112))
    if seen((0, 0, -1)) > 0.62:
        feature(nose, 0.0105, mix(_SKIN, INK, 0.15))
    else:  # in profile it belongs to the outline of the face
        canvas.solid([(nose, (0.009, 0.012))], _SKIN, nearer_m=-0.045)


def _arm(canvas: Canvas, joint: dict[str, F32], side: str, colour: Colour) -> None:
    """Upper arm, forearm, palm and five fingers of ``side``, "left" or "right"."""
    shoulder, elbow, wrist = (joint[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
    # An arm hangs beside the torso at its depth, and is seen in front of it.
    canvas.limb((shoulder, elbow), (0.048, 0.037), colour, 0.07)
    canvas.limb((elbow, wrist), (0.037, 0.024), colour, 0.08)
    hand = mix(colour, WHITE, 0.5)
    knuckles = [joint[f"{side}_{finger}_1"] for finger in _FINGER_TIPS_M]
    palm: list[Part] = [((wrist, *knuckles[:4]), (0.021, 0.011, 0.011, 0.011, 0.01)),
                        ((wrist, knuckles[4], knuckles[0]), (0.02, 0.012, 0.009))]  # fmt: skip
    canvas.solid(palm, hand, nearer_m=0.085)
    for finger, tip_m in _FINGER_TIPS_M.items():
        one, two, three = (joint[f"{side}_{finger}_{part}"] for part in (1, 2, 3))
        tip = three + np.float32(tip_m) * normalise(three - two)
        canvas.limb((one, two, three, tip), (0.0095, 0.0085, 0.0075, 0.0065), hand, 0.09)


def _trail(canvas: Canvas, path: F32, colour: Colour) -> None:
    """Where a wrist has been: (n, 3) positions, newest last; thin and faint where it is old."""
    steps = len(path) - 1
    for step in range(steps):
        age = 1 - (step + 1) / steps
        radius_m = 0.009 - 0.006 * age
        canvas.solid(
            [(path[step : step + 2], (radius_m, radius_m))],
            mix(colour, PAPER, 0.25 + 0.6 * age),
            nearer_m=0.05,
            edge=0.0,
        )


def fit_window(directions: F32, view: str) -> Window:
    """The usual window, grown so that (frames, 42, 3) directions never leave it."""
    return Window().around(drawn_positions(directions), view)


def draw_figure(
    directions: F32,
    size: tuple[int, int],
    *,
    view: str = "front",
    window: Window | None = None,
    past: F32 | None = None,
    supersample: int = 2,
) -> Image.Image:
    """A picture of one pose.

    Args:
        directions: (42, 3) unit vectors, HA2G axes.
        size: width and height in pixels.
        view: a name of ``YAW_RAD``. From the front the person's left is on the right.
        window: what part of the world to show; it is fitted and centred.
        past: (n, 42, 3) the poses before, oldest first, for trails of the wrists.
        supersample: paint this much larger and scale down, so that edges are smooth.
    """
    positions = drawn_positions(directions)
    joint = dict(zip(JOINT_NAMES, positions, strict=True))
    canvas = Canvas(size, window or fit_window(directions, view), view, supersample)
    _torso(canvas, joint)
    _head(canvas, joint, positions)
    for side, colour in (("left", LEFT), ("right", RIGHT)):
        _arm(canvas, joint, side, colour)
        if past is not None and len(past):
            wrist = JOINT_NAMES.index(f"{side}_wrist")
            path = np.concatenate([drawn_positions(past)[:, wrist], positions[None, wrist]])
            _trail(canvas, path, colour)
    return canvas.paint()
