"""Where compiled and measured things are kept between runs, and how they are written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from pathlib import Path

HOME_VARIABLE = "HA2G_LIVE_CACHE"
"""Names a folder to use in place of the usual one."""


def cache_dir() -> Path:
    """The folder of this user's cache; it need not exist yet.

    ``HA2G_LIVE_CACHE`` when set, else the place that the system keeps for such files.
    """
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        return Path(base) / "ha2g-live" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ha2g-live"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ha2g-live"


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def key_of(*parts: object) -> str:
    """A short name for everything that a cached file depends on."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees a part of it.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def keep_newest(folder: Path, count: int) -> None:
    """Remove all but the ``count`` files of a folder that were written or used last."""
    with contextlib.suppress(OSError):
        files = sorted(
            (f for f in folder.iterdir() if f.is_file()), key=lambda f: f.stat().st_mtime
        )
        for file in files[:-count]:
            file.unlink()
