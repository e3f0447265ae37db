"""The authors' checkpoint: what its file holds, checked and cut into our parts.

It is a dictionary: ``pose_dim``, ``epoch``, ``gen_dict_1`` .. (one a level), ``audio_dict``,
``text_dict``, ``dis_dict``, and two vocabularies, ``lang_model`` and ``speaker_model``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ha2g_live.engines.published import Discriminator, Ha2g, Ha2gConfig
from ha2g_live.engines.ted import NAMES, skeleton
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.training.ha2g.checkpoint import Checkpoint
from ha2g_live.training.ha2g.parts import Parts, load_parts, second_name
from ha2g_live.training.ha2g.pickled import StandIn

_PARTS = {"audio_dict": "audio", "text_dict": "text", "dis_dict": "dis"}
_WRAPPER = "module."
_STAGES = (1, 2, 3, 4)
_CONVERTED = (torch.float16, torch.bfloat16, torch.float64)
_FIRST_LEVEL = "g1"
_SPEAKER_TABLE = "feat_extractor.speaker_embedding.0.weight"
_WORD_TABLE = "text_encoder.embedding.weight"
_RECURRENCE = "gru.weight_hh_l0"
_FEATURE = "feat_extractor.fc_low.weight"


def from_published(
    values: Any, source: str, skeleton_name: str | None = None
) -> tuple[Checkpoint, list[str]]:
    """Make our checkpoint of what the authors' file holds.

    Args:
        values: contents of the file, see ``pickled.read_pickle``.
        source: what to call the file.
        skeleton_name: one of ``ted.NAMES``; recognised when left out.

    Returns:
        The checkpoint, and remarks for the user.

    Raises:
        Ha2gError: something is missing, unknown, or does not fit; the line names it.
    """
    if not isinstance(values, Mapping) or not any(key in values for key in (*_PARTS, "gen_dict_1")):
        raise Ha2gError(
            "it is not a checkpoint of HA2G (it has no gen_dict_1): of a run of your own, give "
            "best.pt"
        )
    remarks: list[str] = []
    parts = _parts(values, remarks)
    levels = sum(part.startswith("g") for part in parts)
    config = _config(parts, _skeleton(values, levels, skeleton_name))
    network = Ha2g(config)
    discriminator = Discriminator(network.skeleton.pose_dim)
    load_parts(network, discriminator, parts)
    epoch = values.get("epoch", 0)
    return Checkpoint(
        network.eval(),
        discriminator.eval(),
        speakers=_names(values.get("speaker_model"), config.speakers, "speakers", remarks),
        words=_names(values.get("lang_model"), config.words, "words", remarks),
        seed="start",
        reference="clip",
        text=True,
        epoch=epoch if isinstance(epoch, int) else 0,
        source=source,
    ), remarks


def _parts(values: Mapping[str, Any], remarks: list[str]) -> Parts:
    """The tensors of every part in float32, each checked by itself."""
    names = dict(_PARTS)
    for key in values:
        if match := re.fullmatch(r"gen_dict_([1-9]\d?)", str(key)):
            names[str(key)] = f"g{match[1]}"
    parts: Parts = {}
    converted: Counter[str] = Counter()
    for key, part in names.items():
        stored = values.get(key)
        if not isinstance(stored, Mapping):
            raise Ha2gError(f"the entry {key!r} is missing")
        wrapped = bool(stored) and all(str(name).startswith(_WRAPPER) for name in stored)
        parts[part] = {}
        for name, value in stored.items():
            own = str(name).removeprefix(_WRAPPER) if wrapped else str(name)
            if isinstance(value, Tensor) and value.dtype in _CONVERTED:
                converted[str(value.dtype).removeprefix("torch.")] += 1
            parts[part][own] = _checked(key, own, value)
        remarks += _unlike_pairs(key, parts[part])
    remarks += [f"{count} tensors were {kind}, now float32" for kind, count in converted.items()]
    return parts


def _checked(key: str, name: str, value: Any) -> Tensor:
    where = f"{key}: the tensor {name!r}"
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        raise Ha2gError(f"{where} is not a plain tensor")
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise Ha2gError(f"{where} claims more numbers than the file holds")
    if name.endswith("num_batches_tracked"):
        return value.detach()
    if value.dtype not in (torch.float32, *_CONVERTED):
        raise Ha2gError(f"{where} is {value.dtype}, expected float32")
    plain = value.detach().to(torch.float32)
    if not bool(torch.isfinite(plain).all()):
        raise Ha2gError(f"{where} holds numbers that are not finite: this training went wrong")
    return plain


def _unlike_pairs(key: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Tensors of two names whose values differ: PyTorch, too, would keep the second."""
    return [
        f"{key}: {name!r} and {second!r} are one tensor but differ: the second is taken"
        for name, value in tensors.items()
        if (second := second_name(name)) in tensors and not torch.equal(value, tensors[second])
    ]


def _skeleton(values: Mapping[str, Any], levels: int, asked: str | None) -> str:
    dim = values.get("pose_dim")
    if not isinstance(dim, int | None):
        raise Ha2gError("the entry 'pose_dim' is not a number")
    for name in (asked,) if asked else NAMES:
        bones = skeleton(name)
        if len(bones.levels) == levels and dim in (None, bones.pose_dim):
            return name
    known = "; ".join(
        f"{name} has {len(skeleton(name).levels)} and {skeleton(name).pose_dim}" for name in NAMES
    )
    raise Ha2gError(
        f"it has {levels} levels and poses of {dim} numbers, which is not "
        f"{asked or 'a skeleton known here'} ({known})"
    )


def _config(parts: Parts, name: str) -> Ha2gConfig:
    """All sizes, from the shapes."""
    speakers, style = _shape(parts, "audio", _SPEAKER_TABLE, 2)
    words, text = _shape(parts, _FIRST_LEVEL, _WORD_TABLE, 2)
    one, two, three, four = (
        _shape(parts, "audio", f"feat_extractor.layer{stage}.0.conv1.weight", 4)[0]
        for stage in _STAGES
    )
    if any(channels < 16 or channels % 16 for channels in (one, two, three, four)):
        raise Ha2gError(f"the audio learner has {one}, {two}, {three}, {four} channels")
    return Ha2gConfig(
        skeleton=name,
        speakers=speakers,
        words=words,
        hidden=_shape(parts, _FIRST_LEVEL, _RECURRENCE, 2)[1],
        channels=(one, two, three, four),
        text=text,
        features=_shape(parts, "audio", _FEATURE, 2)[0],
        style=style,
    )


def _shape(parts: Parts, part: str, name: str, axes: int) -> tuple[int, ...]:
    if part not in parts or name not in parts[part]:
        raise Ha2gError(f"{part}: the tensor {name!r} is missing")
    shape = tuple(parts[part][name].shape)
    if len(shape) != axes or 0 in shape:
        raise Ha2gError(f"{part}: the tensor {name!r} has the shape {shape}, expected {axes} axes")
    return shape


def _names(vocabulary: Any, rows: int, what: str, remarks: list[str]) -> tuple[str, ...]:
    """Name of each row of an embedding; rows without one are called by their number."""
    values = vocabulary.values if isinstance(vocabulary, StandIn) else vocabulary
    row_of = values.get("word2index") if isinstance(values, Mapping) else None
    if not isinstance(row_of, Mapping):
        remarks.append(f"the file names no {what}: they are numbered")
        row_of = {}
    names = [f"<{row}>" for row in range(rows)]
    for name, row in row_of.items():
        if not isinstance(row, int) or not 0 <= row < rows:
            raise Ha2gError(
                f"the vocabulary of {what} puts {str(name)!r} in row {row!r} of an embedding of "
                f"{rows}: the file's parts do not belong together"
            )
        # They are printed later, and a terminal obeys some characters.
        names[row] = "".join(c if c.isprintable() else "?" for c in str(name))
    return tuple(names)
