"""One thread for each library: two of them on two cores wait for each other more than they work.

What the engines keep between runs goes to a folder of this run: tests neither see nor fill the
user's.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HA2G_LIVE_CACHE"] = folder
        yield
        del os.environ["HA2G_LIVE_CACHE"]
