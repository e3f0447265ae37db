"""Reads a torch pickle of somebody else's without running code in it.

A pickle names classes and functions, and an ordinary reader imports and calls them: whoever wrote
the file decides what runs. Here the names are listed first, without building anything, and a file
with one that a checkpoint has no need of is refused. Then ``torch.load(weights_only=True)`` reads
the rest. The classes of the authors' program (vocabularies, options) and of NumPy are never
imported: an inert stand-in, which only keeps what it is given, takes the place of each.
"""

from __future__ import annotations

import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from pathlib import Path
from typing import IO, Any

import torch

from ha2g_live.realtime.errors import Ha2gError

_TENSORS = {
    "collections.OrderedDict",
    "collections.Counter",
    "builtins.set",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.Size",
    "torch.device",
    "_codecs.encode",  # how bytes are written
    *(
        f"torch.{kind}Storage"
        for kind in (
            *("Float", "Double", "Half", "BFloat16"),
            *("Long", "Int", "Short", "Char", "Byte", "Bool"),
        )
    ),
}
"""What torch itself rebuilds, and safely."""

_ARRAYS = {
    f"{module}.{name}"
    for name in ("_reconstruct", "scalar")
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
} | {"numpy.ndarray", "numpy.dtype"}
_OPTIONS = {"argparse.Namespace"}
_VOCABULARIES = {"Vocab", "Vocabulary"}
_PICKLES = 5
"""Pickles at the start of a file of the older kind: three that say what it is, the contents, the
list of storages."""
_PROTOCOL = 2
_ZIP = b"PK\x03\x04"
_DAMAGED = "is damaged or not a file of torch.save: download it again"


class StandIn:
    """Takes the place of an object of a class that is not imported.

    Attributes:
        values: the attributes that the object had; empty where it was not kept as a dictionary.
    """

    def __init__(self, *_: Any) -> None:
        self.values: dict[Any, Any] = {}

    def __new__(cls, *_: Any) -> StandIn:
        """Make one without a call of ``__init__``, as pickles do."""
        made = super().__new__(cls)
        made.values = {}
        return made

    def __setstate__(self, state: Any) -> None:
        self.values = dict(state) if isinstance(state, dict) else {}


def read_pickle(path: Path) -> Any:
    """The contents of a file of ``torch.save``, on the CPU.

    Raises:
        Ha2gError: the file is missing, damaged, of another kind, or names something that could
            run code.
    """
    path = Path(path)
    if not path.is_file():
        raise Ha2gError(f"there is no file {path}: give the path of a downloaded checkpoint")
    try:
        names = _globals_of(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, RuntimeError) as error:
        raise Ha2gError(f"{path} {_DAMAGED}") from error
    replaced = {name for name in names if _is_replaced(name)}
    refused = sorted(names - replaced - _TENSORS)
    if refused:
        raise Ha2gError(
            f"{path} was not opened: it names {refused[0]!r}, which no checkpoint needs and which "
            "could run code: use only files from the authors themselves"
        )
    try:
        with torch.serialization.safe_globals([_stand_in(name) for name in sorted(replaced)]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, with advice to run the code after all
        raise Ha2gError(f"{path} {_DAMAGED}") from error


def _is_replaced(name: str) -> bool:
    return name in _ARRAYS | _OPTIONS or name.rpartition(".")[2] in _VOCABULARIES


def _stand_in(name: str) -> Any:
    """A class that torch takes for the one called ``name``."""
    module, _, own = name.rpartition(".")
    return type(own, (StandIn,), {"__module__": module, "__qualname__": own})


def _globals_of(path: Path) -> set[str]:
    """Full names of all classes and functions that a file refers to; nothing is built.

    Raises:
        ValueError: it is not a torch file, or a damaged one; EOFError, BadZipFile and RuntimeError
            likewise.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP)) == _ZIP:
            return _globals_of_archive(path)
        file.seek(0)
        names: set[str] = set()
        for number in range(_PICKLES):
            found, protocol = _globals_in(file)
            names |= found
            # The first pickle of torch's is a number. One that names something is not torch's, and
            # what it names is to be said.
            if number == 0 and not found and protocol != _PROTOCOL:
                raise ValueError(f"pickle protocol {protocol}")
            if number == 0 and found:
                break
        return names


def _globals_of_archive(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed, torch never does that")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("its entries overlap")
        contents = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(contents) != 1:
            raise ValueError(f"it has {len(contents)} entries data.pkl")
        with archive.open(contents[0]) as stream:
            names, protocol = _globals_in(stream)
    if protocol != _PROTOCOL and names <= _TENSORS:
        raise ValueError(f"pickle protocol {protocol}")
    return names


def _globals_in(stream: IO[bytes]) -> tuple[set[str], int]:
    """The names in the pickle that starts here, and its protocol."""
    names: set[str] = set()
    protocol = 0
    strings = ["", ""]
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name == "PROTO":
            protocol = int(str(argument))
        elif operation.name in ("GLOBAL", "INST"):
            names.add(_modern(str(argument)))
        elif operation.name == "STACK_GLOBAL":
            # Only protocol 4, which torch does not write: for the message that refuses the file.
            names.add(".".join(strings))
        elif isinstance(argument, str):
            strings = [strings[1], argument]
    return names, protocol


def _modern(reference: str) -> str:
    """Full name of a "module name" pair, which old protocols write as Python 2 called it."""
    module, _, name = reference.partition(" ")
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"
