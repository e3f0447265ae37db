"""Build hook: mount the top-level folders below one import package, ``ha2g_live``.

Wheels get the mapping from ``[tool.hatch.build.targets.wheel.sources]``. Editable installs get a
git-ignored tree of links in ``.links/``: no import hook, so type checkers and editors see it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDERS = ("realtime", "engines", "clients", "training", "benchmarks")
ROOT_FILES = {"realtime/_package.py": "__init__.py", "realtime/py.typed": "py.typed"}


class MountFolders(BuildHookInterface[Any]):
    """Maps ``realtime/`` to ``ha2g_live/realtime`` and so on, for wheels and editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a build; ``version`` is "standard" or "editable"."""
        if version != "editable":
            for source, name in ROOT_FILES.items():
                build_data["force_include"][source] = f"ha2g_live/{name}"
            return
        root = Path(self.root)
        tree = root / ".links" / "ha2g_live"
        # Windows junctions must not be removed recursively: rmtree would follow them.
        if os.name != "nt":
            shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True, exist_ok=True)
        for name in FOLDERS:
            _link(root / name, tree / name)
        for source, name in ROOT_FILES.items():
            _link(root / source, tree / name)


def _link(target: Path, link: Path) -> None:
    if link.exists() or link.is_symlink():
        return
    if os.name != "nt":
        link.symlink_to(os.path.relpath(target, link.parent), target_is_directory=target.is_dir())
    elif target.is_dir():
        import _winapi

        _winapi.CreateJunction(str(target), str(link))
    else:
        os.link(target, link)
