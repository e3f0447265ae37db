"""Control through OSC: ``/ha2g/intensity 1.3``, as TouchOSC or a Stream Deck sends it.

    /ha2g/KNOB VALUE...        turn a knob          /ha2g/ok KNOB VALUE
    /ha2g/get [KNOB]           ask where it stands  /ha2g/ok KNOB VALUE, one for each
    /ha2g/order/NAME [VALUE]   give an order        /ha2g/done NAME TEXT
                               a mistake            /ha2g/error TEXT

Answers go to the address and port that the message came from.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from pythonosc.osc_message import OscMessage, ParseError
from pythonosc.osc_message_builder import OscMessageBuilder

from ha2g_live.clients.address import format_address, listen_error
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.knobs import BY_NAME, Value

PREFIX = "/ha2g/"
_MAX_BYTES = 8192
_MAX_MESSAGES = 64  # of one packet
_MAX_DEPTH = 4  # of bundles in bundles
_POLL_S = 0.2
_ORDER = f"{PREFIX}order/"
_SIZES = {**dict.fromkeys("ifrc", 4), **dict.fromkeys("dht", 8), **dict.fromkeys("TFNI", 0)}
_INT = struct.Struct(">i")

log = logging.getLogger(__name__)


class OscControl:
    """Listens for OSC messages and turns the desk's knobs.

    Threads: ``start`` and ``close`` are the owner's. "ha2g-osc-in" reads one packet after the
    other; what comes faster than it reads waits in the system's buffer, and is dropped there when
    that is full.

    Args:
        host: address to listen on.
        port: UDP port; 0 takes any free one.
        desk: the run's.

    Attributes:
        received: messages read.
        refused: of these the ones that were a mistake.
    """

    def __init__(self, host: str, port: int, desk: Desk) -> None:
        self.received = 0
        self.refused = 0
        self._host = host
        self._port = port
        self._desk = desk
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._busy = threading.Lock()

    @property
    def name(self) -> str:
        """Short name for messages."""
        return f"osc control {format_address(self._host, self._port)}"

    @property
    def port(self) -> int:
        """The port listened on; after ``start`` never 0."""
        return self._port

    def start(self) -> None:
        """Listen.

        Raises:
            ClientError: the port is taken or the host is not an address of this computer.
        """
        udp = None
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_DGRAM
            )[0]
            udp = socket.socket(family, kind, protocol)
            udp.bind(address)
        except (OSError, UnicodeError) as error:
            if udp is not None:
                udp.close()
            raise listen_error(self._host, self._port, error) from error
        udp.settimeout(_POLL_S)
        self._socket = udp
        self._port = udp.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="ha2g-osc-in", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening. May be called twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _run(self) -> None:
        udp = self._socket
        while udp is not None and not self._stopping.is_set():
            try:
                packet, sender = udp.recvfrom(_MAX_BYTES)
            except TimeoutError:
                continue
            except OSError:  # on Windows the answer to a packet that nobody took
                continue
            self._answers(packet, partial(self._send, udp, sender))

    @staticmethod
    def _send(udp: socket.socket, sender: Any, reply: bytes) -> None:
        with contextlib.suppress(OSError):  # whoever asked is gone
            udp.sendto(reply, sender)

    def _answers(self, packet: bytes, send: Callable[[bytes], None]) -> None:
        try:
            messages = [OscMessage(part) for part in parts_of(packet)]
        except (ValueError, ParseError):
            self.received += 1
            self.refused += 1
            send(_message(f"{PREFIX}error", "this is no OSC packet, or it is cut short"))
            return
        for message in messages:
            self.received += 1
            if message.address.startswith(_ORDER):
                self._order(message.address[len(_ORDER) :], list(message.params), send)
                continue
            try:
                replies = self._carry_out(message.address, list(message.params))
            except Ha2gError as error:
                self.refused += 1
                replies = [_message(f"{PREFIX}error", str(error))]
            for reply in replies:
                send(reply)

    def _order(self, name: str, values: list[Any], send: Callable[[bytes], None]) -> None:
        """Carried out beside, since it may take seconds; one at a time."""
        if not self._busy.acquire(blocking=False):
            self.refused += 1
            send(_message(f"{PREFIX}error", f"{name}: another order is being carried out"))
            return

        def carry_out() -> None:
            try:
                text = self._desk.order(name, values[0] if values else None)
                send(_message(f"{PREFIX}done", name, text))
            except Ha2gError as error:
                self.refused += 1
                send(_message(f"{PREFIX}error", str(error)))
            except Exception as error:  # an order that breaks must not end the channel
                self.refused += 1
                log.warning("the order %s failed", name, exc_info=error)
                send(_message(f"{PREFIX}error", f"{name} failed: {error}"))
            finally:
                self._busy.release()

        threading.Thread(target=carry_out, name="ha2g-order", daemon=True).start()

    def _carry_out(self, address: str, values: list[Any]) -> list[bytes]:
        if not address.startswith(PREFIX):
            return []  # for somebody else on the same port
        name = address[len(PREFIX) :]
        if name in ("ok", "error", "done"):
            return []  # an answer that came back
        if name == "get":
            asked = [str(value) for value in values] or list(BY_NAME)
            return [self._stands(one) for one in asked if self._known(one)]
        # Several strings are a set of words, one value is the knob's own.
        self._desk.set(name, values[0] if len(values) == 1 else [str(value) for value in values])
        return [self._stands(name.replace("-", "_"))]

    def _known(self, name: str) -> bool:
        if name.replace("-", "_") not in BY_NAME:
            self._desk.set(name, None)  # says that there is no such knob
        return True

    def _stands(self, name: str) -> bytes:
        name = name.replace("-", "_")
        value: Value = getattr(self._desk.knobs, name)
        return _message(f"{PREFIX}ok", name, ",".join(value) if isinstance(value, tuple) else value)


def parts_of(packet: bytes, depth: int = 0) -> list[bytes]:
    """The messages of a packet as bytes, each with all its arguments; time tags mean nothing here.

    python-osc reads past the end of a packet as if there were zeros, so what is cut short would
    turn a knob to zero.

    Raises:
        ValueError: it is no OSC packet (OSC 1.0 specification), or is cut short.
    """
    if not packet.startswith(b"#bundle\0"):
        _check_message(packet)
        return [packet]
    if depth > _MAX_DEPTH or len(packet) < 16:
        raise ValueError("a bundle that is cut short, or bundles in bundles")
    found: list[bytes] = []
    at = 16
    while at < len(packet):
        (size,) = _INT.unpack_from(packet.ljust(at + 4, b"\xff"), at)
        if size <= 0 or size % 4 or at + 4 + size > len(packet):
            raise ValueError("a bundle's element reaches past its end")
        found += parts_of(packet[at + 4 : at + 4 + size], depth + 1)
        at += 4 + size
    if len(found) > _MAX_MESSAGES:
        raise ValueError("too many messages in one packet")
    return found


def _check_message(packet: bytes) -> None:
    address, at = _text(packet, 0)
    if not address.startswith(b"/"):
        raise ValueError("no address")
    tags, at = _text(packet, at)
    if not tags.startswith(b","):
        raise ValueError("no type tags")
    for tag in tags[1:].decode("ascii", "replace"):
        if tag in "sS":
            _, at = _text(packet, at)
        elif tag in _SIZES:
            at += _SIZES[tag]
        else:
            raise ValueError(f"an argument of the type {tag!r}")
        if at > len(packet):
            raise ValueError("an argument is cut short")


def _text(packet: bytes, at: int) -> tuple[bytes, int]:
    """A string that ends with a zero and is filled to a multiple of four, and what is after it."""
    end = packet.find(b"\0", at)
    after = end + 4 - end % 4
    if end < 0 or after > len(packet):
        raise ValueError("a text is cut short")
    return packet[at:end], after


def _message(address: str, *values: Any) -> bytes:
    builder = OscMessageBuilder(address)
    for value in values:
        builder.add_arg(value)
    packet: bytes = builder.build().dgram
    return packet
