"""The control page: the avatar live in 3-D, every knob, the input, the targets. Served by viser.

    send      the emitter's thread leaves the newest frame
    ha2g-panel  some times a second: bones, level, targets, knobs that were turned elsewhere
    viser     its own thread: the page's widgets call the desk

The package viser (Apache-2.0) is the extra ``ui``. It brings the page itself, so there is none in
this project.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ha2g_live.clients.address import format_address, listen_error
from ha2g_live.clients.panel_scene import Scene
from ha2g_live.clients.panel_widgets import Widgets
from ha2g_live.realtime.avatar import default_avatar, read_avatar
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import MissingExtra
from ha2g_live.realtime.types import ClientStats, PoseFrame, StreamInfo

SCENE_HZ = 25.0
REPORT_HZ = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """A target as the page shows it."""

    name: str
    state: str
    sent: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Report:
    """The run as the page shows it.

    Attributes:
        level: peak of the sound heard lately, 1 is full scale.
        device: what is being listened to.
        devices: names of the microphones.
        fps: output frames a second.
        latency_ms: from sound to wire, median; None before it is known.
        late: frames that came late.
        model: its name.
        message: what is wrong with the input; empty when all is well.
        recording: the recorder's name; empty while nothing is recorded.
        targets: where frames go.
    """

    level: float
    device: str
    devices: tuple[str, ...]
    fps: float
    latency_ms: float | None
    late: int
    model: str
    message: str
    recording: str
    targets: tuple[Target, ...]


class PanelClient:
    """Serves the control page; to the driver it is a client like any other.

    Threads: ``start``, ``send`` and ``close`` are for one thread, the emitter.

    Args:
        host: address to listen on.
        port: TCP port.
        desk: the run's.
        avatar: file of the avatar to show; the neutral body when left out.
        report: tells the state of the run.
    """

    def __init__(
        self,
        host: str,
        port: int,
        desk: Desk,
        avatar: Path | None,
        report: Callable[[], Report],
    ) -> None:
        try:
            import viser
        except ModuleNotFoundError as error:
            raise MissingExtra("the control page", error.name or "viser", "ui") from error
        self._viser = viser
        self._host, self._port = host, port
        self._desk = desk
        self._avatar_file = avatar
        self._report = report
        self._stats = ClientStats()
        self._newest: PoseFrame | None = None
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def name(self) -> str:
        """Short name for the status line."""
        return f"page http://{format_address(self._host, self._port)}"

    @property
    def stats(self) -> ClientStats:
        """Counters so far; ``sent`` counts poses shown."""
        return self._stats

    def start(self, info: StreamInfo) -> None:
        """Serve the page.

        Raises:
            ClientError: the port is taken or the host is not an address of this computer.
        """
        self._claim_port()
        with _quiet(), _own_pages_only(self._host, self._port):
            self._server = self._viser.ViserServer(
                host=self._host, port=self._port, label="ha2g-live", verbose=False
            )
        # The page could ask for an address on the internet; nobody did.
        self._server.request_share_url = lambda *_, **__: None
        avatar = default_avatar() if self._avatar_file is None else read_avatar(self._avatar_file)
        scene = Scene(self._server, avatar, self._avatar_file)
        widgets = Widgets(self._server, self._desk)
        self._thread = threading.Thread(
            target=self._run, args=(scene, widgets), name="ha2g-panel", daemon=True
        )
        self._thread.start()

    def send(self, frame: PoseFrame) -> None:
        """Leave the newest frame for the page."""
        self._newest = frame

    def close(self) -> None:
        """Stop serving. May be called twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._server is not None:
            server, self._server = self._server, None
            with _quiet():
                server.stop()
                # It says so in its own thread, a moment later.
                time.sleep(0.1)

    def _claim_port(self) -> None:
        """viser takes the next free port without a word; a streamer's bookmark would be wrong."""
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                if os.name == "posix":  # elsewhere the option means another thing
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except (OSError, UnicodeError) as error:
            raise listen_error(self._host, self._port, error) from error

    def _run(self, scene: Scene, widgets: Widgets) -> None:
        shown, reported_s = None, 0.0
        try:
            while not self._stopping.wait(1.0 / SCENE_HZ):
                frame, now_s = self._newest, time.monotonic()
                if frame is not None and frame is not shown and self._server.get_clients():
                    scene.show(frame)
                    self._stats.sent += 1
                    shown = frame
                if now_s - reported_s >= 1.0 / REPORT_HZ:
                    reported_s = now_s
                    widgets.update(self._report())
        except Exception as error:
            self._stats.errors += 1
            self._stats.detail = f"the page has stopped: {error}"
            log.warning("the control page has stopped: %s", error)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """viser announces itself on standard output, where the avatar may be drawn."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@contextlib.contextmanager
def _own_pages_only(host: str, port: int) -> Iterator[None]:
    """While the server is made: let its own pages connect and no others.

    Any web page may open a WebSocket to this computer, and viser has no setting against it; the
    library below it has. For an address of the network the page's own origin is not known here.
    """
    import websockets.asyncio.server as library

    names = {"127.0.0.1", "localhost", "[::1]"}
    if host not in ("127.0.0.1", "localhost", "::1"):
        yield
        return
    origins: Any = [None, *(f"http://{name}:{port}" for name in names)]
    plain = library.serve
    library.serve = functools.partial(plain, origins=origins)  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        library.serve = plain  # type: ignore[misc]
