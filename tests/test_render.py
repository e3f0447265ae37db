"""Pictures and videos: what is on them, what is in the file, what a mistake says."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ha2g_live.engines.base import ModelSpec, State, Stepping
from ha2g_live.realtime.errors import AudioFileError, ConfigError, MissingExtra, ModelError
from ha2g_live.realtime.offline import Motion, animate
from ha2g_live.realtime.render import add_arguments, load_motion, render, run, show
from ha2g_live.realtime.skeleton import BONE_COUNT, MEAN_DIRECTION, bone_index, normalise
from ha2g_live.realtime.types import F32

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
av = pytest.importorskip("av", reason="PyAV is not installed")

from ha2g_live.realtime.canvas import LEFT, PAPER, RIGHT  # noqa: E402 (needs Pillow)
from ha2g_live.realtime.draw import draw_figure, drawn_positions, head_rotation  # noqa: E402
from ha2g_live.realtime.sheet import Stage, Strips, evenly_spaced, wrist_speeds  # noqa: E402

MEAN = normalise(MEAN_DIRECTION)
DOWN, UP = (0.0, 1.0, 0.0), (0.0, -1.0, 0.0)


def with_arm(side: str, direction: tuple[float, float, float]) -> F32:
    """The mean pose with upper arm, forearm and hand of one side along a direction."""
    pose: F32 = MEAN.copy()
    pose[bone_index(f"{side}_shoulder", f"{side}_elbow")] = direction
    pose[bone_index(f"{side}_elbow", f"{side}_wrist")] = direction
    for finger in ("index", "middle", "ring", "little", "thumb"):
        pose[bone_index(f"{side}_wrist", f"{side}_{finger}_1")] = direction
    return normalise(pose)


def motion_of(directions: F32, fps: float = 30.0, sound_s: float = 0.0) -> Motion:
    samples = np.sin(np.arange(round(sound_s * 16_000)) * 0.1).astype(np.float32) * 0.5
    return Motion(fps, directions, samples, style="calm", seed=7, model="test 1.0")


def raising(side: str, frames: int = 30) -> F32:
    """An arm goes from hanging to pointing up, by way of the person's front."""
    angles = np.linspace(0.0, np.pi, frames)
    return np.stack([with_arm(side, (0.0, float(np.cos(a)), -float(np.sin(a)))) for a in angles])


def where(picture: Any, colour: tuple[int, int, int], reach: float = 60.0) -> F32:
    """(n, 2) pixels (x, y) near a colour."""
    distance = np.abs(np.asarray(picture, dtype=np.float32) - colour).sum(axis=-1)
    rows, columns = np.nonzero(distance < reach)
    return np.stack([columns, rows], axis=1).astype(np.float32)


def figure_pixels(picture: Any) -> int:
    """Pixels that are neither paper nor white."""
    pixels = np.asarray(picture, dtype=np.int32)
    return int((np.abs(pixels - PAPER).sum(axis=-1) > 60).sum())


class Nodder(Stepping):
    """An engine whose one gesture raises the left forearm with the loudness it hears."""

    spec = ModelSpec("nodder", "0.1", ("calm", "lively"), ("idle:still", "beat"), {"seen": (1,)})
    closed = 0

    def step(self, audio: F32, style: F32, noise: F32, state: State) -> tuple[F32, State]:
        loud = float(audio.max()) > -0.5
        pose = with_arm("left", UP if loud else DOWN)
        pose[0, 0] += 0.1 * float(noise[0, 0] > 0.5)
        return np.broadcast_to(normalise(pose), (1, 3, BONE_COUNT, 3)).copy(), {
            "seen": state["seen"] + 1
        }

    def close(self) -> None:
        self.closed += 1


def write_wav(path: Path, seconds: float = 1.0) -> Path:
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    tone = np.sin(np.arange(round(seconds * 16_000)) * 0.3).astype(np.float32) * 0.5
    soundfile.write(path, tone, 16_000)
    return path


def test_the_left_arm_is_seen_on_the_right_from_the_front() -> None:
    picture = draw_figure(MEAN, (400, 400))
    assert where(picture, LEFT)[:, 0].mean() > 220
    assert where(picture, RIGHT)[:, 0].mean() < 180


@pytest.mark.parametrize(("side", "colour"), [("left", LEFT), ("right", RIGHT)])
def test_a_raised_arm_is_higher_and_the_other_stays(
    side: str, colour: tuple[int, int, int]
) -> None:
    frames = raising(side)
    stage = Stage(motion_of(frames), (900, 500), 2)
    first, last = (np.asarray(stage.picture(i))[:, :450] for i in (0, 29))
    low, high = where(first, colour), where(last, colour)
    assert high[:, 1].min() < low[:, 1].min() - 60
    other = RIGHT if side == "left" else LEFT
    assert where(last, other)[:, 1].mean() == pytest.approx(where(first, other)[:, 1].mean(), abs=3)


def test_a_turned_head_shows() -> None:
    turn_rad = 0.6
    spin = np.array(
        [
            [np.cos(turn_rad), 0, np.sin(turn_rad)],
            [0, 1, 0],
            [-np.sin(turn_rad), 0, np.cos(turn_rad)],
        ],
        dtype=np.float32,
    )
    turned = MEAN.copy()
    turned[-4:] = MEAN[-4:] @ spin.T
    straight = head_rotation(drawn_positions(MEAN))
    found = head_rotation(drawn_positions(turned)) @ straight.T
    np.testing.assert_allclose(found, spin, atol=0.02)
    before, after = draw_figure(MEAN, (300, 300)), draw_figure(turned, (300, 300))
    changed = np.abs(np.asarray(before, int) - np.asarray(after, int)).sum(axis=-1) > 60
    rows = np.nonzero(changed.any(axis=1))[0]
    assert changed.sum() > 50
    assert rows.max() < 130, "only the head moves"


@pytest.mark.parametrize("pitch_rad", [-0.4, 0.0, 0.4])
def test_eyes_are_seen_on_a_nodding_head(pitch_rad: float) -> None:
    cos, sin = np.cos(pitch_rad), np.sin(pitch_rad)
    nod = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], dtype=np.float32)
    pose = MEAN.copy()
    pose[-5:] = MEAN[-5:] @ nod.T
    pixels = np.asarray(draw_figure(pose, (600, 600)), dtype=np.int32)[:300]
    skin = np.abs(pixels - (240, 214, 190)).sum(axis=-1) < 40
    within = np.logical_and.reduce(
        [np.logical_or.accumulate(np.flip(skin, axis), axis)[::step_y, ::step_x]
         for axis, step_y, step_x in ((0, -1, 1), (1, 1, -1))]
        + [np.logical_or.accumulate(skin, axis) for axis in (0, 1)]
    )  # fmt: skip
    columns = np.nonzero(within & (pixels.sum(axis=-1) < 260))[1]
    middle = np.nonzero(skin)[1].mean()
    assert min((columns > middle).sum(), (columns < middle).sum()) > 30
    assert columns.mean() == pytest.approx(middle, abs=6)


def test_a_near_limb_hides_a_far_one() -> None:
    pose = with_arm("right", (0.45, -0.1, -0.88))  # reaches forward, across the chest
    behind = with_arm("right", (0.45, -0.1, 0.88))  # the same behind the back
    in_front, hidden = (len(where(draw_figure(p, (400, 400)), RIGHT, 90)) for p in (pose, behind))
    assert hidden < 0.5 * in_front


@pytest.mark.parametrize("view", ["front", "three_quarter", "side"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_extreme_poses_can_be_drawn(view: str, axis: int, sign: float) -> None:
    pose = np.zeros((BONE_COUNT, 3), dtype=np.float32)
    pose[:, axis] = sign
    past = np.zeros((4, BONE_COUNT, 3), dtype=np.float32)
    assert figure_pixels(draw_figure(pose, (160, 120), view=view, past=past)) > 200


def test_nothing_leaves_the_picture() -> None:
    wide = with_arm("left", (1.0, 0.0, 0.0))
    wide[:] = np.where(with_arm("right", (-1.0, 0.0, 0.0)) != MEAN,
                       with_arm("right", (-1.0, 0.0, 0.0)), wide)  # fmt: skip
    pixels = np.asarray(Stage(motion_of(wide[None]), (700, 300), 2).picture(0), dtype=np.int32)
    border = np.concatenate([pixels[30:, 0], pixels[30:, -1], pixels[0, 80:], pixels[-1]])
    assert np.abs(border - PAPER).max() == 0


def test_wrist_speed_is_in_metres_a_second() -> None:
    still = motion_of(np.repeat(MEAN[None], 10, axis=0))
    assert wrist_speeds(still)["left"].max() == 0
    speeds = wrist_speeds(motion_of(raising("left", 31)))
    # Half a turn of a straight arm of 0.55 m in 1 s.
    assert speeds["left"][5:-5] == pytest.approx(np.pi * 0.55, rel=0.01)
    assert speeds["right"].max() < 1e-4


def test_contact_sheet_has_every_cell(tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    show(motion_of(raising("left"), sound_s=1.0), out, "clip", frames=8)
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert picture.width == 1920
        pixels = np.asarray(picture)
    cell = (1920 - 48 + 8) // 6
    height = round(0.64 * (cell - 8)) + 8
    counts = [
        figure_pixels(pixels[64 + row * height :, 24 + column * cell :][: height - 8, : cell - 8])
        for row in range(2)
        for column in range(6)
    ]
    assert min(counts[:8]) > 5_000
    # The four places left over are white, which differs from paper by less than the threshold.
    assert max(counts[8:]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"], "no half-written file stays"


def test_sheet_at_chosen_times_differs_from_even_ones(tmp_path: Path) -> None:
    motion = motion_of(raising("left"))
    show(motion, tmp_path / "a.png", "clip", frames=2)
    show(motion, tmp_path / "b.png", "clip", at_s=[0.0, 0.9])
    show(motion, tmp_path / "c.png", "clip", at_s=evenly_spaced(motion, 2))
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == c
    assert a != b


def test_strips_span_the_clip() -> None:
    strips = Strips(motion_of(raising("left"), sound_s=1.0), 640, 40, 50)
    assert strips.x_of(0.0) < strips.x_of(0.5) < strips.x_of(1.0) <= 640
    assert len(where(strips.image, LEFT, 120)) > 100, "the speed of the left wrist is drawn"


@pytest.mark.parametrize(("frames", "fps", "sound_s"), [(20, 30.0, 0.4), (6, 15.0, 1.0)])
def test_video_can_be_read_back(tmp_path: Path, frames: int, fps: float, sound_s: float) -> None:
    out = tmp_path / "motion.mp4"
    show(motion_of(raising("left", frames), fps, sound_s), out, "clip")
    with av.open(str(out)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (video.width, video.height) == (1280, 720)
        assert float(video.average_rate) == pytest.approx(fps)
        assert sound.codec_context.name == "aac"
        assert sound.sample_rate == 16_000
        pictures = [picture.to_ndarray(format="rgb24") for picture in container.decode(video)]
    assert len(pictures) == frames
    with av.open(str(out)) as container:
        heard = np.concatenate([b.to_ndarray().ravel() for b in container.decode(audio=0)])
        assert container.duration / 1e6 == pytest.approx(frames / fps, abs=0.15)
    # As long as the motion, in AAC's packets of 1024: cut or filled with silence.
    assert len(heard) == pytest.approx(frames / fps * 16_000, abs=2 * 1024)
    sounding = np.abs(heard[: round(min(sound_s, frames / fps) * 16_000) - 1024])
    assert sounding.max() > 0.3
    low, high = where(pictures[0][40:550, :640], LEFT), where(pictures[-1][40:550, :640], LEFT)
    assert high[:, 1].min() < low[:, 1].min() - 40


def test_silent_video_has_no_sound_track(tmp_path: Path) -> None:
    out = tmp_path / "silent.MP4"
    show(motion_of(raising("right", 3)), out, "clip")
    with av.open(str(out)) as container:
        assert not container.streams.audio
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_animate_follows_the_sound_and_the_seed() -> None:
    sound = np.zeros(32_000, dtype=np.float32)
    sound[16_000:] = np.sin(np.arange(16_000) * 0.3) * 0.5
    motion = animate(sound, Nodder(), fps=30.0, seed=3, tail_s=1.0)
    assert motion.directions.shape == (90, BONE_COUNT, 3)
    assert (motion.style, motion.seed, motion.model) == ("calm", 3, "nodder 0.1")
    assert len(motion.samples) == 48_000
    np.testing.assert_allclose(np.linalg.norm(motion.directions, axis=-1), 1.0, atol=1e-5)
    arm = motion.directions[:, bone_index("left_elbow", "left_wrist"), 1]
    assert arm[25] > 0.9, "hangs in silence"
    assert arm[55] < -0.9, "is up while there is sound"
    assert arm[-1] > 0.9, "hangs again after it"
    again = animate(sound, Nodder(), fps=30.0, seed=3, tail_s=1.0)
    np.testing.assert_array_equal(again.directions, motion.directions)
    other = animate(sound, Nodder(), fps=30.0, seed=4, tail_s=1.0)
    assert np.abs(other.directions - motion.directions).max() > 0.01


@pytest.mark.parametrize(
    ("setting", "words"),
    [({"fps": 0.0}, "fps"), ({"seed": -1}, "seed"), ({"tail_s": -1.0}, "tail")],
)
def test_animate_refuses_bad_settings(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        animate(np.zeros(100, dtype=np.float32), Nodder(), **setting)


def test_animate_refuses_an_unknown_style() -> None:
    with pytest.raises(ModelError, match="loud"):
        animate(np.zeros(100, dtype=np.float32), Nodder(), style="loud")


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def never_open() -> Nodder:
    raise AssertionError("the model must not be opened")


def test_command_renders_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav, out = write_wav(tmp_path / "hello.wav"), tmp_path / "hello.png"
    engine = Nodder()
    run(parse(str(wav), "--out", str(out), "--frames", "3", "--style", "lively"), lambda: engine)
    assert engine.closed == 1
    assert capsys.readouterr().out == f"wrote {out}\n"
    with Image.open(out) as picture:
        assert picture.width == 1920


def test_command_shows_a_stored_motion(tmp_path: Path) -> None:
    stored, out = tmp_path / "motion.npz", tmp_path / "motion.png"
    np.savez(stored, directions=raising("left"), fps=30.0, audio=np.ones(800, dtype=np.float32))
    run(parse("--motion", str(stored), "--out", str(out), "--at", "0, 0.5"), never_open)
    assert out.is_file()
    assert len(load_motion(stored).samples) == 800


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["motion.gif", "motion", "motion.mp4.txt"])
def test_an_unknown_kind_of_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run(parse("--demo", "--out", str(tmp_path / name)), never_open)
    text = one_line(caught.value)
    assert ".mp4" in text
    assert name in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "one of"),
        (("a.wav", "--demo"), "one of"),
        (("--demo", "--at", "soon"), "'soon'"),
    ],
)
def test_arguments_that_do_not_go_together(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(parse(*words, "--out", str(tmp_path / "a.png")), never_open)
    assert said in one_line(caught.value)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    motion = motion_of(MEAN[None])
    for out in ("missing/a.png", "folder.png", "file/a.png", "x" * 300 + ".png"):
        with pytest.raises(ConfigError) as caught:
            show(motion, tmp_path / out, "clip")
        assert "cannot write" in one_line(caught.value)


@pytest.mark.parametrize("choice", [{"frames": 0}, {"at_s": [99.0]}, {"at_s": [float("nan")]}])
def test_frames_out_of_range(tmp_path: Path, choice: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="got"):
        show(motion_of(raising("left")), tmp_path / "a.png", "clip", **choice)


def test_a_failure_keeps_the_file_before(tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    out.write_bytes(b"before")
    broken = motion_of(np.full((2, BONE_COUNT, 3), np.nan, dtype=np.float32))
    with pytest.raises((ValueError, np.linalg.LinAlgError)):
        show(broken, out, "clip")
    assert out.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    "arrays",
    [
        {"fps": 30.0},
        {"directions": np.zeros((3, 41, 3)), "fps": 30.0},
        {"directions": np.zeros((0, 42, 3)), "fps": 30.0},
        {"directions": np.full((3, 42, 3), np.inf), "fps": 30.0},
        {"directions": np.ones((3, 42, 3)), "fps": 0.0},
        {"directions": np.ones((3, 42, 3)), "fps": [1.0, 2.0]},
        {"directions": np.ones((3, 42, 3)), "fps": 30.0, "audio": np.ones((2, 2))},
        {"directions": np.array(["a"]), "fps": 30.0},
    ],
)
def test_a_damaged_motion_is_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = tmp_path / "motion.npz"
    np.savez(path, **arrays)
    with pytest.raises(ConfigError) as caught:
        load_motion(path)
    assert "motion.npz" in one_line(caught.value)


def test_a_file_that_is_no_motion_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "motion.npz"
    text.write_text("not a zip file")
    array = tmp_path / "array.npz"
    with array.open("wb") as file:
        np.save(file, np.zeros(3))
    for path in (text, array, tmp_path / "missing.npz", tmp_path):
        with pytest.raises(ConfigError, match="cannot read the motion"):
            load_motion(path)


@pytest.mark.parametrize(("module", "name"), [("PIL", "a.png"), ("av", "a.mp4")])
def test_a_missing_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what Python makes "not found" of
    with pytest.raises(MissingExtra, match=r"pip install 'ha2g-live\[render\]'") as caught:
        run(parse("--demo", "--out", str(tmp_path / name)), never_open)
    one_line(caught.value)


def test_the_command_line_loads_without_the_extra() -> None:
    code = (
        "import sys; sys.modules['PIL'] = sys.modules['av'] = None; "
        "import ha2g_live.realtime.render"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_recording_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError) as caught:
        render(tmp_path / "none.wav", tmp_path / "a.png", engine=Nodder())
    one_line(caught.value)
