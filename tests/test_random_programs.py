"""Programs made at random, with sizes that only values decide: a plan gives what the kernels give one by one, on any number of threads."""

import numpy as np
import pytest

import flowgraph as fg

# Each takes a tensor and a number; rows come and go, the number of columns stays.
STEPS = [
    lambda a, t: fg.exp(a * 0.1),
    lambda a, t: fg.tanh(a) + a,
    lambda a, t: a[a[:, 0] > t],
    lambda a, t: fg.take(a, fg.nonzero(a[:, 1] < t)[0], axis=0),
    lambda a, t: fg.concat([a, a * 2]),
    lambda a, t: a[::-1],
    lambda a, t: fg.sort(a, axis=0),
    lambda a, t: a - fg.mean(a[:5], axis=0) if a.shape[0] != 0 else a,
    lambda a, t: a @ np.full((a.shape[1], a.shape[1]), 0.01),
    lambda a, t: fg.pad(a, ((1, 2), (0, 0))),
    lambda a, t: fg.tile(a, (2, 1)),
    lambda a, t: fg.roll(a, 1, axis=0),
    lambda a, t: fg.split(a, [7, 40])[1],
    lambda a, t: a.at[1:3].set(t),
    lambda a, t: a.at[:, [0, 0]].add(t),
    lambda a, t: fg.maximum(a, t),
]


def evaluated(graph, fetches, x, array):
    """The values of ``fetches``, every node by its kernel, in the order in which they were made; nothing is shared or reused."""
    values = {x: array}
    for node in graph.nodes:
        if node.op.name == "constant":
            values[node.outputs[0]] = node.attrs["value"]
        elif node.op.name != "placeholder":
            with np.errstate(all="ignore"):
                result = node.op.kernel(np, *[np.array(values[t]) for t in node.inputs], **node.attrs)
            values.update(zip(node.outputs, result if isinstance(result, tuple | list) else [result], strict=True))
    return [values[t] for t in fetches]


@pytest.mark.parametrize("seed", range(24))
def test_a_random_program_and_its_gradient_have_the_values_of_its_kernels_one_by_one(seed):
    rng = np.random.default_rng(seed)
    rows, columns = [(0, 2), (3, 2), (2500, 64)][seed % 3]
    array = rng.standard_normal((rows, columns))
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, columns), "float64")
        tensors = [x]
        for _ in range(9):
            step = STEPS[rng.integers(len(STEPS))]
            tensors.append(step(tensors[rng.integers(len(tensors))], float(rng.normal())))
        loss = fg.stack([fg.sum(fg.sin(t)) for t in tensors[1:]]).sum()
        (dx,) = fg.gradients(loss, x)
    fetches = [*tensors[1:], dx]
    wanted = evaluated(graph, fetches, x, array)
    results = []
    for threads in (1, 3):
        with fg.Session(graph, threads=threads) as session:
            alone = session.run(dx, {x: array})
            results += [session.run(fetches, {x: array}) for _ in range(2)]
            np.testing.assert_allclose(alone, results[-1][-1], rtol=1e-9, atol=1e-12)
    for have, want, step in zip(results[0], wanted, fetches, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-9, atol=1e-9, err_msg=step.name)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_result_that_took_over_its_inputs_memory_is_not_written_over_while_it_is_read():
    r"""
    g * cos(a)          in the memory of cos(a)
      |      \
    negative  add       both read it, so neither may write into it
    """
    array = np.random.default_rng(0).standard_normal((3000, 64))
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, 64), "float64")
        a = x - fg.sum(x, axis=0)
        (dx,) = fg.gradients(fg.sum(fg.sin(a)) + fg.sum(fg.sin(x)), x)
    slopes = np.cos(array - array.sum(axis=0))
    with fg.Session(graph, threads=3) as session:
        np.testing.assert_allclose(session.run(dx, {x: array}), slopes - slopes.sum(axis=0) + np.cos(array), atol=1e-12)
