"""The microphone: capture, loss and return of the device, delivery as 16 kHz mono blocks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np

from ha2g_live.realtime.capture import Capture
from ha2g_live.realtime.devices import DeviceInfo, find_device, list_devices, restart_portaudio
from ha2g_live.realtime.errors import AudioError
from ha2g_live.realtime.resample import StreamResampler, bad_samples
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import AudioBlock

_log = logging.getLogger(__name__)

SILENCE_SAMPLES = 320
"""Block of the silence in place of a lost microphone: 20 ms."""
SILENCE_S = SILENCE_SAMPLES / SAMPLE_RATE_HZ
LATE_S = 1.0
"""Silence later than this (the computer slept) goes on from now, not in a burst."""

FIRST_BLOCK_S = 5.0
"""A device that delivered nothing for so long after it opened is lost. Bluetooth takes 2 to 3 s."""
LOST_AFTER_S = 2.0
"""A device that stopped delivering for so long is lost."""
RETRY_S = 1.0
FALLBACK_AFTER_S = 5.0
"""A lost microphone that was asked for by name is waited for so long before the default is used."""
OPEN_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 5.0
MUTED_AFTER_S = 3.0
"""A microphone whose samples were all exactly zero for so long is muted or not allowed."""

_LOST = "microphone lost, waiting"
_MUTED = "microphone gives only silence: it is muted, or this program may not use it"


class MicrophoneSource:
    """Delivers what a microphone hears, and silence in real time while it is lost.

    A device that vanishes or stops delivering is opened again as soon as it answers. If one that
    was asked for by name stays away, the default input is used from then on. A source is started
    once.

    Threads: see ``types.Source``. ``ha2g-mic`` takes blocks from the hand-over, cleans, resamples
    and delivers them. ``ha2g-mic-device`` makes every PortAudio call, since opening and closing
    may take seconds when hardware goes away, and some systems want all of them from one thread.

    Args:
        device: ``default``, an index, or a name or part of one (see ``devices.find_device``).
    """

    def __init__(self, device: str = "default") -> None:
        self._asked = device
        self._name = f"microphone {device}"
        self._state = ""
        self._bad_samples = 0
        self._past_xruns = 0
        self._past_dropped = 0
        self._failure: Exception | None = None
        self._stopped = threading.Event()
        self._opened = threading.Event()
        self._device_needed = threading.Event()
        self._capture: Capture | None = None
        self._holder: threading.Thread | None = None
        self._listener: threading.Thread | None = None
        self._on_block: Callable[[AudioBlock], None] = lambda block: None
        self._on_end: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        """Short name for the status line; the device's own name once it is open."""
        return self._name

    @property
    def state(self) -> str:
        """What is wrong with the microphone, for the status line; empty when all is well."""
        return self._state

    @property
    def xruns(self) -> int:
        """Times the device said that it lost samples."""
        capture = self._capture
        return self._past_xruns + (capture.xruns if capture else 0)

    @property
    def dropped_blocks(self) -> int:
        """Blocks dropped because this process did not take them in time."""
        capture = self._capture
        return self._past_dropped + (capture.dropped if capture else 0)

    @property
    def bad_samples(self) -> int:
        """Samples that were no sound (see ``resample.LOUDEST``) and were replaced by silence."""
        return self._bad_samples

    def start(self, on_block: Callable[[AudioBlock], None], on_end: Callable[[], None]) -> None:
        """Open the device and begin to deliver; ``on_end`` is called after a failure only.

        Raises:
            DeviceNotFound: there is no such input.
            AudioError: PortAudio is missing, or the device cannot be opened.
        """
        self._on_block, self._on_end = on_block, on_end
        # Daemons: a driver that never returns must not keep the program from ending.
        self._holder = threading.Thread(
            target=self._hold_device, name="ha2g-mic-device", daemon=True
        )
        self._holder.start()
        if not self._opened.wait(OPEN_TIMEOUT_S):
            self._stopped.set()
            self._device_needed.set()
            raise AudioError(
                f"the microphone {self._asked!r} did not answer within {OPEN_TIMEOUT_S:g} s: "
                "unplug it and plug it in again, or choose another from  ha2g-live devices"
            )
        if self._failure is not None:
            raise self._failure
        self._listener = threading.Thread(target=self._run, name="ha2g-mic", daemon=True)
        self._listener.start()

    def stop(self) -> None:
        """Stop delivering and close the device."""
        self._stopped.set()
        self._device_needed.set()
        capture = self._capture
        if capture is not None:
            capture.wake()
        if self._listener is not None:
            self._listener.join()
        if self._holder is not None:
            self._holder.join(CLOSE_TIMEOUT_S)
            if self._holder.is_alive():
                _log.warning("%s does not close: its driver hangs", self._name)

    def failure(self) -> Exception | None:
        """The error that ended the source, if one did. A lost device is none."""
        return self._failure

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                capture = self._capture
                if capture is None:
                    self._deliver_silence()
                else:
                    self._deliver_from(capture)
        except Exception as error:
            self._failure = error
            self._on_end()

    def _deliver_from(self, capture: Capture) -> None:
        """Deliver until the source is stopped or the device is lost."""
        resampler = StreamResampler(capture.rate_hz)
        last_s = time.perf_counter()
        allowed_s = FIRST_BLOCK_S
        silent_s = 0.0
        while not self._stopped.is_set():
            taken = capture.take(0.25)
            if taken is None:
                if capture.finished or time.perf_counter() - last_s > allowed_s:
                    self._lose(capture)
                    return
                continue
            frames, captured_at_s = taken
            last_s = time.perf_counter()
            allowed_s = LOST_AFTER_S
            silent_s = 0.0 if frames.any() else silent_s + len(frames) / capture.rate_hz
            self._state = _MUTED if silent_s > MUTED_AFTER_S else ""
            bad = bad_samples(frames)
            if bad.any():
                self._bad_samples += int(np.count_nonzero(bad))
                frames[bad] = 0.0
            samples = resampler.push(frames)
            if len(samples):
                self._on_block(AudioBlock(samples, captured_at_s - resampler.delay_s))

    def _lose(self, capture: Capture) -> None:
        self._state = _LOST
        _log.warning("%s is lost: the avatar rests until it is back", self._name)
        self._capture = None
        self._past_xruns += capture.xruns
        self._past_dropped += capture.dropped
        self._device_needed.set()

    def _deliver_silence(self) -> None:
        """Deliver zeros on a schedule until there is a device again."""
        due_s = time.perf_counter()
        while self._capture is None:
            if self._failure is not None:
                raise self._failure
            due_s += SILENCE_S
            if self._stopped.wait(max(0.0, due_s - time.perf_counter())):
                return
            if time.perf_counter() - due_s > LATE_S:
                due_s = time.perf_counter()
            self._on_block(AudioBlock(np.zeros(SILENCE_SAMPLES, dtype=np.float32), due_s))

    def _hold_device(self) -> None:
        try:
            first = Capture(find_device(self._asked, list_devices()))
        except Exception as error:
            self._failure = error
            self._opened.set()
            return
        capture: Capture | None = first
        try:
            while capture is not None:
                self._name = f"microphone {capture.device.name}"
                self._capture = capture
                self._opened.set()
                self._device_needed.wait()
                self._device_needed.clear()
                capture.close()
                capture = self._reopen(first.device)
        except Exception as error:
            self._failure = error

    def _reopen(self, wanted: DeviceInfo) -> Capture | None:
        """Try until a device delivers; None when the source was stopped meanwhile."""
        by_name = self._asked.strip().casefold() not in ("", "default")
        lost_s = time.perf_counter()
        while not self._stopped.wait(RETRY_S):
            try:
                restart_portaudio()
                devices = list_devices()
            except AudioError:
                continue
            same = [d for d in devices if (d.name, d.host_api) == (wanted.name, wanted.host_api)]
            candidates = same if by_name else []
            # A cable that was knocked out is often back at once: then its microphone is wanted.
            if not by_name or time.perf_counter() - lost_s > FALLBACK_AFTER_S:
                candidates = candidates + [d for d in devices if d.is_default]
            for device in candidates:
                capture = self._try(device)
                if capture is not None:
                    if by_name and device not in same:
                        _log.warning("%s is not back: using %s", self._name, device.name)
                    else:
                        _log.warning("microphone is back: %s", device.name)
                    return capture
        return None

    def _try(self, device: DeviceInfo) -> Capture | None:
        try:
            capture = Capture(device)
        except AudioError:
            return None
        give_up_s = time.perf_counter() + FIRST_BLOCK_S
        while not capture.blocks_seen and not capture.finished and time.perf_counter() < give_up_s:
            if self._stopped.wait(SILENCE_S):
                break
        if capture.blocks_seen:
            return capture
        capture.close()
        return None
