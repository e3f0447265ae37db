"""Word vectors from a file in the plain text format of fastText, GloVe and word2vec."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ha2g_live.engines.published import Ha2g, TextEncoder
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.types import F32


def read_embeddings(path: Path, words: Sequence[str], width: int) -> dict[int, F32]:
    """The vectors of a vocabulary's words.

    A line holds a word and its numbers, separated by blanks. A first line of two counts is passed
    over. Where a word comes twice, its first line holds.

    Args:
        path: the file, UTF-8.
        words: the vocabulary.
        width: numbers of a vector.

    Returns:
        Index of the word to (width,) float32, for the words that the file has.

    Raises:
        ConfigError: the file is missing, not of this format, or of another width.
    """
    index_of = {word: i for i, word in enumerate(words) if word}
    found: dict[int, F32] = {}
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                word, _, rest = line.rstrip().partition(" ")
                if (number == 1 and rest.isdecimal()) or not rest:
                    continue
                if (i := index_of.get(word)) is not None and i not in found:
                    found[i] = _vector(rest, width, f"{path}, line {number} ({word!r})")
    except OSError as error:
        raise ConfigError(f"--embeddings: {path} cannot be read ({error})") from error
    if not found:
        raise ConfigError(
            f"--embeddings: {path} has none of the data set's {len(index_of)} words: it must be a "
            "text file with a word and its numbers on a line"
        )
    return found


def _vector(text: str, width: int, where: str) -> F32:
    try:
        vector = np.array([float(part) for part in text.split()], dtype=np.float32)
    except ValueError as error:
        raise ConfigError(f"--embeddings: {where} holds what is not a number: {error}") from error
    if len(vector) != width or not np.isfinite(vector).all():
        raise ConfigError(
            f"--embeddings: {where} has {len(vector)} numbers, expected {width} finite ones: "
            "choose --text-width to fit"
        )
    return vector


@torch.no_grad()
def set_embeddings(network: Ha2g, vectors: dict[int, F32]) -> None:
    """Put vectors into the word embedding of every text encoder; other rows stay as drawn."""
    rows = torch.tensor(list(vectors))
    values = torch.from_numpy(np.stack(list(vectors.values())))
    for module in network.modules():
        if isinstance(module, TextEncoder):
            module.embedding.weight[rows] = values
