"""Samples in, predictions out: the model's steps as a pure function of the sound.

Step ``n`` may run once ``samples_heard_at(n)`` samples were heard. The live network sees the
newest three mel columns that are complete at that moment and predicts the pose frames
``n + 1 .. n + 3``; a window model has a step every hop, sees the 70 columns before it, and answers
for frames before ``n`` (``engines.timing.Timing``).

A voice that sets in would have to wait for the next mel column and then for the next step, 50 ms on
average. So while the hands rest and something sounds, the live network *looks* every 10 ms: the
last step is run again from the memory it had, with columns that end with the newest sample, and its
answer takes the place of the first one. What is heard so leaves no trace but in what is shown: the
next step goes on from the memory that the last one left. In the midst of a gesture there are no
looks; they would make the motion rougher, and 30 ms are not seen there.

Nothing here reads a clock or the size of a
block, so one recording and one seed give the same poses live, offline and however the sound was
cut.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ha2g_live.engines.base import Engine, ModelSpec, State
from ha2g_live.engines.timing import Timing
from ha2g_live.realtime.features import (
    LogMelState,
    initial_log_mel,
    log_mel,
    newest_columns,
    over_noise_db,
    silent_columns,
)
from ha2g_live.realtime.timebase import (
    COLUMNS_PER_STEP,
    FFT_SAMPLES,
    HOP_SAMPLES,
    MEL_BANDS,
    SAMPLE_RATE_HZ,
    newest_step,
    samples_heard_at,
)
from ha2g_live.realtime.types import F32, PoseChunk

LOOK_SAMPLES = SAMPLE_RATE_HZ // 100
"""Samples from one look to the next."""
LOOK_OVER_NOISE_DB = 12.0
"""Nothing but what stands so far above the room's noise is looked at."""
_LOOK_BACK_SAMPLES = FFT_SAMPLES + (COLUMNS_PER_STEP - 1) * HOP_SAMPLES


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
        resting: how many of the model's choices are ways to rest; they come first.
        before: state of the model before the last step; None before the first.
        seen_samples: what the last step or look has heard: a step, whole columns only.
        recent: the newest samples, as many as a look hears.
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
    resting: int = 0
    before: State | None = None
    seen_samples: int = 0
    recent: F32 = field(default_factory=lambda: np.zeros(_LOOK_BACK_SAMPLES, dtype=np.float32))


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
        resting=spec.resting,
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
        recent=np.concatenate((state.recent, samples))[-_LOOK_BACK_SAMPLES:],
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
    noise = _noise(engine.spec, state, state.next_step, energy)
    stop = columns - state.first_column
    given = state.columns[stop - timing.columns : stop]
    heard = max(0, columns) * HOP_SAMPLES
    chunk, after = _answer(
        engine, state, state.next_step, given, heard, noise, state.engine, captured_at_s
    )
    return chunk, replace(
        state,
        next_step=state.next_step + timing.every_frames,
        engine=after,
        before=state.engine,
        seen_samples=heard,
    )


def step_together(
    engine: Engine,
    states: Sequence[StepperState],
    captured_at_s: Sequence[float] = (),
    energies: Sequence[float] = (),
) -> list[tuple[PoseChunk, StepperState]]:
    """Run the next step of many streams as one batch; of each a step must be due.

    Each stream's answer is what ``step`` would give it, within rounding. Arguments and results are
    those of ``step``, one for each stream.
    """
    if not states:
        return []
    spec, timing = engine.spec, states[0].timing
    columns = np.empty((len(states), timing.columns, MEL_BANDS), dtype=np.float32)
    uniform = np.empty((len(states), spec.noise_size))
    heard = []
    for row, state in enumerate(states):
        until = timing.columns_until(state.next_step)
        stop = until - state.first_column
        columns[row] = state.columns[stop - timing.columns : stop]
        heard.append(max(0, until) * HOP_SAMPLES)
        if spec.windows is None:
            uniform[row] = _uniform(state.seed, state.next_step, spec.noise_size)
    if spec.windows is None:
        noise = (-np.log(-np.log(uniform))).astype(np.float32)
        if energies:
            chances = np.maximum(np.asarray(energies, dtype=np.float32), 1e-9)
            noise[:, 1 + states[0].resting :] += np.log(chances)[:, None]
    else:
        noise = np.stack([style_noise(state.seed, spec.noise_size) for state in states])
    before = {name: np.concatenate([state.engine[name] for state in states]) for name in spec.state}
    style = np.concatenate([state.style for state in states])
    started_s = time.perf_counter()
    directions, after = engine.step(columns, style, noise, before)
    infer_s = time.perf_counter() - started_s
    answers = []
    for row, state in enumerate(states):
        chunk = PoseChunk(
            first_frame=state.next_step + timing.first_frame,
            directions=directions[row],
            heard_samples=heard[row],
            captured_at_s=captured_at_s[row] if captured_at_s else 0.0,
            infer_s=infer_s,
        )
        new = replace(
            state,
            next_step=state.next_step + timing.every_frames,
            engine={name: value[row : row + 1] for name, value in after.items()},
            before=state.engine,
            seen_samples=heard[row],
        )
        answers.append((chunk, new))
    return answers


def look_due(state: StepperState) -> bool:
    """Whether something sounds that neither a step nor a look has heard; no step is due."""
    unseen = state.heard_samples - state.seen_samples
    if not _waits(state) or unseen < LOOK_SAMPLES:
        return False
    return over_noise_db(state.recent[-unseen:], state.features) > LOOK_OVER_NOISE_DB


def look(
    engine: Engine, state: StepperState, captured_at_s: float = 0.0, energy: float = 1.0
) -> tuple[PoseChunk, StepperState]:
    """Run the last step again with what was heard since; the memory it leaves is not kept.

    The chances of the step to come decide what begins, as they will when it is due. What the last
    step began stays begun. Arguments and results are those of ``step``.
    """
    assert state.before is not None
    last = state.next_step - state.timing.every_frames
    drawn = last if _began(state.engine) else state.next_step
    noise = _noise(engine.spec, state, drawn, energy)
    given = newest_columns(state.recent, state.features)
    heard = state.heard_samples
    chunk, _ = _answer(engine, state, last, given, heard, noise, state.before, captured_at_s)
    return chunk, replace(state, seen_samples=heard)


def next_event(state: StepperState) -> int:
    """Samples that must have been heard before there may be something to do."""
    step_at = samples_heard_at(state.next_step)
    if not _waits(state):
        return step_at
    return min(step_at, max(state.seen_samples, state.heard_samples) + LOOK_SAMPLES)


def _waits(state: StepperState) -> bool:
    """Whether looks are of use: the hands rest, and the model answers for what is to come."""
    if state.before is None or state.timing.window_frames:
        return False
    choice = state.engine.get("choice")
    return choice is None or int(choice[0].argmax()) < state.resting


def _began(state: State) -> bool:
    """Whether the step that left this state began a gesture."""
    return "age" in state and float(state["age"][0, 0]) == 0.0


def _answer(
    engine: Engine,
    state: StepperState,
    step: int,
    columns: F32,
    heard_samples: int,
    noise: F32,
    before: State,
    captured_at_s: float,
) -> tuple[PoseChunk, State]:
    """The answer of a step to (n, 128) columns."""
    started_s = time.perf_counter()
    directions, after = engine.step(columns[None], state.style, noise[None], before)
    chunk = PoseChunk(
        first_frame=step + state.timing.first_frame,
        directions=directions[0],
        heard_samples=heard_samples,
        captured_at_s=captured_at_s,
        infer_s=time.perf_counter() - started_s,
    )
    return chunk, after


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


def _noise(spec: ModelSpec, state: StepperState, step: int, energy: float) -> F32:
    if spec.windows is None:
        noise = gumbel_noise(state.seed, step, spec.noise_size)
        # Entry 0 carries on, then come the ways to rest. The log odds are added to the noise.
        noise[1 + state.resting :] += math.log(max(energy, 1e-9))
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
