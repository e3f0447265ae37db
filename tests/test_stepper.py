"""The stepper: poses depend on the sound, the seed and the style, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from ha2g_live.engines import open_engine
from ha2g_live.realtime import stepper
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import ModelError
from ha2g_live.realtime.features import (
    initial_log_mel,
    log_mel,
    newest_columns,
    silent_columns,
)
from ha2g_live.realtime.timebase import (
    HOP_SAMPLES,
    SAMPLE_RATE_HZ,
    columns_complete,
    newest_step,
    samples_heard_at,
)
from ha2g_live.realtime.types import F32, PoseChunk
from tests.fakes import ECHO_SPEC, EchoEngine, speech_like


def start(seed: int = 0, style: str = "calm") -> stepper.StepperState:
    return stepper.initial_state(ECHO_SPEC, style, seed)


def run(samples: F32, sizes: list[int], seed: int = 0) -> list[PoseChunk]:
    engine, state, chunks = EchoEngine(), start(seed), []
    at = turn = 0
    while at < len(samples):
        block = samples[at : at + sizes[turn % len(sizes)]]
        new, state = stepper.advance(engine, block, state)
        chunks += new
        at, turn = at + len(block), turn + 1
    return chunks


@pytest.mark.parametrize("sizes", [[1, 2000], [160], [511, 513, 512], [4096], [1067]])
def test_block_size_does_not_change_a_bit(sizes: list[int]) -> None:
    sound = speech_like(1.3)
    whole, cut = run(sound, [len(sound)]), run(sound, sizes)
    assert len(whole) == newest_step(len(sound)) + 1
    assert [c.first_frame for c in cut] == [c.first_frame for c in whole]
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(one.directions, other.directions)


def test_a_step_sees_the_newest_complete_columns_and_none_of_the_future() -> None:
    seen: list[F32] = []

    class Watch(EchoEngine):
        def step(self, audio: F32, *rest: object) -> tuple[F32, dict[str, F32]]:
            seen.append(audio[0].copy())
            return super().step(audio, *rest)  # type: ignore[arg-type]

    sound = speech_like(1.0)
    stepper.advance(Watch(), sound, start())
    columns, _ = log_mel(sound, initial_log_mel())
    padded = np.concatenate((silent_columns(3), columns))
    for n, audio in enumerate(seen):
        complete = columns_complete(samples_heard_at(n))
        np.testing.assert_array_equal(audio, padded[complete : complete + 3])
    assert len(seen) == 16


def test_a_step_waits_for_its_last_sample() -> None:
    state = stepper.hear(speech_like(1.0)[: samples_heard_at(1) - 1], start())
    assert stepper.steps_due(state) == 1  # step 0 needs no sound
    state = stepper.hear(np.zeros(1, dtype=np.float32), state)
    assert stepper.steps_due(state) == 2


def test_a_chunk_says_what_it_heard() -> None:
    for n, chunk in enumerate(run(speech_like(0.5), [700])):
        assert chunk.first_frame == n + 1
        assert chunk.directions.shape == (3, 42, 3)
        assert samples_heard_at(n) - HOP_SAMPLES < chunk.heard_samples <= samples_heard_at(n)


def test_the_seed_alone_picks_the_noise() -> None:
    sound = speech_like(0.5)
    one, same, other = run(sound, [320], 7), run(sound, [999], 7), run(sound, [320], 8)
    np.testing.assert_array_equal(one[-1].directions, same[-1].directions)
    assert np.abs(one[-1].directions - other[-1].directions).max() > 0.0


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> list[int]:
    """Philox 4x64-10 word by word (Salmon et al., "Parallel random numbers", SC 2011)."""
    low, (a, b, c, d), (k0, k1) = 2**64 - 1, counter, key
    for _ in range(10):
        p, q = 0xD2E7470EE14C6C93 * a, 0xCA5A826395121157 * c
        a, b, c, d = (q >> 64) ^ b ^ k0, q & low, (p >> 64) ^ d ^ k1, p & low
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & low, (k1 + 0xBB67AE8584CAA73B) & low
    return [a, b, c, d]


def test_noise_is_the_same_everywhere_and_for_good() -> None:
    words = philox((1, 0, 0, 0), (7, 11))  # numpy counts up before it draws
    uniform = (np.array([word >> 11 for word in words]) + 0.5) / 2.0**53
    np.testing.assert_allclose(stepper.gumbel_noise(7, 11, 4), -np.log(-np.log(uniform)), rtol=1e-6)


def test_noise_is_gumbel_noise() -> None:
    many = np.concatenate([stepper.gumbel_noise(3, n, 16) for n in range(4000)])
    assert np.isfinite(many).all()
    assert many.mean() == pytest.approx(0.5772, abs=0.02)  # Euler's constant
    assert many.var() == pytest.approx(np.pi**2 / 6.0, rel=0.03)
    assert not np.array_equal(stepper.gumbel_noise(1, 2, 4), stepper.gumbel_noise(2, 1, 4))


def test_skipping_goes_to_the_newest_step_and_the_next_step_still_fits() -> None:
    state = stepper.hear(speech_like(2.0), start())
    skipped, state = stepper.skip_to_newest(state)
    assert skipped == 30
    assert stepper.steps_due(state) == 1
    chunk, state = stepper.step(EchoEngine(), state)
    assert chunk.first_frame == 31
    state = stepper.hear(speech_like(0.2), state)
    assert stepper.steps_due(state) == 3


def test_memory_does_not_grow() -> None:
    engine, state = EchoEngine(), start()
    block = speech_like(0.02)
    longest = 0
    for _ in range(500):
        _, state = stepper.advance(engine, block, state)
        longest = max(longest, len(state.columns))
    assert state.heard_samples == 10 * SAMPLE_RATE_HZ
    assert longest <= 8


def test_a_state_can_be_gone_back_to() -> None:
    engine = EchoEngine()
    _, middle = stepper.advance(engine, speech_like(0.7), start())
    once, _ = stepper.advance(engine, speech_like(0.5, seed=1), middle)
    again, _ = stepper.advance(engine, speech_like(0.5, seed=1), middle)
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one.directions, other.directions)


def test_unknown_style_is_named() -> None:
    with pytest.raises(ModelError, match=r"'angry'.*calm, lively"):
        start(style="angry")


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        stepper.hear(np.array([0.0, np.nan], dtype=np.float32), start())


def test_looks_hear_a_voice_as_it_sets_in_and_change_nothing_else() -> None:
    quiet = np.zeros(SAMPLE_RATE_HZ // 2, dtype=np.float32)
    sound, engine, state = np.concatenate((quiet, speech_like(0.8))), EchoEngine(), start()
    plain = run(sound, [len(sound)])
    steps: list[PoseChunk] = []
    looks: list[PoseChunk] = []
    while (event := stepper.next_event(state)) <= len(sound):
        state = stepper.hear(sound[state.heard_samples : event], state)
        if stepper.steps_due(state):
            chunk, state = stepper.step(engine, state)
            steps.append(chunk)
        if stepper.look_due(state):
            chunk, state = stepper.look(engine, state)
            looks.append(chunk)
        if looks:
            # A step, which hears whole columns, takes back no sound that a look has heard.
            unheard = sound[chunk.heard_samples : state.heard_samples]
            assert len(unheard) < stepper.LOOK_SAMPLES or float(np.std(unheard)) < 0.01
    for one, other in zip(steps, plain, strict=True):
        np.testing.assert_array_equal(one.directions, other.directions)
    # None in the quiet; then one every 10 ms, or a step.
    heard = [chunk.heard_samples for chunk in looks]
    assert len(quiet) < heard[0] <= len(quiet) + 2 * stepper.LOOK_SAMPLES
    assert len(looks) >= 30
    # A look is the last step, made anew with what has come since.
    assert {chunk.first_frame for chunk in looks} <= {chunk.first_frame for chunk in steps}


def test_a_look_hears_up_to_the_newest_sample() -> None:
    seen: list[F32] = []

    class Watch(EchoEngine):
        def step(self, audio: F32, *rest: object) -> tuple[F32, dict[str, F32]]:
            seen.append(audio[0].copy())
            return super().step(audio, *rest)  # type: ignore[arg-type]

    sound = speech_like(1.0)
    _, state = stepper.advance(EchoEngine(), sound[: samples_heard_at(1)], start())
    until = 2 * HOP_SAMPLES + stepper.LOOK_SAMPLES  # step 1 has heard two columns
    assert not stepper.look_due(stepper.hear(sound[samples_heard_at(1) : until - 1], state))
    state = stepper.hear(sound[samples_heard_at(1) : until], state)
    assert stepper.look_due(state)
    chunk, after = stepper.look(Watch(), state)
    assert chunk.heard_samples == until
    assert chunk.first_frame == 2
    assert after.next_step == state.next_step
    assert after.engine is state.engine
    assert not stepper.look_due(after)
    # Where a column happens to end with the newest sample, it is that column.
    whole = stepper.hear(sound[: 20 * HOP_SAMPLES], start())
    columns, features = log_mel(sound[: 20 * HOP_SAMPLES], initial_log_mel())
    np.testing.assert_allclose(newest_columns(whole.recent, features), columns[-3:], atol=0.02)
    assert seen[0].shape == (3, 128)


def test_hands_at_work_are_not_disturbed_by_looks() -> None:
    engine = open_engine()
    state = stepper.initial_state(engine.spec, "natural", 0)
    sound = np.concatenate((np.zeros(8000, np.float32), read_audio(demo_clip())[: 4 * 16_000]))
    at_rest = {True: 0, False: 0}
    while (event := stepper.next_event(state)) <= len(sound):
        state = stepper.hear(sound[state.heard_samples : event], state)
        if stepper.steps_due(state):
            _, state = stepper.step(engine, state)
        elif stepper.look_due(state):
            at_rest[int(state.engine["choice"][0].argmax()) < engine.spec.resting] += 1
            _, state = stepper.look(engine, state)
    assert at_rest[True] >= 3
    assert at_rest[False] == 0
