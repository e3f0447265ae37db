"""A PortAudio input without hardware: a private PulseAudio daemon that ALSA's default leads to.

What is played to it arrives at the microphone. PortAudio reads the environment when it is loaded,
so a program under test runs in a process of its own with ``VirtualMicrophone.environment``.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

RATE_HZ = 48_000
_ALSA_CONF = Path("/usr/share/alsa/alsa.conf")
_START_TIMEOUT_S = 30.0

_SCRIPT = """\
load-module module-null-sink sink_name=speaker rate={rate} channels=2 format=float32le
load-module module-remap-source master=speaker.monitor source_name=microphone
set-default-sink speaker
set-default-source microphone
load-module module-native-protocol-unix socket={socket} auth-anonymous=1
"""


def missing() -> str:
    """Why there can be no virtual microphone here; empty when there can."""
    for program in ("pulseaudio", "paplay", "parec"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if ctypes.util.find_library("portaudio") is None:
        return "the PortAudio library is not installed"
    if not _ALSA_CONF.exists():
        return f"{_ALSA_CONF} does not exist"
    plugins = Path("/usr").glob("lib*/**/alsa-lib/libasound_module_pcm_pulse.so")
    if not any(plugins):
        return "ALSA's pulse plugin (libasound2-plugins) is not installed"
    return ""


class VirtualMicrophone:
    """A microphone that can be spoken to, unplugged, plugged in again, and made to hang."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        # A socket's path must stay below 108 characters, which a test's folder may exceed.
        self._runtime = Path(tempfile.mkdtemp(prefix="ha2g-pulse-"))
        self._socket = self._runtime / "native"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._daemon: subprocess.Popen[bytes] | None = None
        (folder / "default.pa").write_text(_SCRIPT.format(rate=RATE_HZ, socket=self._socket))
        alsa = folder / "asound.conf"
        alsa.write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
        self.environment: dict[str, str] = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(self._runtime),
            "HOME": str(folder),
            "PULSE_SERVER": f"unix:{self._socket}",
            "ALSA_CONFIG_PATH": f"{_ALSA_CONF}:{alsa}",
        }

    def start(self) -> None:
        """Plug the microphone in; returns once it delivers sound."""
        log = (self._folder / "pulseaudio.log").open("ab")
        with log:
            self._daemon = subprocess.Popen(
                ["pulseaudio", "-n", "-F", str(self._folder / "default.pa"), "--daemonize=no",
                 "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes",
                 "--log-target=stderr"],
                env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not self._socket.exists():
            if self._daemon.poll() is not None or time.monotonic() > deadline_s:
                text = (self._folder / "pulseaudio.log").read_text(errors="replace")
                raise RuntimeError(f"pulseaudio did not start: {text[-2000:]}")
            time.sleep(0.02)
        # Without a listener that asks for low latency the sink works in blocks of 2 s, and what
        # comes later waits for the current one to end. This one stays; the second shows the end.
        self._client(["parec", "--latency-msec=5"], stdout=subprocess.DEVNULL)
        probe = self._client(["parec", "--latency-msec=5"], stdout=subprocess.PIPE)
        assert probe.stdout is not None
        if not probe.stdout.read(RATE_HZ // 10):
            raise RuntimeError("the virtual microphone delivers nothing")
        probe.stdout.close()
        probe.kill()
        probe.wait()

    def stop(self) -> None:
        """Unplug the microphone, as hardware goes: without a word to whoever records."""
        for process in [*self._processes, self._daemon]:
            if process is not None:
                process.kill()
                process.wait()
        self._processes.clear()
        self._daemon = None
        self._socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let the microphone hang: it stays open but delivers nothing, and calls do not return."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """End ``freeze``."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGCONT)

    def play(self, path: Path) -> subprocess.Popen[bytes]:
        """Begin to play an audio file to the microphone; ``wait()`` on the result for its end."""
        wav = self._folder / "played.wav"
        samples, rate_hz = soundfile.read(path, dtype="float32")
        soundfile.write(wav, samples, rate_hz, subtype="FLOAT")
        return self._client(["paplay", "--latency-msec=20", str(wav)])

    def close(self) -> None:
        """Stop everything and remove what was made outside the test's folder."""
        self.stop()
        shutil.rmtree(self._runtime, ignore_errors=True)

    def _client(self, command: list[str], **streams: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command, env=self.environment, stderr=subprocess.DEVNULL, **streams
        )
        self._processes.append(process)
        return process


@contextlib.contextmanager
def open_virtual_microphone(folder: Path) -> Iterator[VirtualMicrophone]:
    """A started virtual microphone; the test is skipped, with the reason, where there is none."""
    reason = missing()
    if reason:
        pytest.skip(f"no virtual microphone: {reason}")
    microphone = VirtualMicrophone(folder)
    try:
        microphone.start()
        yield microphone
    finally:
        microphone.close()


@pytest.fixture
def virtual_microphone(tmp_path: Path) -> Iterator[VirtualMicrophone]:
    """The fixture: import it into the test's module."""
    with open_virtual_microphone(tmp_path / "microphone") as microphone:
        yield microphone
