"""One open microphone stream: PortAudio's callback copies a block into a bounded hand-over."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import numpy as np

from ha2g_live.realtime.devices import DeviceInfo, load_portaudio
from ha2g_live.realtime.errors import AudioError
from ha2g_live.realtime.types import F32

LATENCY_S = 0.02
"""Asked of the device: short beside a pose frame (67 ms), long enough not to lose blocks."""
HANDOVER_BLOCKS = 256
"""Blocks that may wait for the microphone thread, 1 s or more; then the oldest is dropped."""
USED_CHANNELS = 2
"""Of a device with more, the first two are mixed: a voice plugged into an interface is there."""

_OTHER_RATES_HZ = (48_000.0, 44_100.0, 16_000.0)
_LONGEST_DELAY_S = 5.0


class Capture:
    """A running input stream and the blocks that wait to be taken.

    Threads: made and closed by one thread, ``take`` called by another, the callback is PortAudio's.

    Args:
        device: the input to open.

    Raises:
        AudioError: the device cannot be opened.
    """

    def __init__(self, device: DeviceInfo) -> None:
        self.device = device
        self.xruns = 0
        self.dropped = 0
        self.blocks_seen = 0
        self.finished = False
        self._waiting: deque[tuple[F32, float]] = deque(maxlen=HANDOVER_BLOCKS)
        self._ready = threading.Event()
        self._stream = self._open()
        self.rate_hz = float(self._stream.samplerate)
        try:
            self._stream.start()
        except Exception as error:
            self._stream.close()
            raise _cannot_open(device, error) from error

    def take(self, timeout_s: float) -> tuple[F32, float] | None:
        """The oldest waiting block, or None when none came in time.

        Returns:
            Frames (n, channels) float32, and the clock of ``AudioBlock`` at the last of them.
        """
        if not self._waiting:
            self._ready.wait(timeout_s)
        # Cleared before looking: a block that comes in between sets it again.
        self._ready.clear()
        return self._waiting.popleft() if self._waiting else None

    def wake(self) -> None:
        """Let a waiting ``take`` return."""
        self._ready.set()

    def close(self) -> None:
        """Close the device. A driver whose hardware is gone may take its time."""
        self._stream.close()

    def _open(self) -> Any:
        sounddevice = load_portaudio()
        device = self.device
        refused = {
            sounddevice._lib.paInvalidSampleRate,
            sounddevice._lib.paInvalidChannelCount,
        }
        few = min(device.channels, USED_CHANNELS)
        rates_hz = dict.fromkeys((device.rate_hz, *_OTHER_RATES_HZ))
        # Some drivers accept nothing but their own channel count, and some name a rate as their
        # default which they do not have.
        attempts = [(r, c) for r in rates_hz for c in dict.fromkeys((few, device.channels))]
        first_error: Exception | None = None
        for rate_hz, channels in attempts:
            try:
                low_s = sounddevice.query_devices(device.index)["default_low_input_latency"]
                return sounddevice.InputStream(
                    device=device.index,
                    samplerate=rate_hz,
                    channels=channels,
                    dtype="float32",
                    latency=max(LATENCY_S, low_s),
                    callback=self._on_audio,
                    finished_callback=self._on_finished,
                )
            except (sounddevice.PortAudioError, ValueError) as error:
                first_error = first_error or error
                if len(error.args) < 2 or error.args[1] not in refused:
                    break
        raise _cannot_open(device, first_error) from first_error

    def _on_audio(self, frames: F32, count: int, times: Any, status: Any) -> None:
        now_s = time.perf_counter()  # the clock of pacing.SystemClock
        # PortAudio's clock need not be ours: only the difference between two of its times is used.
        first_to_now_s = times.currentTime - times.inputBufferAdcTime
        delay_s = first_to_now_s - count / self.rate_hz
        # Drivers that do not know the capture time give 0, or nonsense.
        known = times.inputBufferAdcTime > 0 and 0 < delay_s < _LONGEST_DELAY_S
        if status and status.input_overflow:
            self.xruns += 1
        if len(self._waiting) == HANDOVER_BLOCKS:
            self.dropped += 1
        block: F32 = np.array(frames[:, :USED_CHANNELS])
        self._waiting.append((block, now_s - delay_s if known else now_s))
        self.blocks_seen += 1
        self._ready.set()

    def _on_finished(self) -> None:
        self.finished = True
        self._ready.set()


def _cannot_open(device: DeviceInfo, error: Exception | None) -> AudioError:
    return AudioError(
        f"the microphone {device.name!r} cannot be opened ({error}): "
        "close the program that holds it, or choose another from  ha2g-live devices"
    )
