"""Writes a checkpoint as the authors' program does, with the golden weights.

    python -m tests.published_checkpoint FILE.bin ted_expressive

The vocabularies are objects of a class in a module that exists only while the file is written, so
that whoever reads it cannot import it.
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ha2g_live.engines.ted import NAMES
from ha2g_live.training.golden import golden_network
from ha2g_live.training.ha2g.parts import Parts, to_parts

AUTHORS_MODULE = "a_program_of_the_authors.vocabulary"
ENTRIES = {"audio": "audio_dict", "text": "text_dict", "dis": "dis_dict"}


def golden_parts(which: str, salt: str = "ha2g") -> Parts:
    """Tensors by part and published name, of ``expressive`` or ``gesture``."""
    return to_parts(*golden_network(salt, which))


@contextmanager
def authors_classes() -> Iterator[type]:
    """The authors' class of vocabularies, which can be imported only in here."""
    package, _, _ = AUTHORS_MODULE.partition(".")
    vocabulary = type("Vocab", (), {"__module__": AUTHORS_MODULE})
    module = types.ModuleType(AUTHORS_MODULE)
    module.Vocab = vocabulary  # type: ignore[attr-defined]
    sys.modules[package] = types.ModuleType(package)
    sys.modules[AUTHORS_MODULE] = module
    try:
        yield vocabulary
    finally:
        del sys.modules[package], sys.modules[AUTHORS_MODULE]


def _vocabulary(kind: type, names: list[str], width: int | None) -> Any:
    made = kind()
    made.word2index = {name: i for i, name in enumerate(names)}
    made.index2word = dict(enumerate(names))
    made.n_words = len(names)
    made.word_embedding_weights = (
        None if width is None else np.zeros((len(names), width), dtype=np.float32)
    )
    return made


def published_values(parts: Parts, kind: type) -> dict[str, Any]:
    """The dictionary that the authors' program saves; ``kind`` is the class of vocabularies."""
    pose_dim = parts["dis"]["pre_conv.0.weight"].shape[1]
    speakers = len(parts["audio"]["feat_extractor.speaker_embedding.0.weight"])
    word_count, width = parts["text"]["embedding.weight"].shape
    words = ["<PAD>", "<UNK>", *(f"word{i}" for i in range(2, word_count))]
    return {
        "args": argparse.Namespace(name="ha2g", n_poses=34, mean_dir_vec=[0.0] * pose_dim),
        "epoch": 31,
        "lang_model": _vocabulary(kind, words, width),
        "speaker_model": _vocabulary(kind, [f"video{i}" for i in range(speakers)], None),
        "pose_dim": pose_dim,
        **{ENTRIES.get(part, f"gen_dict_{part[1:]}"): dict(names) for part, names in parts.items()},
    }


def write(path: Path, parts: Parts, legacy: bool = False, **changed: Any) -> Path:
    """Write a checkpoint; ``changed`` replaces entries, None removes one.

    Args:
        path: the file.
        parts: the tensors.
        legacy: in the format that torch wrote before 1.6.
        changed: entries of the dictionary.
    """
    with authors_classes() as kind:
        values = {**published_values(parts, kind), **changed}
        kept = {key: value for key, value in values.items() if value is not None}
        torch.save(kept, path, _use_new_zipfile_serialization=not legacy)
    return path


if __name__ == "__main__":
    out, skeleton_name = sys.argv[1:]
    assert skeleton_name in NAMES
    write(Path(out), golden_parts(skeleton_name.removeprefix("ted_")))
