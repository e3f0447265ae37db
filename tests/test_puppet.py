"""Every knob, turned while it runs, seen on the wire: it does what it says, and nothing jumps."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pythonosc.osc_bundle import OscBundle

from ha2g_live.clients import encode
from ha2g_live.clients.jsonl import JsonlClient
from ha2g_live.clients.osc import OscClient
from ha2g_live.engines import open_engine
from ha2g_live.engines.base import Engine
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.avatar import read_avatar
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.humanoid import (
    BONE_INDEX,
    BONE_NAMES,
    HIPS_REST_M,
    REST_OFFSETS_M,
    joint_positions,
)
from ha2g_live.realtime.joint_limits import angles
from ha2g_live.realtime.knobs import KNOBS, Knobs
from ha2g_live.realtime.pipeline import Pipeline, Settings, run_fast
from ha2g_live.realtime.rest_poses import rest_pose
from ha2g_live.realtime.rotation_arrays import inverse, multiply
from ha2g_live.realtime.shaping import PART_BONES, SWAPPED, shape_of, shaped
from ha2g_live.realtime.transition import FADE_S
from ha2g_live.realtime.types import F32
from tests.small_avatar import write_avatar

FPS = 60.0
BLOCK = 160
LEFT, RIGHT = (
    [i for i, bone in enumerate(BONE_NAMES) if bone.startswith(side) and "Arm" in bone]
    for side in ("Left", "Right")
)
WRISTS = [BONE_INDEX["LeftHand"], BONE_INDEX["RightHand"]]


@pytest.fixture(scope="module")
def engine() -> Any:
    engine = open_engine()
    yield engine
    engine.close()


def sound(rounds: int = 1, pause_s: float = 2.0) -> F32:
    pause = np.zeros(round(pause_s * 16_000), np.float32)
    return np.concatenate([np.concatenate((read_audio(demo_clip()), pause))] * rounds)


class Wire:
    """A run into a recording, with knobs turned on the way."""

    def __init__(self, engine: Engine, path: Path, samples: F32, start: dict[str, Any],
                 turns: dict[float, dict[str, Any]] | None = None, seed: int = 0,
                 avatar: Any = None) -> None:  # fmt: skip
        desk = Desk(Knobs(), engine.spec.styles)
        desk.update(start)
        waiting = sorted((turns or {}).items())

        def blocks() -> Any:
            for at in range(0, len(samples), BLOCK):
                while waiting and waiting[0][0] <= at / 16_000:
                    desk.update(waiting.pop(0)[1])
                yield samples[at : at + BLOCK]

        settings = Settings(fps=FPS, tail_s=0.0, seed=seed)
        pipeline = Pipeline(engine, [JsonlClient(path)], settings, desk, avatar)
        run_fast(pipeline, blocks())
        self.pipeline = pipeline
        lines = path.read_text("utf-8").splitlines()
        self.hello = lines[0]
        self.frames = [encode.decode_text(line) for line in lines[1:]]
        self.rotations = np.stack([frame.rotations for frame in self.frames])
        self.hips_m = np.stack([frame.hips_m for frame in self.frames])
        self.blends = [frame.blends for frame in self.frames]

    @property
    def wrists_m(self) -> F32:
        return joint_positions(self.rotations, HIPS_REST_M)[:, WRISTS]

    def speed_m_s(self) -> Any:
        return np.linalg.norm(np.diff(self.wrists_m, axis=0), axis=-1) * FPS


@pytest.fixture
def wire(engine: Engine, tmp_path: Path) -> Any:
    count = iter(range(99))

    def run(samples: F32, start: dict[str, Any], **options: Any) -> Wire:
        return Wire(engine, tmp_path / f"{next(count)}.jsonl", samples, start, **options)

    return run


STILL = {"life": 0.0}


def joint_speed(rotations: F32) -> Any:
    turn = multiply(rotations[1:], inverse(rotations[:-1]))
    return 2.0 * np.arctan2(np.linalg.norm(turn[..., :3], axis=-1), np.abs(turn[..., 3])) * FPS


def test_intensity_makes_gestures_larger_and_smaller(wire: Any) -> None:
    rest = joint_positions(np.array(rest_pose("sides")), HIPS_REST_M)[WRISTS]

    def reach(intensity: float) -> float:
        found = wire(sound(), {**STILL, "intensity": intensity})
        return float(np.median(np.linalg.norm(found.wrists_m - rest, axis=-1)))

    none, half, whole, more = (reach(x) for x in (0.0, 0.5, 1.0, 1.6))
    assert none < 0.02
    assert none < half < whole < more


def test_energy_decides_how_often_gestures_begin(wire: Any) -> None:
    speed = [
        float(wire(sound(3), {**STILL, "energy": energy}).speed_m_s().mean())
        for energy in (0.0, 1.0, 2.0)
    ]
    assert speed[0] < 0.3 * speed[1]
    assert speed[2] > speed[1]


def test_style_changes_the_speaker_while_it_runs(wire: Any) -> None:
    calm = wire(sound(4), {**STILL, "style": "calm"})
    turned = wire(sound(4), {**STILL, "style": "calm"}, turns={26.0: {"style": "lively"}})
    same = round(26.0 * FPS)
    np.testing.assert_array_equal(calm.rotations[:same], turned.rotations[:same])
    later = slice(same + 120, None)
    assert turned.speed_m_s()[later].mean() > 1.2 * calm.speed_m_s()[later].mean()


def test_smooth_softens(wire: Any) -> None:
    jerk = []
    for smooth in (0.0, 0.5, 1.0):
        places = wire(sound(), {**STILL, "smooth": smooth}).wrists_m
        jerk.append(float(np.linalg.norm(np.diff(places, 3, axis=0), axis=-1).mean()))
    assert jerk[1] < 0.85 * jerk[0]
    assert jerk[2] < 0.5 * jerk[0]


@pytest.mark.parametrize("hand", ["left", "right"])
def test_only_the_chosen_hand_gestures(wire: Any, hand: str) -> None:
    speed = wire(sound(), {**STILL, "handedness": hand}).speed_m_s().mean(axis=0)
    busy, idle = (speed[0], speed[1]) if hand == "left" else (speed[1], speed[0])
    assert busy > 4.0 * idle


def test_mirror_exchanges_left_and_right(wire: Any) -> None:
    plain = wire(sound(), STILL).rotations
    mirrored = wire(sound(), {**STILL, "mirror": True}).rotations
    image = plain[:, SWAPPED] * np.array((1.0, -1.0, -1.0, 1.0))
    # Two arms that push each other away may do so a little differently.
    assert np.quantile(np.abs(mirrored - image), 0.99) < 0.02


def test_parts_that_are_off_are_not_sent_to_avatar_programs(engine: Engine) -> None:
    """VMC datagrams on a real socket: arms and hands without the head, as face trackers need."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        desk = Desk(Knobs(parts=("arms", "hands"), face="full"), engine.spec.styles)
        client = OscClient("127.0.0.1", receiver.getsockname()[1])
        pipeline = Pipeline(engine, [client], Settings(fps=FPS), desk)
        pipeline.prepare()
        pipeline.open()

        def shown(k: int) -> set[str]:
            pipeline.emit(k / FPS)
            names: set[str] = set()
            while True:
                try:
                    packet = receiver.recv(65536)
                except BlockingIOError:
                    return names
                for message in OscBundle(packet):
                    first = message.params[0] if message.params else ""
                    names.add(message.address.rpartition("/")[0] + ":" + str(first))

        names = shown(0)
        bones = {name.partition(":")[2] for name in names if name.startswith("/VMC/Ext/Bone:")}
        assert bones == {BONE_NAMES[i] for part in ("arms", "hands") for i in PART_BONES[part]}
        assert "/VMC/Ext/Root:root" not in names
        assert not any(name.startswith("/VMC/Ext/Blend:A") for name in names)
        desk.set("parts", "arms,hands,head,face")
        names = shown(1)
        assert {"/VMC/Ext/Bone:Head", "/VMC/Ext/Blend:Blink"} <= names
        assert "/VMC/Ext/Bone:Hips" not in names
        desk.set("parts", "")
        assert not {n for n in shown(2) if n.startswith(("/VMC/Ext/Bone", "/VMC/Ext/Root"))}
        pipeline.close()


@pytest.mark.parametrize("name", ["sides", "front", "hips", "desk"])
def test_the_arms_rest_where_they_are_told(wire: Any, name: str) -> None:
    found = wire(np.zeros(5 * 16_000, np.float32), {**STILL, "rest_pose": name})
    wanted = joint_positions(np.array(rest_pose(name)), HIPS_REST_M)[WRISTS]
    assert np.linalg.norm(found.wrists_m[-1] - wanted, axis=-1).max() < 0.10
    # And gestures are nearly the same from every rest.
    speech = wire(sound(), {**STILL, "rest_pose": name}).wrists_m[120:500]
    plain = wire(sound(), STILL).wrists_m[120:500]
    raised = plain[..., 1].min(axis=1) > 1.05
    assert np.median(np.linalg.norm(speech - plain, axis=-1)[raised]) < 0.05


def test_life_moves_a_silent_avatar_and_can_be_switched_off(wire: Any) -> None:
    silence = np.zeros(6 * 16_000, np.float32)
    chest = BONE_INDEX["UpperChest"]
    alive, still = wire(silence, {}), wire(silence, STILL)
    breath = alive.rotations[120:, chest, 0] - still.rotations[120:, chest, 0]
    assert np.ptp(breath) > 0.005
    assert np.ptp(alive.hips_m[:, 0]) > 0.002
    np.testing.assert_array_equal(still.hips_m, np.tile(HIPS_REST_M, (len(still.hips_m), 1)))


def test_delay_shows_the_same_motion_later_and_is_reached_gently(wire: Any) -> None:
    plain = wire(sound(), STILL).rotations
    late = wire(sound(), {**STILL, "delay_ms": 500.0}).rotations
    # Shown later, newer predictions come in time: less has to be faded in.
    assert np.quantile(np.abs(late[60:600] - plain[30:570]), 0.95) < 0.04
    assert np.quantile(np.abs(late[60:600] - plain[60:600]), 0.95) > 0.05
    turned = wire(sound(), STILL, turns={3.0: {"delay_ms": 500.0}})
    times = np.array([frame.stream_time_s for frame in turned.frames])
    steps = np.diff(times)
    assert steps.min() > 0.5 / FPS  # slower for a while, never back
    assert times[-1] == pytest.approx(len(times) / FPS - 0.5 - 1 / FPS, abs=0.01)


@pytest.mark.parametrize(
    ("knobs", "loud"), [({"gate_db": -3.0}, False), ({"gain_db": 20.0}, True), ({}, False)]
)
def test_gain_and_gate_are_in_the_path_of_the_sound(
    wire: Any, knobs: dict[str, Any], loud: bool
) -> None:
    """A clip made so soft that the gate at any level shuts it out, or gain brings it back."""
    soft = sound() * np.float32(0.02)
    found = wire(soft, {**STILL, "face": "mouth", **knobs})
    assert (found.pipeline.level > 0.01) == (loud and found.pipeline.level > 0.01)
    opened = max(max(blend.values()) for blend in found.blends)
    assert (opened < 0.2) == ("gate_db" in knobs)


def test_a_gate_keeps_the_hands_still(wire: Any) -> None:
    shut = wire(sound(), {**STILL, "gate_db": 0.0}).speed_m_s().mean()
    assert shut < 0.2 * wire(sound(), STILL).speed_m_s().mean()


@pytest.mark.parametrize(
    ("face", "names"),
    [("none", set()), ("mouth", set("AIUEO")), ("full", {*"AIUEO", "Blink", "Joy"})],
)
def test_face_sends_what_is_asked_for(wire: Any, face: str, names: set[str]) -> None:
    found = wire(sound(), {"face": face})
    assert all(set(blend) == names for blend in found.blends)
    if names:
        openness = np.array([sum(blend[v] for v in "AIUEO") for blend in found.blends])
        assert openness[:660].max() > 0.5
        assert openness[700:].max() < 0.1  # the pause after the clip
    if "Blink" in names:
        assert max(blend["Blink"] for blend in found.blends) > 0.9


def test_the_tests_above_turn_every_knob() -> None:
    text = Path(__file__).read_text("utf-8")
    for knob in KNOBS:
        assert f'"{knob.name}"' in text or f"{knob.name}=" in text, knob.name


EXTREMES: dict[str, list[Any]] = {
    "style": ["calm", "lively"],
    "intensity": [0.0, 2.0],
    "energy": [0.0, 2.0],
    "smooth": [0.0, 1.0],
    "handedness": ["left", "right"],
    "mirror": [False, True],
    "parts": ["arms,hands", "arms,hands,head,torso,face"],
    "rest_pose": ["desk", "hips"],
    "life": [0.0, 2.0],
    "delay_ms": [0.0, 800.0],
    "gain_db": [-20.0, 20.0],
    "gate_db": ["off", -20.0],
    "face": ["none", "full"],
}


@pytest.mark.parametrize("knob", [knob.name for knob in KNOBS])
def test_turning_a_knob_never_makes_a_jump(wire: Any, knob: str) -> None:
    """From one end to the other every 0.8 s: no joint turns faster than the wildest gesture does,
    and no frame is out of the joints' ranges."""
    low, high = EXTREMES[knob]
    turns = {t: {knob: (low, high)[k % 2]} for k, t in enumerate(np.arange(2.0, 12.0, 0.8))}
    found = wire(sound(), {}, turns=turns)
    eyes = [BONE_INDEX["LeftEye"], BONE_INDEX["RightEye"]]
    body = [bone for bone in range(len(BONE_NAMES)) if bone not in eyes]
    if knob == "parts":  # a part that is off is at rest, which nobody is sent
        body = [i for i in body if i in PART_BONES["arms"] + PART_BONES["hands"]]
    assert joint_speed(found.rotations)[:, body].max() < 25.0
    assert np.abs(angles(found.rotations)).max() < 1.35  # contact may turn an arm a little further
    assert FADE_S > 0.5


def test_a_change_goes_over_in_place_and_speed(wire: Any) -> None:
    """The frame after a turn lies where the motion was going."""
    turned = wire(sound(), STILL, turns={4.0: {"mirror": True}}).rotations.astype(np.float64)
    at = round(4.0 * FPS)
    steps = np.linalg.norm(np.diff(turned[at - 20 : at + 20], n=2, axis=0), axis=-1).max(axis=1)
    assert steps[17:23].max() < 0.02
    np.testing.assert_array_less(0.05, np.abs(turned[at + 60] - turned[at]).max())


def test_nothing_is_changed_where_no_knob_asks_for_it() -> None:
    pose = np.array(rest_pose("desk"))
    np.testing.assert_array_equal(shaped(pose, shape_of(Knobs())), pose)


def test_an_avatars_skeleton_and_names_go_out(wire: Any, tmp_path: Path) -> None:
    offsets = np.float32(0.8) * REST_OFFSETS_M
    path = write_avatar(tmp_path / "me.vrm", offsets_m=offsets, leave_out=("UpperChest",))
    avatar = read_avatar(path)
    found = wire(sound(), {"face": "mouth"}, avatar=avatar)
    assert '"avatar":"Made Up"' in found.hello
    assert set(found.blends[0]) == {"aa", "ih", "ou", "ee", "oh"}  # a VRM 1 file's names
    upper = found.rotations[:, BONE_INDEX["UpperChest"]]
    np.testing.assert_array_equal(upper, np.tile((0, 0, 0, 1), (len(upper), 1)))
    assert found.hips_m[:, 1].mean() == pytest.approx(0.8 * HIPS_REST_M[1], abs=0.02)
