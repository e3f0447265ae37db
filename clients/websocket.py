"""WebSocket server: any number of viewers get every frame, or skip what they are too slow for."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import re
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ha2g_live.clients import encode
from ha2g_live.realtime.errors import ClientError
from ha2g_live.realtime.types import ClientStats, PoseFrame, StreamInfo

LOCAL_HOST = "127.0.0.1"
ANY_ORIGIN = "*"

BUFFER_LIMIT_BYTES = 32 * 1024
"""A viewer with more than this waiting to be sent skips frames: about a dozen JSON frames."""
KERNEL_BUFFER_BYTES = 64 * 1024
"""Asked of the system per viewer; its own choice can hold a thousand frames, all of them old."""
LIBRARY_BUFFER_BYTES = 256 * 1024
"""Where the library would wait. It lies above our limit so that closing never waits there."""
STALL_S = 5.0
"""A viewer that takes nothing for so long is disconnected."""
MAX_REQUEST_BYTES = 4096
MAX_BAD_REQUESTS = 20
REQUEST_INTERVAL_S = 0.01
"""A viewer's requests are read at most a hundred times a second, however many it sends."""
OPEN_TIMEOUT_S = 3.0
CLOSE_TIMEOUT_S = 2.0
POLICY_VIOLATION = 1008
"""Close code of RFC 6455, section 7.4.1."""

_LOCAL_ORIGIN = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]*")
_ADDRESS = re.compile(r"(?:(?P<host>\[[^\[\]]+\]|[^\[\]:]+):)?(?P<port>\d+)")

log = logging.getLogger(__name__)
_wire_log = logging.getLogger(f"{__name__}.wire")
# The library logs a traceback for every stranger that knocks and leaves.
_wire_log.setLevel(logging.CRITICAL)


def parse_ws(text: str) -> tuple[str, int]:
    """Host and port of ``[HOST:]PORT``; an IPv6 host stands in brackets.

    Raises:
        ClientError: the text is not an address.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or int(match["port"]) > 65535:
        raise ClientError(
            f"{text!r} is not a WebSocket address: write PORT or HOST:PORT with a port of "
            "0 to 65535, for example 8765 or 127.0.0.1:8765"
        )
    return (match["host"] or LOCAL_HOST).strip("[]"), int(match["port"])


@dataclass(slots=True, eq=False)
class _Viewer:
    """One connection. Only the network thread touches it."""

    connection: ServerConnection
    wish: encode.Wish = field(default_factory=encode.Wish)
    sent: int = 0
    dropped: int = 0
    bad_requests: int = 0
    behind_since_s: float | None = None

    @property
    def behind(self) -> bool:
        return self.connection.transport.get_write_buffer_size() > BUFFER_LIMIT_BYTES


class WebSocketClient:
    """Serves frames to viewers; to the driver it is a client like any other.

    Slow viewers: the newest frame waits in one slot for the network thread; a frame that is still
    there when the next one comes is dropped for everyone. A viewer whose write buffer is above
    ``BUFFER_LIMIT_BYTES`` skips frames, and is disconnected after ``stall_s`` without relief.
    ``stats.sent`` and ``stats.dropped`` are sums over the viewers.

    Origins: web pages of this computer and programs, which send no Origin, may connect; others
    get 403. A page from elsewhere could otherwise watch, for browsers let any page open a local
    socket.

    Threads: ``start``, ``send`` and ``close`` are for one thread, the emitter. The thread
    "ha2g-net" runs the asyncio loop and owns the viewers and the counters. One lock, for the slot.

    Args:
        host: address to listen on; ``localhost`` is 127.0.0.1. ``0.0.0.0`` opens the stream to
            the network.
        port: TCP port; 0 takes any free one.
        allowed_origins: further origins that may connect, ``scheme://host[:port]`` or ``null``;
            ``*`` lets every page in.
        stall_s: how long a viewer may take nothing.

    Raises:
        ClientError: the port or an origin is not one.
    """

    def __init__(
        self,
        host: str = LOCAL_HOST,
        port: int = 0,
        *,
        allowed_origins: Sequence[str] = (),
        stall_s: float = STALL_S,
    ) -> None:
        if not host:
            raise ClientError("the WebSocket host is empty: name one, 0.0.0.0 for all of them")
        if not 0 <= port <= 65535:
            raise ClientError(f"the WebSocket port must be in 0..65535, got {port}")
        for origin in allowed_origins:
            if _ORIGIN.fullmatch(origin) is None:
                raise ClientError(
                    f"{origin!r} is not an origin: write scheme://host[:port] without a path, "
                    "null, or *"
                )
        self._host = LOCAL_HOST if host == "localhost" else host
        self._port = port
        self._origins = frozenset(allowed_origins)
        self._stall_s = stall_s
        self._stats = ClientStats()
        self._viewers: set[_Viewer] = set()
        self._warned_at_s: dict[str, float] = {}
        self._hello = ""
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._failure_raised = False
        self._lock = threading.Lock()
        self._slot: PoseFrame | None = None
        self._overwritten = 0
        self._started: Future[int]
        # Set by the network thread before it fulfils _started.
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    @property
    def name(self) -> str:
        """Short name for the status line."""
        return f"websocket {self._address}"

    @property
    def port(self) -> int:
        """The port listened on; after ``start`` never 0."""
        return self._port

    @property
    def stats(self) -> ClientStats:
        """Counters so far; ``errors`` counts unsendable frames and viewers that stalled."""
        return self._stats

    def failure(self) -> Exception | None:
        """The error that ended the network thread, if one did; ``send`` and ``close`` raise it."""
        return self._failure

    def start(self, info: StreamInfo) -> None:
        """Listen.

        Raises:
            ClientError: the port is taken or the host is not an address of this computer.
        """
        self._hello = encode.hello_text(info)
        self._started = Future()
        self._thread = threading.Thread(target=self._run, name="ha2g-net", daemon=True)
        self._thread.start()
        try:
            self._port = self._started.result()
        except (OSError, UnicodeError) as error:
            self.close()
            raise ClientError(self._why_not(error)) from error

    def send(self, frame: PoseFrame) -> None:
        """Put the frame into the slot and wake the network thread. No-op after ``close``.

        The frame's arrays must stay as they are.

        Raises:
            ClientError: the network thread has failed.
        """
        self._raise_failure()
        if self._thread is None:
            return
        with self._lock:
            waiting = self._slot is not None
            self._overwritten += waiting
            self._slot = frame
        if not waiting:
            self._post(self._deliver)

    def close(self) -> None:
        """Say goodbye to the viewers (close code 1001), stop listening and join the thread.

        Takes at most ``OPEN_TIMEOUT_S`` or ``CLOSE_TIMEOUT_S`` for viewers that do not answer.

        Raises:
            ClientError: the network thread had failed and no ``send`` has said so.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            if self._started.exception() is None:
                self._post(self._stop.set)
            thread.join()
        if not self._failure_raised:
            self._raise_failure()

    def _post(self, callback: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            # The loop is closed: the thread has failed, and the next call says why.
            log.debug("the network thread has ended")

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self._failure_raised = True
            raise ClientError(
                f"{self.name} has stopped ({self._failure!r}): start the stream again"
            ) from self._failure

    @property
    def _address(self) -> str:
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    def _why_not(self, error: OSError | UnicodeError) -> str:
        number = error.errno if isinstance(error, OSError) else None
        if number == errno.EADDRINUSE:
            return (
                f"port {self._port} on {self._host} is taken by another program: "
                "choose another port, or 0 for any free one"
            )
        if number == errno.EACCES:
            return f"port {self._port} may not be used: choose one above 1023"
        return (
            f"cannot listen on {self._address} ({error}): "
            f"use an address of this computer, for example {LOCAL_HOST}"
        )

    # Everything below runs in the thread "ha2g-net".

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._started.done():
                self._fail(error)
            else:
                self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._on_loop_error)
        self._stop = asyncio.Event()
        server = await serve(
            self._serve_viewer,
            self._host,
            self._port,
            process_request=self._check_origin,
            compression=None,
            server_header=encode.PROTOCOL,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=MAX_REQUEST_BYTES,
            write_limit=LIBRARY_BUFFER_BYTES,
            logger=_wire_log,
        )
        self._count_viewers()
        self._started.set_result(next(iter(server.sockets)).getsockname()[1])
        await self._stop.wait()
        for viewer in self._viewers:
            if viewer.behind:
                viewer.connection.transport.abort()
        server.close()
        await server.wait_closed()

    def _check_origin(self, connection: ServerConnection, request: Request) -> Response | None:
        for origin in request.headers.get_all("Origin"):
            known = origin in self._origins or ANY_ORIGIN in self._origins
            if not known and _LOCAL_ORIGIN.fullmatch(origin) is None:
                self._warn("origin", f"refused a page of {origin!r}: it is not an allowed origin")
                return connection.respond(
                    HTTPStatus.FORBIDDEN, f"The origin {origin!r} may not watch this stream.\n"
                )
        return None

    async def _serve_viewer(self, connection: ServerConnection) -> None:
        viewer = _Viewer(connection)
        try:
            wire = connection.transport.get_extra_info("socket")
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)
            await connection.send(self._hello)
            self._viewers.add(viewer)
            self._count_viewers()
            async for message in connection:
                await self._answer(viewer, message)
                await asyncio.sleep(REQUEST_INTERVAL_S)
        except (ConnectionClosed, OSError):
            pass  # left without a word, or was cut off
        except Exception as error:
            self._fail(error)
        finally:
            self._viewers.discard(viewer)
            self._count_viewers()
            log.info("a viewer left: %d frames sent, %d skipped", viewer.sent, viewer.dropped)

    async def _answer(self, viewer: _Viewer, message: str | bytes) -> None:
        try:
            viewer.wish = encode.read_request(message, viewer.wish)
        except ValueError as error:
            viewer.bad_requests += 1
            await viewer.connection.send(encode.error_text(str(error)))
            if viewer.bad_requests >= MAX_BAD_REQUESTS:
                await viewer.connection.close(POLICY_VIOLATION, "too many bad requests")
        else:
            await viewer.connection.send(encode.subscribed_text(viewer.wish))

    def _deliver(self) -> None:
        """Take the frame from the slot and write it to every viewer that keeps up."""
        with self._lock:
            frame, self._slot = self._slot, None
            overwritten, self._overwritten = self._overwritten, 0
        if frame is None:
            return
        try:
            self._write(frame, overwritten)
        except Exception as error:
            self._fail(error)

    def _write(self, frame: PoseFrame, overwritten: int) -> None:
        groups: dict[encode.Wish, list[_Viewer]] = {}
        now_s = time.monotonic()
        for viewer in self._viewers:
            self._drop(viewer, overwritten)
            if not viewer.behind:
                viewer.behind_since_s = None
                groups.setdefault(viewer.wish, []).append(viewer)
                continue
            self._drop(viewer, 1)
            if viewer.behind_since_s is None:
                viewer.behind_since_s = now_s
            elif now_s - viewer.behind_since_s >= self._stall_s:
                self._stats.errors += 1
                self._warn("stall", f"a viewer took nothing for {self._stall_s} s: disconnected")
                viewer.connection.transport.abort()
        for wish, viewers in groups.items():
            try:
                message = encode.frame_message(frame, wish)
            except ValueError as error:
                self._stats.errors += 1
                self._warn("frame", f"frame {frame.seq} was not sent: {error}")
                for viewer in viewers:
                    self._drop(viewer, 1)
                continue
            self._stats.sent += len(viewers)
            for viewer in viewers:
                viewer.sent += 1
            broadcast([viewer.connection for viewer in viewers], message)

    def _drop(self, viewer: _Viewer, frames: int) -> None:
        viewer.dropped += frames
        self._stats.dropped += frames

    def _count_viewers(self) -> None:
        count = len(self._viewers)
        self._stats.detail = "1 viewer" if count == 1 else f"{count or 'no'} viewers"

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._stats.errors += 1
        self._stop.set()

    def _on_loop_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # A callback of asyncio itself, such as a socket torn down while it is accepted: the
        # loop goes on, and so does the stream.
        self._stats.errors += 1
        self._warn("loop", f"network: {context['message']} ({context.get('exception')!r})")

    def _warn(self, cause: str, message: str) -> None:
        """Log at most once a second per cause; the counters tell the rest."""
        now_s = time.monotonic()
        if now_s - self._warned_at_s.get(cause, -math.inf) >= 1.0:
            self._warned_at_s[cause] = now_s
            log.warning("%s", message)
