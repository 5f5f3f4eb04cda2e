"""Less memory for more time, decided when a function is compiled: forward values made again, in the graph that keeps them."""

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.autodiff.again import ways

ROWS = np.random.default_rng(0).standard_normal((200, 50))


def deep(layers=12):
    """A chain of layers with its training step: input, loss, update."""
    rng = np.random.default_rng(1)
    with fg.Graph() as graph:
        x = h = fg.placeholder("x", (200, 50), "float64")
        for i in range(layers):
            with fg.scope(f"layer{i}"):
                w = fg.variable(rng.standard_normal((50, 50)) / 7, name="w")
                h = fg.sin(fg.tanh(h @ w) * 3.0)
        loss = fg.mean(fg.square(h))
        train = fg.optim.SGD(0.1, momentum=0.9).minimize(loss)
    return graph, x, loss, train


def trained(graph, x, outputs, **options):
    """The losses of three steps, and the variables after them."""
    with fg.Session(graph, threads=1, jit=False) as session:
        step = session.function([x], outputs, **options)
        losses = [float(step(ROWS)[0]) for _ in range(3)]
        return losses, {name: value.tobytes() for name, value in session.variables.items()}, step.plan().peak_bytes


def test_outputs_made_again_are_the_same_bits_and_take_less_memory():
    graph, x, loss, train = deep()
    losses, values, peak = trained(graph, x, [loss, train])
    peaks = []
    for _, outputs in ways([loss, train]):
        again = trained(graph, x, outputs)
        assert again[:2] == (losses, values)
        peaks.append(again[2])
    assert len(peaks) >= 3 and min(peaks) < peak * 0.7


def test_the_nodes_are_made_once():
    graph, _, loss, train = deep(6)
    first = [outputs for _, outputs in ways([loss, train])]
    size = len(graph)
    assert [outputs for _, outputs in ways([loss, train])] == first
    assert len(graph) == size


def test_what_has_no_gradient_has_no_other_way():
    with fg.Graph():
        x = fg.placeholder("x", (3,), "float64")
        assert list(ways([fg.exp(x)])) == []
        assert list(ways([])) == []


def test_a_function_with_a_memory_takes_the_first_way_that_fits():
    graph, x, loss, train = deep()
    losses, values, peak = trained(graph, x, [loss, train])
    for part in (1.0, 0.8, 0.7):
        again = trained(graph, x, [loss, train], memory=int(peak * part))
        assert again[:2] == (losses, values) and again[2] <= peak * part
    with pytest.raises(fg.MemoryLimitError, match=r"the limit is 1\.0 kB"):
        trained(graph, x, [loss, train], memory="1kB")
    with pytest.raises(fg.MemoryLimitError):  # where nothing may be made again, no order is enough
        trained(graph, x, [loss, train], memory_limit=int(peak * 0.7))
    with pytest.raises(fg.ArgumentError, match="memory and memory_limit are both given"):
        trained(graph, x, [loss, train], memory="1MB", memory_limit="1MB")


def test_a_gradient_through_a_loop_and_of_a_second_order_keeps_its_bits():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (200, 50), "float64")
        w = fg.variable(np.eye(50) * 0.5, name="w")
        h = x
        for _ in range(4):
            h = fg.tanh(h @ w)
        h, _ = fg.scan(lambda h, _: (fg.sin(h @ w), None), h, length=3)
        for _ in range(4):
            h = fg.tanh(h @ w)
        (dw,) = fg.gradients(fg.sum(fg.square(h)), w)
        (ddw,) = fg.gradients(fg.sum(fg.square(dw)), w)
    with fg.Session(graph, threads=1, jit=False) as session:
        expected = session.run([dw, ddw], {x: ROWS})
        found = list(ways([dw, ddw]))
        assert found
        for _, outputs in found:
            for y, again in zip(expected, session.run(outputs, {x: ROWS}), strict=True):
                np.testing.assert_array_equal(y, again)


def test_the_curve_goes_from_the_quickest_to_the_smallest(tmp_path):
    graph, x, loss, train = deep()
    with fg.Session(graph, threads=1, jit=False) as session:
        curve = session.function([x], [loss, train]).memory_curve()
        assert curve.choices == sorted(curve.choices, key=lambda each: each.seconds)
        peaks = [each.peak_bytes for each in curve.choices]
        assert peaks == sorted(peaks, reverse=True) and len(set(peaks)) == len(peaks) >= 3
        middle = curve.within(peaks[1])
        assert middle is curve.choices[1] and curve.within(1) is None
        assert "others made again" in str(curve)
        assert "what less memory costs in time" in str(curve.draw())
        assert curve.draw(tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
        with pytest.raises(TypeError, match="takes 1 argument"):
            session.function([x], loss).memory_curve((200, 50), (1,))
