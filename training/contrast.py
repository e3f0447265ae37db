"""Contrastive alignment of sound and phrase, after HA2G's contrast of sound and text.

The paper pulls the high-level audio feature towards the text and keeps the low-level one away
from it (section 3.2). A microphone brings no words; what is aligned with here is the course of
the phrase: where in it a frame lies, how strong it is, which accents came last.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ha2g_live.engines.network import AUDIO_FEATURE

_LOOKS_BACK = (0, 6, 12)  # pose frames
_TEMPERATURE = 0.1
_SAMPLES = 256


class PhraseEncoder(nn.Module):
    """Course of a phrase to the space of the audio features. Only used in training."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features * len(_LOOKS_BACK), 64), nn.ELU(), nn.Linear(64, AUDIO_FEATURE)
        )

    def forward(self, phrase: Tensor) -> Tensor:
        """(B, T, features) -> (B, T - 12, 32), of the frames from the 13th on."""
        longest = max(_LOOKS_BACK)
        past = [phrase[:, longest - back : phrase.shape[1] - back] for back in _LOOKS_BACK]
        embedded: Tensor = self.layers(torch.cat(past, dim=-1))
        return embedded


def contrast(low: Tensor, high: Tensor, phrase: Tensor) -> Tensor:
    """Contrastive loss.

    Args:
        low: (B, T, 32) low-level audio features.
        high: (B, T, 32) high-level ones.
        phrase: (B, T - 12, 32) from a ``PhraseEncoder``.

    Returns:
        Cross entropy of finding each frame's phrase by its high-level feature among others
        (InfoNCE), plus how much the low-level feature gives away of it.
    """
    frames = phrase.shape[1]
    low, high = low[:, -frames:].flatten(0, 1), high[:, -frames:].flatten(0, 1)
    some = torch.randint(0, len(low), (_SAMPLES,))
    found = functional.normalize(phrase.flatten(0, 1)[some], dim=-1)
    near = functional.normalize(high[some], dim=-1) @ found.T / _TEMPERATURE
    away = functional.cosine_similarity(low[some], found.detach(), dim=-1)
    return (
        functional.cross_entropy(near.float(), torch.arange(_SAMPLES))
        + functional.relu(away).mean()
    )
