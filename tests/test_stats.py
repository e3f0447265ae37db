"""Statistics: right percentiles, bounded memory, plain JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.skeleton import MEAN_DIRECTION, bone_index, normalise
from ha2g_live.realtime.stats import Stats, Timings, check_writable, machine, write_summary
from ha2g_live.realtime.types import F32

POSE = normalise(MEAN_DIRECTION)


def turned(angle_rad: float) -> F32:
    """The pose turned about the vertical axis."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    pose: F32 = (POSE @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T).astype(np.float32)
    return pose


@pytest.mark.parametrize("percent", [0.0, 50.0, 95.0, 99.0, 100.0])
def test_percentiles_agree_with_the_sorted_values(percent: float) -> None:
    values = np.random.default_rng(0).lognormal(-4.0, 1.0, size=5000)
    timings = Timings()
    for value in values:
        timings.add(float(value))
    exact = np.percentile(values, percent, method="inverted_cdf")
    assert timings.percentile_s(percent) == pytest.approx(float(exact), rel=0.0051)


def test_timings_take_anything_and_do_not_grow() -> None:
    timings = Timings()
    size = timings._counts.nbytes
    for value in (-1.0, 0.0, 1e-9, 1e9):
        timings.add(value)
    assert timings.count == 4
    assert timings.percentile_s(100) == pytest.approx(1e3, rel=0.01)
    assert timings._counts.nbytes == size
    assert Timings().as_dict() == {
        "count": 0, "p50_ms": 0.0, "p95_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0
    }  # fmt: skip


def test_late_and_missed_frames() -> None:
    stats = Stats()
    stats.count_pace(0.02, lateness_s=0.019, missed=0)
    stats.count_pace(0.02, lateness_s=0.020, missed=0)
    stats.count_pace(0.02, lateness_s=0.001, missed=3)
    assert (stats.late_frames, stats.missed_frames) == (4, 3)


def test_speed_and_bad_directions() -> None:
    stats = Stats()
    stats.count_frame(turned(0.0), 0.0, starved=False)
    stats.count_frame(turned(0.1), 0.02, starved=True)
    across = np.linalg.norm(POSE[:, [0, 2]], axis=1).max()  # what turns about the vertical axis
    assert stats.fastest_rad_s == pytest.approx(2 * np.arcsin(across * np.sin(0.05)) / 0.02, 1e-3)
    assert (stats.frames, stats.starved_frames, stats.bad_directions) == (2, 1, 0)
    bad = POSE.copy()
    bad[3] = np.nan
    bad[5] *= 1.01
    stats.count_frame(bad, 0.02, starved=False)
    assert stats.bad_directions == 2
    json.dumps(stats.as_dict(), allow_nan=False)


def test_a_row_for_each_minute() -> None:
    stats = Stats()
    for minute in range(3):
        for _ in range(minute + 1):
            stats.count_frame(POSE, 0.02, starved=False)
            stats.count_pace(0.02, 0.5, 0)
        stats.count_latency(0.03)
        stats._minute_end_s = 0.0  # the minute is over
        stats.sample_memory()
    stats._minute_end_s = float("inf")
    stats.skipped_steps += 2
    rows = stats.as_dict()["minutes"]
    assert [row["frames"] for row in rows] == [1, 2, 3, 0]
    assert [row["late_frames"] for row in rows] == [1, 2, 3, 0]
    assert [row["skipped_steps"] for row in rows] == [0, 0, 0, 2]
    assert rows[0]["latency_p95_ms"] == pytest.approx(30.0, rel=0.01)
    assert all(row["rss_mib"] > 1.0 for row in rows)


def test_memory_shows_growth() -> None:
    stats = Stats()
    assert stats.rss_start_bytes > 2**20
    # What an operating system counts as resident may shrink while a process grows.
    readings = iter((100, 140, 120))
    stats._rss = lambda: next(readings) * 2**20  # type: ignore[method-assign]
    stats.begin()
    stats.sample_memory()
    memory = stats.as_dict()["memory"]
    assert memory == {"rss_start_mib": 100.0, "rss_end_mib": 120.0, "rss_peak_mib": 140.0}


def test_the_machine_is_described() -> None:
    described = machine()
    assert described["cpu"]
    assert described["cores"] >= 1
    assert described["versions"]["numpy"] == np.__version__


def test_summary_is_json(tmp_path: Path) -> None:
    path = tmp_path / "stats.json"
    check_writable(path)
    write_summary(path, {**Stats().as_dict(), "machine": machine()})
    assert json.loads(path.read_text(encoding="utf-8"))["frames"] == 0


def test_a_file_that_cannot_be_written_is_named_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none"):
        check_writable(tmp_path / "none" / "stats.json")
    with pytest.raises(ConfigError, match="folder"):
        check_writable(tmp_path)
    with pytest.raises(ConfigError, match="none"):
        write_summary(tmp_path / "none" / "stats.json", {})


def test_frames_outside_human_limits_are_counted_by_joint() -> None:
    stats = Stats()
    stats.count_frame(POSE, 0.0, starved=False)
    broken = POSE.copy()
    broken[bone_index("spine", "neck")] = (0.0, 1.0, 0.0)  # head down
    stats.count_frame(broken, 0.02, starved=False)
    motion = stats.as_dict()["motion"]
    assert motion["frames_outside_human_limits"] == 1
    assert motion["joints_outside"]["spine"] == 1
