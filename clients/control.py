"""Requests that turn knobs and give orders, as every channel reads and answers them.

Pure: a request comes in, an answer goes out; the desk does the work. ``docs/control.md`` describes
them for users.
"""

from __future__ import annotations

import json
from typing import Any

from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import ConfigError, Ha2gError
from ha2g_live.realtime.knobs import as_dict

REQUESTS = ("set", "get", "order")
LOCAL, ALL, NONE = "local", "all", "none"
WHO = (LOCAL, ALL, NONE)
"""Who may control: programs on this computer, everybody who is connected, nobody."""

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def answer(request: dict[str, Any], desk: Desk) -> str:
    """Carry out a request and say what came of it; may take long when it is an order.

    Args:
        request: an object whose ``type`` is one of ``REQUESTS``.
        desk: the run's.

    Returns:
        The answer's text; a mistake is answered by an ``error``.
    """
    try:
        fields = _carry_out(request, desk)
    except Ha2gError as error:
        fields = {"type": "error", "message": str(error)}
    if isinstance(request.get("id"), str | int):
        fields["id"] = request["id"]
    return _encode(fields)


def knobs_text(desk: Desk) -> str:
    """What all who watch are told when a knob was turned."""
    return _encode({"type": "knobs", "knobs": as_dict(desk.knobs)})


def _carry_out(request: dict[str, Any], desk: Desk) -> dict[str, Any]:
    kind = request["type"]
    if kind == "set":
        said = request.get("knobs")
        if not isinstance(said, dict) or not said:
            raise ConfigError('a set request has "knobs", an object of names and values')
        return {"type": "knobs", "knobs": as_dict(desk.update(said))}
    if kind == "get":
        return {"type": "state", "knobs": desk.state(), "orders": list(desk.orders)}
    name = request.get("name")
    if not isinstance(name, str):
        raise ConfigError('an order has a "name"')
    return {"type": "done", "name": name, "message": desk.order(name, request.get("value"))}


def refusal(who: str, host: str) -> str:
    """What somebody is told who may not control."""
    if who == NONE:
        return "this stream takes no control (--control none)"
    return f"control is for programs on this computer, not for {host}: start with  --control all"
