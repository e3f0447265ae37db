"""The sound inputs of this computer: listing them and finding the one that was asked for.

PortAudio is loaded by the first call that needs it, so that nothing else depends on it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ha2g_live.realtime.errors import AudioError, DeviceNotFound

_HOST_ORDER = ("Windows WASAPI", "Windows DirectSound", "MME", "Windows WDM-KS")
"""Windows shows a microphone once for each host API: these are tried best first."""

_MME_NAME = 31
_LIST_HINT = "see  ha2g-live devices"


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One sound input.

    Attributes:
        index: PortAudio's index; it can change when devices come and go.
        name: the device's name.
        rate_hz: its default sample rate.
        channels: input channels.
        host_api: the sound system it is reached through.
        is_default: whether ``default`` means this device.
    """

    index: int
    name: str
    rate_hz: float
    channels: int
    host_api: str
    is_default: bool


def load_portaudio() -> Any:
    """The sounddevice module.

    Raises:
        AudioError: the PortAudio library is not installed, or cannot start.
    """
    try:
        import sounddevice
    except OSError as error:
        raise AudioError(
            "the microphone needs the PortAudio library, which is missing: run  "
            "sudo apt install libportaudio2  (Debian, Ubuntu),  sudo dnf install portaudio  "
            "(Fedora) or  sudo pacman -S portaudio  (Arch)"
        ) from error
    except Exception as error:
        # sounddevice starts PortAudio while it is imported; its own error class is not there yet.
        raise AudioError(f"PortAudio does not start ({error}): check the sound system") from error
    return sounddevice


def restart_portaudio() -> None:
    """Make PortAudio look at the hardware again; no stream may be open.

    Raises:
        AudioError: PortAudio does not start again.
    """
    sounddevice = load_portaudio()
    # PortAudio lists the devices once, when it starts, and offers no other way to see new ones.
    try:
        while sounddevice._initialized:
            sounddevice._terminate()
        sounddevice._initialize()
    except sounddevice.PortAudioError as error:
        raise AudioError(f"PortAudio does not start again ({error})") from error


def list_devices() -> list[DeviceInfo]:
    """The sound inputs, in PortAudio's order; the default one is marked.

    Raises:
        AudioError: PortAudio is missing or does not answer.
    """
    sounddevice = load_portaudio()
    try:
        hosts = sounddevice.query_hostapis()
        found = [d for d in sounddevice.query_devices() if d["max_input_channels"] > 0]
    except sounddevice.PortAudioError as error:
        raise AudioError(f"the sound inputs cannot be listed ({error})") from error
    default = _default_index(sounddevice.default.device[0], hosts, [d["index"] for d in found])
    return [
        DeviceInfo(
            index=device["index"],
            name=device["name"],
            rate_hz=device["default_samplerate"],
            channels=device["max_input_channels"],
            host_api=hosts[device["hostapi"]]["name"],
            is_default=device["index"] == default,
        )
        for device in found
    ]


def format_devices(devices: Sequence[DeviceInfo]) -> str:
    """The table that ``ha2g-live devices`` prints; ``*`` marks the default."""
    if not devices:
        return "no microphone found: plug one in, or allow this program to use it"
    rows = [("", "index", "name", "host", "rate", "channels")]
    for d in devices:
        star = "*" if d.is_default else ""
        rate = f"{d.rate_hz:.0f} Hz"
        rows.append((star, str(d.index), d.name, d.host_api, rate, str(d.channels)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def find_device(asked: str, devices: Sequence[DeviceInfo]) -> DeviceInfo:
    """The input that ``asked`` means.

    Args:
        asked: ``default``, an index, or a name or part of one in any case. The host API may
            follow the name after a comma: ``usb, windows wasapi``.
        devices: what ``list_devices`` gave.

    Raises:
        DeviceNotFound: none fits, or several do.
    """
    if not devices:
        raise DeviceNotFound(
            "no microphone found: plug one in, or allow this program to use it, "
            "then check with  ha2g-live devices"
        )
    wanted = asked.strip().casefold()
    if wanted in ("", "default"):
        return next((d for d in devices if d.is_default), devices[0])
    if wanted.isdecimal():
        for device in devices:
            if device.index == int(wanted):
                return device
        raise DeviceNotFound(f"no microphone has the index {asked}: {_candidates(asked, devices)}")
    exact = [d for d in devices if d.name.casefold() == wanted]
    matches = exact or [d for d in devices if wanted in f"{d.name}, {d.host_api}".casefold()]
    if not matches:
        raise DeviceNotFound(f"no microphone is called {asked!r}: {_candidates(asked, devices)}")
    best = min(matches, key=_host_rank)
    rivals = [d for d in matches if d.host_api == best.host_api or not _same_name(d, best)]
    if len(rivals) > 1:
        names = ", ".join(f"{d.index} {d.name!r} ({d.host_api})" for d in matches)
        raise DeviceNotFound(f"{asked!r} fits several microphones: {names}: give the index")
    return best


def _default_index(default: int, hosts: Sequence[Any], inputs: Sequence[int]) -> int | None:
    # PortAudio's default host API on Windows is MME: slow, and its names are cut at 31 characters.
    for host in hosts:
        if host["name"] == _HOST_ORDER[0] and host["default_input_device"] in inputs:
            return int(host["default_input_device"])
    if default in inputs:
        return default
    return inputs[0] if inputs else None


def _host_rank(device: DeviceInfo) -> int:
    known = device.host_api in _HOST_ORDER
    return _HOST_ORDER.index(device.host_api) if known else len(_HOST_ORDER)


def _same_name(one: DeviceInfo, other: DeviceInfo) -> bool:
    # MME cuts names at 31 characters, the other host APIs do not.
    names = [
        d.name[:_MME_NAME] if "MME" in (one.host_api, other.host_api) else d.name
        for d in (one, other)
    ]
    return names[0].casefold() == names[1].casefold()


def _candidates(asked: str, devices: Sequence[DeviceInfo]) -> str:
    by_name = {d.name.casefold(): d for d in devices}
    close = difflib.get_close_matches(asked.casefold(), list(by_name), n=3, cutoff=0.4)
    nearest = [by_name[name] for name in close] or list(devices)[:3]
    names = ", ".join(f"{d.index} {d.name!r}" for d in nearest)
    return f"closest are {names}; {_LIST_HINT}"
