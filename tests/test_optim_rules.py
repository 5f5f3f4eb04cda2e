"""The numbers of optimisers: fifty steps of each, one by one, beside the published formula, written independently in NumPy."""

from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.optim import SGD, Adadelta, Adagrad, Adam, AdamW, Lion, RMSProp, exponential

STEPS = 50

A = np.random.default_rng(0).standard_normal((6, 4))
TARGET = np.random.default_rng(1).standard_normal((6, 3))


def trained(optimizer, dtype="float64"):
    """The matrix and the bias after each of STEPS steps on a least-squares problem, stacked."""
    with fg.Graph() as graph:
        w = fg.variable(np.ones((4, 3), dtype), name="w")
        b = fg.variable(np.zeros(3, dtype), name="b")
        loss = fg.mean(fg.square(A.astype(dtype) @ w + b - TARGET.astype(dtype)))
        train = optimizer.minimize(loss)
    with fg.Session(graph, threads=1) as session:
        after = []
        for _ in range(STEPS):
            session.run(train)
            after.append((session.variables["w"], session.variables["b"]))
    return [np.stack(values) for values in zip(*after, strict=True)]


def transcribed(rule):
    """The same by ``rule(t, i, parameter, gradient) -> parameter``, with gradients by hand."""
    return transcribed_together(
        lambda t, parameters, gradients: [rule(t, i, p, g) for i, (p, g) in enumerate(zip(parameters, gradients, strict=True))]
    )


def transcribed_together(step):
    """The same by ``step(t, parameters, gradients) -> parameters``, which sees all of them at once."""
    parameters: list[Any] = [np.ones((4, 3)), np.zeros(3)]
    after = []
    for t in range(1, STEPS + 1):
        residual = 2 / TARGET.size * (A @ parameters[0] + parameters[1] - TARGET)
        parameters = step(t, parameters, [A.T @ residual, residual.sum(axis=0)])
        after.append(parameters)
    return [np.stack(values) for values in zip(*after, strict=True)]


def torch_sgd(rate, momentum=0.0, nesterov=False, weight_decay=0.0):
    # https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html, with dampening 0
    buffers: dict[int, Any] = {}

    def rule(t, i, p, g):
        g = g + weight_decay * p
        if momentum:
            buffers[i] = momentum * buffers[i] + g if i in buffers else g
            g = g + momentum * buffers[i] if nesterov else buffers[i]
        return p - (rate(t - 1) if callable(rate) else rate) * g

    return rule


SETTINGS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"weight_decay": 0.1},
    {"momentum": 0.9, "weight_decay": 0.1},
    {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_fifty_steps_of_sgd_are_those_of_pytorchs_formula(settings):
    ours = trained(SGD(0.1, **settings, decays=lambda w: True))
    theirs = transcribed(torch_sgd(0.1, **settings))
    for have, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-14)


def adam(rate, beta1, beta2, epsilon):
    # Kingma and Ba, algorithm 1
    m, v = [0.0, 0.0], [0.0, 0.0]

    def rule(t, i, p, g):
        m[i] = beta1 * m[i] + (1 - beta1) * g
        v[i] = beta2 * v[i] + (1 - beta2) * g**2
        return p - rate * (m[i] / (1 - beta1**t)) / (np.sqrt(v[i] / (1 - beta2**t)) + epsilon)

    return rule


@pytest.mark.parametrize("settings", [(0.1, 0.9, 0.999, 1e-8), (0.01, 0.5, 0.9, 0.1), (0.1, 0.0, 0.0, 1e-8)], ids=str)
def test_fifty_steps_of_adam_are_those_of_the_published_algorithm(settings):
    for have, want in zip(trained(Adam(*settings)), transcribed(adam(*settings)), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-10, atol=1e-13)


def with_decay(rule, weight_decay):
    # as in PyTorch's optimisers other than AdamW: decay is part of the gradient
    return lambda t, i, p, g: rule(t, i, p, g + weight_decay * p)


def adamw(rate, weight_decay, beta1=0.9, beta2=0.999, epsilon=1e-8):
    # https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html
    step = adam(rate, beta1, beta2, epsilon)

    def rule(t, i, p, g):
        return step(t, i, p - rate * weight_decay * p, g)

    return rule


def lion(rate, weight_decay, beta1=0.9, beta2=0.99):
    # Chen et al., program 1
    m = [0.0, 0.0]

    def rule(t, i, p, g):
        way = np.sign(beta1 * m[i] + (1 - beta1) * g)
        m[i] = beta2 * m[i] + (1 - beta2) * g
        return p - rate * (way + weight_decay * p)

    return rule


def torch_rmsprop(rate, alpha, momentum=0.0, centered=False, epsilon=1e-8, weight_decay=0.0):
    # https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html
    v, b, mean = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]

    def rule(t, i, p, g):
        g = g + weight_decay * p
        v[i] = alpha * v[i] + (1 - alpha) * g * g
        spread = v[i]
        if centered:
            mean[i] = mean[i] * alpha + (1 - alpha) * g
            spread = spread - mean[i] ** 2
        b[i] = momentum * b[i] + g / (np.sqrt(spread) + epsilon)
        return p - rate * b[i]

    return rule


def adagrad(rate, epsilon=1e-10):
    # https://docs.pytorch.org/docs/stable/generated/torch.optim.Adagrad.html, with lr_decay 0
    total = [0.0, 0.0]

    def rule(t, i, p, g):
        total[i] = total[i] + g**2
        return p - rate * g / (np.sqrt(total[i]) + epsilon)

    return rule


def adadelta(rate, rho, epsilon):
    # Zeiler, algorithm 1; the rate is PyTorch's
    squares, steps = [0.0, 0.0], [0.0, 0.0]

    def rule(t, i, p, g):
        squares[i] = rho * squares[i] + (1 - rho) * g**2
        step = -np.sqrt(steps[i] + epsilon) / np.sqrt(squares[i] + epsilon) * g
        steps[i] = rho * steps[i] + (1 - rho) * step**2
        return p + rate * step

    return rule


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Adam(0.05, weight_decay=0.3, decays=lambda w: True), with_decay(adam(0.05, 0.9, 0.999, 1e-8), 0.3)),
        (AdamW(0.05, weight_decay=0.3, decays=lambda w: True), adamw(0.05, 0.3)),
        (AdamW(0.05, 0.8, 0.9, 0.01, weight_decay=0.3, decays=lambda w: True), adamw(0.05, 0.3, 0.8, 0.9, 0.01)),
        (AdamW(0.05, decays=lambda w: True), adamw(0.05, 0.01)),
        (Adam(0.05, weight_decay=0.3, decoupled=True, decays=lambda w: True), adamw(0.05, 0.3)),
        (Lion(0.01), lion(0.01, 0.0)),
        (Lion(0.01, 0.7, 0.5, weight_decay=0.4, decays=lambda w: True), lion(0.01, 0.4, 0.7, 0.5)),
        (RMSProp(0.05), torch_rmsprop(0.05, 0.99)),
        (RMSProp(0.05, rho=0.8, momentum=0.7, weight_decay=0.1, decays=lambda w: True), torch_rmsprop(0.05, 0.8, 0.7, weight_decay=0.1)),
        (RMSProp(0.05, rho=0.8, centered=True, epsilon=0.01), torch_rmsprop(0.05, 0.8, centered=True, epsilon=0.01)),
        (RMSProp(0.05, rho=0.8, centered=True, momentum=0.5, epsilon=0.01), torch_rmsprop(0.05, 0.8, 0.5, True, 0.01)),
        (Adagrad(0.3), adagrad(0.3)),
        (Adagrad(0.3, epsilon=0.1), adagrad(0.3, 0.1)),
        (Adagrad(0.3, weight_decay=0.1, decays=lambda w: True), with_decay(adagrad(0.3), 0.1)),
        (Adadelta(), adadelta(1.0, 0.9, 1e-6)),
        (Adadelta(0.5, rho=0.6, epsilon=0.01), adadelta(0.5, 0.6, 0.01)),
        (Adadelta(0.5, weight_decay=0.1, decays=lambda w: True), with_decay(adadelta(0.5, 0.9, 1e-6), 0.1)),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, fg.optim.Optimizer) else "",
)
def test_fifty_steps_are_those_of_the_published_formula(ours, theirs):
    for have, want in zip(trained(ours), transcribed(theirs), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-9, atol=1e-12)


def test_a_schedule_counts_the_steps_that_were_made():
    def rate(step):
        return 0.1 * 0.9**step

    ours = trained(SGD(exponential(0.1, 0.9), momentum=0.9))
    for have, want in zip(ours, transcribed(torch_sgd(rate, momentum=0.9)), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-12)


def test_only_tensors_of_two_dimensions_decay_unless_told_otherwise():
    decayed, plain = trained(SGD(0.1, weight_decay=0.1)), trained(SGD(0.1))
    everything = trained(SGD(0.1, weight_decay=0.1, decays=lambda w: True))
    assert not np.allclose(decayed[0], plain[0])
    assert not np.allclose(decayed[1], everything[1])
    nothing = trained(SGD(0.1, weight_decay=0.1, decays=lambda w: False))
    np.testing.assert_array_equal(nothing[0], plain[0])


# What is common to all of them


@pytest.mark.parametrize("limit", [0.2, 1.0, 100.0, 0.0])
def test_a_norm_beyond_the_limit_is_scaled_down_to_it_over_all_gradients_together(limit):
    rule = torch_sgd(0.1, momentum=0.9)

    def step(t, parameters, gradients):
        norm = np.linalg.norm(np.concatenate([g.ravel() for g in gradients]))
        return [rule(t, i, p, g * min(1.0, limit / norm)) for i, (p, g) in enumerate(zip(parameters, gradients, strict=True))]

    for have, want in zip(trained(SGD(0.1, momentum=0.9, clip_norm=limit)), transcribed_together(step), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-10, atol=1e-13)


def test_values_are_clipped_before_the_norm_and_decay_is_not_clipped():
    rule = torch_sgd(0.1, weight_decay=0.5)

    def step(t, parameters, gradients):
        gradients = [np.clip(g, -0.05, 0.05) for g in gradients]
        norm = np.linalg.norm(np.concatenate([g.ravel() for g in gradients]))
        return [rule(t, i, p, g * min(1.0, 0.1 / norm)) for i, (p, g) in enumerate(zip(parameters, gradients, strict=True))]

    ours = SGD(0.1, weight_decay=0.5, decays=lambda w: True, clip_value=0.05, clip_norm=0.1)
    for have, want in zip(trained(ours), transcribed_together(step), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-10, atol=1e-13)


def test_clipping_leaves_a_gradient_within_the_limit_as_it_is_to_the_bit():
    for have, want in zip(trained(Adam(0.1, clip_norm=1e6)), trained(Adam(0.1)), strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("rate", [0.1, exponential(0.1, 0.95)])
def test_a_scale_multiplies_the_rate_of_its_variable_and_its_decoupled_decay(rate):
    m, v = [0.0, 0.0], [0.0, 0.0]

    def step(t, parameters, gradients):
        base = 0.1 * 0.95 ** (t - 1) if callable(rate) else 0.1
        made = []
        for i, (p, g, scale) in enumerate(zip(parameters, gradients, [1.0, 0.1], strict=True)):
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g * g
            move = (m[i] / (1 - 0.9**t)) / (np.sqrt(v[i] / (1 - 0.999**t)) + 1e-8)
            made.append(p - base * scale * (move + 0.3 * p))
        return made

    ours = AdamW(rate, weight_decay=0.3, decays=lambda w: True, scales=lambda w: 0.1 if w.name == "b" else 1.0)
    for have, want in zip(trained(ours), transcribed_together(step), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-9, atol=1e-12)


def test_so_many_runs_that_are_accumulated_make_the_step_of_one_run_with_all_their_rows():
    rows = np.random.default_rng(2).standard_normal((24, 4))

    def after(size, **settings):
        with fg.Graph() as graph:
            x = fg.placeholder("x", (None, 4), "float64")
            w = fg.variable(np.ones((4, 3)), name="w")
            loss = fg.mean(fg.square(x @ w - 1))
            train = AdamW(exponential(0.1, 0.9), clip_norm=0.5, **settings).minimize(loss)
        seen = []
        with fg.Session(graph, threads=1) as session:
            for start in range(0, 24, size):
                session.run(train, {x: rows[start : start + size]})
                seen.append(session.variables["w"])
            assert session.variables["train/step"] == 3
        return seen

    whole, parts = after(8), after(2, accumulate=4)
    for step in range(3):
        np.testing.assert_allclose(parts[4 * step + 3], whole[step], rtol=1e-12)
        before = whole[step - 1] if step else np.ones((4, 3))
        for run in range(3):
            np.testing.assert_allclose(parts[4 * step + run], before, rtol=1e-12)  # nothing moves until the step is complete


def test_the_norm_of_several_tensors_is_that_of_one_vector():
    with fg.Graph() as graph, fg.Session(graph, threads=1) as session:
        a, b = fg.constant(np.full((2, 3), 2.0)), fg.constant([1.0, 0.0])
        assert session.run(fg.optim.global_norm([a, b])) == 5
