"""The server of many streams as a Ray Serve deployment, for more than one computer.

Ray Serve runs the replicas, checks their health, starts them again and carries each WebSocket to
one of them, where it stays for its life. Each replica has an engine and a ``Hall`` of its own.
Twice a second it leaves every stream's memory with one small actor. When a replica is lost its
clients connect again, naming their stream, and whichever replica takes them goes on from there.

    serve run ha2g_live.realtime.cluster:build replicas=4 token=SECRET
"""

# No postponed annotations here: FastAPI looks at them.

import asyncio
import contextlib
import json
import os
import secrets
import time
from collections import OrderedDict
from typing import Any

from ha2g_live.clients import encode
from ha2g_live.clients.serve import (
    PAGE,
    SILENT_FOR_S,
    START_WITHIN_S,
    TRY_AGAIN_LATER,
    Start,
    answered,
    read_start,
)
from ha2g_live.clients.viewers import MAX_BAD_REQUESTS, POLICY_VIOLATION
from ha2g_live.engines import open_engine
from ha2g_live.realtime.errors import Ha2gError, MissingExtra
from ha2g_live.realtime.hall import Full, Hall, Seat
from ha2g_live.realtime.knobs import Knobs
from ha2g_live.realtime.pipeline import SavedStream
from ha2g_live.realtime.types import ClientStats, PoseFrame, StreamInfo

try:
    import ray
    from fastapi import FastAPI, WebSocket, WebSocketDisconnect
    from fastapi.responses import HTMLResponse
    from ray import serve
except ImportError as error:
    raise MissingExtra("the cluster", str(error.name), "cluster") from error

SAVE_EVERY_S = 0.5
KEPT_S = 60.0
"""A stream that nobody comes back for is forgotten after this."""
MOST_KEPT = 10_000
FRAMES_WAITING = 4
"""Frames that may wait for a slow client; the oldest goes."""

page = FastAPI()


class Memory:
    """The newest state of every stream, for the replica that goes on with it.

    Args:
        most: streams kept; those saved longest ago go first.
        kept_s: how long a stream is kept that is not saved again.

    Attributes:
        dropped: streams that went for want of room.
    """

    def __init__(self, most: int = MOST_KEPT, kept_s: float = KEPT_S) -> None:
        self.dropped = 0
        self._most = most
        self._kept_s = kept_s
        self._streams: OrderedDict[str, tuple[float, SavedStream]] = OrderedDict()

    def keep(self, streams: dict[str, SavedStream], now_s: float | None = None) -> None:
        """Replace what is known of these streams."""
        now_s = time.monotonic() if now_s is None else now_s
        for name, saved in streams.items():
            self._streams[name] = now_s, saved
            self._streams.move_to_end(name)
        while self._streams and next(iter(self._streams.values()))[0] < now_s - self._kept_s:
            self._streams.popitem(last=False)
        while len(self._streams) > self._most:
            self._streams.popitem(last=False)
            self.dropped += 1

    def recall(self, name: str) -> SavedStream | None:
        """A stream's newest state; None if it is not known."""
        found = self._streams.get(name)
        return None if found is None else found[1]


class Line:
    """One connection's frames on their way out; to the stream's pipeline it is a client."""

    def __init__(self, wish: encode.Wish, loop: asyncio.AbstractEventLoop) -> None:
        self.wish = wish
        self.stats = ClientStats()
        self.info: StreamInfo | None = None
        self.frames: asyncio.Queue[str | bytes] = asyncio.Queue(FRAMES_WAITING)
        self._loop = loop

    @property
    def name(self) -> str:
        """Short name for the status line."""
        return "line"

    def start(self, info: StreamInfo) -> None:
        """Note what the stream is."""
        self.info = info

    def send(self, frame: PoseFrame) -> None:
        """Encode a frame and hand it to the loop."""
        message = encode.frame_message(frame, self.wish)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._put, message)

    def close(self) -> None:
        """Nothing: the connection ends by itself."""

    def _put(self, message: str | bytes) -> None:
        if self.frames.full():
            self.frames.get_nowait()
            self.stats.dropped += 1
        self.frames.put_nowait(message)
        self.stats.sent += 1


# Ray Serve takes a copy of these with the class, so they stand before it.


async def _receive(socket: WebSocket) -> str | bytes:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    text = message.get("text")
    return bytes(message.get("bytes") or b"") if text is None else str(text)


async def _carry(socket: WebSocket, line: Line, start: Start, seat: Seat) -> None:
    """Frames out, sound and requests in, until the client leaves."""

    async def send() -> None:
        while True:
            message = await line.frames.get()
            if isinstance(message, bytes):
                await socket.send_bytes(message)
            else:
                await socket.send_text(message)

    sending = asyncio.create_task(send())
    bad = 0
    try:
        while True:
            message = await asyncio.wait_for(_receive(socket), SILENT_FOR_S)
            try:
                if isinstance(message, bytes):
                    seat.feed(start.decode(message))
                    continue
                answer, line.wish = answered(message, line.wish, start.desk)
            except ValueError as error:
                bad += 1
                if bad >= MAX_BAD_REQUESTS:
                    raise ValueError("too many bad messages") from error
                answer = encode.error_text(str(error))
            await socket.send_text(answer)
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await sending


async def _farewell(socket: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(Exception):  # it may be gone already
        await socket.send_text(encode.error_text(reason))
        await socket.close(code, reason[:100])


@serve.deployment(max_ongoing_requests=1000, health_check_period_s=2, health_check_timeout_s=10)
@serve.ingress(page)
class Streams:
    """One replica.

    Args:
        memory: the ``Memory`` actor.
        options: what ``build`` was told.
    """

    def __init__(self, memory: Any, options: dict[str, Any]) -> None:
        self._memory = memory
        self._token = str(options["token"])
        engine = open_engine(str(options["engine"]))
        self._hall = Hall(engine, float(options["fps"]), max_load=float(options["max_load"]))
        self._hall.start()
        self._seats: dict[str, Seat] = {}
        self._saving: asyncio.Task[None] | None = None

    def check_health(self) -> None:
        """Ray Serve asks this, and replaces a replica that fails.

        Raises:
            RuntimeError: a thread of the hall has ended.
        """
        if not self._hall.alive:
            raise RuntimeError("a thread of the streams has ended")

    @page.get("/")
    async def microphone(self) -> Any:
        """The microphone page."""
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    @page.get("/status")
    async def status(self) -> Any:
        """Counters of the replica that happens to answer."""
        return {"pid": os.getpid(), **self._hall.summary()}

    @page.websocket("/")
    async def stream(self, socket: WebSocket) -> None:
        """One avatar."""
        await socket.accept()
        if self._saving is None:
            self._saving = asyncio.create_task(self._save())
        name, seat = "", None
        try:
            message = await asyncio.wait_for(_receive(socket), START_WITHIN_S)
            start = read_start(message, self._token, Knobs(), self._hall.engine.spec.styles)
            saved = None
            if start.resume:
                saved = await self._memory.recall.remote(start.resume)
            name = start.resume if saved is not None else secrets.token_urlsafe(12)
            line = Line(start.wish, asyncio.get_running_loop())
            desk = start.desk
            if saved is not None:
                desk.update({"style": saved.knobs.style} if saved.knobs.style else {})
            seed = start.seed if saved is None else saved.seed
            seat = self._hall.admit(line, desk, seed, None, saved)
            self._seats[name] = seat
            assert line.info is not None
            hello = json.loads(encode.hello_text(line.info))
            await socket.send_text(
                json.dumps({**hello, "stream_id": name, "resumed": saved is not None})
            )
            await _carry(socket, line, start, seat)
        except Full as error:
            await _farewell(socket, TRY_AGAIN_LATER, str(error))
        except (asyncio.TimeoutError, TimeoutError):
            what = "no sound came for a minute" if seat else "no start request came"
            await _farewell(socket, POLICY_VIOLATION, what)
        except (ValueError, Ha2gError) as error:
            await _farewell(socket, POLICY_VIOLATION, str(error))
        except WebSocketDisconnect:
            pass  # left without a word
        finally:
            if seat is not None:
                self._seats.pop(name, None)
                self._hall.leave(seat)

    async def _save(self) -> None:
        """Leave every stream's state with the memory; one call at a time, the newest wins."""
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            streams = {name: seat.pipeline.save() for name, seat in self._seats.items()}
            if streams:
                # The memory may be starting again: the next round has newer states anyway.
                with contextlib.suppress(ray.exceptions.RayError):
                    await self._memory.keep.remote(streams)

    def __del__(self) -> None:
        hall = getattr(self, "_hall", None)
        if hall is not None and hall.alive:
            hall.stop()


def build(options: dict[str, str]) -> Any:
    """The application for ``serve run``.

    Args:
        options: ``replicas`` (2), ``token`` (the variable HA2G_LIVE_TOKEN), ``fps`` (30),
            ``max_load`` (0.8 of a core for each replica), ``engine`` (onnx), ``cpus`` of a
            replica (1).

    Raises:
        Ha2gError: there is no token.
    """
    token = options.get("token") or os.environ.get("HA2G_LIVE_TOKEN", "")
    if not token:
        raise Ha2gError("a cluster needs a token: add token=SECRET or set HA2G_LIVE_TOKEN")
    memory = (
        ray.remote(Memory)
        .options(
            name="ha2g-live-memory", get_if_exists=True, lifetime="detached",
            num_cpus=0, max_restarts=-1,
        )
        .remote()
    )  # fmt: skip
    told = {
        "token": token,
        "fps": options.get("fps", "30"),
        "max_load": options.get("max_load", "0.8"),
        "engine": options.get("engine", "onnx"),
    }
    deployment: Any = Streams
    return deployment.options(
        num_replicas=int(options.get("replicas", "2")),
        ray_actor_options={"num_cpus": float(options.get("cpus", "1"))},
    ).bind(memory, told)
