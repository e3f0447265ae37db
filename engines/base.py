"""The engine contract: named, typed, shaped inputs and outputs, checked when a model is opened.

One step of a model is a pure function. All memory of a stream (recent audio, recurrent states,
last emitted poses, the gesture being made) is a plain dictionary of arrays that goes in and comes
out, so it can be copied, saved, reset and stacked over streams.

There are two kinds of model. The live network hears the newest columns and predicts the frames to
come. A window model, HA2G as published, hears 34 pose frames of sound and answers for those same
frames; ``engines.window`` slides it along a stream.
"""

from __future__ import annotations

import base64
import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from ha2g_live.engines.timing import Timing, WindowSpec
from ha2g_live.realtime.errors import ConfigError, ModelError
from ha2g_live.realtime.skeleton import BONE_COUNT
from ha2g_live.realtime.timebase import COLUMNS_PER_STEP, FRAMES_AHEAD, MEL_BANDS
from ha2g_live.realtime.types import F32

State = dict[str, F32]
"""Arrays by name, each (batch, ...) float32."""

_STYLES_SHOWN = 20

REST = "idle:"
"""Names of ways to rest begin so."""

PRECISIONS = ("fp32", "fp16", "int8")
"""Arithmetic of a model: single, half, or 8-bit whole numbers for the products."""

SPEC_KEY = "ha2g_live_spec"
"""Metadata entry of a model file that holds its ``ModelSpec`` as JSON."""


def resting_of(choices: Sequence[str]) -> int:
    """How many of the names of choices are ways to rest: they begin with ``REST``, and lead."""
    return sum(name.startswith(REST) for name in choices)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model file says of itself.

    Attributes:
        name: name of the model.
        version: its version.
        styles: speaker styles, in the order of the ``style`` input.
        choices: gestures the model can choose between, first the ways to rest, whose names begin
            with ``REST``.
        state: shape of each state array without the batch axis, in binding order.
        default_style: the style to take when nobody asks for one; empty for the first.
        start: state arrays of somebody who stands silent, base64 of little-endian float32; what
            is not there starts at zero.
        windows: what a window model adds; None for the live network.
        precision: of the file's arithmetic, one of ``PRECISIONS``.
    """

    name: str
    version: str
    styles: tuple[str, ...]
    choices: tuple[str, ...]
    state: dict[str, tuple[int, ...]]
    default_style: str = ""
    start: dict[str, str] = field(default_factory=dict)
    windows: WindowSpec | None = None
    precision: str = PRECISIONS[0]

    @property
    def timing(self) -> Timing:
        """When its steps run."""
        return Timing() if self.windows is None else self.windows.timing

    @property
    def usual_style(self) -> str:
        """The style when nobody asks for one."""
        return self.default_style or self.styles[0]

    @property
    def resting(self) -> int:
        """How many of the choices are rest; they come first."""
        return resting_of(self.choices)

    @property
    def noise_size(self) -> int:
        """Length of the noise vector: one for "carry on", one for each choice."""
        return len(self.choices) + 1 if self.windows is None else self.windows.noise

    def inputs(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Input shapes of the model file by name for ``batch`` streams, all float32."""
        if self.windows is not None:
            return self.windows.inputs(batch, len(self.styles))
        return {
            "audio": (batch, COLUMNS_PER_STEP, MEL_BANDS),
            "style": (batch, len(self.styles)),
            "noise": (batch, self.noise_size),
            **{name: (batch, *shape) for name, shape in self.state.items()},
        }

    def outputs(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Output shapes of the model file by name for ``batch`` streams, all float32."""
        if self.windows is not None:
            return self.windows.outputs(batch)
        return {
            "directions": (batch, FRAMES_AHEAD, BONE_COUNT, 3),
            **{f"next_{name}": (batch, *shape) for name, shape in self.state.items()},
        }

    def initial_state(self, batch: int = 1) -> State:
        """The state before anything was heard: at rest, as after a silence."""
        return {
            name: np.tile(self._start_of(name, shape), (batch, *[1] * len(shape)))
            for name, shape in self.state.items()
        }

    def at_rest(self, state: State) -> ModelSpec:
        """This spec with a (batch of 1) state to start from."""
        start = {
            name: base64.b64encode(value.astype("<f4").tobytes()).decode()
            for name, value in state.items()
        }
        return replace(self, start=start)

    def _start_of(self, name: str, shape: tuple[int, ...]) -> F32:
        if name not in self.start:
            return np.zeros((1, *shape), dtype=np.float32)
        stored = np.frombuffer(base64.b64decode(self.start[name]), dtype="<f4")
        return stored.astype(np.float32).reshape(1, *shape)

    def style_vector(self, style: str | None = None, batch: int = 1) -> F32:
        """(batch, styles) one-hot weights of a named style; a blend of styles also fits the input.

        Args:
            style: one of ``styles``; None takes the default.
            batch: number of streams.

        Raises:
            ModelError: the model has no such style.
        """
        style = style or self.usual_style
        if style not in self.styles:
            raise ModelError(f"the model has no style {style!r}: {self._style_hint(style)}")
        weights = np.zeros((batch, len(self.styles)), dtype=np.float32)
        weights[:, self.styles.index(style)] = 1.0
        return weights

    def _style_hint(self, style: str) -> str:
        if len(self.styles) <= _STYLES_SHOWN:
            return f"choose one of {', '.join(self.styles)}"
        # A published model has over a thousand, one for each video.
        near = difflib.get_close_matches(style, self.styles, n=5, cutoff=0.0)
        return f"it has {len(self.styles)}; the most alike are {', '.join(near)}"

    def to_json(self) -> str:
        """The spec as the text stored in a model file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> ModelSpec:
        """Read the spec from a model file's metadata.

        Raises:
            ModelError: the file has none, or one that cannot be read.
        """
        if SPEC_KEY not in metadata:
            raise ModelError(
                f"{where} is not a ha2g-live model (it lacks the entry {SPEC_KEY!r}): "
                "use one written by  ha2g-live export"
            )
        try:
            fields = json.loads(metadata[SPEC_KEY])
            spec = cls(
                name=str(fields["name"]),
                version=str(fields["version"]),
                styles=tuple(map(str, fields["styles"])),
                choices=tuple(map(str, fields["choices"])),
                state={str(k): tuple(map(int, v)) for k, v in fields["state"].items()},
                default_style=str(fields.get("default_style", "")),
                start={str(k): str(v) for k, v in fields.get("start", {}).items()},
                windows=WindowSpec(**fields["windows"]) if fields.get("windows") else None,
                precision=str(fields.get("precision", PRECISIONS[0])),
            )
            if spec.precision not in PRECISIONS:
                raise ValueError(f"unknown precision {spec.precision!r}")
            spec.initial_state()  # raises where a stored array does not fit
            return spec
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{where} has a damaged spec ({error}): export it again") from error


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an opened engine can do.

    Attributes:
        device: where it computes, for a person: ``cpu`` or the GPU's name.
        precision: one of ``PRECISIONS``; what goes in and comes out is float32 always.
        max_batch: most streams in one step; None when there is no such bound.
    """

    device: str = "cpu"
    precision: str = PRECISIONS[0]
    max_batch: int | None = None


class Bound(Protocol):
    """An engine with buffers of its own for a fixed number of streams: nothing is allocated a step.

    Fill ``audio``, ``style`` and ``noise``, call ``run``, read ``directions``. The arrays are the
    same ones for good, and ``directions`` is overwritten by the next ``run``. The state stays where
    the engine computes.

    Threads: one thread at a time.

    Attributes:
        audio: (batch, columns, 128) float32.
        style: (batch, styles) float32.
        noise: (batch, noise) float32.
        directions: (batch, frames, 42, 3) float32.
    """

    audio: F32
    style: F32
    noise: F32
    directions: F32

    def run(self, keep: bool = True) -> None:
        """One step. Without ``keep`` the state stays as it was: a look ahead."""

    def read_state(self) -> State:
        """A copy of the state."""

    def write_state(self, state: State) -> None:
        """Replace the state; the arrays are copied."""


class Engine(Protocol):
    """Runs one model step.

    Threads: one thread at a time. A returned array is the caller's to keep.
    """

    @property
    def spec(self) -> ModelSpec:
        """What the opened model is."""

    @property
    def capabilities(self) -> Capabilities:
        """Where and how it computes."""

    def step(self, audio: F32, style: F32, noise: F32, state: State) -> tuple[F32, State]:
        """The step of one pose frame; ``spec.timing`` says when it is due and what it speaks of.

        Args:
            audio: (batch, columns, 128) mel columns, oldest first; 3 for the live network.
            style: (batch, styles) weights that sum to one.
            noise: (batch, ``spec.noise_size``). For the live network Gumbel noise that picks the
                gesture, zeros take the likeliest. For a window model the normal noise of z, the
                same for a whole stream, zeros take the mean.
            state: what the step before returned, or ``spec.initial_state(batch)``.

        Returns:
            Directions (batch, frames, 42, 3), and the new state.
        """

    def bind(self, batch: int) -> Bound:
        """Buffers for ``batch`` streams, in their initial state.

        Raises:
            ConfigError: the batch is below 1 or more than the engine can do.
        """

    def close(self) -> None:
        """Release the model. May be called twice. What was bound is of no more use."""


class Stepping:
    """What an engine adds to ``spec`` and ``step`` when it has nothing faster."""

    @property
    def capabilities(self) -> Capabilities:
        """Where and how it computes."""
        return Capabilities()

    def bind(self: Engine, batch: int) -> Bound:
        """Buffers for ``batch`` streams."""
        return Wrapped(self, batch)


class Wrapped:
    """Gives an engine without buffers of its own the form of ``Bound``."""

    def __init__(self, engine: Engine, batch: int) -> None:
        check_batch(batch, engine.capabilities)
        spec = engine.spec
        self._engine = engine
        self._state = spec.initial_state(batch)
        self.audio = np.zeros((batch, spec.timing.columns, MEL_BANDS), dtype=np.float32)
        self.style = spec.style_vector(batch=batch)
        self.noise = np.zeros((batch, spec.noise_size), dtype=np.float32)
        self.directions = np.zeros((batch, spec.timing.frames, BONE_COUNT, 3), dtype=np.float32)

    def run(self, keep: bool = True) -> None:
        """One step; see ``Bound``."""
        directions, after = self._engine.step(self.audio, self.style, self.noise, self._state)
        self.directions[:] = directions
        if keep:
            self._state = after

    def read_state(self) -> State:
        """A copy of the state."""
        return {name: value.copy() for name, value in self._state.items()}

    def write_state(self, state: State) -> None:
        """Replace the state."""
        self._state = {name: value.copy() for name, value in state.items()}


def check_batch(batch: int, capabilities: Capabilities) -> None:
    """Refuse a number of streams that an engine cannot do.

    Raises:
        ConfigError: it is below 1 or above the engine's bound.
    """
    most = capabilities.max_batch
    if batch < 1 or (most is not None and batch > most):
        raise ConfigError(
            f"a batch of {batch} streams is not possible: this engine takes 1 to {most or 'any'}"
        )


def check_bindings(
    kind: str,
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[str, tuple[Any, ...]]],
    where: str,
) -> None:
    """Hold a model file's bindings against the contract.

    Args:
        kind: "input" or "output", for the message.
        expected: shapes by name for a batch of 1; the first axis is the batch.
        found: element type and shape by name as the file declares them; a shape entry that is not
            an integer is a free axis.
        where: the file, for the message.

    Raises:
        ModelError: a binding is missing, is not float32, has another shape, or is one too many.
    """
    unknown = [name for name in found if name not in expected]
    if unknown:
        raise ModelError(
            f"{where} has {kind} {unknown[0]!r}, which this version does not know: "
            "use a model that was exported for it"
        )
    for name, shape in expected.items():
        if name not in found:
            raise ModelError(f"{where} has no {kind} {name!r}: it is not a ha2g-live model")
        element, dims = found[name]
        fits = len(dims) == len(shape) and all(
            not isinstance(dim, int) or dim == size
            for dim, size in zip(dims[1:], shape[1:], strict=True)
        )
        if element != "float32" or not fits:
            raise ModelError(
                f"{where}: {kind} {name!r} is {element} {list(dims)}, "
                f"expected float32 [batch, {', '.join(map(str, shape[1:]))}]: export it again"
            )


def warm_up(engine: Engine, steps: int = 3) -> None:
    """Run steps on silence so that the first real one is as fast as the rest."""
    state = engine.spec.initial_state()
    audio = np.zeros((1, engine.spec.timing.columns, MEL_BANDS), dtype=np.float32)
    style = engine.spec.style_vector()
    noise = np.zeros((1, engine.spec.noise_size), dtype=np.float32)
    for _ in range(steps):
        _, state = engine.step(audio, style, noise, state)
