"""The command ``ha2g-live serve``: many streams on one computer."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.options import Parser, add_model_arguments, say
from ha2g_live.realtime.signals import interrupting

TOKEN_VARIABLE = "HA2G_LIVE_TOKEN"
_STATUS_S = 1.0


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        prog="ha2g-live serve",
        description="Serve many streams: each WebSocket connection sends a voice and gets the "
        "motion of its avatar (docs/serve.md). The address in a browser is a page that uses your "
        "microphone.",
        allow_abbrev=False,
    )
    made.add_argument("--ws", required=True, metavar="[HOST:]PORT", help="address to listen on")
    made.add_argument(
        "--token",
        help="what clients must know; one is made up and printed when left out, "
        f"or taken from the variable {TOKEN_VARIABLE}; an empty one asks for none",
    )
    made.add_argument("--fps", type=float, default=30.0, help="frames a second, 24 to 144 (30)")
    made.add_argument("--max-streams", type=int, metavar="N", help="never more than these")
    made.add_argument(
        "--max-load",
        type=float,
        default=0.8,
        metavar="CORES",
        help="refuse a stream that would take the program beyond this (0.8)",
    )
    made.add_argument("--avatar", type=Path, metavar="FILE", help="whose body moves")
    made.add_argument("--cert", type=Path, metavar="FILE.pem", help="certificate, for https")
    made.add_argument("--key", type=Path, metavar="FILE.pem", help="its key")
    made.add_argument("--stats", type=Path, metavar="FILE.json", help="write counters at the end")
    made.add_argument("--quiet", action="store_true", help="no status line and no summary")
    add_model_arguments(made)
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    if (options.cert is None) != (options.key is None):
        raise ConfigError("https needs both --cert and --key")

    from ha2g_live.clients.address import parse_ws
    from ha2g_live.clients.serve import StreamServer, summary_line
    from ha2g_live.engines import open_engine
    from ha2g_live.realtime.avatar import read_avatar
    from ha2g_live.realtime.hall import Hall
    from ha2g_live.realtime.stats import check_writable, machine, write_summary

    host, port = parse_ws(options.ws)
    token = options.token
    if token is None:
        token = os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(12)
    if options.stats is not None:
        check_writable(options.stats)
    avatar = None if options.avatar is None else read_avatar(options.avatar)
    engine = open_engine(options.engine, options.model, options.threads, options.hop)
    hall = Hall(engine, options.fps, options.max_streams, options.max_load)
    tls = None if options.cert is None else (options.cert, options.key)
    server = StreamServer(hall, host, port, token, avatar, tls=tls)

    def ready() -> None:
        page = server.address + (f"#token={token}" if token else "")
        say(f"listening on {host}:{server.port}; a page with your microphone: {page}")

    async def serve() -> None:
        stop = asyncio.Event()
        status = asyncio.create_task(_status(hall, options.quiet))
        try:
            await server.run(ready, stop)
        finally:
            status.cancel()

    async def _status(hall: Hall, quiet: bool) -> None:
        while not quiet and sys.stderr.isatty():
            await asyncio.sleep(_STATUS_S)
            sys.stderr.write(f"\r\x1b[K{summary_line(hall.summary())}")
            sys.stderr.flush()

    try:
        with interrupting():
            asyncio.run(serve())
    except KeyboardInterrupt:
        pass
    finally:
        engine.close()
    summary = hall.summary()
    if options.stats is not None:
        write_summary(options.stats, {**summary, "machine": machine()})
    if not options.quiet:
        say(f"{summary['streams']} streams, {summary['frames']} frames; {summary_line(summary)}")
    return 0
