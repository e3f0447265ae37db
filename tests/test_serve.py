"""The server of many streams: real sockets, real sound, the real model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ha2g_live.clients import serve
from ha2g_live.clients.encode import ReceivedFrame, decode
from ha2g_live.clients.serve import StreamServer, pcm16
from ha2g_live.engines import open_engine
from ha2g_live.realtime import stepper
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.cli import main
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.hall import STORE_SAMPLES, Full, Hall
from ha2g_live.realtime.knobs import Knobs
from ha2g_live.realtime.timebase import samples_heard_at
from ha2g_live.realtime.types import F32
from tests.fakes import EchoEngine, ListClient

TOKEN = "secret"
BLOCK = 320
SPEECH = read_audio(demo_clip())


class Served:
    """A server in a thread of its own."""

    def __init__(self, hall: Hall, token: str = TOKEN) -> None:
        self.hall = hall
        self.server = StreamServer(hall, "127.0.0.1", 0, token)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(60)

    def _run(self) -> None:
        async def serve() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            await self.server.run(self._ready.set, self._stop)

        asyncio.run(serve())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def connect(self) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.server.port}/", compression=None)


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served(Hall(open_engine(), fps=30, max_streams=3))
    yield made
    made.close()
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"ha2g-steps", "ha2g-frames"}


def begin(server: Served, **said: Any) -> tuple[ClientConnection, dict[str, Any]]:
    socket = server.connect()
    start = {"type": "start", "token": TOKEN, "format": "binary", **said}
    socket.send(json.dumps(start))
    return socket, json.loads(socket.recv(10))


def talk(socket: ClientConnection, samples: F32) -> None:
    """Send in real time."""
    whole = (samples * 32767).astype("<i2")
    started_s = time.monotonic()
    for at in range(0, len(whole), BLOCK):
        with contextlib.suppress(ConnectionClosed):
            socket.send(whole[at : at + BLOCK].tobytes())
        time.sleep(max(0.0, started_s + (at + BLOCK) / 16_000 - time.monotonic()))


def messages_of(socket: ClientConnection, for_s: float = 1.0) -> list[str | bytes]:
    """What has come and comes within a second: frames never end."""
    found: list[str | bytes] = []
    until_s = time.monotonic() + for_s
    with contextlib.suppress(TimeoutError, ConnectionClosed):
        while time.monotonic() < until_s:
            found.append(socket.recv(until_s - time.monotonic()))
    return found


def frames_of(socket: ClientConnection) -> list[ReceivedFrame]:
    found = [decode(message) for message in messages_of(socket) if isinstance(message, bytes)]
    return [frame for frame in found if isinstance(frame, ReceivedFrame)]


def test_each_speaker_gets_its_own_motion(served: Served) -> None:
    """Two voices, one silent: the speaking avatars move, the silent one rests."""
    clip = read_audio(demo_clip())[: 4 * 16_000]
    streams = [begin(served, seed=n, knobs={"life": 0.0}) for n in range(3)]
    assert all(hello["type"] == "hello" and hello["fps"] == 30.0 for _, hello in streams)
    sounds = [clip, np.zeros_like(clip), np.roll(clip, 8000)]
    senders = [
        threading.Thread(target=talk, args=(socket, sound))
        for (socket, _), sound in zip(streams, sounds, strict=True)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    travels = []
    for socket, _ in streams:
        frames = frames_of(socket)
        assert len(frames) >= 90
        assert [frame.seq for frame in frames] == list(range(frames[0].seq, frames[-1].seq + 1))
        turns = np.array([frame.rotations for frame in frames])
        travels.append(float(np.abs(np.diff(turns, axis=0)).sum()))
        socket.close()
    assert travels[0] > 3 * travels[1]
    assert travels[2] > 3 * travels[1]
    # They left; their places are free again, and what they got is still counted.
    for _ in range(100):
        if served.hall.streams == 0:
            break
        time.sleep(0.05)
    counted = served.hall.summary()
    assert counted["streams_now"] == 0
    assert counted["streams"] == 3
    assert counted["most_in_batch"] >= 2
    assert counted["lost"] == 0


def test_the_stream_too_many_is_told_why(served: Served) -> None:
    held = [begin(served) for _ in range(3)]
    socket, answer = begin(served)
    assert answer["type"] == "error"
    assert "full: it takes 3 streams" in answer["message"]
    with pytest.raises(ConnectionClosed):
        socket.recv(5)
    assert socket.close_code == 1013
    held[0][0].close()
    for _ in range(100):
        if served.hall.streams == 2:
            break
        time.sleep(0.05)
    again, hello = begin(served)
    assert hello["type"] == "hello"
    for connection in (again, *(one for one, _ in held)):
        connection.close()
    assert served.hall.refused == 1


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('{"type": "start", "token": "guess"}', "the token is wrong"),
        ('{"type": "start"}', "the token is wrong"),
        ('{"type": "start", "token": 7}', "the token is wrong"),
        ("hello", "as JSON text"),
        ("[" * 5000, "as JSON text"),
        ('{"type": "get"}', 'has the type "start"'),
        (b"\x00\x01", "as JSON text"),
        ('{"type": "start", "token": "secret", "codec": "mp3"}', "codec is one of pcm16, opus"),
        ('{"type": "start", "token": "secret", "seed": -1}', "seed is a whole number"),
        ('{"type": "start", "token": "secret", "knobs": {"size": 1}}', "size"),
        ('{"type": "start", "token": "secret", "knobs": {"style": "x"}}', "style"),
    ],
)
def test_a_wrong_start_is_answered_in_a_line(
    served: Served, message: str | bytes, reason: str
) -> None:
    with served.connect() as socket:
        socket.send(message)
        answer = json.loads(socket.recv(10))
        assert answer["type"] == "error"
        assert reason in answer["message"]
        assert "\n" not in answer["message"]
        with pytest.raises(ConnectionClosed):
            socket.recv(5)
    assert served.hall.streams == 0


def test_sound_that_is_none_is_answered_and_the_stream_goes_on(served: Served) -> None:
    socket, _ = begin(served, format="json")
    with socket:
        socket.send(b"\x00")
        socket.send(b"\x00" * 40_000)
        talk(socket, np.zeros(16_000, dtype=np.float32))
        told = [json.loads(message) for message in messages_of(socket)]
        errors = [message["message"] for message in told if message["type"] == "error"]
        frames = sum(message["type"] == "frame" for message in told)
        assert len(errors) == 2
        assert "16-bit samples" in errors[0]
        assert frames > 15


def test_a_speaker_who_falls_silent_gives_the_place_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "SILENT_FOR_S", 1.0)
    socket, _ = begin(served)
    with socket:
        talk(socket, SPEECH[: 2 * 16_000])
        assert served.hall.streams == 1  # who speaks may stay longer than that
        texts = [m for m in messages_of(socket, 10.0) if isinstance(m, str)]
        assert json.loads(texts[-1])["message"] == "no sound came for a minute"
        with pytest.raises(ConnectionClosed):
            socket.recv(5)
        assert socket.close_code == 1008
    deadline_s = time.monotonic() + 10
    while served.hall.streams and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert served.hall.streams == 0


def test_frames_do_not_pile_up_before_a_busy_loop(served: Served) -> None:
    socket, _ = begin(served)
    with socket:
        talk(socket, SPEECH[:8000])
        before = served.hall.summary()["dropped"]
        served._loop.call_soon_threadsafe(time.sleep, 1.0)  # it writes nothing for thirty ticks
        talk(socket, SPEECH[:24_000])
        gaps = np.diff([frame.seq for frame in frames_of(socket)])
        dropped = served.hall.summary()["dropped"] - before
        assert gaps.min() == 1  # in order
        assert 0 < gaps.sum() - len(gaps) <= dropped
    assert served.hall.alive


def test_knobs_are_each_streams_own(served: Served) -> None:
    (one, _), (other, _) = begin(served), begin(served)
    with one, other:
        one.send(json.dumps({"type": "set", "id": 1, "knobs": {"style": "calm"}}))
        answer = json.loads(one.recv(5))
        assert answer["knobs"]["style"] == "calm"
        other.send(json.dumps({"type": "get", "id": 2}))
        assert json.loads(other.recv(5))["knobs"]["style"]["value"] != "calm"


def test_opus_arrives_as_sound(served: Served) -> None:
    av = pytest.importorskip("av")
    clip = read_audio(demo_clip())[: 3 * 16_000]
    codec: Any = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format = 48_000, "mono", "flt"
    codec.options = {"frame_duration": "20"}
    packets = []
    for at in range(0, len(clip) - 320, 320):
        wide = np.repeat(clip[at : at + 320], 3).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(wide, format="flt", layout="mono")
        frame.sample_rate = 48_000
        packets += [bytes(packet) for packet in codec.encode(frame)]
    socket, _ = begin(served, codec="opus", knobs={"life": 0.0})
    with socket:
        started_s = time.monotonic()
        for n, packet in enumerate(packets):
            socket.send(packet)
            time.sleep(max(0.0, started_s + 0.02 * (n + 1) - time.monotonic()))
        (seat,) = served.hall._seats
        assert seat.pipeline.input.level_db > -60.0
        # Opus packets of 20 ms: what was heard is as long as what was sent.
        assert abs(seat.heard - len(packets) * 320) < 4000
        socket.send(b"\xff" * 10)
        assert len(frames_of(socket)) > 30


def test_the_page_is_served_and_nothing_else(served: Served) -> None:
    url = f"http://127.0.0.1:{served.server.port}/"
    with urllib.request.urlopen(url) as answer:
        page = answer.read().decode()
        assert "microphone" in page
        assert "default-src" in answer.headers["Content-Security-Policy"]
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url + "etc/passwd")
    caught.value.close()
    assert caught.value.code == 404


# --- the hall, without sockets


def test_streams_in_a_batch_move_as_alone() -> None:
    engine = open_engine()
    clip = read_audio(demo_clip())[:48_000]
    states = [stepper.initial_state(engine.spec, s, n) for n, s in enumerate(("calm", "lively"))]
    alone = stepper.initial_state(engine.spec, "lively", 1)
    for k in range(40):
        start = samples_heard_at(max(0, k - 1)) if k else 0
        stop = samples_heard_at(k)
        states = [stepper.hear(clip[start:stop], state) for state in states]
        alone = stepper.hear(clip[start:stop], alone)
        answers = stepper.step_together(engine, states, energies=[1.0, 1.4])
        states = [state for _, state in answers]
        chunk, alone = stepper.step(engine, alone, energy=1.4)
        np.testing.assert_allclose(answers[1][0].directions, chunk.directions, atol=1e-4)
        assert answers[1][0].first_frame == chunk.first_frame


def test_sound_that_comes_too_fast_is_bounded_and_counted() -> None:
    hall = Hall(EchoEngine())
    seat = hall.admit(ListClient(), Desk())
    for _ in range(10):
        seat.feed(np.zeros(16_000, dtype=np.float32))
    assert seat.waiting <= STORE_SAMPLES
    assert seat.lost == 8 * 16_000
    hall.leave(seat)
    hall.leave(seat)
    assert hall.summary()["lost"] == 8 * 16_000


def test_who_would_make_the_others_late_is_refused() -> None:
    hall = Hall(EchoEngine(), max_load=0.1)
    hall._stream_load = 0.04
    seats = [hall.admit(ListClient(), Desk()) for _ in range(2)]
    with pytest.raises(Full, match="this server is full: 2 streams keep it"):
        hall.admit(ListClient(), Desk())
    for seat in seats:
        hall.leave(seat)
    # One is always let in: nobody else could be made late.
    hall._stream_load = 5.0
    hall.leave(hall.admit(ListClient(), Desk()))


def test_a_failing_model_reaches_the_owner() -> None:
    engine = EchoEngine(fail_at=3)
    hall = Hall(engine)
    hall._calibrated = lambda: 0.01  # type: ignore[method-assign]
    hall.start()
    seat = hall.admit(ListClient(), Desk())
    for _ in range(200):
        seat.feed(np.zeros(1600, dtype=np.float32))
        if not hall.alive:
            break
        time.sleep(0.02)
    with pytest.raises(RuntimeError, match="step 3 failed"):
        hall.stop()


def test_a_saved_stream_goes_on_elsewhere() -> None:
    """The motion after the move is the one without it."""
    engine = open_engine()
    clip = read_audio(demo_clip())[:64_000]

    def blocks(hall: Hall, seat: Any, start: int, stop: int) -> list[F32]:
        shown = []
        for at in range(start, stop, 533):
            seat.feed(clip[at : at + 533])
            if hall._heard(seat):
                hall._step_all([seat.pipeline])
            seat.pipeline.emit((at + 533) / 16_000)
            shown.append(seat.pipeline.latest.rotations)
        return shown

    one, other = Hall(engine), Hall(engine)
    seat = one.admit(ListClient(), Desk(Knobs(), engine.spec.styles), seed=3)
    blocks(one, seat, 0, 32_000 // 533 * 533)
    saved = seat.pipeline.save()
    stays = blocks(one, seat, 32_000 // 533 * 533, 60_000)
    moved = other.admit(ListClient(), Desk(Knobs(), engine.spec.styles), seed=3, saved=saved)
    goes = blocks(other, moved, 32_000 // 533 * 533, 60_000)
    for a, b in zip(stays, goes, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert moved.pipeline.latest is not None
    assert moved.pipeline.latest.seq == seat.pipeline.stats.frames - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--ws"),
        (["--ws", "nonsense"], "is not a WebSocket address"),
        (["--ws", "0", "--max-streams", "0"], "--max-streams must be 1 or more"),
        (["--ws", "0", "--fps", "1"], "frame rate must be in"),
        (["--ws", "0", "--max-load", "nan"], "--max-load must be above 0"),
        (["--ws", "0", "--cert", "a.pem"], "both --cert and --key"),
        (["--ws", "0", "--cert", "a.pem", "--key", "b.pem"], "cannot be used"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["serve", *arguments])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    assert code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_pcm() -> None:
    np.testing.assert_array_equal(
        pcm16(b"\x00\x80\x00\x40"), np.array([-1.0, 0.5], dtype=np.float32)
    )
    for wrong in (b"\x00", b"\x00\x00" * 16_001):
        with pytest.raises(ValueError, match="16-bit samples"):
            pcm16(wrong)


def test_a_taken_port_is_named() -> None:
    first = Served(Hall(open_engine()))
    try:
        second = StreamServer(Hall(EchoEngine()), "127.0.0.1", first.server.port)
        with pytest.raises(Exception, match="is taken by another program"):
            asyncio.run(second.run(lambda: None, asyncio.Event()))
    finally:
        first.close()
    with pytest.raises(ConfigError, match="max-streams"):
        Hall(EchoEngine(), max_streams=0)
