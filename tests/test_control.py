"""Knobs turned over a real WebSocket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import connect

from ha2g_live.clients.control import refusal
from ha2g_live.clients.websocket import WebSocketClient
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.knobs import KNOBS, Knobs, as_dict
from ha2g_live.realtime.types import StreamInfo
from tests.test_jsonl import make_frame

INFO = StreamInfo(fps=60.0, model="test 1")
PATIENCE_S = 5.0


@pytest.fixture
def desk() -> Desk:
    return Desk(Knobs(), ("calm", "lively"))


@pytest.fixture
def server(desk: Desk) -> Iterator[WebSocketClient]:
    server = WebSocketClient(desk=desk)
    server.start(INFO)
    yield server
    server.close()


class Page:
    """Somebody who is connected."""

    def __init__(self, server: WebSocketClient) -> None:
        self.wire = connect(f"ws://127.0.0.1:{server.port}", compression=None)
        assert self.read()["type"] == "hello"

    def read(self) -> Any:
        return json.loads(self.wire.recv(PATIENCE_S))

    def ask(self, **fields: Any) -> Any:
        self.wire.send(json.dumps(fields))
        while True:
            answer = self.read()
            if answer["type"] != "frame":
                return answer

    def close(self) -> None:
        self.wire.close()


@pytest.fixture
def page(server: WebSocketClient) -> Iterator[Page]:
    page = Page(server)
    yield page
    page.close()


def test_knobs_are_turned_and_the_answer_says_where_all_stand(desk: Desk, page: Page) -> None:
    answer = page.ask(type="set", knobs={"intensity": 1.3, "style": "lively"}, id=7)
    assert answer == {"type": "knobs", "knobs": as_dict(desk.knobs), "id": 7}
    assert (desk.knobs.intensity, desk.knobs.style) == (1.3, "lively")


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_every_knob_can_be_turned(desk: Desk, page: Page, knob: Any) -> None:
    other = {"number": knob.high, "flag": True, "set": ["arms"], "choice": knob.words[-1:]}
    value = "calm" if knob.name == "style" else other[knob.kind]
    value = value[0] if knob.kind == "choice" and not isinstance(value, str) else value
    answer = page.ask(type="set", knobs={knob.name: value})
    assert answer["knobs"][knob.name] == value
    assert as_dict(desk.knobs)[knob.name] == value


def test_several_or_none(desk: Desk, page: Page) -> None:
    answer = page.ask(type="set", knobs={"intensity": 1.3, "smooth": 7}, id="a")
    assert answer["type"] == "error"
    assert answer["id"] == "a"
    assert "smooth is a number in 0..1, got 7" in answer["message"]
    assert desk.knobs == Knobs()


def test_where_the_knobs_stand_and_what_they_take_can_be_asked(page: Page, desk: Desk) -> None:
    desk.take_order("record", str)
    state = page.ask(type="get")
    assert state["orders"] == ["record"]
    assert set(state["knobs"]) == {knob.name for knob in KNOBS}
    assert state["knobs"]["style"]["expected"] == "one of calm, lively"


def test_everybody_is_told_when_a_knob_is_turned_elsewhere(
    server: WebSocketClient, desk: Desk, page: Page
) -> None:
    other = Page(server)
    desk.set("mirror", True)
    server.send(make_frame(0))
    for viewer in (page, other):
        messages = [viewer.read() for _ in range(2)]
        assert messages[0]["type"] == "knobs"
        assert messages[0]["knobs"]["mirror"] is True
        assert messages[1]["type"] == "frame"
    other.close()


def test_an_order_is_carried_out_while_frames_go_on(
    server: WebSocketClient, desk: Desk, page: Page
) -> None:
    release = threading.Event()

    def slow(value: Any) -> str:
        assert release.wait(PATIENCE_S)
        return f"listening to {value}"

    desk.take_order("device", slow)
    page.wire.send(json.dumps({"type": "order", "name": "device", "value": "usb", "id": 1}))
    server.send(make_frame(0))
    assert page.read()["type"] == "frame"
    release.set()
    assert page.read() == {
        "type": "done", "name": "device", "message": "listening to usb", "id": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"type": "set"}, '"knobs"'),
        ({"type": "set", "knobs": {}}, '"knobs"'),
        ({"type": "set", "knobs": {"volume": 1}}, "no knob 'volume'"),
        ({"type": "set", "knobs": {"parts": {"arms": 1}}}, "some of arms"),
        ({"type": "order"}, '"name"'),
        ({"type": "order", "name": "explode"}, "no order 'explode'"),
        ({"type": "turn"}, "one of the types 'subscribe', 'set', 'get', 'order'"),
    ],
)
def test_a_mistake_is_answered(page: Page, desk: Desk, request_: Any, said: str) -> None:
    answer = page.ask(**request_)
    assert answer["type"] == "error"
    assert said in answer["message"]
    assert desk.knobs == Knobs()


def test_control_can_be_refused(desk: Desk) -> None:
    server = WebSocketClient(desk=desk, who="none")
    server.start(INFO)
    page = Page(server)
    answer = page.ask(type="set", knobs={"intensity": 0.1})
    assert answer["type"] == "error"
    assert "takes no control" in answer["message"]
    assert desk.knobs == Knobs()
    page.close()
    server.close()
    assert "--control all" in refusal("local", "192.168.1.5")


def test_without_a_desk_there_is_nothing_to_control() -> None:
    server = WebSocketClient()
    server.start(INFO)
    page = Page(server)
    assert page.ask(type="get")["type"] == "error"
    page.close()
    server.close()


def test_a_page_of_elsewhere_may_watch_and_not_control(desk: Desk) -> None:
    server = WebSocketClient(desk=desk, allowed_origins=("https://example.org",))
    server.start(INFO)
    uri = f"ws://127.0.0.1:{server.port}"
    for origin, may in (("https://example.org", False), ("http://localhost:3000", True)):
        with connect(uri, origin=origin, compression=None) as wire:  # type: ignore[arg-type]
            assert json.loads(wire.recv(PATIENCE_S))["type"] == "hello"
            wire.send(json.dumps({"type": "set", "knobs": {"intensity": 0.1}, "id": 5}))
            answer = json.loads(wire.recv(PATIENCE_S))
            assert (answer["type"], answer["id"]) == ("knobs" if may else "error", 5)
            assert (desk.knobs.intensity == 0.1) == may
    server.close()


def test_an_order_that_breaks_is_answered(desk: Desk, page: Page) -> None:
    def broken(value: Any) -> str:
        raise OSError("the disk is on fire")

    desk.take_order("record", broken)
    answer = page.ask(type="order", name="record", id="x")
    assert answer["type"] == "error"
    assert "the disk is on fire" in answer["message"]
    assert page.ask(type="get")["type"] == "state"


def test_closing_does_not_wait_for_an_order(desk: Desk) -> None:
    release = threading.Event()
    desk.take_order("device", lambda value: str(release.wait(60.0)))
    server = WebSocketClient(desk=desk)
    server.start(INFO)
    page = Page(server)
    page.wire.send(json.dumps({"type": "order", "name": "device"}))
    closed = threading.Event()

    def close() -> None:
        server.close()
        closed.set()

    threading.Thread(target=close).start()
    assert closed.wait(20.0), "the server waits for an order that takes a minute"
    release.set()
    page.close()


def test_a_viewer_is_told_once_and_not_again(
    server: WebSocketClient, desk: Desk, page: Page
) -> None:
    desk.set("mirror", True)
    for seq in range(3):
        server.send(make_frame(seq))
        wanted = ["knobs", "frame"] if seq == 0 else ["frame"]
        assert [page.read()["type"] for _ in wanted] == wanted
