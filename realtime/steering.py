"""What a person or program may do to a live run besides turning knobs: device, recording, page.

Opens the channels of control that are asked for, and takes their orders.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ha2g_live.clients.address import parse_ws
from ha2g_live.clients.jsonl import JsonlClient
from ha2g_live.realtime.driver import Driver
from ha2g_live.realtime.errors import AudioError, ConfigError
from ha2g_live.realtime.sources import MicrophoneSource, list_devices
from ha2g_live.realtime.status import FrameRate

if TYPE_CHECKING:
    from ha2g_live.clients.panel import Report


class Steering:
    """The channels of control of one run: ``with Steering(...)``.

    Threads: made and left by the owner; orders come in the threads of the channels.

    Args:
        driver: the run, not started.
        osc_in: ``[HOST:]PORT`` to listen for OSC; None for no such channel.
        ui: ``[HOST:]PORT`` of the control page; None for none.
        avatar: file of the avatar that the page shows.
    """

    def __init__(
        self, driver: Driver, osc_in: str | None, ui: str | None, avatar: Path | None
    ) -> None:
        self._driver = driver
        self._osc_in = osc_in
        self._ui = ui
        self._avatar = avatar
        self._recorder: JsonlClient | None = None
        self._rate = FrameRate()
        self._devices: tuple[str, ...] = ()
        self._open = ExitStack()
        desk = driver.pipeline.desk
        desk.take_order("device", self.change_device)
        desk.take_order("record", self.record)

    def __enter__(self) -> Steering:
        desk = self._driver.pipeline.desk
        try:
            if self._osc_in is not None:
                from ha2g_live.clients.osc_control import OscControl

                control = OscControl(*parse_ws(self._osc_in), desk)
                self._open.callback(control.close)
                control.start()
            if self._ui is not None:
                from ha2g_live.clients.panel import PanelClient

                panel = PanelClient(*parse_ws(self._ui), desk, self._avatar, self.report)
                self._driver.pipeline.clients.append(panel)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def change_device(self, value: Any) -> str:
        """Listen to another microphone.

        Raises:
            AudioError: there is no such one, or it cannot be opened.
        """
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ConfigError(f"a device is a number or a part of a name, got {value!r:.60}")
        self._driver.switch(MicrophoneSource(str(value)))
        return f"listening to {self._driver.source.name}"

    def record(self, value: Any) -> str:
        """Begin to record to a file, True takes a name with the time; False ends.

        Raises:
            ConfigError: the value is neither, or nothing is being recorded.
            ClientError: the file cannot be written.
        """
        if value in (False, "off", 0):
            recorder, self._recorder = self._recorder, None
            if recorder is None:
                raise ConfigError("nothing is being recorded")
            self._driver.pipeline.remove(recorder)
            return f"recorded {recorder.stats.sent} frames: {recorder.name}"
        if self._recorder is not None:
            raise ConfigError(f"already recording: {self._recorder.name}")
        name = time.strftime("ha2g-live-%Y%m%d-%H%M%S.jsonl")
        if isinstance(value, str) and value != "on":
            name = value
        elif value not in (None, True, 1, "on"):
            raise ConfigError(f"record is on, off or a file name, got {value!r:.60}")
        recorder = JsonlClient(Path(name))
        self._driver.pipeline.add(recorder)
        self._recorder = recorder
        return f"recording to {Path(name).resolve()}"

    def report(self) -> Report:
        """The run as the control page shows it."""
        from ha2g_live.clients.panel import Report, Target

        pipeline, source = self._driver.pipeline, self._driver.source
        if not self._devices:
            self._devices = _device_names()
        stats = pipeline.stats
        return Report(
            level=pipeline.level,
            device=source.name,
            devices=self._devices,
            fps=self._rate.of(stats.frames),
            latency_ms=1e3 * stats.latency.percentile_s(50) if stats.latency.count else None,
            late=stats.late_frames,
            model=pipeline.info.model,
            message=str(getattr(source, "state", "")),
            recording="" if self._recorder is None else self._recorder.name,
            targets=tuple(
                Target(c.name, c.stats.detail or "sending", c.stats.sent, c.stats.dropped)
                for c in pipeline.clients
            ),
        )


def _device_names() -> tuple[str, ...]:
    try:
        return tuple(device.name for device in list_devices())
    except AudioError:
        return ()
