"""The values that travel between stages, and the small contracts of sources and clients.

This file imports nothing else of the project, so every stage can depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """A run of mono samples at 16 kHz, as a source delivers them.

    Attributes:
        samples: (n,) float32, nominally in -1..1. Owned by the receiver.
        captured_at_s: monotonic clock when the last sample was captured.
    """

    samples: F32
    captured_at_s: float


@dataclass(frozen=True, slots=True)
class PoseChunk:
    """What one model step predicts.

    Attributes:
        first_frame: 15 Hz pose frame of ``directions[0]``.
        directions: (frames, 42, 3) float32 unit vectors, HA2G axes (x to the person's left,
            y down, z backward), parent joint to child joint.
        heard_samples: the prediction depends on the first ``heard_samples`` samples only.
        captured_at_s: monotonic clock when the last of those samples was captured.
        infer_s: time the model took.
    """

    first_frame: int
    directions: F32
    heard_samples: int
    captured_at_s: float
    infer_s: float


@dataclass(frozen=True, slots=True)
class PoseFrame:
    """One output frame, ready for any wire.

    Attributes:
        seq: output frame number from 0, without gaps as made (a client may drop some).
        stream_time_s: time in the audio stream that this pose belongs to; below zero at the start
            of a stream whose model shows its motion behind the sound.
        directions: (42, 3) float32 unit vectors, HA2G axes.
        rotations: (55, 4) float32, local quaternions xyzw of ``humanoid.BONE_NAMES`` in Unity's
            left-handed axes (x right, y up, z forward), identity = T-pose.
        hips_m: (3,) float32, local position of the hips, Unity axes.
        blends: face blend values by name, 0..1.
        bones: (55,) bool, which bones are moved. The others are at rest, and are not sent to
            programs that take them from elsewhere too. None means all.
    """

    seq: int
    stream_time_s: float
    directions: F32
    rotations: F32
    hips_m: F32
    blends: dict[str, float] = field(default_factory=dict)
    bones: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a client is told before the first frame.

    Attributes:
        fps: output frames a second.
        model: name and version of the model that moves the avatar.
        offsets_m: (55, 3) rest position of each bone of the avatar in its parent's frame, Unity
            axes, the hips' above the ground; None for the default skeleton.
        avatar: the avatar's name.
    """

    fps: float
    model: str
    offsets_m: F32 | None = None
    avatar: str = "default"


@dataclass(slots=True)
class ClientStats:
    """Counters of one target; written by its own thread, read by the status line."""

    sent: int = 0
    dropped: int = 0
    errors: int = 0
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The counters as plain values for ``--stats``."""
        return {
            "sent": self.sent,
            "dropped": self.dropped,
            "errors": self.errors,
            "detail": self.detail,
        }


class Client(Protocol):
    """A target of pose frames.

    Threads: ``start``, ``send`` and ``close`` are called from one thread, the emitter. ``send``
    must return at once whatever the other end does: a transport that can block keeps a slot of
    its own, drops old frames and counts them in ``stats.dropped``.
    """

    @property
    def name(self) -> str:
        """Short name for the status line, for example ``osc 127.0.0.1:9000``."""

    @property
    def stats(self) -> ClientStats:
        """Counters so far."""

    def start(self, info: StreamInfo) -> None:
        """Open the target.

        Raises:
            ClientError: the target cannot be opened.
        """

    def send(self, frame: PoseFrame) -> None:
        """Hand over one frame without blocking."""

    def close(self) -> None:
        """Flush what must not be lost and release everything. May be called twice."""


class Source(Protocol):
    """Where sound comes from.

    Threads: ``start`` and ``stop`` are called by the owner; ``on_block`` is called by the
    source's own thread and must only copy.
    """

    @property
    def name(self) -> str:
        """Short name for the status line."""

    @property
    def xruns(self) -> int:
        """Blocks the device says were lost."""

    @property
    def bad_samples(self) -> int:
        """Samples that were not finite numbers and were replaced by silence."""

    def start(self, on_block: Callable[[AudioBlock], None], on_end: Callable[[], None]) -> None:
        """Begin to deliver blocks; ``on_end`` is called once when no more will come.

        Raises:
            AudioError: the device or the file cannot be opened.
        """

    def stop(self) -> None:
        """Stop delivering; returns when no further call of ``on_block`` can happen."""

    def failure(self) -> Exception | None:
        """The error that ended the source, if one did. Its owner raises it."""
