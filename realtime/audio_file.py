"""Audio files as 16 kHz mono samples, whole or as a stream of blocks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from ha2g_live.realtime.errors import AudioFileError
from ha2g_live.realtime.resample import LOUDEST, StreamResampler, bad_samples
from ha2g_live.realtime.types import F32

_log = logging.getLogger(__name__)

FORMATS = "wav, flac, ogg, opus or mp3"
RATES_HZ = (4_000, 768_000)
_READ_FRAMES = 16_384


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is only read forward.

    The library seeks after every read of a seekable file, and a seek within an MP3 damages the
    next few frames, as each is coded with help of those before it.
    """

    def seekable(self) -> bool:
        return False


def demo_clip() -> Path:
    """The speech clip that comes with the package (11 s; see ``assets/README.md``)."""
    return Path(__file__).parent / "assets" / "demo.flac"


def read_audio(path: str | Path) -> F32:
    """(samples,) float32, the whole file as 16 kHz mono.

    Raises:
        AudioFileError: the file is missing, a folder, not audio, damaged, empty, or holds samples
            that are no sound.
    """
    pieces = list(_pieces(Path(path)))
    return np.concatenate(pieces)


def stream_audio(path: str | Path, block_samples: int) -> Iterator[F32]:
    """The same samples as ``read_audio`` in blocks, with 16 384 frames of the file in memory.

    Args:
        path: the file.
        block_samples: length of each block; the last may be shorter.

    Yields:
        (block_samples,) float32, owned by the receiver.

    Raises:
        AudioFileError: as ``read_audio``, when the block concerned is asked for.
    """
    if block_samples < 1:
        raise ValueError(f"block_samples must be at least 1, got {block_samples}")
    held: F32 = np.zeros(0, dtype=np.float32)
    for piece in _pieces(Path(path)):
        held = np.concatenate((held, piece))
        whole = len(held) // block_samples * block_samples
        for start in range(0, whole, block_samples):
            yield held[start : start + block_samples].copy()
        held = held[whole:]
    if len(held):
        yield held


def _pieces(path: Path) -> Iterator[F32]:
    """Decoded, checked and resampled pieces of any length, at least one."""
    if path.is_dir():
        raise AudioFileError(f"{path} is a folder: give an audio file ({FORMATS})")
    if not path.exists():
        raise AudioFileError(f"{path} does not exist: check the path")
    try:
        file = _ForwardFile(path)
    except (soundfile.SoundFileError, TypeError, OSError) as error:
        # TypeError is the library's answer to headerless files (.raw).
        raise _unreadable(path, error) from error
    with file:
        rate_hz = file.samplerate
        if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
            raise AudioFileError(
                f"{path} has a sample rate of {rate_hz} Hz: convert it to one between "
                f"{RATES_HZ[0]} and {RATES_HZ[1]} Hz"
            )
        resampler = StreamResampler(rate_hz)
        read = 0
        while True:
            try:
                frames: F32 = file.read(_READ_FRAMES, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise _unreadable(path, error) from error
            if len(frames) == 0:
                break
            _check(path, frames, read, rate_hz)
            read += len(frames)
            yield resampler.push(frames)
        if read == 0:
            raise AudioFileError(f"{path} holds no sound: give a file with at least one sample")
        # Some decoders end quietly where the data is broken. Lossy formats only estimate their
        # length, so a small difference means nothing.
        if read < 0.95 * file.frames:
            _log.warning(
                "%s ends after %.1f s of %.1f s: it is damaged or cut",
                path,
                read / rate_hz,
                file.frames / rate_hz,
            )
        yield resampler.finish()


def _check(path: Path, frames: F32, first: int, rate_hz: int) -> None:
    bad = bad_samples(frames)
    if bad.any():
        row, channel = np.argwhere(bad)[0]
        sample = first + int(row)
        raise AudioFileError(
            f"{path}: sample {sample} ({sample / rate_hz:.3f} s) is {frames[row, channel]}: export "
            f"the file again with finite samples up to {LOUDEST:g} (full scale is 1)"
        )


def _unreadable(path: Path, error: Exception) -> AudioFileError:
    cause = str(getattr(error, "error_string", error)).strip().rstrip(".")
    return AudioFileError(f"{path} cannot be read ({cause}): give a sound {FORMATS} file")
