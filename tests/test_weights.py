"""Teacher weights: single, uniform, exponential and reinforced."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rosutils.weights import ReinforcedSelector, counted_actions, exponential_weights, single_weights, uniform_weights


quick = settings(max_examples=40, deadline=None)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@quick
@given(k=st.integers(1, 12), data=st.data())
def test_uniform_weights_are_equal_and_single_weights_one_hot(k, data):
    assert uniform_weights(k).tolist() == pytest.approx([1 / k] * k)
    teacher = data.draw(st.integers(0, k - 1))
    weights = single_weights(k, teacher)
    assert weights.is_floating_point() and weights.shape == (k,)
    assert weights[teacher] == 1 and weights.sum() == 1


# Exponential draws


def test_unnormalised_weights_are_exponential_with_mean_one_and_variance_one():
    draws = exponential_weights(5, n_examples=40_000, normalize=False, generator=seeded())
    assert (draws >= 0).all()
    assert draws.mean(1).tolist() == pytest.approx([1] * 5, abs=4 / 200)  # four standard errors
    assert draws.var(1).tolist() == pytest.approx([1] * 5, abs=4 * 8**0.5 / 200)  # the fourth central moment is 9
    assert stats.kstest(draws.flatten().numpy(), "expon").pvalue > 0.01


@pytest.mark.parametrize("k", [2, 5, 8])
def test_normalised_weights_are_uniform_on_the_simplex(k):
    """Exp(1) draws over their sum are Dirichlet(1, ..., 1): each share is Beta(1, K - 1)."""
    shares = exponential_weights(k, n_examples=20_000, generator=seeded(k))
    assert torch.allclose(shares.sum(0), torch.ones(20_000))
    for share in shares:
        assert stats.kstest(share.numpy(), stats.beta(1, k - 1).cdf).pvalue > 0.001


@pytest.mark.parametrize("k", [2, 5, 10])
def test_the_largest_share_is_the_harmonic_number_over_k_on_average_and_all_lead_equally_often(k):
    shares = exponential_weights(k, n_examples=40_000, generator=seeded())
    largest, harmonic = shares.max(0).values, sum(1 / i for i in range(1, k + 1))
    assert largest.mean().item() == pytest.approx(harmonic / k, abs=4 * largest.std().item() / 200)  # 0.457 of five
    assert stats.chisquare(shares.argmax(0).bincount(minlength=k).numpy()).pvalue > 0.001


@quick
@given(k=st.integers(1, 8), b=st.none() | st.integers(1, 8), normalize=st.booleans(), seed=st.integers(0, 2**32))
def test_shape_is_k_or_k_by_b_and_the_same_generator_gives_the_same_draws(k, b, normalize, seed):
    def draw():
        return exponential_weights(k, n_examples=b, normalize=normalize, generator=seeded(seed))

    weights = draw()
    assert weights.shape == ((k,) if b is None else (k, b))
    assert torch.equal(weights, draw())
    if normalize:
        assert torch.allclose(weights.sum(0), torch.ones(weights.shape[1:]))


def test_the_global_generator_is_neither_read_nor_moved():
    before, generator = torch.get_rng_state(), seeded()
    first, second = (exponential_weights(5, generator=generator) for _ in range(2))
    ReinforcedSelector(3, 2)
    assert not torch.equal(first, second) and torch.equal(before, torch.get_rng_state())


# Selected teachers


@quick
@given(
    draws=st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), min_size=1, max_size=5), seed=st.integers(0, 99)
)
def test_who_was_drawn_counts_and_where_nobody_was_the_likeliest(draws, seed):
    draws = torch.tensor(draws, dtype=torch.float32)  # [K, B]
    probabilities = torch.rand(draws.shape, generator=seeded(seed))
    for counted, drawn, p in zip(counted_actions(draws, probabilities).T, draws.T, probabilities.T, strict=True):
        assert torch.equal(counted, drawn if drawn.any() else single_weights(len(p), int(p.argmax())))
    equals = counted_actions(torch.zeros(3, 2), torch.full((3, 2), 0.5))
    assert equals.tolist() == [[1, 1], [0, 0], [0, 0]]  # the first of them


# Reinforced selection


K, B, C, FEATURES = 3, 6, 4, 7


def selector(**options):
    return ReinforcedSelector(FEATURES, C, **options)


def random_states(seed=0, *, k=K, b=B):
    return torch.randn(k, b, FEATURES + C + 1, generator=seeded(seed))


def parameters(policy):
    return torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


def set_parameters(policy, seed, scale=0.3):
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


def test_the_policy_starts_undecided_and_its_state_is_all_there_is():
    assert torch.equal(selector()(random_states()), torch.full((K, B), 0.5))
    assert selector().state_dict().keys() == {"policy.weight", "policy.bias", "quality_mean"}


@pytest.mark.parametrize("scale", [0.3, 100])
def test_the_policy_is_logistic_and_shared_by_the_teachers_and_kept_between_5_and_95_percent(scale):
    policy, states = selector(), random_states(b=50)
    set_parameters(policy, 3, scale)
    weight, bias = (parameter.detach().double() for parameter in policy.policy.parameters())
    expected = torch.special.expit((states.double() * weight[0]).sum(-1) + bias).clamp(0.05, 0.95)
    assert torch.allclose(policy(states).double(), expected, atol=1e-6)
    assert scale < 1 or (expected.min(), expected.max()) == pytest.approx((0.05, 0.95))


def test_the_state_is_the_layer_normed_features_of_length_one_then_probabilities_then_the_standardised_loss():
    generator = seeded()
    features = 5 + 3 * torch.randn(B, FEATURES, generator=generator)
    features.requires_grad_()
    probabilities = torch.rand(K, B, C, generator=generator)
    losses = 4 * torch.rand(K, B, generator=generator)
    losses[0, 0] = 1e6  # clipped at 10
    states = selector().states(features, probabilities, losses)
    assert states.shape == (K, B, FEATURES + C + 1)
    assert not states.requires_grad  # the policy's state does not train the student
    for k, b in itertools.product(range(K), range(B)):
        x = features[b].detach()
        normed = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
        assert torch.allclose(states[k, b, :FEATURES], normed / FEATURES**0.5, atol=1e-5)
        assert states[k, b, :FEATURES].norm().item() == pytest.approx(1, abs=1e-3)
        assert torch.equal(states[k, b, FEATURES:-1], probabilities[k, b])
    clipped = losses.clamp(max=10)
    assert torch.allclose(states[..., -1], (clipped - clipped.mean()) / clipped.std(), atol=1e-5)


def test_equal_losses_of_all_teachers_give_a_finite_state():
    states = selector().states(torch.zeros(B, FEATURES), torch.full((K, B, C), 0.25), torch.full((K, B), 1.3))
    assert states.isfinite().all()
    assert (states[..., -1].abs() < 1).all() and len(states[..., -1].unique()) == 1  # rounding, the same for all


def test_actions_are_functions_of_the_generator_and_leave_the_global_one_alone():
    policy, states = selector(), random_states(b=50)
    before = torch.get_rng_state()
    actions = policy.select(states, generator=seeded(5))
    assert torch.equal(actions, policy.select(states, generator=seeded(5)))
    assert not torch.equal(actions, policy.select(states, generator=seeded(6)))
    assert torch.equal(before, torch.get_rng_state())
    assert set(actions.unique().tolist()) == {0.0, 1.0}


def test_actions_are_drawn_with_the_probabilities_of_the_policy():
    policy, states = selector(), random_states()
    set_parameters(policy, 2)
    generator, n = seeded(), 4000
    share = sum(policy.select(states, generator=generator) for _ in range(n)) / n
    p = policy(states).detach()
    assert ((share - p).abs() < 4.5 * (p * (1 - p) / n).sqrt()).all()


def learned_change(policy, episode, quality=None):
    """How the parameters move in one pass over `episode`, the policy itself staying as it is."""
    trial = copy.deepcopy(policy)
    trial.episode = episode
    trial.learn(quality)
    return parameters(trial).double() - parameters(policy).double()


def all_actions(k):
    return [torch.tensor(bits, dtype=torch.float32)[:, None] for bits in itertools.product((0, 1), repeat=k)]


@pytest.mark.parametrize("reward", [[0.3, -0.2, 0.5, 0.1, -0.7, 0.4, 0.2, -0.1], [0.3] * 8], ids=["varied", "constant"])
def test_the_expected_step_is_the_gradient_of_the_expected_reward(monkeypatch, reward):
    """Policy gradient theorem, by enumerating the actions of three teachers for one example; of a constant reward it is 0."""
    policy, states = selector(entropy_bonus=0.0, learning_rate=0.1), 0.3 * random_states(b=1)
    set_parameters(policy, 1)
    # one example alone is always of size one
    monkeypatch.setattr("rosutils.weights._scaled", lambda advantages: advantages)
    p, actions = policy(states), all_actions(K)
    chances = torch.stack([torch.where(action > 0, p, 1 - p).prod() for action in actions])
    expected_reward = (chances * torch.tensor(reward)).sum()
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(expected_reward, policy.policy.parameters())])
    steps = [learned_change(policy, [(states, a, torch.tensor([r]))]) for a, r in zip(actions, reward, strict=True)]
    step = sum(chance.item() * step for chance, step in zip(chances, steps, strict=True))
    assert torch.allclose(step, 0.1 * gradient.double(), atol=1e-7)
    assert min(step.norm() for step in steps) > 1e-3  # each alone moves it
    assert (step.norm() > 1e-4) == (len(set(reward)) > 1)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_without_any_advantage_nothing_moves_and_undecided_is_where_the_entropy_is_largest(scale):
    """scale 0: the policy at its start, at p = 0.5, with an entropy bonus; scale 1: anywhere, without one."""
    policy = selector(entropy_bonus=1.0 - scale)
    set_parameters(policy, 1, scale=0.3 * scale)
    before, states = parameters(policy), random_states()
    policy.episode.append((states, policy.select(states, generator=seeded()), torch.zeros(B)))
    policy.learn()
    assert torch.equal(before, parameters(policy))


def test_the_quality_less_its_running_mean_is_an_advantage_of_the_whole_episode():
    policy, states = selector(entropy_bonus=0.0), random_states()
    set_parameters(policy, 1)
    episode = [(states, torch.ones(K, B), torch.arange(B) / B)]
    for quality, before in ((0.4, None), (0.6, 0.4), (0.2, 0.5)):
        surplus = 0.0 if before is None else quality - before
        expected = learned_change(policy, [(*episode[0][:2], episode[0][2] + surplus)])
        assert torch.allclose(learned_change(policy, episode, quality), expected, atol=1e-6)
        policy.learn(quality)
    assert policy.quality_mean.item() == pytest.approx(0.35)


def test_the_entropy_bonus_draws_the_policy_towards_undecided():
    policy, states = selector(entropy_bonus=1.0, learning_rate=1.0), 0.3 * random_states(b=20)
    set_parameters(policy, 1)
    before = (policy(states) - 0.5).abs().mean()
    for _ in range(20):
        policy.episode.append((states, policy.select(states, generator=seeded()), torch.zeros(20)))
        policy.learn()
    assert (policy(states) - 0.5).abs().mean() < 0.8 * before


def test_a_step_is_no_longer_than_the_learning_rate():
    episode = [(1e3 * random_states(), torch.ones(K, B), torch.full((B,), 50.0))]
    assert learned_change(selector(learning_rate=0.1), episode).norm().item() == pytest.approx(0.1, rel=1e-4)


@given(factor=st.floats(0.125, 100, width=32))
def test_a_step_does_not_depend_on_the_unit_of_the_advantages(factor):
    policy, states, advantages = selector(), random_states(), torch.tensor([1.0, 2, -3, 4, -5, 9])
    actions = policy.select(states, generator=seeded())
    plain, scaled = (learned_change(policy, [(states, actions, a)]) for a in (advantages, factor * advantages))
    assert torch.allclose(plain, scaled, atol=1e-6) and plain.norm() > 1e-3


def test_advantages_are_not_centred_for_they_have_a_baseline():
    policy, states = selector(entropy_bonus=0.0), random_states()
    change = learned_change(policy, [(states, torch.ones(K, B), torch.ones(B))])
    assert change[-1] > 0  # all were worth it: all become likelier


def test_learning_empties_the_episode_and_an_empty_one_changes_nothing():
    policy, states = selector(), random_states()
    policy.episode.append((states, policy.select(states, generator=seeded()), torch.arange(B) / B))
    policy.learn()
    before = parameters(policy)
    assert policy.episode == [] and before.any()
    policy.learn()
    assert torch.equal(before, parameters(policy))


def test_a_batch_of_one_example_does_not_poison_the_policy():
    policy = ReinforcedSelector(3, 2)
    policy.episode.append((torch.ones(2, 1, 6), torch.ones(2, 1), torch.tensor([1.0])))
    policy.learn()
    assert policy.policy.weight.isfinite().all()
