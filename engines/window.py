"""Windows of HA2G behind the live driver: cached seeds, and a join without a seam.

A window model hears the 34 pose frames before its step and answers for those same frames (section
3.3). Its seed is what was made for the window's *start*: the history kept here, not the newest
poses. The last four frames kept so far are cross-faded with the new window's; with a hop of 30
frames this is the published way to make a long clip, frame for frame, and with a shorter one the
same rule makes the motion follow the voice sooner.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from ha2g_live.engines.base import Capabilities, ModelSpec, State, Stepping
from ha2g_live.engines.nine_bones import to_expressive
from ha2g_live.engines.ted import SEED_FRAMES, STRIDE_FRAMES, WINDOW_FRAMES, skeleton
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.types import F32

DEFAULT_HOP_FRAMES = 3
"""Five windows a second: about a quarter of a core for the published network."""


class WindowModel(Protocol):
    """Runs the network of one window."""

    def predict(self, audio: F32, style: F32, noise: F32, given: F32, known: F32) -> F32:
        """All 34 poses of a window.

        Args:
            audio: (batch, 70, 128) mel columns as ``realtime.features`` makes them.
            style: (batch, styles) weights of the speakers.
            noise: (batch, noise) normal noise of z.
            given: (batch, 34, D) seed poses, directions minus their mean.
            known: (batch, 34) 1 where a pose is given, else 0.

        Returns:
            (batch, 34, D) poses.
        """

    def close(self) -> None:
        """Release the model. May be called twice."""


class WindowEngine(Stepping):
    """Slides a window model along streams; see ``engines.base.Engine``.

    A stream's state is ``history``: the 34 newest poses, as joined. Where windows were skipped, the
    last of them was held meanwhile, and the motion goes on from there.

    Attributes:
        model: what runs a window.
    """

    def __init__(
        self,
        model: WindowModel,
        spec: ModelSpec,
        hop_frames: int | None,
        capabilities: Capabilities | None = None,
    ) -> None:
        hop = DEFAULT_HOP_FRAMES if hop_frames is None else hop_frames
        if not 1 <= hop <= STRIDE_FRAMES:
            raise ConfigError(f"--hop must be in 1..{STRIDE_FRAMES} frames, got {hop}")
        assert spec.windows is not None
        windows = replace(spec.windows, hop_frames=hop)
        self.model = model
        self._capabilities = capabilities or Capabilities()
        self._skeleton = skeleton(windows.skeleton)
        self._hop = hop
        self._given = SEED_FRAMES if windows.seed == "start" else WINDOW_FRAMES - hop
        self._spec = replace(
            spec, windows=windows, state={"history": (WINDOW_FRAMES, windows.pose_dim)}
        )

    @property
    def spec(self) -> ModelSpec:
        """What the opened model is."""
        return self._spec

    @property
    def capabilities(self) -> Capabilities:
        """Where and how it computes."""
        return self._capabilities

    def step(self, audio: F32, style: F32, noise: F32, state: State) -> tuple[F32, State]:
        """One window; see ``engines.base.Engine``."""
        kept = state["history"][:, self._hop :]  # what was made for this window's frames
        given, known = seeded(kept[:, : self._given])
        joined = join(kept, self.model.predict(audio, style, noise, given, known))
        directions = self._skeleton.to_directions(joined[:, -self._spec.timing.frames :])
        if self._skeleton.name == "ted_gesture":
            directions = to_expressive(directions)
        return directions, {"history": joined}

    def close(self) -> None:
        """Release the model."""
        self.model.close()


def seeded(seed: F32) -> tuple[F32, F32]:
    """(batch, n, D) poses at a window's start as a model takes them.

    Returns:
        (batch, 34, D) given poses and (batch, 34) flags, 1 where a pose is given.
    """
    given = np.zeros((len(seed), WINDOW_FRAMES, seed.shape[2]), dtype=np.float32)
    given[:, : seed.shape[1]] = seed
    known = np.zeros(given.shape[:2], dtype=np.float32)
    known[:, : seed.shape[1]] = 1.0
    return given, known


def extended(joined: F32, window: F32) -> F32:
    """(batch, n, D) poses of a long clip, and the window that begins with the last four of them."""
    kept, border = joined[:, :-SEED_FRAMES], joined[:, -SEED_FRAMES:]
    return np.concatenate((kept, join(border, window)), axis=1)


def join(kept: F32, window: F32) -> F32:
    """Go on from the poses kept so far with a new window that begins with the first of them.

    The last four of ``kept`` are cross-faded with the window's poses of the same frames: frame
    ``j`` of these becomes ``old * (4 - j) / 5 + new * (j + 1) / 5``.

    Args:
        kept: (batch, n, D), n in 4..34.
        window: (batch, 34, D).

    Returns:
        (batch, 34, D): earlier frames as kept, later ones as in the window.
    """
    end = kept.shape[1]
    start = end - SEED_FRAMES
    new_share = np.arange(1, SEED_FRAMES + 1, dtype=np.float32)[:, None] / (SEED_FRAMES + 1)
    faded = kept[:, start:] * (1.0 - new_share) + window[:, start:end] * new_share
    return np.concatenate((kept[:, :start], faded, window[:, end:]), axis=1)
