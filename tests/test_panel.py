"""The control page in a real browser: what a stranger does there reaches the desk, and back."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ha2g_live.clients.panel import PanelClient, Report, Target
from ha2g_live.clients.panel_body import bone_paths, neutral_body, turn_to_page
from ha2g_live.realtime.body import Measures
from ha2g_live.realtime.desk import Desk
from ha2g_live.realtime.errors import AudioError, ClientError
from ha2g_live.realtime.humanoid import BONE_COUNT, HIPS_REST_M, REST_OFFSETS_M
from ha2g_live.realtime.knobs import Knobs
from ha2g_live.realtime.rest_poses import rest_pose
from ha2g_live.realtime.types import PoseFrame, StreamInfo
from tests.small_avatar import write_avatar

PATIENCE_S = 30.0
INFO = StreamInfo(fps=60.0, model="test 1")
CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page in")


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def frame(pose: Any, seq: int = 0, **blends: float) -> PoseFrame:
    return PoseFrame(
        seq=seq,
        stream_time_s=seq / 60,
        directions=np.zeros((42, 3), np.float32),
        rotations=np.array(pose, dtype=np.float32),
        hips_m=HIPS_REST_M,
        blends=blends,
    )


class Run:
    """A panel with a made-up run behind it."""

    def __init__(self, avatar: Path | None = None) -> None:
        self.desk = Desk(Knobs(), ("calm", "lively"))
        self.orders: list[tuple[str, Any]] = []
        self.device = "Built-in Microphone"
        self.recording = ""
        self.desk.take_order("device", self._change_device)
        self.desk.take_order("record", self._record)
        self.port = free_port()
        self.panel = PanelClient("127.0.0.1", self.port, self.desk, avatar, self.report)
        self.panel.start(INFO)
        self.pose = rest_pose("sides")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        seq = 0
        while not self._stop.wait(1 / 60):
            self.panel.send(frame(self.pose, seq, aa=0.5, blink=0.0))
            seq += 1

    def _change_device(self, value: Any) -> str:
        if value == "Broken Microphone":
            raise AudioError("the microphone 'Broken Microphone' did not answer: plug it in again")
        self.orders.append(("device", value))
        self.device = value
        return f"listening to {value}"

    def _record(self, value: Any) -> str:
        self.orders.append(("record", value))
        self.recording = "take.jsonl" if value else ""
        return "recording to take.jsonl" if value else "recorded 7 frames"

    def report(self) -> Report:
        return Report(
            level=0.3,
            device=self.device,
            devices=("Built-in Microphone", "USB Microphone", "Broken Microphone"),
            fps=60.0,
            latency_ms=33.0,
            late=0,
            model="test 1",
            message="",
            recording=self.recording,
            targets=(Target("osc 127.0.0.1:39539", "nobody listens there yet", 120, 3),),
        )

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.panel.close()


@pytest.fixture
def run() -> Iterator[Run]:
    run = Run()
    yield run
    run.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    flags = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
             "--disable-quic", "--disable-background-networking", "--disable-component-update",
             "--disable-sync")  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(flags))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, run: Run) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.set_default_timeout(1000 * PATIENCE_S)
    page.goto(f"http://127.0.0.1:{run.port}")
    page.get_by_text("60 frames/s").wait_for()
    yield page
    page.close()


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.02)


def choose(page: Any, label: str, option: str) -> None:
    """Open a dropdown by its label and take an option, as a person does."""
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=option, exact=True).click()


@needs_browser
def test_a_stranger_changes_device_style_and_size(run: Run, page: Any) -> None:
    choose(page, "Style", "lively")
    wait_for(lambda: run.desk.knobs.style == "lively")
    choose(page, "Listen to", "USB Microphone")
    wait_for(lambda: ("device", "USB Microphone") in run.orders)
    page.get_by_text("listening to USB Microphone").wait_for()
    size = page.get_by_role("textbox").nth(2)
    for field in page.get_by_role("textbox").all():
        if field.input_value() == "1":
            size = field
            break
    size.fill("1.5")
    size.press("Enter")
    wait_for(lambda: run.desk.knobs.intensity == 1.5)


@needs_browser
def test_recording_is_started_and_stopped(run: Run, page: Any) -> None:
    page.get_by_role("button", name="Start recording").click()
    page.get_by_role("button", name="Stop recording").click()
    wait_for(lambda: run.orders == [("record", True), ("record", False)])
    page.get_by_role("button", name="Start recording").wait_for()


@needs_browser
def test_a_mistake_is_said_and_the_page_goes_back(run: Run, page: Any) -> None:
    choose(page, "Listen to", "Broken Microphone")
    page.get_by_text("did not answer: plug it in again").wait_for()
    field = page.get_by_label("Listen to", exact=True).first
    wait_for(lambda: field.input_value() == "Built-in Microphone")


@needs_browser
def test_a_knob_turned_elsewhere_shows_in_the_page(run: Run, page: Any) -> None:
    run.desk.update({"style": "calm", "mirror": True, "parts": ["arms", "hands"]})
    field = page.get_by_label("Style", exact=True).first
    wait_for(lambda: field.input_value() == "calm")
    boxes = page.get_by_role("checkbox")
    # Mirror, then arms, hands, head, torso, face.
    wait_for(
        lambda: [box.is_checked() for box in boxes.all()] == [True, True, True, False, False, False]
    )


@needs_browser
def test_targets_and_their_trouble_are_shown(page: Any) -> None:
    page.get_by_text("nobody listens there yet").wait_for()
    assert page.get_by_text("33 ms behind").is_visible()


@needs_browser
def test_the_picture_follows_the_pose(run: Run, page: Any) -> None:
    import io

    from PIL import Image

    def picture() -> Any:
        return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"), dtype=int)[
            :, :650
        ]

    wait_for(lambda: run.panel.stats.sent > 5)
    time.sleep(1.0)
    before = picture()
    # An empty wall has one shade a row: somebody stands there.
    assert (np.ptp(before[100:700], axis=1) > 60).mean() > 0.5
    run.pose = rest_pose("front")
    sent = run.panel.stats.sent
    wait_for(lambda: run.panel.stats.sent > sent + 10)
    time.sleep(1.0)
    assert (np.abs(picture() - before) > 30).sum() > 2000


@needs_browser
def test_a_users_avatar_is_shown(browser: Any, tmp_path: Path) -> None:
    run = Run(write_avatar(tmp_path / "me.vrm"))
    page = browser.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    page.goto(f"http://127.0.0.1:{run.port}")
    page.get_by_text("60 frames/s").wait_for()
    wait_for(lambda: run.panel.stats.sent > 5)
    assert run.panel.stats.errors == 0
    page.close()
    run.close()


@needs_browser
def test_a_page_of_another_site_gets_no_connection(browser: Any, run: Run) -> None:
    page = browser.new_page()
    page.goto("data:text/html,<p>another site</p>")
    state = page.evaluate(
        """url => new Promise(done => {
            const socket = new WebSocket(url, "viser-v1.1.1");
            socket.onopen = () => done("open");
            socket.onclose = () => done("refused");
        })""",
        f"ws://127.0.0.1:{run.port}",
    )
    assert state == "refused"
    page.close()


def test_a_taken_port_is_one_line() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        panel = PanelClient("127.0.0.1", port, Desk(), None, lambda: None)  # type: ignore[arg-type, return-value]
        with pytest.raises(ClientError, match=str(port)) as caught:
            panel.start(INFO)
        assert "\n" not in str(caught.value)
        panel.close()


def test_closing_ends_the_threads_and_frees_the_port(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run()
    port = run.port
    run.close()
    run.panel.close()
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    assert "ha2g-panel" not in {thread.name for thread in threading.enumerate()}
    assert capsys.readouterr().out == ""


def test_the_neutral_body_is_whole_and_on_its_bones() -> None:
    parts = neutral_body(REST_OFFSETS_M, Measures())
    assert len({part.name for part in parts}) == len(parts)
    for part in parts:
        assert np.isfinite(part.vertices).all()
        assert part.faces.max() < len(part.vertices)
        assert np.abs(part.vertices).max() < 0.6
    paths = bone_paths()
    assert len(set(paths)) == BONE_COUNT
    assert paths[0] == "/avatar/Hips"


def test_turns_are_mirrored_into_the_pages_axes() -> None:
    left_arm_down = np.array((0.0, 0.0, 0.7071068, 0.7071068), np.float32)
    np.testing.assert_allclose(turn_to_page(left_arm_down), (0.7071068, 0, 0, -0.7071068))
