"""Control through OSC: ``/ha2g/intensity 1.3``, as TouchOSC or a Stream Deck sends it.

    /ha2g/KNOB VALUE...        turn a knob          /ha2g/ok KNOB VALUE
    /ha2g/get [KNOB]           ask where it stands  /ha2g/ok KNOB VALUE, one for each
    /ha2g/order/NAME [VALUE]   give an order        /ha2g/done NAME TEXT
                               a mistake            /ha2g/error TEXT

Answers go to the address and port that the message came from.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

from pythonosc import osc_bundle, osc_message
from pythonosc.osc_message_builder import OscMessageBuilder

from ha2g_live.clients.address import format_address, listen_error
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.knobs import BY_NAME, Value

PREFIX = "/ha2g/"
_MAX_BYTES = 8192
_MAX_MESSAGES = 64  # of one packet
_POLL_S = 0.2


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
            for reply in self._answers(packet):
                try:
                    udp.sendto(reply, sender)
                except OSError:
                    break

    def _answers(self, packet: bytes) -> list[bytes]:
        try:
            messages = _messages(packet)
        except Exception:  # python-osc raises many kinds for a broken packet
            self.received += 1
            self.refused += 1
            return [_message(f"{PREFIX}error", "this is no OSC packet")]
        replies = []
        for message in messages[:_MAX_MESSAGES]:
            self.received += 1
            try:
                replies += self._carry_out(message.address, list(message.params))
            except Ha2gError as error:
                self.refused += 1
                replies.append(_message(f"{PREFIX}error", str(error)))
        return replies

    def _carry_out(self, address: str, values: list[Any]) -> list[bytes]:
        if not address.startswith(PREFIX):
            return []  # for somebody else on the same port
        name = address[len(PREFIX) :]
        if name in ("ok", "error", "done"):
            return []  # an answer that came back
        if name == "get":
            asked = [str(value) for value in values] or list(BY_NAME)
            return [self._stands(one) for one in asked if self._known(one)]
        kind, _, order = name.partition("/")
        if kind == "order" and order:
            text = self._desk.order(order, values[0] if values else None)
            return [_message(f"{PREFIX}done", order, text)]
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


def _messages(packet: bytes) -> list[osc_message.OscMessage]:
    if not osc_bundle.OscBundle.dgram_is_bundle(packet):
        return [osc_message.OscMessage(packet)]
    found: list[osc_message.OscMessage] = []
    bundles = [osc_bundle.OscBundle(packet)]
    while bundles and len(found) < _MAX_MESSAGES:
        for item in bundles.pop():
            if isinstance(item, osc_bundle.OscBundle):
                bundles.append(item)
            else:
                found.append(item)
    return found


def _message(address: str, *values: Any) -> bytes:
    builder = OscMessageBuilder(address)
    for value in values:
        builder.add_arg(value)
    packet: bytes = builder.build().dgram
    return packet
