"""Samples in, predictions out: the model's steps as a pure function of the sound.

Step ``n`` may run once ``samples_heard_at(n)`` samples were heard. The live network sees the
newest three mel columns that are complete at that moment and predicts the pose frames
``n + 1 .. n + 3``; a window model has a step every hop, sees the 70 columns before it, and answers
for frames before ``n`` (``engines.timing.Timing``). Nothing here reads a clock or the size of a
block, so one recording and one seed give the same poses live, offline and however the sound was
cut.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ha2g_live.engines.base import Engine, ModelSpec, State
from ha2g_live.engines.timing import Timing
from ha2g_live.realtime.features import LogMelState, initial_log_mel, log_mel, silent_columns
from ha2g_live.realtime.timebase import HOP_SAMPLES, newest_step
from ha2g_live.realtime.types import F32, PoseChunk


@dataclass(frozen=True, slots=True)
class StepperState:
    """Everything one stream remembers between blocks. Copy it, save it, go back to it.

    Attributes:
        features: state of the log-mel features.
        columns: (n, 128) newest mel columns, all that steps to come may need.
        first_column: stream index of ``columns[0]``; negative before the stream began.
        heard_samples: samples heard so far.
        next_step: the step that runs next.
        engine: state of the model.
        style: (1, styles) weights that sum to one. May be replaced between steps.
        seed: picks the stream of gesture choices, or the style noise of a window model.
        timing: the model's.
    """

    features: LogMelState
    columns: F32
    first_column: int
    heard_samples: int
    next_step: int
    engine: State
    style: F32
    seed: int
    timing: Timing


def initial_state(spec: ModelSpec, style: str, seed: int) -> StepperState:
    """The state before the first sample.

    Raises:
        ModelError: the model has no such style.
    """
    return StepperState(
        features=initial_log_mel(),
        # The first window of a window model begins a column and more before them.
        columns=silent_columns(spec.timing.columns + 1),
        first_column=-spec.timing.columns - 1,
        heard_samples=0,
        next_step=0,
        engine=spec.initial_state(),
        style=spec.style_vector(style),
        seed=seed,
        timing=spec.timing,
    )


def hear(samples: F32, state: StepperState) -> StepperState:
    """Take in (n,) float32 samples at 16 kHz; no step runs yet.

    Raises:
        ValueError: a sample is not a finite number.
    """
    columns, features = log_mel(samples, state.features)
    # Columns older than the window of the next step are of no more use.
    keep_from = state.timing.columns_until(state.next_step) - state.timing.columns
    drop = min(max(0, keep_from - state.first_column), len(state.columns))
    return replace(
        state,
        features=features,
        columns=np.concatenate((state.columns[drop:], columns)),
        first_column=state.first_column + drop,
        heard_samples=state.heard_samples + len(samples),
    )


def steps_due(state: StepperState) -> int:
    """How many steps the sound heard so far allows."""
    ahead = newest_step(state.heard_samples) - state.next_step
    return ahead // state.timing.every_frames + 1 if ahead >= 0 else 0


def step(
    engine: Engine, state: StepperState, captured_at_s: float = 0.0, energy: float = 1.0
) -> tuple[PoseChunk, StepperState]:
    """Run the next step, which must be due.

    Args:
        engine: the model.
        state: the stream so far.
        captured_at_s: when the last sample of the step's window was captured; it is only passed on.
        energy: what the odds of beginning a gesture are multiplied by; a window model, which
            chooses none, takes no notice.

    Returns:
        The prediction and the new state.
    """
    timing = state.timing
    columns = timing.columns_until(state.next_step)
    stop = columns - state.first_column
    started_s = time.perf_counter()
    directions, engine_state = engine.step(
        state.columns[None, stop - timing.columns : stop],
        state.style,
        _noise(engine.spec, state, energy)[None],
        state.engine,
    )
    chunk = PoseChunk(
        first_frame=state.next_step + timing.first_frame,
        directions=directions[0],
        heard_samples=max(0, columns) * HOP_SAMPLES,
        captured_at_s=captured_at_s,
        infer_s=time.perf_counter() - started_s,
    )
    next_step = state.next_step + timing.every_frames
    return chunk, replace(state, next_step=next_step, engine=engine_state)


def skip_to_newest(state: StepperState) -> tuple[int, StepperState]:
    """Give up all due steps but the newest; returns how many were given up."""
    skipped = max(0, steps_due(state) - 1)
    next_step = state.next_step + skipped * state.timing.every_frames
    return skipped, replace(state, next_step=next_step)


def advance(
    engine: Engine, samples: F32, state: StepperState
) -> tuple[list[PoseChunk], StepperState]:
    """Take in samples and run every step they allow.

    Raises:
        ValueError: a sample is not a finite number.
    """
    state = hear(samples, state)
    chunks = []
    while steps_due(state):
        chunk, state = step(engine, state)
        chunks.append(chunk)
    return chunks, state


def _noise(spec: ModelSpec, state: StepperState, energy: float) -> F32:
    if spec.windows is None:
        noise = gumbel_noise(state.seed, state.next_step, spec.noise_size)
        # Entry 0 carries on, then come the ways to rest. The log odds are added to the noise.
        noise[1 + spec.resting :] += math.log(max(energy, 1e-9))
        return noise
    return style_noise(state.seed, spec.noise_size)


def gumbel_noise(seed: int, step: int, size: int) -> F32:
    """(size,) Gumbel noise of one step, the same for the same seed and step."""
    noise: F32 = (-np.log(-np.log(_uniform(seed, step, size)))).astype(np.float32)
    return noise


def style_noise(seed: int, size: int) -> F32:
    """(size,) normal noise of a whole stream's style z; none for seed 0, which takes the mean."""
    if seed == 0:
        return np.zeros(size, dtype=np.float32)
    radius, angle = _uniform(seed, 0, 2 * size).reshape(2, size)
    # The Box-Muller transform.
    noise: F32 = (np.sqrt(-2.0 * np.log(radius)) * np.cos(2.0 * np.pi * angle)).astype(np.float32)
    return noise


def _uniform(seed: int, step: int, size: int) -> npt.NDArray[np.float64]:
    """(size,) numbers inside (0, 1), the same for the same seed and step.

    The counter-based generator Philox 4x64 is keyed by seed and step, so that any step's noise can
    be had without drawing that of the steps before. The raw bits are used: their sequence is fixed
    by the algorithm, while numpy's distributions may change between its versions.
    """
    bits = np.random.Philox(key=np.array([seed, step], dtype=np.uint64)).random_raw(size)
    uniform: npt.NDArray[np.float64] = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return uniform
