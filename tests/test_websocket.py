"""The WebSocket server against real sockets, and the wire format on its own."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.typing import Origin

from ha2g_live.clients import encode
from ha2g_live.clients.address import parse_ws
from ha2g_live.clients.viewers import MAX_BAD_REQUESTS
from ha2g_live.clients.websocket import WebSocketClient
from ha2g_live.realtime import humanoid
from ha2g_live.realtime.errors import ClientError
from ha2g_live.realtime.types import F32, PoseFrame, StreamInfo

INFO = StreamInfo(fps=60.0, model="test 1")
DOC = Path(__file__).parents[1] / "docs" / "websocket.md"
PATIENCE_S = 30.0
"""When a wait gives up; nothing is asserted about how long things take."""


def unit(rng: np.random.Generator, *shape: int) -> F32:
    vectors = rng.normal(size=shape)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors.astype(np.float32)


def make_frame(seq: int, blends: dict[str, float] | None = None) -> PoseFrame:
    rng = np.random.default_rng(seq)
    return PoseFrame(
        seq=seq,
        stream_time_s=seq / 60,
        directions=unit(rng, 42, 3),
        rotations=unit(rng, 55, 4),
        hips_m=rng.normal(size=3).astype(np.float32),
        blends={"A": 0.25, "Blink_L": 1.0} if blends is None else blends,
    )


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "gave up waiting"
        time.sleep(0.002)


@pytest.fixture
def server() -> Iterator[WebSocketClient]:
    client = WebSocketClient()
    client.start(INFO)
    yield client
    client.close()
    assert "ha2g-net" not in {thread.name for thread in threading.enumerate()}


def watch(server: WebSocketClient, **options: Any) -> Connection:
    uri = f"ws://127.0.0.1:{server.port}"
    viewer: Connection = connect(uri, compression=None, open_timeout=PATIENCE_S, **options)
    return viewer


def receive(viewer: Connection) -> Any:
    return json.loads(viewer.recv(timeout=PATIENCE_S))


def ask(viewer: Connection, **fields: Any) -> Any:
    """Send a request and pass over frames to its answer."""
    viewer.send(json.dumps({"type": "subscribe", **fields}))
    while True:
        message = viewer.recv(timeout=PATIENCE_S)
        if isinstance(message, str) and (answer := json.loads(message))["type"] != "frame":
            return answer


def assert_same(received: encode.ReceivedFrame, frame: PoseFrame, directions: bool) -> None:
    assert received.seq == frame.seq
    assert received.stream_time_s == frame.stream_time_s
    # Seven decimals; the largest numbers here are below eight.
    np.testing.assert_allclose(received.hips_m, frame.hips_m, rtol=1e-7, atol=6e-8)
    np.testing.assert_allclose(received.rotations, frame.rotations, rtol=1e-7, atol=6e-8)
    assert received.rotations.dtype == np.float32
    assert received.blends == frame.blends
    if directions:
        assert received.directions is not None
        np.testing.assert_allclose(received.directions, frame.directions, rtol=1e-7, atol=6e-8)
    else:
        assert received.directions is None


# The wire format, without a socket


@pytest.mark.parametrize("directions", [False, True])
@pytest.mark.parametrize("blends", [{}, {"A": 0.25, "Фу": 0.5, "": 1.0}])
def test_both_forms_carry_the_frame(directions: bool, blends: dict[str, float]) -> None:
    frame = make_frame(7, blends)
    assert_same(encode.decode(encode.frame_text(frame, directions)), frame, directions)
    data = encode.frame_bytes(frame, directions)
    received = encode.decode(data)
    assert_same(received, frame, directions)
    np.testing.assert_array_equal(received.rotations, frame.rotations)
    assert encode.decode(data + b"later addition").seq == 7


def test_the_binary_form_has_the_documented_bytes() -> None:
    data = encode.frame_bytes(make_frame(2**32 + 5, {}), directions=True)
    assert data[:8] == b"HA2G\x01\x01\x00\x00"
    assert int.from_bytes(data[8:12], "little") == 5
    assert data[12:16] == bytes([55, 42, 0, 0])
    assert len(data) == 916 + 12 * 42
    assert len(encode.frame_bytes(make_frame(0, {}))) == 916


@pytest.mark.parametrize("length", [0, 35, 36, 915, 916, 917, 921])
def test_a_cut_frame_is_refused(length: int) -> None:
    data = encode.frame_bytes(make_frame(1, {"A": 0.5}))
    assert len(data) == 922
    with pytest.raises(ValueError, match="frame"):
        encode.decode_binary(data[:length])


@pytest.mark.parametrize("text", ["", "[]", '{"type":"hello"}', '{"type":"frame","seq":1}'])
def test_text_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"frame message|Expecting value"):
        encode.decode(text)


@pytest.mark.parametrize("data", [b"HA2H", b"HA2G\x02", b"HA2G\x01\x02"])
def test_bytes_of_something_else_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a frame"):
        encode.decode_binary(data + encode.frame_bytes(make_frame(1))[len(data) :])


@pytest.mark.parametrize("form", [encode.frame_text, encode.frame_bytes])
@pytest.mark.parametrize("blends", [{}, {"A": float("nan")}])
def test_numbers_that_are_not_finite_are_refused(
    form: Callable[[PoseFrame], object], blends: dict[str, float]
) -> None:
    frame = make_frame(3, blends)
    if not blends:
        frame.rotations[4, 1] = np.inf
    with pytest.raises(ValueError, match=r"finite|compliant"):
        form(frame)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8765", ("127.0.0.1", 8765)),
        ("0", ("127.0.0.1", 0)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("localhost:9000", ("localhost", 9000)),
        ("[::1]:9000", ("::1", 9000)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_ws(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "host", ":1", "host:", "a:b:1", "::1", "-1", "65536", "1.5", "a b:1", "\u0669",
        "9" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_address_is_said_in_one_line(text: str) -> None:
    with pytest.raises(ClientError, match="not a WebSocket address") as caught:
        parse_ws(text)
    assert "\n" not in str(caught.value)


# The server


def test_hello_then_every_frame_in_order(server: WebSocketClient) -> None:
    with watch(server) as viewer:
        hello = receive(viewer)
        assert hello["type"] == "hello"
        assert (hello["protocol"], hello["version"]) == ("ha2g-live", 1)
        assert (hello["model"], hello["fps"], hello["pose_fps"]) == ("test 1", 60.0, 15)
        skeleton = hello["skeleton"]
        assert skeleton["bone_names"] == list(humanoid.BONE_NAMES)
        assert len(skeleton["parents"]) == len(skeleton["rest_offsets_m"]) == 55
        np.testing.assert_allclose(skeleton["rest_offsets_m"], humanoid.REST_OFFSETS_M, atol=6e-8)
        np.testing.assert_allclose(skeleton["rest_offsets_m"][0], humanoid.HIPS_REST_M, atol=6e-8)
        wait_for(lambda: server.stats.detail == "1 viewer")
        for seq in range(50):
            server.send(make_frame(seq))
            text = viewer.recv(timeout=PATIENCE_S)
            assert_same(encode.decode(text), make_frame(seq), directions=False)
        assert (server.stats.sent, server.stats.dropped, server.stats.errors) == (50, 0, 0)
    wait_for(lambda: server.stats.detail == "no viewers")


def test_the_newest_frame_wins_while_the_thread_is_busy(
    server: WebSocketClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, go_on = threading.Event(), threading.Event()
    frame_message = encode.frame_message

    def wait_then_encode(frame: PoseFrame, wish: encode.Wish) -> str | bytes:
        busy.set()
        assert go_on.wait(PATIENCE_S)
        return frame_message(frame, wish)

    monkeypatch.setattr(encode, "frame_message", wait_then_encode)
    with watch(server) as first, watch(server) as second:
        receive(first)
        receive(second)
        wait_for(lambda: server.stats.detail == "2 viewers")
        server.send(make_frame(0))
        assert busy.wait(PATIENCE_S)
        for seq in range(1, 11):
            server.send(make_frame(seq))
        go_on.set()
        for viewer in (first, second):
            assert [receive(viewer)["seq"] for _ in range(2)] == [0, 10]
        assert (server.stats.sent, server.stats.dropped) == (4, 18)


def test_a_frame_is_encoded_once_per_form(
    server: WebSocketClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[encode.Wish] = []
    frame_message = encode.frame_message

    def note(frame: PoseFrame, wish: encode.Wish) -> str | bytes:
        encoded.append(wish)
        return frame_message(frame, wish)

    with watch(server) as one, watch(server) as two, watch(server) as three:
        for viewer in (one, two, three):
            receive(viewer)
        ask(three, format="binary")
        wait_for(lambda: server.stats.detail == "3 viewers")
        monkeypatch.setattr(encode, "frame_message", note)
        server.send(make_frame(0))
        for viewer in (one, two, three):
            viewer.recv(timeout=PATIENCE_S)
    assert sorted(wish.binary for wish in encoded) == [False, True]


def test_viewers_choose_their_form(server: WebSocketClient) -> None:
    with watch(server) as plain, watch(server) as binary:
        receive(plain)
        receive(binary)
        wait_for(lambda: server.stats.detail == "2 viewers")
        answer = {"type": "subscribed", "format": "binary", "directions": False}
        assert ask(binary, format="binary") == answer
        assert ask(binary, directions=True) == {**answer, "directions": True}
        for seq in range(5):
            frame = make_frame(seq)
            server.send(frame)
            text, data = plain.recv(timeout=PATIENCE_S), binary.recv(timeout=PATIENCE_S)
            assert isinstance(text, str)
            assert isinstance(data, bytes)
            assert_same(encode.decode(text), frame, directions=False)
            assert_same(encode.decode(data), frame, directions=True)
        assert ask(binary, format="json", directions=False)["format"] == "json"
        server.send(make_frame(5))
        assert encode.decode(binary.recv(timeout=PATIENCE_S)).directions is None


def open_deaf_viewer(server: WebSocketClient) -> socket.socket:
    """A viewer that shakes hands and never reads again."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", server.port))
    deaf.sendall(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return deaf


def test_a_viewer_that_never_reads_slows_nobody(server: WebSocketClient) -> None:
    with open_deaf_viewer(server), watch(server) as viewer:
        receive(viewer)
        wait_for(lambda: server.stats.detail == "2 viewers")
        seq = 0
        # Until its buffers are full and a hundred frames have passed it by.
        while server.stats.dropped < 100:
            assert seq < 20_000, "frames for the deaf viewer pile up without end"
            server.send(make_frame(seq))
            assert receive(viewer)["seq"] == seq
            seq += 1
        assert server.stats.sent + server.stats.dropped == 2 * seq
        assert server.stats.sent < 2 * seq - 99


def test_a_stalled_viewer_is_cut_off() -> None:
    server = WebSocketClient(stall_s=0.2)
    server.start(INFO)
    with open_deaf_viewer(server), watch(server) as viewer:
        receive(viewer)
        wait_for(lambda: server.stats.detail == "2 viewers")
        seq = 0
        deadline = time.monotonic() + PATIENCE_S
        while server.stats.detail != "1 viewer":
            assert time.monotonic() < deadline
            server.send(make_frame(seq))
            assert receive(viewer)["seq"] == seq
            seq += 1
        assert server.stats.errors == 1
    server.close()


@pytest.mark.parametrize(
    "origin",
    [None, "http://localhost", "https://localhost:3000", "http://127.0.0.1:8", "http://[::1]:80"],
)
def test_pages_of_this_computer_and_programs_may_connect(
    server: WebSocketClient, origin: str | None
) -> None:
    with watch(server, origin=None if origin is None else Origin(origin)) as viewer:
        assert receive(viewer)["type"] == "hello"


FOREIGN = [
    "null",
    "http://example.com",
    "http://localhost.example.com",
    "http://127.0.0.1.example.com",
    "file://",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_other_pages_are_refused(server: WebSocketClient, origin: str) -> None:
    with pytest.raises(InvalidStatus) as caught, watch(server, origin=Origin(origin)):
        pass
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize("origin", FOREIGN)
def test_origins_can_be_allowed(origin: str) -> None:
    for allowed in ([origin], ["*"]):
        server = WebSocketClient(allowed_origins=allowed)
        server.start(INFO)
        with watch(server, origin=Origin(origin)) as viewer:
            assert receive(viewer)["type"] == "hello"
        if allowed != ["*"]:
            with (
                pytest.raises(InvalidStatus),
                watch(server, origin=Origin("http://other.example.com")),
            ):
                pass
        server.close()


@pytest.mark.parametrize("origin", ["example.com", "http://example.com/page", ""])
def test_what_is_no_origin_is_refused_at_once(origin: str) -> None:
    with pytest.raises(ClientError, match="not an origin"):
        WebSocketClient(allowed_origins=[origin])


def test_a_taken_port_is_named(server: WebSocketClient) -> None:
    second = WebSocketClient(port=server.port)
    with pytest.raises(ClientError, match=f"port {server.port} .* choose another") as caught:
        second.start(INFO)
    assert "\n" not in str(caught.value)
    second.close()


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "a..b"])
def test_a_host_that_is_not_ours(host: str) -> None:
    client = WebSocketClient(host, 0)
    with pytest.raises(ClientError, match="use an address of this computer"):
        client.start(INFO)
    client.close()


def test_settings_out_of_range() -> None:
    with pytest.raises(ClientError, match="65536"):
        WebSocketClient(port=65536)
    with pytest.raises(ClientError, match="host is empty"):
        WebSocketClient("")


GARBAGE: list[str | bytes] = [
    "",
    "{",
    "[]",
    "3",
    "[" * 4000,
    '{"type":"subscribe","format":"xml"}',
    '{"type":"subscribe","format":["json"]}',
    '{"type":"subscribe","directions":1}',
    '{"type":"\\ud800"}',
    b"\x00\xff",
]


def test_garbage_is_answered_and_the_viewer_lives_on(server: WebSocketClient) -> None:
    with watch(server) as viewer:
        receive(viewer)
        for message in GARBAGE:
            viewer.send(message)
            answer = receive(viewer)
            assert answer["type"] == "error"
            assert answer["message"]
        server.send(make_frame(1))
        assert receive(viewer)["seq"] == 1
        assert server.stats.errors == 0


def test_too_much_garbage_is_shown_the_door(server: WebSocketClient) -> None:
    with watch(server) as other, watch(server) as viewer:
        receive(other)
        receive(viewer)
        wait_for(lambda: server.stats.detail == "2 viewers")
        for _ in range(MAX_BAD_REQUESTS):
            viewer.send("{")
            assert receive(viewer)["type"] == "error"
        with pytest.raises(ConnectionClosed) as caught:
            receive(viewer)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008
        server.send(make_frame(1))
        assert receive(other)["seq"] == 1


def test_a_request_that_is_too_long_is_refused(server: WebSocketClient) -> None:
    with watch(server) as viewer:
        receive(viewer)
        viewer.send("x" * 5000)
        with pytest.raises(ConnectionClosed) as caught:
            receive(viewer)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


def test_strangers_that_do_not_speak_the_protocol(server: WebSocketClient) -> None:
    for greeting in (b"", b"\x16\x03\x01\x00", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port)) as stranger:
            stranger.sendall(greeting)
    with watch(server) as viewer:
        assert receive(viewer)["type"] == "hello"
    assert server.failure() is None


def test_twenty_viewers_come_and_go(server: WebSocketClient) -> None:
    seen: list[list[int]] = []

    def visit(frames: int, politely: bool) -> None:
        with watch(server) as viewer:
            assert receive(viewer)["type"] == "hello"
            seen.append([receive(viewer)["seq"] for _ in range(frames)])
            if not politely:
                viewer.socket.shutdown(socket.SHUT_RDWR)

    visitors = [
        threading.Thread(target=visit, args=(5 + index, index % 3 != 0)) for index in range(20)
    ]
    seq = 0
    for index, visitor in enumerate(visitors):
        visitor.start()
        for _ in range(index % 4):
            server.send(make_frame(seq := seq + 1))
    while any(visitor.is_alive() for visitor in visitors):
        server.send(make_frame(seq := seq + 1))
        time.sleep(0.001)
    assert sorted(map(len, seen)) == list(range(5, 25))
    assert all(seqs == sorted(set(seqs)) for seqs in seen)
    wait_for(lambda: server.stats.detail == "no viewers")
    assert server.stats.errors == 0


def test_a_frame_that_cannot_be_sent_is_counted(server: WebSocketClient) -> None:
    with watch(server) as viewer:
        receive(viewer)
        wait_for(lambda: server.stats.detail == "1 viewer")
        broken = make_frame(0)
        broken.hips_m[0] = np.nan
        server.send(broken)
        wait_for(lambda: server.stats.errors == 1)
        server.send(make_frame(1))
        assert receive(viewer)["seq"] == 1
    assert (server.stats.sent, server.stats.dropped) == (1, 1)


def test_closing_is_polite_and_can_be_repeated() -> None:
    server = WebSocketClient()
    server.start(INFO)
    assert server.name == f"websocket 127.0.0.1:{server.port}"
    with watch(server) as viewer, socket.create_connection(("127.0.0.1", server.port)) as silent:
        receive(viewer)
        wait_for(lambda: server.stats.detail == "1 viewer")
        server.send(make_frame(1))
        assert receive(viewer)["seq"] == 1
        server.send(make_frame(2))
        server.close()
        server.close()
        assert server.stats.sent == 2
        assert {json.loads(text)["seq"] for text in viewer} <= {2}
        assert viewer.protocol.close_code == 1001
        assert silent.recv(100) == b""
    server.send(make_frame(3))
    assert "ha2g-net" not in {thread.name for thread in threading.enumerate()}
    again = WebSocketClient(port=server.port)
    again.start(INFO)
    again.close()


def test_closing_does_not_wait_for_the_deaf(server: WebSocketClient) -> None:
    with open_deaf_viewer(server):
        wait_for(lambda: server.stats.detail == "1 viewer")
        seq = 0
        while server.stats.dropped < 100:
            server.send(make_frame(seq := seq + 1))
            time.sleep(0.0005)
        server.close()
    assert server.stats.detail == "no viewers"


def test_closing_what_was_never_started() -> None:
    WebSocketClient().close()


def test_a_failure_of_the_thread_reaches_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(frame: PoseFrame, wish: encode.Wish) -> str:
        raise RuntimeError("planted")

    server = WebSocketClient()
    server.start(INFO)
    with watch(server) as viewer:
        receive(viewer)
        wait_for(lambda: server.stats.detail == "1 viewer")
        monkeypatch.setattr(encode, "frame_message", fail)
        server.send(make_frame(0))
        wait_for(server.failure)
        with pytest.raises(ClientError, match="planted"):
            server.send(make_frame(1))
        with pytest.raises(ConnectionClosed):
            receive(viewer)
    server.close()
    assert server.stats.errors == 1


def test_a_failure_that_no_send_has_reported_is_raised_by_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(message: str | bytes) -> dict[str, Any]:
        raise RuntimeError("planted")

    server = WebSocketClient()
    server.start(INFO)
    monkeypatch.setattr(encode, "read_request", fail)
    with watch(server) as viewer:
        viewer.send("{}")
        wait_for(server.failure)
        with pytest.raises(ClientError, match="planted"):
            server.close()
    server.close()
    assert "ha2g-net" not in {thread.name for thread in threading.enumerate()}


# The documentation


def example(language: str, index: int, server: WebSocketClient, folder: Path) -> Path:
    """An example of the documentation as a file, with our port in place of its own."""
    blocks = re.findall(rf"```{language}\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    assert "ws://127.0.0.1:8765" in blocks[index]
    path = folder / f"example.{language}"
    path.write_text(blocks[index].replace("127.0.0.1:8765", f"127.0.0.1:{server.port}"))
    return path


def run_example(server: WebSocketClient, command: list[str]) -> list[str]:
    """Lines that an example prints until the server closes."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        seq = 0
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
        reader.start()
        deadline = time.monotonic() + PATIENCE_S
        while len(lines) < 5 and process.poll() is None and time.monotonic() < deadline:
            server.send(make_frame(seq := seq + 1))
            time.sleep(0.005)
        server.close()
        if time.monotonic() >= deadline:
            process.kill()
        assert process.wait(PATIENCE_S) == 0
        reader.join()
    return lines


def assert_left_arm(seq: str, numbers: list[str]) -> None:
    arm = make_frame(int(seq)).rotations[humanoid.BONE_NAMES.index("LeftUpperArm")]
    np.testing.assert_allclose(list(map(float, numbers)), arm, rtol=0, atol=6e-8)


def test_the_documented_python_example_works(server: WebSocketClient, tmp_path: Path) -> None:
    lines = run_example(server, [sys.executable, str(example("python", 0, server, tmp_path))])
    assert len(lines) >= 5
    for line in lines:
        seq, time_s, *rotation = line.split()
        assert float(time_s) == int(seq) / 60
        assert_left_arm(seq, rotation)


def test_the_documented_binary_example_works(server: WebSocketClient, tmp_path: Path) -> None:
    lines = run_example(server, [sys.executable, str(example("python", 1, server, tmp_path))])
    assert len(lines) >= 5
    for line in lines:
        seq, *rotation = line.split()
        assert_left_arm(seq, rotation)


def test_the_documented_javascript_example_works(server: WebSocketClient, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    command = [node, "--experimental-websocket"]
    probe = subprocess.run([*command, "-e", "WebSocket"], capture_output=True)
    if probe.returncode != 0:
        pytest.skip("this node has no WebSocket")
    path = example("js", 0, server, tmp_path)
    lines = run_example(server, [*command, str(path)])
    assert lines.pop().split() == ["closed", "1001"]
    assert len(lines) >= 5
    for line in lines:
        seq, _, *rotation = line.split()
        assert_left_arm(seq, rotation)
