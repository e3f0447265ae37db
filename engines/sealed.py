"""Files of the cache that say what they hold and notice when they are damaged.

    HA2GLIVE | length of the head, 8 bytes | head as JSON | content

The head carries the content's SHA-256. Nothing in a file is ever executed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ha2g_live.engines.cache import write_whole
from ha2g_live.realtime.errors import ModelError

_MAGIC = b"HA2GLIVE"
_LENGTH_BYTES = 8


def write_sealed(path: Path, head: dict[str, Any], content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps({**head, "sha256": hashlib.sha256(content).hexdigest()}).encode()
    write_whole(path, _MAGIC + len(text).to_bytes(_LENGTH_BYTES, "little") + text + content)


def read_sealed(path: Path) -> tuple[dict[str, Any], bytes]:
    """The head and the content of a file.

    Raises:
        OSError: it cannot be read.
        ModelError: it is not such a file, is cut off, or was changed.
    """
    stored = path.read_bytes()
    start = len(_MAGIC) + _LENGTH_BYTES
    end = start + int.from_bytes(stored[len(_MAGIC) : start], "little")
    try:
        if not stored.startswith(_MAGIC) or end > len(stored):
            raise ValueError("not a file of this program")
        head = json.loads(stored[start:end])
        content = stored[end:]
        if head["sha256"] != hashlib.sha256(content).hexdigest():
            raise ValueError("its checksum is wrong")
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({error}): remove it") from None
    return head, content
