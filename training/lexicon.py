"""Which gesture clips belong in talk, what kind each is, and how often it is seen.

The table was made by looking at every clip (``clip_sheet.py`` draws them all, the pages are in
``docs/catalogue/``). What is left out has its reason beside it. A clip is named by its set and
motion, ``brad2_Idle01_BeatMidBt01``; an idle of the folder ``idle/`` by its file.
"""

from __future__ import annotations

import re
from types import MappingProxyType

KINDS = ("beat", "open_palm", "deictic", "metaphoric", "shrug", "negation", "listing")
"""Kinds of gesture. Listing: one hand sets an item, an example or an aside beside the others."""

_KIND_OF_FAMILY = {
    "beatlow": "beat",
    "beatfist": "beat",
    "beatpoint": "beat",
    "beatforward": "beat",
    "chop": "beat",
    "beatflip": "open_palm",
    "beatmid": "open_palm",
    "offer": "open_palm",
    "plea": "open_palm",
    "receive": "open_palm",
    "beathigh": "metaphoric",
    "inclusivitypos": "metaphoric",
    "surround": "metaphoric",
    "when": "metaphoric",
    "frame": "metaphoric",
    "empty": "metaphoric",
    "safe": "metaphoric",
    "besides": "listing",
    "example": "listing",
    "however": "listing",
    "me": "deictic",
    "we": "deictic",
    "here": "deictic",
    "you": "deictic",
    "youaside": "deictic",
    "indicate": "deictic",
    "point": "deictic",
    "deictic": "deictic",
    "shrug": "shrug",
    "negative": "negation",
    "inclusivityneg": "negation",
    "negateforward": "negation",
    "negateaside": "negation",
    "no": "negation",
    "noaside": "negation",
    "stop": "negation",
    "stopaside": "negation",
}

FAMILY_WEIGHT = MappingProxyType({
    "beatlow": 1.0,
    "beatfist": 0.7,
    "beatpoint": 0.7,
    "beatforward": 2.5,
    "chop": 2.5,
    "beatflip": 3.0,
    "beatmid": 3.0,
    "offer": 2.5,
    "plea": 2.0,
    "receive": 1.0,
    "beathigh": 1.2,
    "inclusivitypos": 1.5,
    "surround": 1.5,
    "when": 1.5,
    "frame": 1.0,
    "empty": 1.0,
    "safe": 0.8,
    "besides": 1.2,
    "example": 1.2,
    "however": 1.2,
    "me": 0.6,
    "we": 1.0,
    "here": 1.0,
    "you": 0.5,
    "youaside": 0.15,
    "indicate": 0.5,
    "point": 0.15,
    "deictic": 0.1,
    "shrug": 0.4,
    "negative": 0.6,
    "inclusivityneg": 0.7,
    "negateforward": 0.4,
    "negateaside": 0.1,
    "no": 0.2,
    "noaside": 0.1,
    "stop": 0.1,
    "stopaside": 0.05,
})  # fmt: skip
"""How often each family is seen in ordinary talk, against each other.

People mostly make beats and open palms. A voice does not say when somebody is pointed at, denied
or stopped, so those are rare. ``...aside`` turns to somebody beside the listener.
"""

SHIFT_WEIGHT = 0.1
"""How often somebody at rest shifts their weight, against standing quietly.

Both files of ``idle/`` are pleasant for minutes: breathing, small sways, slow glances of up to
28 degrees. A weight shift leans 7 degrees aside and the head follows: often, that is noticed.
"""

_STRETCH, _SCRATCH = "stretching", "scratching"
_LEFT_OUT_FAMILY = {
    "armstretch": _STRETCH,
    "shoulderstretch": _STRETCH,
    "scratchchest": _SCRATCH,
    "scratchhead": _SCRATCH,
    "scratchtemple": _SCRATCH,
    "squeezehand": "fidgeting",
    "touchhands": "fidgeting",
    "contemplate": "touches the face",
    "think": "a thinking pose",
    "toidle": "changes between postures",
    "toidlefight": "takes a boxer's guard",
    "throwaway": "stands with crossed arms",
}

_COPIES = {
    # One performance on two bodies: brad2's has the better times and elbows.
    **{
        f"brad_Idle01_{motion}": f"brad2_Idle01_{motion}"
        for motion in (
            "BeatHighBt01",
            "BeatHighLf01",
            "BeatMidBt01",
            "BeatMidLf01",
            "ChopLf01",
            "ExampleLf01",
            "IndicateLeftBt01",
            "IndicateLeftLf01",
            "IndicateRightBt01",
            "IndicateRightRt01",
            "NegativeBt01",
            "NegativeBt02",
            "NegativeRt01",
            "OfferLf01",
            "PleaBt02",
            "PointLf01",
            "ReceiveRt01",
            "SafeLf01",
            "WeightShift01",
            "WeightShift02",
            "YouLf01",
        )
    },
    "brad_Idle01_ChopBt01": "brad2_Idle01_ChopBoth01",
    # The same with a longer hold.
    "brad_Idle01_BeatHighBt02": "brad2_Idle01_BeatHighBt01",
    "brad2_Idle01_BeatHighBt02": "brad2_Idle01_BeatHighBt01",
    # The mirror image.
    "brad2_Idle01_ChopRt02": "brad2_Idle01_ChopLf02",
    "brad2_Idle01_YouRt01": "brad2_Idle01_YouLf03",
}
_RELATED = {
    # Different enough to use both, but nothing that tests unseen clips may tell apart.
    "brad_Idle01_HoweverLf01": "brad2_Idle01_HoweverLf01",
    "brad_Idle01_MeLf01": "brad2_Idle01_MeLf01",
    "brad_Idle01_OfferBoth01": "brad2_Idle01_OfferBoth01",
    "brad2_Idle01_NegativeBt02": "brad2_Idle01_NegativeBt01",
    "brad_Idle01_NegativeBt02": "brad2_Idle01_NegativeBt01",
}

_PLACEHOLDER = "placeholder times"
_THIGH = "hand hardly leaves the thigh"
_HANGING = "arms hang, only the shoulders move"
_FACE = "hand held before the face"
_ASIDE_TURN = "head turns 45 degrees or more away"
_LEFT_OUT_CLIP = {
    "brad_Idle01_ChopBoth01": _PLACEHOLDER,
    "brad_Idle01_NegativeLf01": _PLACEHOLDER,
    "brad_Idle01_ReceiveLf01": _PLACEHOLDER,
    "brad_Idle01_SafeRt01": _PLACEHOLDER,
    **{
        f"{set_name}_Idle01_BeatLow{mark}": _THIGH
        for set_name in ("brad", "brad2")
        for mark in ("Bt01", "Lf01", "Lf02", "Rt01")
    },
    "brad_Idle02_BeatLowLf01": _THIGH,
    "brad2_Idle01_Shrug01": _HANGING,
    "brad_Idle01_Shrug01": _HANGING,
    "brad_Idle02_Shrug01": _HANGING,
    "brad_Idle03_Shrug01": _HANGING,
    "connor_IdleStand01_NegateLeftMidRt01": _FACE,
    "connor_IdleStand01_YouForwardRt01": _FACE,
    **{
        f"connor_IdleStand01_{motion}": _ASIDE_TURN
        for motion in (
            "NegateRightLowBt01",
            "NegateRightLowRt01",
            "NegateRightMidBt01",
            "NegateRightMidRt01",
            "StopRightBt01",
            "StopRightRt01",
        )
    },
}

_KIND_OF_CLIP = {
    # Low open hands to both sides, as one says that nothing can be done.
    "brad_Idle02_PleaBt01": "shrug",
}

_HANDS_OF_CLIP = {
    # Named for the left hand; the right one moves, and the other way round.
    "brad_Idle01_NegativeLf01": "right",
    "brad_Idle01_ReceiveLf01": "right",
    "brad_Idle03_ReceiveLf01": "right",
    "brad_Idle01_SafeRt01": "left",
    # Not in the name.
    "brad_Idle03_DeicticLeft": "left",
    "brad_Idle03_DeicticRight": "right",
}
_HANDS = {"Lf": "left", "Rt": "right", "Bt": "both", "Bo": "both"}

REST_POSES = MappingProxyType({
    "sides": ("hifi_idle", 5.0),
    "together": ("brad2_Idle01_NegativeBt03", 0.33),
    "belly": ("brad2_Idle01_InclusivityPosBt01", 0.33),
    "fingertips": ("brad2_Idle01_InclusivityNegBt01", 0.33),
    "front": ("brad2_Idle01_SurroundBt01", 0.3),
    "ready": ("garza_IdleStand01_BeatFlipBt01", 1.2),
    "hips": ("brad_Idle03_ToIdle01", 0.0),
    "clasped": ("brad2_Idle01_TouchHands01", 3.2),
    "hip": ("brad2_Idle01_Think01", 2.67),
    "crossed": ("connor_IdleCross01_ThrowAwayRt01", 0.0),
})  # fmt: skip
"""Arms at rest for styles: clip and time in seconds. Only the arms and hands are meant.

sides: hanging. together: hands side by side, low before the belly. belly: the same, a little
higher and farther forward. fingertips: the fingertips meet before the belly. front: arms loosely
bent, hands low in front of the thighs. ready: bent further, palms half up. hips: both hands on
the hips. clasped: one hand holds the other before the belly. hip: the left hand on the hip, the
right one hanging. crossed: arms crossed.
"""

ONE_SIDED_POSES = frozenset({"clasped", "hip", "crossed"})
"""Rest poses that must not be made symmetrical: hands would go through each other."""

_FAMILY = re.compile(
    r"(Beat(?:Flip|Forward|High|Mid|Low|Fist|Point)|Inclusivity(?:Pos|Neg)|NegateForward"
    r"|Arm[A-Z][a-z]+|Shoulder[A-Z][a-z]+|Scratch[A-Z][a-z]+|Squeeze[A-Z][a-z]+|Touch[A-Z][a-z]+"
    r"|ToIdle(?:Fight)?|ThrowAway|WeightShift|[A-Z][a-z]+)(Left|Right)?"
)
_ASIDE = ("negate", "no", "stop", "you")


def clip_name(set_name: str, motion: str) -> str:
    """Name of a clip: set ``brad2`` and motion ``ChrBrad@Idle01_ChopLf01`` in one."""
    return f"{set_name}_{motion.rsplit('@', maxsplit=1)[-1]}"


def family_of(motion: str) -> str:
    """Family of a motion or clip by its name, "" where there is none.

    ``ChrBrad@Idle01_BeatLowLf02`` is of the family ``beatlow``.
    """
    found = _FAMILY.match(motion.rsplit("_", 1)[-1])
    if found is None:
        return ""
    family = found[1].lower()
    return f"{family}aside" if found[2] and family in _ASIDE else family


def kind_of(name: str) -> str:
    """One of ``KINDS`` for a clip, "" where it is no gesture of talk."""
    return _KIND_OF_CLIP.get(name, _KIND_OF_FAMILY.get(family_of(name), ""))


def idle_weight(name: str) -> float:
    """How often a clip of standing at rest is seen, against others; 0 for a gesture."""
    return {"": 1.0, "weightshift": SHIFT_WEIGHT}.get(family_of(name), 0.0)


def left_out(name: str) -> str | None:
    """Why a clip, a gesture or an idle, is not used; None when it is."""
    family = family_of(name)
    reason = _LEFT_OUT_FAMILY.get(family) or _LEFT_OUT_CLIP.get(name)
    if reason is None and name in _COPIES:
        reason = f"the same as {_COPIES[name]}"
    if reason is None and not kind_of(name) and not idle_weight(name):
        reason = "not known to the lexicon"
    return reason


def performance_of(name: str) -> str:
    """Name that all versions of one performance share.

    Clips with the same name here are copies or near copies (another body, mirrored, a longer
    hold): a split into clips for training and for testing must keep them together.
    """
    name = _COPIES.get(name, name)
    return _RELATED.get(name, name)


def hands_of(name: str) -> str:
    """Which hands make the gesture: "left", "right" or "both"."""
    mark = re.search(r"(Lf|Rt|Bt|Bo)(?:th)?\d*$", name)
    return _HANDS_OF_CLIP.get(name) or (_HANDS[mark[1]] if mark else "both")


def begins_in(name: str) -> str:
    """The rest pose a clip begins and ends in: "sides", "hips" or "crossed".

    The other hand of a one-handed gesture stays there.
    """
    if "_Idle03_" in name:
        return "hips"
    return "crossed" if "_IdleCross01_" in name else "sides"


def verdict(name: str) -> tuple[str, bool]:
    """What the catalogue says of a clip, and whether it is used."""
    reason = left_out(name)
    if reason is not None:
        return f"left out: {reason}", False
    return f"used: {kind_of(name) or 'idle'}", True
