"""Requests that turn knobs and give orders, as every channel reads and answers them.

Pure: a request comes in, an answer goes out; the desk does the work. ``docs/control.md`` describes
them for users.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import ConfigError, Ha2gError
from ha2g_live.realtime.knobs import as_dict

REQUESTS = ("set", "get", "order")
LOCAL, ALL, NONE = "local", "all", "none"
WHO = (LOCAL, ALL, NONE)
"""Who may control: programs on this computer, everybody who is connected, nobody."""

log = logging.getLogger(__name__)

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
    except Exception as error:  # an order that breaks must not end the channel
        log.warning("%s failed", request.get("name", request["type"]), exc_info=error)
        fields = {"type": "error", "message": f"that failed: {error}"}
    return _with_id(fields, request)


def refused(request: dict[str, Any], who: str, host: str) -> str:
    """The answer to somebody who may not control."""
    return _with_id({"type": "error", "message": refusal(who, host)}, request)


def _with_id(fields: dict[str, Any], request: dict[str, Any]) -> str:
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
