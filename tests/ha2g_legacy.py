"""An environment with an old pyarrow for the tests, made once a session."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ha2g_live.training.ha2g import legacy


def make_python(cache: Path) -> Path:
    """The interpreter, made in a cache folder.

    Skips only where there is no Python old enough, or no package can be had.
    """
    need_base()
    try:
        return legacy.legacy_python()
    except legacy.LegacyError as error:
        if _no_packages(cache):
            pytest.skip(f"no package index can be reached: {error}")
        raise


def need_base() -> None:
    """Skip where this computer has no Python that the packages have wheels for."""
    try:
        legacy.base_python()
    except legacy.LegacyError as error:
        pytest.skip(str(error))


def _no_packages(cache: Path) -> bool:
    """Whether pip cannot even find the newest lmdb."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(cache / "probe")]
    return subprocess.run([*command, "lmdb"], capture_output=True, timeout=120).returncode != 0
