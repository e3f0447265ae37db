"""The command ``train``: which recipe, and its own command line."""

from __future__ import annotations

import importlib

from ha2g_live.realtime.options import Parser

RECIPES = {
    "live": "ha2g_live.training.trainer",
    "ha2g": "ha2g_live.training.ha2g.trainer",
}
"""Name of each recipe, and the module whose ``main`` takes the rest of the command line."""


def main(argv: list[str] | None = None) -> int:
    """Hand the command line over to the recipe; ``live`` when none is named."""
    parser = Parser(prog="ha2g-live train", add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="live")
    options, rest = parser.parse_known_args(argv)
    return int(importlib.import_module(RECIPES[options.recipe]).main(rest))
