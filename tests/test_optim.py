"""Optimisers: their place in the graph, their schedules, and what they refuse. Their numbers: test_optim_rules.py."""

import math
import warnings
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Average,
    Lion,
    RMSProp,
    cosine,
    exponential,
    global_norm,
    linear,
    one_cycle,
    piecewise,
    step_decay,
)


def wrong(value: Any) -> Any:
    """A value of a type that the annotations do not allow."""
    return value


def names(nodes):
    return [node.name for node in nodes]


# Dtypes and costs


EVERYTHING = {"weight_decay": 0.1, "decoupled": True, "clip_value": 1, "clip_norm": 1, "accumulate": 2, "scales": lambda w: 0.5}


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("rate", [0.1, one_cycle(0.1, 50)], ids=["number", "schedule"])
@pytest.mark.parametrize("rule", [SGD, Adam, AdamW, Lion, RMSProp, Adagrad, Adadelta])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_that_has_the_shape_of_a_variable_keeps_its_dtype(graph, rule, rate, settings, dtype):
    w = fg.variable(fg.init.he_normal((4, 3), dtype), name="w")
    rule(rate, **settings).minimize(fg.sum(w * w))
    shaped = [t for node in graph for t in node.outputs if t.shape == (4, 3) and t.dtype != bool]
    assert len(shaped) > 4
    assert {t.dtype for t in shaped} == {np.dtype(dtype)}


@pytest.mark.parametrize(("settings", "arrays"), [({}, 2), ({"momentum": 0.9}, 4), ({"momentum": 0.9, "nesterov": True}, 6)])
def test_an_update_of_sgd_is_a_handful_of_operations(graph, settings, arrays):
    w = fg.variable(np.ones((4, 3)), name="w")
    loss = fg.sum(w * w)
    fg.gradients(loss, [w])
    before = len(graph)
    SGD(0.1, **settings).minimize(loss)
    made = [node for node in graph.nodes[before:] if node.op.name in ("add", "subtract", "multiply")]
    assert len(made) == arrays


# Where an update stands


def test_updates_stand_in_a_scope_of_the_optimiser_under_the_name_of_their_variable(graph):
    with fg.scope("dense"):
        w = fg.variable(np.ones(3), name="w")
    train = SGD(one_cycle(0.1, 10), momentum=0.9).minimize(fg.sum(w * w), name="fit")
    assert train.name == "fit/update"
    assert graph.node("fit/update") is train
    assert names(graph.variables) == ["dense/w", "fit/step", "fit/dense/w/velocity"]
    assert graph["fit/rate"].shape == ()
    updates = [node for node in graph if node.op.name == "assign"]
    assert train.control == tuple(updates)
    assert {node.scope for node in updates} == {"fit", "fit/dense/w"}


def test_what_the_optimiser_keeps_is_not_trained(graph):
    w = fg.variable(np.ones(3), name="w")
    Adam().minimize(fg.sum(w * w))
    assert [v.name for v in graph.variables if v.node.attrs["trainable"]] == ["w"]


def test_a_rate_that_is_a_number_needs_no_count_of_steps(graph):
    w = fg.variable(np.ones(3), name="w")
    SGD(0.1).minimize(fg.sum(w * w))
    assert names(graph.variables) == ["w"]


def test_each_minimize_has_state_and_a_scope_of_its_own(graph, session):
    a, b = fg.variable(1.0, name="a"), fg.variable(1.0, name="b")
    optimizer = SGD(exponential(1.0, 0.5), momentum=0.5)
    first, second = optimizer.minimize(a * a), optimizer.minimize(b * b)
    assert (first.name, second.name) == ("train/update", "train_1/update")
    session.run(first)
    assert session.variables["train/step"] == 1
    assert session.variables["train_1/step"] == 0


def test_an_update_built_outside_the_block_lands_in_the_graph_of_the_loss():
    with fg.Graph() as graph:
        w = fg.variable(2.0, name="w")
        loss = w * w
    train = SGD(0.25, momentum=0.5).minimize(loss)
    assert train.graph is graph
    assert train.name == "train/update"


def test_training_with_a_schedule_warns_of_nothing(graph, session):
    w = fg.variable(np.ones((2, 2)), name="w")
    loss = fg.sum(w * w)
    train = [Adam(cosine(0.1, 10)).minimize(loss)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.run([loss, train, graph["train/rate"]])
    assert session.variables["train/step"] == 1


# Which variables


def test_all_trainable_variables_that_the_loss_depends_on_are_updated_and_no_others(graph, session):
    used, still, unused = (
        fg.variable(1.0, name="used"),
        fg.variable(1.0, name="still", trainable=False),
        fg.variable(1.0, name="unused"),
    )
    count = fg.variable(3, name="count")  # an integer
    train = SGD(0.5).minimize(used * still * used + fg.astype(count, "float64"))
    session.run(train)
    got = [session.variables[v.name] for v in (used, still, unused, count)]
    assert got == [0.0, 1.0, 1.0, 3]


def test_a_subset_may_be_chosen_even_of_what_is_not_trainable(graph, session):
    a, b = fg.variable(1.0, name="a"), fg.variable(1.0, name="b", trainable=False)
    session.run(SGD(0.5).minimize(a * a + b * b, variables=[b]))
    assert (session.variables["a"], session.variables["b"]) == (1.0, 0.0)


def test_gradients_may_be_changed_between_the_two_halves(graph, session):
    w = fg.variable(np.array([3.0, -4.0]), name="w")
    (g,) = fg.gradients(fg.sum(w * w) / 2, [w])
    norm = fg.sqrt(fg.sum(g * g))
    session.run(SGD(1.0).apply([(g / norm, w)]))
    np.testing.assert_allclose(session.variables["w"], [3 - 0.6, -4 + 0.8])


# Rates


def test_the_rate_may_be_fed(graph, session):
    rate = fg.placeholder("rate", (), "float64")
    w = fg.variable(np.float32(1.0), name="w")
    train = SGD(rate).minimize(w * w)
    session.run(train, {rate: 0.25})
    session.run(train, {rate: 0.0})
    assert session.variables["w"] == np.float32(0.5)
    assert session.variables["w"].dtype == np.float32


def rates(schedule, steps):
    with fg.Graph() as graph:
        step = fg.placeholder("step", (None,), "int64")
        rate = schedule(step)
    with fg.Session(graph, threads=1) as session:
        return session.run(rate, {step: np.asarray(steps, np.int64)})


def test_one_cycle_goes_up_in_a_straight_line_and_down_in_another():
    steps = np.arange(0, 140)
    got = rates(one_cycle(0.5, 100, warmup=0.25, first=0.1, last=0.02), steps)
    np.testing.assert_allclose(got, np.interp(steps, [0, 25, 100], [0.05, 0.5, 0.01]), rtol=1e-12)


def test_one_cycle_trains_in_its_last_step_and_never_again_after():
    got = rates(one_cycle(1.0, 10), [9, 10, 11])
    assert got[0] == pytest.approx(1 / 7)
    assert got[1:].tolist() == [0, 0]


def test_one_cycle_without_warmup_only_falls():
    np.testing.assert_allclose(rates(one_cycle(0.4, 4, warmup=0), range(6)), [0.4, 0.3, 0.2, 0.1, 0, 0], atol=1e-15)


def test_cosine_falls_along_half_a_wave():
    steps = range(120)
    wave = [0.01 + 0.09 * (1 + math.cos(math.pi * min(k, 100) / 100)) / 2 for k in steps]
    np.testing.assert_allclose(rates(cosine(0.1, 100, last=0.1), steps), wave, rtol=1e-12)
    risen = rates(cosine(0.1, 100, warmup=0.1, first=0.0), [0, 5, 10, 55, 100])
    np.testing.assert_allclose(risen, [0, 0.05, 0.1, 0.05, 0], atol=1e-15)


def test_exponential_and_step_decay_meet_at_the_ends_of_their_periods():
    np.testing.assert_allclose(rates(exponential(1.0, 0.25, every=2), [0, 1, 2, 4]), [1, 0.5, 0.25, 0.0625])
    np.testing.assert_allclose(rates(step_decay(1.0, 0.25, every=2), [0, 1, 2, 3, 4]), [1, 1, 0.25, 0.25, 0.0625])


def test_steps_beyond_float32s_integers_are_told_apart():
    got = rates(step_decay(1.0, 0.5, every=2**24 + 1), [2**24, 2**24 + 1])
    assert got.tolist() == [1, 0.5]


def test_linear_has_its_ends_exactly_and_stays_at_the_last():
    got = rates(linear(0.1, 0.7, 3), range(6))
    np.testing.assert_allclose(got, [0.1, 0.3, 0.5, 0.7, 0.7, 0.7], rtol=1e-12)
    assert (got[0], got[3]) == (0.1, 0.7)


def test_piecewise_gives_each_schedule_its_own_count_of_steps():
    schedule = piecewise({10: exponential(1.0, 0.5), 0: linear(0.0, 1.0, 10), 13: 0.25})
    got = rates(schedule, [0, 5, 9, 10, 11, 12, 13, 100])
    np.testing.assert_allclose(got, [0, 0.5, 0.9, 1, 0.5, 0.25, 0.25, 0.25])
    assert got.dtype == np.float64


def test_a_piecewise_rate_trains(graph, session):
    w = fg.variable(8.0, name="w")
    train = SGD(piecewise({0: 0.25, 1: 0.0, 2: 0.25})).minimize(w * w)
    got = [(session.run(train), session.variables["w"])[1] for _ in range(3)]
    assert got == [4, 4, 2]


# Complex variables


def test_sgd_leads_a_complex_variable_to_the_minimum(graph, session):
    z = fg.variable(np.array([1 + 2j, -3j]), name="z")
    loss = fg.sum(fg.square(fg.abs(z - (2 - 1j))))
    train = SGD(0.1, momentum=0.5, clip_norm=10.0).minimize(loss)
    for _ in range(100):
        session.run(train)
    np.testing.assert_allclose(session.variables["z"], 2 - 1j, atol=1e-6)


@pytest.mark.parametrize("rule", [Adam, AdamW, Lion, RMSProp, Adagrad, Adadelta])
def test_a_rule_with_squares_or_signs_refuses_a_complex_variable(graph, rule):
    z = fg.variable(1j, name="z")
    with pytest.raises(fg.ArgumentError, match=f"{rule.__name__}: z is complex128, and the rule is for real numbers"):
        rule().minimize(fg.square(fg.abs(z)))


def test_the_norm_of_complex_tensors_is_that_of_their_parts(graph, session):
    assert session.run(global_norm([fg.constant([3 + 4j]), fg.constant([12.0])])) == 13


# Averages of weights


def test_an_average_is_the_mean_of_all_weights_weighted_by_their_age(graph, session):
    w = fg.variable(np.array([3.0, -1.0]), name="w")
    average = Average(SGD(0.1, momentum=0.5).minimize(fg.sum(w**4)), decay=0.8)
    seen = []
    for _ in range(20):
        session.run(average.update)
        seen.append(session.variables["w"])
    weights = 0.8 ** np.arange(19, -1, -1)
    ((variable, value),) = average.values(session).items()
    assert variable is w
    np.testing.assert_allclose(value, weights @ seen / weights.sum(), rtol=1e-12)


def test_averages_are_fed_in_place_of_the_weights_and_leave_them_alone(graph, session):
    with fg.scope("dense"):
        w = fg.variable(8.0, name="w")
    average = Average(SGD(0.25).minimize(w * w), decay=0.5)
    session.run(average.update)
    session.run(average.update)
    assert session.run(w, average.values(session)) == pytest.approx((4 + 2 * 2) / 3)
    assert session.run(w) == 2
    assert names(graph.variables)[-2:] == ["average/step", "average/dense/w/average"]


def test_an_average_takes_the_updates_of_several_optimisers_and_no_state_of_theirs(graph, session):
    a, b = fg.variable(1.0, name="a"), fg.variable(np.ones(2, np.float32), name="b")
    average = Average([Adam().minimize(a * a), fg.group([SGD(0.1, momentum=0.9).minimize(fg.sum(b * b))])])
    assert list(average.variables) == [a, b]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.run(average.update)
    assert average.variables[b].dtype == np.float32
    np.testing.assert_array_equal(session.variables[average.variables[b]], session.variables[b])


# What is refused


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SGD(-0.1), "SGD: rate is a number, at least 0, got -0.1"),
        (lambda: SGD(wrong("fast")), "SGD: rate is a number"),
        (lambda: SGD(float("nan")), "SGD: rate is a number"),
        (lambda: SGD(0.1, momentum=1), "SGD: momentum is a number, at least 0 and less than 1, got 1"),
        (lambda: SGD(0.1, nesterov=True), "SGD: Nesterov's rule needs a momentum above 0"),
        (lambda: SGD(0.1, weight_decay=-1), "SGD: weight_decay is a number, at least 0, got -1"),
        (lambda: SGD(0.1, decays=wrong(0.5)), "SGD: decays is a function of a variable"),
        (lambda: SGD(0.1, scales=wrong(0.5)), "SGD: scales is a function of a variable"),
        (lambda: SGD(0.1, clip_norm=-1), "SGD: clip_norm is a number, at least 0, got -1"),
        (lambda: SGD(0.1, clip_value=wrong("1")), "SGD: clip_value is a number, at least 0, got '1'"),
        (lambda: SGD(0.1, accumulate=0), "SGD: accumulate is a number of runs, at least 1, got 0"),
        (lambda: Lion(beta1=1), "Lion: beta1 is a number, at least 0 and less than 1, got 1"),
        (lambda: RMSProp(rho=1), "RMSProp: rho is a number, at least 0 and less than 1, got 1"),
        (lambda: Adadelta(epsilon=-1), "Adadelta: epsilon is a number, at least 0, got -1"),
        (lambda: Adagrad(epsilon=wrong(None)), "Adagrad: epsilon is a number, at least 0, got None"),
        (lambda: global_norm([]), "global_norm: there are no tensors"),
        (lambda: piecewise({5: 0.1}), "piecewise: no piece begins at step 0, they begin at [5]"),
        (lambda: piecewise({}), "piecewise: no piece begins at step 0"),
        (lambda: piecewise({-1: 0.1}), "the step of a piece is a whole number, at least 0, got -1"),
        (lambda: piecewise({0: -0.1}), "the rate from step 0 on is a number, at least 0, got -0.1"),
        (lambda: Average(wrong(3), 1), "Average: decay is a number, at least 0 and less than 1, got 1"),
        (lambda: Average([]), "Average: nothing here updates a trainable variable"),
        (lambda: Average(wrong([fg.variable(1.0)])), "Average: takes updates, got <Tensor"),
        (
            lambda: SGD(0.1, scales=lambda w: -1.0).minimize(fg.square(fg.variable(1.0, name="w"))),
            "SGD: the scale of w is a number, at least 0, got -1.0",
        ),
        (lambda: SGD(fg.placeholder("rate", (3,))), "SGD: the rate is one number, rate is (3,) float32"),
        (lambda: Adam(beta2=1.5), "Adam: beta2 is a number, at least 0 and less than 1, got 1.5"),
        (lambda: one_cycle(0.1, 0), "steps is a whole number, at least 1, got 0"),
        (lambda: one_cycle(0.1, 10, warmup=1), "warmup is a part of the steps"),
        (lambda: step_decay(0.1, 0.5, every=wrong(2.5)), "every is a whole number"),
        (lambda: SGD(0.1).minimize(wrong(3.0)), "minimize: the loss is a tensor, got 3.0"),
        (lambda: SGD(0.1).apply([]), "apply: there are no gradients and variables"),
        (lambda: SGD(0.1).apply(wrong([3])), "apply: takes pairs of a gradient and a variable"),
        (
            lambda: SGD(wrong(lambda step: 0.1)).minimize(fg.square(fg.variable(1.0))),
            "SGD: a schedule makes a scalar tensor",
        ),
    ],
)
def test_an_optimiser_that_cannot_be_says_why(graph, make, text):
    with pytest.raises(fg.ArgumentError) as caught:
        make()
    assert text in str(caught.value)


def test_a_loss_without_trainable_variables_is_named(graph):
    loss = fg.sum(fg.placeholder("x", (3,)))
    with pytest.raises(fg.ArgumentError) as caught:
        SGD(0.1).minimize(loss)
    assert "minimize: sum depends on no trainable variable" in str(caught.value)
    assert "sum, made at test_optim.py" in str(caught.value)


def test_a_variable_that_no_gradient_reaches_is_named_with_the_place_where_the_path_stops(graph):
    w = fg.variable(np.ones(3), name="w")
    b = fg.variable(1.0, name="b")
    loss = fg.sum(fg.floor(w)) * b
    with pytest.raises(fg.GradientError, match="the path from multiply to w stops at floor"):
        SGD(0.1).minimize(loss)
    with pytest.raises(fg.GradientError, match="multiply does not depend on v"):
        SGD(0.1).minimize(loss, variables=[fg.variable(1.0, name="v")])


def test_only_variables_are_updated(graph):
    w = fg.variable(1.0, name="w")
    with pytest.raises(fg.ArgumentError, match="minimize: only variables are updated, got <Tensor multiply"):
        SGD(0.1).minimize(w * w, variables=[w * 2])


def test_a_gradient_that_is_missing_foreign_or_for_a_variable_seen_before_is_refused(graph):
    w = fg.variable(1.0, name="w")
    with fg.Graph():
        foreign = fg.placeholder("g", (), "float64")
    with pytest.raises(fg.GradientError, match="there is no gradient for w"):
        SGD(0.1).apply([(None, w)])
    with pytest.raises(fg.GraphError, match="g and w belong to two graphs"):
        SGD(0.1).apply([(foreign, w)])
    with pytest.raises(fg.ArgumentError, match="w is updated twice"):
        SGD(0.1).apply([(w, w), (w, w)])
    with pytest.raises(fg.GraphError, match="the rate, g, belongs to another graph than w"):
        SGD(foreign).apply([(w, w)])


def test_minimising_something_that_is_no_scalar_says_how_to_make_it_one(graph):
    w = fg.variable(np.ones(3), name="w")
    with pytest.raises(fg.GradientError, match=r"take fg\.sum or fg\.mean"):
        SGD(0.1).minimize(w * w)
