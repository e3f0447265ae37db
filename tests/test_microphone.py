"""The microphone's own decisions, on a scripted device; ``test_sources`` runs real ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ha2g_live.realtime import capture as capture_module
from ha2g_live.realtime import microphone as microphone_module
from ha2g_live.realtime.capture import HANDOVER_BLOCKS, Capture
from ha2g_live.realtime.devices import DeviceInfo
from ha2g_live.realtime.errors import AudioError
from ha2g_live.realtime.microphone import MicrophoneSource
from ha2g_live.realtime.types import F32, AudioBlock

INVALID_RATE, INVALID_CHANNELS, UNAVAILABLE = -9997, -9998, -9985
LAPTOP = DeviceInfo(0, "Laptop", 16_000.0, 1, "Test", True)
HEADSET = DeviceInfo(1, "Headset", 16_000.0, 1, "Test", False)
STUDIO = DeviceInfo(2, "Studio", 192_000.0, 8, "Test", False)


class PortAudioError(Exception):
    pass


class FakePortAudio:
    """Devices that open when they are plugged in; the test calls their callbacks."""

    PortAudioError = PortAudioError
    _lib = SimpleNamespace(paInvalidSampleRate=INVALID_RATE, paInvalidChannelCount=INVALID_CHANNELS)

    def __init__(self, refuse: Callable[[int, float, int], int] = lambda *_: 0) -> None:
        self.refuse = refuse
        self.tried: list[tuple[float, int]] = []
        self.streams: list[FakeStream] = []
        self.opened = threading.Condition()

    def query_devices(self, index: int) -> dict[str, float]:
        return {"default_low_input_latency": 0.01}

    def InputStream(self, **settings: Any) -> FakeStream:
        rate_hz, channels = settings["samplerate"], settings["channels"]
        self.tried.append((rate_hz, channels))
        code = self.refuse(settings["device"], rate_hz, channels)
        if code:
            raise PortAudioError("refused", code)
        stream = FakeStream(settings, self)
        with self.opened:
            self.streams.append(stream)
            self.opened.notify_all()
        return stream

    def stream(self, number: int) -> FakeStream:
        with self.opened:
            assert self.opened.wait_for(lambda: len(self.streams) > number, 60.0)
        return self.streams[number]


class FakeStream:
    def __init__(self, settings: dict[str, Any], portaudio: FakePortAudio) -> None:
        self.device = settings["device"]
        self.samplerate = settings["samplerate"]
        self.channels = settings["channels"]
        self.callback = settings["callback"]
        self.vanish = settings["finished_callback"]
        self.closed = threading.Event()

    def start(self) -> None:
        pass

    def close(self) -> None:
        self.closed.set()

    def speak(self, frames: F32, overflow: bool = False) -> None:
        times = SimpleNamespace(currentTime=0.0, inputBufferAdcTime=0.0)
        status = SimpleNamespace(input_overflow=True) if overflow else None
        self.callback(frames, len(frames), times, status)


class Collector:
    def __init__(self) -> None:
        self.samples: list[float] = []
        self.changed = threading.Condition()
        self.ends = 0

    def on_block(self, block: AudioBlock) -> None:
        with self.changed:
            self.samples.extend(block.samples.tolist())
            self.changed.notify_all()

    def on_end(self) -> None:
        with self.changed:
            self.ends += 1
            self.changed.notify_all()

    def wait(self, holds: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, 60.0)


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> FakePortAudio:
    fake = FakePortAudio()
    monkeypatch.setattr(capture_module, "load_portaudio", lambda: fake)
    monkeypatch.setattr(microphone_module, "restart_portaudio", lambda: None)
    monkeypatch.setattr(microphone_module, "RETRY_S", 0.01)
    return fake


def plug(monkeypatch: pytest.MonkeyPatch, *devices: DeviceInfo) -> None:
    monkeypatch.setattr(microphone_module, "list_devices", lambda: list(devices))


def full(value: float, frames: int = 160, channels: int = 1) -> F32:
    return np.full((frames, channels), value, dtype=np.float32)


def test_a_device_with_many_channels_at_192_khz_is_opened_with_two(
    portaudio: FakePortAudio,
) -> None:
    capture = Capture(STUDIO)
    assert portaudio.tried == [(192_000.0, 2)]
    assert capture.rate_hz == 192_000.0


def test_a_device_that_takes_only_all_its_channels_is_mixed_from_the_first_two(
    portaudio: FakePortAudio,
) -> None:
    portaudio.refuse = lambda device, rate_hz, channels: (
        0 if (rate_hz, channels) == (48_000.0, 8) else INVALID_CHANNELS
    )
    capture = Capture(STUDIO)
    assert portaudio.tried[-1] == (48_000.0, 8)
    assert capture.rate_hz == 48_000.0
    portaudio.stream(0).speak(np.arange(80, dtype=np.float32).reshape(10, 8))
    taken = capture.take(0.0)
    assert taken is not None
    np.testing.assert_array_equal(taken[0][:, 1], np.arange(1, 80, 8))
    assert taken[0].shape == (10, 2)


def test_a_device_in_use_is_one_clear_line_after_one_attempt(portaudio: FakePortAudio) -> None:
    portaudio.refuse = lambda device, rate_hz, channels: UNAVAILABLE
    with pytest.raises(AudioError, match="'Studio' cannot be opened") as caught:
        Capture(STUDIO)
    assert "\n" not in str(caught.value)
    assert len(portaudio.tried) == 1


def test_the_hand_over_is_bounded_and_drops_the_oldest(portaudio: FakePortAudio) -> None:
    capture = Capture(LAPTOP)
    frames = full(0.0)
    for number in range(HANDOVER_BLOCKS + 3):
        frames[:] = number
        portaudio.stream(0).speak(frames, overflow=number < 2)
    assert (capture.dropped, capture.xruns) == (3, 2)
    taken = capture.take(0.0)
    assert taken is not None
    assert taken[0][0, 0] == 3.0
    for _ in range(HANDOVER_BLOCKS - 1):
        assert capture.take(0.0) is not None
    assert capture.take(0.0) is None


def test_bad_samples_are_silenced_and_counted(
    portaudio: FakePortAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(monkeypatch, LAPTOP)
    got = Collector()
    source = MicrophoneSource("laptop")
    source.start(got.on_block, got.on_end)
    frames = full(0.25, frames=6)
    frames[:3, 0] = (np.nan, np.inf, 1e30)
    portaudio.stream(0).speak(frames, overflow=True)
    got.wait(lambda: len(got.samples) == 6)
    assert got.samples == [0.0, 0.0, 0.0, 0.25, 0.25, 0.25]
    assert source.name == "microphone Laptop"
    assert (source.bad_samples, source.xruns, source.dropped_blocks) == (3, 1, 0)
    source.stop()
    assert portaudio.stream(0).closed.is_set()
    assert (source.failure(), got.ends) == (None, 0)


def test_a_microphone_of_zeros_is_reported_as_muted(
    portaudio: FakePortAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(monkeypatch, LAPTOP)
    got = Collector()
    source = MicrophoneSource()
    source.start(got.on_block, got.on_end)
    portaudio.stream(0).speak(full(0.0, frames=60_000))
    got.wait(lambda: len(got.samples) == 60_000)
    assert "only silence" in source.state
    portaudio.stream(0).speak(full(0.1))
    got.wait(lambda: len(got.samples) == 60_160)
    assert source.state == ""
    source.stop()


def test_a_named_microphone_that_comes_back_is_used_again(
    portaudio: FakePortAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(monkeypatch, LAPTOP, HEADSET)
    got = Collector()
    source = MicrophoneSource("headset")
    source.start(got.on_block, got.on_end)
    portaudio.stream(0).speak(full(0.5), overflow=True)
    got.wait(lambda: len(got.samples) == 160)
    plug(monkeypatch, LAPTOP)
    portaudio.stream(0).vanish()
    got.wait(lambda: got.samples[160:].count(0.0) >= 3200)
    assert source.state == "microphone lost, waiting"
    assert len(portaudio.streams) == 1
    # Its index has changed, its name has not.
    plug(monkeypatch, LAPTOP, DeviceInfo(7, "Headset", 16_000.0, 1, "Test", False))
    again = portaudio.stream(1)
    assert again.device == 7
    again.speak(full(0.75))
    got.wait(lambda: 0.75 in got.samples)
    assert (source.state, source.xruns) == ("", 1)
    source.stop()
    assert all(stream.closed.is_set() for stream in portaudio.streams)


def test_a_named_microphone_that_stays_away_is_replaced_by_the_default(
    portaudio: FakePortAudio,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(microphone_module, "FALLBACK_AFTER_S", 0.0)
    plug(monkeypatch, LAPTOP, HEADSET)
    got = Collector()
    source = MicrophoneSource("headset")
    source.start(got.on_block, got.on_end)
    portaudio.stream(0).speak(full(0.5))
    plug(monkeypatch, LAPTOP)
    portaudio.stream(0).vanish()
    assert portaudio.stream(1).device == LAPTOP.index
    portaudio.stream(1).speak(full(0.75))
    got.wait(lambda: 0.75 in got.samples)
    assert source.name == "microphone Laptop"
    source.stop()
    texts = [record.getMessage() for record in caplog.records]
    assert texts == [
        "microphone Headset is lost: the avatar rests until it is back",
        "microphone Headset is not back: using Laptop",
    ]


def test_an_error_of_the_receiver_reaches_the_owner_once(
    portaudio: FakePortAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(monkeypatch, LAPTOP)
    got = Collector()

    def on_block(block: AudioBlock) -> None:
        raise RuntimeError("no room")

    source = MicrophoneSource()
    source.start(on_block, got.on_end)
    portaudio.stream(0).speak(full(0.5))
    got.wait(lambda: got.ends > 0)
    source.stop()
    assert str(source.failure()) == "no room"
    assert got.ends == 1
