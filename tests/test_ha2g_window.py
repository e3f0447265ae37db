"""A window model behind the live driver: what it is given, how its windows are joined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from ha2g_live.engines import open_engine
from ha2g_live.engines.base import ModelSpec
from ha2g_live.engines.nine_bones import to_expressive
from ha2g_live.engines.ted import WINDOW_COLUMNS, WINDOW_FRAMES, skeleton
from ha2g_live.engines.timing import Timing, WindowSpec
from ha2g_live.engines.window import WindowEngine, join
from ha2g_live.realtime import stepper
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.cli import main
from ha2g_live.realtime.errors import ConfigError, ModelError
from ha2g_live.realtime.features import initial_log_mel, log_mel
from ha2g_live.realtime.joint_limits import limit
from ha2g_live.realtime.offline import animate
from ha2g_live.realtime.retarget import to_rotations
from ha2g_live.realtime.schedule import PoseSchedule
from ha2g_live.realtime.skeleton import MEAN_DIRECTION, bone_index, normalise
from ha2g_live.realtime.timebase import POSE_FPS, SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.golden import golden_network
from tests.small_ha2g import SPEAKERS, small_checkpoint, write_imported

GOLDEN = Path(__file__).parent / "ha2g_golden.npz"
GESTURE_DIM, NOISE = 27, 48


def window_spec(name: str = "ted_gesture", seed: str = "start") -> ModelSpec:
    return ModelSpec("fake", "1", SPEAKERS, (), {}, windows=WindowSpec(name, seed, NOISE))


class Recorder:
    """Answers pose n of window w with the number ``100 w + n`` and remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[dict[str, F32]] = []

    def predict(self, audio: F32, style: F32, noise: F32, given: F32, known: F32) -> F32:
        call = {"audio": audio, "style": style, "noise": noise, "given": given, "known": known}
        self.calls.append({name: value.copy() for name, value in call.items()})
        frames = np.arange(WINDOW_FRAMES, dtype=np.float32)[None, :, None]
        number = np.float32(100 * len(self.calls))
        return np.array(np.broadcast_to(number + frames, given.shape), dtype=np.float32)

    def close(self) -> None:
        pass


class Wave:
    """A smooth motion that is off by a constant from window to window."""

    def __init__(self, off: float) -> None:
        self.off = off
        self.window = 0

    def predict(self, audio: F32, style: F32, noise: F32, given: F32, known: F32) -> F32:
        self.window += 1
        poses = np.zeros_like(given)
        poses[..., 3 * 4] = self.off * (-1) ** self.window
        return poses

    def close(self) -> None:
        pass


# --- the published way to make a long clip


@pytest.mark.parametrize("which", ["expressive", "gesture"])
def test_a_stride_of_30_frames_is_the_published_joined_sequence(which: str) -> None:
    """Through the engine that runs live: features, cached seed, cross-fade."""
    with np.load(GOLDEN) as stored:
        golden = {
            name.split("/")[1]: stored[name] for name in stored.files if name.startswith(which)
        }
    network, _ = golden_network("ha2g", which)

    class Published:
        """The golden windows have words, which a stream has not."""

        def __init__(self) -> None:
            self.window = 0

        def predict(self, audio: F32, style: F32, noise: F32, given: F32, known: F32) -> F32:
            words = torch.from_numpy(golden["words"][self.window : self.window + 1])
            self.window += 1
            decibels = torch.from_numpy((audio - 1.0) * 40.0).transpose(1, 2)
            inputs = (torch.from_numpy(value) for value in (style, given, known))
            with torch.inference_mode():
                return network(decibels, words, *inputs).poses.numpy()  # type: ignore[no-any-return]

        def close(self) -> None:
            pass

    spec = ModelSpec(
        "golden",
        "1",
        tuple(map(str, range(7))),
        (),
        {},
        windows=WindowSpec(f"ted_{which}", "start", NOISE),
    )
    engine = WindowEngine(Published(), spec, 30)
    state = engine.spec.initial_state()
    state["history"][0, -4:] = golden["seed"]
    style = engine.spec.style_vector(str(int(golden["speaker"][0])))
    shown: dict[int, F32] = {}
    timing = engine.spec.timing
    for n, spectrogram in enumerate(golden["spectrogram"]):
        audio = (spectrogram.T[None] / 40.0 + 1.0).astype(np.float32)
        directions, state = engine.step(audio, style, np.zeros((1, NOISE), np.float32), state)
        step = WINDOW_FRAMES + 30 * n
        for i, pose in enumerate(state["history"][0]):
            shown[step + timing.first_frame + i] = pose
        own = skeleton(f"ted_{which}").to_directions(state["history"][0])
        if which == "expressive":
            assert_array_equal(directions[0], own)
    joined = np.stack([shown[frame] for frame in range(94)])
    scale = np.abs(golden["joined"]).max()
    # Live, the first window is faded in over the pose that the stream began with.
    assert_allclose(joined[4:], golden["joined"][4:], atol=4e-6 * scale, rtol=0)
    faded = [golden["seed"][j] * (4 - j) / 5 + golden["joined"][j] * (j + 1) / 5 for j in range(4)]
    assert_allclose(joined[:4], np.stack(faded), atol=4e-6 * scale, rtol=0)


def test_the_last_four_kept_poses_are_cross_faded() -> None:
    kept, window = np.zeros((1, 6, 1), np.float32), np.ones((1, WINDOW_FRAMES, 1), np.float32)
    expected = [0, 0, 0.2, 0.4, 0.6, 0.8, *[1.0] * 28]
    assert_allclose(join(kept, window)[0, :, 0], expected, rtol=1e-6)


# --- what a window is given


@pytest.mark.parametrize("hop", [1, 3, 17, 30])
@pytest.mark.parametrize("seed", ["start", "all"])
def test_the_seed_is_the_history_at_the_windows_start(hop: int, seed: str) -> None:
    model = Recorder()
    engine = WindowEngine(model, window_spec(seed=seed), hop)
    state = engine.spec.initial_state()
    audio = np.zeros((1, WINDOW_COLUMNS, 128), np.float32)
    style, noise = engine.spec.style_vector(), np.zeros((1, NOISE), np.float32)
    timeline = np.zeros(WINDOW_FRAMES, np.float32)  # frames -34 .. -1: at rest
    for window in range(1, 6):
        _, state = engine.step(audio, style, noise, state)
        call = model.calls[-1]
        count = 4 if seed == "start" else WINDOW_FRAMES - hop
        kept = timeline[window * hop :][: WINDOW_FRAMES - hop]  # from the window's start on
        assert_array_equal(call["known"][0], [1.0] * count + [0.0] * (WINDOW_FRAMES - count))
        assert_allclose(call["given"][0, :count, 5], kept[:count], rtol=1e-5)
        assert not call["given"][0, count:].any()
        # The rule, frame by frame: what is kept stays but for its last four, the rest is new.
        new = 100.0 * window + np.arange(WINDOW_FRAMES, dtype=np.float32)
        end = WINDOW_FRAMES - hop
        for j in range(4):
            new[end - 4 + j] = kept[end - 4 + j] * (4 - j) / 5 + new[end - 4 + j] * (j + 1) / 5
        new[: end - 4] = kept[: end - 4]
        timeline = np.concatenate((timeline[: window * hop], new))
        assert_allclose(state["history"][0, :, 5], timeline[-WINDOW_FRAMES:], rtol=1e-5)


@pytest.mark.parametrize("hop", [1, 4, 30])
def test_a_window_hears_the_sound_of_its_own_frames(hop: int) -> None:
    model = Recorder()
    engine = WindowEngine(model, window_spec(), hop)
    samples = read_audio(demo_clip())[: 5 * SAMPLE_RATE_HZ]
    columns, _ = log_mel(samples, initial_log_mel())
    padded = np.concatenate((np.full((71, 128), -1.0, np.float32), columns))
    chunks, state = stepper.advance(engine, samples, stepper.initial_state(engine.spec, "ben", 0))
    assert [chunk.first_frame for chunk in chunks] == [
        hop * n - min(34, hop + 4) for n in range(len(chunks))
    ]
    assert len(chunks) == 5 * POSE_FPS // hop + 1
    assert not model.calls[0]["audio"].max() > -1.0  # before the stream there was silence
    for n, call in enumerate(model.calls):
        start = (hop * n - WINDOW_FRAMES) * SAMPLE_RATE_HZ // POSE_FPS // 512
        assert_array_equal(call["audio"][0], padded[71 + start : 71 + start + 70])
        assert chunks[n].heard_samples <= hop * n * SAMPLE_RATE_HZ / POSE_FPS + 1
        assert_array_equal(call["style"], [[0.0, 1.0, 0.0]])
    assert state.next_step == hop * len(chunks)


def test_blocks_of_any_size_give_the_same_poses() -> None:
    samples = read_audio(demo_clip())[: 3 * SAMPLE_RATE_HZ]
    histories = []
    for size in (len(samples), 700):
        engine = WindowEngine(Recorder(), window_spec(), 3)
        state = stepper.initial_state(engine.spec, "ben", 0)
        for start in range(0, len(samples), size):
            _, state = stepper.advance(engine, samples[start : start + size], state)
        histories.append(state.engine["history"])
    assert_array_equal(histories[0], histories[1])


def test_z_is_frozen_for_a_stream_and_another_seed_draws_another() -> None:
    samples = np.zeros(SAMPLE_RATE_HZ, np.float32)
    drawn = {}
    for seed in (0, 1, 2):
        model = Recorder()
        engine = WindowEngine(model, window_spec(), 3)
        stepper.advance(engine, samples, stepper.initial_state(engine.spec, "ben", seed))
        noises = np.stack([call["noise"][0] for call in model.calls])
        assert (noises == noises[0]).all()
        drawn[seed] = noises[0]
    assert not drawn[0].any()  # the mean
    assert not np.allclose(drawn[1], drawn[2])
    many = stepper.style_noise(9, 20_000)
    assert abs(many.mean()) < 0.03
    assert abs(many.std() - 1.0) < 0.03


def test_a_step_does_not_change_the_state_it_was_given() -> None:
    engine = WindowEngine(Recorder(), window_spec(), 3)
    state = engine.spec.initial_state(2)
    before = {name: value.copy() for name, value in state.items()}
    audio = np.zeros((2, WINDOW_COLUMNS, 128), np.float32)
    style, noise = engine.spec.style_vector(batch=2), np.zeros((2, NOISE), np.float32)
    _, after = engine.step(audio, style, noise, state)
    assert_array_equal(state["history"], before["history"])
    assert after["history"].any()


# --- how it is shown


def test_windows_that_disagree_are_joined_without_a_jump() -> None:
    """Each window is 0.2 off the other way: 0.4 from one window to the next."""
    for hop in (1, 3, 10, 30):
        engine = WindowEngine(Wave(0.2), window_spec("ted_expressive"), hop)
        motion = animate(np.zeros(4 * SAMPLE_RATE_HZ, np.float32), engine, fps=60.0, tail_s=0.0)
        moved = np.linalg.norm(np.diff(motion.directions[:, 4], axis=0), axis=1)
        change = np.linalg.norm(np.diff(motion.directions[:, 4], 2, axis=0), axis=1)
        assert moved.max() > 1e-3  # it does move
        assert moved.max() < 0.4 / 4
        # Set at once, the speed would change by 0.4 from one frame to the next.
        assert change.max() < 0.4 / 8


def test_what_is_shown_at_the_published_stride_is_the_joined_sequence() -> None:
    engine = WindowEngine(Wave(0.1), window_spec("ted_expressive"), 30)
    state = stepper.initial_state(engine.spec, "ben", 0)
    schedule, shown, joined = PoseSchedule(), {}, {}
    delay = engine.spec.timing.delay_frames
    for now in range(200):
        until = now * SAMPLE_RATE_HZ // POSE_FPS
        chunks, state = stepper.advance(
            engine, np.zeros(until - state.heard_samples, np.float32), state
        )
        for chunk in chunks:
            schedule.merge(chunk)
            for i, pose in enumerate(chunk.directions):
                joined[chunk.first_frame + i] = limit(to_rotations(pose)).astype(np.float64)
        shown[now - delay] = schedule.sample((now - delay) / POSE_FPS).rotations
    for frame in range(1, 150):
        # The newest window moves the curve between the frames that are shown meanwhile a little.
        here = joined[frame]
        around = [joined[frame + n] for n in (-1, 1)]
        around = [q * np.sign((q * here).sum(axis=-1, keepdims=True)) for q in around]
        curve = normalise(around[0] + 4.0 * here + around[1])
        near = np.sign((curve * shown[frame]).sum(axis=-1, keepdims=True))
        assert_allclose(shown[frame], near * curve, atol=5e-4)


@pytest.mark.parametrize("hop", [1, 3, 30])
def test_there_is_always_a_pose_to_show(hop: int) -> None:
    """It is cross-faded already when the next window is due; that has one frame to run."""
    engine = WindowEngine(Wave(0.1), window_spec("ted_expressive"), hop)
    timing = engine.spec.timing
    for step in range(0, 5 * hop, hop):
        newest = step + timing.first_frame + timing.frames - 1
        shown_when_next_is_due = step + hop - timing.delay_frames
        assert newest - 4 == shown_when_next_is_due
    assert timing.delay_frames == {1: 6, 3: 8, 30: 35}[hop]


def test_the_live_network_keeps_its_timing() -> None:
    spec = ModelSpec("live", "1", SPEAKERS, ("idle:a",), {})
    assert spec.timing == Timing()
    assert spec.timing.delay_frames == 0
    assert ModelSpec.from_metadata({"ha2g_live_spec": spec.to_json()}, "x").windows is None


def test_a_spec_with_windows_is_read_back() -> None:
    spec = window_spec(seed="all")
    assert ModelSpec.from_metadata({"ha2g_live_spec": spec.to_json()}, "x") == spec
    damaged = spec.to_json().replace("ted_gesture", "ted_talk")
    with pytest.raises(ModelError, match="damaged"):
        ModelSpec.from_metadata({"ha2g_live_spec": damaged}, "x")


# --- nine bones


def test_the_mean_pose_of_nine_bones_looks_like_that_of_42() -> None:
    gesture = skeleton("ted_gesture").to_directions(np.zeros(GESTURE_DIM, np.float32))
    full = to_expressive(gesture)
    assert_allclose(np.linalg.norm(full, axis=-1), 1.0, atol=1e-5)
    usual = normalise(MEAN_DIRECTION)
    degrees = np.degrees(np.arccos(np.clip((full * usual).sum(axis=1), -1, 1)))
    assert degrees.max() < 30  # left is left and forward is forward
    head = bone_index("neck", "nose")
    assert_allclose(full[head], usual[head], atol=1e-5)


def test_a_hand_goes_with_its_forearm() -> None:
    gesture = skeleton("ted_gesture").to_directions(np.zeros((2, GESTURE_DIM), np.float32))
    gesture[1, 5] = [-1.0, 0.0, 0.0]  # the left forearm to the person's left
    still, moved = to_expressive(gesture)
    forearm = bone_index("left_elbow", "left_wrist")
    hand = bone_index("left_wrist", "left_middle_1")
    assert_allclose(moved[forearm], [1.0, 0.0, 0.0], atol=1e-6)
    usual = normalise(MEAN_DIRECTION)
    between = float(usual[forearm] @ usual[hand])
    assert float(moved[forearm] @ moved[hand]) == pytest.approx(between, abs=1e-5)
    right = bone_index("right_wrist", "right_middle_1")
    assert_array_equal(still[right], moved[right])
    gesture[1, 5] = -gesture[0, 5]  # straight back, where the shortest way is not defined
    assert np.isfinite(to_expressive(gesture)).all()


# --- the exported model


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_imported(tmp_path_factory.mktemp("model") / "imported", small_checkpoint())


def test_onnx_and_torch_answer_alike(imported: Path) -> None:
    samples = read_audio(demo_clip())[: 3 * SAMPLE_RATE_HZ]
    motions = []
    for name in ("onnx", "torch"):
        engine = open_engine(name, imported, hop_frames=5)
        state = stepper.initial_state(engine.spec, "carla", 4)
        chunks, _ = stepper.advance(engine, samples, state)
        motions.append(np.concatenate([chunk.directions for chunk in chunks]))
        engine.close()
    assert_allclose(motions[0], motions[1], atol=2e-5)
    assert np.abs(np.diff(motions[0], axis=0)).max() > 1e-4


def test_the_speaker_the_seed_and_the_sound_matter(imported: Path) -> None:
    engine = open_engine("onnx", imported, hop_frames=10)
    samples = read_audio(demo_clip())[: 3 * SAMPLE_RATE_HZ]

    def directions(style: str, seed: int, heard: F32) -> Any:
        return animate(heard, engine, style=style, seed=seed, tail_s=0.0).directions

    usual = directions("anna", 0, samples)
    assert_array_equal(usual, directions("anna", 0, samples))
    for other in (
        directions("ben", 0, samples),
        directions("anna", 1, samples),
        directions("anna", 0, samples * 0),
    ):
        assert np.abs(usual - other).max() > 1e-4


def test_the_command_streams_it(imported: Path, tmp_path: Path) -> None:
    path = tmp_path / "motion.jsonl"
    arguments = ["--demo", "--fast", "--no-view", "--quiet", "--record", str(path)]
    assert main([*arguments, "--model", str(imported), "--hop", "4", "--style", "ben"]) == 0
    lines = path.read_text(encoding="utf-8").splitlines()
    # 11 s of speech, the tail of 1.5 s, and the model's delay of 9 poses.
    assert len(lines) == pytest.approx(60 * (11 + 1.5 + 9 / 15), abs=2)
    first, last = json.loads(lines[1]), json.loads(lines[-1])
    assert first["stream_time_s"] == pytest.approx(-9 / 15)
    assert last["stream_time_s"] == pytest.approx(11 + 1.5, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hop", "0"], "--hop must be in 1..30 frames, got 0"),
        (["--hop", "31"], "--hop must be in 1..30 frames, got 31"),
        (["--style", "dora"], "the model has no style 'dora': choose one of anna, ben, carla"),
    ],
)
def test_a_wrong_setting_is_one_line(
    arguments: list[str], words: str, imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--demo", "--fast", "--no-view", "--model", str(imported), *arguments]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_a_wrong_style_among_a_thousand_names_the_nearest() -> None:
    spec = ModelSpec("many", "1", tuple(f"talk{n:04}" for n in range(1300)), (), {})
    with pytest.raises(ModelError, match=r"it has 1300; the most alike are talk1234, ") as caught:
        spec.style_vector("talk_1234")
    assert len(str(caught.value)) < 200


def test_a_hop_for_the_live_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="leave --hop out"):
        open_engine("onnx", hop_frames=3)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.onnx does not exist"):
        open_engine("onnx", tmp_path)
