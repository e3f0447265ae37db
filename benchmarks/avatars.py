"""The way from the model's poses to an avatar: how true, how smooth, how clean, how fast.

    python -m ha2g_live.benchmarks.avatars [--data DIR] [--avatar FILE]...

Motion is the bundled model's on the bundled clip, spoken again and again. With ``--data``, real
gesture clips are retargeted and read back too. Avatars are two made-up ones, a child's and a broad
one's, and the files given.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ha2g_live.engines import open_engine
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.avatar import Avatar, default_avatar, read_avatar
from ha2g_live.realtime.body import Measures, figure
from ha2g_live.realtime.contact import DEFAULT_FIGURE, adapt, clearance_m, no_sides
from ha2g_live.realtime.humanoid import BONE_INDEX, HIPS_REST_M, joint_positions
from ha2g_live.realtime.joint_limits import limit
from ha2g_live.realtime.knobs import Knobs
from ha2g_live.realtime.puppet import initial_puppet, move
from ha2g_live.realtime.retarget import to_directions, to_rotations
from ha2g_live.realtime.rotation_arrays import inverse, multiply
from ha2g_live.realtime.schedule import PoseSchedule
from ha2g_live.realtime.skeleton import BONES, JOINT_NAMES, normalise
from ha2g_live.realtime.stepper import advance, initial_state
from ha2g_live.realtime.timebase import POSE_FPS, SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32, PoseChunk

FPS = 60.0
TOUCH_M = 0.005
"""Hands and forearms nearer than this on the model's own body touch."""
_WRISTS = [BONE_INDEX["LeftHand"], BONE_INDEX["RightHand"]]
_STALL_EVERY_S, _STALL_S = 6.0, 1.5


def spoken_chunks(rounds: int, style: str, seed: int) -> list[PoseChunk]:
    """The bundled model's predictions for its clip, said ``rounds`` times with pauses."""
    engine = open_engine()
    speech = read_audio(demo_clip())
    sound = np.concatenate([speech, np.zeros(3 * SAMPLE_RATE_HZ, np.float32)] * rounds)
    chunks, _ = advance(engine, sound, initial_state(engine.spec, style, seed))
    engine.close()
    return chunks


def played(
    chunks: Sequence[PoseChunk], stalls: bool, late_s: float = 0.02
) -> tuple[F32, list[int]]:
    """(frames, 55, 4) as shown live at 60 Hz, and the pose frames that were predicted in time."""
    schedule, shown, came = PoseSchedule(), [], []
    k = 0
    for chunk in chunks:
        moment_s = (chunk.first_frame - 1) / POSE_FPS
        while k / FPS < moment_s + late_s:
            shown.append(limit(schedule.sample(k / FPS).rotations))
            k += 1
        if stalls and moment_s % _STALL_EVERY_S > _STALL_EVERY_S - _STALL_S:
            continue
        schedule.merge(chunk)
        came.append(chunk.first_frame)
    return np.array(shown), came


def jerk_m_s3(positions: F32, fps: float) -> F32:
    """Size of the third derivative of positions (n, ..., 3), by differences."""
    return np.asarray(np.linalg.norm(np.diff(positions, n=3, axis=0), axis=-1) * fps**3)


def smoothness(chunks: Sequence[PoseChunk]) -> None:
    """Jerk of the wrists as shown, beside an offline spline through the same frames."""
    from scipy.interpolate import CubicSpline

    by_frame = {chunk.first_frame: chunk.directions[0] for chunk in chunks}
    for stalls in (False, True):
        shown, came = played(chunks, stalls)
        knots = joint_positions(
            limit(to_rotations(np.stack([by_frame[frame] for frame in came]))), HIPS_REST_M
        )[:, _WRISTS]
        offline = CubicSpline(np.array(came) / POSE_FPS, knots, axis=0)(np.arange(len(shown)) / FPS)
        live = joint_positions(shown, HIPS_REST_M)[:, _WRISTS]
        keep = slice(round(FPS), None)  # past the first pose
        ours, theirs = jerk_m_s3(live[keep], FPS), jerk_m_s3(offline[keep], FPS)
        turn = multiply(shown[1:], inverse(shown[:-1]))
        speed = 2.0 * np.arctan2(np.linalg.norm(turn[..., :3], axis=-1), np.abs(turn[..., 3])) * FPS
        print(
            f"{'with' if stalls else 'no'} stalls: jerk {ours.mean():.0f} m/s3 mean, "
            f"{np.quantile(ours, 0.95):.0f} p95; offline spline {theirs.mean():.0f}, "
            f"{np.quantile(theirs, 0.95):.0f}: ratio {ours.mean() / theirs.mean():.2f}, "
            f"{np.quantile(ours, 0.95) / np.quantile(theirs, 0.95):.2f}; fastest joint "
            f"{speed.max():.1f} rad/s over {len(shown)} frames"
        )


def made_up() -> Iterator[Avatar]:
    """A child's body and a broad one."""
    plain = default_avatar()
    for name, size, arms, broad in (("child", 0.62, 0.9, 0.95), ("broad", 1.0, 0.92, 1.3)):
        offsets = plain.offsets_m * size
        for side in ("Left", "Right"):
            for bone in ("LowerArm", "Hand"):
                offsets[BONE_INDEX[side + bone]] *= arms
            offsets[BONE_INDEX[f"{side}UpperArm"], 0] *= broad
        scaled = {
            field.name: getattr(Measures(), field.name)
            * size
            * (broad if field.name.startswith(("hips", "belly", "chest")) else 1.0)
            for field in fields(Measures)
        }
        yield replace(plain, name=name, offsets_m=offsets, measures=Measures(**scaled))


def contact(shown: F32, avatar: Avatar) -> None:
    """Penetration, and how well hands that meet still meet."""
    target = figure(avatar.offsets_m, avatar.measures)
    sides, out = no_sides(), []
    for pose in shown:
        adapted, sides = adapt(pose, target, sides, 1.0 / FPS)
        out.append(adapted)
    there = np.array([clearance_m(pose, DEFAULT_FIGURE)[1] for pose in shown])
    plain = np.array([clearance_m(pose, target) for pose in shown])
    clear = np.array([clearance_m(pose, target) for pose in out])
    meets = there < TOUCH_M
    gap = clear[meets, 1]
    met = f"{100 * np.quantile(gap, 0.95):.1f} cm p95, {100 * gap.max():.1f} most"
    print(
        f"{avatar.name}: before, {100 * (plain < 0).any(axis=1).mean():.1f} % of frames have "
        f"something inside something, {1e3 * -plain.min():.0f} mm deep; after, "
        f"{100 * (clear < -0.001).any(axis=1).mean():.2f} % more than 1 mm, "
        f"{1e3 * max(0.0, -clear.min()):.1f} mm deep. Where arms touch ({meets.sum()} frames) they "
        f"are apart by {met}"
    )


def speed(shown: F32, avatar: Avatar) -> None:
    """Time of a frame from the model's pose to the avatar's."""
    body = figure(avatar.offsets_m, avatar.measures)
    state, times = initial_puppet(Knobs()), []
    for k, pose in enumerate(shown[:6000]):
        begun_s = time.perf_counter()
        _, state = move(pose, k / FPS, True, 0.5, Knobs(), 0, avatar, body, state)
        times.append(time.perf_counter() - begun_s)
    p50, p95, p99 = (1e6 * np.quantile(times[100:], q) for q in (0.5, 0.95, 0.99))
    print(f"{avatar.name}: {p50:.0f} us a frame median, {p95:.0f} p95, {p99:.0f} p99")


def round_trip(data: Path) -> None:
    """Clips of people to rotations and back, on a skeleton with each clip's own proportions."""
    from ha2g_live.training.clips import directions_of

    arm_bones = [
        b for b, (_, end) in enumerate(BONES) if JOINT_NAMES[end].endswith(("elbow", "wrist"))
    ]
    finger_bones = [
        b for b, (_, end) in enumerate(BONES) if JOINT_NAMES[end].endswith(("_2", "_3"))
        and "_" in JOINT_NAMES[end]
    ]  # fmt: skip
    errors: dict[str, list[Any]] = {"arms": [], "fingers": []}
    with (data / "gestures.csv").open(encoding="utf-8") as file:
        paths = sorted({row["file"] for row in csv.DictReader(file)})
    for path in paths:
        wanted, _ = directions_of(data / path)
        found = to_directions(to_rotations(wanted))
        cosine = np.clip((normalise(wanted) * found).sum(axis=-1), -1.0, 1.0)
        angle = np.degrees(np.arccos(cosine))
        errors["arms"].append(angle[:, arm_bones])
        errors["fingers"].append(angle[:, finger_bones])
    for name, parts in errors.items():
        angle = np.concatenate(parts)
        print(
            f"round trip of {len(paths)} clips, {name}: {angle.mean():.3f} degrees mean, "
            f"{np.quantile(angle, 0.99):.3f} p99, {angle.max():.3f} most"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run all and print."""
    parser = argparse.ArgumentParser(prog="python -m ha2g_live.benchmarks.avatars")
    parser.add_argument("--data", type=Path, help="folder with gestures.csv")
    parser.add_argument("--avatar", type=Path, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args(argv)
    chunks = spoken_chunks(options.rounds, "natural", 0)
    smoothness(chunks)
    smoothness(spoken_chunks(options.rounds, "lively", 3))
    shown, _ = played(chunks, stalls=False)
    avatars = [default_avatar(), *made_up(), *(read_avatar(path) for path in options.avatar)]
    for avatar in avatars:
        contact(shown, avatar)
    for avatar in avatars:
        speed(shown, avatar)
    if options.data is not None:
        round_trip(options.data)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
