"""A pose frame as VMC protocol datagrams (version 2.1 messages, which every receiver knows).

One frame is, in this order,

    /VMC/Ext/Root/Pos     s 7f   the root, at rest
    /VMC/Ext/Bone/Pos     s 7f   each bone that is moved: name, local position, rotation xyzw
    /VMC/Ext/Blend/Val    s f    each face blend
    /VMC/Ext/Blend/Apply         some receivers move only on this one,
    /VMC/Ext/OK           i      others on this,
    /VMC/Ext/T            f      or on this: so all three come, once and last

in OSC bundles that are due at once, none longer than ``DATAGRAM_BYTES``. Every message has all its
arguments, every number of a pose is a 32-bit float, and positions are never zero: each of these
rules keeps some receiver alive.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.humanoid import BONE_COUNT, BONE_NAMES, REST_OFFSETS_M
from ha2g_live.realtime.types import F32, PoseFrame

DATAGRAM_BYTES = 1400
"""The protocol keeps a packet within 1500 bytes; this leaves room for headers and tunnels."""

_BUNDLE = b"#bundle\0" + struct.pack(">Q", 1)  # time tag 1 is "immediately"
_FREE = struct.pack(">f", 0.0)  # a float that each frame fills in
_ALL = np.ones(BONE_COUNT, dtype=np.bool_)
_AT_REST = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def _string(text: str) -> bytes:
    data = text.encode()
    return data + bytes(4 - len(data) % 4)


def _message(address: str, types: str, arguments: bytes = b"") -> bytes:
    return _string(address) + _string(f",{types}") + arguments


class UnsendableFrame(ValueError):
    """A frame that would harm a receiver: it holds a number that is not finite."""


class VmcEncoder:
    """Turns frames into datagrams by filling numbers into a message laid out beforehand.

    Bones that a frame does not move are left out, and with the hips the root: whoever moves them in
    the receiver goes on to.

    Threads: one at a time.

    Args:
        offsets_m: (55, 3) rest position of each bone in its parent's frame; the default
            skeleton's when left out.
    """

    def __init__(self, offsets_m: F32 | None = None) -> None:
        self._offsets_m = REST_OFFSETS_M if offsets_m is None else offsets_m
        self._lay_out((), _ALL)

    def encode(self, frame: PoseFrame, time_s: float) -> list[memoryview]:
        """The datagrams of one frame.

        Args:
            frame: the pose.
            time_s: seconds since the stream began. Not the time of day, whose 32-bit float would
                stand still for minutes.

        Returns:
            Views of memory that the next call overwrites.

        Raises:
            UnsendableFrame: a number of the frame is not finite as a 32-bit float.
            ValueError: a blend's name does not fit in a datagram.
        """
        names = tuple(frame.blends)
        bones = _ALL if frame.bones is None else frame.bones
        if names != self._blend_names or (
            bones is not self._bones and (bones != self._bones).any()
        ):
            self._lay_out(names, bones)
        values = self._values
        start = 3 if bones[0] else 0
        end = start + 4 * self._bone_count
        with np.errstate(over="ignore"):
            values[:start] = frame.hips_m[:start]
            values[start:end] = frame.rotations[bones].ravel()
            values[end:-1] = tuple(frame.blends.values())
            values[-1] = time_s
        if not np.isfinite(values).all():
            raise UnsendableFrame(f"frame {frame.seq} holds a value that is not a finite number")
        self._words[self._slots] = values
        return self._datagrams

    def _lay_out(self, blend_names: tuple[str, ...], bones: npt.NDArray[np.bool_]) -> None:
        """Build the messages and note where the free floats lie in them."""
        parts: list[tuple[bytes, int]] = []
        if bones[0]:
            root = struct.pack(">7f", *_AT_REST)
            parts.append((_message("/VMC/Ext/Root/Pos", "sfffffff", _string("root") + root), 0))
        for bone, position_m in enumerate(self._offsets_m.tolist()):
            if not bones[bone]:
                continue
            name = BONE_NAMES[bone]
            moves = bone == 0
            place = 3 * _FREE if moves else struct.pack(">3f", *position_m)
            message = _message("/VMC/Ext/Bone/Pos", "sfffffff", _string(name) + place + 4 * _FREE)
            parts.append((message, 7 if moves else 4))
        for name in blend_names:
            parts.append((_message("/VMC/Ext/Blend/Val", "sf", _string(name) + _FREE), 1))
        parts.append((_message("/VMC/Ext/Blend/Apply", ""), 0))
        parts.append((_message("/VMC/Ext/OK", "i", struct.pack(">i", 1)), 0))
        parts.append((_message("/VMC/Ext/T", "f", _FREE), 1))

        data = bytearray()
        ends = [0]
        slots: list[int] = []
        for bundle in _bundles(parts):
            data += _BUNDLE
            for message, free in bundle:
                data += struct.pack(">i", len(message)) + message
                # The free floats are the last arguments. OSC keeps everything at multiples of 4.
                slots += range(len(data) // 4 - free, len(data) // 4)
            ends.append(len(data))
        self._blend_names = blend_names
        self._bones = bones
        self._bone_count = int(bones.sum())
        self._values = np.zeros(len(slots), dtype=np.float32)
        self._slots = np.array(slots)
        self._words = np.frombuffer(data, dtype=">f4")
        view = memoryview(data)
        self._datagrams = [view[a:b] for a, b in pairwise(ends)]


def _bundles(parts: Iterable[tuple[bytes, int]]) -> list[list[tuple[bytes, int]]]:
    """Spread messages over bundles that stay within ``DATAGRAM_BYTES``."""
    bundles: list[list[tuple[bytes, int]]] = []
    room = 0
    for message, free in parts:
        size = 4 + len(message)
        if size > room:
            bundles.append([])
            room = DATAGRAM_BYTES - len(_BUNDLE)
        if size > room:
            raise ValueError(f"a message of {size} bytes is too long for a datagram")
        bundles[-1].append((message, free))
        room -= size
    return bundles
