"""The live path with real threads, a scripted source and a light engine."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ha2g_live.clients import encode
from ha2g_live.clients.jsonl import JsonlClient
from ha2g_live.engines.base import ModelSpec, State
from ha2g_live.engines.timing import Timing
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.driver import MAX_STEPS_BEHIND, RING_SAMPLES, Driver
from ha2g_live.realtime.errors import AudioError, ClientError, ConfigError
from ha2g_live.realtime.humanoid import BONE_NAMES
from ha2g_live.realtime.knobs import Knobs
from ha2g_live.realtime.offline import animate
from ha2g_live.realtime.pacing import HORIZON_S
from ha2g_live.realtime.pipeline import Pipeline, Settings, run_fast
from ha2g_live.realtime.retarget import to_rotations
from ha2g_live.realtime.skeleton import bone_index
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ, newest_step
from ha2g_live.realtime.types import F32, AudioBlock
from tests.fakes import ECHO_SPEC, EchoEngine, ListClient, ScriptedSource, speech_like

FINGERS = [i for i, bone in enumerate(BONE_NAMES) if bone.endswith(("Proximal", "Intermediate"))]


def run(driver: Driver) -> None:
    driver.start()
    while not driver.wait(0.05):
        pass


def assert_frames_in_order(client: ListClient) -> None:
    assert [frame.seq for frame in client.frames] == list(range(len(client.frames)))
    times = [frame.stream_time_s for frame in client.frames]
    assert all(a <= b for a, b in pairwise(times))


def ha2g_threads() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith("ha2g-")}


def test_the_end_of_the_source_plays_the_tail_and_closes_everything() -> None:
    client, engine = ListClient(), EchoEngine()
    pipeline = Pipeline(engine, [client], Settings(fps=60, tail_s=0.4))
    driver = Driver(pipeline, ScriptedSource(speech_like(1.2)))
    run(driver)
    assert_frames_in_order(client)
    assert client.closes == 1
    assert client.info is not None
    assert client.info.model == "echo 1"
    assert client.threads == {"ha2g-emit"}
    assert 1.6 <= client.frames[-1].stream_time_s <= 1.6 + HORIZON_S + 1e-6
    assert pipeline.state.heard_samples == round(1.6 * SAMPLE_RATE_HZ)
    assert pipeline.state.next_step == newest_step(round(1.6 * SAMPLE_RATE_HZ)) + 1
    for frame in client.frames:
        np.testing.assert_allclose(np.linalg.norm(frame.rotations, axis=1), 1.0, atol=1e-5)
    assert not ha2g_threads()


def test_latency_is_counted_for_steps_that_heard_the_source_only() -> None:
    pipeline = Pipeline(EchoEngine(), [ListClient()], Settings(tail_s=1.0))
    driver = Driver(pipeline, ScriptedSource(speech_like(1.0)))
    run(driver)
    assert 1 <= pipeline.stats.latency.count <= newest_step(SAMPLE_RATE_HZ) + 32  # looks
    assert pipeline.stats.latency.percentile_s(0) > 0.0
    summary = driver.summary()
    assert summary["steps"] == newest_step(2 * SAMPLE_RATE_HZ) + 1
    json.dumps(summary, allow_nan=False)


def test_the_poses_do_not_depend_on_timing() -> None:
    """Live steps with uneven blocks give the very predictions of an offline run."""
    sound = speech_like(1.0)

    class Watch(EchoEngine):
        def __init__(self) -> None:
            super().__init__()
            self.answers: dict[int, F32] = {}

        def step(self, audio: F32, style: F32, noise: F32, state: State) -> tuple[F32, State]:
            directions, after = super().step(audio, style, noise, state)
            if self.calls > self.warming_steps:
                # The looks that follow a step come from the state before it.
                self.answers.setdefault(int(state["step"][0, 0]), directions)
            return directions, after

    live, offline = Watch(), Watch()
    settings = Settings(tail_s=0.2, seed=5)
    run(Driver(Pipeline(live, [], settings), ScriptedSource(sound, blocks=(100, 977, 3))))
    run_fast(Pipeline(offline, [], settings), [sound])
    assert len(offline.answers) >= 17
    for step in live.answers.keys() & offline.answers.keys():
        np.testing.assert_array_equal(live.answers[step], offline.answers[step])
    assert abs(len(live.answers) - len(offline.answers)) <= 1


def test_a_run_ends_whose_last_step_comes_long_before_its_end() -> None:
    """A window model with a long hop: its steps are two seconds apart."""

    class Rare(ModelSpec):
        @property
        def timing(self) -> Timing:
            return Timing(every_frames=30)

    class Seldom(EchoEngine):
        @property
        def spec(self) -> ModelSpec:
            fields = (f.name for f in dataclasses.fields(ECHO_SPEC))
            return Rare(**{name: getattr(ECHO_SPEC, name) for name in fields})

    client = ListClient()
    pipeline = Pipeline(Seldom(), [client], Settings(tail_s=0.9))
    run(Driver(pipeline, ScriptedSource(speech_like(1.0))))
    assert client.frames[-1].stream_time_s >= 1.8
    assert client.closes == 1


def test_an_error_of_the_source_reaches_the_owner_after_the_tail() -> None:
    client = ListClient()
    source = ScriptedSource(speech_like(0.5), error=AudioError("the microphone is gone"))
    driver = Driver(Pipeline(EchoEngine(), [client], Settings(tail_s=0.3)), source)
    with pytest.raises(AudioError, match="is gone"):
        run(driver)
    assert client.frames[-1].stream_time_s >= 0.8
    assert client.closes == 1
    assert not ha2g_threads()


def test_an_error_of_the_engine_reaches_the_owner() -> None:
    client = ListClient()
    source = ScriptedSource(speech_like(1.0), endless=True)
    driver = Driver(Pipeline(EchoEngine(fail_at=6), [client], Settings()), source)
    with pytest.raises(RuntimeError, match="step 6 failed"):
        run(driver)
    assert client.closes == 1
    assert not ha2g_threads()


def test_a_source_that_cannot_start_closes_the_targets() -> None:
    class Broken(ScriptedSource):
        def start(self, *_: object) -> None:
            raise AudioError("no such microphone")

    client = ListClient()
    driver = Driver(Pipeline(EchoEngine(), [client], Settings()), Broken(speech_like(0.1)))
    with pytest.raises(AudioError, match="no such microphone"):
        driver.start()
    assert client.closes == 1
    assert not ha2g_threads()


def test_a_target_that_cannot_open_closes_the_others_and_the_source_stays_shut() -> None:
    first, second = ListClient(), ListClient(start_error=ClientError("port 1 is taken"))

    class Watched(ScriptedSource):
        def start(self, *_: object) -> None:
            raise AssertionError("the source must not be opened")

    source = Watched(speech_like(0.1))
    driver = Driver(Pipeline(EchoEngine(), [first, second], Settings()), source)
    with pytest.raises(ClientError, match="port 1 is taken"):
        driver.start()
    assert (first.closes, second.closes) == (1, 0)
    assert not ha2g_threads()


def test_bad_sound_from_a_source_is_an_error_not_a_hang() -> None:
    sound = speech_like(0.5)
    sound[3000] = np.nan
    driver = Driver(Pipeline(EchoEngine(), [ListClient()], Settings()), ScriptedSource(sound))
    with pytest.raises(ValueError, match="finite"):
        run(driver)


def test_a_slow_engine_skips_to_the_newest_step_and_counts() -> None:
    client = ListClient()
    pipeline = Pipeline(EchoEngine(step_s=0.2), [client], Settings(tail_s=0.0))
    run(Driver(pipeline, ScriptedSource(speech_like(3.0))))
    stats = pipeline.stats
    assert stats.skipped_steps >= MAX_STEPS_BEHIND
    assert stats.steps + stats.skipped_steps <= newest_step(3 * SAMPLE_RATE_HZ) + 1
    assert stats.starved_frames > 0
    assert_frames_in_order(client)


def test_falling_a_little_behind_skips_nothing() -> None:
    class Hiccup(EchoEngine):
        def step(self, audio: F32, style: F32, noise: F32, state: State) -> tuple[F32, State]:
            if int(state["step"][0, 0]) == 10:
                time.sleep(0.25)
            return super().step(audio, style, noise, state)

    pipeline = Pipeline(Hiccup(), [ListClient()], Settings(tail_s=0.3))
    run(Driver(pipeline, ScriptedSource(speech_like(2.0))))
    assert pipeline.stats.skipped_steps == 0
    assert pipeline.stats.steps == newest_step(round(2.3 * SAMPLE_RATE_HZ)) + 1


def test_a_target_that_raises_does_not_hurt_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad, good = ListClient("bad", error=OSError("cable out")), ListClient("good")
    pipeline = Pipeline(EchoEngine(), [bad, good], Settings(tail_s=0.1))
    driver = Driver(pipeline, ScriptedSource(speech_like(0.5)))
    run(driver)
    assert_frames_in_order(good)
    assert good.frames
    assert driver.summary()["clients"]["bad"]["failures"] == len(good.frames)
    assert [r.getMessage() for r in caplog.records] == ["bad: cable out"]


def test_a_target_that_blocks_costs_frames_that_are_counted_and_no_order() -> None:
    slow, good = ListClient("slow", send_s=0.05), ListClient("good")
    pipeline = Pipeline(EchoEngine(), [slow, good], Settings(fps=60, tail_s=0.2))
    run(Driver(pipeline, ScriptedSource(speech_like(1.0))))
    stats = pipeline.stats
    assert_frames_in_order(good)
    assert len(good.frames) == len(slow.frames) == stats.frames
    assert stats.missed_frames >= stats.frames  # three turns of the pacer pass in each send
    assert stats.late_frames >= stats.missed_frames
    assert stats.skipped_steps == 0  # the model is another thread and never waits for a target


def test_stop_ends_an_endless_run_at_once_and_may_be_repeated() -> None:
    client = ListClient()
    pipeline = Pipeline(EchoEngine(), [client], Settings())
    driver = Driver(pipeline, ScriptedSource(speech_like(1.0), endless=True))
    driver.start()
    assert not driver.wait(0.5)
    driver.stop()
    driver.stop()
    assert client.closes == 1
    assert client.frames
    assert not ha2g_threads()


def test_duration_ends_the_source_with_a_tail() -> None:
    client = ListClient()
    pipeline = Pipeline(EchoEngine(), [client], Settings(duration_s=0.5, tail_s=0.3))
    run(Driver(pipeline, ScriptedSource(speech_like(1.0), endless=True)))
    assert client.frames[-1].stream_time_s >= 0.7
    assert client.closes == 1


@pytest.mark.parametrize("tail_s", [0.0, 0.2])
def test_a_source_without_a_sample_ends(tail_s: float) -> None:
    client = ListClient()
    pipeline = Pipeline(EchoEngine(), [client], Settings(tail_s=tail_s))
    run(Driver(pipeline, ScriptedSource(np.zeros(0, dtype=np.float32))))
    assert client.closes == 1
    assert bool(client.frames) == bool(tail_s)


def test_sound_that_was_overwritten_is_counted_and_heard_as_silence() -> None:
    pipeline = Pipeline(EchoEngine(), [], Settings(tail_s=0.0))
    driver = Driver(pipeline, ScriptedSource(speech_like(0.1)))
    driver._ring.write(np.ones(3 * RING_SAMPLES, dtype=np.float32), 0.0)
    samples = driver._new_samples(0)
    assert len(samples) == 3 * RING_SAMPLES
    lost = pipeline.stats.lost_samples
    assert lost >= 2 * RING_SAMPLES
    assert not samples[:lost].any()
    assert samples[lost:].all()


def test_fast_makes_every_frame_once_and_is_the_offline_motion(tmp_path: Path) -> None:
    sound, client = speech_like(2.0), ListClient()
    path = tmp_path / "motion.jsonl"
    settings = Settings(fps=30, tail_s=1.0, seed=3)
    desk = Desk(Knobs(life=0.0))
    pipeline = Pipeline(EchoEngine(), [client, JsonlClient(path)], settings, desk)
    run_fast(pipeline, [sound[:777], sound[777:20000], sound[20000:]])
    assert_frames_in_order(client)
    assert [f.stream_time_s for f in client.frames] == [k / 30 for k in range(90)]
    motion = animate(sound, EchoEngine(), fps=30, seed=3, tail_s=1.0)
    shown = np.stack([frame.directions for frame in client.frames])
    # Arms that touch the body or each other are moved apart, and nothing else.
    head = [bone_index("spine", "neck"), *range(bone_index("neck", "nose"), shown.shape[1])]
    np.testing.assert_allclose(shown[:, head], motion.directions[: len(shown), head], atol=1e-6)
    fingers = to_rotations(motion.directions[: len(shown)])[:, FINGERS]
    shown_fingers = np.stack([frame.rotations for frame in client.frames])[:, FINGERS]
    np.testing.assert_allclose(np.abs((shown_fingers * fingers).sum(axis=-1)), 1.0, atol=1e-4)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 90
    assert encode.decode_text(lines[-1]).seq == 89


def test_fast_waits_for_a_slow_recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowDisk(JsonlClient):
        def _write(self, data: bytes) -> None:
            time.sleep(0.1)
            super()._write(data)

    for module in ("clients.jsonl", "realtime.pipeline"):
        monkeypatch.setattr(f"ha2g_live.{module}.QUEUE_FRAMES", 64)
    recorder = SlowDisk(tmp_path / "motion.jsonl")
    pipeline = Pipeline(EchoEngine(), [recorder], Settings(fps=144, tail_s=0.0))
    run_fast(pipeline, [np.zeros(2 * SAMPLE_RATE_HZ, dtype=np.float32)])
    assert recorder.stats.dropped == 0
    assert recorder.stats.sent == 2 * 144 == pipeline.stats.frames


def test_fast_stops_at_the_duration() -> None:
    client = ListClient()
    pipeline = Pipeline(EchoEngine(), [client], Settings(duration_s=0.5, tail_s=0.5))
    run_fast(pipeline, [speech_like(3.0)])
    assert len(client.frames) == 60


def test_fast_closes_the_targets_when_the_engine_fails() -> None:
    client = ListClient()
    with pytest.raises(RuntimeError, match="step 4"):
        run_fast(Pipeline(EchoEngine(fail_at=4), [client], Settings()), [speech_like(1.0)])
    assert client.closes == 1


def test_the_source_may_deliver_from_its_own_thread_only_copies() -> None:
    """What the driver does in the source's thread leaves the block's array free for reuse."""
    driver = Driver(Pipeline(EchoEngine(), [], Settings()), ScriptedSource(speech_like(0.1)))
    block = np.full(320, 0.5, dtype=np.float32)
    driver._on_block(driver.source, AudioBlock(block, 1.0))
    block[:] = 0.0
    assert driver._ring.read(0, 320).min() == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fps": 0.0}, "24..144, got 0"),
        ({"fps": float("nan")}, "24..144"),
        ({"fps": 145.0}, "got 145"),
        ({"seed": -1}, "got -1"),
        ({"tail_s": -0.1}, "got -0.1"),
        ({"tail_s": float("inf")}, "got inf"),
        ({"duration_s": 0.0}, "above 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings(**settings)  # type: ignore[arg-type]


def test_the_source_can_be_replaced_while_it_runs() -> None:
    client = ListClient()
    pipeline = Pipeline(EchoEngine(), [client], Settings(tail_s=0.0))
    first = ScriptedSource(np.full(16_000, 0.1, np.float32), endless=True)
    second = ScriptedSource(np.full(8_000, 0.5, np.float32))
    driver = Driver(pipeline, first)
    driver.start()
    try:
        while pipeline.state.heard_samples < 4_000:
            driver.wait(0.01)
        driver.switch(second)
        assert driver.source is second
        while not driver.wait(0.05):
            pass
    finally:
        driver.stop()
    # The first was stopped, the run went on with the second to its end, and time never ran back.
    assert first._thread is None or not first._thread.is_alive()
    assert driver.summary()["source"]["name"] == "script"
    # What is less than a step at the end is not heard.
    assert pipeline.state.heard_samples > 4_000 + 8_000 - 1_067
    times = [frame.stream_time_s for frame in client.frames]
    assert times == sorted(times)


def test_a_source_that_cannot_be_opened_leaves_the_old_one() -> None:
    class Broken(ScriptedSource):
        def start(self, on_block: Any, on_end: Any) -> None:
            raise AudioError("the device is gone")

    first = ScriptedSource(np.zeros(16_000, np.float32), endless=True)
    driver = Driver(Pipeline(EchoEngine(), [], Settings()), first)
    driver.start()
    try:
        driver.wait(0.1)
        with pytest.raises(AudioError, match="gone"):
            driver.switch(Broken(np.zeros(10, np.float32)))
        assert driver.source is first
        driver.wait(0.1)
    finally:
        driver.stop()
    with pytest.raises(AudioError, match="the sound has ended"):
        driver.switch(ScriptedSource(np.zeros(10, np.float32)))


def test_targets_come_and_go_while_it_runs(tmp_path: Path) -> None:
    client = ListClient()
    pipeline = Pipeline(EchoEngine(), [client], Settings(tail_s=0.0))
    driver = Driver(pipeline, ScriptedSource(np.zeros(16_000, np.float32), endless=True))
    path = tmp_path / "later.jsonl"
    recorder = JsonlClient(path)
    driver.start()
    try:
        driver.wait(0.2)
        pipeline.add(recorder)
        driver.wait(0.3)
        pipeline.remove(recorder)
        frames = len(path.read_text("utf-8").splitlines()) - 1
        assert frames > 5
        with pytest.raises(ClientError):
            pipeline.add(JsonlClient(tmp_path / "no" / "such" / "folder.jsonl"))
        driver.wait(0.2)
    finally:
        driver.stop()
    assert [c.name for c in pipeline.clients] == [client.name]
    assert len(path.read_text("utf-8").splitlines()) - 1 == frames
    assert len(client.frames) > frames
