from __future__ import annotations

import threading

import numpy as np
import pytest

from ha2g_live.realtime.ring import AudioRing, Overrun
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32


def ramp(start: int, stop: int) -> F32:
    return np.arange(start, stop, dtype=np.float32)


@pytest.mark.parametrize("block", [1, 3, 7, 10])
def test_samples_keep_their_index_whatever_the_blocks(block: int) -> None:
    ring = AudioRing(10)
    for start in range(0, 100, block):
        stop = min(100, start + block)
        ring.write(ramp(start, stop), 0.0)
        oldest = max(0, stop - 10)
        assert ring.written == stop
        assert ring.oldest == oldest
        np.testing.assert_array_equal(ring.read(oldest, stop), ramp(oldest, stop))
        np.testing.assert_array_equal(ring.read(stop - 1, stop), ramp(stop - 1, stop))
    assert len(ring.read(95, 95)) == 0


def test_a_block_longer_than_the_ring_keeps_its_newest_samples() -> None:
    ring = AudioRing(10)
    ring.write(ramp(0, 4), 0.0)
    ring.write(ramp(4, 37), 0.0)
    assert ring.written == 37
    np.testing.assert_array_equal(ring.read(27, 37), ramp(27, 37))


def test_overwritten_samples_are_an_overrun_and_future_ones_an_index_error() -> None:
    ring = AudioRing(10)
    ring.write(ramp(0, 12), 0.0)
    with pytest.raises(Overrun):
        ring.read(1, 5)
    with pytest.raises(Overrun):
        ring.captured_at_s(1)
    for start, stop in ((5, 13), (-1, 3), (6, 5)):
        with pytest.raises(IndexError) as caught:
            ring.read(start, stop)
        assert not isinstance(caught.value, Overrun)
    with pytest.raises(IndexError):
        ring.captured_at_s(12)
    with pytest.raises(ValueError, match="at least 1"):
        AudioRing(0)


def test_only_unread_samples_count_as_overwritten() -> None:
    ring = AudioRing(10)
    ring.write(ramp(0, 10), 0.0)
    ring.read(0, 6)
    ring.write(ramp(10, 16), 0.0)
    assert ring.overwritten == 0
    ring.write(ramp(16, 18), 0.0)
    assert ring.overwritten == 2
    ring.write(ramp(18, 48), 0.0)
    assert ring.overwritten == 32


def test_what_is_read_and_written_is_copied() -> None:
    ring = AudioRing(10)
    block = ramp(0, 8)
    ring.write(block, 0.0)
    block[:] = -1.0
    ring.read(0, 8)[:] = -2.0
    np.testing.assert_array_equal(ring.read(0, 8), ramp(0, 8))


def test_capture_time_of_each_sample() -> None:
    ring = AudioRing(1000)
    for number in range(1, 11):
        ring.write(np.zeros(320, dtype=np.float32), 100.0 + number)
    ring.write(np.zeros(0, dtype=np.float32), 999.0)
    assert ring.captured_at_s(3199) == 110.0
    assert ring.captured_at_s(2879) == 109.0
    assert ring.captured_at_s(2880) == pytest.approx(110.0 - 319 / SAMPLE_RATE_HZ)
    assert ring.captured_at_s(ring.oldest) == pytest.approx(107.0 - 39 / SAMPLE_RATE_HZ)


def test_waiting_ends_with_the_samples_the_time_or_the_close() -> None:
    ring = AudioRing(100)
    assert not ring.wait_for(1, timeout_s=0.0)
    reached: list[bool] = []
    waiter = threading.Thread(target=lambda: reached.append(ring.wait_for(50, timeout_s=60.0)))
    waiter.start()
    for start in range(0, 50, 10):
        ring.write(ramp(start, start + 10), 0.0)
    waiter.join()
    assert reached == [True]
    waiter = threading.Thread(target=lambda: reached.append(ring.wait_for(51, timeout_s=60.0)))
    waiter.start()
    ring.close()
    waiter.join()
    assert reached == [True, False]
    assert ring.closed
    np.testing.assert_array_equal(ring.read(0, 50), ramp(0, 50))


def test_a_reader_beside_a_writer_never_sees_a_wrong_sample() -> None:
    ring = AudioRing(997)
    total = 400_000
    failures: list[str] = []
    windows = 0

    def read() -> None:
        nonlocal windows
        while not ring.closed:
            stop = ring.written
            start = max(0, stop - 800)
            try:
                window = ring.read(start, stop)
            except Overrun:
                continue
            windows += 1
            if not np.array_equal(window, ramp(start, stop)):
                failures.append(f"{start}..{stop}")

    reader = threading.Thread(target=read)
    reader.start()
    rng = np.random.default_rng(1)
    start = 0
    while start < total:
        stop = min(total, start + int(rng.integers(1, 300)))
        ring.write(ramp(start, stop), 0.0)
        start = stop
    ring.close()
    reader.join()
    assert failures == []
    assert windows > 0
