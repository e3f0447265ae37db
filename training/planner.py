"""Decides which movement begins when: speech in, events out.

Everything a movement follows from has been *heard* by then, or a causal network could not learn
it: the first sound of a phrase raises the hands, while speech runs each movement waits for the
next onset that is strong enough and begins with it, and after a silence the hands go back to rest.
*Which* movement is drawn by chance; the network is told (``choice``), and learns how likely each
is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.skeleton import joint_positions
from ha2g_live.realtime.timebase import POSE_FPS
from ha2g_live.realtime.types import F32
from ha2g_live.training.catalogue import Catalogue
from ha2g_live.training.chain import ARM_BONES, FINE, Event, poses
from ha2g_live.training.clips import mirror
from ha2g_live.training.prosody import FRAME_HZ, Prosody
from ha2g_live.training.styles import STYLES, Style
from ha2g_live.training.units import TAPS, WRISTS, Unit, share

SILENCE_BEFORE_REST_S = 0.5
LEAD_S = 0.015
"""An onset's time is that of its steepest rise: so long before, the rise can be heard."""
BEGIN_LAG_S = 0.15
"""From the first sound of a phrase to the hands: shorter, and a key or a cough
could not be told from it."""

_IDLE_S = (4.0, 9.0)
_CONTINUE = 0.7  # chance that a clip goes on with its next movement
_RECENT = 4  # gestures that are not made again at once
_EFFORT_DB = 8.0
_NEAR_M, _FAR_M = 0.42, 0.15  # ways from which on a gesture is less likely to come next


@dataclass(frozen=True, slots=True)
class Plan:
    """What the network learns from one recording.

    Attributes:
        choice: (frames,) int16 movement being made, a number of the catalogue.
        age: (frames,) int32 pose frames since it was chosen; 0 marks the choice.
        directions: (frames, 42, 3) float32.
    """

    choice: npt.NDArray[np.int16]
    age: npt.NDArray[np.int32]
    directions: F32


def plan(prosody: Prosody, frames: int, style: Style, catalogue: Catalogue, seed: int) -> Plan:
    """Gesture to a recording of ``frames`` pose frames (15 Hz).

    Args:
        prosody: the recording's.
        frames: pose frames.
        style: one of ``styles.STYLES``.
        catalogue: what to choose from.
        seed: of the choices.
    """
    made = events(prosody, frames, style, catalogue, np.random.default_rng(seed))
    level = _level(prosody, frames * FINE)
    directions = poses(
        made, frames, style, catalogue.rest, catalogue.rests[STYLES.index(style)], level
    )
    choice = np.zeros(frames, dtype=np.int16)
    age = np.zeros(frames, dtype=np.int32)
    for event in made:
        choice[event.frame :] = event.choice
        age[event.frame :] = np.arange(frames - event.frame)
    return Plan(choice, age, directions)


def events(
    prosody: Prosody, frames: int, style: Style, catalogue: Catalogue, rng: np.random.Generator
) -> list[Event]:
    """The movements of a recording in order of time, at most one a pose frame."""
    chooser = _Chooser(style, catalogue, rng)
    made = [chooser.idle(0)]
    end_s = frames / POSE_FPS
    for at, (start_s, stop_s) in enumerate(prosody.phrases):
        next_s = prosody.phrases[at + 1][0] if at + 1 < len(prosody.phrases) else end_s
        _wait(made, chooser, start_s)
        _phrase(made, chooser, prosody, start_s, stop_s)
        rest_frame = _frame(stop_s + SILENCE_BEFORE_REST_S)
        if next_s > stop_s + SILENCE_BEFORE_REST_S and not made[-1].rests:
            made.append(chooser.idle(max(rest_frame, made[-1].frame + 1)))
    _wait(made, chooser, end_s)
    return [event for event in made if event.frame < frames]


def _wait(made: list[Event], chooser: _Chooser, until_s: float) -> None:
    """Idle: now and then another way to stand, another glance."""
    while made[-1].rests:
        frame = made[-1].frame + _frame(chooser.rng.uniform(*_IDLE_S))
        if frame >= _frame(until_s):
            return
        made.append(chooser.idle(frame))


def _phrase(
    made: list[Event], chooser: _Chooser, prosody: Prosody, start_s: float, stop_s: float
) -> None:
    style, rng = chooser.style, chooser.rng
    if made[-1].rests and rng.random() < style.start:
        frame = _frame(start_s + BEGIN_LAG_S)
        if frame > made[-1].frame:
            made.append(chooser.next(made[-1], frame, _effort(prosody, frame), False))
    for onset in prosody.onsets:
        if not start_s - 0.05 <= onset.time_s <= stop_s or onset.strength < style.accent:
            continue
        frame = _frame(onset.time_s - LEAD_S)
        if frame < made[-1].frame + _gap_frames(made[-1], style):
            continue
        begins_anew = any(
            made[-1].frame / POSE_FPS < reset <= onset.time_s for reset in prosody.resets
        )
        made.append(chooser.next(made[-1], frame, _effort(prosody, frame), begins_anew))


def _gap_frames(event: Event, style: Style) -> int:
    """Pose frames before the next movement may begin: each has its own length."""
    if event.rests:
        return _frame(0.5 + style.gap_s)
    own_s = style.gap_s * (0.7 + 0.6 * share(event.unit.name, "gap"))
    return max(4, _frame(own_s))


def _effort(prosody: Prosody, frame: int) -> float:
    """-1 to 1: how much over its mean the voice has just been."""
    level = prosody.level_db
    if not len(level):
        return 0.0
    now = level[min(round(frame / POSE_FPS * FRAME_HZ), len(level) - 1)]
    return float(np.tanh(now / _EFFORT_DB))


class _Chooser:
    """Draws units by a style's odds, and does not repeat itself at once."""

    def __init__(self, style: Style, catalogue: Catalogue, rng: np.random.Generator) -> None:
        self.style = style
        self.rng = rng
        self._catalogue = catalogue
        self._odds = catalogue.odds(style)
        self._raises = np.array([unit.raises for unit in catalogue.units])
        self._number = {unit.name: i for i, unit in enumerate(catalogue.units)}
        self._clips = np.array([_gesture(unit.name) for unit in catalogue.units])
        self._places = np.stack([_place(unit) for unit in catalogue.units])
        self._place = self._places[0]
        self._recent: list[str] = []

    def idle(self, frame: int) -> Event:
        """A way to rest."""
        weights = self._catalogue.weights[: self._catalogue.idle_count]
        choice = int(self.rng.choice(len(weights), p=weights / weights.sum()))
        return Event(frame, choice, self._catalogue.units[choice])

    def next(self, before: Event, frame: int, effort: float, begins_anew: bool) -> Event:
        """The movement after another: its clip goes on, a small beat, or another gesture."""
        units = self._catalogue.units
        follows = before.unit.follows
        if follows and not begins_anew and self.rng.random() < _CONTINUE:
            choice = self._number[follows]
        elif not before.rests and not begins_anew and self.rng.random() < self.style.tap:
            choice = self._catalogue.idle_count + int(self.rng.choice(len(TAPS), p=self._taps()))
        else:
            fits = self._odds * ~np.isin(self._clips, self._recent)
            if before.rests:
                fits = fits * self._raises
            else:
                way_m = np.linalg.norm(self._places - self._place_of(before), axis=-1).max(axis=1)
                fits = fits * np.exp(-((np.maximum(way_m - _NEAR_M, 0.0) / _FAR_M) ** 2))
            if fits.sum() <= 0:  # a catalogue of a few gestures
                fits = self._odds * self._raises if before.rests else self._odds
            choice = int(self.rng.choice(len(fits), p=fits / fits.sum()))
            self._recent = [*self._recent, self._clips[choice]][-_RECENT:]
        return Event(frame, choice, units[choice], effort)

    def _place_of(self, event: Event) -> F32:
        """(2, 3) where the wrists are held; a small beat leaves them where they were."""
        if event.unit.clip is not None:
            self._place = self._places[event.choice]
        place: F32 = self._place
        return place

    def _taps(self) -> npt.NDArray[np.float64]:
        both, left = self.style.both, self.style.left
        return np.array([both, (1 - both) * left, (1 - both) * (1 - left)])


def _place(unit: Unit) -> F32:
    """(2, 3) where the wrists are at the end of a unit."""
    if unit.clip is None:
        return np.zeros((2, 3), dtype=np.float32)
    poses = unit.clip.at([unit.end_s])
    if unit.hands != "both":  # the other hand follows
        other = "right" if unit.hands == "left" else "left"
        poses[:, ARM_BONES[other]] = mirror(poses)[:, ARM_BONES[other]]
    wrists: F32 = joint_positions(poses)[0, WRISTS]
    return wrists


def _gesture(name: str) -> str:
    """The clip of a unit, whichever side and movement."""
    return name.split("/", maxsplit=1)[0].removesuffix(":mirror")


def _level(prosody: Prosody, count: int) -> npt.NDArray[np.float64]:
    """Level of the voice at each fine pose."""
    if not len(prosody.level_db):
        return np.zeros(count)
    at = np.arange(count) * FRAME_HZ / (POSE_FPS * FINE)
    return np.interp(at, np.arange(len(prosody.level_db)), prosody.level_db)


def _frame(time_s: float) -> int:
    """The next pose frame: choices are made on pose frames."""
    return max(0, int(np.ceil(time_s * POSE_FPS - 1e-6)))
