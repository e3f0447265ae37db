"""What a streamer turns while the avatar moves: every knob, its range, and how a value is read.

One table describes the knobs for all who set them: the command line, the settings file, the
WebSocket, OSC and the control page. ``Knobs`` is a plain value; ``desk`` holds the current one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from ha2g_live.realtime.errors import ConfigError

PARTS = ("arms", "hands", "head", "torso", "face")
REST_POSES = ("model", "sides", "front", "hips", "desk")
FACES = ("none", "mouth", "full")
HANDEDNESS = ("both", "left", "right")
AUTO = "auto"
OFF = "off"


@dataclass(frozen=True, slots=True)
class Knobs:
    """Where every knob stands.

    Attributes:
        style: a style of the model; an empty text is the model's usual one.
        intensity: how large gestures are, against the rest pose; 1 is as the model makes them.
        energy: how readily gestures begin; 2 doubles the odds, 0 begins none.
        smooth: 0 none, 1 slow and soft.
        handedness: which hands gesture; the other one rests.
        mirror: left and right exchanged.
        parts: what is moved; bones of other parts are not sent to avatar programs.
        rest_pose: where the arms are while nothing is said.
        life: size of breathing, sway, glances; 0 switches them off.
        delay_ms: motion is shown this much later, to meet sound that is delayed.
        gain_db: added to the input's level, or "auto".
        gate_db: below this level the input counts as silence; "auto" follows the room, "off".
        face: blends that are sent.
    """

    style: str = ""
    intensity: float = 1.0
    energy: float = 1.0
    smooth: float = 0.0
    handedness: str = "both"
    mirror: bool = False
    parts: tuple[str, ...] = PARTS
    rest_pose: str = "model"
    life: float = 1.0
    delay_ms: float = 0.0
    gain_db: float | str = 0.0
    gate_db: float | str = OFF
    face: str = "none"


Value = float | str | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Knob:
    """How one knob is set.

    Attributes:
        name: the field of ``Knobs``; with "-" in place of "_" on the command line.
        kind: a number, one of some words, yes or no, or a set of words.
        help: one line for people.
        low: smallest number.
        high: largest number.
        words: what may be said; for a number, in place of one. Of ``style`` the model knows them.
        unit: of a number.
    """

    name: str
    kind: Literal["number", "choice", "flag", "set"]
    help: str
    low: float = 0.0
    high: float = 0.0
    words: tuple[str, ...] = ()
    unit: str = ""

    @property
    def option(self) -> str:
        """The option of the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def usual(self) -> Value:
        """Where it stands when nobody touched it."""
        value: Value = getattr(Knobs(), self.name)
        return value

    def expected(self, words: Sequence[str] = ()) -> str:
        """What may be said, in words."""
        words = tuple(words) or self.words
        if self.kind == "number":
            text = f"a number in {self.low:g}..{self.high:g}"
            return text + "".join(f" or {word}" for word in words)
        if self.kind == "flag":
            return "on or off"
        listed = ", ".join(words)
        return f"one of {listed}" if self.kind == "choice" else f"some of {listed}"


KNOBS: tuple[Knob, ...] = (
    Knob("style", "choice", "the speaker's way of gesturing; empty is the model's usual one"),
    Knob("intensity", "number", "how large the gestures are", 0.0, 2.0),
    Knob("energy", "number", "how readily gestures begin; 2 doubles the odds", 0.0, 2.0),
    Knob("smooth", "number", "0 as quick as the voice, 1 slow and soft", 0.0, 1.0),
    Knob("handedness", "choice", "which hands gesture; the other rests", words=HANDEDNESS),
    Knob("mirror", "flag", "exchange left and right"),
    Knob("parts", "set", "what moves; other bones are left to your tracker", words=PARTS),
    Knob("rest_pose", "choice", "where the arms are while you are silent", words=REST_POSES),
    Knob("life", "number", "size of breathing, sway, glances and blinks", 0.0, 2.0),
    Knob("delay_ms", "number", "show the motion later, to meet delayed sound", 0.0, 3000.0,
         unit="ms"),
    Knob("gain_db", "number", "louder or softer input", -30.0, 30.0, (AUTO,), "dB"),
    Knob("gate_db", "number", "softer than this is silence", -90.0, 0.0, (AUTO, OFF), "dB"),
    Knob("face", "choice", "lip sync, or lip sync with blinks, brows and a smile", words=FACES),
)  # fmt: skip
"""All knobs, in the order in which people see them."""

BY_NAME: dict[str, Knob] = {knob.name: knob for knob in KNOBS}

_YES = ("on", "true", "yes", "1")
_NO = ("off", "false", "no", "0")


def read(name: str, value: Any, styles: Sequence[str] = ()) -> Value:
    """A knob's value from what somebody said: text, a number, a list.

    Args:
        name: the knob, with "_" or "-".
        value: what was said.
        styles: the model's styles; with none, any style is taken.

    Raises:
        ConfigError: there is no such knob, or it cannot stand there.
    """
    knob = BY_NAME.get(name.replace("-", "_"))
    if knob is None:
        raise ConfigError(f"there is no knob {name!r}: they are {', '.join(BY_NAME)}")
    words = ("", *styles) if knob.name == "style" and styles else knob.words
    wrong = ConfigError(f"{knob.name} is {knob.expected(words)}, got {_shown(value)}")
    if knob.name == "style" and styles:
        wrong = ConfigError(
            f"the model has no style {_shown(value)}: choose one of {', '.join(styles)}"
        )
    if knob.kind == "number":
        return _number(knob, value, wrong)
    if knob.kind == "flag":
        return _flag(value, wrong)
    if knob.kind == "set":
        return _set(words, value, wrong)
    if not isinstance(value, str) or (words and value not in words):
        raise wrong
    return value


def changed(knobs: Knobs, said: Mapping[str, Any], styles: Sequence[str] = ()) -> Knobs:
    """The knobs after all of ``said``, or none of it.

    Raises:
        ConfigError: one of them cannot be.
    """
    values: dict[str, Any] = {n.replace("-", "_"): read(n, v, styles) for n, v in said.items()}
    return replace(knobs, **values)


def as_dict(knobs: Knobs) -> dict[str, Any]:
    """Plain values, as JSON and TOML take them."""
    values = {field.name: getattr(knobs, field.name) for field in fields(knobs)}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a number of very many digits"
    return text if len(text) <= 60 else text[:57] + "..."


def _number(knob: Knob, value: Any, wrong: ConfigError) -> float | str:
    if isinstance(value, str) and value in knob.words:
        return value
    if isinstance(value, bool | bytes | bytearray):
        raise wrong
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong from None
    # Written so that NaN is refused too.
    if not (math.isfinite(number) and knob.low <= number <= knob.high):
        raise wrong
    return number


def _flag(value: Any, wrong: ConfigError) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in _YES + _NO:
        return value.lower() in _YES
    raise wrong


def _set(words: Sequence[str], value: Any, wrong: ConfigError) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [word.strip() for word in value.split(",") if word.strip()]
    if not isinstance(value, list | tuple) or not all(word in words for word in value):
        raise wrong
    return tuple(word for word in words if word in value)
