"""The VMC sender against real sockets and real receivers."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from ha2g_live.clients.address import parse_target
from ha2g_live.clients.osc import OscClient
from ha2g_live.clients.vmc import DATAGRAM_BYTES, UnsendableFrame, VmcEncoder
from ha2g_live.realtime.errors import ClientError
from ha2g_live.realtime.humanoid import BONE_NAMES, HIPS_REST_M, REST_OFFSETS_M
from ha2g_live.realtime.types import PoseFrame, StreamInfo

INFO = StreamInfo(fps=60.0, model="test 1")
BLENDS = {"A": 0.25, "I": 0.0, "Joy": 1.0}
DATAGRAMS = 4

Message = tuple[str, str, list[Any]]
"""Address, types, arguments."""


def make_frame(seq: int, blends: dict[str, float] | None = None) -> PoseFrame:
    rng = np.random.default_rng(seq)
    rotations = rng.normal(size=(55, 4)).astype(np.float32)
    rotations /= np.linalg.norm(rotations, axis=1, keepdims=True)
    return PoseFrame(
        seq=seq,
        stream_time_s=seq / 60,
        directions=rng.normal(size=(42, 3)).astype(np.float32),
        rotations=rotations,
        hips_m=HIPS_REST_M + rng.normal(0, 0.01, 3).astype(np.float32),
        blends=dict(BLENDS if blends is None else blends),
    )


def messages_of(frame: PoseFrame, time_s: float) -> list[Message]:
    """What the protocol page asks for, written down once more."""
    rows: list[Message] = [
        ("/VMC/Ext/Root/Pos", "sfffffff", ["root", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    ]
    for bone, name in enumerate(BONE_NAMES):
        place = frame.hips_m if name == "Hips" else REST_OFFSETS_M[bone]
        numbers = [*map(float, place), *map(float, frame.rotations[bone])]
        rows.append(("/VMC/Ext/Bone/Pos", "sfffffff", [name, *numbers]))
    rows += [("/VMC/Ext/Blend/Val", "sf", [name, v]) for name, v in frame.blends.items()]
    rows += [("/VMC/Ext/Blend/Apply", "", [])]
    rows += [("/VMC/Ext/OK", "i", [1]), ("/VMC/Ext/T", "f", [time_s])]
    return rows


def built_by_python_osc(rows: list[Message]) -> list[bytes]:
    bundles: list[OscBundleBuilder] = []
    size = DATAGRAM_BYTES
    for address, types, arguments in rows:
        builder = OscMessageBuilder(address)
        for kind, argument in zip(types, arguments, strict=True):
            builder.add_arg(argument, kind)
        message = builder.build()
        if size + 4 + message.size > DATAGRAM_BYTES:
            bundles.append(OscBundleBuilder(IMMEDIATELY))
            size = 16
        bundles[-1].add_content(message)
        size += 4 + message.size
    return [bundle.build().dgram for bundle in bundles]


def read(datagram: bytes) -> list[Message]:
    """The messages of a bundle, held against the rules of the strictest receivers."""
    assert len(datagram) <= 1400
    assert datagram[:16] == b"#bundle\0" + bytes(7) + b"\1"  # due immediately
    rows = []
    for message in OscBundle(datagram):
        dgram = message.dgram
        start = dgram.index(b",")
        types = dgram[start + 1 : dgram.index(b"\0", start)].decode()
        rows.append((message.address, types, list(message.params)))
    return rows


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(10)
        yield udp


@pytest.fixture
def client(receiver: socket.socket) -> Iterator[OscClient]:
    osc = OscClient("127.0.0.1", receiver.getsockname()[1])
    osc.start(INFO)
    yield osc
    osc.close()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        return int(udp.getsockname()[1])


@pytest.mark.parametrize(
    "blends", [{}, BLENDS, {"まばたき": 0.5}, {f"b{i}": 0.1 for i in range(60)}]
)
def test_bytes_are_those_of_python_osc(blends: dict[str, float]) -> None:
    encoder = VmcEncoder()
    for seq in (0, 1, 2):
        frame = make_frame(seq, blends)
        got = [bytes(datagram) for datagram in encoder.encode(frame, seq / 60)]
        assert got == built_by_python_osc(messages_of(frame, seq / 60))


def test_blends_may_change_from_frame_to_frame() -> None:
    encoder = VmcEncoder()
    for seq, blends in enumerate(({"A": 1.0}, {}, {"A": 0.5, "O": 0.25}, {"O": 0.25, "A": 0.5})):
        frame = make_frame(seq, blends)
        got = [bytes(datagram) for datagram in encoder.encode(frame, 0.0)]
        assert got == built_by_python_osc(messages_of(frame, 0.0))


def test_a_frame_arrives_whole_and_in_order(client: OscClient, receiver: socket.socket) -> None:
    frame = make_frame(1)
    client.send(frame)
    rows = [row for _ in range(DATAGRAMS) for row in read(receiver.recv(65536))]
    addresses = [address for address, _, _ in rows]
    assert addresses == [address for address, _, _ in messages_of(frame, 0.0)]
    assert addresses[-3:] == ["/VMC/Ext/Blend/Apply", "/VMC/Ext/OK", "/VMC/Ext/T"]
    bones = {arguments[0]: arguments[1:] for a, _, arguments in rows if a.endswith("/Bone/Pos")}
    assert tuple(bones) == BONE_NAMES
    for bone, name in enumerate(BONE_NAMES):
        np.testing.assert_array_equal(bones[name][3:], frame.rotations[bone])
        assert np.linalg.norm(bones[name][:3]) > 0.01  # zero positions would collapse the body
    # All numbers of a pose are floats, and no message lacks an argument.
    assert {(address, types) for address, types, _ in rows} == {
        ("/VMC/Ext/Root/Pos", "sfffffff"),
        ("/VMC/Ext/Bone/Pos", "sfffffff"),
        ("/VMC/Ext/Blend/Val", "sf"),
        ("/VMC/Ext/Blend/Apply", ""),
        ("/VMC/Ext/OK", "i"),
        ("/VMC/Ext/T", "f"),
    }
    assert client.stats.as_dict() == {"sent": 1, "dropped": 0, "errors": 0, "detail": ""}


def test_the_time_counts_from_the_start(receiver: socket.socket) -> None:
    now_s = [1e9]  # a float32 of this stands still for a minute
    client = OscClient("127.0.0.1", receiver.getsockname()[1], clock=lambda: now_s[0])
    client.start(INFO)
    times = []
    for _ in range(3):
        client.send(make_frame(0))
        rows = [row for _ in range(DATAGRAMS) for row in read(receiver.recv(65536))]
        times += [arguments[0] for address, _, arguments in rows if address == "/VMC/Ext/T"]
        now_s[0] += 0.5
    client.close()
    assert times == [0.0, 0.5, 1.0]


def test_all_frames_come_from_one_socket(client: OscClient, receiver: socket.socket) -> None:
    senders = set()
    for seq in range(5):
        client.send(make_frame(seq))
        senders |= {receiver.recvfrom(65536)[1] for _ in range(DATAGRAMS)}
    assert len(senders) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e300])
@pytest.mark.parametrize("where", ["rotations", "hips_m", "blends"])
def test_a_frame_that_is_not_finite_is_never_sent(
    client: OscClient, receiver: socket.socket, bad: float, where: str
) -> None:
    frame = make_frame(1)
    with np.errstate(over="ignore"):
        if where == "rotations":
            frame.rotations[30, 2] = bad
        elif where == "hips_m":
            frame.hips_m[1] = bad
        else:
            frame.blends["A"] = bad
    with pytest.raises(UnsendableFrame, match="frame 1"):
        VmcEncoder().encode(frame, 0.0)
    client.send(frame)
    assert (client.stats.sent, client.stats.dropped, client.stats.errors) == (0, 1, 1)
    assert "not a finite number" in client.stats.detail
    client.send(make_frame(2))
    rows = [row for _ in range(DATAGRAMS) for row in read(receiver.recv(65536))]
    assert rows[1][2][4:] == [float(x) for x in make_frame(2).rotations[0]]
    assert (client.stats.sent, client.stats.dropped, client.stats.errors) == (1, 1, 1)
    assert client.stats.detail == ""
    receiver.setblocking(False)
    with pytest.raises(BlockingIOError):
        receiver.recv(65536)


def test_an_absent_receiver_is_no_error_and_gets_frames_once_it_comes() -> None:
    port = free_port()
    client = OscClient("127.0.0.1", port)
    client.start(INFO)
    for seq in range(20):
        client.send(make_frame(seq))
        time.sleep(0.005)
    stats = client.stats
    if sys.platform == "linux":  # elsewhere the system may not say so
        assert stats.errors > 0
        assert "nobody listens" in stats.detail
    assert stats.sent + stats.dropped == 20
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", port))
        udp.settimeout(10)
        client.send(make_frame(20))
        rows = [row for _ in range(DATAGRAMS) for row in read(udp.recv(65536))]
        assert rows[1][2][4:] == [float(x) for x in make_frame(20).rotations[0]]
        client.send(make_frame(21))
        assert stats.detail == ""
    client.close()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no local datagram sockets here")
def test_a_full_send_buffer_drops_the_frame_and_returns(
    client: OscClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback UDP never fills up, so a local datagram socket that nobody empties stands in."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.close()
    with ours, theirs:
        ours.setblocking(False)
        monkeypatch.setattr(client, "_socket", ours)
        for seq in range(1000):
            client.send(make_frame(seq))
        stats = client.stats
        assert stats.dropped > 0
        assert stats.sent + stats.dropped == 1000
        assert stats.errors == stats.dropped
        assert "buffer is full" in stats.detail
        client.close()


def test_close_twice_and_send_after_close(client: OscClient) -> None:
    client.close()
    client.close()
    client.send(make_frame(0))
    assert client.stats.sent == 0


def test_a_client_can_start_again(receiver: socket.socket) -> None:
    client = OscClient("127.0.0.1", receiver.getsockname()[1])
    for seq in range(2):
        client.start(INFO)
        client.send(make_frame(seq))
        assert len([receiver.recv(65536) for _ in range(DATAGRAMS)]) == DATAGRAMS
        client.close()


def test_ipv6_and_a_name_that_means_ipv4() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
        try:
            udp.bind(("::1", 0))
        except OSError as error:
            pytest.skip(f"no IPv6 loopback: {error}")
        udp.settimeout(10)
        client = OscClient(*parse_target(f"[::1]:{udp.getsockname()[1]}"))
        assert client.name == f"osc [::1]:{udp.getsockname()[1]}"
        client.start(INFO)
        client.send(make_frame(0))
        assert read(udp.recv(65536))
        client.close()


def test_localhost_means_ipv4(receiver: socket.socket) -> None:
    client = OscClient("localhost", receiver.getsockname()[1])
    client.start(INFO)
    client.send(make_frame(0))
    assert read(receiver.recv(65536))
    client.close()


def test_targets() -> None:
    assert parse_target("127.0.0.1:39539") == ("127.0.0.1", 39539)
    assert parse_target(" my-pc.local:1 ") == ("my-pc.local", 1)
    assert parse_target("[::1]:65535") == ("::1", 65535)
    assert parse_target("[fe80::1%eth0]:9000") == ("fe80::1%eth0", 9000)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "127.0.0.1", "127.0.0.1:", ":9000", "9000", "127.0.0.1:x", "127.0.0.1:-1",
        "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:70000", "::1:9000", "[::1]", "[]:9000",
        "a b:9000", "host:90:00", "127.0.0.1:\u0669", "127.0.0.1:" + "9" * 5000, "udp://host:9000",
    ],
)  # fmt: skip
def test_bad_targets_are_said_in_one_line(text: str) -> None:
    with pytest.raises(ClientError) as caught:
        parse_target(text)
    assert "\n" not in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "zz::1", "a..b", "x" * 80])
def test_an_unknown_host_is_said_in_one_line(host: str) -> None:
    client = OscClient(host, 39539)
    with pytest.raises(ClientError, match="not known") as caught:
        client.start(INFO)
    assert "\n" not in str(caught.value)
    client.close()


def test_oscdump_shows_every_bone() -> None:
    oscdump = shutil.which("oscdump")
    if oscdump is None:
        pytest.skip("oscdump is not installed (Debian: liblo-tools)")
    port = free_port()
    dump = subprocess.Popen([oscdump, "-L", str(port)], stdout=subprocess.PIPE, text=True)
    assert dump.stdout is not None
    client = OscClient("127.0.0.1", port)
    client.start(INFO)
    frame = make_frame(1)
    lines: list[list[str]] = []

    def collect(stdout: Any) -> None:
        for line in stdout:
            lines.append(line.split())

    reader = threading.Thread(target=collect, args=(dump.stdout,), name="test-oscdump")
    reader.start()
    try:
        deadline_s = time.monotonic() + 20
        # Frames sent before it listens are lost, so send until it has shown a whole one.
        while time.monotonic() < deadline_s and sum("/VMC/Ext/T" in line for line in lines) < 3:
            client.send(frame)
            time.sleep(0.05)
    finally:
        dump.terminate()
        dump.wait(10)
        reader.join(10)
        dump.stdout.close()
        client.close()
    bones = {}
    for line in lines:
        if line[1] == "/VMC/Ext/Bone/Pos":
            types, *arguments = line[2:]
            assert types == "sfffffff"
            bones[arguments[0].strip('"')] = [float(number) for number in arguments[1:]]
    assert set(bones) == set(BONE_NAMES)
    for bone, name in enumerate(BONE_NAMES):
        np.testing.assert_allclose(bones[name][3:], frame.rotations[bone], atol=1e-5)


# The package keeps global state and leaves sockets open, so it gets a process of its own.
_VMCP_RECEIVER = """
import json, sys, time
from vmcp.events import (
    BlendShapeApplyEvent, BlendShapeEvent, BoneTransformEvent, RelativeTimeEvent,
    RootTransformEvent, StateEvent,
)
from vmcp.facades import on_receive
from vmcp.osc import OSC
from vmcp.osc.backend.osc4py3 import as_eventloop

frames = int(sys.argv[2])
seen = {"root": 0, "bones": [], "blends": [], "applies": 0, "states": [], "times": []}

def root(event): seen["root"] += 1
def bone(event):
    p, r = event.position, event.rotation
    seen["bones"].append([event.joint.value, p.x, p.y, p.z, r.x, r.y, r.z, r.w])
def blend(event): seen["blends"].append([event.key, event.value])
def apply(event): seen["applies"] += 1
def state(event): seen["states"].append(event.model_state.value)
def relative(event): seen["times"].append(event.delta)

osc = OSC(as_eventloop)
osc.open()
receiver = osc.create_receiver("127.0.0.1", int(sys.argv[1]), "test")
receiver.open()
for kind, handler in (
    (RootTransformEvent, root), (BoneTransformEvent, bone), (BlendShapeEvent, blend),
    (BlendShapeApplyEvent, apply), (StateEvent, state), (RelativeTimeEvent, relative),
):
    on_receive(receiver, kind, handler)
print("ready", flush=True)
deadline = time.monotonic() + 20
while len(seen["times"]) < frames and time.monotonic() < deadline:
    osc.run()
    time.sleep(0.002)
print(json.dumps(seen), flush=True)
"""


def test_vmcp_reads_every_bone_of_several_frames() -> None:
    pytest.importorskip("vmcp", reason="vmcp is not installed")
    pytest.importorskip("osc4py3", reason="osc4py3 is not installed")
    count = 5
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", _VMCP_RECEIVER, str(port), str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        client = OscClient("127.0.0.1", port)
        client.start(INFO)
        for seq in range(count):
            client.send(make_frame(seq))
            time.sleep(0.05)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    client.close()
    seen = json.loads(output)
    assert seen["root"] == count, errors
    assert seen["applies"] == count
    assert seen["states"] == [1] * count
    assert seen["times"] == sorted(seen["times"])
    assert len(seen["bones"]) == 55 * count
    for seq in range(count):
        expected = [row for row in messages_of(make_frame(seq), 0.0) if row[0].endswith("Bone/Pos")]
        got = seen["bones"][55 * seq : 55 * (seq + 1)]
        assert [row[0] for row in got] == [arguments[0] for _, _, arguments in expected]
        np.testing.assert_allclose(
            [row[1:] for row in got], [arguments[1:] for _, _, arguments in expected], atol=1e-6
        )
    assert seen["blends"][: len(BLENDS)] == [[name, value] for name, value in BLENDS.items()]
