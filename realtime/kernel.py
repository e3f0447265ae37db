"""How the project's numeric kernels are compiled, and how their disk cache stays fresh.

numba stamps a cached function with a hash of its own file and with nothing else. The functions and
the constants that it has from other files are compiled into it, so after an edit of one of those
files the old machine code is loaded and counted as a hit (seen with numba 0.68, whether or not the
inner functions are cached too; its manual says so under "Cache invalidation"). So the key under
which machine code is stored gets the digest of all sources as well:

- ``@kernel``: called by other kernels only, from any file. Not cached.
- ``@entry``: called from Python. Cached, with all the kernels that it calls. Any edit of a file in
  ``FILES`` gives it a new key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

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
    "limits.py",
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
    compiled: Any = numba.njit(error_model="numpy")(function)
    # What ``cache=True`` does, with a cache of our own. An argument with a default value, which is
    # part of the key too, would make every call take twenty times as long.
    compiled._cache = _Stamped(compiled.py_func)  # type: ignore[no-untyped-call]
    return cast(_Kernel, compiled)


class _Stamped(FunctionCache):
    """Finds compiled code by the sources of all kernels, too."""

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        key = super()._index_key(sig, codegen)  # type: ignore[no-untyped-call]
        return (*key, SOURCES)
