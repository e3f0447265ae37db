"""WebSocket server: any number of viewers get every frame, or skip what they are too slow for.

The path of a frame::

    send            the emitter's thread puts it into the slot
    _deliver        the network thread takes it out
    Viewers.write   encodes it once per form and writes it to every viewer that keeps up
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ha2g_live.clients import control, encode
from ha2g_live.clients.address import LOCAL_HOST, MAX_PORT, format_address, listen_error
from ha2g_live.clients.failure import Failure
from ha2g_live.clients.origins import Origins
from ha2g_live.clients.viewers import Viewer, Viewers
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import ClientError
from ha2g_live.realtime.types import ClientStats, PoseFrame, StreamInfo

LIBRARY_BUFFER_BYTES = 256 * 1024
"""Where the library would wait; above a viewer's limit, so that closing never waits there."""
STALL_S = 5.0
"""A viewer that takes nothing for so long is disconnected."""
MAX_REQUEST_BYTES = 4096
OPEN_TIMEOUT_S = 3.0
CLOSE_TIMEOUT_S = 2.0

log = logging.getLogger(__name__)
_wire_log = logging.getLogger(f"{__name__}.wire")
# The library logs a traceback for every stranger that knocks and leaves.
_wire_log.setLevel(logging.CRITICAL)


class WebSocketClient:
    """Serves frames to viewers; to the driver it is a client like any other.

    The newest frame waits in one slot for the network thread; a frame that is still there when
    the next one comes is dropped for everyone. ``Viewers`` says what becomes of slow viewers,
    ``Origins`` which web pages may connect; others get 403. ``stats.sent`` and ``stats.dropped``
    are sums over the viewers.

    Threads: ``start``, ``send`` and ``close`` are for one thread, the emitter. The thread
    "ha2g-net" runs the asyncio loop and owns the viewers and the counters. One lock, for the slot.

    Args:
        host: address to listen on; ``localhost`` is 127.0.0.1. ``0.0.0.0`` opens the stream to
            the network.
        port: TCP port; 0 takes any free one.
        allowed_origins: further origins that may connect, ``scheme://host[:port]`` or ``null``;
            ``*`` lets every page in.
        stall_s: how long a viewer may take nothing.
        desk: where requests to turn knobs go; without one there is nothing to control.
        who: who may control, one of ``control.WHO``.

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
        desk: Desk | None = None,
        who: str = control.LOCAL,
    ) -> None:
        if not host:
            raise ClientError("the WebSocket host is empty: name one, 0.0.0.0 for all of them")
        if not 0 <= port <= MAX_PORT:
            raise ClientError(f"the WebSocket port must be in 0..{MAX_PORT}, got {port}")
        self._host = LOCAL_HOST if host == "localhost" else host
        self._port = port
        self._origins = Origins(allowed_origins)
        self._stats = ClientStats()
        self._viewers = Viewers(self._stats, stall_s, self._warn)
        self._warned_at_s: dict[str, float] = {}
        self._desk = desk
        self._who = who
        self._hello = ""
        self._thread: threading.Thread | None = None
        self._failure = Failure()
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
        return f"websocket {format_address(self._host, self._port)}"

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
        return self._failure.error

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
            raise listen_error(self._host, self._port, error) from error

    def send(self, frame: PoseFrame) -> None:
        """Put the frame into the slot and wake the network thread. No-op after ``close``.

        The frame's arrays must stay as they are.

        Raises:
            ClientError: the network thread has failed.
        """
        self._failure.check(self.name)
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
        self._failure.check_unless_raised(self.name)

    def _post(self, callback: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            # The loop is closed: the thread has failed, and the next call says why.
            log.debug("the network thread has ended")

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
        self._started.set_result(next(iter(server.sockets)).getsockname()[1])
        await self._stop.wait()
        self._viewers.cut_off_slow()
        server.close()
        await server.wait_closed()

    def _check_origin(self, connection: ServerConnection, request: Request) -> Response | None:
        origin = self._origins.refused(request.headers.get_all("Origin"))
        if origin is None:
            return None
        self._warn("origin", f"refused a page of {origin!r}: it is not an allowed origin")
        return connection.respond(
            HTTPStatus.FORBIDDEN, f"The origin {origin!r} may not watch this stream.\n"
        )

    async def _serve_viewer(self, connection: ServerConnection) -> None:
        viewer = Viewer(connection, self._desk, self._who)
        viewer.told_changes = 0 if self._desk is None else self._desk.changes
        try:
            await viewer.greet(self._hello)
            self._viewers.add(viewer)
            await viewer.answer_requests()
        except (ConnectionClosed, OSError):
            pass  # left without a word, or was cut off
        except Exception as error:
            self._fail(error)
        finally:
            self._viewers.discard(viewer)
            log.info("a viewer left: %d frames sent, %d skipped", viewer.sent, viewer.dropped)

    def _deliver(self) -> None:
        """Take the frame from the slot and write it to the viewers."""
        with self._lock:
            frame, self._slot = self._slot, None
            overwritten, self._overwritten = self._overwritten, 0
        if frame is None:
            return
        try:
            if self._desk is not None:
                self._viewers.tell(self._desk)
            self._viewers.write(frame, overwritten)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure.keep(error)
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
