"""The stages joined into one object, without threads and without a clock.

    take_in  samples ──gain, gate──> samples
    hear     samples ──> features
    step     features ──model──> schedule
    listen   samples ──> lips
    emit     schedule ──pose at a moment──> puppet ──frame──> clients

``driver`` calls them from its threads; ``run_fast`` calls them in one loop.
"""

from __future__ import annotations

import logging
import math
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from ha2g_live.clients.jsonl import QUEUE_FRAMES, JsonlClient
from ha2g_live.engines.base import Engine, warm_up
from ha2g_live.realtime import stepper
from ha2g_live.realtime.avatar import Avatar, default_avatar
from ha2g_live.realtime.body import figure
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.face import FaceState, Lips, advance, blends, scheme_for
from ha2g_live.realtime.input_level import InputState, condition
from ha2g_live.realtime.knobs import Knobs
from ha2g_live.realtime.limits import outside
from ha2g_live.realtime.puppet import PuppetState, initial_puppet, move, warm_up_puppet
from ha2g_live.realtime.retarget import to_directions
from ha2g_live.realtime.schedule import Course, PoseSchedule, Sampled
from ha2g_live.realtime.stats import Stats
from ha2g_live.realtime.stepper import StepperState
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ, newest_step
from ha2g_live.realtime.types import F32, Client, PoseChunk, PoseFrame, StreamInfo

MIN_FPS, MAX_FPS = 24.0, 144.0
MAX_TAIL_S = 60.0
_LEVEL_KEPT = 0.8  # of the level shown, from one block to the next
DELAY_SLEW = 0.35
"""Seconds by which the delay follows its knob in a second: the motion runs a little slower or
faster meanwhile, and never back."""
LOOK_STEP_S = 0.012
"""A model whose step takes longer does not look ahead between its steps (``stepper.look``)."""
ORDERS_WAITING = 16
_QUIET_DB, _SPEECH_ABOVE_ROOM_DB = -70.0, 12.0
_VOICE_SPAN_DB = 24.0
_ORDER_S = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is asked to do.

    Attributes:
        fps: output frames a second.
        style: a style of the model; None takes its usual one. The desk's knob stands above it.
        seed: picks the stream of gestures.
        tail_s: silence heard after the source has ended, so that the hands come to rest.
        duration_s: end the source after this time; None lets it run to its end.
    """

    fps: float = 60.0
    style: str | None = None
    seed: int = 0
    tail_s: float = 1.5
    duration_s: float | None = None

    def __post_init__(self) -> None:
        # Written so that NaN is refused too.
        if not MIN_FPS <= self.fps <= MAX_FPS:
            raise ConfigError(
                f"the frame rate must be in {MIN_FPS:g}..{MAX_FPS:g}, got {self.fps:g}"
            )
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"the seed must be a whole number in 0..2^64 - 1, got {self.seed}")
        if not 0.0 <= self.tail_s <= MAX_TAIL_S:
            raise ConfigError(f"the tail must be in 0..{MAX_TAIL_S:g} seconds, got {self.tail_s:g}")
        if self.duration_s is not None and not 0.0 < self.duration_s < math.inf:
            raise ConfigError(f"the duration must be above 0 seconds, got {self.duration_s:g}")


@dataclass(frozen=True, slots=True)
class SavedStream:
    """A stream's memory, to go on from elsewhere: a plain value.

    Attributes:
        stepper: sound and model.
        course: the curve of the motion.
        puppet: the avatar.
        input: levels of the input.
        knobs: where they stand.
        frames: frames made.
        seed: of its gestures.
    """

    stepper: StepperState
    course: Course
    puppet: PuppetState
    input: InputState
    knobs: Knobs
    frames: int
    seed: int


class Pipeline:
    """One stream from samples to targets.

    Threads: ``take_in`` for the source's, ``hear`` and ``step`` for one thread, ``open``,
    ``listen``, ``emit`` and ``close`` for another; ``add`` and ``remove`` for any.

    Args:
        engine: the model.
        clients: targets, not opened.
        settings: what the run is asked to do.
        desk: where the knobs are turned; one of its own when left out.
        avatar: whose body moves; the default skeleton when left out.
        face_names: set of names of the face's blends, one of ``face.SCHEMES``; the avatar's when
            left out.

    Attributes:
        desk: the control desk.
        avatar: whose body moves.
        input: levels of the input.
        stats: counters of the run.
        state: the stream's memory.
        schedule: the poses to come.
        delay_s: how far behind the sound the model's motion is shown.
        latest: newest frame handed over.
        level: peak of the sound heard lately, 1 is full scale.

    Raises:
        ModelError: the model has no such style.
    """

    def __init__(
        self,
        engine: Engine,
        clients: Sequence[Client],
        settings: Settings,
        desk: Desk | None = None,
        avatar: Avatar | None = None,
        face_names: str | None = None,
    ) -> None:
        spec = engine.spec
        self.engine = engine
        self.clients = list(clients)
        self.settings = settings
        self.avatar = avatar or default_avatar()
        self.desk = desk or Desk(Knobs(style=settings.style or ""), spec.styles)
        self.info = StreamInfo(
            fps=settings.fps,
            model=f"{spec.name} {spec.version}",
            offsets_m=self.avatar.offsets_m,
            avatar=self.avatar.name,
        )
        self.delay_s = spec.timing.delay_s
        self.stats = Stats()
        self._style = self.desk.knobs.style or settings.style or spec.usual_style
        self.state = stepper.initial_state(spec, self._style, settings.seed)
        self.input = InputState()
        self.schedule = PoseSchedule()
        self.latest: PoseFrame | None = None
        self.level = 0.0
        self._figure = figure(self.avatar.offsets_m, self.avatar.measures)
        self._puppet = initial_puppet(self.desk.knobs)
        self._extra_delay_s = self.desk.knobs.delay_ms / 1e3
        self._emitted_s = math.nan
        self.lips = Lips()
        self._scheme = scheme_for(self.avatar.kind, face_names)
        self._face = FaceState()
        self._orders: queue.Queue[tuple[Callable[[], None], Future[None]]] = queue.Queue(
            ORDERS_WAITING
        )
        self._failures: dict[str, int] = {}
        self._step_s = 0.0

    @property
    def tail_samples(self) -> int:
        """Silence heard after the source has ended: the tail, and until the motion is shown."""
        return round((self.settings.tail_s + self.delay_s) * SAMPLE_RATE_HZ)

    def prepare(self) -> None:
        """Pay for everything that is slow the first time, and have a pose before any sound."""
        warm_up(self.engine)
        self.step(math.nan)  # step 0 needs no sound
        rotations = self.schedule.sample(-self.delay_s - self._extra_delay_s).rotations
        warm_up_puppet(rotations, self.avatar, self._figure)
        outside(to_directions(rotations))
        stepper.hear(np.zeros(4096, dtype=np.float32), self.state)
        Lips().hear(np.zeros(1600, dtype=np.float32))
        self.stats.begin()

    def take_in(self, samples: F32) -> F32:
        """(n,) float32 samples as they come to (n,) as they are heard: gain and gate."""
        knobs = self.desk.knobs
        heard, self.input = condition(samples, knobs.gain_db, knobs.gate_db, self.input)
        return heard

    def hear(self, samples: F32) -> None:
        """Take in (n,) float32 samples at 16 kHz."""
        self.state = stepper.hear(samples, self.state)
        if len(samples):
            self.level = max(float(np.abs(samples).max()), _LEVEL_KEPT * self.level)

    def step(self, captured_at_s: float) -> PoseChunk:
        """Run the next model step, which must be due; returns its answer.

        Args:
            captured_at_s: when the last sample it hears was captured; NaN if that means nothing.
        """
        self.follow_style()
        energy = self.desk.knobs.energy
        chunk, state = stepper.step(self.engine, self.state, captured_at_s, energy)
        self.take_step(chunk, state)
        return chunk

    def take_step(self, chunk: PoseChunk, state: StepperState) -> None:
        """Take what a step of this stream gave, run here or with other streams."""
        self.state = state
        self._step_s = chunk.infer_s
        self.schedule.merge(chunk)
        self.stats.count_step(chunk.infer_s)

    @property
    def may_look(self) -> bool:
        """Whether ``look`` has something new to hear, and a model fast enough for it."""
        return self._step_s < LOOK_STEP_S and stepper.look_due(self.state)

    def look(self, captured_at_s: float) -> PoseChunk:
        """Show at once what was heard since the last step; ``may_look`` must be true."""
        self.follow_style()
        energy = self.desk.knobs.energy
        chunk, self.state = stepper.look(self.engine, self.state, captured_at_s, energy)
        self.schedule.merge(chunk)
        self.stats.looks += 1
        return chunk

    def follow_style(self) -> None:
        """Take over the style that the desk's knob asks for."""
        spec = self.engine.spec
        style = self.desk.knobs.style or self.settings.style or spec.usual_style
        if style != self._style:
            self._style = style
            self.state = replace(self.state, style=spec.style_vector(style))

    def open(self) -> None:
        """Open all targets, or none.

        Raises:
            ClientError: one cannot be opened.
        """
        for opened, client in enumerate(self.clients):
            try:
                client.start(self.info)
            except BaseException:
                self._close(self.clients[:opened])
                raise

    def emit(self, stream_s: float) -> Sampled:
        """Make the frame that is due when the stream is so old, and hand it to all targets."""
        self._carry_out_orders()
        knobs = self.desk.knobs
        shown_s = stream_s - self.delay_s - self._delay_at(stream_s, knobs.delay_ms / 1e3)
        sampled = self.schedule.sample(shown_s)
        speaking, voice = self._voice()
        moved, self._puppet = move(
            sampled.rotations,
            shown_s,
            speaking,
            voice,
            knobs,
            self.settings.seed,
            self.avatar,
            self._figure,
            self._puppet,
        )
        directions = to_directions(moved.rotations)
        face = knobs.face if "face" in knobs.parts else "none"
        lips = self.lips.at(stream_s - self._extra_delay_s)
        self._face = advance(self._face, stream_s, lips)
        frame = PoseFrame(
            seq=self.stats.frames,
            stream_time_s=shown_s,
            directions=directions,
            rotations=moved.rotations,
            hips_m=moved.hips_m,
            blends=blends(self._scheme, face, lips, moved.blink, self._face),
            bones=moved.bones,
        )
        for client in self.clients:
            try:
                client.send(frame)
            except Exception as error:
                self._count_failure(client, error)
        before_s = self.latest.stream_time_s if self.latest else shown_s
        self.stats.count_frame(directions, shown_s - before_s, sampled.starved)
        self.latest = frame
        return sampled

    def save(self) -> SavedStream:
        """The stream's memory."""
        return SavedStream(
            self.state,
            self.schedule.save(),
            self._puppet,
            self.input,
            self.desk.knobs,
            self.stats.frames,
            self.settings.seed,
        )

    def resume(self, saved: SavedStream) -> None:
        """Go on where a stream was when it was saved; before the first sample of this one."""
        self.state = saved.stepper
        self.schedule.resume(saved.course)
        self._puppet = saved.puppet
        self.input = saved.input
        self.stats.frames = saved.frames

    def add(self, client: Client) -> None:
        """Open one more target between two frames.

        Raises:
            ClientError: it cannot be opened.
        """

        def begin() -> None:
            client.start(self.info)
            self.clients.append(client)

        self._order(begin)

    def remove(self, client: Client) -> None:
        """Flush and close one target between two frames."""

        def end() -> None:
            self.clients.remove(client)
            self._close([client])

        self._order(end)

    def _order(self, carry_out: Callable[[], None]) -> None:
        done: Future[None] = Future()
        try:
            self._orders.put_nowait((carry_out, done))
        except queue.Full:
            raise ConfigError("too many orders wait: try again") from None
        try:
            done.result(_ORDER_S)
        except FutureTimeout:
            raise ConfigError("the run does not take orders now: try again") from None

    def _carry_out_orders(self) -> None:
        while not self._orders.empty():
            carry_out, done = self._orders.get_nowait()
            try:
                carry_out()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

    def _delay_at(self, stream_s: float, wanted_s: float) -> float:
        """The delay that the knob asks for, which it follows slowly."""
        passed_s = 0.0 if math.isnan(self._emitted_s) else stream_s - self._emitted_s
        self._emitted_s = stream_s
        step_s = DELAY_SLEW * passed_s
        self._extra_delay_s += min(max(wanted_s - self._extra_delay_s, -step_s), step_s)
        return self._extra_delay_s

    def listen(self, samples: F32) -> None:
        """Take in (n,) float32 samples at 16 kHz for the lips, in the emitter's thread."""
        self.lips.hear(samples)

    def _voice(self) -> tuple[bool, float]:
        """Whether somebody speaks, and how loud against the usual, 0..1."""
        heard = self.input
        speaking = heard.level_db > max(heard.room, _QUIET_DB) + _SPEECH_ABOVE_ROOM_DB
        if not speaking or math.isnan(heard.voice_db):
            return speaking, 0.0
        return speaking, min(
            max(0.5 + (heard.level_db - heard.voice_db) / _VOICE_SPAN_DB, 0.0), 1.0
        )

    def close(self) -> None:
        """Flush and close all targets."""
        self._close(self.clients)

    def summary(self) -> dict[str, Any]:
        """Everything counted, as plain values."""
        return {
            "model": self.info.model,
            "fps": self.settings.fps,
            "seed": self.settings.seed,
            "model_delay_ms": round(1e3 * self.delay_s, 3),
            **self.stats.as_dict(),
            "schedule": {
                "limited": self.schedule.limited,
                "damaged": self.schedule.damaged,
                "stale": self.schedule.stale,
            },
            "clients": {
                client.name: {
                    **client.stats.as_dict(),
                    "failures": self._failures.get(client.name, 0),
                }
                for client in self.clients
            },
        }

    def _close(self, clients: Sequence[Client]) -> None:
        for client in clients:
            try:
                client.close()
            except Exception as error:
                self._count_failure(client, error)

    def _count_failure(self, client: Client, error: Exception) -> None:
        """One broken target must not stop the others."""
        failures = self._failures.get(client.name, 0)
        self._failures[client.name] = failures + 1
        if failures == 0:
            log.warning("%s: %s", client.name, error)


def run_fast(
    pipeline: Pipeline, blocks: Iterable[F32], on_frame: Callable[[], None] | None = None
) -> None:
    """The whole run in one loop, as fast as the computer can: each output frame exactly once.

    The frame at ``k / fps`` is made when all sound before it was heard and every step that allows
    was taken. No time is measured but the model's.

    Args:
        pipeline: a fresh one.
        blocks: the sound, (n,) float32 at 16 kHz each.
        on_frame: called after each frame.

    Raises:
        ClientError: a target cannot be opened.
        AudioError: the sound cannot be read.
    """
    settings = pipeline.settings
    pipeline.prepare()
    pipeline.open()
    try:
        feed = _with_tail(blocks, settings, pipeline.tail_samples)
        more = True
        waiting = np.zeros(0, dtype=np.float32)
        for k in count():
            until = int(k * SAMPLE_RATE_HZ / settings.fps)
            heard = pipeline.state.heard_samples
            while more and heard + len(waiting) <= until:
                block = next(feed, None)
                more = block is not None
                if block is not None:
                    waiting = np.concatenate((waiting, pipeline.take_in(block)))
            if until >= heard + len(waiting):
                return
            pipeline.hear(waiting[: until - heard])
            pipeline.listen(waiting[: until - heard])
            waiting = waiting[until - heard :]
            while pipeline.state.next_step <= newest_step(until):
                pipeline.step(math.nan)
            if pipeline.may_look:
                pipeline.look(math.nan)
            pipeline.emit(k / settings.fps)
            _let_recorders_catch_up(pipeline)
            if on_frame is not None:
                on_frame()
    finally:
        pipeline.close()


def _with_tail(blocks: Iterable[F32], settings: Settings, tail_samples: int) -> Iterator[F32]:
    """The blocks, cut to the duration asked for, then the tail."""
    limit = math.inf
    if settings.duration_s is not None:
        limit = round(settings.duration_s * SAMPLE_RATE_HZ)
    heard = 0
    for block in blocks:
        kept = block[: int(min(len(block), limit - heard))]
        heard += len(kept)
        yield kept
        if heard >= limit:
            break
    yield np.zeros(tail_samples, dtype=np.float32)


def _let_recorders_catch_up(pipeline: Pipeline) -> None:
    """Live, the disk has a frame time for each frame; here it is waited for, so none is lost."""
    for client in pipeline.clients:
        if isinstance(client, JsonlClient):
            while client.failure() is None and client.backlog > QUEUE_FRAMES // 2:
                time.sleep(0.001)
