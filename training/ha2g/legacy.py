"""An interpreter with an old pyarrow, in an environment of its own, and what runs there.

The records of the published LMDB folders are ``pyarrow.serialize``. The last release of pyarrow
that was seen to have it is 11.0.0, with wheels for Python 3.8 to 3.11. The environment is made
once, in the user's cache folder; ha2g-live's own packages stay as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.options import say
from ha2g_live.training.ha2g import unpack

PINS = ("pyarrow==11.0.0", "numpy==1.26.4", "lmdb==1.5.1")
_NEWEST = (3, 11)
_OLDEST = (3, 9)  # of numpy 1.26
_SIZE_MB = 220
_SCRIPT = Path(unpack.__file__).resolve()
_PROBE = "import lmdb, numpy, pyarrow; pyarrow.SerializationContext"


class LegacyError(Ha2gError):
    """The published records cannot be read: no interpreter for them, or they are damaged."""


def cache_folder() -> Path:
    """Where the environment is kept: ``HA2G_LIVE_CACHE``, or the system's place for caches."""
    chosen = os.environ.get("HA2G_LIVE_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "ha2g-live" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ha2g-live"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ha2g-live"


def legacy_python(given: Path | None = None) -> Path:
    """An interpreter that reads the records; made on the first call, which takes a minute or so.

    Args:
        given: an interpreter that has the packages already.

    Raises:
        LegacyError: the given one has not, or none can be made.
    """
    wanted = f"needs  pip install {' '.join(PINS)}"
    if given is not None:
        fault = _fault(given)
        if fault:
            raise LegacyError(f"{given} cannot read the published records ({fault}): it {wanted}")
        return given
    folder = cache_folder() / f"legacy-{'-'.join(PINS).replace('==', '-')}"
    python = _python_in(folder)
    if python.exists():
        if not _fault(python):
            return python
        say(f"{folder} does not work any more and is made again")
        shutil.rmtree(folder, ignore_errors=True)
    _make(folder, base_python())
    fault = _fault(python)
    if fault:
        raise LegacyError(f"{folder} was made but does not work ({fault}): give --legacy-python")
    return python


def read_records(python: Path, folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The messages of ``unpack.py read``: "start", "clip" and "record", not "end".

    Raises:
        LegacyError: the folder cannot be read to its end.
    """
    with tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(
            [str(python), "-I", str(_SCRIPT), "read", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
        output = cast(IO[bytes], child.stdout)
        try:
            while True:
                try:
                    message = unpack.receive(output)  # type: ignore[arg-type]
                except (unpack.Refused, ValueError, KeyError, TypeError):
                    message = None  # the child's own words, or its signal, say more
                if message is None:
                    raise LegacyError(f"{folder} cannot be read: {_last_words(child, complaints)}")
                if message[0]["kind"] == "end":
                    return
                yield message
        finally:
            output.close()
            child.kill()
            child.wait()


def write_records(
    python: Path, folder: Path, messages: Iterator[tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    """Send messages to ``unpack.py write``.

    Raises:
        LegacyError: the folder cannot be written.
    """
    with tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(
            [str(python), "-I", str(_SCRIPT), "write", str(folder)],
            stdin=subprocess.PIPE,
            stderr=complaints,
        )
        pipe = cast(IO[bytes], child.stdin)
        try:
            for header, arrays in messages:
                unpack.send(pipe, header, arrays)  # type: ignore[arg-type]
            pipe.close()
        except BrokenPipeError:
            pass  # it stopped; below is why
        except BaseException:
            child.kill()
            raise
        finally:
            child.wait()
        if child.returncode:
            raise LegacyError(f"{folder} cannot be written: {_last_words(child, complaints)}")


def _last_words(child: subprocess.Popen[bytes], complaints: IO[bytes]) -> str:
    code = child.wait()
    complaints.seek(0)
    lines = complaints.read().decode("utf-8", "replace").strip().splitlines()
    if code < 0:
        return f"the reader crashed (signal {-code}), the files are damaged or cut: copy them again"
    last = lines[-1] if lines else f"the reader ended with status {code} and no word"
    return f"{last}: copy the folder again, or leave it out"


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _fault(python: Path) -> str:
    """Why an interpreter cannot do it; empty if it can."""
    command = [str(python), "-I", "-W", "ignore", "-c", _PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = done.stderr.strip().splitlines()
    return (lines[-1] if lines else f"status {done.returncode}") if done.returncode else ""


def base_python() -> str:
    """A Python that the packages have wheels for.

    Raises:
        LegacyError: there is none on this computer.
    """
    if _OLDEST <= sys.version_info[:2] <= _NEWEST:
        return sys.executable
    for minor in range(_NEWEST[1], _OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            return found
    if sys.platform == "win32" and shutil.which("py"):
        for minor in range(_NEWEST[1], _OLDEST[1] - 1, -1):
            command = ["py", f"-3.{minor}", "-c", "import sys; print(sys.executable)"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return done.stdout.strip()
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    pins = " ".join(PINS)
    raise LegacyError(
        f"the published records need {PINS[0]}, which Python {here} cannot install: install "
        f"Python 3.11 and run this again, or run  uv venv --python 3.11 legacy  and  uv pip "
        f"install --python legacy {pins}  and add  --legacy-python {_python_in(Path('legacy'))}"
    )


def _make(folder: Path, base: str) -> None:
    say(
        f"the published records need {PINS[0]}: installing {', '.join(PINS)} once into {folder} "
        f"(about {_SIZE_MB} MB on disk; delete it when you like)"
    )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix="making-", dir=folder.parent))
    except OSError as error:
        raise LegacyError(
            f"{folder.parent} cannot be written ({error}): set HA2G_LIVE_CACHE to a folder of yours"
        ) from error
    try:
        _run([base, "-m", "venv", str(unfinished)], "make an environment")
        pip = [str(_python_in(unfinished)), "-m", "pip", "--disable-pip-version-check", "install"]
        _run([*pip, "--only-binary", ":all:", *PINS], f"install {', '.join(PINS)}")
        try:
            unfinished.rename(folder)
        except OSError:
            if not _python_in(folder).exists():  # else another run was faster
                raise
    except OSError as error:
        raise LegacyError(
            f"{folder} cannot be made ({error}): set HA2G_LIVE_CACHE or give --legacy-python"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _run(command: list[str], what: str) -> None:
    """Run a command whose lines are shown as it works."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        last = ""
        for line in cast(IO[str], child.stdout):
            if line.strip():
                last = line.strip()
                if last.startswith(("Collecting", "Downloading", "Installing", "Using cached")):
                    say(last)
                elif last.startswith("ERROR"):
                    break
        child.communicate()
    if child.returncode:
        raise LegacyError(
            f"cannot {what} with {command[0]} ({last}): check the network, or give --legacy-python "
            f"an interpreter that has {' '.join(PINS)}"
        )
