from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from ha2g_live.realtime import sources as sources_module
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.devices import DeviceInfo, find_device, format_devices
from ha2g_live.realtime.errors import AudioFileError, DeviceNotFound
from ha2g_live.realtime.sources import BLOCK_SAMPLES, FileSource
from ha2g_live.realtime.types import F32, AudioBlock
from tests.virtual_microphone import VirtualMicrophone, virtual_microphone

__all__ = ["virtual_microphone"]


def write(path: Path, samples: F32, rate_hz: int = 16_000) -> Path:
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    return path


def noise(count: int) -> F32:
    return np.random.default_rng(4).uniform(-0.5, 0.5, count).astype(np.float32)


class Collector:
    def __init__(self) -> None:
        self.blocks: list[AudioBlock] = []
        self.threads: set[str] = set()
        self.ends = 0
        self.ended = threading.Event()

    def on_block(self, block: AudioBlock) -> None:
        self.blocks.append(block)
        self.threads.add(threading.current_thread().name)

    def on_end(self) -> None:
        self.ends += 1
        self.ended.set()


def test_a_file_arrives_in_order_and_on_schedule_then_ends(tmp_path: Path) -> None:
    samples = noise(9700)
    source = FileSource(write(tmp_path / "noise.wav", samples))
    got = Collector()
    source.start(got.on_block, got.on_end)
    assert got.ended.wait(60.0)
    source.stop()
    assert source.name == "file noise.wav"
    assert source.failure() is None
    assert got.ends == 1
    assert got.threads == {"ha2g-file"}
    assert [len(block.samples) for block in got.blocks] == [BLOCK_SAMPLES] * 60 + [100]
    np.testing.assert_array_equal(np.concatenate([b.samples for b in got.blocks]), samples)
    # The capture times follow the sample count exactly, however late each block was.
    times_s = np.array([block.captured_at_s for block in got.blocks])
    ends = np.cumsum([len(block.samples) for block in got.blocks])
    np.testing.assert_allclose(times_s - times_s[0], (ends - BLOCK_SAMPLES) / 16_000, atol=1e-6)


def test_a_stopped_file_delivers_nothing_more(tmp_path: Path) -> None:
    source = FileSource(write(tmp_path / "noise.wav", noise(160_000)))
    got = Collector()
    first = threading.Event()

    def on_block(block: AudioBlock) -> None:
        got.on_block(block)
        first.set()

    source.start(on_block, got.on_end)
    assert first.wait(60.0)
    source.stop()
    count = len(got.blocks)
    assert count < 500
    time.sleep(0.1)
    assert len(got.blocks) == count
    assert got.ends == 0
    source.stop()


def test_after_a_long_sleep_a_file_goes_on_instead_of_catching_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0

    class SleepyClock:
        @staticmethod
        def perf_counter() -> float:
            return now_s

    monkeypatch.setattr(sources_module, "time", SleepyClock)
    got = Collector()

    def on_block(block: AudioBlock) -> None:
        nonlocal now_s
        got.on_block(block)
        now_s = block.captured_at_s + (60.0 if len(got.blocks) == 3 else 0.0)

    source = FileSource(write(tmp_path / "noise.wav", noise(BLOCK_SAMPLES * 6)))
    source.start(on_block, got.on_end)
    assert got.ended.wait(60.0)
    assert source.failure() is None
    times_s = [block.captured_at_s for block in got.blocks]
    np.testing.assert_allclose(times_s, [0.01, 0.02, 0.03, 60.03, 60.04, 60.05], atol=1e-6)


def test_a_bad_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="does not exist"):
        FileSource(tmp_path / "absent.wav").start(lambda block: None, lambda: None)


def test_a_bad_sample_later_ends_the_file_with_its_error(tmp_path: Path) -> None:
    samples = noise(20_000)
    samples[17_000] = np.nan
    source = FileSource(write(tmp_path / "nan.wav", samples))
    got = Collector()
    source.start(got.on_block, got.on_end)
    assert got.ended.wait(60.0)
    source.stop()
    assert isinstance(source.failure(), AudioFileError)
    assert "sample 17000" in str(source.failure())
    assert got.ends == 1
    assert all(np.isfinite(block.samples).all() for block in got.blocks)


def test_an_error_of_the_receiver_reaches_the_owner(tmp_path: Path) -> None:
    source = FileSource(write(tmp_path / "noise.wav", noise(1000)))
    got = Collector()

    def on_block(block: AudioBlock) -> None:
        raise RuntimeError("no room")

    source.start(on_block, got.on_end)
    assert got.ended.wait(60.0)
    assert str(source.failure()) == "no room"


DEVICES = [
    DeviceInfo(0, "HDA Intel PCH: ALC257 Analog (hw:0,0)", 48_000, 2, "ALSA", False),
    DeviceInfo(4, "USB Audio CODEC: - (hw:1,0)", 44_100, 2, "ALSA", False),
    DeviceInfo(7, "USB Headset: Audio (hw:2,0)", 48_000, 1, "ALSA", False),
    DeviceInfo(9, "default", 44_100, 32, "ALSA", True),
]
LONG = "Microphone (Focusrite USB Audio Interface)"
WINDOWS = [
    DeviceInfo(1, LONG[:31], 44_100, 2, "MME", False),
    DeviceInfo(5, LONG, 44_100, 2, "Windows DirectSound", False),
    DeviceInfo(9, LONG, 48_000, 2, "Windows WASAPI", True),
    DeviceInfo(12, LONG, 48_000, 2, "Windows WDM-KS", False),
    DeviceInfo(13, "Stereo Mix", 48_000, 2, "Windows WDM-KS", False),
]


@pytest.mark.parametrize(
    ("asked", "devices", "index"),
    [
        ("default", DEVICES, 9),
        (" Default ", WINDOWS, 9),
        ("4", DEVICES, 4),
        ("headset", DEVICES, 7),
        ("usb audio codec: - (hw:1,0)", DEVICES, 4),
        ("focusrite", WINDOWS, 9),
        ("interface), windows directsound", WINDOWS, 5),
        ("mix", WINDOWS, 13),
    ],
)
def test_a_device_is_found_by_default_index_or_name(
    asked: str, devices: list[DeviceInfo], index: int
) -> None:
    assert find_device(asked, devices).index == index


@pytest.mark.parametrize(
    ("asked", "devices", "says"),
    [
        ("usb", DEVICES, ["fits several", "4 'USB Audio CODEC", "7 'USB Headset", "index"]),
        ("usb headphones", DEVICES, ["'usb headphones'", "7 'USB Headset", "ha2g-live devices"]),
        ("zzz", DEVICES, ["'zzz'", "0 'HDA Intel", "ha2g-live devices"]),
        ("3", DEVICES, ["index 3", "ha2g-live devices"]),
        ("default", [], ["no microphone found", "plug one in"]),
        (
            "twin",
            [DeviceInfo(i, "Twin", 48_000, 1, "Core Audio", False) for i in (0, 1)],
            ["fits several", "0 'Twin'", "1 'Twin'"],
        ),
    ],
)
def test_an_unknown_or_ambiguous_device_is_one_clear_line(
    asked: str, devices: list[DeviceInfo], says: list[str]
) -> None:
    with pytest.raises(DeviceNotFound) as caught:
        find_device(asked, devices)
    message = str(caught.value)
    assert "\n" not in message
    for text in says:
        assert text in message


def test_the_table_of_devices() -> None:
    lines = format_devices(DEVICES).splitlines()
    assert len(lines) == 5
    assert lines[0].split() == ["index", "name", "host", "rate", "channels"]
    assert lines[4].split() == ["*", "9", "default", "ALSA", "44100", "Hz", "32"]
    assert "no microphone found" in format_devices([])


# The real microphone: the program runs in a process of its own (see virtual_microphone.py), writes
# what it captures as raw float32 to a file, and events as JSON lines to its output.

RECORDER = """
import json, logging, sys, threading
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.sources import BLOCK_SAMPLES, MicrophoneSource

def say(**event):
    print(json.dumps(event), flush=True)

class Say(logging.Handler):
    def emit(self, record):
        say(event="log", text=record.getMessage())

logging.getLogger().addHandler(Say())
device, path = sys.argv[1:]
times = []
with open(path, "wb", buffering=0) as file:
    def on_block(block):
        assert block.samples.dtype == "float32" and block.samples.ndim == 1
        file.write(block.samples.tobytes())
        times.append(block.captured_at_s)

    source = MicrophoneSource(device)
    try:
        source.start(on_block, lambda: say(event="end"))
    except Ha2gError as error:
        say(event="error", kind=type(error).__name__, text=str(error))
        sys.exit(2)
    say(event="open", name=source.name, threads=sorted(t.name for t in threading.enumerate()))
    for line in sys.stdin:
        if line.strip() == "stop":
            break
        say(event="state", state=source.state, blocks=len(times))
    source.stop()
blocks = len(times)
say(event="stopped", xruns=source.xruns, dropped=source.dropped_blocks, blocks=blocks,
    bad=source.bad_samples, failure=repr(source.failure()), times_sorted=times == sorted(times),
    threads=sorted(t.name for t in threading.enumerate()))
"""


class Recorder:
    """A process that records the microphone."""

    def __init__(self, microphone: VirtualMicrophone, device: str, folder: Path) -> None:
        self.path = folder / "captured.f32"
        script = folder / "recorder.py"
        script.write_text(RECORDER)
        self.process = subprocess.Popen(
            [sys.executable, str(script), device, str(self.path)],
            env=microphone.environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.events: list[dict[str, Any]] = []

    def event(self, kind: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == kind:
                return self.events[-1]
        raise AssertionError(f"no event {kind!r}: {self.events}")

    def ask(self, what: str, answer: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.event(answer)

    def until(self, holds: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 60.0
        while not holds():
            assert time.monotonic() < deadline_s, (self.events, len(self.samples()))
            time.sleep(0.05)

    def samples(self) -> F32:
        data = self.path.read_bytes()
        return np.frombuffer(data[: len(data) // 4 * 4], dtype=np.float32)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.wait()


def best_match(captured: F32, played: F32) -> tuple[float, int]:
    """Largest normalised correlation of ``played`` with any stretch of ``captured``, and where."""
    size = 1 << (len(captured) + len(played)).bit_length()
    spectrum = np.fft.rfft(captured, size) * np.conj(np.fft.rfft(played, size))
    dots = np.fft.irfft(spectrum, size)[: len(captured) - len(played) + 1]
    energy = np.concatenate(([0.0], np.cumsum(captured.astype(np.float64) ** 2)))
    norms = np.sqrt(np.maximum(energy[len(played) :] - energy[: -len(played)], 1e-9))
    scores = dots / (norms * np.linalg.norm(played))
    at = int(np.argmax(scores))
    return float(scores[at]), at


def upsampled(samples: F32) -> F32:
    """Eight times the rate: played and captured sound may lie apart by a fraction of a sample."""
    out: F32 = soxr.resample(samples, 16_000, 128_000)
    return out


def speech(path: Path, seconds: float = 2.0) -> F32:
    samples = read_audio(demo_clip())[: int(16_000 * seconds)]
    write(path, samples)
    return samples


def heard(recorder: Recorder, played: F32) -> bool:
    captured = recorder.samples()
    return len(captured) > len(played) and best_match(captured, played)[0] > 0.9


def test_the_microphone_delivers_what_is_spoken_to_it(
    virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    played = speech(tmp_path / "speech.wav")
    recorder = Recorder(virtual_microphone, "default", tmp_path)
    try:
        opened = recorder.event("open")
        assert opened["name"] == "microphone default"
        assert {"ha2g-mic", "ha2g-mic-device"} <= set(opened["threads"])
        virtual_microphone.play(tmp_path / "speech.wav")
        recorder.until(lambda: heard(recorder, played))
        assert recorder.ask("state", "state")["state"] == ""
        end = recorder.ask("stop", "stopped")
        assert recorder.process.wait(60.0) == 0
    finally:
        recorder.close()
    captured, fine = upsampled(recorder.samples()), upsampled(played)
    score, at = best_match(captured, fine)
    gain = float(np.dot(captured[at : at + len(fine)], fine) / np.dot(fine, fine))
    print(f"correlation {score:.5f}, gain {gain:.4f}, {end}")  # noqa: T201
    assert score > 0.99
    assert gain == pytest.approx(1.0, abs=0.05)
    assert end["bad"] == 0
    assert end["dropped"] == 0
    assert end["failure"] == "None"
    assert end["times_sorted"]
    assert "ha2g-mic" not in end["threads"]
    assert "ha2g-mic-device" not in end["threads"]


def test_an_unplugged_microphone_is_silence_until_it_is_back(
    virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    played = speech(tmp_path / "speech.wav")
    recorder = Recorder(virtual_microphone, "default", tmp_path)
    try:
        recorder.event("open")
        virtual_microphone.play(tmp_path / "speech.wav")
        recorder.until(lambda: heard(recorder, played))
        virtual_microphone.stop()
        assert "is lost" in recorder.event("log")["text"]
        lost_at = len(recorder.samples())
        assert recorder.ask("state", "state")["state"] == "microphone lost, waiting"
        recorder.until(lambda: len(recorder.samples()) > lost_at + 32_000)
        assert not recorder.samples()[lost_at + 640 :].any()
        virtual_microphone.start()
        assert recorder.event("log")["text"] == "microphone is back: default"
        back_at = len(recorder.samples())
        virtual_microphone.play(tmp_path / "speech.wav")
        recorder.until(
            lambda: (
                len(recorder.samples()) - back_at > len(played)
                and best_match(recorder.samples()[back_at:], played)[0] > 0.9
            )
        )
        assert recorder.ask("state", "state")["state"] == ""
        end = recorder.ask("stop", "stopped")
        assert recorder.process.wait(60.0) == 0
    finally:
        recorder.close()
    assert end["failure"] == "None"
    logs = [event["text"] for event in recorder.events if event["event"] == "log"]
    assert len(logs) == 2


def test_a_microphone_that_hangs_is_silence_until_it_goes_on(
    virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    recorder = Recorder(virtual_microphone, "default", tmp_path)
    try:
        recorder.event("open")
        recorder.until(lambda: len(recorder.samples()) > 0)
        virtual_microphone.freeze()
        assert "is lost" in recorder.event("log")["text"]
        lost_at = len(recorder.samples())
        recorder.until(lambda: len(recorder.samples()) > lost_at + 16_000)
        virtual_microphone.thaw()
        assert recorder.event("log")["text"] == "microphone is back: default"
        # A driver that hangs for good must not keep the program from ending.
        virtual_microphone.freeze()
        recorder.ask("stop", "stopped")
        assert recorder.process.wait(60.0) == 0
    finally:
        recorder.close()


def test_samples_that_are_no_sound_become_silence(
    virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    samples = 0.6 * np.stack([noise(96_000)] * 2, axis=1)
    samples[48_000:48_100] = np.nan
    samples[60_000:60_010] = np.inf
    write(tmp_path / "bad.wav", samples, 48_000)
    recorder = Recorder(virtual_microphone, "default", tmp_path)
    try:
        recorder.event("open")
        recorder.until(lambda: len(recorder.samples()) > 0)
        assert virtual_microphone.play(tmp_path / "bad.wav").wait(60.0) == 0
        end_at = len(recorder.samples()) + 16_000
        recorder.until(lambda: len(recorder.samples()) > end_at)
        end = recorder.ask("stop", "stopped")
    finally:
        recorder.close()
    assert end["bad"] > 0
    captured = recorder.samples()
    assert np.isfinite(captured).all()
    assert 0.1 < np.abs(captured).max() < 1.0


def test_a_lost_microphone_can_be_stopped(
    virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    recorder = Recorder(virtual_microphone, "default", tmp_path)
    try:
        recorder.event("open")
        recorder.until(lambda: len(recorder.samples()) > 0)
        virtual_microphone.stop()
        recorder.event("log")
        end = recorder.ask("stop", "stopped")
        assert recorder.process.wait(60.0) == 0
    finally:
        recorder.close()
    assert end["failure"] == "None"
    assert "ha2g-mic-device" not in end["threads"]


@pytest.mark.parametrize(
    ("plugged", "device", "kind", "says"),
    [
        (True, "Studio Microphone", "DeviceNotFound", "'Studio Microphone'"),
        (True, "99", "DeviceNotFound", "index 99"),
        (False, "default", "DeviceNotFound", "no microphone found"),
    ],
)
def test_a_microphone_that_is_not_there_is_one_clear_line(
    virtual_microphone: VirtualMicrophone,
    tmp_path: Path,
    plugged: bool,
    device: str,
    kind: str,
    says: str,
) -> None:
    if not plugged:
        virtual_microphone.stop()
    recorder = Recorder(virtual_microphone, device, tmp_path)
    try:
        error = recorder.event("error")
        assert recorder.process.wait(60.0) == 2
    finally:
        recorder.close()
    assert error["kind"] == kind
    assert says in error["text"]
    assert "\n" not in error["text"]


def test_without_portaudio_the_message_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    code = (
        "from ha2g_live.realtime.errors import AudioError\n"
        "from ha2g_live.realtime.sources import MicrophoneSource, list_devices\n"
        "for call in (list_devices, lambda: MicrophoneSource().start(print, print)):\n"
        "    try:\n"
        "        call()\n"
        "    except AudioError as error:\n"
        "        print(error)\n"
    )
    (tmp_path / "program.py").write_text(code)
    run = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stderr
    assert len(lines) == 2
    for line in lines:
        for words in ("libportaudio2", "dnf install portaudio", "pacman -S portaudio"):
            assert words in line
