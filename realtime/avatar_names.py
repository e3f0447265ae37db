"""Which node of an avatar's file is which humanoid bone.

VRM files say so. In a plain .glb it is told by the names that common tools give: Mixamo, Unreal's
mannequin, 3ds Max bipeds, VRoid, Blender, and plain words.
"""

from __future__ import annotations

import re
from typing import Any

from ha2g_live.realtime.gltf import Glb, index_of, obj, objects
from ha2g_live.realtime.humanoid import BONE_INDEX, BONE_NAMES

_THUMB_1 = {"Metacarpal": "Proximal", "Proximal": "Intermediate", "Distal": "Distal"}
_FINGERS = ("thumb", "index", "middle", "ring", "little")


def vrm1_nodes(glb: Glb) -> dict[int, int]:
    """Node of each bone of a VRM 1 file; the thumb's first bone is called metacarpal there."""
    bones = obj(obj(glb.extension("VRMC_vrm").get("humanoid")).get("humanBones"))
    named = ((name, obj(entry).get("node")) for name, entry in bones.items())
    return _by_name(glb, ((_vrm1_name(name), node) for name, node in named))


def vrm0_nodes(glb: Glb) -> dict[int, int]:
    """Node of each bone of a VRM 0 file."""
    bones = objects(obj(glb.extension("VRM").get("humanoid")).get("humanBones"))
    return _by_name(glb, ((_upper(str(b.get("bone"))), b.get("node")) for b in bones))


def plain_nodes(glb: Glb) -> dict[int, int]:
    """Node of each bone of a plain file, as far as its names tell."""
    found: dict[int, int] = {}
    for node, item in enumerate(glb.nodes):
        bone = _bone_of(str(item.get("name", "")))
        if bone is not None and bone not in found:
            found[bone] = node
    _sort_spine(glb, found)
    return found


def _upper(name: str) -> str:
    return name[:1].upper() + name[1:]


def _vrm1_name(name: str) -> str:
    name = _upper(name)
    side, thumb, phalanx = name.partition("Thumb")
    return side + thumb + _THUMB_1.get(phalanx, "") if thumb else name


def _by_name(glb: Glb, pairs: Any) -> dict[int, int]:
    found: dict[int, int] = {}
    for name, node in pairs:
        index = index_of(node, len(glb.nodes))
        if name in BONE_INDEX and index >= 0:
            found.setdefault(BONE_INDEX[name], index)
    return found


# Words of a name, in lower case and without its side, to the bone without its side.
_WORDS: dict[str, str] = {
    "hips": "Hips", "pelvis": "Hips", "hip": "Hips",
    "spine": "Spine", "spine1": "Chest", "spine2": "UpperChest", "chest": "Chest",
    "upperchest": "UpperChest", "spine01": "Spine", "spine02": "Chest", "spine03": "UpperChest",
    "spine001": "Chest", "spine002": "UpperChest",
    "neck": "Neck", "neck1": "Neck", "neck01": "Neck", "head": "Head", "jaw": "Jaw",
    "shoulder": "Shoulder", "clavicle": "Shoulder", "collar": "Shoulder",
    "arm": "UpperArm", "upperarm": "UpperArm",
    "forearm": "LowerArm", "lowerarm": "LowerArm", "elbow": "LowerArm",
    "hand": "Hand", "wrist": "Hand",
    "upleg": "UpperLeg", "upperleg": "UpperLeg", "thigh": "UpperLeg",
    "leg": "LowerLeg", "lowerleg": "LowerLeg", "calf": "LowerLeg", "shin": "LowerLeg",
    "knee": "LowerLeg",
    "foot": "Foot", "ankle": "Foot", "toebase": "Toes", "toes": "Toes", "toe": "Toes",
    "toe0": "Toes", "ball": "Toes", "eye": "Eye", "faceeye": "Eye",
}  # fmt: skip
_PHALANGES = ("Proximal", "Intermediate", "Distal")
_PREFIXES = re.compile(
    r"^(mixamorig\d*|bip\d+|j_bip_[clr]|j_adj_[lr]|def|org|armature)[:_\s-]*", re.I
)
_SIDE = re.compile(
    r"^(?P<word>left|right)|^(?P<short>[lr])(?=[_.\s-])|[_.\s-](?P<end>l|r|left|right)$", re.I
)


def _bone_of(name: str) -> int | None:
    side = ""
    prefix = re.match(r"^j_(?:bip|adj)_([lr])_", name, re.I)
    if prefix:
        side = prefix.group(1)
    name = _PREFIXES.sub("", name).strip()
    match = _SIDE.search(name)
    if match:
        side = side or next(group for group in match.groups() if group)
        name = name[: match.start()] + name[match.end() :]
    word = re.sub(r"[^a-z0-9]", "", re.sub(r"^face(?=eye)", "", name.lower()))
    place = {"l": "Left", "r": "Right"}.get(side[:1].lower(), "")
    bone = _finger(word) or _WORDS.get(word, "")
    return BONE_INDEX.get(place + bone)


def _finger(word: str) -> str:
    match = re.fullmatch(
        r"(?:hand|f|finger)?(thumb|index|middle|mid|ring|little|pinky|finger\d|\d)(?:finger)?"
        r"(\d+|proximal|intermediate|distal|metacarpal)?",
        word,
    )
    if match is None:
        return ""
    name, joint = match.group(1), match.group(2) or ""
    if name.lstrip("finger").isdigit():  # a biped's: Finger0 is the thumb, Finger01 its second bone
        number = name[-1]
        if not word.startswith("finger") or int(number) > 4:
            return ""
        name, joint = _FINGERS[int(number)], str(int(joint or 0) + 1)
    name = {"mid": "middle", "pinky": "little"}.get(name, name)
    if joint.isdigit():
        number = str(int(joint))
        if number not in ("1", "2", "3"):
            return ""
        return name.capitalize() + _PHALANGES[int(number) - 1]
    return name.capitalize() + joint.capitalize() if joint.capitalize() in _PHALANGES else ""


def _sort_spine(glb: Glb, found: dict[int, int]) -> None:
    """Spine bones are counted in many ways: from the hips up they are spine, chest, upper chest."""
    chain = [BONE_INDEX[name] for name in ("Spine", "Chest", "UpperChest")]
    nodes = [found.pop(bone) for bone in chain if bone in found]

    def depth(node: int) -> int:
        return 0 if node < 0 else 1 + depth(glb.parents[node])

    for bone, node in zip(chain, sorted(nodes, key=depth), strict=False):
        found[bone] = node


def missing_names(found: dict[int, int], wanted: tuple[str, ...]) -> list[str]:
    """Bones out of ``wanted`` that were not found."""
    return [name for name in BONE_NAMES if name in wanted and BONE_INDEX[name] not in found]
