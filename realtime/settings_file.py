"""The settings file: what `ha2g-live init` writes and `--config` reads.

TOML. Every entry may be left out; what the command line says stands above it.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.knobs import KNOBS, Knob, Knobs, Value, read

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

USUAL_NAME = "ha2g-live.toml"
_LARGEST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting that is no knob.

    Attributes:
        section: the table it stands in.
        name: of the setting.
        kind: what it is: a text, a list of texts or a number.
        example: a value for the template, where the line is commented out.
        help: one line for people.
    """

    section: str
    name: str
    kind: type
    example: str
    help: str


ENTRIES: tuple[Entry, ...] = (
    Entry("input", "mic", str, '"default"', "a microphone: a number or a part of a name"),
    Entry("avatar", "file", str, '"me.vrm"', "your avatar, .vrm or .glb: adapts to its body"),
    Entry("avatar", "face_names", str, '"vrm1"', "names of the face's blends: vrm1, vrm0, arkit"),
    Entry("targets", "osc", list, '["127.0.0.1:39539"]', "programs that speak the VMC protocol"),
    Entry("targets", "ws", str, '"8765"', "serve web pages and programs over WebSocket"),
    Entry("targets", "record", str, '"motion.jsonl"', "a file, one frame a line"),
    Entry("control", "osc_in", str, '"9100"', "listen for OSC messages that turn knobs"),
    Entry("control", "ui", str, '"8080"', "serve the control page at this port"),
    Entry("run", "fps", float, "60", "frames a second, 24 to 144"),
    Entry("run", "seed", int, "0", "another number chooses other gestures"),
)
_SECTIONS = tuple(dict.fromkeys(entry.section for entry in ENTRIES))


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """What a file says.

    Attributes:
        knobs: knobs that it sets.
        entries: other settings, by (section, name).
    """

    knobs: dict[str, Value] = field(default_factory=dict)
    entries: dict[tuple[str, str], Any] = field(default_factory=dict)


def template() -> str:
    """The commented file with every setting."""
    lines = [
        "# Settings of ha2g-live. Start with  ha2g-live --config FILE",
        "# What the command line says stands above this file.",
        "",
        "[knobs]  # all of them can be turned while it runs",
    ]
    for knob in KNOBS:
        lines.append(f"# {knob.help}")
        lines.append(f"# {_range_of(knob)}")
        lines.append(f"{knob.name} = {_toml(getattr(Knobs(), knob.name))}")
    for section in _SECTIONS:
        lines += ["", f"[{section}]"]
        for entry in ENTRIES:
            if entry.section == section:
                lines += [f"# {entry.help}", f"# {entry.name} = {entry.example}"]
    return "\n".join(lines) + "\n"


def write_template(path: Path) -> None:
    """Write the commented file.

    Raises:
        ConfigError: the file is there already, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        raise ConfigError(f"{path} is there already: choose another name or remove it") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def load(path: Path) -> SettingsFile:
    """Read a settings file.

    Raises:
        ConfigError: it is missing, no TOML, or says something that cannot be; one line says what.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ConfigError(f"{path} is no settings file: it is larger than 1 MB")
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the settings {path}: {error.strerror or error}; "
            "ha2g-live init  writes a new file"
        ) from error
    except UnicodeDecodeError:
        raise ConfigError(f"the settings {path} are not text in UTF-8") from None
    except (ValueError, RecursionError) as error:
        # TOMLDecodeError is a ValueError; a number of thousands of digits is another.
        text = " ".join(str(error).split())[:200]
        raise ConfigError(f"the settings {path} are no TOML: {text}") from None
    knobs: dict[str, Value] = {}
    entries: dict[tuple[str, str], Any] = {}
    for section, table in tables.items():
        if section not in ("knobs", *_SECTIONS):
            raise ConfigError(f"{path}: {_unknown('section', section, ('knobs', *_SECTIONS))}")
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {section} is a section: write [{section}]")
        for name, value in table.items():
            try:
                if section == "knobs":
                    known = tuple(knob.name for knob in KNOBS)
                    if name not in known:
                        raise ConfigError(_unknown("knob", name, known))
                    knobs[name] = read(name, value)
                else:
                    entries[section, name] = _entry(section, name, value)
            except ConfigError as error:
                raise ConfigError(f"{path}: {error}") from None
    return SettingsFile(knobs, entries)


def _entry(section: str, name: str, value: Any) -> Any:
    known = {entry.name: entry for entry in ENTRIES if entry.section == section}
    if name not in known:
        raise ConfigError(_unknown(f"setting of [{section}]", name, tuple(known)))
    entry = known[name]
    if entry.kind is list:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        raise ConfigError(f"{section}.{name} is a list of texts, such as {entry.example}")
    if entry.kind is str and type(value) in (str, int):
        return str(value)  # a port or a device may be written as a number
    if entry.kind is float and type(value) in (int, float):
        return float(value)
    if entry.kind is int and type(value) is int:
        return value
    raise ConfigError(f"{section}.{name} is {_kind_of(entry)}, got {value!r:.60}")


def _kind_of(entry: Entry) -> str:
    words = {str: "a text", float: "a number", int: "a whole number"}
    return f"{words[entry.kind]}, such as {entry.example}"


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"they are {', '.join(known)}"
    return f"there is no {what} {name!r}: {hint}"


def _range_of(knob: Knob) -> str:
    if knob.name == "style":
        return 'a style of the model: ha2g-live --style ? lists them; "" is the usual one'
    return knob.expected()


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"
