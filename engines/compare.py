"""The command ``ha2g-live engines``: what can run the model here, and whether two engines agree.

ha2g-live engines                            name, device and time of a step of each
ha2g-live engines compare onnx torch         real speech through both
ha2g-live engines lower int8 --out int8.onnx           a model in lower precision
ha2g-live engines compare onnx onnx --other-model int8.onnx
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ha2g_live.engines import ENGINES, model_path, open_engine
from ha2g_live.engines.auto import engines_here, measure
from ha2g_live.engines.base import Engine, State
from ha2g_live.realtime import stepper
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import ConfigError, ModelError
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ, newest_step, samples_heard_at
from ha2g_live.realtime.types import F32

MEAN_DEG, WORST_DEG = 0.5, 3.0
"""A model of lower precision may be off by so much and be taken for the same."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the answers of two engines lie apart, over all bones and frames.

    Attributes:
        steps: steps compared.
        largest: greatest difference of a coordinate of a direction.
        mean: mean of these.
        largest_deg: greatest angle between two directions.
        mean_deg: mean of these.
        choices: steps in which the two chose another gesture.
    """

    steps: int
    largest: float
    mean: float
    largest_deg: float
    mean_deg: float
    choices: int

    @property
    def same(self) -> bool:
        """Whether one may take the place of the other."""
        return self.mean_deg <= MEAN_DEG and self.largest_deg <= WORST_DEG


def compare(
    one: Engine,
    other: Engine,
    samples: F32,
    *,
    seed: int = 0,
    follow: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Difference:
    """Run speech through two engines.

    Each goes its own way, so that small differences may grow, as they would live. With ``follow``
    the other takes each step from the state of the first: what one step alone differs by.

    Args:
        one: the reference.
        other: what is held against it.
        samples: (n,) float32 at 16 kHz.
        seed: of the gestures.
        follow: step both from the same state.
        progress: is told steps done and steps in all.

    Raises:
        ModelError: the two models do not take the same inputs.
    """
    if one.spec.inputs(1) != other.spec.inputs(1):
        raise ModelError("the two models do not take the same inputs: compare models of one kind")
    states = [stepper.initial_state(engine.spec, "", seed) for engine in (one, other)]
    every = one.spec.timing.every_frames
    total = newest_step(len(samples)) // every + 1
    apart: list[npt.NDArray[np.float32]] = []
    angles: list[npt.NDArray[np.float64]] = []
    choices = 0
    for step in range(total):
        until = min(len(samples), samples_heard_at(step * every))
        answers = []
        for k, engine in enumerate((one, other)):
            state = stepper.hear(samples[states[k].heard_samples : until], states[k])
            chunk, states[k] = stepper.step(engine, state)
            answers.append(chunk.directions)
        choices += _chosen(states[0].engine) != _chosen(states[1].engine)
        if follow:
            states[1] = states[0]
        apart.append(np.abs(answers[0] - answers[1]))
        angles.append(_angles_deg(answers[0], answers[1]))
        if progress is not None:
            progress(step + 1, total)
    return Difference(
        steps=total,
        largest=float(np.max(apart)),
        mean=float(np.mean(apart)),
        largest_deg=float(np.max(angles)),
        mean_deg=float(np.mean(angles)),
        choices=choices,
    )


def _chosen(state: State) -> int:
    return int(state["choice"][0].argmax()) if "choice" in state else 0


def _angles_deg(one: F32, other: F32) -> npt.NDArray[np.float64]:
    """Angles between unit vectors, by the chord: exact for small ones."""
    chord = np.linalg.norm(one.astype(np.float64) - other, axis=-1)
    angles: npt.NDArray[np.float64] = np.degrees(2.0 * np.arcsin(np.clip(chord / 2.0, 0.0, 1.0)))
    return angles


def main(argv: list[str]) -> int:
    """The command."""
    if argv[:1] == ["compare"]:
        return _compare(argv[1:])
    if argv[:1] == ["lower"]:
        from ha2g_live.engines.precision import main as lower

        return lower(argv[1:])
    parser = Parser(
        prog="ha2g-live engines",
        description="What can run the model on this machine. See also:  ha2g-live engines compare, "
        "ha2g-live engines lower",
    )
    parser.add_argument("--model", type=Path, metavar="FILE")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    path = model_path(options.model)
    here = engines_here()
    times = measure(path, here, options.threads)
    for name in ENGINES:
        if name in times:
            text = f"{1e3 * times[name]:.2f} ms a step"
        else:
            text = (
                "fails here, or computes something else" if name in here else "not on this machine"
            )
        sys.stdout.write(f"{name:<16}{text}\n")
    return 0


def _compare(argv: list[str]) -> int:
    parser = Parser(
        prog="ha2g-live engines compare",
        description="Run real speech through two engines and say how far their answers lie apart.",
    )
    parser.add_argument("one", help="the reference, for example onnx")
    parser.add_argument("other", help="what is held against it, for example torch")
    parser.add_argument("--model", type=Path, metavar="FILE", help="model of both")
    parser.add_argument("--other-model", type=Path, metavar="FILE", help="another for the second")
    parser.add_argument("--audio", type=Path, action="append", help="speech (the bundled clip)")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long; speech is repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hop", type=int, metavar="FRAMES")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args(argv)
    if not 0.0 < options.minutes <= 600.0:
        raise ConfigError(f"--minutes must be above 0, got {options.minutes:g}")
    speech = np.concatenate([read_audio(path) for path in options.audio or [demo_clip()]])
    samples = np.resize(speech, int(options.minutes * 60 * SAMPLE_RATE_HZ))
    one = open_engine(options.one, options.model, 1, options.hop)
    other = open_engine(options.other, options.other_model or options.model, 1, options.hop)
    names = [
        f"{name} ({engine.capabilities.device}, {engine.capabilities.precision})"
        for name, engine in ((options.one, one), (options.other, other))
    ]
    report: dict[str, object] = {"one": names[0], "other": names[1], "minutes": options.minutes}
    for title, follow in (("each on its own", False), ("step by step", True)):
        found = compare(one, other, samples, seed=options.seed, follow=follow, progress=_bar(title))
        report[title] = asdict(found)
        verdict = "within" if found.same else "beyond"
        sys.stdout.write(
            f"{title}: {found.steps} steps; directions differ by {found.largest:.1e} at most, "
            f"{found.mean:.1e} on average; {found.largest_deg:.4f} degrees at most, "
            f"{found.mean_deg:.5f} on average; {found.choices} other choices: {verdict} "
            f"{MEAN_DEG:g} mean and {WORST_DEG:g} worst\n"
        )
    one.close()
    other.close()
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _bar(title: str) -> Callable[[int, int], None] | None:
    if not sys.stderr.isatty():
        return None
    shown_s = 0.0

    def show(done: int, total: int) -> None:
        nonlocal shown_s
        if done == total or time.monotonic() - shown_s > 0.1:
            shown_s = time.monotonic()
            end = "\n" if done == total else ""
            sys.stderr.write(f"\r{title:<16} {100 * done // total:3d} %{end}")

    return show
