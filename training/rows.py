"""One way to move to a set of streams, and everything that is measured of it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ha2g_live.engines import open_engine
from ha2g_live.engines.base import REST, Engine, ModelSpec, State, Stepping
from ha2g_live.realtime.offline import animate
from ha2g_live.realtime.timebase import POSE_FPS
from ha2g_live.realtime.types import F32
from ha2g_live.training.alignment import alignment
from ha2g_live.training.ha2g.autoencoder import Features
from ha2g_live.training.ha2g.metrics import diversity, frechet_distance
from ha2g_live.training.hearing import Heard
from ha2g_live.training.likeness import F64, finger_speed, windows_of
from ha2g_live.training.measures import episodes, measures_of, motion_curves
from ha2g_live.training.playback import MEASURED_FPS
from ha2g_live.training.repetition import repeated_choices, repetition
from ha2g_live.training.trials import Trial

Begun = list[tuple[float, str]]
"""(second, name) of each gesture of a stream."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The motion of one stream.

    Attributes:
        directions: (frames, 42, 3) at ``MEASURED_FPS``.
        begun: gestures that the model chose; None where it tells of none.
    """

    directions: F32
    begun: Begun | None = None


@dataclass(frozen=True)
class Row:
    """One way to move.

    Attributes:
        name: for people.
        shown: of each stream.
        heard: the voice of each stream.
        reference: names of the planner's streams that FGD compares it with.
        non_speech: its motion without speech, by what is heard.
        delay_s: how far behind the sound it is shown live; not part of the motion here.
    """

    name: str
    shown: Sequence[Shown]
    heard: Sequence[Heard]
    reference: Sequence[str]
    non_speech: dict[str, list[Shown]] = field(default_factory=dict)
    delay_s: float = 0.0


# --- making motion


class ChoiceEngine(Stepping):
    """An engine that notes which gesture begins at each step; see ``engines.base.Engine``.

    Attributes:
        begun: gestures so far, idle movements left out.
    """

    def __init__(self, engine: Engine) -> None:
        self.begun: Begun = []
        self._engine = engine
        self._steps = 0
        self._before: State | None = None

    @property
    def spec(self) -> ModelSpec:
        """What the opened model is."""
        return self._engine.spec

    def step(self, audio: F32, style: F32, noise: F32, state: State) -> tuple[F32, State]:
        """One step; see ``engines.base.Engine``."""
        directions, after = self._engine.step(audio, style, noise, state)
        if state is self._before:
            return directions, after  # a look: the last step once more, which leaves no trace
        self._before = state
        self._steps += 1
        if after["age"][0, 0] == 0.0:
            name = self.spec.choices[int(after["choice"][0].argmax())]
            if not name.startswith(REST):
                self.begun.append((self._steps / POSE_FPS, name))
        return directions, after

    def close(self) -> None:
        """Nothing: the engine inside is its owner's."""


def show(engine: Engine, samples: F32, style: str, seed: int) -> Shown:
    """Animate one stream by the live stages."""
    tells = {"choice", "age"} <= engine.spec.state.keys()
    noting = ChoiceEngine(engine) if tells else None
    motion = animate(
        samples, noting or engine, fps=MEASURED_FPS, style=style, seed=seed, tail_s=0.0
    )
    return Shown(motion.directions, noting.begun if noting else None)


@dataclass(frozen=True, slots=True)
class Job:
    """One stream to animate."""

    samples: F32
    style: str
    seed: int


_worker_engine: list[Engine] = []


def _start_worker(model: Path | None) -> None:
    _worker_engine.append(open_engine("onnx", model))


def _show_in_worker(job: Job) -> Shown:
    return show(_worker_engine[0], job.samples, job.style, job.seed)


class Stage:
    """Animates streams in one or more processes."""

    def __init__(self, model: Path | None, jobs: int) -> None:
        self.engine = open_engine("onnx", model)
        self._pool = (
            multiprocessing.get_context("spawn").Pool(jobs, _start_worker, (model,))
            if jobs > 1
            else None
        )

    def show_all(self, work: Sequence[Job]) -> Iterator[Shown]:
        """The motion of each job, in order."""
        if self._pool is not None:
            yield from self._pool.imap(_show_in_worker, work)
        else:
            for job in work:
                yield show(self.engine, job.samples, job.style, job.seed)

    def style_of(self, trial: Trial) -> str:
        """The style a stream was planned in, or the model's usual one if it does not know it."""
        known = trial.style in self.engine.spec.styles
        return trial.style if known else self.engine.spec.usual_style

    def close(self) -> None:
        """End the processes."""
        self.engine.close()
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()


@contextmanager
def open_stage(model: Path | None, jobs: int) -> Iterator[Stage]:
    """A ``Stage`` that is closed at the end.

    Args:
        model: a model's file or folder; the bundled one when left out.
        jobs: processes.
    """
    stage = Stage(model, jobs)
    try:
        yield stage
    finally:
        stage.close()


# --- measuring


@dataclass(frozen=True)
class Judge:
    """What all rows are measured with.

    Attributes:
        features: of the autoencoder.
        planned: (windows, features) of each of the planner's streams, by name.
        floor: FGD of two halves of all of them.
        typical_m: from ``repetition.typical_distance_m`` of the planner.
        seed: chooses shifts and pairs.
    """

    features: Features
    planned: dict[str, F64]
    floor: float
    typical_m: float
    seed: int

    def latents(self, motion: F32, fps: float = MEASURED_FPS) -> F64:
        """(windows, features) of a motion."""
        windows = windows_of(motion, fps)
        return self.features.of(windows) if len(windows) else np.zeros((0, 1))

    def scores(self, row: Row) -> dict[str, float]:
        """Every number of a row."""
        motions = [shown.directions for shown in row.shown]
        latents = [found for found in map(self.latents, motions) if len(found)]
        reference = [self.planned[name] for name in row.reference if len(self.planned[name])]
        own, theirs = _joined(latents), _joined(reference)
        enough = len(own) > 1 and len(theirs) > 1
        begun = [shown.begun for shown in row.shown if shown.begun is not None]
        return {
            **measures_of(motions, MEASURED_FPS),
            "finger_speed": finger_speed(motions, MEASURED_FPS),
            **alignment(motions, row.heard, MEASURED_FPS, self.seed),
            "fgd": frechet_distance(own, theirs) if enough else float("nan"),
            "fgd_floor": self.floor,
            "diversity": diversity(own, self.seed) if len(own) > 1 else float("nan"),
            "repetition": repetition(motions, MEASURED_FPS, self.typical_m),
            "repeated_choices": repeated_choices(begun),
            **false_gestures(row.non_speech),
            "delay_s": row.delay_s,
            "windows": float(len(own)),
        }


def _joined(parts: Sequence[F64]) -> F64:
    return np.concatenate(parts) if parts else np.zeros((0, 1))


def false_gestures(non_speech: dict[str, list[Shown]]) -> dict[str, float]:
    """Episodes of the faster wrist a minute without speech, of each kind and of all.

    Args:
        non_speech: motion by what is heard.

    Returns:
        ``false_per_min`` and ``false_per_min_KIND``; NaN where there is none.
    """
    found: dict[str, float] = {}
    count, minutes = 0, 0.0
    for kind, streams in sorted(non_speech.items()):
        speeds = [motion_curves(s.directions, MEASURED_FPS).speed_m_s.max(axis=1) for s in streams]
        own = sum(len(episodes(speed)) for speed in speeds)
        own_minutes = sum(len(s.directions) for s in streams) / MEASURED_FPS / 60.0
        found[f"false_per_min_{kind}"] = own / own_minutes
        count, minutes = count + own, minutes + own_minutes
    return {"false_per_min": count / minutes if minutes else float("nan"), **found}
