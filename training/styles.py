"""The speaker styles the planner plays, each a speaker of the model."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Style:
    """How a speaker gestures.

    Attributes:
        name: speaker style of the model.
        gap_s: typical seconds from one movement to the next while speech runs.
        accent: how strong an onset must be to carry a movement, in standard deviations.
        start: chance that the first sound of a phrase raises the hands at once.
        size: size of the movements, 1 = as recorded.
        both: share of two-handed clips; the others have a second hand that follows.
        left: share of the left hand in one-handed clips.
        follow: how far the second hand follows a one-handed clip.
        tap: share of small beats among the movements of a chain.
        nod: size of the head's movements.
        drift: how much held hands move.
        rest: pose at rest, a name of ``lexicon.REST_POSES``; "" for arms that hang.
        kinds: how much more often than usual a kind of gesture is made.
    """

    name: str
    gap_s: float = 0.3
    accent: float = -1.0
    start: float = 1.0
    size: float = 1.43
    both: float = 0.55
    left: float = 0.5
    follow: float = 0.85
    tap: float = 0.06
    nod: float = 1.15
    drift: float = 1.6
    rest: str = ""
    kinds: dict[str, float] = field(default_factory=dict)


STYLES = (
    Style("natural"),
    Style("calm", gap_s=0.6, accent=-0.4, start=0.95, size=1.1, drift=0.8, tap=0.12, nod=0.8),
    Style("lively", gap_s=0.18, accent=-9.0, size=1.5, drift=2.2, nod=1.4),
    Style(
        "presenter",
        gap_s=0.42,
        left=0.2,
        rest="together",
        kinds={"listing": 3.0, "deictic": 2.0, "open_palm": 1.5, "shrug": 0.3},
    ),
    Style(
        "shy",
        gap_s=0.9,
        accent=0.0,
        start=0.6,
        size=0.7,
        drift=0.5,
        tap=0.3,
        nod=0.9,
        rest="belly",
        kinds={"beat": 2.0, "shrug": 1.5, "deictic": 0.4, "metaphoric": 0.4},
    ),
    Style(
        "cheerful",
        gap_s=0.26,
        size=1.4,
        both=0.75,
        nod=1.5,
        kinds={"open_palm": 2.5, "metaphoric": 1.5, "negation": 0.4},
    ),
    Style(
        "serious",
        gap_s=0.5,
        accent=-0.2,
        size=1.0,
        drift=0.7,
        tap=0.25,
        nod=0.7,
        rest="front",
        kinds={"beat": 2.5, "negation": 1.5, "shrug": 0.2, "open_palm": 0.6},
    ),
    Style(
        "storyteller",
        gap_s=0.42,
        size=1.5,
        drift=1.6,
        both=0.7,
        tap=0.02,
        nod=1.3,
        kinds={"metaphoric": 3.0, "deictic": 2.0, "beat": 0.5},
    ),
    Style("one_handed", gap_s=0.36, both=0.0, left=0.1, follow=0.12, rest="front"),
)
"""The default first; speaker ids of the model in this order."""
