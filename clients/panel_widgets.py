"""The widgets of the control page and what they ask the desk for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.knobs import KNOBS, Knob

if TYPE_CHECKING:
    from ha2g_live.clients.panel import Report

_USUAL_STYLE = "(usual)"
_METER_DB = 60.0
_LABELS = {
    "style": "Style",
    "intensity": "Gesture size",
    "energy": "How often",
    "smooth": "Smoothness",
    "handedness": "Hands that gesture",
    "mirror": "Mirror left and right",
    "rest_pose": "Pose while silent",
    "life": "Breathing and sway",
    "delay_ms": "Delay (ms)",
    "gain_db": "Gain (dB)",
    "gate_db": "Noise gate (dB)",
    "face": "Face",
}
_FOLDERS = (
    ("Motion", ("style", "intensity", "energy", "smooth", "handedness", "mirror", "rest_pose",
                "life", "delay_ms")),
    ("Sound", ("gain_db", "gate_db")),
    ("Face", ("face",)),
)  # fmt: skip


class Widgets:
    """All widgets of the page; the same for every browser that is open.

    Threads: ``update`` for one; viser calls back in its own.

    Args:
        server: viser's.
        desk: the run's.
    """

    def __init__(self, server: Any, desk: Desk) -> None:
        self._server = server
        self._desk = desk
        self._set: dict[str, Callable[[Any], None]] = {}
        self._seen_changes = -1
        self._following = False  # while the page follows the desk, its callbacks ask for nothing
        gui = server.gui
        gui.configure_theme(show_logo=False, show_share_button=False, brand_color=(64, 104, 168))
        gui.main_panel.dock_right()
        server.gui.set_panel_label("ha2g-live")
        self._state = gui.add_markdown("")
        with gui.add_folder("Microphone"):
            self._device = gui.add_dropdown("Listen to", ("…",), initial_value="…")
            self._level = gui.add_progress_bar(0.0, color="green")
            self._device.on_update(self._on_device)
            self._record = gui.add_button("Start recording", color="red")
            self._record.on_click(self._on_record)
        by_name = {knob.name: knob for knob in KNOBS}
        for title, names in _FOLDERS:
            with gui.add_folder(title):
                for name in names:
                    self._add(by_name[name])
        with gui.add_folder("What moves"):
            self._add_parts(by_name["parts"])
        with gui.add_folder("Where it goes"):
            self._targets = gui.add_markdown("")
        self._recording = False

    def update(self, report: Report) -> None:
        """Show the state of the run, and knobs that were turned elsewhere."""
        level_db = 20.0 * math.log10(max(report.level, 1e-6))
        self._level.value = 100.0 * min(max(1.0 + level_db / _METER_DB, 0.0), 1.0)
        latency = "" if report.latency_ms is None else f" · {report.latency_ms:.0f} ms behind"
        late = f" · {report.late} late" if report.late else ""
        trouble = f"\n\n**{report.message}**" if report.message else ""
        self._write(
            self._state, f"{report.model} · {report.fps:.0f} frames/s{latency}{late}{trouble}"
        )
        rows = "".join(
            f"\n| {_cell(t.name)} | {_cell(t.state)} | {t.sent} | {t.dropped} |"
            for t in report.targets
        )
        self._write(
            self._targets,
            f"| target | state | sent | dropped |\n|---|---|---|---|{rows}"
            if rows
            else "Nowhere yet: start with  `--osc 127.0.0.1:39539`",
        )
        self._follow_device(report)
        if bool(report.recording) != self._recording:
            self._recording = bool(report.recording)
            self._record.label = "Stop recording" if self._recording else "Start recording"
        if self._desk.changes != self._seen_changes:
            self._seen_changes = self._desk.changes
            self._follow()

    # --- from the desk to the page

    @staticmethod
    def _write(field: Any, text: str) -> None:
        if field.content != text:
            field.content = text

    def _follow(self) -> None:
        self._following = True
        try:
            for name, put in self._set.items():
                put(getattr(self._desk.knobs, name))
        finally:
            self._following = False

    def _follow_device(self, report: Report) -> None:
        names = tuple(dict.fromkeys((report.device, *report.devices)))
        self._following = True
        try:
            if tuple(self._device.options) != names:
                self._device.options = names
            if self._device.value != report.device:
                self._device.value = report.device
        finally:
            self._following = False

    # --- from the page to the desk

    def _ask(self, name: str, value: Any, event: Any) -> None:
        if self._following or value == getattr(self._desk.knobs, name):
            return
        try:
            self._desk.set(name, value)
        except Ha2gError as error:
            self._complain(error, event)
            self._follow()

    def _complain(self, error: Exception, event: Any) -> None:
        if event.client is not None:
            event.client.add_notification("That cannot be", str(error), color="red")

    def _on_device(self, event: Any) -> None:
        name = self._device.value
        if self._following or name == "…":
            return
        self._order("device", name, event)

    def _on_record(self, event: Any) -> None:
        self._order("record", not self._recording, event)

    def _order(self, name: str, value: Any, event: Any) -> None:
        try:
            said = self._desk.order(name, value)
        except Ha2gError as error:
            self._complain(error, event)
        else:
            if event.client is not None:
                event.client.add_notification("Done", said, color="green", auto_close_seconds=4.0)

    # --- a widget for each kind of knob

    def _add(self, knob: Knob) -> None:
        gui, name, label = self._server.gui, knob.name, _LABELS[knob.name]
        now = getattr(self._desk.knobs, name)
        if knob.kind == "flag":
            field = gui.add_checkbox(label, now, hint=knob.help)
        elif knob.kind == "choice":
            words = (_USUAL_STYLE, *self._desk.styles) if name == "style" else knob.words
            field = gui.add_dropdown(label, words, initial_value=now or words[0], hint=knob.help)
        elif knob.words:
            self._add_number_or_word(knob, label)
            return
        else:
            step = 1.0 if knob.unit == "ms" else 0.05
            field = gui.add_slider(label, knob.low, knob.high, step, now, hint=knob.help)
        field.on_update(
            lambda event: self._ask(name, "" if field.value == _USUAL_STYLE else field.value, event)
        )

        def put(value: Any) -> None:
            value = value or _USUAL_STYLE if name == "style" else value
            if field.value != value:
                field.value = value

        self._set[name] = put

    def _add_number_or_word(self, knob: Knob, label: str) -> None:
        """A choice between the words and "by hand", and a slider for the latter."""
        gui, by_hand = self._server.gui, "by hand"
        now = getattr(self._desk.knobs, knob.name)
        word = gui.add_dropdown(
            label,
            (by_hand, *knob.words),
            initial_value=now if isinstance(now, str) else by_hand,
            hint=knob.help,
        )
        middle = 0.0 if knob.low < 0.0 < knob.high else 0.5 * (knob.low + knob.high)
        number = gui.add_slider(
            "", knob.low, knob.high, 1.0, middle if isinstance(now, str) else now
        )
        number.visible = not isinstance(now, str)

        def ask(event: Any) -> None:
            value = number.value if word.value == by_hand else word.value
            number.visible = word.value == by_hand
            self._ask(knob.name, value, event)

        word.on_update(ask)
        number.on_update(ask)

        def put(value: Any) -> None:
            wanted = value if isinstance(value, str) else by_hand
            if word.value != wanted:
                word.value = wanted
            number.visible = wanted == by_hand
            if not isinstance(value, str) and number.value != value:
                number.value = value

        self._set[knob.name] = put

    def _add_parts(self, knob: Knob) -> None:
        gui = self._server.gui
        now = self._desk.knobs.parts
        boxes = {part: gui.add_checkbox(part.capitalize(), part in now) for part in knob.words}

        def ask(event: Any) -> None:
            self._ask("parts", tuple(part for part, box in boxes.items() if box.value), event)

        for box in boxes.values():
            box.on_update(ask)

        def put(value: Any) -> None:
            for part, box in boxes.items():
                if box.value != (part in value):
                    box.value = part in value

        self._set["parts"] = put


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
