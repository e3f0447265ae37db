"""Streams on a Ray cluster: two node processes here, one replica killed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is missing")
ROOT = Path(__file__).parent.parent


@needs_ray
def test_killing_a_replica_loses_no_stream() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.cluster_run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    # Ray writes of its own accord after and before what the program prints.
    text = run.stdout[run.stdout.index('{"streams_of') :]
    report: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]
    speakers = report["speakers"]
    assert report["streams_of_the_killed"] >= 1
    cut_off = [speaker for speaker in speakers if len(speaker["hellos"]) > 1]
    assert len(cut_off) == report["streams_of_the_killed"]
    for speaker in speakers:
        assert speaker["frames_before"] > 60
        assert speaker["frames_after"] > 30
        assert len({hello["id"] for hello in speaker["hellos"]}) == 1
        # It goes on where it was: neither anew nor from long ago.
        assert speaker["back_s"] < 1.5
        assert speaker["ahead_s"] < 2.0
    for speaker in cut_off:
        assert not speaker["hellos"][0]["resumed"]
        assert all(hello["resumed"] for hello in speaker["hellos"][1:])


@needs_ray
def test_the_memory_is_bounded_and_forgets() -> None:
    script = """
from ha2g_live.realtime.cluster import Memory
memory = Memory(most=3, kept_s=10.0)
memory.keep({str(n): n for n in range(5)}, now_s=0.0)
assert memory.dropped == 2 and memory.recall("1") is None and memory.recall("4") == 4
memory.keep({"2": 22}, now_s=9.0)
memory.keep({}, now_s=15.0)
assert memory.recall("2") == 22 and memory.recall("4") is None
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=120)


@needs_ray
def test_a_cluster_without_a_token_is_refused() -> None:
    script = """
import os
os.environ.pop("HA2G_LIVE_TOKEN", None)
from ha2g_live.realtime.cluster import build
try:
    build({})
except Exception as error:
    assert "needs a token" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=120)
