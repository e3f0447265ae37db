"""Holding one engine against another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ha2g_live.engines import open_engine
from ha2g_live.engines.base import State
from ha2g_live.engines.compare import compare
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.cli import main
from ha2g_live.realtime.errors import ModelError
from ha2g_live.realtime.types import F32
from tests.fakes import EchoEngine
from tests.small_model import write_small_model

SPEECH = read_audio(demo_clip())[: 4 * 16_000]


class Turned(EchoEngine):
    """Answers turned by a known angle about z."""

    def __init__(self, angle_deg: float) -> None:
        super().__init__()
        turn = np.radians(angle_deg)
        self._turn = np.array(
            [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
        )

    def step(self, audio: F32, style: F32, noise: F32, state: State) -> tuple[F32, State]:
        directions, after = super().step(audio, style, noise, state)
        return (directions @ self._turn.T).astype(np.float32), after


def test_a_known_angle_is_found() -> None:
    found = compare(EchoEngine(), Turned(2.0), SPEECH)
    assert found.steps == 61
    assert found.largest_deg <= 2.001  # what points along z does not turn
    assert found.largest_deg > 1.5
    assert 0.0 < found.mean_deg < found.largest_deg
    assert not found.same
    assert compare(EchoEngine(), Turned(0.3), SPEECH).same


def test_an_engine_is_itself() -> None:
    engine = open_engine()
    for follow in (False, True):
        found = compare(engine, engine, SPEECH, follow=follow)
        assert found.largest == 0.0
        assert found.choices == 0


def test_following_leaves_out_what_grows() -> None:
    class Drifting(EchoEngine):
        def step(self, audio: F32, style: F32, noise: F32, state: State) -> tuple[F32, State]:
            directions, after = super().step(audio, style, noise, state)
            return directions, {**after, "level": after["level"] + 0.1}

    apart = compare(EchoEngine(), Drifting(), SPEECH)
    assert compare(EchoEngine(), Drifting(), SPEECH, follow=True).largest == 0.0
    assert apart.largest > 0.01


def test_models_of_different_kinds_are_refused(tmp_path: Path) -> None:
    write_small_model(tmp_path / "small.onnx")
    with pytest.raises(ModelError, match="do not take the same inputs"):
        compare(open_engine(), open_engine("onnx", tmp_path / "small.onnx"), SPEECH)


def test_the_command_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    arguments = ["compare", "onnx", "torch", "--minutes", "0.1", "--json", str(out)]
    assert main(["engines", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "each on its own: 91 steps" in shown
    assert "step by step: 91 steps" in shown
    assert "within 0.5 mean and 3 worst" in shown
    report = json.loads(out.read_text())
    assert 0.0 < report["step by step"]["largest"] <= 1e-4


def test_the_command_lists_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert "ms a step" in lines["onnx"]
    assert "ms a step" in lines["torch"]
    assert main(["engines", "compare", "onnx", "torch", "--minutes", "0"]) == 2
    assert main(["engines", "compare", "onnx", "nonsense"]) == 2
    assert "no engine 'nonsense'" in capsys.readouterr().err
