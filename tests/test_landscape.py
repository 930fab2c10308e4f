"""Surfaces, sharpness, curvature and paths against closed forms and dense Hessians; the model survives all of them."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from rosutils import InputError, landscape
from rosutils.data import Batch


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(seed=0, dtype=torch.float32):
    """Convolution, BatchNorm with statistics of its own, a linear layer; every kind of parameter, smooth."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)
        model = nn.Sequential(*layers).to(dtype)
        for values in (model[1].running_mean, model[1].weight.data, model[1].bias.data):
            values.normal_()
        model[1].running_var.uniform_(0.5, 2)
    return model


def batch_of(n=6, dtype=torch.float32):
    images = torch.randn(n, 1, 4, 4, generator=seeded(1), dtype=torch.float64).to(dtype)
    return Batch(images, torch.arange(n) % 3, torch.arange(n), 0)


def cross_entropy(model, batch):
    return nn.functional.cross_entropy(model(batch.images), batch.labels)


class Weights(nn.Module):
    """Nothing but a weight [F, D] in float64, for losses that are functions of the weights."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight, dtype=torch.float64))


def quadratic(model, batch):
    """Half the squared distance from the weights to a centre, each axis with its curvature; batch is (centre, curvature)."""
    centre, curvature = batch
    return 0.5 * (curvature * (model.weight - centre) ** 2).sum()


def a_quadratic(shape=(3, 4), seed=0):
    weight, centre = torch.randn(2, *shape, generator=seeded(seed), dtype=torch.float64)
    curvature = torch.rand(shape, generator=seeded(seed + 1), dtype=torch.float64) * 4 - 1
    return Weights(weight), (centre, curvature)


def state(model):
    """All that must not change: the bits of parameters and buffers, gradients, modes and flags."""
    tensors = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    flags = [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    return tensors, flags, [module.training for module in model.modules()]


def planes(model, points=5, seed=0):
    return landscape.filter_normalized_directions(model, generator=seeded(seed)), landscape.square_grid(0.5, points)


# directions


def by_the_book(model, seed, moved):
    """Li et al.'s directions, filter by filter in loops; `moved` tells which names are not zero."""
    generator, found = seeded(seed), []
    for _ in range(2):
        direction = {}
        for name, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator).double()
            if parameter.ndim > 1:
                for filter_, own in zip(draw, parameter.detach().double(), strict=True):
                    filter_.mul_(own.norm() / filter_.norm())
            else:
                draw.mul_(parameter.detach().double().norm() / draw.norm())
            direction[name] = draw if name in moved else torch.zeros_like(draw)
        found.append(direction)
    return found


CONV, HEAD, BIASES, BN = "0.weight", "4.weight", {"0.bias", "4.bias"}, {"1.weight", "1.bias"}


@pytest.mark.parametrize(
    ("ignore", "moved"),
    [
        (("bn", "bias"), {CONV, HEAD}),
        (("bias",), {CONV, HEAD, "1.weight"}),
        (("bn",), {CONV, HEAD} | BIASES),
        ((), {CONV, HEAD} | BIASES | BN),
    ],
)
def test_directions_are_gaussian_draws_with_the_norms_of_the_models_filters(ignore, moved):
    model = network(dtype=torch.float64)
    found = landscape.filter_normalized_directions(model, generator=seeded(7), ignore=ignore)
    for ours, expected in zip(found, by_the_book(model, 7, moved), strict=True):
        assert ours.keys() == expected.keys()
        for name, value in ours.items():
            assert torch.allclose(value, expected[name], rtol=1e-12, atol=0) and not value.requires_grad, name


def test_two_models_get_the_same_draws_in_any_precision_and_another_seed_gets_others():
    def unit(model, seed):
        directions = landscape.filter_normalized_directions(model, generator=seeded(seed))
        return [nn.functional.normalize(each[CONV].double().flatten(1), dim=1) for each in directions]

    ours, theirs = unit(network(0), 3), unit(network(1, torch.float64), 3)
    assert not torch.allclose(network(0)[0].weight, network(1)[0].weight)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))
    assert not torch.allclose(ours[0], ours[1], atol=0.1)
    assert not torch.allclose(ours[0], unit(network(0), 4)[0], atol=0.1)


def test_a_filter_of_zeros_does_not_move_layouts_are_kept_and_single_numbers_are_filters_too():
    model = network().to(memory_format=torch.channels_last)
    nn.init.zeros_(model[0].weight[1])
    model.register_parameter("scale", nn.Parameter(torch.tensor(-3.0)))
    first, _ = landscape.filter_normalized_directions(model, generator=seeded())
    assert (first[CONV][1] == 0).all() and (first[CONV][0] != 0).all()
    assert first[CONV].stride() == model[0].weight.stride()
    assert abs(first["scale"]).item() == pytest.approx(3)
    length = math.hypot(*(value.norm().item() for value in first.values()))
    assert landscape.weight_norm(model) == pytest.approx(length, rel=1e-6)


# grid


@pytest.mark.parametrize(("span", "points"), [(1.0, 21), (0.3, 13), (1.0, 1)])
def test_the_grid_is_even_symmetric_and_has_an_exact_zero_in_the_centre(span, points):
    grid = landscape.square_grid(span, points)
    assert grid.shape == (points,) and grid.dtype == np.float64
    assert grid[points // 2] == 0 and (grid == -grid[::-1]).all()
    if points > 1:
        assert grid[0] == -span and grid[-1] == span
        assert np.diff(grid) == pytest.approx(2 * span / (points - 1))


# surface


def test_the_surface_of_a_quadratic_is_its_closed_form_on_the_whole_grid():
    model, (centre, curvature) = a_quadratic()
    (first, second), grid = planes(model, points=7)
    found = landscape.loss_surface(model, (first, second), grid, (centre, curvature), quadratic)
    weight, d, e = model.weight.detach(), first["weight"], second["weight"]
    middle, slope = quadratic(model, (centre, curvature)).item(), curvature * (weight - centre)
    a, b = grid[:, None], grid[None, :]  # rows go along the first direction
    linear = a * (slope * d).sum().item() + b * (slope * e).sum().item()
    square = [(curvature * u * v).sum().item() for u, v in ((d, d), (d, e), (e, e))]
    expected = middle + linear + 0.5 * a**2 * square[0] + a * b * square[1] + 0.5 * b**2 * square[2]
    assert found.dtype == np.float64 and found.shape == (7, 7)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found[3, 3] == middle
    assert not np.allclose(found, found.T) and not np.allclose(found, found[::-1])


def test_each_point_is_bit_for_bit_the_loss_of_a_network_put_there():
    """From the saved weights, that is; steps added up would be off in the last bits, the centre too."""
    model, batch = network(), batch_of()
    (first, second), grid = planes(model)[0], [0.5, -1.0, 0.0]  # walked as given
    found = landscape.loss_surface(model, (first, second), grid, batch, cross_entropy)
    for i, a in enumerate(grid):
        for j, b in enumerate(grid):
            there = copy.deepcopy(model).eval()
            with torch.no_grad():
                for name, parameter in there.named_parameters():
                    parameter.copy_(parameter + a * first[name] + b * second[name])
                assert found[i, j] == cross_entropy(there, batch).item(), (i, j)


def test_a_loss_that_overflows_stays_in_the_surface():
    model = Weights(torch.ones(1, 2))
    directions, grid = planes(model, points=3)
    answers = iter([math.inf, math.nan, *range(7)])
    found = landscape.loss_surface(model, directions, grid, None, lambda model, batch: torch.tensor(next(answers)))
    assert found[0, 0] == math.inf and math.isnan(found[0, 1]) and found[2, 2] == 6


# the model afterwards


def surface(model, loss_fn):
    return landscape.loss_surface(model, *planes(model, points=3), batch_of(), loss_fn)


WALKS = {
    "surface": surface,
    "sharpness": lambda m, f: landscape.sharpness(m, batch_of(), f, radius=0.1, generator=seeded()),
    "eigenvalue": lambda m, f: landscape.hessian_eigenvalue(m, batch_of(), f, iterations=3, generator=seeded()),
    "trace": lambda m, f: landscape.hessian_trace(m, batch_of(), f, samples=3, generator=seeded()),
    "path from it": lambda m, f: landscape.path(m, network(1), batch_of(), f, steps=4),
    "path to it": lambda m, f: landscape.path(network(1), m, batch_of(), f, steps=4),
}


def mixed():
    """A network half in training mode, with a frozen layer, and with a zero that has a sign."""
    model = network().train()
    model[1].eval()
    model[4].requires_grad_(False)
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = -0.0
    return model


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
def test_the_loss_is_asked_in_eval_mode_the_model_stays_bit_for_bit_and_the_generator_alone_decides(walk):
    model, asked, drawn = mixed(), [], torch.get_rng_state()
    before = state(model)

    def loss_fn(model, batch):
        asked.append([module.training for module in model.modules()])
        return cross_entropy(model, batch)

    first, second = walk(model, loss_fn), walk(model, loss_fn)
    assert asked and not any(any(modes) for modes in asked)
    assert state(model) == before and torch.equal(drawn, torch.get_rng_state())
    assert np.array_equal(first, second) and np.isfinite(first).all()


@pytest.mark.parametrize("name", ["sharpness", "eigenvalue", "trace"])
def test_gradients_are_had_where_the_caller_has_switched_them_off(name):
    expected = WALKS[name](network(), cross_entropy)
    with torch.no_grad():
        assert WALKS[name](network(), cross_entropy) == expected


# basins


def paraboloid(points=11):
    x = np.arange(points) - points // 2
    return (x[:, None] ** 2 + x[None, :] ** 2).astype(float)


@pytest.mark.parametrize(("level", "inside"), [(0.5, 1), (1, 5), (8, 25), (1000, 121)])
def test_the_basin_of_a_paraboloid_is_a_disc_around_the_centre(level, inside):
    assert landscape.basin_area(paraboloid() + 7, level) == pytest.approx(inside / 121)


def test_a_second_basin_does_not_count_until_a_pass_joins_it_and_a_corner_does_not_join():
    surface = paraboloid()
    surface[9:, 9:] = -5.0  # nor is the level counted from the lowest point
    assert landscape.basin_area(surface, 2) == pytest.approx(9 / 121)
    surface[7, 7] = 1.5
    assert landscape.basin_area(surface, 2) == pytest.approx(9 / 121)
    surface[6:10, 6] = surface[9, 6:10] = 1.5
    assert landscape.basin_area(surface, 2) == pytest.approx((9 + 6 + 4 - 1 + 1) / 121)


def test_points_that_overflow_are_outside_and_a_centre_that_does_has_no_basin():
    surface = paraboloid(3)
    surface[0, 1], surface[1, 0] = math.inf, math.nan
    assert landscape.basin_area(surface, 1) == pytest.approx(3 / 9)
    for centre in (math.inf, math.nan):
        surface[1, 1] = centre
        assert math.isnan(landscape.basin_area(surface, 1))


# sharpness


def test_sharpness_beside_a_round_bowls_minimum_is_the_rise_straight_away_from_it(radius=0.3):
    model, (centre, _) = a_quadratic()
    found = landscape.sharpness(model, (centre, torch.tensor(3.0)), quadratic, radius=radius, generator=seeded())
    distance, reach = (model.weight - centre).norm().item(), radius * model.weight.norm().item()
    highest = 1.5 * ((distance + reach) ** 2 - distance**2)
    assert 0.98 * highest < found <= highest * (1 + 1e-9)


def test_sharpness_at_a_minimum_is_the_rise_along_the_steepest_axis():
    weight, curvature = torch.ones(2, 3), torch.tensor([[1.0, 1.0, 1.0], [1.0, 10.0, 1.0]]).double()
    highest = 0.5 * 10 * 0.2**2 * 6  # of all points at 0.2 * sqrt(6)
    for seed in range(5):
        found = landscape.sharpness(Weights(weight), (weight, curvature), quadratic, radius=0.2, generator=seeded(seed))
        assert 0.97 * highest < found <= highest * (1 + 1e-9)


def test_sharpness_stays_in_the_ball_and_leaves_biases_and_batchnorm_in_place():
    model, farthest = network(dtype=torch.float64), []
    start = {name: value.detach().clone() for name, value in model.named_parameters()}

    def loss_fn(model, batch):
        moves = {name: float((value.detach() - start[name]).norm()) for name, value in model.named_parameters()}
        assert all(moves[name] == 0 for name in BIASES | BN)
        farthest.append(math.hypot(*moves.values()))
        return cross_entropy(model, batch)

    rise = landscape.sharpness(model, batch_of(dtype=torch.float64), loss_fn, radius=0.1, generator=seeded())
    reach = 0.1 * landscape.weight_norm(model)
    assert farthest[0] == 0 and farthest[1] == pytest.approx(reach / 10)
    assert max(farthest) == pytest.approx(reach, rel=1e-9) and len(farthest) == 12
    assert rise > 0


@pytest.mark.parametrize(
    ("losses", "rise"),
    [((1, 2, 5), 4), ((1, 6, 5), 5), ((3, 2, 1), 0), ((3, math.nan, 1), 0), ((1, 2, math.inf), math.inf),
     ((math.nan, 2, 3), math.nan), ((math.inf, math.inf, 3), math.nan)],
)  # fmt: skip
def test_the_highest_loss_on_the_way_counts_and_what_is_no_number_does_not(losses, rise):
    # of the model, of the start, of the ten steps' ends; the gradient is 1 everywhere
    answers = itertools.chain(losses, 9 * losses[-1:])

    def loss_fn(model, batch):
        return (model.weight - model.weight.detach()).sum() + next(answers)

    found = landscape.sharpness(Weights(torch.ones(1, 4)), None, loss_fn, radius=0.1, generator=seeded())
    assert found == pytest.approx(rise, nan_ok=True) and not list(answers)


def test_the_ascent_ends_where_there_is_no_slope_and_a_model_of_zeros_has_no_ball_to_rise_in():
    losses, draws = iter([1.0, 2.0]), {"radius": 0.1, "generator": seeded()}
    flat = lambda model, batch: (0 * model.weight).sum() + next(losses)  # noqa: E731
    assert landscape.sharpness(Weights(torch.ones(1, 4)), None, flat, **draws) == 1
    ones = torch.ones(2, 2)
    assert landscape.sharpness(Weights(0 * ones), (ones, ones), quadratic, **draws) == 0


# curvature


def dense_hessian(model, batch, sign=1):
    """All second derivatives [P, P] of the loss by all parameters, in eval mode."""
    model = copy.deepcopy(model).eval()
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    sizes = [value.numel() for value in parameters.values()]

    def loss(flat):
        parts = [part.view_as(value) for part, value in zip(flat.split(sizes), parameters.values(), strict=True)]
        logits = torch.func.functional_call(model, dict(zip(parameters, parts, strict=True)), (batch.images,))
        return sign * nn.functional.cross_entropy(logits, batch.labels)

    return torch.autograd.functional.hessian(loss, torch.cat([value.flatten() for value in parameters.values()]))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_eigenvalue_is_the_largest_in_magnitude_of_the_dense_hessian_with_its_sign(sign):
    model, batch = network(dtype=torch.float64), batch_of(dtype=torch.float64)
    eigenvalues = torch.linalg.eigvalsh(dense_hessian(model, batch, sign))
    expected = eigenvalues[eigenvalues.abs().argmax()].item()
    found = landscape.hessian_eigenvalue(
        model, batch, lambda m, b: sign * cross_entropy(m, b), iterations=150, generator=seeded()
    )
    assert found == pytest.approx(expected, rel=1e-6) and sign * found > 0


def test_one_iteration_is_the_rayleigh_quotient_of_the_first_draw():
    model, batch = a_quadratic()
    draw = torch.randn(3, 4, generator=seeded(5)).double()
    expected = ((batch[1] * draw**2).sum() / (draw**2).sum()).item()
    found = landscape.hessian_eigenvalue(model, batch, quadratic, iterations=1, generator=seeded(5))
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_trace_is_that_of_the_dense_hessian_within_its_error_and_so_is_the_error():
    model, batch = network(dtype=torch.float64), batch_of(dtype=torch.float64)
    hessian = dense_hessian(model, batch)
    trace, error = landscape.hessian_trace(model, batch, cross_entropy, samples=400, generator=seeded())
    off_diagonal = (hessian**2).sum() - (hessian.diagonal() ** 2).sum()
    expected_error = math.sqrt(2 * off_diagonal.item() / 400)
    assert error == pytest.approx(expected_error, rel=0.15)
    assert abs(trace - hessian.trace().item()) < 3 * error
    assert error < 0.1 * trace


def test_rademacher_probes_give_the_trace_of_a_diagonal_hessian_exactly():
    model, batch = a_quadratic()
    trace, error = landscape.hessian_trace(model, batch, quadratic, samples=2, generator=seeded())
    assert trace == pytest.approx(batch[1].sum().item(), rel=1e-12) and error == pytest.approx(0, abs=1e-12)


def test_parameters_that_the_loss_ignores_and_a_loss_linear_in_them_have_no_curvature():
    def linear(model, batch):
        return (model.weight * batch).sum()

    model, batch = Weights(torch.ones(2, 2)), torch.arange(4.0).view(2, 2)
    model.unused = nn.Linear(3, 3)
    assert landscape.hessian_eigenvalue(model, batch, linear, iterations=3, generator=seeded()) == 0
    assert landscape.hessian_trace(model, batch, linear, samples=3, generator=seeded()) == (0, 0)


# paths


@pytest.mark.parametrize(("dtype", "steps"), [(torch.float32, 60), (torch.float64, 2)])
def test_the_ends_of_a_path_are_exactly_the_losses_of_both_models(steps, dtype):
    start, end, batch = network(0, dtype), network(1, dtype).train(), batch_of(dtype=dtype)
    found = landscape.path(start, end, batch, cross_entropy, steps=steps)
    assert found.shape == (steps,) and found.dtype == np.float64
    ends = [cross_entropy(model.eval(), batch).item() for model in (start, end)]
    assert [found[0], found[-1]] == ends and ends[0] != ends[1]


def test_statistics_of_batchnorm_go_along_with_the_weights():
    start, end, batch = network(0, torch.float64), network(1, torch.float64), batch_of(dtype=torch.float64)
    start[1].num_batches_tracked.fill_(4)
    end[1].num_batches_tracked.fill_(9)
    found = landscape.path(start, end, batch, cross_entropy, steps=5)
    for step in range(5):
        there, last = copy.deepcopy(start).eval(), end.state_dict()
        there.load_state_dict({
            name: torch.lerp(value, last[name], step / 4) if value.is_floating_point() else value
            for name, value in start.state_dict().items()
        })  # fmt: skip
        assert found[step] == pytest.approx(cross_entropy(there, batch).item(), rel=1e-10), step


# What is refused


def refused():
    """Calls with one thing wrong each, and what is said of it."""
    for walk in ("sharpness", "eigenvalue", "trace"):
        yield "no gradient", lambda w=walk: WALKS[w](network(), lambda m, batch: cross_entropy(m, batch).detach())
    for loss in (torch.zeros(2), 1.5):
        yield "one number", lambda value=loss: surface(network(), lambda model, batch: value)
    model, batch, draws = network(), batch_of(), {"generator": seeded()}
    (directions, grid), flat = planes(model), np.zeros((3, 3))
    asked = (model, batch, cross_entropy)
    other = {**directions[1], CONV: torch.zeros(3, 1, 2, 2)}
    for ignore in ("bias", ("biasbn",), ("bn", "weight")):
        yield "ignore.*bias, bn", lambda i=ignore: landscape.filter_normalized_directions(model, ignore=i, **draws)
    yield "torch.Generator", lambda: landscape.filter_normalized_directions(model, generator=None)
    for points in (20, 0, -3, 5.0, True):
        yield f"points is {points!r}.*odd", lambda n=points: landscape.square_grid(1.0, n)
    for wrong in ((directions[0], other), ({}, directions[1])):
        yield "direction has other names", lambda w=wrong: landscape.loss_surface(model, w, grid, batch, cross_entropy)
    for line in ([], [[0.0]], [0.0, math.nan]):
        yield "grid has shape", lambda g=line: landscape.loss_surface(model, directions, g, batch, cross_entropy)
    for shape in ((4, 4), (3, 5), (3,), (0, 0)):
        yield "odd side", lambda s=shape: landscape.basin_area(np.zeros(s), 1)
    for number in (0, -1.0, math.inf, math.nan):
        yield f"span is {number}", lambda n=number: landscape.square_grid(n, 3)
        yield f"level is {number}", lambda n=number: landscape.basin_area(flat, n)
        yield f"radius is {number}", lambda n=number: landscape.sharpness(*asked, radius=n, **draws)
    yield "no weights to move", lambda: landscape.sharpness(nn.BatchNorm2d(3), *asked[1:], radius=0.1, **draws)
    for count in (0, 2.0, True):
        yield "iterations is", lambda n=count: landscape.hessian_eigenvalue(*asked, iterations=n, **draws)
    for count in (0, 1, 2.5):
        yield "samples is .*at least 2", lambda n=count: landscape.hessian_trace(*asked, samples=n, **draws)
        yield "steps is .*at least 2", lambda n=count: landscape.path(model, *asked, steps=n)
    larger = nn.Sequential(*network()[:4], nn.Linear(12, 5))
    yield "different shape.*4.bias, 4.weight", lambda: landscape.path(model, larger, *asked[1:], steps=3)


@pytest.mark.parametrize(("says", "call"), list(refused()))
def test_what_does_not_fit_is_refused_with_its_value(says, call):
    with pytest.raises(InputError, match=says):
        call()
