"""The frame protocol without a socket: hello, frames as JSON text or bytes, a viewer's requests.

``docs/websocket.md`` describes it message by message. The WebSocket server and the recorder speak
it; programs that receive can use :func:`decode`.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from ha2g_live.clients.control import REQUESTS
from ha2g_live.realtime import humanoid
from ha2g_live.realtime.skeleton import BONES, JOINT_NAMES
from ha2g_live.realtime.timebase import POSE_FPS, SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32, PoseFrame, StreamInfo

PROTOCOL = "ha2g-live"
VERSION = 1
"""Raised when something is removed or changes its meaning, never for an addition."""

MAGIC = b"HA2G"
FRAME_KIND = 1
JSON_DECIMALS = 7
"""Half a unit of the seventh decimal is less than float32 can hold near one."""

_HEADER = struct.Struct("<4sBBHIBBHd3f")
"""Magic, version, kind, reserved, seq, rotations, directions, blends, stream time, hips."""
_VALUE = struct.Struct("<f")
_LITTLE = np.dtype("<f4")

_to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Wish:
    """What a viewer has asked for.

    Attributes:
        binary: frames as bytes instead of JSON text.
        directions: frames carry the 42 bone directions too.
    """

    binary: bool = False
    directions: bool = False


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A frame as it came over the wire.

    Attributes:
        seq: output frame number; a gap means skipped frames.
        stream_time_s: time in the audio stream that the pose belongs to.
        hips_m: (3,) float32 local position of the hips, Unity axes.
        rotations: (55, 4) float32 local quaternions xyzw, Unity axes.
        directions: (42, 3) float32 unit vectors, HA2G axes, or None if they were not asked for.
        blends: face blend values by name.
    """

    seq: int
    stream_time_s: float
    hips_m: F32
    rotations: F32
    directions: F32 | None
    blends: dict[str, float]


def hello_text(info: StreamInfo) -> str:
    """The first message of a connection and the first line of a recording."""
    return _to_json(
        {
            "type": "hello",
            "protocol": PROTOCOL,
            "version": VERSION,
            "model": info.model,
            "fps": info.fps,
            "pose_fps": POSE_FPS,
            "sample_rate_hz": SAMPLE_RATE_HZ,
            "stream_time": (
                "stream_time_s counts seconds of sound from the first sample of the stream; "
                "the pose belongs to that moment of the sound"
            ),
            "formats": ["json", "binary"],
            "skeleton": {
                "bone_names": list(humanoid.BONE_NAMES),
                "parents": list(humanoid.PARENTS),
                "rest_offsets_m": _rounded(
                    humanoid.REST_OFFSETS_M if info.offsets_m is None else info.offsets_m
                ),
                "avatar": info.avatar,
            },
            "directions": {
                "joint_names": list(JOINT_NAMES),
                "bones": [list(bone) for bone in BONES],
                "axes": {"x": "the person's left", "y": "down", "z": "backward"},
                "handedness": "right",
            },
            "conventions": {
                "axes": {"x": "right", "y": "up", "z": "forward"},
                "handedness": "left",
                "quaternion_order": "xyzw",
                "rotations": "local to the parent bone; identity is the T-pose",
                "positions": "metres",
                "faces": "+z",
            },
        }
    )


def frame_text(frame: PoseFrame, directions: bool = False) -> str:
    """One frame as JSON, numbers rounded to :data:`JSON_DECIMALS` (about 2.5 kB).

    Raises:
        ValueError: the frame holds a value that is not finite, which JSON cannot carry.
    """
    message: dict[str, Any] = {
        "type": "frame",
        "seq": frame.seq,
        "stream_time_s": frame.stream_time_s,
        "hips_m": _rounded(frame.hips_m),
        "rotations": _rounded(frame.rotations),
        "blends": {
            name: round(float(value), JSON_DECIMALS) for name, value in frame.blends.items()
        },
    }
    if directions:
        message["directions"] = _rounded(frame.directions)
    return _to_json(message)


def frame_bytes(frame: PoseFrame, directions: bool = False) -> bytes:
    """One frame in the binary form: little endian, 916 bytes without directions and blends.

    Raises:
        ValueError: the frame holds a value that is not finite, as for JSON, or a blend name of
            more than 255 bytes.
    """
    parts = [np.asarray(frame.rotations, dtype=_LITTLE)]
    if directions:
        parts.append(np.asarray(frame.directions, dtype=_LITTLE))
    header = _HEADER.pack(
        MAGIC,
        VERSION,
        FRAME_KIND,
        0,
        frame.seq & 0xFFFFFFFF,
        len(frame.rotations),
        len(frame.directions) if directions else 0,
        len(frame.blends),
        frame.stream_time_s,
        *frame.hips_m.tolist(),
    )
    single = [frame.stream_time_s, *frame.blends.values()]
    if not all(np.isfinite(part).all() for part in (*parts, frame.hips_m, np.array(single))):
        raise ValueError(f"frame {frame.seq} holds a value that is not finite")
    tail = [_named_value(name, value) for name, value in frame.blends.items()]
    return b"".join([header, *(part.tobytes() for part in parts), *tail])


def frame_message(frame: PoseFrame, wish: Wish) -> str | bytes:
    """One frame as a viewer asked for it.

    Raises:
        ValueError: the frame cannot be put on the wire.
    """
    encode = frame_bytes if wish.binary else frame_text
    return encode(frame, wish.directions)


def decode(message: str | bytes) -> ReceivedFrame:
    """Read a frame of either form.

    Raises:
        ValueError: the message is not a frame of this protocol version.
    """
    return decode_binary(message) if isinstance(message, bytes) else decode_text(message)


def decode_text(text: str) -> ReceivedFrame:
    """Read a JSON frame.

    Raises:
        ValueError: the text is not a frame.
    """
    fields = json.loads(text)
    if not isinstance(fields, dict) or fields.get("type") != "frame":
        raise ValueError("not a frame message")
    directions = fields.get("directions")
    try:
        return ReceivedFrame(
            seq=int(fields["seq"]),
            stream_time_s=float(fields["stream_time_s"]),
            hips_m=np.array(fields["hips_m"], dtype=np.float32),
            rotations=np.array(fields["rotations"], dtype=np.float32),
            directions=None if directions is None else np.array(directions, dtype=np.float32),
            blends={str(name): float(value) for name, value in fields["blends"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a damaged frame message: {error!r}") from error


def decode_binary(data: bytes) -> ReceivedFrame:
    """Read a binary frame; bytes after the known fields are a later addition and are ignored.

    Raises:
        ValueError: the bytes are not a frame of this version, or are cut short.
    """
    if len(data) < _HEADER.size:
        raise ValueError(f"not a frame: {len(data)} bytes")
    magic, version, kind, _, seq, rotations, directions, blends, time_s, *hips = (
        _HEADER.unpack_from(data)
    )
    if (magic, version, kind) != (MAGIC, VERSION, FRAME_KIND):
        raise ValueError(f"not a frame of {PROTOCOL} version {VERSION}: {data[:6]!r}")
    try:
        at = _HEADER.size
        rotation_values = np.frombuffer(data, _LITTLE, 4 * rotations, at)
        at += rotation_values.nbytes
        direction_values = np.frombuffer(data, _LITTLE, 3 * directions, at)
        at += direction_values.nbytes
        values: dict[str, float] = {}
        for _ in range(blends):
            end = at + 1 + data[at]
            (values[data[at + 1 : end].decode()],) = _VALUE.unpack_from(data, end)
            at = end + _VALUE.size
    except (struct.error, IndexError, ValueError) as error:
        raise ValueError(f"frame {seq} is cut short at {len(data)} bytes: {error}") from error
    return ReceivedFrame(
        seq=seq,
        stream_time_s=time_s,
        hips_m=np.array(hips, dtype=np.float32),
        rotations=rotation_values.astype(np.float32).reshape(-1, 4),
        directions=direction_values.astype(np.float32).reshape(-1, 3) if directions else None,
        blends=values,
    )


def read_request(message: str | bytes) -> dict[str, Any]:
    """A viewer's message as an object whose ``type`` is one that the protocol knows.

    Raises:
        ValueError: the message is none of the protocol's, with the reason for the viewer.
    """
    if isinstance(message, bytes):
        raise ValueError("requests are JSON text, not binary messages")
    try:
        request = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise ValueError("the request is not JSON") from error
    if not isinstance(request, dict) or request.get("type") not in ("subscribe", *REQUESTS):
        known = ", ".join(f"'{kind}'" for kind in ("subscribe", *REQUESTS))
        raise ValueError(f"a request is an object with one of the types {known}")
    return request


def read_wish(request: dict[str, Any], wish: Wish) -> Wish:
    """What a viewer wants after its "subscribe"; fields it leaves out stay as they were.

    Raises:
        ValueError: it cannot have that, with the reason for the viewer.
    """
    form = request.get("format", "binary" if wish.binary else "json")
    directions = request.get("directions", wish.directions)
    if form not in ("json", "binary"):
        raise ValueError("format is 'json' or 'binary'")
    if not isinstance(directions, bool):
        raise ValueError("directions is true or false")
    return Wish(binary=form == "binary", directions=directions)


def subscribed_text(wish: Wish) -> str:
    """The answer to a request: what the viewer will get from now on."""
    form = "binary" if wish.binary else "json"
    return _to_json({"type": "subscribed", "format": form, "directions": wish.directions})


def error_text(message: str) -> str:
    """The answer to a message that is not understood."""
    return _to_json({"type": "error", "message": message})


def _rounded(values: Any) -> Any:
    """Nested lists of an array's numbers; float64 first, or the digits of float32 would show."""
    return np.round(np.asarray(values, dtype=np.float64), JSON_DECIMALS).tolist()


def _named_value(name: str, value: float) -> bytes:
    encoded = name.encode()
    if len(encoded) > 255:
        raise ValueError(f"the blend name {name!r} is longer than 255 bytes")
    return bytes([len(encoded)]) + encoded + _VALUE.pack(value)
