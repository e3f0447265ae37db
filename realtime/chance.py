"""Chance as a function of time: the same for the same seed and moment, with no memory.

A number is the hash of a seed, a channel and a slot, so any moment can be had without those before
it, at any frame rate, and two hours later nothing comes again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ha2g_live.realtime.kernel import kernel

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


@kernel
def mixed(x: Any) -> Any:
    """One round of splitmix64 (Steele, Lea and Flood, 2014)."""
    x += _GOLDEN
    x = (x ^ (x >> _S30)) * _MIX_1
    x = (x ^ (x >> _S27)) * _MIX_2
    return x ^ (x >> _S31)


@kernel
def chance(seed: np.uint64, channel: int, slot: int) -> float:
    """A number in 0..1."""
    x = mixed(mixed(seed + np.uint64(channel) * _GOLDEN) + np.uint64(slot + 1_000_000))
    return float(x >> _S11) * 2.0**-53


@kernel
def eased(share: float) -> float:
    """From 0 at 0 to 1 at 1 with no speed and no acceleration at the ends (minimum jerk)."""
    s = min(max(share, 0.0), 1.0)
    return s * s * s * (10.0 + s * (6.0 * s - 15.0))


@kernel
def drift(seed: np.uint64, channel: int, x: float) -> float:
    """Smooth noise in about -1..1, with a new random slope at each whole ``x``.

    Gradient noise after K. Perlin, "Improving Noise", SIGGRAPH 2002, in one dimension.
    """
    left = math.floor(x)
    t = x - left
    a = 2.0 * chance(seed, channel, int(left)) - 1.0
    b = 2.0 * chance(seed, channel, int(left) + 1) - 1.0
    share = eased(t)
    return 2.0 * ((1.0 - share) * a * t + share * b * (t - 1.0))


@kernel
def wander(seed: np.uint64, channel: int, now_s: float, slow_s: float) -> float:
    """Smooth noise of three time scales, the slower the larger, as bodies sway."""
    return (
        0.60 * drift(seed, channel, now_s / slow_s)
        + 0.30 * drift(seed, channel + 1, 2.13 * now_s / slow_s + 0.37)
        + 0.15 * drift(seed, channel + 2, 4.71 * now_s / slow_s + 0.71)
    )
