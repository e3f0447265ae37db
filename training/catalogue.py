"""The movements the model can choose between: units of the clips, and how likely each is.

Which clips belong in talk is said by ``lexicon.py``, whose table was made by looking.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ha2g_live.engines.base import REST
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.skeleton import normalise
from ha2g_live.realtime.types import F32
from ha2g_live.training import lexicon
from ha2g_live.training.chain import ARM_BONES
from ha2g_live.training.clips import Clip, directions_of, mirror, read_table, rest_pose
from ha2g_live.training.styles import STYLES, Style
from ha2g_live.training.units import TAPS, Unit, units_of

HELD_OUT_CLIPS = 0.14
"""Share of the gestures that no training stream contains."""

GLANCES = ("", ":glance_left", ":glance_right")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The units in the order of the model's choices.

    Attributes:
        units: idle ones first, then small beats, then units of gestures.
        idle_count: how many are idle.
        weights: (units,) how often each is drawn in ordinary talk, idle ones among themselves.
        kinds: kind of each unit (``lexicon.KINDS``); "" for idle ones, "beat" for small beats.
        rest: (42, 3) the clips' pose at rest.
        rests: the pose at rest of each style.
    """

    units: tuple[Unit, ...]
    idle_count: int
    weights: npt.NDArray[np.float64]
    kinds: tuple[str, ...]
    rest: F32
    rests: tuple[F32, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the choices."""
        return tuple(unit.name for unit in self.units)

    @property
    def first_gesture(self) -> int:
        """Number of the first unit of a gesture; small beats stand before it."""
        return self.idle_count + len(TAPS)

    def odds(self, style: Style) -> npt.NDArray[np.float64]:
        """(units,) how often a style draws each unit of a gesture; zero for all else."""
        hands = np.array([unit.hands for unit in self.units])
        likes = np.array([style.kinds.get(kind, 1.0) for kind in self.kinds])
        wanted = self.weights * likes * (np.arange(len(hands)) >= self.first_gesture)
        odds = np.zeros(len(hands))
        for which, part in (
            ("both", style.both),
            ("left", (1.0 - style.both) * style.left),
            ("right", (1.0 - style.both) * (1.0 - style.left)),
        ):
            own = wanted * (hands == which)
            if own.sum() > 0:
                odds += part * own / own.sum()
        return np.asarray(odds / odds.sum())


def held_out_clip(name: str) -> bool:
    """Whether a clip is kept from training. Copies of one performance are kept together."""
    return zlib.crc32(lexicon.performance_of(name).encode()) % 10_000 < HELD_OUT_CLIPS * 10_000


def load_catalogue(data: Path, held_out: bool = False) -> Catalogue:
    """Read the clips below ``data`` (``gestures.csv``, ``gestures/``, ``idle/``).

    Args:
        data: the folder.
        held_out: whether to take the gestures kept from training instead of those for it.

    Raises:
        Ha2gError: a clip or the table is missing.
    """
    files = {
        path.stem.split("__")[-1].lower(): path for path in sorted((data / "idle").glob("*.npz"))
    }
    gestures: dict[str, Path] = {}
    for row in read_table(data, "gestures.csv"):
        name = lexicon.clip_name(row["set"], row["motion"])
        (files if lexicon.idle_weight(name) else gestures)[name] = data / row["file"]
    idles = [_clip(name, path) for name, path in files.items() if lexicon.left_out(name) is None]
    used = [
        _clip(name, path)
        for name, path in sorted(gestures.items())
        if lexicon.left_out(name) is None and held_out_clip(name) == held_out
    ]
    if not idles or not used:
        raise Ha2gError(f"{data} holds no usable clips: it needs idle/ and gestures/")
    used += [clip.mirrored() for clip in used if clip.hands != "both"]
    rest = rest_pose(idles)
    units = [Unit(REST + clip.name + glance, clip) for clip in idles for glance in _glances(clip)]
    weights = [
        lexicon.idle_weight(unit.clip.name) / len(_glances(unit.clip))
        for unit in units
        if unit.clip is not None
    ]
    kinds = [""] * len(units)
    idle_count = len(units)
    units += TAPS
    weights += [2.0, 1.0, 1.0]
    kinds += ["beat"] * len(TAPS)
    of_clip = {clip.name: units_of(clip) for clip in used}
    per_family: dict[str, int] = {}
    for clip in used:
        per_family[clip.family] = per_family.get(clip.family, 0) + len(of_clip[clip.name])
    for clip in used:
        units += of_clip[clip.name]
        # A family with many clips must not drown one with few: its weight is shared by its units.
        share = lexicon.FAMILY_WEIGHT[clip.family] / max(per_family[clip.family], 1) ** 0.5
        weights += [share] * len(of_clip[clip.name])
        kinds += [lexicon.kind_of(clip.name.removesuffix(":mirror"))] * len(of_clip[clip.name])
    known = {**files, **gestures}
    return Catalogue(
        tuple(units),
        idle_count,
        np.array(weights),
        tuple(kinds),
        rest,
        tuple(_style_rest(style.rest, rest, known) for style in STYLES),
    )


def _glances(clip: Clip) -> tuple[str, ...]:
    """A weight shift has a look of its own."""
    return GLANCES if lexicon.idle_weight(clip.name) == 1.0 else GLANCES[:1]


def _clip(name: str, path: Path) -> Clip:
    directions, fps = directions_of(path, idle=lexicon.idle_weight(name) > 0)
    return Clip(name, lexicon.family_of(name), lexicon.hands_of(name), fps, directions)


def _style_rest(name: str, rest: F32, files: dict[str, Path]) -> F32:
    """(42, 3) ``rest`` with the arms of a named rest pose, where its clip is at hand."""
    clip, at_s = lexicon.REST_POSES.get(name, ("", 0.0))
    if clip not in files:
        return rest
    directions, fps = directions_of(files[clip])
    pose = directions[min(round(at_s * fps), len(directions) - 1)]
    if name not in lexicon.ONE_SIDED_POSES:
        pose = normalise(pose + mirror(pose))
    arms = ARM_BONES["left"] + ARM_BONES["right"]
    posed = np.array(rest)
    posed[arms] = pose[arms]
    return posed
