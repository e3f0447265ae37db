"""OSC client: sends every frame to an avatar program over UDP, in the VMC protocol."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from ha2g_live.clients.address import format_address
from ha2g_live.clients.vmc import UnsendableFrame, VmcEncoder
from ha2g_live.realtime.errors import ClientError
from ha2g_live.realtime.types import ClientStats, PoseFrame, StreamInfo


class OscClient:
    """Sends the stream to one target.

    UDP has no connection: a target that is not there yet is no error, and frames flow as soon as
    it listens. In ``stats``, ``sent`` counts frames given to the system whole; ``dropped`` those
    that were not, because the system had no room, sending failed, or the frame held a number that
    is not finite; ``errors`` the frames on which anything went wrong, among them those on which
    the system said that nobody listens. ``detail`` says what, until a frame goes well.

    Threads: all methods are for one thread, the emitter. No call waits, but for ``start``, which
    looks up the host.

    Args:
        host: name or address. A name with IPv4 and IPv6 addresses means the IPv4 one, because most
            receivers listen there only.
        port: UDP port.
        clock: monotonic seconds.
    """

    def __init__(
        self, host: str, port: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._where = format_address(host, port)
        self._stats = ClientStats()
        self._encoder = VmcEncoder()
        self._socket: socket.socket | None = None
        self._started_s = 0.0

    @property
    def name(self) -> str:
        """Short name for the status line."""
        return f"osc {self._where}"

    @property
    def stats(self) -> ClientStats:
        """Counters so far."""
        return self._stats

    def start(self, info: StreamInfo) -> None:
        """Look up the host and open the socket that serves until ``close``.

        Raises:
            ClientError: the host is not known or cannot be reached.
        """
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError, OverflowError) as error:
            raise ClientError(
                f"cannot send to {self._where}: the host {self._host!r} is not known "
                f"({getattr(error, 'strerror', None) or error}): check the name"
            ) from error
        family, kind, protocol, _, address = min(found, key=lambda row: row[0] != socket.AF_INET)
        udp = socket.socket(family, kind, protocol)
        try:
            udp.setblocking(False)
            # A connected socket is told when nobody listens; a plain one never hears of it.
            udp.connect(address)
        except OSError as error:
            udp.close()
            raise ClientError(
                f"cannot send to {self._where} ({error.strerror or error}): check the address"
            ) from error
        self._encoder = VmcEncoder(info.offsets_m)
        self._socket = udp
        self._started_s = self._clock()

    def send(self, frame: PoseFrame) -> None:
        """Send one frame. Never raises for what the network does; no-op after ``close``."""
        if self._socket is None:
            return
        trouble = ""
        try:
            for datagram in self._encoder.encode(frame, self._clock() - self._started_s):
                try:
                    self._socket.send(datagram)
                except ConnectionError:
                    # The answer to an earlier datagram: this one has not left yet.
                    trouble = "nobody listens there yet"
                    self._socket.send(datagram)
        except BlockingIOError:
            trouble = "the system's send buffer is full"
            self._stats.dropped += 1
        except ConnectionError:
            trouble = "nobody listens there yet"
            self._stats.dropped += 1
        except OSError as error:
            trouble = error.strerror or str(error)
            self._stats.dropped += 1
        except UnsendableFrame as error:
            trouble = str(error)
            self._stats.dropped += 1
        else:
            self._stats.sent += 1
        self._stats.detail = trouble
        if trouble:
            self._stats.errors += 1

    def close(self) -> None:
        """Close the socket. May be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
