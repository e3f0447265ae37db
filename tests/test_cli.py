"""The command line: every mistake is one line and status 2; every end is clean."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ha2g_live import __version__
from ha2g_live.clients import encode
from ha2g_live.realtime.cli import main
from tests.fakes import EchoEngine, speech_like

ROOT = Path(__file__).resolve().parent.parent

# The real command, but for the model.
ECHO_COMMAND = """
import sys
import ha2g_live.engines, tests.fakes
ha2g_live.engines.open_engine = lambda *_, **__: tests.fakes.EchoEngine()
from ha2g_live.realtime.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> EchoEngine:
    """The engine that ``main`` opens."""
    engine = EchoEngine()
    monkeypatch.setattr("ha2g_live.engines.open_engine", lambda *_, **__: engine)
    return engine


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, speech_like(0.6), 16_000)
    return path


def fails(arguments: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    """Run ``main`` on a mistake; the one line it writes."""
    try:
        status = main([str(a) for a in arguments])
    except SystemExit as exit_:  # argparse
        status = int(str(exit_.code))
    written = capsys.readouterr()
    assert status == 2
    assert written.out == ""
    assert written.err.startswith("ha2g-live: ")
    assert written.err.count("\n") == 1
    assert written.err.endswith("\n")
    assert "Traceback" not in written.err
    return written.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--osc", "127.0.0.1:9"], "--mic, --audio FILE or --demo"),
        (["--demo", "--fps", "0"], "24..144, got 0"),
        (["--demo", "--fps", "nan"], "24..144"),
        (["--demo", "--fps", "many"], "'many'"),
        (["--demo", "--seed", "-1"], "got -1"),
        (["--demo", "--tail-s", "1e9"], "got 1e+09"),
        (["--demo", "--duration-s", "0"], "above 0"),
        (["--demo", "--threads", "0"], "got 0"),
        (["--demo", "--osc", "localhost"], "'localhost'"),
        (["--demo", "--osc", "127.0.0.1:99999"], "99999"),
        (["--demo", "--ws", "port"], "'port'"),
        (["--demo", "--engine", "abacus"], "abacus"),
        (["--demo", "--mic"], "not allowed with"),
        (["--mic", "--fast"], "--fast needs a file"),
        (["--demo", "--model", "/nowhere/model.onnx"], "/nowhere/model.onnx"),
        (["--demo", "--stats", "/nowhere/stats.json"], "/nowhere/stats.json"),
        (["--demo", "--view"], "--view needs a terminal"),
        (["--audio", "/nowhere/speech.wav"], "/nowhere/speech.wav"),
        (["--audio", "."], "folder"),
        (["--wrong"], "--wrong"),
        (["sing"], "sing"),
        (["devices", "loud"], "loud"),
        (["render"], "--out"),
        (["render", "x.wav", "--out", "y.gif"], "y.gif"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in fails(arguments, capsys)


def test_an_unknown_style_names_those_there_are(
    echo: EchoEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "calm, lively" in fails(["--demo", "--style", "angry"], capsys)
    assert echo.closed


def test_a_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "noise.flac"
    path.write_bytes(b"fLaC" + bytes(range(256)) * 10)
    assert "noise.flac" in fails(["--audio", path], capsys)


def test_nan_samples(tmp_path: Path, echo: EchoEngine, capsys: pytest.CaptureFixture[str]) -> None:
    sound = np.zeros(40_000, dtype=np.float32)
    sound[30_000] = np.nan
    path = tmp_path / "nan.wav"
    soundfile.write(path, sound, 16_000, subtype="FLOAT")
    for more in ([], ["--fast"]):
        assert "nan" in fails(["--audio", path, "--quiet", *more], capsys)


def test_a_file_that_is_not_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model" * 100)
    assert "model.onnx" in fails(["--demo", "--model", path], capsys)


def test_a_port_in_use(echo: EchoEngine, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in fails(["--demo", "--ws", port], capsys)


def test_a_record_that_cannot_be_written(
    echo: EchoEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "none" in fails(["--demo", "--record", tmp_path / "none" / "x.jsonl"], capsys)


def test_an_unknown_microphone(echo: EchoEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """Without PortAudio or without any microphone the message differs; the form does not."""
    assert "microphone" in fails(["--mic", "no such device"], capsys)


def test_training_without_its_packages_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("ha2g_live.training.")]:
        monkeypatch.delitem(sys.modules, name)
    assert "ha2g-live[train]" in fails(["train"], capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["corpus"], "--data"), (["train", "--steps", "many"], "many"), (["export"], "checkpoint")],
)
def test_mistakes_in_the_training_commands(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("torch", "onnx", "librosa", "tqdm"):
        pytest.importorskip(package)
    line = fails(arguments, capsys)
    assert message in line
    assert f"see  ha2g-live {arguments[0]} --help" in line


def test_no_arguments_show_the_three_commands_people_need(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert [word in text for word in ("--demo", "devices", "--mic --osc")] == [True] * 3
    assert len(text.splitlines()) <= 10


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["devices", "--help"], ["render", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
    assert __version__ in capsys.readouterr().out


def test_help_does_not_load_the_heavy_packages() -> None:
    code = (
        "import sys\nfrom ha2g_live.realtime.cli import main\nmain([])\n"
        "heavy = {'numba', 'torch', 'onnxruntime', 'sounddevice', 'websockets'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_a_fast_run_records_every_frame(
    echo: EchoEngine, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, stats = tmp_path / "motion.jsonl", tmp_path / "stats.json"
    arguments = ["--audio", speech, "--fast", "--tail-s", "0.4", "--fps", "30"]
    arguments += ["--record", record, "--stats", stats]
    assert main([str(a) for a in arguments]) == 0
    lines = record.read_text(encoding="utf-8").splitlines()
    assert [encode.decode_text(line).seq for line in lines[1:]] == list(range(30))
    summary = json.loads(stats.read_text(encoding="utf-8"))
    assert (summary["frames"], summary["fast"]) == (30, True)
    assert summary["machine"]["python"]
    written = capsys.readouterr()
    assert "30 frames" in written.err
    assert written.out == ""
    assert echo.closed


def test_quiet_is_quiet(echo: EchoEngine, speech: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--audio", str(speech), "--tail-s", "0.1", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_live_run_reaches_an_osc_target_and_writes_stats(
    echo: EchoEngine, speech: Path, tmp_path: Path
) -> None:
    stats = tmp_path / "stats.json"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10.0)
        target = f"127.0.0.1:{receiver.getsockname()[1]}"
        arguments = ["--audio", str(speech), "--osc", target, "--tail-s", "0.2"]
        assert main([*arguments, "--stats", str(stats)]) == 0
        assert receiver.recv(65536).startswith(b"#bundle")
    summary = json.loads(stats.read_text(encoding="utf-8"))
    (client,) = summary["clients"].values()
    assert client["sent"] == summary["frames"] > 0
    assert summary["latency"]["count"] > 0
    assert summary["source"]["samples"] >= 9600
    assert summary["source"]["ring_overwritten"] == 0


def started(arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", ECHO_COMMAND, *arguments], cwd=ROOT, **options)


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals to one process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    record, stats = tmp_path / "motion.jsonl", tmp_path / "stats.json"
    arguments = ["--demo", "--no-view", "--record", str(record), "--stats", str(stats)]
    with started(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        deadline_s = time.monotonic() + 60.0
        while not (record.exists() and record.read_bytes().count(b"\n") > 20):
            assert time.monotonic() < deadline_s
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60.0)
    assert process.returncode == 0
    assert out == b""
    assert b"Traceback" not in err
    frames = json.loads(stats.read_text(encoding="utf-8"))["frames"]
    lines = record.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + frames  # nothing that was made is lost, and the last line is whole
    assert encode.decode_text(lines[-1]).seq == frames - 1


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo terminal")
def test_the_figure_is_shown_on_a_terminal_and_the_terminal_is_given_back() -> None:
    import pty

    ours, theirs = pty.openpty()
    try:
        with started(["--demo"], stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            shown = b""
            while "⣀".encode()[:2] not in shown or shown.count(b"\x1b[H") < 5:
                assert select.select([ours], [], [], 60.0)[0], shown[-500:]
                shown += os.read(ours, 65536)
            process.send_signal(signal.SIGINT)
            while select.select([ours], [], [], 10.0)[0]:
                try:
                    more = os.read(ours, 65536)
                except OSError:  # Linux: the other side is closed
                    break
                if not more:
                    break
                shown += more
            assert process.wait(60.0) == 0
    finally:
        os.close(ours)
    assert shown.startswith(b"\x1b[?1049h\x1b[?25l")
    end = shown[shown.index(b"\x1b[?25h\x1b[?1049l") :]
    assert b"frames in" in end  # the summary stands on the restored screen
    assert b"\x1b[?25l" not in end
