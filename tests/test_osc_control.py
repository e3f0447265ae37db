"""Knobs turned by OSC messages: real sockets, a foreign sender, broken and hostile packets."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from ha2g_live.clients.osc_control import OscControl
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import ClientError
from ha2g_live.realtime.knobs import BY_NAME, KNOBS, Knobs

PATIENCE_S = 5.0


@pytest.fixture
def desk() -> Desk:
    return Desk(Knobs(), ("calm", "lively"))


@pytest.fixture
def control(desk: Desk) -> Iterator[OscControl]:
    control = OscControl("127.0.0.1", 0, desk)
    control.start()
    yield control
    control.close()


@pytest.fixture
def sender(control: OscControl) -> Iterator[socket.socket]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.settimeout(PATIENCE_S)
    udp.connect(("127.0.0.1", control.port))
    yield udp
    udp.close()


def message(address: str, *values: Any) -> Any:
    builder = OscMessageBuilder(address)
    for value in values:
        builder.add_arg(value)
    return builder.build()


def ask(sender: socket.socket, address: str, *values: Any) -> tuple[str, list[Any]]:
    sender.send(message(address, *values).dgram)
    answer = OscMessage(sender.recv(65536))
    return answer.address, list(answer.params)


@pytest.mark.parametrize(
    ("address", "values", "knob", "stands"),
    [
        ("/ha2g/intensity", (1.3,), "intensity", pytest.approx(1.3)),
        ("/ha2g/energy", (2,), "energy", 2.0),
        ("/ha2g/smooth", ("0.5",), "smooth", 0.5),
        ("/ha2g/style", ("lively",), "style", "lively"),
        ("/ha2g/handedness", ("left",), "handedness", "left"),
        ("/ha2g/mirror", (1.0,), "mirror", True),
        ("/ha2g/mirror", (True,), "mirror", True),
        ("/ha2g/parts", ("arms,hands",), "parts", ("arms", "hands")),
        ("/ha2g/parts", ("hands", "face"), "parts", ("hands", "face")),
        ("/ha2g/rest-pose", ("desk",), "rest_pose", "desk"),
        ("/ha2g/life", (0.0,), "life", 0.0),
        ("/ha2g/delay_ms", (120,), "delay_ms", 120.0),
        ("/ha2g/gain_db", ("auto",), "gain_db", "auto"),
        ("/ha2g/gate_db", (-45.0,), "gate_db", -45.0),
        ("/ha2g/face", ("full",), "face", "full"),
    ],
)
def test_every_knob_can_be_turned(
    desk: Desk, sender: socket.socket, address: str, values: Any, knob: str, stands: Any
) -> None:
    answered, said = ask(sender, address, *values)
    assert (answered, said[0]) == ("/ha2g/ok", knob)
    assert getattr(desk.knobs, knob) == stands


def test_the_test_above_knows_every_knob() -> None:
    (mark,) = (m for m in test_every_knob_can_be_turned.pytestmark if m.name == "parametrize")
    assert {row[2] for row in mark.args[1]} == set(BY_NAME)


@pytest.mark.parametrize(
    ("address", "values", "said"),
    [
        ("/ha2g/intensity", (9.0,), "intensity is a number in 0..2, got 9.0"),
        ("/ha2g/intensity", ("big",), "got 'big'"),
        ("/ha2g/intensity", (), "intensity is a number"),
        ("/ha2g/style", ("wild",), "choose one of calm, lively"),
        ("/ha2g/volume", (1,), "no knob 'volume'"),
        ("/ha2g/get", ("volume",), "no knob 'volume'"),
        ("/ha2g/order/explode", (), "no order 'explode'"),
        ("/ha2g/", (1,), "no knob ''"),
    ],
)
def test_a_mistake_is_answered_and_changes_nothing(
    desk: Desk, control: OscControl, sender: socket.socket, address: str, values: Any, said: str
) -> None:
    answered, texts = ask(sender, address, *values)
    assert answered == "/ha2g/error"
    assert said in texts[0]
    assert desk.knobs == Knobs()
    assert control.refused == 1


def test_where_all_knobs_stand_can_be_asked(sender: socket.socket) -> None:
    sender.send(message("/ha2g/get").dgram)
    answers = [OscMessage(sender.recv(65536)) for _ in KNOBS]
    assert [a.params[0] for a in answers] == [knob.name for knob in KNOBS]
    assert ask(sender, "/ha2g/get", "intensity") == ("/ha2g/ok", ["intensity", 1.0])


def test_orders_are_given(desk: Desk, sender: socket.socket) -> None:
    desk.take_order("record", lambda value: f"recording {value}")
    assert ask(sender, "/ha2g/order/record", True) == ("/ha2g/done", ["record", "recording True"])


def test_an_order_that_breaks_is_answered_and_a_slow_one_holds_nobody_up(
    desk: Desk, sender: socket.socket
) -> None:
    release = threading.Event()

    def slow(value: Any) -> str:
        assert release.wait(PATIENCE_S)
        raise OSError("the disk is on fire")

    desk.take_order("record", slow)
    sender.send(message("/ha2g/order/record", 1).dgram)
    assert ask(sender, "/ha2g/intensity", 0.5) == ("/ha2g/ok", ["intensity", 0.5])
    assert "another order" in ask(sender, "/ha2g/order/record", 1)[1][0]
    release.set()
    answer = OscMessage(sender.recv(65536))
    assert answer.address == "/ha2g/error"
    assert "the disk is on fire" in answer.params[0]
    assert ask(sender, "/ha2g/intensity", 0.75)[0] == "/ha2g/ok"


def test_a_bundle_turns_several(desk: Desk, sender: socket.socket) -> None:
    bundle = OscBundleBuilder(IMMEDIATELY)
    bundle.add_content(message("/ha2g/intensity", 0.5))
    bundle.add_content(message("/ha2g/mirror", 1))
    sender.send(bundle.build().dgram)
    for _ in range(2):
        sender.recv(65536)
    assert (desk.knobs.intensity, desk.knobs.mirror) == (0.5, True)


@pytest.mark.parametrize(
    "packet",
    [b"", b"\0", b"/ha2g/intensity", b"#bundle\0", b"#bundle\0" + bytes(8) + b"\xff\xff\xff\xff",
     b"/ha2g/intensity\0,f\0\0\0", b"/ha2g/life\0\0,f\0\0", b"/ha2g/life\0\0,f\0\0\0\0",
     b"/ha2g/life\0\0,b\0\0\0\0\0\x04\1\2\3\4", b"/ha2g/life\0\0,q\0\0\0\0\0\0",
     b"#bundle\0" + bytes(8) + (b"\0\0\0\x10" + b"#bundle\0" + bytes(8)) * 40,
     bytes(range(256)), b"/ha2g/style\0,s\0\0\xff\xfe\0\0"],
)  # fmt: skip
def test_a_broken_packet_stops_nothing(desk: Desk, sender: socket.socket, packet: bytes) -> None:
    sender.send(packet)
    sender.send(message("/ha2g/intensity", 0.25).dgram)
    wait_for(lambda: desk.knobs.intensity == 0.25)
    assert desk.knobs == Knobs(intensity=0.25)  # what is cut off is not zero


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.005)


def test_a_flood_is_read_or_dropped_and_the_last_word_counts(
    desk: Desk, control: OscControl, sender: socket.socket
) -> None:
    for k in range(3000):
        sender.send(message("/ha2g/intensity", k / 3000).dgram)
    wait_for(lambda: control.received > 0)

    def told() -> bool:
        sender.send(message("/ha2g/intensity", 2.0).dgram)
        return desk.knobs.intensity == 2.0

    wait_for(told)


def test_numbers_that_are_none_are_refused(desk: Desk, sender: socket.socket) -> None:
    sender.send(b"/ha2g/intensity\0,f\0\0" + struct.pack(">f", float("nan")))
    assert OscMessage(sender.recv(65536)).address == "/ha2g/error"
    assert desk.knobs.intensity == 1.0


def test_messages_for_others_are_passed_over(desk: Desk, sender: socket.socket) -> None:
    sender.send(message("/avatar/parameters/Voice", 0.3).dgram)
    assert ask(sender, "/ha2g/intensity", 1.5)[0] == "/ha2g/ok"


def test_a_taken_port_is_one_line(control: OscControl, desk: Desk) -> None:
    second = OscControl("127.0.0.1", control.port, desk)
    with pytest.raises(ClientError, match=str(control.port)) as caught:
        second.start()
    assert "\n" not in str(caught.value)
    second.close()


def test_closing_twice_frees_the_port(desk: Desk) -> None:
    control = OscControl("127.0.0.1", 0, desk)
    control.start()
    port = control.port
    control.close()
    control.close()
    again = OscControl("127.0.0.1", port, desk)
    again.start()
    again.close()


@pytest.mark.skipif(shutil.which("oscsend") is None, reason="oscsend (liblo-tools) is missing")
def test_a_foreign_sender_turns_a_knob(desk: Desk, control: OscControl) -> None:
    command = ["oscsend", "127.0.0.1", str(control.port), "/ha2g/intensity", "f", "0.75"]
    subprocess.run(command, check=True, timeout=10)
    wait_for(lambda: desk.knobs.intensity == 0.75)
