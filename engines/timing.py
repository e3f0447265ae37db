"""When a model's steps run and which pose frames they speak of."""

from __future__ import annotations

from dataclasses import dataclass

from ha2g_live.engines.ted import (
    NAMES,
    SEED_FRAMES,
    STRIDE_FRAMES,
    WINDOW_COLUMNS,
    WINDOW_FRAMES,
    skeleton,
)
from ha2g_live.realtime.timebase import (
    COLUMNS_PER_STEP,
    FRAMES_AHEAD,
    HOP_SAMPLES,
    MEL_BANDS,
    POSE_FPS,
    SAMPLE_RATE_HZ,
    columns_complete,
    samples_heard_at,
)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a model's steps run, what they hear, and which pose frames they answer with.

    Attributes:
        columns: mel columns that a step is given.
        window_frames: pose frames that those columns span, the last one being that before the
            step's own; 0 where a step takes the newest columns there are.
        every_frames: pose frames from one step to the next.
        first_frame: first pose frame of the answer, counted from the step's own.
        frames: pose frames of the answer.
        delay_frames: how far behind the sound its motion is shown.
    """

    columns: int = COLUMNS_PER_STEP
    window_frames: int = 0
    every_frames: int = 1
    first_frame: int = 1
    frames: int = FRAMES_AHEAD
    delay_frames: int = 0

    @property
    def delay_s(self) -> float:
        """How far behind the sound its motion is shown."""
        return self.delay_frames / POSE_FPS

    def columns_until(self, step: int) -> int:
        """Stream index past the last column that a step is given."""
        if self.window_frames == 0:
            return columns_complete(samples_heard_at(step))
        first_sample = (step - self.window_frames) * SAMPLE_RATE_HZ // POSE_FPS
        return first_sample // HOP_SAMPLES + self.columns


SEEDS = ("start", "all")
"""Which cached poses a window is given: its first four, as published, or all there are."""


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """What a window model's file says of its windows.

    Attributes:
        skeleton: one of ``ted.NAMES``.
        seed: one of ``SEEDS``.
        noise: numbers of the style noise.
        hop_frames: pose frames from one window to the next; chosen when the model is opened.
    """

    skeleton: str
    seed: str
    noise: int
    hop_frames: int = STRIDE_FRAMES

    def __post_init__(self) -> None:
        if self.skeleton not in NAMES or self.seed not in SEEDS:
            raise ValueError(f"unknown skeleton {self.skeleton!r} or seed {self.seed!r}")

    @property
    def pose_dim(self) -> int:
        """Numbers in a pose."""
        return skeleton(self.skeleton).pose_dim

    @property
    def timing(self) -> Timing:
        """Each window answers for the new frames and the four before them, which are cross-faded.

        A frame is shown once it is cross-faded, and the newest such frame has to last until the
        next window is done: one hop, and one frame for the model to run. Shown sooner, frames would
        still change while they are seen, and the hands would tremble.
        """
        frames = min(WINDOW_FRAMES, self.hop_frames + SEED_FRAMES)
        return Timing(
            columns=WINDOW_COLUMNS,
            window_frames=WINDOW_FRAMES,
            every_frames=self.hop_frames,
            first_frame=-frames,
            frames=frames,
            delay_frames=self.hop_frames + SEED_FRAMES + 1,
        )

    def inputs(self, batch: int, styles: int) -> dict[str, tuple[int, ...]]:
        """Input shapes of the model file by name, all float32."""
        return {
            "audio": (batch, WINDOW_COLUMNS, MEL_BANDS),
            "style": (batch, styles),
            "noise": (batch, self.noise),
            "given": (batch, WINDOW_FRAMES, self.pose_dim),
            "known": (batch, WINDOW_FRAMES),
        }

    def outputs(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Output shapes of the model file by name, all float32."""
        return {"poses": (batch, WINDOW_FRAMES, self.pose_dim)}
