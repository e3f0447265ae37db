"""The server of many streams: a WebSocket connection brings sound and gets its avatar's frames.

    GET /         the microphone page
    WebSocket /   "start", then sound; frames come back (docs/serve.md)

One asyncio loop takes sound in and writes frames out; ``realtime.hall`` does everything between.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ha2g_live.clients import control, encode
from ha2g_live.clients.address import listen_error
from ha2g_live.clients.viewers import BUFFER_LIMIT_BYTES, MAX_BAD_REQUESTS, POLICY_VIOLATION
from ha2g_live.realtime.avatar import Avatar
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import ClientError, ConfigError, Ha2gError
from ha2g_live.realtime.hall import Full, Hall, Seat
from ha2g_live.realtime.knobs import Knobs, changed
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32, ClientStats, PoseFrame, StreamInfo

MAX_MESSAGE_BYTES = 64 * 1024
START_WITHIN_S = 5.0
SILENT_FOR_S = 60.0
"""A connection that sends no sound for so long gives its place up."""
STALL_S = 5.0
TICKS_WAITING = 8
"""Frames of all streams that may wait for a busy loop; the oldest are dropped and counted."""
TRY_AGAIN_LATER = 1013
"""Close code of the registry that RFC 6455, section 11.7, founded."""
CODECS = ("pcm16", "opus")
PAGE = Path(__file__).with_name("microphone.html")

log = logging.getLogger(__name__)
_wire_log = logging.getLogger(f"{__name__}.wire")
_wire_log.setLevel(logging.CRITICAL)


@dataclass(eq=False)
class Speaker:
    """One connection that has a stream; to the stream's pipeline it is a client.

    Attributes:
        connection: the open WebSocket.
        outbox: where encoded frames of this tick go, of all connections.
        wish: the form of its frames.
        hello: the first message it is sent.
    """

    connection: ServerConnection
    outbox: Batch
    wish: encode.Wish
    hello: str = ""
    stats: ClientStats = field(default_factory=ClientStats)
    behind_since_s: float | None = None

    @property
    def name(self) -> str:
        """Short name for the status line."""
        return "speaker"

    def start(self, info: StreamInfo) -> None:
        """Note what the stream is."""
        self.hello = encode.hello_text(info)

    def send(self, frame: PoseFrame) -> None:
        """Encode a frame; it goes out with those of the other streams."""
        self.outbox.append((self, encode.frame_message(frame, self.wish)))

    def close(self) -> None:
        """Nothing: the connection ends by itself."""


Batch = list[tuple[Speaker, str | bytes]]


@dataclass(frozen=True)
class Start:
    """What the first message of a connection asks for.

    Attributes:
        desk: with the stream's knobs.
        seed: of its gestures.
        wish: the form of its frames.
        decode: turns a message of sound into samples.
        resume: name of a stream to go on with; empty for a new one.
    """

    desk: Desk
    seed: int
    wish: encode.Wish
    decode: Callable[[bytes], F32]
    resume: str = ""


def read_start(message: str | bytes, token: str, knobs: Knobs, styles: Sequence[str]) -> Start:
    """The first message of a connection.

    Args:
        message: as it came.
        token: what the client must know; empty asks for none.
        knobs: where they stand unless it says otherwise.
        styles: of the model.

    Raises:
        ValueError, Ha2gError: it cannot be had, with the reason for the client.
    """
    try:
        request = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise ValueError("the first message is a start request, as JSON text") from error
    if not isinstance(request, dict) or request.get("type") != "start":
        raise ValueError('the first message has the type "start"')
    given = request.get("token", "")
    if token and not (
        isinstance(given, str) and hmac.compare_digest(given.encode(), token.encode())
    ):
        raise ConfigError("the token is wrong: use the one that the server printed")
    codec = request.get("codec", CODECS[0])
    if codec not in CODECS:
        raise ValueError(f"codec is one of {', '.join(CODECS)}, got {codec!r}")
    seed = request.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise ValueError("seed is a whole number from 0 to 2^64 - 1")
    said = request.get("knobs", {})
    if not isinstance(said, dict):
        raise ValueError('"knobs" is an object of names and values')
    resume = request.get("resume", "")
    if not isinstance(resume, str):
        raise ValueError('"resume" is the stream_id of an earlier hello')
    desk = Desk(changed(knobs, said, styles), styles)
    return Start(desk, seed, encode.read_wish(request, encode.Wish()), _decoder(codec), resume)


class StreamServer:
    """Listens, lets streams in, and carries sound and frames.

    Args:
        hall: not started.
        host: address to listen on.
        port: TCP port; 0 takes any free one.
        token: what a client must know; empty asks for none.
        avatar: whose body moves.
        knobs: where every stream's knobs stand at first.
        tls: a certificate's chain and key, for browsers that are not on this computer.
    """

    def __init__(
        self,
        hall: Hall,
        host: str,
        port: int,
        token: str = "",
        avatar: Avatar | None = None,
        knobs: Knobs | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self.hall = hall
        self.port = port
        self._host = host
        self._token = token
        self._avatar = avatar
        self._knobs = knobs or Knobs()
        self._tls = _tls_context(tls)
        self._outbox: Batch = []
        self._batches: deque[Batch] = deque()
        self._asked = False
        self._loop: asyncio.AbstractEventLoop | None = None
        hall.after_frames = self._post

    @property
    def address(self) -> str:
        """What a browser is given."""
        return f"http{'s' if self._tls else ''}://{self._host}:{self.port}/"

    async def run(self, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set.

        Raises:
            ClientError: the address cannot be listened on.
            Exception: whatever ended a thread of the hall.
        """
        self._loop = asyncio.get_running_loop()
        try:
            server = await serve(
                self._serve,
                self._host,
                self.port,
                process_request=self._page,
                compression=None,
                ssl=self._tls,
                max_size=MAX_MESSAGE_BYTES,
                server_header=encode.PROTOCOL,
                logger=_wire_log,
            )
        except (OSError, UnicodeError) as error:
            raise listen_error(self._host, self.port, error) from error
        self.port = next(iter(server.sockets)).getsockname()[1]
        try:
            self.hall.start()
            ready()
            while not stop.is_set() and self.hall.alive:
                try:
                    await asyncio.wait_for(stop.wait(), 0.2)
                except (asyncio.TimeoutError, TimeoutError):
                    continue
        finally:
            await _end(server)
            self.hall.stop()

    def _page(self, connection: ServerConnection, request: Request) -> Response | None:
        if "upgrade" in request.headers.get("Connection", "").lower():
            return None
        if request.path.partition("?")[0] != "/":
            return connection.respond(HTTPStatus.NOT_FOUND, "There is only one page: /\n")
        headers = Headers(
            {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Security-Policy": "default-src 'self' 'unsafe-inline' blob:; "
                "connect-src 'self' ws: wss:",
                "Connection": "close",
            }
        )
        return Response(HTTPStatus.OK.value, "OK", headers, PAGE.read_bytes())

    async def _serve(self, connection: ServerConnection) -> None:
        seat: Seat | None = None
        try:
            message = await asyncio.wait_for(connection.recv(), START_WITHIN_S)
            start = read_start(message, self._token, self._knobs, self.hall.engine.spec.styles)
            speaker = Speaker(connection, self._outbox, start.wish)
            seat = self.hall.admit(speaker, start.desk, start.seed, self._avatar)
            await connection.send(speaker.hello)
            await _listen(connection, speaker, start, seat)
        except Full as error:
            await _farewell(connection, TRY_AGAIN_LATER, str(error))
        except (asyncio.TimeoutError, TimeoutError):
            await _farewell(connection, POLICY_VIOLATION, "no start request came")
        except (ValueError, Ha2gError) as error:
            await _farewell(connection, POLICY_VIOLATION, str(error))
        except (ConnectionClosed, OSError):
            pass  # left without a word
        finally:
            if seat is not None:
                self.hall.leave(seat)

    # --- frames out

    def _post(self) -> None:
        """The hall's thread has given every stream its frame: have the loop write them all."""
        if not self._outbox or self._loop is None:
            return
        self._batches.append(self._outbox.copy())
        self._outbox.clear()
        if len(self._batches) > TICKS_WAITING:
            with contextlib.suppress(IndexError):  # the loop has just taken it
                for speaker, _ in self._batches.popleft():
                    speaker.stats.dropped += 1
        if not self._asked:
            self._asked = True
            try:
                self._loop.call_soon_threadsafe(self._write)
            except RuntimeError:
                log.debug("the loop has ended")

    def _write(self) -> None:
        self._asked = False  # first, so that what comes from now on asks again
        while self._batches:
            _write_batch(self._batches.popleft())


def _write_batch(batch: Batch) -> None:
    now_s = time.monotonic()
    for speaker, message in batch:
        transport = speaker.connection.transport
        if transport.get_write_buffer_size() <= BUFFER_LIMIT_BYTES:
            speaker.behind_since_s = None
            speaker.stats.sent += 1
            broadcast([speaker.connection], message)
            continue
        speaker.stats.dropped += 1
        if speaker.behind_since_s is None:
            speaker.behind_since_s = now_s
        elif now_s - speaker.behind_since_s >= STALL_S:
            transport.abort()


async def _listen(connection: ServerConnection, speaker: Speaker, start: Start, seat: Seat) -> None:
    """Take in sound and requests until the client leaves or falls silent."""
    bad = 0
    silence = Silence(connection)
    try:
        async for message in connection:
            silence.broken()
            try:
                if isinstance(message, bytes):
                    seat.feed(start.decode(message))
                    continue
                answer, speaker.wish = answered(message, speaker.wish, start.desk)
            except ValueError as error:
                bad += 1
                if bad >= MAX_BAD_REQUESTS:
                    raise ValueError("too many bad messages") from error
                answer = encode.error_text(str(error))
            await connection.send(answer)
    finally:
        silence.over()


class Silence:
    """Ends a connection that sends nothing for ``SILENT_FOR_S``.

    A time limit on each message would start a task for every 20 ms of sound.
    """

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Task[None] | None = None
        self.broken()
        self._timer = self._loop.call_later(SILENT_FOR_S, self._look)

    def broken(self) -> None:
        """A message has come."""
        self._heard_at_s = self._loop.time()

    def over(self) -> None:
        """The connection has ended."""
        self._timer.cancel()

    def _look(self) -> None:
        left_s = self._heard_at_s + SILENT_FOR_S - self._loop.time()
        if left_s > 0.0:
            self._timer = self._loop.call_later(left_s, self._look)
        else:
            reason = "no sound came for a minute"
            self._end = self._loop.create_task(
                _farewell(self._connection, POLICY_VIOLATION, reason)
            )


def answered(message: str, wish: encode.Wish, desk: Desk) -> tuple[str, encode.Wish]:
    """The answer to a request, and the form of frames from then on.

    Raises:
        ValueError: it is none of the protocol's.
    """
    request = encode.read_request(message)
    if request["type"] == "subscribe":
        wish = encode.read_wish(request, wish)
        return encode.subscribed_text(wish), wish
    return control.answer(request, desk), wish


def _decoder(codec: str) -> Callable[[bytes], F32]:
    if codec == "opus":
        from ha2g_live.clients.opus import OpusDecoder

        return OpusDecoder().decode
    return pcm16


def pcm16(message: bytes) -> F32:
    """(n,) float32 of 16-bit little-endian samples, 16 kHz, mono.

    Raises:
        ValueError: the number of bytes is odd, or more than a second.
    """
    if len(message) % 2 or len(message) > 2 * SAMPLE_RATE_HZ:
        raise ValueError(
            f"sound is 16-bit samples, at most a second in a message; got {len(message)} bytes"
        )
    samples: F32 = np.frombuffer(message, dtype="<i2").astype(np.float32) / np.float32(32768.0)
    return samples


async def _farewell(connection: ServerConnection, code: int, reason: str) -> None:
    """Say why, then close; a close frame holds 123 bytes only."""
    try:
        await connection.send(encode.error_text(reason))
        await connection.close(code, reason.encode()[:120].decode(errors="ignore"))
    except (ConnectionClosed, OSError):
        pass


async def _end(server: Server) -> None:
    server.close()
    await server.wait_closed()


def _tls_context(tls: tuple[Path, Path] | None) -> ssl.SSLContext | None:
    if tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(*tls)
    except (OSError, ssl.SSLError) as error:
        raise ClientError(
            f"the certificate {tls[0]} with the key {tls[1]} cannot be used ({error}): "
            "give both as PEM files"
        ) from error
    return context


def summary_line(summary: dict[str, Any]) -> str:
    """One line for the terminal."""
    return (
        f"{summary['streams_now']} streams, {100 * summary['load']:.0f} % of a core, "
        f"{summary['late_frames']} late frames, {summary['late_steps']} late steps, "
        f"{summary['refused']} refused"
    )
