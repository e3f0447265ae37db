"""The live path, from sound to targets, and the threads it runs in.

    source's thread   source ──block──> ring
    "ha2g-infer"      ring ──> pipeline.hear, pipeline.step, pipeline.look ──> schedule
    "ha2g-emit"       schedule ──> pipeline.emit ──> clients (each with a thread of its own)
    owner             start, wait, stop; every error ends up here

Nothing between the stages can grow: the ring overwrites its oldest samples, the schedule holds 16
poses, a client has a slot or a bounded queue. Stages never wait for the next one.
"""

from __future__ import annotations

import gc
import logging
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ha2g_live.realtime import stepper
from ha2g_live.realtime.errors import AudioError
from ha2g_live.realtime.pacing import Clock, FineTimer, Pacer, StreamClock, SystemClock
from ha2g_live.realtime.pipeline import Pipeline
from ha2g_live.realtime.ring import AudioRing, Overrun
from ha2g_live.realtime.timebase import (
    HOP_SAMPLES,
    SAMPLE_RATE_HZ,
    columns_complete,
    newest_step,
    samples_heard_at,
)
from ha2g_live.realtime.trace import Trace
from ha2g_live.realtime.types import F32, AudioBlock, PoseChunk, Source

RING_SAMPLES = 10 * SAMPLE_RATE_HZ
READ_BACK_SAMPLES = 9 * SAMPLE_RATE_HZ
"""Sound older than this when its turn comes is lost, counted, and heard as silence."""
MAX_STEPS_BEHIND = 8
"""Further behind, the model goes straight to the newest step; nearer, it catches up. A model whose
steps are several frames apart may be as many frames behind, and always one step."""

_WAIT_S = 0.1
_TAIL_WAIT_S = 0.01
_LIPS_BACK_SAMPLES = SAMPLE_RATE_HZ  # lips that are so far behind begin anew
_GAP_S = 5.0  # longest silence put in while a source is replaced
_JOIN_S = 15.0  # a recorder may take 10 s to flush to a slow disk

log = logging.getLogger(__name__)


class _Worker:
    """A thread whose error is handed to its owner, and whose end can be waited for.

    ``Thread.join`` would do for the latter, but on some versions of Python it takes a thread for
    ended when Ctrl-C interrupts it.
    """

    def __init__(
        self, name: str, loop: Callable[[], None], fail: Callable[[BaseException], None]
    ) -> None:
        self.ended = threading.Event()
        self._loop = loop
        self._fail = fail
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Wait for the end, if it was started."""
        if self._thread.ident is None:
            return
        if self.ended.wait(_JOIN_S):
            self._thread.join()
        else:
            log.warning("the thread %s does not end and is left behind", self._thread.name)

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            self._fail(error)
        finally:
            self.ended.set()


class Driver:
    """Owns the threads of one run. Use it once.

    Threads: all methods are for the owner's thread. An error in another thread stops the run and
    is raised by ``start``, ``wait`` or ``stop``.

    Args:
        pipeline: a fresh one.
        source: where the sound comes from, not started.
        clock: the wall clock.
        trace: notes when everything happened, if given.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        source: Source,
        clock: Clock | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.source = source
        self._clock = clock or SystemClock()
        self._trace = trace
        self._ring = AudioRing(RING_SAMPLES)
        self._stream = StreamClock()
        self._failure: BaseException | None = None
        self._opened = threading.Event()
        self._stopping = threading.Event()
        every = pipeline.state.timing.every_frames
        self._may_be_behind = max(1, MAX_STEPS_BEHIND // every)
        self._started_s = 0.0
        self._first_sample_s = math.nan
        self._source_lock = threading.Lock()
        self._switching = threading.Lock()
        self._switched_at_s: float | None = None
        self._source_stopped = False
        # Set by ha2g-infer: how the source ended (samples, when the last was captured), and
        # that the tail after it was heard.
        self._source_end: tuple[int, float] | None = None
        self._heard_all = threading.Event()
        self._emit = _Worker("ha2g-emit", self._emit_loop, self._fail)
        self._infer = _Worker("ha2g-infer", self._infer_loop, self._fail)

    def start(self) -> None:
        """Warm up, open the targets, then open the source.

        Raises:
            ClientError: a target cannot be opened.
            AudioError: the source cannot be opened.
        """
        self.pipeline.prepare()
        # A full collection walks all that numba and the model brought along and stops every thread
        # for 50 ms: three frames. What exists now stays, so it need not be looked at again.
        gc.collect()
        gc.freeze()
        try:
            self._emit.start()
            self._opened.wait()
            self._raise_failure()
            source = self.source
            source.start(partial(self._on_block, source), partial(self._on_end, source))
            self._started_s = self._clock.now_s()
            self._infer.start()
        except BaseException:
            self._end()
            raise

    def wait(self, timeout_s: float) -> bool:
        """Let the run go on for a while.

        Returns:
            Whether it is over: the source has ended, the tail was played, the targets are closed.

        Raises:
            Exception: whatever ended the source or a thread.
        """
        over = self._emit.ended.wait(timeout_s)
        duration_s = self.pipeline.settings.duration_s
        if duration_s is not None and self._clock.now_s() - self._started_s >= duration_s:
            self._end_source()
        if over or self._failure is not None:
            self.stop()
        return over

    def stop(self) -> None:
        """End now, without the tail. Targets are flushed and closed. May be called twice.

        Raises:
            Exception: whatever ended the source or a thread before.
        """
        self._end()
        self._failure = self._failure or self.source.failure()
        self._raise_failure()

    def switch(self, source: Source) -> None:
        """Listen to another source from now on; the old one goes on if it cannot be opened.

        Raises:
            AudioError: it cannot be opened, or the run is ending.
        """
        with self._switching:
            if self._stopping.is_set() or self._ring.closed:
                raise AudioError("the sound has ended: start again to listen to another source")
            old = self.source
            last_s = (
                self._ring.captured_at_s(self._ring.written - 1) if self._ring.written else None
            )
            # Until it is ours its blocks are left out, as the old one's are from then on.
            source.start(partial(self._on_block, source), partial(self._on_end, source))
            with self._source_lock:
                self.source = source
                self._switched_at_s = last_s
            old.stop()

    def summary(self) -> dict[str, Any]:
        """Everything counted, as plain values."""
        return {
            "source": {
                "name": self.source.name,
                "samples": self.pipeline.state.heard_samples,
                # On the monotonic clock, with which other programs here can compare their own.
                "first_sample_s": None
                if math.isnan(self._first_sample_s)
                else round(self._first_sample_s, 6),
                "xruns": self.source.xruns,
                "bad_samples": self.source.bad_samples,
                "ring_overwritten": self._ring.overwritten,
            },
            "added_delay_ms": round(1e3 * self._stream.delay_s, 3),
            **self.pipeline.summary(),
        }

    def _end(self) -> None:
        self._stopping.set()
        self._end_source()
        self._emit.finish()
        self._infer.finish()
        gc.unfreeze()

    def _end_source(self) -> None:
        if not self._source_stopped:
            self._source_stopped = True
            self.source.stop()
            self._ring.close()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._stopping.set()
        self._opened.set()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    # --- the source's thread

    def _on_block(self, source: Source, block: AudioBlock) -> None:
        with self._source_lock:
            if source is not self.source:
                return  # it was replaced while this block was on its way
            samples = block.samples
            if self._switched_at_s is not None:
                samples = np.concatenate((self._gap(block), samples))
            if not self._ring.written:
                self._first_sample_s = block.captured_at_s - len(samples) / SAMPLE_RATE_HZ
            heard = self.pipeline.take_in(samples)
            ready_at_s = self._clock.now_s()  # before anybody can read it
            self._ring.write(heard, block.captured_at_s)
            if self._trace is not None:
                self._trace.block(heard, self._ring.written, block.captured_at_s, ready_at_s)

    def _gap(self, block: AudioBlock) -> F32:
        """Silence for the time between two sources, so that stream time goes on."""
        since_s, self._switched_at_s = self._switched_at_s, None
        if since_s is None:
            return np.zeros(0, dtype=np.float32)
        passed_s = block.captured_at_s - len(block.samples) / SAMPLE_RATE_HZ - since_s
        return np.zeros(round(min(max(passed_s, 0.0), _GAP_S) * SAMPLE_RATE_HZ), dtype=np.float32)

    def _on_end(self, source: Source) -> None:
        if source is self.source:
            self._ring.close()

    # --- ha2g-infer

    def _infer_loop(self) -> None:
        pipeline = self.pipeline
        while not self._stopping.is_set():
            if self._ring.closed and not self._play_tail():
                self._heard_all.set()
                return
            if not self._ring.wait_for(stepper.next_event(pipeline.state), _WAIT_S):
                continue
            pipeline.hear(self._new_samples(pipeline.state.heard_samples))
            if stepper.steps_due(pipeline.state) > self._may_be_behind:
                skipped, pipeline.state = stepper.skip_to_newest(pipeline.state)
                pipeline.stats.skipped_steps += skipped
            while stepper.steps_due(pipeline.state) and not self._stopping.is_set():
                step = pipeline.state.next_step
                newest_column = columns_complete(samples_heard_at(step)) * HOP_SAMPLES
                self._answer(partial(pipeline.step, self._captured_at_s(newest_column)))
                due_s = self._captured_at_s(samples_heard_at(step))
                if math.isfinite(due_s):
                    self._stream.note_lag(self._clock.now_s() - due_s)
            if pipeline.may_look:
                heard_at_s = self._captured_at_s(pipeline.state.heard_samples)
                self._answer(partial(pipeline.look, heard_at_s))

    def _answer(self, run: Callable[[], PoseChunk]) -> None:
        """Run a step or a look, and note when the model had answered."""
        began_s = self._clock.now_s()
        answer = run()
        if self._trace is not None:
            # Not the time now: a frame made of it may be on its way already.
            self._trace.answer(answer.heard_samples, began_s + answer.infer_s)

    def _new_samples(self, heard: int) -> F32:
        """Everything after the first ``heard`` samples; what is too old to be had is silence."""
        written = self._ring.written
        start = max(heard, written - READ_BACK_SAMPLES)
        lost = np.zeros(start - heard, dtype=np.float32)
        self.pipeline.stats.lost_samples += len(lost)
        return np.concatenate((lost, self._ring.read(start, written)))

    def _captured_at_s(self, samples: int) -> float:
        """When the last of the first ``samples`` samples was captured; NaN if none ever was."""
        if samples == 0 or (self._source_end is not None and samples > self._source_end[0]):
            return math.nan
        try:
            return self._ring.captured_at_s(samples - 1)
        except Overrun:
            return math.nan

    @property
    def _end_samples(self) -> int:
        """Length of the stream with its tail, once the source has ended."""
        return (self._source_end or (0, 0.0))[0] + self.pipeline.tail_samples

    def _play_tail(self) -> bool:
        """The source has ended: write the silence that is due by now. False when all was heard."""
        written = self._ring.written
        if self._source_end is None:
            last_s = self._ring.captured_at_s(written - 1) if written else self._clock.now_s()
            self._source_end = (written, last_s)
        heard_all = self.pipeline.state.next_step > newest_step(self._end_samples)
        # The motion goes on to the end also where the last step comes long before it.
        if heard_all and written >= self._end_samples:
            return False
        samples, captured_at_s = self._source_end
        passed_s = self._clock.now_s() - captured_at_s
        due = min(samples + int(passed_s * SAMPLE_RATE_HZ), self._end_samples)
        if due > written:
            silence = np.zeros(due - written, dtype=np.float32)
            self._ring.write(silence, captured_at_s + (due - samples) / SAMPLE_RATE_HZ)
        else:
            time.sleep(_TAIL_WAIT_S)
        return True

    # --- ha2g-emit

    def _emit_loop(self) -> None:
        self.pipeline.open()
        self._opened.set()
        try:
            while not self._ring.wait_for(1, _WAIT_S):
                no_sound_at_all = self._ring.closed and not self.pipeline.tail_samples
                if self._stopping.is_set() or no_sound_at_all:
                    return
                time.sleep(_TAIL_WAIT_S)  # a closed ring does not wait
            with FineTimer():
                self._emit_frames()
        finally:
            self.pipeline.close()

    def _listen(self, written: int) -> None:
        """Give the lips what was written since the last frame."""
        lips = self.pipeline.lips
        if written - lips.heard_samples > _LIPS_BACK_SAMPLES:
            lips.skip_to(written)
        if written > lips.heard_samples:
            self.pipeline.listen(self._ring.read(lips.heard_samples, written, peek=True))

    def _emit_frames(self) -> None:
        stats, frame_s = self.pipeline.stats, 1.0 / self.pipeline.settings.fps
        pacer = Pacer(self.pipeline.settings.fps, self._clock)
        shown = None
        while not self._stopping.is_set():
            tick = pacer.wait()
            written = self._ring.written
            captured_at_s = self._ring.captured_at_s(written - 1)
            stream_s = self._stream.now(self._clock.now_s(), written, captured_at_s)
            self._listen(written)
            chunk = self.pipeline.emit(stream_s).chunk
            handed_over_s = self._clock.now_s()
            stats.count_pace(frame_s, handed_over_s - tick.due_s, tick.missed)
            if chunk is not None and chunk is not shown and math.isfinite(chunk.captured_at_s):
                # What a window model hears shapes frames at once, but its own frame comes later.
                after_s = handed_over_s - chunk.captured_at_s
                stats.count_latency(max(after_s, self.pipeline.delay_s))
            shown = chunk
            if self._trace is not None and chunk is not None:
                self._trace.frame(stats.frames - 1, chunk.heard_samples, handed_over_s)
            if self._heard_all.is_set() and stream_s >= self._end_samples / SAMPLE_RATE_HZ:
                return
