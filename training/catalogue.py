"""The gestures the model can choose between: which clips, and how likely each is.

The selection was made by looking at every clip. What does not belong in talk stays out:
stretching, scratching, squeezing hands, thinking poses, changes between postures, clips whose
times are placeholders. Gestures that mean something of their own (negation, stop, pointing at
somebody) are left out of this first model too, because a voice does not say when they are due.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.skeleton import joint_positions
from ha2g_live.realtime.types import F32
from ha2g_live.training.clips import Clip, ClipTimes, directions_of, read_table, rest_pose

FAMILY_WEIGHT = {
    "beat": 3.0,
    "beatflip": 3.0,
    "beatforward": 2.0,
    "offer": 2.5,
    "receive": 1.0,
    "chop": 1.0,
    "plea": 1.5,
    "you": 0.7,
    "we": 1.5,
    "here": 1.5,
    "me": 0.8,
    "example": 1.5,
    "besides": 1.5,
    "however": 1.5,
    "safe": 1.0,
    "inclusivitypos": 1.5,
    "inclusivityneg": 1.0,
    "surround": 1.5,
    "when": 1.5,
    "indicate": 0.8,
    "frame": 1.0,
    "empty": 1.0,
    "negateforward": 0.8,
}
"""Families of gestures that the planner uses, and how often against each other."""

SHIFT_WEIGHT = 0.1
"""How often somebody at rest shifts their weight, against standing quietly."""

_FAMILY = re.compile(r"_(Beat(?:Flip|Forward)?|NegateForward|Inclusivity(?:Pos|Neg)|[A-Z][a-z]+)")
_HANDS = {"Lf": "left", "Rt": "right", "Bt": "both", "Bo": "both"}
_MOVING_M_S = 0.15
_LEAD_S = 0.1
_LARGE_M = 0.35  # a hand's way from which a gesture is not drawn more rarely for being small

PREPARED_BEFORE_EMPHASIS_S = 0.25
"""Hands that are prepared wait this long before the clip's emphasis."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The clips in the order of the model's choices.

    Attributes:
        clips: idle clips first.
        idle_count: how many are idle.
        weights: (clips,) how often each is drawn, idle clips among themselves.
        rest: (42, 3) the pose at rest.
    """

    clips: tuple[Clip, ...]
    idle_count: int
    weights: npt.NDArray[np.float64]
    rest: F32

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the choices."""
        return tuple(clip.name for clip in self.clips)

    def draw_idle(self, rng: np.random.Generator) -> int:
        """An idle clip by chance."""
        weights = self.weights[: self.idle_count]
        return int(rng.choice(self.idle_count, p=weights / weights.sum()))

    def draw(self, both: float, left: float, rng: np.random.Generator) -> int:
        """A gesture by chance: two-handed with a chance of ``both``, else left with ``left``."""
        hands = "both" if rng.random() < both else "left" if rng.random() < left else "right"
        fits = np.array([clip.hands == hands and clip.times is not None for clip in self.clips])
        weights = self.weights * fits
        return int(rng.choice(len(self.clips), p=weights / weights.sum()))


def load_catalogue(data: Path) -> Catalogue:
    """Read the clips below ``data`` (``gestures.csv``, ``gestures/``, ``idle/``).

    Raises:
        Ha2gError: a clip or the table is missing.
    """
    idles = [_idle_clip(path) for path in sorted((data / "idle").glob("*.npz"))]
    gestures: list[Clip] = []
    for row in read_table(data, "gestures.csv"):
        if row["kind"] == "idle":
            idles.append(_idle_clip(data / row["file"]))
        elif row["sync_is_placeholder"] != "1" and family_of(row["motion"]) in FAMILY_WEIGHT:
            gestures.append(_gesture_clip(data, row))
    if not idles or not gestures:
        raise Ha2gError(f"{data} holds no usable clips: it needs idle/ and gestures/")
    gestures += [clip.mirrored() for clip in gestures if clip.hands != "both"]
    gestures.sort(key=lambda clip: clip.name)
    per_family: dict[tuple[str, str], int] = {}
    for clip in gestures:
        per_family[clip.family, clip.hands] = per_family.get((clip.family, clip.hands), 0) + 1
    # A family with many clips must not drown one with few: its weight is shared by its clips.
    weights = [SHIFT_WEIGHT if "shift" in clip.name else 1.0 for clip in idles] + [
        FAMILY_WEIGHT[clip.family]
        / per_family[clip.family, clip.hands] ** 0.5
        * min(float(_way_m(clip.directions).max()) / _LARGE_M, 1.0)
        for clip in gestures
    ]
    return Catalogue((*idles, *gestures), len(idles), np.array(weights), rest_pose(idles))


def family_of(motion: str) -> str:
    """Family of a motion by its name: ``ChrBrad@Idle01_BeatLowLf02`` is a beat."""
    found = _FAMILY.search(motion)
    return found.group(1).lower() if found else ""


def _idle_clip(path: Path) -> Clip:
    directions, fps = directions_of(path)
    name = path.stem.split("__")[-1].lower()
    return Clip(f"idle:{name}", "idle", "both", fps, directions, None)


def _gesture_clip(data: Path, row: dict[str, str]) -> Clip:
    directions, fps = directions_of(data / row["file"])
    motion = row["motion"].split("@")[-1]
    mark = re.search(r"(Lf|Rt|Bt|Bo)(?:th)?\d*$", motion)
    hands = _HANDS[mark.group(1)] if mark else _busier_hand(directions)
    times = _times(row, directions, fps)
    family = family_of(row["motion"])
    name = f"{family}:{row['set']}_{motion.lower()}"
    return Clip(name, family, hands, fps, directions, times)


def wrist_speed_m_s(directions: F32, fps: float) -> npt.NDArray[np.float64]:
    """(frames, 2) speed of the left and the right wrist."""
    wrists = joint_positions(directions)[:, [6, 7]]
    return np.asarray(np.linalg.norm(np.gradient(wrists, axis=0), axis=-1) * fps)


def _busier_hand(directions: F32) -> str:
    left, right = wrist_speed_m_s(directions, 30.0).sum(axis=0)
    if left > 2.0 * right:
        return "left"
    return "right" if right > 2.0 * left else "both"


def _times(row: dict[str, str], directions: F32, fps: float) -> ClipTimes:
    """The table's times, held against the motion.

    The still beginning is cut. Some clips are timed so that the stroke ends when the hand is
    already back at rest: a stroke ends no later than the hand leaves the upper quarter of its way.
    """
    way = _way_m(directions)
    far = np.flatnonzero(way >= 0.75 * way.max()) / fps
    moving = np.flatnonzero(wrist_speed_m_s(directions, fps).max(axis=1) > _MOVING_M_S)
    start = max(0.0, float(moving[0]) / fps - _LEAD_S) if len(moving) else 0.0
    stroke_end = float(np.clip(float(row["stroke_end_s"]), far[0] + 0.1, far[-1]))
    emphasis = float(np.clip(float(row["emphasis_s"]), far[0], max(stroke_end - 0.05, far[0])))
    stroke_start = float(np.clip(float(row["stroke_start_s"]), start + 0.1, emphasis - 0.1))
    ready = max(stroke_start, emphasis - PREPARED_BEFORE_EMPHASIS_S)
    raised = np.flatnonzero(way >= 0.7 * way[round(ready * fps)]) / fps
    relax = float(np.clip(float(row["relax_s"]), stroke_end + 0.1, stroke_end + 0.4))
    return ClipTimes(
        start_s=start,
        chain_s=min(float(raised[0]), ready - 0.05),
        ready_s=ready,
        emphasis_s=emphasis,
        stroke_end_s=stroke_end,
        relax_s=min(relax, (len(directions) - 1) / fps),
    )


def _way_m(directions: F32) -> npt.NDArray[np.float64]:
    """(frames,) distance of the farther wrist from where it was at the clip's beginning."""
    wrists = joint_positions(directions)[:, [6, 7]]
    return np.asarray(np.linalg.norm(wrists - wrists[:1], axis=-1).max(axis=1), dtype=float)
