"""A motion as a video with its sound: two views, the strips and a moving playhead."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw

from ha2g_live.realtime.canvas import INK, WHITE
from ha2g_live.realtime.offline import Motion
from ha2g_live.realtime.sheet import Stage, Strips, font, headline
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

SIZE = (1280, 720)
_HEAD = 40
_STRIPS = (54, 72)
_VIDEO_CODECS = ("libx264", "libopenh264", "mpeg4")
"""In order of liking; builds of the codec library differ in what they hold."""


def video_codec() -> str:
    """Name of the best video encoder there is."""
    return next(name for name in _VIDEO_CODECS if _has_encoder(name))


def _has_encoder(name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except ValueError:  # av's "unknown codec" is one
        return False
    return True


def video_frames(motion: Motion, title: str) -> Callable[[int], Image.Image]:
    """A function from frame number to picture; everything that stands still is painted once."""
    strips = Strips(motion, SIZE[0], *_STRIPS)
    strips_top = SIZE[1] - strips.image.height
    stage = Stage(motion, (SIZE[0], strips_top - _HEAD - 8), supersample=2)
    still = Image.new("RGB", SIZE, WHITE)
    ImageDraw.Draw(still).text((16, 10), headline(motion, title), INK, font(20))
    still.paste(strips.image, (0, strips_top))

    def picture(frame: int) -> Image.Image:
        image = still.copy()
        image.paste(stage.picture(frame), (0, _HEAD))
        x = strips.x_of(frame / motion.fps)
        ImageDraw.Draw(image).line((x, strips_top, x, strips_top + strips.height), INK, 2)
        return image

    return picture


def render_video(
    motion: Motion,
    out: Path,
    title: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write an MP4 file: H.264 where there is an encoder for it, with AAC sound.

    Args:
        motion: what to show; without samples the video is silent.
        out: the file, replaced if it exists.
        title: name of the clip.
        progress: is told frames done and frames in all.

    Raises:
        OSError: the file cannot be written.
    """
    picture = video_frames(motion, title)
    codec = video_codec()
    frames = len(motion.directions)
    with av.open(str(out), "w", format="mp4", options={"movflags": "faststart"}) as container:
        video = container.add_stream(codec, rate=Fraction(motion.fps).limit_denominator(1001))
        video.width, video.height = SIZE
        video.pix_fmt = "yuv420p"
        if codec == "libx264":
            video.options = {"crf": "20", "preset": "veryfast"}
        else:
            video.bit_rate = 3_000_000
        sound = _Sound(container, motion.samples) if len(motion.samples) else None
        for frame in range(frames):
            pixels = np.asarray(picture(frame))
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            if sound is not None:
                sound.write_until(round((frame + 1) / motion.fps * SAMPLE_RATE_HZ))
            if progress is not None:
                progress(frame + 1, frames)
        container.mux(video.encode(None))
        if sound is not None:
            sound.finish()


class _Sound:
    """The sound track, written alongside the pictures; silence after the samples' end."""

    def __init__(self, container: Any, samples: F32) -> None:
        self._container = container
        self._stream = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        self._samples = samples
        self._written = 0

    def write_until(self, sample: int) -> None:
        run = self._samples[self._written : sample]
        padded = np.zeros((1, sample - self._written), dtype=np.float32)
        padded[0, : len(run)] = np.clip(run, -1.0, 1.0)
        if padded.size:
            block = av.AudioFrame.from_ndarray(padded, format="fltp", layout="mono")
            block.sample_rate = SAMPLE_RATE_HZ
            block.pts = self._written
            block.time_base = Fraction(1, SAMPLE_RATE_HZ)
            self._container.mux(self._stream.encode(block))
            self._written = sample

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
