"""The live network: one step at a time equals all at once, and nothing looks ahead."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ha2g_live.engines.network import LiveNetwork, NetworkConfig
from ha2g_live.realtime.skeleton import LEVELS
from tests.small_model import CHOICES, STYLES, small_network

STEPS = 40


def zero_state(network: LiveNetwork, batch: int) -> dict[str, Tensor]:
    return {name: torch.zeros(batch, *shape) for name, shape in network.config.state_shapes.items()}


def inputs(batch: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    style = functional.one_hot(torch.arange(batch) % len(STYLES), len(STYLES)).float()
    return torch.randn(batch, STEPS, 3, 128), style, 2 * torch.randn(batch, STEPS, len(CHOICES) + 1)


@torch.inference_mode()
def run_steps(
    network: LiveNetwork, audio: Tensor, style: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Directions (B, T, 3, 126), choices (B, T, choices), ages (B, T, 1), step by step."""
    state = zero_state(network, len(audio))
    poses, choices, ages = [], [], []
    for t in range(audio.shape[1]):
        directions, state = network(audio[:, t], style, noise[:, t], state)
        poses.append(directions.flatten(2))
        choices.append(state["choice"])
        ages.append(state["age"])
    return torch.stack(poses, 1), torch.stack(choices, 1), torch.stack(ages, 1)


@torch.inference_mode()
def test_step_by_step_equals_the_whole_sequence_at_once() -> None:
    network = small_network()
    audio, style, noise = inputs(2)
    poses, choices, ages = run_steps(network, audio, style, noise)

    state = zero_state(network, 2)
    heard, blends, context = network.hear(audio, style, state["context"])
    over_time = style[:, None].expand(-1, STEPS, -1)
    given = [part.unbind(1) for part in network.given(blends, over_time, choices, ages)]
    seeds, hidden = state["seeds"], state["hidden"]
    for t in range(STEPS):
        _, ahead, hidden = network.pose([part[t] for part in given], seeds, hidden)
        torch.testing.assert_close(ahead, poses[:, t], atol=2e-5, rtol=0)
        seeds = torch.cat((seeds[:, 1:], ahead[:, :1] - network.mean_direction), dim=1)
    assert heard.shape == (2, STEPS, 96)
    assert context.shape == state["context"].shape


def test_later_sound_never_changes_an_earlier_pose() -> None:
    network = small_network()
    audio, style, noise = inputs(1)
    changed = audio.clone()
    changed[:, 25:] += 3.0
    one, _, _ = run_steps(network, audio, style, noise)
    other, _, _ = run_steps(network, changed, style, noise)
    # Step n speaks of frames n + 1 .. n + 3: all that was due by frame 25 was said by step 24.
    torch.testing.assert_close(one[:, :25], other[:, :25], atol=0, rtol=0)
    assert not torch.equal(one[:, 25], other[:, 25])


def test_streams_in_a_batch_do_not_touch_each_other() -> None:
    network = small_network()
    audio, style, noise = inputs(3)
    together, _, _ = run_steps(network, audio, style, noise)
    for row in range(3):
        alone, _, _ = run_steps(
            network, audio[row : row + 1], style[row : row + 1], noise[row : row + 1]
        )
        torch.testing.assert_close(alone[0], together[row], atol=2e-5, rtol=0)


def test_directions_are_unit_vectors() -> None:
    audio, style, noise = inputs(1)
    poses, _, _ = run_steps(small_network(), audio, style, noise)
    lengths = poses.reshape(-1, 42, 3).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), atol=1e-4, rtol=0)


def test_noise_picks_the_choice_and_age_counts_from_it() -> None:
    network = small_network()
    audio, style, noise = inputs(1)
    noise.zero_()
    noise[:, :, 0] = 50.0  # carry on ...
    noise[:, 10, 0], noise[:, 10, 4] = 0.0, 50.0  # ... but begin choice 3 at step 10
    _, choices, ages = run_steps(network, audio, style, noise)
    assert torch.all(choices.sum(-1) == 1.0)
    assert choices[0, 9].argmax() != 3 or ages[0, 9] == 9.0
    assert int(choices[0, 10].argmax()) == 3
    assert ages[0, :10, 0].tolist() == list(range(10))
    assert ages[0, 10:15, 0].tolist() == [0, 1, 2, 3, 4]


def test_levels_go_from_coarse_to_fine() -> None:
    network = small_network()
    zeros = [torch.zeros(1, size) for size in (len(STYLES), len(CHOICES), 1)]
    given = network.given(torch.zeros(1, 6, 32), *zeros)
    state = zero_state(network, 1)
    outputs, _, _ = network.pose(given, state["seeds"], state["hidden"])
    assert [out.shape[-1] // 3 for out in outputs] == [len(bones) for bones in LEVELS]
    assert [len(bones) for bones in LEVELS] == [8, 10, 12, 22, 32, 42]


def test_default_size_is_that_of_a_live_model() -> None:
    network = LiveNetwork(NetworkConfig(styles=4, choices=200))
    parameters = sum(p.numel() for p in network.parameters())
    assert 2_000_000 < parameters < 6_000_000


def test_a_start_from_rest_is_decided_and_nothing_else_is_changed() -> None:
    network = small_network()
    odds = torch.tensor([[2.0, -1.0, 0.5, -1.0, 0.0, -0.5], [-1.0, -2.0, 0.0, 2.0, 0.5, 1.0]])
    resting = functional.one_hot(torch.tensor([1, 0]), len(CHOICES)).float()
    raised = functional.one_hot(torch.tensor([3, 2]), len(CHOICES)).float()
    torch.testing.assert_close(network._decided(odds, raised), odds)

    def start(of: Tensor) -> Tensor:
        return of.softmax(dim=1)[:, 3:].sum(dim=1)

    before, after = start(odds), start(network._decided(odds, resting))
    assert after[0] < 0.5 * before[0] < 0.25
    assert 1.0 - after[1] < 0.5 * (1.0 - before[1]) < 0.25
    within = network._decided(odds, resting)[:, 3:].softmax(dim=1)
    torch.testing.assert_close(within, odds[:, 3:].softmax(dim=1))
