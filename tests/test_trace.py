"""The trace: what happened when, from a real run of the driver."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ha2g_live.realtime.cli import main
from ha2g_live.realtime.driver import Driver
from ha2g_live.realtime.pipeline import Pipeline, Settings
from ha2g_live.realtime.trace import Trace
from tests.fakes import EchoEngine, ListClient, ScriptedSource, speech_like


def test_a_run_is_told_in_order() -> None:
    client, trace = ListClient(), Trace()
    pipeline = Pipeline(EchoEngine(), [client], Settings(tail_s=0.1))
    driver = Driver(pipeline, ScriptedSource(speech_like(0.6)), trace=trace)
    driver.start()
    while not driver.wait(0.05):
        pass
    told = trace.as_dict()
    json.dumps(told, allow_nan=False)
    assert told["forgotten"] == 0
    ends = [end for end, *_ in told["blocks"]]
    assert ends == sorted(ends)
    assert ends[-1] == 9600  # the source's own sound, not the tail
    assert max(peak for *_, peak in told["blocks"]) == pytest.approx(
        float(np.abs(speech_like(0.6)).max())
    )
    assert len(told["answers"]) == pipeline.stats.steps + pipeline.stats.looks - 1  # step 0
    assert [seq for seq, *_ in told["frames"]] == [frame.seq for frame in client.frames]
    for _, captured_s, written_s, _ in told["blocks"]:
        assert captured_s <= written_s
    for name, at in (("answers", 1), ("frames", 2)):
        assert all(one[at] <= other[at] for one, other in pairwise(told[name])), name
    # No frame shows what no answer had heard yet.
    for _, heard, handed_over_s in told["frames"]:
        if heard:
            assert any(h == heard and s <= handed_over_s for h, s in told["answers"])


def test_it_forgets_the_oldest_and_counts_them() -> None:
    trace = Trace(kept=3)
    for n in range(5):
        trace.frame(n, 0, float(n))
        trace.answer(n, float(n))
    told = trace.as_dict()
    assert [seq for seq, *_ in told["frames"]] == [2, 3, 4]
    assert told["forgotten"] == 4


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for told, said in (
        (["--fast", "--trace", str(tmp_path / "trace.json")], "leave --trace out"),
        (["--trace", str(tmp_path)], "choose another file for --trace"),
        (["--trace", str(tmp_path / "no" / "trace.json")], "create it first"),
    ):
        assert main(["--demo", "--quiet", *told]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
