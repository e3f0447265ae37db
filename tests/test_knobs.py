"""The table of knobs, and the desk that holds them."""

from __future__ import annotations

from typing import Any

import pytest

from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import AudioError, ConfigError
from ha2g_live.realtime.knobs import BY_NAME, KNOBS, PARTS, Knobs, as_dict, changed, read

STYLES = ("calm", "lively")


def test_every_field_is_in_the_table_and_its_usual_value_can_be_read() -> None:
    assert list(as_dict(Knobs())) == [knob.name for knob in KNOBS]
    for knob in KNOBS:
        assert read(knob.name, knob.usual, STYLES) == knob.usual
        assert knob.help


@pytest.mark.parametrize(
    ("name", "said", "stands"),
    [
        ("intensity", "1.3", 1.3), ("intensity", 2, 2.0), ("delay-ms", 40.5, 40.5),
        ("gain_db", "auto", "auto"), ("gain_db", -6, -6.0), ("gate_db", "off", "off"),
        ("gate_db", "-45", -45.0), ("mirror", "on", True), ("mirror", 0, False),
        ("mirror", 1.0, True), ("mirror", "No", False), ("handedness", "left", "left"),
        ("style", "lively", "lively"), ("style", "", ""),
        ("parts", "hands, arms", ("arms", "hands")),
        ("parts", [], ()), ("parts", ["face"], ("face",)), ("face", "full", "full"),
        ("rest_pose", "desk", "desk"),
    ],
)  # fmt: skip
def test_what_people_and_programs_say_is_understood(name: str, said: Any, stands: Any) -> None:
    assert read(name, said, STYLES) == stands


@pytest.mark.parametrize(
    ("name", "said", "answer"),
    [
        ("intensity", "big", "intensity is a number in 0..2, got 'big'"),
        ("intensity", 2.01, "got 2.01"), ("intensity", float("nan"), "0..2, got nan"),
        ("intensity", True, "got True"), ("intensity", None, "got None"),
        ("intensity", [1], "got"), ("gain_db", "loud", "-30..30 or auto, got 'loud'"),
        ("gate_db", 1, "-90..0 or auto or off"), ("mirror", "maybe", "mirror is on or off"),
        ("mirror", 2, "got 2"), ("handedness", "up", "one of both, left, right"),
        ("style", "wild", "the model has no style 'wild': choose one of calm, lively"),
        ("style", 3, "no style 3"), ("parts", "arms,feet", "some of arms, hands"),
        ("parts", 5, "some of"), ("parts", [["arms"]], "some of"),
        ("volume", 1, "there is no knob 'volume': they are style, intensity"),
        ("face", "x" * 500, "one of none, mouth, full"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_in_one_short_line(name: str, said: Any, answer: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(name, said, STYLES)
    assert answer in str(caught.value)
    assert len(str(caught.value)) < 260


def test_several_knobs_are_turned_together_or_none() -> None:
    knobs = changed(Knobs(), {"intensity": 0.5, "rest-pose": "hips"}, STYLES)
    assert (knobs.intensity, knobs.rest_pose) == (0.5, "hips")
    desk = Desk(Knobs(), STYLES)
    with pytest.raises(ConfigError, match="smooth"):
        desk.update({"intensity": 0.5, "smooth": 9})
    assert desk.knobs == Knobs()
    assert desk.changes == 0


def test_the_desk_counts_changes_and_answers_with_what_stands() -> None:
    desk = Desk(Knobs(), STYLES)
    assert desk.set("intensity", "1.5") == 1.5
    assert desk.set("parts", "face") == ("face",)
    desk.set("intensity", 1.5)
    assert desk.changes == 2
    assert desk.state()["style"]["expected"] == "one of calm, lively"
    assert desk.state()["parts"]["value"] == ["face"]


def test_a_desk_refuses_knobs_that_cannot_be_from_the_start() -> None:
    with pytest.raises(ConfigError, match="no style"):
        Desk(Knobs(style="wild"), STYLES)
    assert Desk(Knobs(style="wild")).knobs.style == "wild"  # no model says which there are


def test_orders_are_carried_out_or_answered() -> None:
    desk = Desk()
    with pytest.raises(ConfigError, match="none in this run"):
        desk.order("record")
    desk.take_order("record", lambda value: f"recording {value}")

    def refuse(value: Any) -> str:
        raise AudioError(f"no such device {value}")

    desk.take_order("device", refuse)
    assert desk.orders == ("record", "device")
    assert desk.order("record", True) == "recording True"
    with pytest.raises(AudioError, match="no such device 9"):
        desk.order("device", 9)
    with pytest.raises(ConfigError, match="they are record, device"):
        desk.order("explode")


def test_parts_keep_their_order() -> None:
    assert read("parts", list(reversed(PARTS))) == PARTS
    assert BY_NAME["parts"].option == "--parts"
    assert BY_NAME["delay_ms"].option == "--delay-ms"
