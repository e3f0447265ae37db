"""The command ``ha2g-live engines lower``: a model file in lower precision, to be measured.

ha2g-live engines lower int8 --out int8.onnx
ha2g-live engines compare onnx onnx --other-model int8.onnx --minutes 10
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ha2g_live.engines import model_path
from ha2g_live.engines.base import SPEC_KEY, ModelSpec
from ha2g_live.engines.cache import write_whole
from ha2g_live.realtime.errors import ConfigError, MissingExtra, ModelError
from ha2g_live.realtime.options import Parser, say

LOWER = ("fp16", "int8")


def lowered(path: Path, precision: str) -> bytes:
    """A model file that computes in lower precision and says so.

    Args:
        path: an exported model of single precision.
        precision: one of ``LOWER``.

    Raises:
        MissingExtra: onnx is not installed.
        ModelError: the file is not such a model, or cannot be lowered.
    """
    try:
        import onnx

        from ha2g_live.engines.eight_bit import eight_bit
        from ha2g_live.engines.half import halved
    except ImportError as error:
        raise MissingExtra("a model in lower precision", str(error.name), "train") from error
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf raises classes of its own
        raise ModelError(f"{path} is not a readable ONNX model ({error}): check --model") from None
    entries = {entry.key: entry.value for entry in model.metadata_props}
    spec = ModelSpec.from_metadata(entries, str(path))
    if spec.precision != "fp32" or spec.windows is not None:
        raise ModelError(f"{path} is no live model in fp32: give --model one that is")
    made = halved(model) if precision == "fp16" else eight_bit(model)
    entries[SPEC_KEY] = replace(spec, precision=precision).to_json()
    del made.metadata_props[:]
    onnx.helper.set_model_props(made, entries)
    return bytes(made.SerializeToString())


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: arguments behind ``engines lower``.

    Raises:
        Ha2gError: the model cannot be read, lowered or written.
    """
    parser = Parser(
        prog="ha2g-live engines lower",
        description="Write a model in lower precision. Whether it may take the place of the "
        "other says  ha2g-live engines compare onnx onnx --other-model FILE --minutes 10",
    )
    parser.add_argument("precision", choices=LOWER)
    parser.add_argument("--model", type=Path, metavar="FILE", help="the model (the bundled one)")
    parser.add_argument("--out", type=Path, metavar="FILE.onnx", required=True)
    options = parser.parse_args(argv)
    content = lowered(model_path(options.model), options.precision)
    try:
        write_whole(options.out, content)
    except OSError as error:
        raise ConfigError(
            f"cannot write {options.out} ({error.strerror}): choose another file for --out"
        ) from None
    say(f"wrote {options.out}, {len(content) / 1e6:.1f} MB")
    return 0
