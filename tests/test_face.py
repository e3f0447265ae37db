"""Blends for three kinds of face."""

from __future__ import annotations

import numpy as np
import pytest

from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.face import (
    SCHEMES,
    FaceState,
    Lips,
    advance,
    blends,
    check_names,
    names,
    scheme_for,
)
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

OPEN_AA = np.array((0.9, 0, 0, 0, 0, 0.9, 1.0, 0.8, 6.0), np.float32)
SHUT = np.zeros(9, np.float32)


@pytest.mark.parametrize(
    ("scheme", "face", "expected"),
    [
        ("vrm1", "mouth", {"aa", "ih", "ou", "ee", "oh"}),
        ("vrm1", "full", {"aa", "ih", "ou", "ee", "oh", "blink", "happy"}),
        ("vrm0", "full", {"A", "I", "U", "E", "O", "Blink", "Joy"}),
        ("vrm0", "none", set()),
    ],
)
def test_names_are_those_of_the_avatars(scheme: str, face: str, expected: set[str]) -> None:
    assert set(names(scheme, face)) == expected


def test_arkit_names_are_its_own_and_left_and_right_are_alike() -> None:
    found = names("arkit", "full")
    assert {"jawOpen", "mouthPucker", "eyeBlinkLeft", "browInnerUp"} <= set(found)
    values = blends("arkit", "full", OPEN_AA, 0.7, FaceState(brow=0.3, smile=0.2))
    for name in found:
        if name.endswith("Left"):
            assert values[name] == values[name[:-4] + "Right"]
    assert values["jawOpen"] > 0.5
    assert values["eyeBlinkLeft"] == 0.7


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("face", ["mouth", "full"])
def test_the_same_names_come_in_every_frame(scheme: str, face: str) -> None:
    """A receiver keeps the last value of a name that is not sent again."""
    state = FaceState(brow=0.4, smile=0.2)
    for lips, blink in ((OPEN_AA, 1.0), (SHUT, 0.0)):
        values = blends(scheme, face, lips, blink, state)
        assert tuple(values) == names(scheme, face)
        assert all(0.0 <= value <= 1.0 for value in values.values())
    quiet = blends(scheme, "mouth", SHUT, 0.0, FaceState())
    assert not any(quiet.values())


def test_the_avatars_kind_decides_unless_asked() -> None:
    assert scheme_for("vrm1") == "vrm1"
    assert scheme_for("vrm0") == scheme_for("default") == scheme_for("glb") == "vrm0"
    assert scheme_for("vrm1", "arkit") == "arkit"
    assert check_names(("AA", "ih", "ou", "ee"), "vrm1", "mouth") == ("oh",)


@pytest.mark.parametrize("fps", [24.0, 60.0, 144.0])
def test_brows_and_smile_are_smooth_and_the_same_at_any_rate(fps: float) -> None:
    state, shown = FaceState(), []
    for k in range(round(fps)):
        state = advance(state, k / fps, OPEN_AA)
        shown.append((state.brow, state.smile))
    values = np.array(shown)
    assert np.abs(np.diff(values, axis=0)).max() * fps < 4.0
    assert values[-1] == pytest.approx((0.368, 0.160), abs=0.01)


def speak(lips: Lips, samples: F32, block: int = 267) -> None:
    for at in range(0, len(samples), block):
        lips.hear(samples[at : at + block])


def test_lips_are_told_at_any_moment_of_the_last_seconds() -> None:
    speech = read_audio(demo_clip())
    lips = Lips()
    speak(lips, speech[: 3 * SAMPLE_RATE_HZ])
    shown = np.array([lips.at(t)[5] for t in np.arange(0.5, 3.0, 1 / 144)])
    assert shown.max() > 0.5
    assert np.abs(np.diff(shown)).max() < 0.4
    # The moment between two frames lies between them.
    assert min(lips.at(1.50)[5], lips.at(1.51)[5]) - 1e-6 <= lips.at(1.505)[5]


def test_without_newer_sound_the_mouth_shuts() -> None:
    speech = read_audio(demo_clip())
    lips = Lips()
    end = int(np.abs(speech[: 3 * SAMPLE_RATE_HZ]).argmax()) + 1600
    speak(lips, speech[:end])
    now_s = end / SAMPLE_RATE_HZ
    assert lips.at(now_s)[5] > 0.2
    assert lips.at(now_s + 0.5)[5] == 0.0
    steps = [lips.at(now_s + k / 60)[5] for k in range(30)]
    assert np.abs(np.diff(steps)).max() < 0.3


def test_before_the_first_sound_and_after_a_gap_it_is_shut() -> None:
    lips = Lips()
    assert not lips.at(0.0).any()
    assert not lips.at(-1.0).any()
    speak(lips, read_audio(demo_clip())[:SAMPLE_RATE_HZ])
    lips.skip_to(40 * SAMPLE_RATE_HZ + 77)
    assert not lips.at(40.0).any()
    speak(lips, read_audio(demo_clip())[: 2 * SAMPLE_RATE_HZ])
    assert lips.heard_samples == 42 * SAMPLE_RATE_HZ
    assert max(lips.at(t)[5] for t in np.arange(40.3, 42.0, 0.02)) > 0.4
