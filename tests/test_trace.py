"""Python functions written with NumPy, as graphs: values, what is traced anew, gradients, and the way out of what cannot be."""

import numpy as np
import pytest

import flowgraph as fg

V = np.array([3.0, 4.0])


def orbit(position, velocity, steps=10, dt=0.1):
    """A body around another at the origin, by the leapfrog method, in plain NumPy."""
    for _ in range(steps):
        velocity = velocity - dt / 2 * position / np.sum(position**2) ** 1.5
        position = position + dt * velocity
        velocity = velocity - dt / 2 * position / np.sum(position**2) ** 1.5
    return {"position": position, "energy": np.sum(velocity**2) / 2 - 1 / np.sqrt(np.sum(position**2))}


def test_a_traced_function_gives_what_the_function_gives():
    traced = fg.trace(orbit)
    for steps in (10, 3):
        want, have = orbit(V, V[::-1], steps), traced(V, V[::-1], steps=steps)
        np.testing.assert_allclose(have["position"], want["position"], rtol=1e-12)
        assert have["energy"] == pytest.approx(want["energy"])


def test_it_is_traced_once_for_each_kind_of_arguments():
    calls = []

    @fg.trace
    def scaled(x, factor=2):
        calls.append(x)
        return x * factor

    for x, *factor in [(V,), (V + 1,), (V, 2), (V, 3), (V, 3), (np.ones(3),), (np.ones(3, "f4"),)]:
        np.testing.assert_array_equal(scaled(x, *factor), x * (factor or [2])[0])
    assert len(calls) == 5


def test_a_number_and_a_truth_value_are_different_arguments():
    kind = fg.trace(lambda x, flag: x + (1.0 if flag is True else 2.0))
    assert [float(kind(np.float64(0), flag)) for flag in (1, True, 1.0)] == [2, 1, 2]


def test_given_a_tensor_it_builds_nodes_in_place():
    traced = fg.trace(orbit)
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2,), "float64")
        (slope,) = fg.gradients(traced(x, V)["energy"], [x])
    with fg.Session(graph, threads=1) as session:
        assert session.run(slope, {x: V}).shape == (2,)
    fg.check_gradient(lambda x: traced(x, V)["energy"], V)


def test_in_place_operators_bind_the_name_anew():
    def summed(x):
        total = x
        total += 1
        total *= x
        return total

    np.testing.assert_array_equal(fg.trace(summed)(V), (V + 1) * V)
    np.testing.assert_array_equal(V, [3.0, 4.0])


ARRAY = np.zeros(2)


def branches(x):
    return x if x[0] > 0 else -x


def writes(x):
    x[0] = 1.0
    return x


def numbers(x):
    return x * float(x[0])


def filled(x):
    ARRAY[0] = x[0]
    return ARRAY


def listed(x):
    return x.tolist()


def missing(x):
    return np.interp(x, [0, 1], [0, 1])


@pytest.mark.parametrize(
    ("function", "text", "way_out"),
    [
        (branches, "has no truth value", "fg.cond"),
        (writes, "cannot be written at an index", "x.at[index].set(value)"),
        (numbers, "not a number", "fg.astype"),
        (listed, "not a number", "session.run"),
        (filled, "not a number", "fg.stack"),
        (missing, "np.interp has no node in flowgraph", "fg.py_call"),
    ],
)
def test_what_cannot_be_traced_names_the_call_the_line_and_the_way_out(function, text, way_out):
    with pytest.raises(fg.GraphError) as caught:
        fg.trace(function)(V)
    assert text in str(caught.value)
    assert way_out in str(caught.value)
    assert f"test_trace.py:{function.__code__.co_firstlineno + 1}" in str(caught.value)


def test_an_argument_that_cannot_be_told_apart_is_refused():
    with pytest.raises(fg.ArgumentError, match="an argument of type set"):
        fg.trace(lambda x, names: x)(V, {1, 2})
