"""The microphone page in a real browser, whose microphone is a file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ha2g_live.engines import open_engine
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.hall import Hall
from tests.test_serve import TOKEN, Served

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    made = Served(Hall(open_engine(), fps=30, max_streams=1))
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    voice = tmp_path_factory.mktemp("voice") / "voice.wav"
    wide = np.repeat(read_audio(demo_clip()), 3)  # Chromium plays it over and over
    soundfile.write(voice, wide, 48_000, subtype="PCM_16")
    with playwright.sync_playwright() as runner:
        opened = runner.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={voice}",
            ],
        )
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(
        permissions=["microphone"], viewport={"width": 900, "height": 640}
    )
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    context.close()
    assert problems == []


def go(page: Any, served: Served, token: str = TOKEN) -> None:
    page.goto(f"http://127.0.0.1:{served.server.port}/#token={token}")
    page.click("#go")


def until(page: Any, holds: Callable[[], bool], patience_s: float = 20.0) -> None:
    """Wait in small steps: the page's own policy forbids scripts that a test would put in."""
    for _ in range(int(patience_s * 20)):
        if holds():
            return
        page.wait_for_timeout(50)
    pytest.fail(f"the page says {page.locator('#say').text_content()!r}")


def said(page: Any) -> str:
    return str(page.locator("#say").text_content())


def frames(page: Any) -> int:
    return int((page.locator("#count").text_content() or "0").split()[0] or 0)


def drawn(page: Any) -> bytes:
    return bytes(page.locator("#stage").screenshot())


def test_speaking_into_the_browser_moves_the_figure(
    page: Any, served: Served, tmp_path: Path
) -> None:
    go(page, served)
    page.wait_for_timeout(3000)
    until(page, lambda: frames(page) > 90)
    (seat,) = served.hall._seats
    assert seat.pipeline.input.voice_db > -50.0  # the voice arrives, not silence
    assert seat.lost == 0
    first = drawn(page)
    page.wait_for_timeout(700)
    assert drawn(page) != first
    until(page, lambda: page.locator("#style option").count() > 3)
    page.select_option("#style", "calm")
    until(page, lambda: seat.pipeline.desk.knobs.style == "calm")
    page.screenshot(path=str(tmp_path / "page.png"))
    page.click("#go")
    until(page, lambda: said(page) == "Stopped.")
    until(page, lambda: served.hall.streams == 0)


def test_a_wrong_token_is_said_on_the_page(page: Any, served: Served) -> None:
    go(page, served, token="guess")
    until(page, lambda: "token is wrong" in said(page))
    assert page.locator("#say").get_attribute("class") == "wrong"
    assert page.locator("#go").is_enabled()


def test_a_full_server_is_said_on_the_page(browser: Any, page: Any, served: Served) -> None:
    go(page, served)
    until(page, lambda: page.locator("#go").text_content() == "Stop")
    context = browser.new_context(permissions=["microphone"])
    other = context.new_page()
    go(other, served)
    until(other, lambda: "full" in said(other))
    context.close()
