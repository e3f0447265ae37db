"""A data folder of a few made-up clips and a cut-up recording, in the format of the real one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ha2g_live.realtime.audio_file import demo_clip, read_audio

SIDES = (("Lf", 1.0), ("Rt", -1.0))
# name, parent, offset in metres: x to the figure's left, y up, z forward
JOINTS: list[tuple[str, str | None, tuple[float, float, float]]] = [
    ("JtRoot", None, (0.0, 0.95, 0.0)),
    ("JtSpineA", "JtRoot", (0.0, 0.1, 0.0)),
    ("JtNeckA", "JtSpineA", (0.0, 0.4, 0.0)),
    ("JtSkullA", "JtNeckA", (0.0, 0.1, 0.0)),
]
for mark, sign in SIDES:
    JOINTS += [
        (f"JtShoulder{mark}", "JtSpineA", (0.18 * sign, 0.35, 0.0)),
        (f"JtElbow{mark}", f"JtShoulder{mark}", (0.0, -0.28, 0.0)),
        (f"JtWrist{mark}", f"JtElbow{mark}", (0.0, -0.25, 0.02)),
    ]
    for place, finger in enumerate(("Thumb", "Index", "Middle", "Ring", "Little")):
        JOINTS += [
            (f"Jt{finger}A{mark}", f"JtWrist{mark}", (0.0, -0.09, 0.04 - 0.02 * place)),
            (f"Jt{finger}B{mark}", f"Jt{finger}A{mark}", (0.0, -0.03, 0.0)),
            (f"Jt{finger}C{mark}", f"Jt{finger}B{mark}", (0.0, -0.02, 0.0)),
        ]
NAMES = [name for name, _, _ in JOINTS]
FPS = 30.0


def write_clip(path: Path, hands: str, bend_rad: float, frames: int = 60) -> None:
    """Both or one elbow bends forward to ``bend_rad`` and back."""
    local = np.zeros((frames, len(JOINTS), 4), np.float32)
    local[..., 3] = 1.0
    rise = np.sin(np.pi * np.clip(np.arange(frames) / (frames - 1), 0, 1)) ** 2
    for mark, side in (("Lf", "left"), ("Rt", "right")):
        if hands in (side, "both"):
            half = -0.5 * bend_rad * rise  # about x: what hangs down swings forward
            elbow = NAMES.index(f"JtElbow{mark}")
            local[:, elbow, 0] = np.sin(half)
            local[:, elbow, 3] = np.cos(half)
    np.savez(
        path,
        joints=np.array(NAMES),
        parents=np.array([-1 if p is None else NAMES.index(p) for _, p, _ in JOINTS]),
        offset_m=np.array([offset for _, _, offset in JOINTS], np.float32),
        local_quat_xyzw=local,
        root_pos_m=np.tile(np.array([0.0, 0.95, 0.0], np.float32), (frames, 1)),
        fps=np.float32(FPS),
    )


GESTURES = (
    ("BeatMidLf01", "left", 1.2),
    ("BeatMidBt01", "both", 1.5),
    ("OfferRt01", "right", 1.4),
    ("StopForwardBt01", "both", 2.0),  # held out by its name
)


def write_data(folder: Path, seconds: float = 11.0) -> Path:
    """Three speakers (erin is held out), gestures and two idles below ``folder``."""
    for name in ("gestures", "idle", "speech"):
        (folder / name).mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for motion, hands, bend_rad in GESTURES:
        file = f"gestures/set__{motion}.npz"
        write_clip(folder / file, hands, bend_rad)
        rows.append(gesture_row(file, f"Chr@Idle01_{motion}", "gesture"))
    write_clip(folder / "gestures/set__WeightShift01.npz", "both", 0.05, frames=150)
    rows.append(gesture_row("gestures/set__WeightShift01.npz", "Chr@Idle01_WeightShift01", "idle"))
    write_clip(folder / "gestures/set__ChopBt01.npz", "both", 1.0)
    rows.append(gesture_row("gestures/set__ChopBt01.npz", "Chr@Idle01_ChopBt01", "gesture", "1"))
    _write_table(folder / "gestures.csv", rows)

    samples = read_audio(demo_clip())[: int(seconds * 16_000)]
    speech = []
    for speaker in ("ann", "bob", "erin"):
        soundfile.write(folder / f"speech/{speaker}.wav", samples, 16_000)
        speech.append({"file": f"speech/{speaker}.wav", "duration_s": seconds, "speaker": speaker})
    _write_table(folder / "speech.csv", speech)
    return folder


def gesture_row(file: str, motion: str, kind: str, placeholder: str = "0") -> dict[str, Any]:
    times = {"stroke_start_s": 0.5, "emphasis_s": 0.9, "stroke_end_s": 1.1, "relax_s": 1.3}
    return {
        "file": file,
        "set": "set",
        "motion": motion,
        "kind": kind,
        **times,
        "sync_is_placeholder": placeholder,
    }


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
