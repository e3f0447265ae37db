"""Reads and writes the published LMDB folders; runs in an environment of its own.

    python unpack.py read FOLDER     records to standard output
    python unpack.py write FOLDER    records from standard input to a new folder

The records are ``pyarrow.serialize``, which current releases of pyarrow no longer have, so this
file is run by an interpreter with an old one. It needs only pyarrow, lmdb and numpy there, and
imports nothing of ha2g_live.

A message is the length of a JSON header (8 bytes, little-endian), the header, and the raw arrays
that the header lists under "arrays".

A record may hold pickled objects, and unpickling runs code of whoever made the file. An empty
SerializationContext still unpickles what is marked so; here it is given an unpickler that refuses,
and the one extension type that is unpickled from a schema (CVE-2023-47248) is replaced by one that
refuses too.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any, BinaryIO

import numpy as np

KINDS = {"skeletons_3d": "ted_expressive", "skeletons": "ted_gesture"}
_MOST_HEADER_BYTES = 1 << 28
_LENGTH_BYTES = 8
_PICKLED_TYPE = "arrow.py_extension_type"


class Refused(Exception):
    """The folder cannot be read, for a reason that fits on a line."""


def send(stream: BinaryIO, header: dict[str, Any], arrays: dict[str, Any] | None = None) -> None:
    """Write one message."""
    arrays = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    listed = [[name, a.dtype.str, list(a.shape)] for name, a in arrays.items()]
    text = json.dumps({**header, "arrays": listed}).encode()
    stream.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
    for array in arrays.values():
        stream.write(array.tobytes())


def receive(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Read one message: header and arrays by name; None at the end of the stream.

    Raises:
        Refused: the stream ends in the middle, or is none of ours.
    """
    start = stream.read(_LENGTH_BYTES)
    if not start:
        return None
    length = int.from_bytes(start, "little")
    if len(start) < _LENGTH_BYTES or length > _MOST_HEADER_BYTES:
        raise Refused("what arrived is not a message")
    header = json.loads(_exactly(stream, length))
    arrays = {}
    for name, dtype, shape in header.pop("arrays"):
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        arrays[name] = np.frombuffer(_exactly(stream, size), dtype).reshape(shape)
    return header, arrays


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise Refused("the message is cut short")
    return data


def _refuse(*_: Any) -> Any:
    raise Refused("it holds a pickled object, which could run code; the published data have none")


def safe_context() -> Any:
    """A context that builds numbers, texts, lists, dicts and arrays, and refuses all else."""
    import pyarrow

    if not hasattr(pyarrow, "SerializationContext"):
        raise Refused(f"pyarrow {pyarrow.__version__} no longer reads these records: use 11.0.0")
    context = pyarrow.SerializationContext()
    context.set_pickle(_refuse, _refuse)

    class Forbidden(pyarrow.ExtensionType):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(pyarrow.null(), _PICKLED_TYPE)

        def __arrow_ext_serialize__(self) -> bytes:
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage: Any, about: bytes) -> Any:
            return _refuse()

    pyarrow.unregister_extension_type(_PICKLED_TYPE)
    pyarrow.register_extension_type(Forbidden())  # at its exit pyarrow wants one of that name
    return context


def read(folder: str, out: BinaryIO) -> None:
    """Send "start" with the number of records, each clip, and "end"."""
    import lmdb
    import pyarrow

    context = safe_context()
    # A folder on a read-only disk has no room for a lock file.
    options = {"readonly": True, "lock": False, "readahead": False, "max_readers": 1}
    with lmdb.open(folder, **options) as store, store.begin(buffers=True) as view:
        send(out, {"kind": "start", "records": view.stat()["entries"]})
        for number, (key, value) in enumerate(view.cursor()):
            where = f"record {bytes(key).decode('ascii', 'replace')!r}"
            try:
                record = pyarrow.deserialize(pyarrow.py_buffer(value), context=context)
                messages = list(_clips(record, number))
            except Refused as error:
                raise Refused(f"{where}: {error}") from error
            except Exception as error:
                detail = " ".join(str(error).split())[:200]
                raise Refused(f"{where} is damaged ({type(error).__name__}: {detail})") from error
            for header, arrays in messages:
                send(out, header, arrays)
            send(out, {"kind": "record"})
    send(out, {"kind": "end"})
    out.flush()


def _clips(record: Any, number: int) -> Any:
    if not isinstance(record, dict) or "clips" not in record:
        raise Refused("it has no 'clips': this is not a published TED data set")
    for index, clip in enumerate(record["clips"]):
        key = next((name for name in KINDS if name in clip), None)
        if key is None:
            raise Refused(f"clip {index} has neither {' nor '.join(map(repr, KINDS))}")
        poses = np.asarray(clip[key], dtype=np.float32)
        if poses.ndim == 2:
            poses = poses.reshape(len(poses), -1, 3)
        if "audio_raw" not in clip:
            raise Refused(f"clip {index} has no 'audio_raw'")
        arrays = {"positions": poses, "audio": np.asarray(clip["audio_raw"], np.float32).ravel()}
        if clip.get("audio_feat") is not None:
            arrays["spectrogram"] = np.asarray(clip["audio_feat"], dtype=np.float16)
        times = [clip.get("start_time"), clip.get("end_time")]
        header = {
            "kind": "clip",
            "record": number,
            "clip": index,
            "vid": str(record.get("vid", number)),
            "skeleton": KINDS[key],
            "words": [[str(w), float(start), float(end)] for w, start, end in clip["words"]],
            "times_s": [None if t is None else float(t) for t in times],
        }
        yield header, arrays


def write(folder: str, source: BinaryIO) -> None:
    """Write what arrives as records: "clip" messages, and "record" after the last clip of each."""
    import lmdb
    import pyarrow

    os.makedirs(folder)
    number, clips, vid = 0, [], ""
    size = 1 << 24  # Windows makes a file of this size at once, so it only grows when it must
    with lmdb.open(folder, map_size=size) as store:
        while (message := receive(source)) is not None:
            header, arrays = message
            if header["kind"] == "clip":
                vid = header["vid"]
                clips.append(_published(header, arrays))
                continue
            record = {"vid": vid, "clips": clips}
            context = pyarrow.SerializationContext()
            value = pyarrow.serialize(record, context=context).to_buffer()
            while size < 4 * value.size + store.info()["last_pgno"] * store.stat()["psize"]:
                size *= 2
                store.set_mapsize(size)
            with store.begin(write=True) as change:
                change.put(f"{number:010}".encode("ascii"), value)
            number, clips = number + 1, []


def _published(header: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    key = next(name for name, kind in KINDS.items() if kind == header["skeleton"])
    start_s, end_s = header["times_s"]
    frames = len(arrays["positions"])
    first = round(start_s * frames / (end_s - start_s))
    clip = {
        "words": header["words"],
        key: arrays["positions"],
        "audio_raw": arrays["audio"].astype(np.float16),
        "start_frame_no": first,
        "end_frame_no": first + frames,
        "start_time": start_s,
        "end_time": end_s,
    }
    if "spectrogram" in arrays:
        clip["audio_feat"] = arrays["spectrogram"].astype(np.float16)
    return clip


def main() -> int:
    """Answer the command line; what goes wrong is the last line of standard error."""
    warnings.simplefilter("ignore")
    command, folder = sys.argv[1:]
    try:
        if command == "read":
            read(folder, sys.stdout.buffer)
        else:
            write(folder, sys.stdin.buffer)
    except Refused as error:
        print(error, file=sys.stderr)
        return 3
    except Exception as error:  # the parent shows one line, whatever it was
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
