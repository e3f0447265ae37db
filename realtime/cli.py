"""The command ``ha2g-live``.

Any mistake of the user is one line on standard error and exit status 2. Ctrl-C, SIGTERM and the
end of the sound end a run the same way: targets flushed, a summary, exit status 0.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ha2g_live.clients.address import parse_target, parse_ws
from ha2g_live.realtime.errors import ConfigError, Ha2gError, MissingExtra
from ha2g_live.realtime.knobs import KNOBS, Knobs, changed
from ha2g_live.realtime.options import SHORT_HELP, Parser, add_model_arguments, run_parser, say
from ha2g_live.realtime.signals import ignored, interrupting

if TYPE_CHECKING:  # the real imports wait until a run needs them: help must come at once
    from ha2g_live.engines.base import Engine
    from ha2g_live.realtime.avatar import Avatar
    from ha2g_live.realtime.desk import Desk
    from ha2g_live.realtime.driver import Driver
    from ha2g_live.realtime.pipeline import Pipeline
    from ha2g_live.realtime.screen import Screen
    from ha2g_live.realtime.types import Client, Source

_TRAINING = {
    "corpus": "corpus",
    "train": "recipes",
    "export": "export",
    "dataset": "ha2g.convert",
    "evaluate": "evaluate",
    "import": "ha2g.importer",
}
"""Commands that the training package answers: the module of each."""
_TRAINING_NEEDS = {"torch", "onnx", "librosa", "scipy", "tqdm", "matplotlib"}
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
        command = {
            "devices": _devices,
            "render": _render,
            "init": _init,
            "serve": _serve,
            "engines": _engines,
            "build": _build,
        }.get(arguments[0])
        if command is not None:
            return command(arguments[1:])
        if arguments[0] in _TRAINING:
            return _train(arguments[0], arguments[1:])
        return _run(run_parser().parse_args(arguments))
    except Ha2gError as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        return 0


# --- the run


def _run(options: argparse.Namespace) -> int:
    """Check everything that is cheap, then open: model, targets, and the sound last."""
    said = _settings(options)
    if options.mic is None and options.audio is None and not options.demo:
        raise ConfigError("no sound to listen to: add --mic, --audio FILE or --demo")
    if options.fast and options.mic is not None:
        raise ConfigError("--fast needs a file: use --audio FILE or --demo in place of --mic")

    from ha2g_live.realtime.audio_file import demo_clip, stream_audio
    from ha2g_live.realtime.desk import Desk
    from ha2g_live.realtime.pipeline import Pipeline, Settings
    from ha2g_live.realtime.screen import Screen
    from ha2g_live.realtime.stats import check_writable

    settings = Settings(
        fps=60.0 if options.fps is None else options.fps,
        seed=options.seed or 0,
        tail_s=options.tail_s,
        duration_s=options.duration_s,
    )
    path: Path | None = demo_clip() if options.demo else options.audio
    if path is not None:
        next(stream_audio(path, 1))  # raises if the file is not one
    if options.trace is not None and options.fast:
        raise ConfigError("--fast takes no real time that could be traced: leave --trace out")
    for option in ("stats", "trace"):
        if getattr(options, option) is not None:
            check_writable(getattr(options, option), f"--{option}")
    view = _view_wanted(options)
    avatar = _avatar(options)
    engine = _open_engine(options)
    try:
        desk = Desk(changed(Knobs(), said, engine.spec.styles), engine.spec.styles)
        clients = _clients(options, desk)
        pipeline = Pipeline(engine, clients, settings, desk, avatar, options.face_names)
        with interrupting(), Screen(pipeline, view, options.quiet, say) as screen:
            if options.fast and path is not None:
                summary = _run_fast(pipeline, path, screen)
            else:
                summary = _run_live(options, pipeline, _source(options, path), screen)
        _finish(options, pipeline, summary)
    finally:
        engine.close()
    return 0


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Put the settings file's entries where the command line says nothing; returns the knobs."""
    from ha2g_live.realtime.settings_file import SettingsFile, load

    stored = SettingsFile() if options.config is None else load(options.config)
    for (section, name), value in stored.entries.items():
        option = {("avatar", "file"): "avatar"}.get((section, name), name)
        if option == "mic" and (options.audio is not None or options.demo):
            continue
        if getattr(options, option) in (None, []):
            path = option in ("avatar", "record")
            setattr(options, option, Path(value) if path else value)
    given = {knob.name: getattr(options, knob.name) for knob in KNOBS}
    return {**stored.knobs, **{name: value for name, value in given.items() if value is not None}}


def _avatar(options: argparse.Namespace) -> Avatar | None:
    if options.avatar is None:
        return None
    from ha2g_live.realtime.avatar import read_avatar

    return read_avatar(options.avatar)


def _run_live(
    options: argparse.Namespace, pipeline: Pipeline, source: Source, screen: Screen
) -> dict[str, Any]:
    from ha2g_live.realtime.driver import Driver
    from ha2g_live.realtime.stats import write_summary
    from ha2g_live.realtime.steering import Steering
    from ha2g_live.realtime.trace import Trace

    trace = None if options.trace is None else Trace()
    driver = Driver(pipeline, source, trace=trace)
    screen.source = source
    with Steering(driver, options.osc_in, options.ui, options.avatar):
        summary = _drive(driver, screen)
    if trace is not None:
        write_summary(options.trace, trace.as_dict(), "--trace")
    return summary


def _drive(driver: Driver, screen: Screen) -> dict[str, Any]:
    driver.start()
    try:
        while not driver.wait(_POLL_S):
            screen.source = driver.source
            screen.update()
    except KeyboardInterrupt:
        pass
    finally:
        with ignored():  # targets are being flushed, which takes seconds at most
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


def _clients(options: argparse.Namespace, desk: Desk) -> list[Client]:
    clients: list[Client] = []
    if options.osc:
        from ha2g_live.clients.osc import OscClient

        clients.extend(OscClient(*parse_target(target)) for target in options.osc)
    if options.ws is not None:
        from ha2g_live.clients.websocket import WebSocketClient

        clients.append(
            WebSocketClient(
                *parse_ws(options.ws),
                allowed_origins=tuple(options.ws_origin),
                desk=desk,
                who=options.control,
            )
        )
    if options.record is not None:
        from ha2g_live.clients.jsonl import JsonlClient

        clients.append(JsonlClient(options.record))
    return clients


def _open_engine(options: argparse.Namespace) -> Engine:
    from ha2g_live.engines import open_engine

    return open_engine(options.engine, options.model, options.threads, options.hop)


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
    say(text)


# --- the other commands


def _devices(arguments: Sequence[str]) -> int:
    parser = Parser(prog="ha2g-live devices", description="List the microphones.")
    parser.parse_args(arguments)
    from ha2g_live.realtime.sources import format_devices, list_devices

    text = format_devices(list_devices()) + "\n"
    encoding = sys.stdout.encoding or "utf-8"  # device names come in all scripts
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    return 0


def _init(arguments: Sequence[str]) -> int:
    from ha2g_live.realtime.settings_file import USUAL_NAME, write_template

    parser = Parser(prog="ha2g-live init", description="Write a settings file with comments.")
    parser.add_argument("file", nargs="?", type=Path, default=Path(USUAL_NAME), metavar="FILE.toml")
    path = parser.parse_args(arguments).file
    write_template(path)
    say(f"wrote {path}: edit it, then start with  ha2g-live --config {path}")
    return 0


def _render(arguments: Sequence[str]) -> int:
    from ha2g_live.realtime import render

    parser = Parser(prog="ha2g-live render", description="Make a video or pictures of the motion.")
    render.add_arguments(parser)
    add_model_arguments(parser)
    options = parser.parse_args(arguments)
    render.run(options, lambda: _open_engine(options))
    return 0


def _serve(arguments: Sequence[str]) -> int:
    from ha2g_live.realtime.serve_command import main as serve

    return serve(arguments)


def _engines(arguments: Sequence[str]) -> int:
    from ha2g_live.engines.compare import main as engines

    return engines(list(arguments))


def _build(arguments: Sequence[str]) -> int:
    from ha2g_live.engines.build import main as build

    return build(list(arguments))


def _train(command: str, arguments: Sequence[str]) -> int:
    try:
        module = importlib.import_module(f"ha2g_live.training.{_TRAINING[command]}")
        return int(module.main(list(arguments)))
    except ModuleNotFoundError as error:
        if error.name in _TRAINING_NEEDS:
            raise MissingExtra(f"ha2g-live {command}", error.name, "train") from error
        raise


if __name__ == "__main__":
    sys.exit(main())
