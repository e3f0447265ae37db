"""The recorder against real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ha2g_live.clients import encode, jsonl
from ha2g_live.clients.jsonl import JsonlClient
from ha2g_live.realtime.errors import ClientError
from ha2g_live.realtime.types import PoseFrame, StreamInfo

INFO = StreamInfo(fps=60.0, model="test 1")


def make_frame(seq: int) -> PoseFrame:
    rng = np.random.default_rng(seq)
    return PoseFrame(
        seq=seq,
        stream_time_s=seq / 60,
        directions=rng.uniform(-1, 1, (42, 3)).astype(np.float32),
        rotations=rng.uniform(-1, 1, (55, 4)).astype(np.float32),
        hips_m=rng.uniform(-1, 1, 3).astype(np.float32),
        blends={"A": 0.5},
    )


def read(path: Path) -> tuple[dict[str, Any], list[encode.ReceivedFrame]]:
    hello, *lines = path.read_text(encoding="utf-8").splitlines()
    return json.loads(hello), [encode.decode(line) for line in lines]


def no_thread_is_left() -> bool:
    return "ha2g-jsonl" not in {thread.name for thread in threading.enumerate()}


def test_hello_then_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "take one.jsonl"
    path.write_text("an older recording\n" * 100_000)
    client = JsonlClient(path)
    client.start(INFO)
    for seq in range(500):
        client.send(make_frame(seq))
    client.close()
    client.close()
    client.send(make_frame(500))
    hello, frames = read(path)
    assert hello == json.loads(encode.hello_text(INFO))
    assert [frame.seq for frame in frames] == list(range(500))
    for received in frames[::100]:
        frame = make_frame(received.seq)
        assert received.stream_time_s == frame.stream_time_s
        assert received.directions is not None
        np.testing.assert_allclose(received.directions, frame.directions, rtol=0, atol=6e-8)
        np.testing.assert_allclose(received.rotations, frame.rotations, rtol=0, atol=6e-8)
        assert received.blends == {"A": 0.5}
    assert client.stats.as_dict() == {"sent": 500, "dropped": 0, "errors": 0, "detail": ""}
    assert no_thread_is_left()


def in_a_missing_folder(folder: Path) -> Path:
    return folder / "missing" / "take.jsonl"


def a_folder(folder: Path) -> Path:
    return folder


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "take.jsonl"


def with_a_null_character(folder: Path) -> Path:
    return folder / "take\0.jsonl"


@pytest.mark.parametrize(
    "place", [in_a_missing_folder, a_folder, below_a_file, with_a_null_character]
)
def test_a_path_that_cannot_be_written(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    path = place(tmp_path)
    client = JsonlClient(path)
    with pytest.raises(ClientError, match="cannot record to") as caught:
        client.start(INFO)
    assert repr(str(path)) in str(caught.value)
    assert "\n" not in str(caught.value)
    client.close()
    assert no_thread_is_left()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_disk_that_is_full_from_the_start() -> None:
    client = JsonlClient("/dev/full")
    with pytest.raises(ClientError, match="No space left"):
        client.start(INFO)
    client.close()


FILL_THE_DISK = """
import json, logging, resource, sys, time
from ha2g_live.clients.jsonl import JsonlClient
from tests.test_jsonl import INFO, make_frame

logging.basicConfig(stream=sys.stderr, format="%(message)s")
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
client = JsonlClient(sys.argv[1])
client.start(INFO)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limit[1]))
for seq in range(40):
    client.send(make_frame(seq))
    while client.stats.sent + client.stats.dropped <= seq:
        time.sleep(0.001)
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
for seq in range(40, 45):
    client.send(make_frame(seq))
client.close()
print(json.dumps(client.stats.as_dict()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_disk_that_fills_up_loses_whole_lines_and_the_stream_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "take.jsonl"
    run = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert run.returncode == 0, run.stderr
    stats = json.loads(run.stdout)
    _, frames = read(path)
    seqs = [frame.seq for frame in frames]
    kept = len(seqs) - 5
    assert 0 < kept < 40
    assert seqs == [*range(kept), *range(40, 45)]
    assert (stats["sent"], stats["dropped"], stats["errors"]) == (kept + 5, 40 - kept, 40 - kept)
    assert stats["detail"].startswith(f"{40 - kept} frames lost: ")
    assert run.stderr.count("frames are being lost") == 1


def test_a_full_queue_drops_the_newest_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()
    writing = threading.Event()
    frame_text = encode.frame_text

    def wait_then_encode(frame: PoseFrame, directions: bool = False) -> str:
        writing.set()
        assert may_write.wait(30)
        return frame_text(frame, directions)

    monkeypatch.setattr(encode, "frame_text", wait_then_encode)
    monkeypatch.setattr(jsonl, "QUEUE_FRAMES", 10)
    client = JsonlClient(tmp_path / "take.jsonl")
    client.start(INFO)
    client.send(make_frame(0))
    assert writing.wait(30)
    for seq in range(1, 15):
        client.send(make_frame(seq))
    assert client.backlog == 10
    assert client.stats.dropped == 4
    assert client.stats.detail == "4 frames lost: the disk is too slow"
    may_write.set()
    client.close()
    assert client.backlog == 0
    assert [frame.seq for frame in read(tmp_path / "take.jsonl")[1]] == list(range(11))
    assert client.stats.sent == 11


def test_a_frame_that_json_cannot_hold_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "take.jsonl"
    client = JsonlClient(path)
    client.start(INFO)
    broken = make_frame(1)
    broken.rotations[0, 0] = np.nan
    for frame in (make_frame(0), broken, make_frame(2)):
        client.send(frame)
    client.close()
    assert [frame.seq for frame in read(path)[1]] == [0, 2]
    assert (client.stats.sent, client.stats.dropped, client.stats.errors) == (2, 1, 1)


def test_a_failure_of_the_thread_reaches_the_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(frame: PoseFrame, directions: bool = False) -> str:
        raise RuntimeError("planted")

    client = JsonlClient(tmp_path / "take.jsonl")
    client.start(INFO)
    monkeypatch.setattr(encode, "frame_text", fail)
    client.send(make_frame(0))
    with pytest.raises(ClientError, match="planted"):
        client.close()
    client.close()
    assert isinstance(client.failure(), RuntimeError)
    assert no_thread_is_left()


def test_closing_what_was_never_started(tmp_path: Path) -> None:
    JsonlClient(tmp_path / "take.jsonl").close()
    assert not (tmp_path / "take.jsonl").exists()
