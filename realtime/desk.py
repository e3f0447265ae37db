"""The control desk: who sets a knob or gives an order asks here, and the stages read from here.

command line, file ──┐
WebSocket, OSC, page ┼─ set, order ─> Desk ── knobs ─> infer and emit threads
                     ┘                 └──── orders ─> owner (device, recording)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.knobs import BY_NAME, Knobs, Value, as_dict, changed

Order = Callable[[Any], str]
"""Carries out an order given with a value; returns what to say, raises a ``Ha2gError``."""


class Desk:
    """Holds where the knobs stand.

    Threads: any. Readers take ``knobs``, a plain value that is replaced as a whole.

    Args:
        knobs: where they stand at first.
        styles: what the model knows; none checks no style.

    Attributes:
        styles: the model's styles.
        changes: how often something was changed.
    """

    def __init__(self, knobs: Knobs | None = None, styles: Sequence[str] = ()) -> None:
        self.styles = tuple(styles)
        self.changes = 0
        self._knobs = changed(Knobs(), as_dict(knobs or Knobs()), self.styles)
        self._lock = threading.Lock()
        self._orders: dict[str, Order] = {}

    @property
    def knobs(self) -> Knobs:
        """Where the knobs stand now."""
        return self._knobs

    def set(self, name: str, value: Any) -> Value:
        """Turn one knob; returns where it stands then.

        Raises:
            ConfigError: there is no such knob, or it cannot stand there.
        """
        name = name.replace("-", "_")
        new: Value = getattr(self.update({name: value}), name)
        return new

    def update(self, said: Mapping[str, Any]) -> Knobs:
        """Turn several knobs, or none if one of them cannot stand there.

        Raises:
            ConfigError: says which and why.
        """
        with self._lock:
            knobs = changed(self._knobs, said, self.styles)
            if knobs != self._knobs:
                self._knobs = knobs
                self.changes += 1
            return knobs

    def take_order(self, name: str, carry_out: Order) -> None:
        """Let ``order(name, value)`` call this from now on, in the thread of who gives it."""
        self._orders[name] = carry_out

    def order(self, name: str, value: Any = None) -> str:
        """Give an order, such as "device" or "record"; returns the answer for people.

        Raises:
            ConfigError: nobody takes such an order.
            Ha2gError: it cannot be carried out.
        """
        carry_out = self._orders.get(name)
        if carry_out is None:
            known = ", ".join(self._orders) or "none in this run"
            raise ConfigError(f"there is no order {name!r}: they are {known}")
        return carry_out(value)

    @property
    def orders(self) -> tuple[str, ...]:
        """What can be ordered in this run."""
        return tuple(self._orders)

    def state(self) -> dict[str, Any]:
        """All knobs with their ranges, as plain values for a control page."""
        values = as_dict(self._knobs)
        return {
            name: {
                "value": values[name],
                "kind": knob.kind,
                "expected": knob.expected(self.styles if name == "style" else ()),
                "help": knob.help,
            }
            for name, knob in BY_NAME.items()
        }
