"""What the commands take from the command line, and the one line that answers a mistake."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from ha2g_live import __version__
from ha2g_live.realtime.knobs import KNOBS, Knob, Value

WHO = ("local", "all", "none")
SCHEMES = ("vrm1", "vrm0", "arkit")

SHORT_HELP = """\
ha2g-live: your voice moves your avatar's arms, hands, fingers, head and torso, live.

  ha2g-live --demo                         watch it move, right here; needs no microphone
  ha2g-live devices                        list the microphones
  ha2g-live --mic --osc 127.0.0.1:39539    talk, and move an avatar in VSeeFace, Warudo, VNyan,
                                           Unity, Unreal or Blender (VMC protocol)

All options:  ha2g-live --help
"""

DESCRIPTION = """\
Your voice moves your avatar's arms, hands, fingers, head and torso, live, without a GPU.

Choose where the sound comes from (--mic, --audio or --demo) and where the motion goes (--osc,
--ws, --record; any number of them). Without a target the motion is drawn in the terminal."""

COMMANDS = """\
commands:
  ha2g-live devices                        list the microphones
  ha2g-live init [FILE.toml]               write a settings file with comments
  ha2g-live render AUDIO --out FILE        a video (.mp4) or pictures (.png) of the motion
  ha2g-live serve --ws PORT                many avatars on this computer (docs/serve.md)
  ha2g-live engines | engines compare A B | build --engine tensorrt
                                           what can run the model here (docs/engines.md)
  ha2g-live corpus build | train | export  make a model of your own (docs/training.md)
  ha2g-live evaluate                       score it beside real people (docs/evaluation.md)
  ha2g-live import CHECKPOINT.bin          stream a published model (docs/published-checkpoints.md)
  ha2g-live dataset | train --recipe ha2g | evaluate --dataset DIR
                                           HA2G as published (docs/ha2g-training.md)
Each has a --help of its own.

Ctrl-C ends a run."""


def say(text: str) -> None:
    """Write one line for the user, on standard error."""
    sys.stderr.write(f"ha2g-live: {' '.join(text.splitlines())}\n")


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line, and exits with status 2."""

    def error(self, message: str) -> NoReturn:
        """Say it and exit; argparse calls this."""
        say(f"{message}: see  {self.prog} --help")
        raise SystemExit(2)


def run_parser() -> Parser:
    """Arguments of a run: ``ha2g-live`` without a command."""
    parser = Parser(
        prog="ha2g-live",
        description=DESCRIPTION,
        epilog=COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ha2g-live {__version__}")

    sound = parser.add_argument_group("where the sound comes from").add_mutually_exclusive_group()
    sound.add_argument(
        "--mic",
        nargs="?",
        const="default",
        metavar="DEVICE",
        help="your microphone: the default one, or a number or a part of a name from "
        "`ha2g-live devices`",
    )
    sound.add_argument("--audio", type=Path, metavar="FILE", help="a sound file, at normal speed")
    sound.add_argument(
        "--demo", action="store_true", help="a speech clip that comes with ha2g-live"
    )

    target = parser.add_argument_group("where the motion goes")
    target.add_argument(
        "--osc",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="an app that speaks the VMC protocol, usually 127.0.0.1:39539; may be repeated",
    )
    target.add_argument(
        "--ws",
        metavar="[HOST:]PORT",
        help="serve web pages and programs over WebSocket, for example 8765",
    )
    target.add_argument(
        "--ws-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a web page, such as https://example.org, that may connect although it is not on "
        "this computer; may be repeated",
    )
    target.add_argument(
        "--record", type=Path, metavar="FILE.jsonl", help="a file, one frame a line"
    )
    target.add_argument(
        "--view",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="draw a stick figure in the terminal (default with --demo and without a target)",
    )

    steer = parser.add_argument_group("how it is steered (docs/control.md)")
    steer.add_argument(
        "--config",
        type=Path,
        metavar="FILE.toml",
        help="settings from a file; `ha2g-live init` writes one with comments",
    )
    steer.add_argument(
        "--ui",
        nargs="?",
        const="8080",
        metavar="[HOST:]PORT",
        help="a control page with a live picture of the avatar, for your browser (8080)",
    )
    steer.add_argument(
        "--osc-in",
        metavar="[HOST:]PORT",
        help="listen for OSC messages that turn knobs, such as /ha2g/intensity 1.3",
    )
    steer.add_argument(
        "--control",
        choices=WHO,
        default="local",
        help="who may turn knobs over WebSocket (local: programs on this computer)",
    )

    motion = parser.add_argument_group("how it moves")
    motion.add_argument(
        "--avatar",
        type=Path,
        metavar="FILE",
        help="your avatar, .vrm or .glb: the motion is adapted to its proportions and body",
    )
    motion.add_argument(
        "--face-names",
        choices=SCHEMES,
        help="names of the face's blends (the avatar's own, else vrm0)",
    )
    motion.add_argument("--fps", type=float, help="frames a second, 24 to 144 (60)")
    motion.add_argument("--seed", type=int, help="another number chooses other gestures (0)")
    add_model_arguments(motion)

    knobs = parser.add_argument_group("knobs: they can be turned while it runs, too")
    for knob in KNOBS:
        default = "" if knob.name == "style" else f" ({_shown(knob.usual)})"
        flag = {"nargs": "?", "const": "on"} if knob.kind == "flag" else {}
        knobs.add_argument(
            knob.option,
            metavar="|".join(knob.words) if knob.kind == "choice" and knob.words else "VALUE",
            help=f"{knob.help}: {_range_of(knob)}{default}",
            **flag,  # type: ignore[arg-type]
        )

    run = parser.add_argument_group("the run")
    run.add_argument(
        "--fast", action="store_true", help="a file as fast as the computer can, for --record"
    )
    run.add_argument("--duration-s", type=float, metavar="S", help="stop after so many seconds")
    run.add_argument(
        "--tail-s",
        type=float,
        default=1.5,
        metavar="S",
        help="time to come to rest at the end (1.5)",
    )
    run.add_argument(
        "--stats", type=Path, metavar="FILE.json", help="write measurements at the end"
    )
    run.add_argument(
        "--trace",
        type=Path,
        metavar="FILE.json",
        help="also write when each block of sound, answer and frame of the last minutes happened",
    )
    run.add_argument("--quiet", action="store_true", help="no status line and no summary")
    return parser


def _range_of(knob: Knob) -> str:
    return "a wrong one lists them all" if knob.name == "style" else knob.expected()


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(value) if isinstance(value, tuple) else f"{value}"


def add_model_arguments(group: argparse._ActionsContainer) -> None:
    """Add the choice of engine and model."""
    group.add_argument(
        "--engine",
        default="onnx",
        metavar="NAME",
        help="what runs the model: auto measures once and takes the fastest (onnx, on the CPU; "
        "docs/engines.md names them all)",
    )
    group.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="a model of your own, or the folder that `ha2g-live import` made",
    )
    group.add_argument(
        "--hop",
        type=int,
        metavar="FRAMES",
        help="for an imported model: pose frames (15 a second) from one window to the next, 1 to "
        "30; more is less work and a longer delay (3)",
    )
    group.add_argument("--threads", type=int, default=1, help="threads for the model (1)")
