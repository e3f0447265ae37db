"""Opus packets to samples, for streams whose sound comes compressed."""

from __future__ import annotations

import numpy as np
import soxr

from ha2g_live.realtime.errors import MissingExtra
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

try:
    import av
except ImportError as error:
    raise MissingExtra("Opus sound", str(error.name), "serve") from error

_DECODED_HZ = 48_000
"""What Opus is decoded at (RFC 6716, section 2)."""


class OpusDecoder:
    """Decodes one stream. Packets come in order; a lost one is simply not there."""

    def __init__(self) -> None:
        self._codec = av.CodecContext.create("opus", "r")
        self._codec.sample_rate = _DECODED_HZ
        self._codec.layout = "mono"
        self._resample = soxr.ResampleStream(_DECODED_HZ, SAMPLE_RATE_HZ, 1, dtype="float32")

    def decode(self, packet: bytes) -> F32:
        """(n,) float32 mono at 16 kHz that one packet adds.

        Raises:
            ValueError: the bytes are not an Opus packet.
        """
        try:
            frames = self._codec.decode(av.Packet(packet))
        except av.FFmpegError as error:
            raise ValueError(f"the message is not an Opus packet ({error})") from error
        pieces = []
        for frame in frames:
            values = frame.to_ndarray()
            if values.dtype == np.int16:
                values = values.astype(np.float32) / 32768.0
            channels = len(frame.layout.channels)
            # Packed frames hold one row with the channels in turn, planar ones a row a channel.
            rows = values.reshape(-1, channels).T if values.shape[0] == 1 else values
            pieces.append(rows.mean(axis=0, dtype=np.float32))
        if not pieces:
            return np.zeros(0, dtype=np.float32)
        resampled: F32 = self._resample.resample_chunk(np.concatenate(pieces))
        return resampled
