"""The installed command, with real sound, real sockets, the bundled model and foreign receivers."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pythonosc.osc_bundle import OscBundle
from websockets.sync.client import connect

from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.humanoid import BONE_INDEX, BONE_NAMES, HIPS_REST_M, joint_positions
from ha2g_live.realtime.types import F32
from tests.virtual_microphone import open_virtual_microphone

CLI = [sys.executable, "-m", "ha2g_live.realtime.cli"]
WRISTS = [BONE_INDEX["LeftHand"], BONE_INDEX["RightHand"]]


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def short_clip(folder: Path, seconds: float) -> Path:
    path = folder / "short.wav"
    soundfile.write(path, read_audio(demo_clip())[: int(seconds * 16_000)], 16_000)
    return path


def wrist_travel_m(rotations: F32) -> np.ndarray[Any, Any]:
    """(frames - 1,) way of both wrists from frame to frame."""
    hips = np.broadcast_to(HIPS_REST_M, (len(rotations), 3)).astype(np.float32)
    wrists = joint_positions(rotations, hips)[:, WRISTS]
    return np.asarray(np.linalg.norm(np.diff(wrists, axis=0), axis=-1).sum(axis=1))


class OscReceiver:
    """Collects (arrival time, rotations) of every frame that comes over UDP."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.2)
        self.port = int(self.socket.getsockname()[1])
        self.times_s: list[float] = []
        self.frames: list[F32] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="test-osc")
        self._thread.start()

    def _run(self) -> None:
        bones: dict[str, tuple[float, ...]] = {}
        while not self._done.is_set():
            try:
                datagram = self.socket.recv(65536)
            except TimeoutError:
                continue
            for message in OscBundle(datagram):
                if message.address == "/VMC/Ext/Bone/Pos":
                    bones[message.params[0]] = tuple(message.params[4:])
                elif message.address == "/VMC/Ext/T" and len(bones) == len(BONE_NAMES):
                    self.frames.append(np.array([bones[n] for n in BONE_NAMES], np.float32))
                    self.times_s.append(time.monotonic())

    def close(self) -> None:
        self._done.set()
        self._thread.join()
        self.socket.close()


def test_oscdump_shows_the_demo() -> None:
    oscdump = shutil.which("oscdump")
    if oscdump is None:
        pytest.skip("oscdump is not installed (Debian: liblo-tools)")
    port = free_port(socket.SOCK_DGRAM)
    dump = subprocess.Popen([oscdump, "-L", str(port)], stdout=subprocess.PIPE, text=True)
    lines: list[list[str]] = []
    assert dump.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(li.split() for li in dump.stdout or ()))
    reader.start()
    try:
        run = [*CLI, "--demo", "--no-view", "--quiet", "--osc", f"127.0.0.1:{port}"]
        subprocess.run([*run, "--duration-s", "3", "--tail-s", "0"], check=True, timeout=120)
        time.sleep(0.5)
    finally:
        dump.terminate()
        dump.wait(10)
        reader.join(10)
        dump.stdout.close()
    frames = sum(line[1] == "/VMC/Ext/T" for line in lines)
    bones = [line for line in lines if line[1] == "/VMC/Ext/Bone/Pos"]
    assert {line[3].strip('"') for line in bones} == set(BONE_NAMES)
    assert {line[2] for line in bones} == {"sfffffff"}
    assert len(bones) == 55 * frames
    # 3 s at 60 frames a second; a busy machine may miss some, never make more.
    assert 60 < frames <= 182


def test_a_websocket_viewer_gets_the_hello_and_every_frame_in_order(tmp_path: Path) -> None:
    port = free_port(socket.SOCK_STREAM)
    clip = short_clip(tmp_path, 3.0)
    stats = tmp_path / "stats.json"
    run = [*CLI, "--audio", str(clip), "--ws", str(port), "--quiet", "--stats", str(stats)]
    process = subprocess.Popen(run)
    frames: list[dict[str, Any]] = []
    try:
        deadline_s = time.monotonic() + 60
        while True:
            try:
                viewer = connect(f"ws://127.0.0.1:{port}", compression=None)
                break
            except OSError:
                assert time.monotonic() < deadline_s, "the server did not open"
                time.sleep(0.02)
        with viewer:
            hello = json.loads(viewer.recv(timeout=20))
            for message in viewer:
                frames.append(json.loads(message))
    finally:
        process.wait(60)
    assert process.returncode == 0
    assert hello["type"] == "hello"
    seqs = [frame["seq"] for frame in frames if frame["type"] == "frame"]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    summary = json.loads(stats.read_text())
    assert seqs[-1] == summary["frames"] - 1
    times_s = [frame["stream_time_s"] for frame in frames if frame["type"] == "frame"]
    assert times_s == sorted(times_s)
    assert summary["motion"]["bad_directions"] == 0
    assert summary["motion"]["frames_outside_human_limits"] == 0


def test_fast_run_records_every_frame_the_same_each_time(tmp_path: Path) -> None:
    clip = short_clip(tmp_path, 4.0)
    texts = []
    for name in ("one", "two"):
        out = tmp_path / f"{name}.jsonl"
        run = [*CLI, "--audio", str(clip), "--fast", "--quiet", "--seed", "5"]
        subprocess.run([*run, "--record", str(out), "--tail-s", "1"], check=True, timeout=120)
        texts.append(out.read_text())
    assert texts[0] == texts[1]
    lines = [json.loads(line) for line in texts[0].splitlines()]
    assert lines[0]["type"] == "hello"
    assert [line["seq"] for line in lines[1:]] == list(range(5 * 60))


def test_hands_move_while_a_voice_speaks_into_the_microphone(tmp_path: Path) -> None:
    """Real PortAudio: at least five times the way per second of the silence that follows."""
    speech = tmp_path / "speech.wav"
    soundfile.write(speech, np.tile(read_audio(demo_clip()), 2), 16_000)
    with open_virtual_microphone(tmp_path / "microphone") as microphone:
        receiver = OscReceiver()
        run = [*CLI, "--mic", "default", "--osc", f"127.0.0.1:{receiver.port}", "--quiet"]
        process = subprocess.Popen(run, env=microphone.environment)
        try:
            deadline_s = time.monotonic() + 60
            while not receiver.frames and time.monotonic() < deadline_s:
                time.sleep(0.05)
            assert receiver.frames, "nothing came over the wire"
            time.sleep(2.0)  # the avatar comes to rest
            speaks_s = time.monotonic()
            assert microphone.play(speech).wait(60) == 0
            silent_s = time.monotonic()
            time.sleep(8.0)
            end_s = time.monotonic()
        finally:
            process.terminate()
            process.wait(30)
            receiver.close()
    arrival_s = np.array(receiver.times_s)[1:]
    travel_m = wrist_travel_m(np.stack(receiver.frames))
    spoken = (arrival_s > speaks_s) & (arrival_s < silent_s)
    silent = (arrival_s > silent_s + 2.5) & (arrival_s < end_s)  # the hands are back by then
    spoken_m_s = travel_m[spoken].sum() / (silent_s - speaks_s)
    silent_m_s = travel_m[silent].sum() / (end_s - silent_s - 2.5)
    assert spoken_m_s > 0.1
    assert spoken_m_s > 5 * silent_m_s


@pytest.mark.parametrize("style", ["natural", "calm", "lively", "shy"])
def test_ten_minutes_of_speech_and_pauses_stay_human(style: str) -> None:
    """Run as fast as possible: hands move on speech, rest in silence, nothing drifts or freezes."""
    from ha2g_live.engines import open_engine
    from ha2g_live.realtime.joint_limits import limit
    from ha2g_live.realtime.limits import outside
    from ha2g_live.realtime.retarget import to_directions, to_rotations
    from ha2g_live.realtime.stepper import advance, initial_state
    from ha2g_live.training.units import wrist_speed_m_s

    speech = read_audio(demo_clip())
    pause = np.zeros(9 * 16_000, np.float32)
    rounds = 30
    engine = open_engine()
    state = initial_state(engine.spec, style, seed=11)
    spoken: list[float] = []
    rested: list[float] = []
    for _ in range(rounds):
        for samples, speeds in ((speech, spoken), (pause, rested)):
            chunks, state = advance(engine, samples, state)
            poses = to_directions(limit(to_rotations(np.stack([c.directions[0] for c in chunks]))))
            assert not outside(poses).any()
            assert np.linalg.norm(poses, axis=-1) == pytest.approx(1.0, abs=1e-3)
            keep = poses[45:] if speeds is rested else poses  # 3 s to come back to rest
            speeds.append(float(wrist_speed_m_s(keep, 15.0).mean()))
    assert state.heard_samples > 595 * 16_000
    spoken_m_s, rested_m_s = np.array(spoken), np.array(rested)
    assert np.median(spoken_m_s) > 4 * np.median(rested_m_s)
    assert rested_m_s.min() > 0.0005, "a living rest is not a freeze"
    # No drift: the last third moves like the first.
    first, last = spoken_m_s[: rounds // 3].mean(), spoken_m_s[-rounds // 3 :].mean()
    assert 0.5 < last / first < 2.0
