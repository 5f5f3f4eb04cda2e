"""Loops of a GPU compute again what takes longer to read: arrays are not handed on, and no value changes."""

import numpy as np
import pytest

import flowgraph as fg
from benchmarks.gpu.audit import Gpu, uncompiled
from flowgraph.compile.compiler import compile_plan
from flowgraph.compile.fuse import FusedNode
from flowgraph.devices.device import HOST
from flowgraph.jit import llvm
from tests import cuda_on_host
from tests.stand_in import standing_in
from tests.test_cuda import rows


def loops(fetches, feeds, device=None):
    """What each loop of a plan reads and makes of whole arrays, by name."""
    plan = compile_plan(fetches, feeds, device or Gpu(), compiled=uncompiled, others=() if device else (HOST,))
    nodes = list(dict.fromkeys(unit.node for unit in plan.units if isinstance(unit.node, FusedNode)))
    found = [
        ([s.tensor.name for s in node.op.sources if s.spec.size > 4096], [r.tensor.name for r in node.op.results if r.spec.size > 4096])
        for node in nodes
    ]
    return [loop for loop in found if loop != ([], [])]


def gelu():
    """A product of what gelu gives, and its gradient."""
    x = fg.placeholder("x", (1024, 256))
    w = fg.variable(np.ones((256, 64), np.float32), name="w")
    h = fg.add(x, 1.0, name="h") @ np.full((256, 256), 1 / 256, np.float32)
    y = fg.sum(fg.tanh(fg.nn.gelu(h) @ w))
    return x, [y, *fg.gradients(y, [x, w])]


def batch_norm():
    x = fg.placeholder("x", (64, 8, 32, 32))
    mean = fg.mean(x, axis=(0, 2, 3), keepdims=True)
    centred = fg.subtract(x, mean, name="centred")
    variance = fg.mean(fg.square(centred), axis=(0, 2, 3), keepdims=True)
    y = fg.nn.relu(centred / fg.sqrt(variance + 1e-5))
    loss = fg.sum(fg.nn.max_pool2d(y, 2))
    return x, [loss, *fg.gradients(loss, [x])]


def test_the_gradient_of_gelu_computes_again_what_gelu_has_computed_as_far_as_that_takes_less():
    with fg.Graph():
        x, fetches = gelu()
        forward, backward = [loop for loop in loops(fetches, {x: (1024, 256)}) if "matmul" in loop[0]]
        kept = [loop for loop in loops(fetches, {x: (1024, 256)}, HOST) if "normal_cdf" in loop[1]]
    assert forward == (["matmul"], ["multiply", "gradients/normal_cdf/multiply_1"])  # (the function itself would take more)
    assert sorted(backward[0]) == ["gradients/matmul_1/matmul", "gradients/normal_cdf/multiply_1", "matmul"]
    assert kept  # by the host


def test_what_is_left_of_the_mean_is_computed_by_each_loop_that_reads_it():
    with fg.Graph():
        x, fetches = batch_norm()
        found = loops(fetches, {x: (64, 8, 32, 32)})
        assert any("centred" in made for _, made in loops(fetches, {x: (64, 8, 32, 32)}, HOST))  # the host keeps it
    gradient = ["x", "gradients/max_pool2d/max_pool_grad"]
    assert found[:3] == [(["x"], []), (["x"], []), (["x"], ["relu"])]  # the mean, the variance, and what both are for
    assert found[-3:-1] == [(gradient, []), (gradient, ["gradients/centred/add"])]  # sums alone, and those again


def test_an_array_that_the_caller_wants_is_read_all_the_same_where_that_takes_less():
    with fg.Graph():
        x = fg.placeholder("x", (256, 256))
        a = fg.tanh(x, name="a")
        b = fg.multiply(a, a - fg.mean(a, axis=0), name="b")
        found = loops([a, b], {x: (256, 256)})
    assert found == [(["x"], ["a"]), (["a"], ["b"])]


def test_what_would_have_to_be_read_besides_is_not_worth_it():
    with fg.Graph():
        x, y = fg.placeholder("x", (256, 256)), fg.placeholder("y", (256, 256))
        a = fg.add(x, y, name="a")
        b = fg.multiply(a, fg.mean(a, axis=0), name="b")
        found = loops([b], {x: (256, 256), y: (256, 256)})
    assert found == [(["x", "y"], ["a"]), (["a"], ["b"])]


@pytest.mark.skipif(cuda_on_host.COMPILER is None, reason="g++ is not installed")
@pytest.mark.skipif(not llvm.is_available(), reason="llvmlite is not installed")
@pytest.mark.parametrize("network", [gelu, batch_norm])
def test_values_are_those_of_the_host(network):
    results = []
    with standing_in():
        for device in ("cuda:0", "cpu:0"):
            with fg.Graph() as graph:
                x, fetches = network()
            with fg.Session(graph, device=device, cudnn=False) as session:
                results.append([session.run(fetches, {x: rows(*x.shape)}) for _ in range(3)])
    for ours, theirs in zip(*results, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, 1e-4, 1e-5)
