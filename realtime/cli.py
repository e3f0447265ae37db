"""The command ``ha2g-live``.

Any mistake of the user is one line on standard error and exit status 2. Ctrl-C, SIGTERM and the
end of the sound end a run the same way: targets flushed, a summary, exit status 0.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from ha2g_live import __version__
from ha2g_live.realtime.errors import ConfigError, Ha2gError, MissingExtra

if TYPE_CHECKING:  # the real imports wait until a run needs them: help must come at once
    from ha2g_live.engines.base import Engine
    from ha2g_live.realtime.pipeline import Pipeline
    from ha2g_live.realtime.screen import Screen
    from ha2g_live.realtime.types import Client, Source

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
  ha2g-live render AUDIO --out FILE        a video (.mp4) or pictures (.png) of the motion
  ha2g-live corpus | train | export        make a model of your own (see the documentation)
Each has a --help of its own.

Ctrl-C ends a run."""

_TRAINING = {"corpus": "corpus", "train": "trainer", "export": "export"}
"""Commands that the training package answers: the module of each."""
_TRAINING_NEEDS = {"torch", "onnx", "librosa", "tqdm"}
_POLL_S = 0.05


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; the real ones when left out.

    Returns:
        0, or 2 after a mistake that was reported in one line.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if not arguments:
            sys.stdout.write(SHORT_HELP)
            return 0
        command = {"devices": _devices, "render": _render}.get(arguments[0])
        if command is not None:
            return command(arguments[1:])
        if arguments[0] in _TRAINING:
            return _train(arguments[0], arguments[1:])
        return _run(_parser().parse_args(arguments))
    except Ha2gError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        return 0


# --- arguments


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        _say(f"{message}: see  {self.prog} --help")
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
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

    motion = parser.add_argument_group("how it moves")
    motion.add_argument("--fps", type=float, default=60.0, help="frames a second, 24 to 144 (60)")
    motion.add_argument("--style", metavar="NAME", help="speaker style; a wrong one lists them all")
    motion.add_argument(
        "--seed", type=int, default=0, help="another number chooses other gestures (0)"
    )
    _add_model_arguments(motion)

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
    run.add_argument("--quiet", action="store_true", help="no status line and no summary")
    return parser


def _add_model_arguments(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--engine", choices=("onnx", "torch"), default="onnx", help="what runs the model (onnx)"
    )
    group.add_argument("--model", type=Path, metavar="FILE", help="a model of your own")
    group.add_argument("--threads", type=int, default=1, help="threads for the model (1)")


# --- the run


def _run(options: argparse.Namespace) -> int:
    """Check everything that is cheap, then open: model, targets, and the sound last."""
    if options.mic is None and options.audio is None and not options.demo:
        raise ConfigError("no sound to listen to: add --mic, --audio FILE or --demo")
    if options.fast and options.mic is not None:
        raise ConfigError("--fast needs a file: use --audio FILE or --demo in place of --mic")

    from ha2g_live.realtime.audio_file import demo_clip, stream_audio
    from ha2g_live.realtime.pipeline import Pipeline, Settings
    from ha2g_live.realtime.screen import Screen
    from ha2g_live.realtime.stats import check_writable

    settings = Settings(
        fps=options.fps,
        style=options.style,
        seed=options.seed,
        tail_s=options.tail_s,
        duration_s=options.duration_s,
    )
    path: Path | None = demo_clip() if options.demo else options.audio
    if path is not None:
        next(stream_audio(path, 1))  # raises if the file is not one
    if options.stats is not None:
        check_writable(options.stats)
    view = _view_wanted(options)
    clients = _clients(options)
    engine = _open_engine(options)
    try:
        pipeline = Pipeline(engine, clients, settings)
        with _signals(), Screen(pipeline, view, options.quiet, _say) as screen:
            if options.fast and path is not None:
                summary = _run_fast(pipeline, path, screen)
            else:
                summary = _run_live(pipeline, _source(options, path), screen)
        _finish(options, pipeline, summary)
    finally:
        engine.close()
    return 0


def _run_live(pipeline: Pipeline, source: Source, screen: Screen) -> dict[str, Any]:
    from ha2g_live.realtime.driver import Driver

    driver = Driver(pipeline, source)
    screen.source = source
    driver.start()
    try:
        while not driver.wait(_POLL_S):
            screen.update()
    except KeyboardInterrupt:
        pass
    finally:
        with _no_more_signals():
            driver.stop()
    return driver.summary()


def _run_fast(pipeline: Pipeline, path: Path, screen: Screen) -> dict[str, Any]:
    from ha2g_live.realtime.audio_file import stream_audio
    from ha2g_live.realtime.pipeline import run_fast
    from ha2g_live.realtime.timebase import HOP_SAMPLES

    with contextlib.suppress(KeyboardInterrupt):
        run_fast(pipeline, stream_audio(path, HOP_SAMPLES), screen.update)
    return {"source": {"name": f"file {path.name}"}, **pipeline.summary()}


def _view_wanted(options: argparse.Namespace) -> bool:
    """Whether to draw the figure: as asked, else for a demo or where nothing else shows motion."""
    can = sys.stdout.isatty()
    if options.view and not can:
        raise ConfigError("--view needs a terminal to draw in: leave it out")
    if options.view is not None:
        return bool(options.view)
    targets = bool(options.osc) or options.ws is not None or options.record is not None
    return can and not (options.fast or options.quiet) and (options.demo or not targets)


def _clients(options: argparse.Namespace) -> list[Client]:
    clients: list[Client] = []
    if options.osc:
        from ha2g_live.clients.osc import OscClient, parse_target

        clients.extend(OscClient(*parse_target(target)) for target in options.osc)
    if options.ws is not None:
        from ha2g_live.clients.websocket import WebSocketClient, parse_ws

        clients.append(
            WebSocketClient(*parse_ws(options.ws), allowed_origins=tuple(options.ws_origin))
        )
    if options.record is not None:
        from ha2g_live.clients.jsonl import JsonlClient

        clients.append(JsonlClient(options.record))
    return clients


def _open_engine(options: argparse.Namespace) -> Engine:
    from ha2g_live.engines import open_engine

    return open_engine(options.engine, options.model, threads=options.threads)


def _source(options: argparse.Namespace, path: Path | None) -> Source:
    from ha2g_live.realtime.sources import FileSource, MicrophoneSource

    return MicrophoneSource(options.mic) if path is None else FileSource(path)


def _finish(options: argparse.Namespace, pipeline: Pipeline, summary: dict[str, Any]) -> None:
    if options.stats is not None:
        from ha2g_live.realtime.stats import machine, write_summary

        asked = {"fast": options.fast, "engine": options.engine, "threads": options.threads}
        write_summary(options.stats, {**asked, **summary, "machine": machine()})
    if options.quiet:
        return
    stats = pipeline.stats
    text = f"{stats.frames} frames in {stats.elapsed_s:.1f} s"
    if stats.latency.count:
        p50_ms, p95_ms = (1e3 * stats.latency.percentile_s(p) for p in (50, 95))
        text += f", latency {p50_ms:.0f} ms (95 %: {p95_ms:.0f} ms)"
        text += f", {stats.late_frames} late, {stats.skipped_steps} steps skipped"
    for client in pipeline.clients:
        text += f"; {client.name}: {client.stats.sent} sent, {client.stats.dropped} dropped"
    _say(text)


# --- signals

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


@contextlib.contextmanager
def _handled(handler: Any) -> Iterator[None]:
    """Set a handler for every signal that ends a program, and put the old ones back."""
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = [(number, signal.signal(number, handler)) for number in numbers]
    try:
        yield
    finally:
        for number, old in before:
            signal.signal(number, old)


def _signals() -> contextlib.AbstractContextManager[None]:
    """Let them all raise KeyboardInterrupt in the main thread."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    return _handled(interrupt)


def _no_more_signals() -> contextlib.AbstractContextManager[None]:
    """Targets are being flushed, which takes seconds at most: let that end."""
    return _handled(signal.SIG_IGN)


# --- the other commands


def _devices(arguments: Sequence[str]) -> int:
    parser = _Parser(prog="ha2g-live devices", description="List the microphones.")
    parser.parse_args(arguments)
    from ha2g_live.realtime.sources import format_devices, list_devices

    text = format_devices(list_devices()) + "\n"
    encoding = sys.stdout.encoding or "utf-8"  # device names come in all scripts
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    return 0


def _render(arguments: Sequence[str]) -> int:
    from ha2g_live.realtime import render

    parser = _Parser(prog="ha2g-live render", description="Make a video or pictures of the motion.")
    render.add_arguments(parser)
    _add_model_arguments(parser)
    options = parser.parse_args(arguments)
    render.run(options, lambda: _open_engine(options))
    return 0


def _train(command: str, arguments: Sequence[str]) -> int:
    try:
        module = importlib.import_module(f"ha2g_live.training.{_TRAINING[command]}")
    except ModuleNotFoundError as error:
        if error.name in _TRAINING_NEEDS:
            raise MissingExtra(f"ha2g-live {command}", error.name, "train") from error
        raise
    return int(module.main(list(arguments)))


def _say(text: str) -> None:
    sys.stderr.write(f"ha2g-live: {' '.join(text.splitlines())}\n")


if __name__ == "__main__":
    sys.exit(main())
