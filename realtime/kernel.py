"""How the project's numeric kernels are compiled, and how their disk cache stays fresh.

numba stamps a cached function with a hash of its own file and with nothing else. The functions and
the constants that it has from other files are compiled into it, so after an edit of one of those
files the old machine code is loaded and counted as a hit (seen with numba 0.68, whether or not the
inner functions are cached too; its manual says so under "Cache invalidation"). The default values
of a function's arguments, however, are part of the signature that the cache looks up. Therefore:

- ``@kernel``: called by other kernels only, from any file. Not cached.
- ``@entry``: called from Python. Cached, with all the kernels that it calls, and each has a last
  argument ``_sources: str = SOURCES``. Any edit of a file in ``FILES`` gives it a new signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])

FILES = (
    "body.py",
    "chance.py",
    "contact.py",
    "errors.py",
    "features.py",
    "humanoid.py",
    "joint_limits.py",
    "kernel.py",
    "knobs.py",
    "legs.py",
    "life.py",
    "mouth.py",
    "reach.py",
    "rest_poses.py",
    "retarget.py",
    "retarget_arm.py",
    "retarget_trunk.py",
    "rig.py",
    "rotation.py",
    "rotation_arrays.py",
    "shaping.py",
    "sight.py",
    "skeleton.py",
    "timebase.py",
    "trajectory.py",
    "transition.py",
    "types.py",
)
"""All files that an entry point's code or constants come from, itself included."""


def _digest() -> str:
    digest = hashlib.sha256()
    for name in FILES:
        path = Path(__file__).with_name(name)
        if path.is_file():  # an installation without sources has none that could be edited
            digest.update(path.read_bytes())
    return digest.hexdigest()


SOURCES = _digest()
"""Changes whenever a file in ``FILES`` does."""


def kernel(function: _Kernel) -> _Kernel:
    """Compile a function that other kernels call."""
    # As in numpy, a division by zero is a value and not an exception.
    return cast(_Kernel, numba.njit(error_model="numpy")(function))


def entry(function: _Kernel) -> _Kernel:
    """Compile a function that Python calls, and keep it on disk for the next start."""
    return cast(_Kernel, numba.njit(cache=True, error_model="numpy")(function))
