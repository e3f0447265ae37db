"""The viewers of the WebSocket server: what each asked for, and who is too slow for a frame."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast

from ha2g_live.clients import control, encode
from ha2g_live.clients.origins import is_local_page
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.types import ClientStats, PoseFrame

BUFFER_LIMIT_BYTES = 32 * 1024
"""A viewer with more than this waiting to be sent skips frames: about a dozen JSON frames."""
KERNEL_BUFFER_BYTES = 64 * 1024
"""Asked of the system per viewer; its own choice can hold a thousand frames, all of them old."""
MAX_BAD_REQUESTS = 20
REQUEST_INTERVAL_S = 0.01
"""A viewer's requests are read at most a hundred times a second, however many it sends."""
POLICY_VIOLATION = 1008
"""Close code of RFC 6455, section 7.4.1."""


@dataclass(slots=True, eq=False)
class Viewer:
    """One connection.

    Attributes:
        connection: the open WebSocket.
        desk: where its requests go; None if there is nothing to control.
        who: who may control, one of ``control.WHO``.
        wish: the form of frames it asked for.
        sent: frames written to it.
        dropped: frames it did not get.
        bad_requests: requests it sent that were none.
        told_changes: how often knobs had been turned when it was last told.
        behind_since_s: monotonic time since when it skips frames; None while it keeps up.
    """

    connection: ServerConnection
    desk: Desk | None = None
    who: str = control.NONE
    wish: encode.Wish = field(default_factory=encode.Wish)
    sent: int = 0
    dropped: int = 0
    bad_requests: int = 0
    behind_since_s: float | None = None
    told_changes: int = 0

    @property
    def behind(self) -> bool:
        """Whether too much waits to be sent to it."""
        return self.connection.transport.get_write_buffer_size() > BUFFER_LIMIT_BYTES

    def cut_off(self) -> None:
        """Disconnect without a goodbye, which would wait behind what it does not read."""
        self.connection.transport.abort()

    async def greet(self, hello: str) -> None:
        """Send the first message."""
        wire = self.connection.transport.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)
        await self.connection.send(hello)

    async def answer_requests(self) -> None:
        """Read and answer requests until the viewer leaves."""
        async for message in self.connection:
            await self._answer(message)
            await asyncio.sleep(REQUEST_INTERVAL_S)

    async def _answer(self, message: str | bytes) -> None:
        try:
            request = encode.read_request(message)
            if request["type"] == "subscribe":
                self.wish = encode.read_wish(request, self.wish)
                text = encode.subscribed_text(self.wish)
            else:
                text = await self._control(request)
        except ValueError as error:
            self.bad_requests += 1
            await self.connection.send(encode.error_text(str(error)))
            if self.bad_requests >= MAX_BAD_REQUESTS:
                await self.connection.close(POLICY_VIOLATION, "too many bad requests")
        else:
            await self.connection.send(text)

    async def _control(self, request: dict[str, Any]) -> str:
        """Turn a knob or give an order; this viewer's next request waits for the answer."""
        desk = self.desk
        if desk is None or not self.may_control:
            peer = self.connection.remote_address
            host = peer[0] if peer else "an unknown address"
            return control.refused(request, self.who, host)
        if request["type"] != "order":
            return control.answer(request, desk)
        # An order may open a device, which takes seconds: frames go on, and a server that stops
        # does not wait for it.
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str] = loop.create_future()

        def tell(text: str) -> None:
            if not done.done():
                done.set_result(text)

        def carry_out() -> None:
            text = control.answer(request, desk)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, text)

        threading.Thread(target=carry_out, name="ha2g-order", daemon=True).start()
        left = asyncio.ensure_future(self.connection.wait_closed())
        try:
            await asyncio.wait((done, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
        # Whoever has left gets nothing; sending says so.
        return done.result() if done.done() else ""

    @property
    def may_control(self) -> bool:
        """Whether it may turn knobs."""
        if self.who != control.LOCAL:
            return self.who == control.ALL
        request = self.connection.request
        origin = request.headers.get("Origin") if request is not None else None
        if origin is not None and not is_local_page(origin):
            return False  # a page of elsewhere, shown in this computer's browser
        peer = self.connection.remote_address
        try:
            return bool(peer) and ipaddress.ip_address(peer[0].split("%")[0]).is_loopback
        except ValueError:
            return False


class Viewers:
    """All viewers of a server.

    A frame is encoded once for each form that somebody wants. A viewer whose write buffer is
    above ``BUFFER_LIMIT_BYTES`` skips frames, and is disconnected after ``stall_s`` without
    relief.

    Threads: all methods are for the network thread.

    Args:
        stats: the server's counters; ``sent`` and ``dropped`` are sums over the viewers.
        stall_s: how long a viewer may take nothing.
        warn: logs a message, given its cause in a word.
    """

    def __init__(
        self, stats: ClientStats, stall_s: float, warn: Callable[[str, str], None]
    ) -> None:
        self._stats = stats
        self._stall_s = stall_s
        self._warn = warn
        self._viewers: set[Viewer] = set()
        self._count()

    def add(self, viewer: Viewer) -> None:
        """Write frames to this viewer from now on."""
        self._viewers.add(viewer)
        self._count()

    def discard(self, viewer: Viewer) -> None:
        """Forget a viewer that left; it need not have been added."""
        self._viewers.discard(viewer)
        self._count()

    def cut_off_slow(self) -> None:
        """Disconnect viewers that are behind, so that closing need not wait for them."""
        for viewer in self._viewers:
            if viewer.behind:
                viewer.cut_off()

    def tell(self, desk: Desk) -> None:
        """Tell every viewer that keeps up where the knobs stand, if it does not know."""
        late = [v for v in self._viewers if v.told_changes != desk.changes and not v.behind]
        if late:
            changes = desk.changes
            broadcast([viewer.connection for viewer in late], control.knobs_text(desk))
            for viewer in late:
                viewer.told_changes = changes

    def write(self, frame: PoseFrame, overwritten: int) -> None:
        """Write the frame to every viewer that keeps up.

        Args:
            frame: what to write.
            overwritten: frames before it that nobody got.
        """
        forms: dict[encode.Wish, list[Viewer]] = {}
        now_s = time.monotonic()
        for viewer in self._viewers:
            self._drop(viewer, overwritten)
            if viewer.behind:
                self._drop(viewer, 1)
                self._mark_behind(viewer, now_s)
            else:
                viewer.behind_since_s = None
                forms.setdefault(viewer.wish, []).append(viewer)
        for wish, viewers in forms.items():
            self._write_form(frame, wish, viewers)

    def _write_form(self, frame: PoseFrame, wish: encode.Wish, viewers: list[Viewer]) -> None:
        try:
            message = encode.frame_message(frame, wish)
        except ValueError as error:
            self._stats.errors += 1
            self._warn("frame", f"frame {frame.seq} was not sent: {error}")
            for viewer in viewers:
                self._drop(viewer, 1)
            return
        self._stats.sent += len(viewers)
        for viewer in viewers:
            viewer.sent += 1
        broadcast([viewer.connection for viewer in viewers], message)

    def _mark_behind(self, viewer: Viewer, now_s: float) -> None:
        if viewer.behind_since_s is None:
            viewer.behind_since_s = now_s
        elif now_s - viewer.behind_since_s >= self._stall_s:
            self._stats.errors += 1
            self._warn("stall", f"a viewer took nothing for {self._stall_s} s: disconnected")
            viewer.cut_off()

    def _drop(self, viewer: Viewer, frames: int) -> None:
        viewer.dropped += frames
        self._stats.dropped += frames

    def _count(self) -> None:
        count = len(self._viewers)
        self._stats.detail = "1 viewer" if count == 1 else f"{count or 'no'} viewers"
