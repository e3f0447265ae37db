"""Many streams in one program: each with its own sound, knobs and avatar, stepped in batches.

    feed     any thread       samples of one stream ──> its bounded store
    "ha2g-steps"              stores ──> hear ──> one model step for all streams that are due
    "ha2g-frames"             the pose of every stream at this moment ──> its client

A stream that starts, stops, stalls or changes its style does so alone. Who comes when the program
is busy is refused rather than let in at the price of everybody's late frames.
"""

from __future__ import annotations

import gc
import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ha2g_live.engines.base import Engine, warm_up
from ha2g_live.realtime import stepper
from ha2g_live.realtime.avatar import Avatar
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import ConfigError, Ha2gError
from ha2g_live.realtime.pacing import FineTimer, Pacer, StreamClock, SystemClock
from ha2g_live.realtime.pipeline import Pipeline, SavedStream, Settings
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ, samples_heard_at
from ha2g_live.realtime.types import F32, Client

STORE_SAMPLES = 2 * SAMPLE_RATE_HZ
"""Sound of a stream that may wait; what is more is lost from its old end, and counted."""
BATCH_WAIT_S = 0.008
"""Streams whose steps fall due within so short a time share one batch."""
USUAL_MAX_LOAD = 0.8
"""Share of one processor core that all streams may take: Python runs on one at a time."""
LOAD_OVER_S = 2.0
_MAX_STEPS_BEHIND = 8
_COUNTED = ("streams", "frames", "late_frames", "late_steps", "lost", "dropped")
_CALIBRATION_S = 0.4
_CALIBRATION_STREAMS = 16

log = logging.getLogger(__name__)


class Full(Ha2gError):
    """One more stream would make the others late."""


@dataclass(eq=False)
class Seat:
    """One stream's place.

    Attributes:
        pipeline: its stages.
        clock: its stream time.
        heard: samples fed so far.
        fed_at_s: monotonic clock when the newest of them came.
        lost: samples that were fed faster than real time and thrown away.
        late_frames: frames handed over more than a frame late.
        late_steps: model steps done more than a pose frame after their sound was there.
        store: samples that wait to be heard.
    """

    pipeline: Pipeline
    clock: StreamClock = field(default_factory=StreamClock)
    heard: int = 0
    fed_at_s: float = 0.0
    lost: int = 0
    late_frames: int = 0
    late_steps: int = 0
    store: deque[F32] = field(default_factory=deque)
    waiting: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    came_at_s: float = 0.0

    def feed(self, samples: F32) -> None:
        """Take in (n,) float32 at 16 kHz; any thread."""
        with self.lock:
            self.store.append(samples)
            self.waiting += len(samples)
            while self.waiting > STORE_SAMPLES:
                lost = len(self.store.popleft())
                self.waiting -= lost
                self.lost += lost
            self.fed_at_s = time.perf_counter()

    def take(self) -> F32:
        """What was fed since the last call."""
        with self.lock:
            pieces = list(self.store)
            self.store.clear()
            self.waiting = 0
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)


class Hall:
    """Owns the streams and the two threads that serve them all. Use it once.

    Args:
        engine: shared by all streams.
        fps: frames a second of every stream.
        max_streams: never more than these; None leaves it to the load.
        max_load: processor cores that the streams may take together.

    Attributes:
        after_frames: called in the frames' thread when every stream was given its frame.
        refused: streams that were not let in.
        batches: model steps run.
        most_in_batch: streams of the largest of them.
    """

    def __init__(
        self,
        engine: Engine,
        fps: float = 30.0,
        max_streams: int | None = None,
        max_load: float = USUAL_MAX_LOAD,
    ) -> None:
        if max_streams is not None and max_streams < 1:
            raise ConfigError(f"--max-streams must be 1 or more, got {max_streams}")
        if not 0.0 < max_load < math.inf:
            raise ConfigError(f"--max-load must be above 0, got {max_load:g}")
        Settings(fps=fps)  # says what is wrong with the rate
        self.engine = engine
        self.fps = fps
        self.refused = 0
        self.batches = 0
        self.most_in_batch = 0
        self.after_frames: Callable[[], None] | None = None
        self._max_streams = max_streams
        self._max_load = max_load
        self._seats: tuple[Seat, ...] = ()
        self._gone: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._stream_load = 0.0
        self._load = 0.0
        self._threads = [
            threading.Thread(target=self._guarded, args=(loop,), name=name, daemon=True)
            for name, loop in (("ha2g-steps", self._steps), ("ha2g-frames", self._frames))
        ]

    @property
    def streams(self) -> int:
        """How many there are now."""
        return len(self._seats)

    @property
    def alive(self) -> bool:
        """Whether no thread has failed or was told to stop."""
        return not self._stopping.is_set()

    @property
    def load(self) -> float:
        """Processor cores that the program took over the last two seconds."""
        return self._load

    def start(self) -> None:
        """Warm up, find out what a stream costs, and begin."""
        warm_up(self.engine)
        self._stream_load = self._calibrated()
        # As in ``driver``: a full collection would walk all that numba and the model brought along.
        gc.collect()
        gc.freeze()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads and close every stream's client.

        Raises:
            Exception: whatever ended a thread before.
        """
        self._stopping.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        for seat in self._seats:
            self.leave(seat)
        gc.unfreeze()
        self.check()

    def check(self) -> None:
        """Raise the error that ended a thread, if one did."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def admit(
        self,
        client: Client,
        desk: Desk,
        seed: int = 0,
        avatar: Avatar | None = None,
        saved: SavedStream | None = None,
    ) -> Seat:
        """A place for one more stream, which may go on from where it was elsewhere.

        Raises:
            Full: there is none.
        """
        with self._lock:
            reason = self._no_room()
            if reason:
                self.refused += 1
                raise Full(reason)
            settings = Settings(fps=self.fps, seed=seed)
            seat = Seat(Pipeline(self.engine, [client], settings, desk, avatar))
            seat.came_at_s = seat.fed_at_s = time.perf_counter()
            seat.pipeline.open()
            if saved is None:
                seat.pipeline.step(math.nan)  # step 0 needs no sound
            else:
                seat.pipeline.resume(saved)
                seat.heard = saved.stepper.heard_samples
            self._seats = (*self._seats, seat)
            return seat

    def leave(self, seat: Seat) -> None:
        """Give a place up; it may have been given up before."""
        with self._lock:
            if seat not in self._seats:
                return
            self._seats = tuple(other for other in self._seats if other is not seat)
            self._gone.update(self._counts(seat))
        seat.pipeline.close()

    def summary(self) -> dict[str, Any]:
        """Everything counted, over the streams that are here and those that left."""
        totals = Counter(self._gone)
        for seat in self._seats:
            totals.update(self._counts(seat))
        return {
            **{name: totals[name] for name in _COUNTED},
            "streams_now": self.streams,
            "refused": self.refused,
            "batches": self.batches,
            "most_in_batch": self.most_in_batch,
            "load": round(self._load, 3),
            "stream_load": round(self._stream_load, 4),
        }

    @staticmethod
    def _counts(seat: Seat) -> dict[str, int]:
        return {
            "streams": 1,
            "frames": seat.pipeline.stats.frames,
            "late_frames": seat.late_frames,
            "late_steps": seat.late_steps,
            "lost": seat.lost,
            "dropped": sum(client.stats.dropped for client in seat.pipeline.clients),
        }

    def _no_room(self) -> str:
        """Why one more stream cannot be had; empty if it can."""
        now = len(self._seats)
        if self._max_streams is not None and now >= self._max_streams:
            return f"this server is full: it takes {self._max_streams} streams; try again later"
        # Of those who came just now the measured load holds the part of the time they were here.
        now_s = time.perf_counter()
        fresh = sum(max(0.0, 1.0 - (now_s - seat.came_at_s) / LOAD_OVER_S) for seat in self._seats)
        cost = self._stream_load
        if now >= _CALIBRATION_STREAMS:
            cost = max(cost, self._load / now)
        expected = self._load + (fresh + 1) * cost
        if now and expected > self._max_load:
            return (
                f"this server is full: {now} streams keep it {100 * self._load:.0f} % busy and one "
                "more would make them late; try again later or use another server"
            )
        return ""

    def _calibrated(self) -> float:
        """Processor cores that one stream takes, from a trial of some with made-up sound."""
        rng = np.random.default_rng(0)
        settings = Settings(fps=self.fps)
        trial = [Pipeline(self.engine, [], settings) for _ in range(_CALIBRATION_STREAMS)]
        trial[0].prepare()
        for pipeline in trial[1:]:
            pipeline.step(math.nan)
        started_s = time.process_time()
        for k in range(round(_CALIBRATION_S * self.fps)):
            for pipeline in trial:
                samples = rng.normal(0, 0.05, round(SAMPLE_RATE_HZ / self.fps))
                pipeline.hear(pipeline.take_in(samples.astype(np.float32)))
            self._step_all([p for p in trial if stepper.steps_due(p.state)])
            for pipeline in trial:
                pipeline.emit(k / self.fps)
        return (time.process_time() - started_s) / (_CALIBRATION_S * _CALIBRATION_STREAMS)

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except BaseException as error:
            self._failure = self._failure or error
            self._stopping.set()

    # --- ha2g-steps

    def _steps(self) -> None:
        measured_s, busy_s = time.perf_counter(), time.process_time()
        while not self._stopping.wait(BATCH_WAIT_S):
            now_s = time.perf_counter()
            if now_s - measured_s >= LOAD_OVER_S / 4:
                share = (time.process_time() - busy_s) / (now_s - measured_s)
                self._load += 0.4 * (share - self._load)
                measured_s, busy_s = now_s, time.process_time()
            due = [seat for seat in self._seats if self._heard(seat)]
            while due and not self._stopping.is_set():
                self._step_all([seat.pipeline for seat in due])
                done_s = time.perf_counter()
                for seat in due:
                    state = seat.pipeline.state
                    sound_s = (
                        seat.fed_at_s
                        - (state.heard_samples - samples_heard_at(state.next_step - 1))
                        / SAMPLE_RATE_HZ
                    )
                    seat.clock.note_lag(done_s - sound_s)
                    seat.late_steps += done_s - sound_s > 2.0 / 15.0
                due = [seat for seat in due if stepper.steps_due(seat.pipeline.state)]

    def _heard(self, seat: Seat) -> bool:
        """Take in what was fed; whether a step is due."""
        pipeline = seat.pipeline
        samples = seat.take()
        if len(samples):
            heard = pipeline.take_in(samples)
            pipeline.hear(heard)
            if pipeline.desk.knobs.face != "none":
                pipeline.listen(heard)
            seat.heard += len(samples)
        if stepper.steps_due(pipeline.state) > _MAX_STEPS_BEHIND:
            skipped, pipeline.state = stepper.skip_to_newest(pipeline.state)
            pipeline.stats.skipped_steps += skipped
        return stepper.steps_due(pipeline.state) > 0

    def _step_all(self, pipelines: list[Pipeline]) -> None:
        most = self.engine.capabilities.max_batch or len(pipelines) or 1
        for start in range(0, len(pipelines), most):
            self._step_batch(pipelines[start : start + most])

    def _step_batch(self, pipelines: list[Pipeline]) -> None:
        for pipeline in pipelines:
            pipeline.follow_style()
        answers = stepper.step_together(
            self.engine,
            [pipeline.state for pipeline in pipelines],
            energies=[pipeline.desk.knobs.energy for pipeline in pipelines],
        )
        for pipeline, answer in zip(pipelines, answers, strict=True):
            pipeline.take_step(*answer)
        self.batches += 1
        self.most_in_batch = max(self.most_in_batch, len(pipelines))

    # --- ha2g-frames

    def _frames(self) -> None:
        clock, frame_s = SystemClock(), 1.0 / self.fps
        pacer = Pacer(self.fps, clock)
        with FineTimer():
            while not self._stopping.is_set():
                tick = pacer.wait()
                for seat in self._seats:
                    if seat.heard == 0:
                        continue
                    stream_s = seat.clock.now(clock.now_s(), seat.heard, seat.fed_at_s)
                    seat.pipeline.emit(stream_s)
                    late = clock.now_s() - tick.due_s > frame_s
                    seat.late_frames += late + tick.missed
                if self.after_frames is not None:
                    self.after_frames()
