"""Network addresses as a user writes them: HOST:PORT, an IPv6 host in brackets."""

from __future__ import annotations

import errno
import re

from ha2g_live.realtime.errors import ClientError

LOCAL_HOST = "127.0.0.1"
VMC_PORT = 39539
"""Where programs that show an avatar listen by convention."""
MAX_PORT = 65535

_ADDRESS = re.compile(
    r"(?:(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^\[\]:\s]+)):)?(?P<port>\d{1,9})", re.ASCII
)


def parse_target(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, somewhere to send to.

    Raises:
        ClientError: the text is something else, or the port is out of range.
    """
    host, port = _split(text)
    if host is None:
        raise ClientError(
            f"cannot send to {text!r}: write HOST:PORT, for example {LOCAL_HOST}:{VMC_PORT} "
            f"or [::1]:{VMC_PORT}"
        )
    if not 1 <= port <= MAX_PORT:
        raise ClientError(f"cannot send to {text!r}: the port must be in 1..{MAX_PORT}, got {port}")
    return host, port


def parse_ws(text: str) -> tuple[str, int]:
    """Host and port of ``[HOST:]PORT``, somewhere to listen; port 0 is any free one.

    Raises:
        ClientError: the text is something else, or the port is out of range.
    """
    host, port = _split(text)
    if not 0 <= port <= MAX_PORT:
        raise ClientError(
            f"{text!r} is not a WebSocket address: write PORT or HOST:PORT with a port of "
            f"0 to {MAX_PORT}, for example 8765 or {LOCAL_HOST}:8765"
        )
    return host or LOCAL_HOST, port


def format_address(host: str, port: int) -> str:
    """The text that ``parse_target`` and ``parse_ws`` read."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen_error(host: str, port: int, error: OSError | UnicodeError) -> ClientError:
    """The error for a user whose address cannot be listened on."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return ClientError(
            f"port {port} on {host} is taken by another program: "
            "choose another port, or 0 for any free one"
        )
    if number == errno.EACCES:
        return ClientError(f"port {port} may not be used: choose one above 1023")
    return ClientError(
        f"cannot listen on {format_address(host, port)} ({error}): "
        f"use an address of this computer, for example {LOCAL_HOST}"
    )


def _split(text: str) -> tuple[str | None, int]:
    """Host, None where there is none, and port; the port is -1 where the text is no address."""
    match = _ADDRESS.fullmatch(text.strip())
    return (match["v6"] or match["host"], int(match["port"])) if match else (None, -1)
