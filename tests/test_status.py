"""What a person sees: the status line and the figure in the terminal."""

from __future__ import annotations

import io
import os
from typing import cast

import numpy as np
import pytest

from ha2g_live.realtime import status
from ha2g_live.realtime.pipeline import Pipeline, Settings, run_fast
from ha2g_live.realtime.skeleton import BONES, JOINT_NAMES, MEAN_DIRECTION, normalise
from ha2g_live.realtime.status import StatusLine, meter, status_text
from ha2g_live.realtime.terminal_view import TerminalView, figure
from ha2g_live.realtime.types import F32
from tests.fakes import EchoEngine, ListClient, ScriptedSource, speech_like

POSE = normalise(MEAN_DIRECTION)


class Terminal(io.TextIOWrapper):
    """A terminal of any encoding that keeps what is written to it."""

    def __init__(self, encoding: str = "utf-8", tty: bool = True) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    def text(self) -> str:
        return cast(io.BytesIO, self.buffer).getvalue().decode(self.encoding)


@pytest.fixture
def pipeline() -> Pipeline:
    """One that has run for half a second."""
    made = Pipeline(EchoEngine(), [ListClient("osc 127.0.0.1:39539")], Settings(tail_s=0.0))
    run_fast(made, [speech_like(0.5)])
    return made


def set_size(monkeypatch: pytest.MonkeyPatch, columns: int, lines: int) -> None:
    size = os.terminal_size((columns, lines))
    monkeypatch.setattr("shutil.get_terminal_size", lambda: size)


@pytest.mark.parametrize(
    ("level", "bar"),
    [(0.0, ".........."), (1.0, "##########"), (10.0, "##########"), (10**-1.5, "#####.....")],
)
def test_meter_spans_60_db(level: float, bar: str) -> None:
    assert meter(level, blocks="#.") == bar


def test_the_line_tells_levels_losses_and_targets(pipeline: Pipeline) -> None:
    source = ScriptedSource(speech_like(0.1))
    text = status_text(pipeline, source, 59.6)
    assert "model" in text
    assert "60 fps" in text
    assert "osc 127.0.0.1:39539: 30" in text
    assert "skipped" not in text  # losses are shown only when there are any
    pipeline.stats.skipped_steps = 3
    pipeline.stats.late_frames = 2
    pipeline.clients[0].stats.dropped = 7
    text = status_text(pipeline, source, 60.0)
    assert "skipped 3" in text
    assert "late 2" in text
    assert "(-7)" in text


def test_a_lost_microphone_takes_the_place_of_its_level(pipeline: Pipeline) -> None:
    source = ScriptedSource(speech_like(0.1))
    source.state = "microphone lost, waiting"  # type: ignore[attr-defined]
    assert status_text(pipeline, source, 60.0).startswith("microphone lost, waiting")


def test_on_a_terminal_one_line_is_rewritten_and_fits(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_size(monkeypatch, 40, 10)
    monkeypatch.setattr(status, "REFRESH_S", 0.0)
    terminal = Terminal()
    line = StatusLine(pipeline, None, terminal)
    for _ in range(3):
        line.update()
    line.clear()
    written = terminal.text()
    assert "\n" not in written
    shown = written.split("\r\x1b[2K")
    assert len(shown) == 5
    assert max(map(len, shown)) <= 39
    assert shown[-1] == ""


def test_elsewhere_lines_are_written_whole_and_rarely(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Terminal(tty=False)
    line = StatusLine(pipeline, None, log)
    for _ in range(10):
        line.update()
    assert log.text() == ""
    monkeypatch.setattr(status, "LOG_EVERY_S", 0.0)
    line.update()
    assert log.text().count("\n") == 1
    assert "\x1b" not in log.text()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_any_encoding_can_be_written_to(
    pipeline: Pipeline, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_size(monkeypatch, 60, 20)
    monkeypatch.setattr(status, "REFRESH_S", 0.0)
    pipeline.clients[0].stats.detail = "Größe ☃"
    terminal = Terminal(encoding)
    StatusLine(pipeline, ScriptedSource(speech_like(0.1)), terminal).update()
    with TerminalView(terminal) as view:
        view.draw(POSE, "Größe ☃")
    assert ("⣀" in terminal.text()) == (encoding == "utf-8")


def lit(lines: list[str]) -> F32:
    """(n, 2) column and row of the characters that show something."""
    return np.array(
        [
            (column, row)
            for row, line in enumerate(lines)
            for column, character in enumerate(line)
            if character not in " ⠀"
        ],
        dtype=np.float32,
    )


@pytest.mark.parametrize("ascii_only", [True, False])
def test_the_figure_fills_its_lines_and_has_a_head_on_top(ascii_only: bool) -> None:
    lines = figure(POSE, 70, 24, ascii_only)
    assert [len(line) for line in lines] == [70] * 24
    assert all(line.isascii() for line in lines) == ascii_only
    cells = lit(lines)
    top = cells[cells[:, 1] == cells[:, 1].min()]
    assert abs(top[:, 0].mean() - 35) < 4


def test_a_raised_left_hand_is_on_the_right_of_the_screen() -> None:
    """The person faces the viewer."""
    raised = POSE.copy()
    for bone, (_, child) in enumerate(BONES):
        name = JOINT_NAMES[child]
        if name.startswith("left_") and name not in ("left_shoulder", "left_eye", "left_ear"):
            raised[bone] = (0.6, -0.8, 0.0)
    before, after = lit(figure(POSE, 80, 30)), lit(figure(raised, 80, 30))
    assert after[:, 0].max() > before[:, 0].max() + 3
    assert (after[after[:, 1] < 12][:, 0] > 55).any()
    assert after[:, 0].min() == before[:, 0].min()


def test_a_tiny_terminal_and_a_pose_of_nonsense_do_no_harm() -> None:
    assert figure(POSE, 1, 1) != []
    assert len(figure(40.0 * POSE, 30, 8)) == 8  # far outside what is shown


def test_the_terminal_is_restored_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    set_size(monkeypatch, 30, 8)
    terminal = Terminal()

    def draw_until_interrupted() -> None:
        with TerminalView(terminal) as view:
            view.draw(POSE, "x" * 100)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_until_interrupted()
    written = terminal.text()
    assert written.startswith("\x1b[?1049h\x1b[?25l")
    assert written.endswith("\x1b[?25h\x1b[?1049l")
    frame = written.split("\x1b[H")[1].split("\x1b[?25h")[0].replace("\x1b[K", "")
    assert max(map(len, frame.split("\n"))) <= 29
    assert len(frame.split("\n")) == 8
