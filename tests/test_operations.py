"""What every operation must satisfy, tested from the registry: a new op cannot be left out."""

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.autodiff.forward import push_forward
from flowgraph.autodiff.vmap import vmap
from flowgraph.errors import GradientError
from flowgraph.graph import OPS, Spec
from flowgraph.graph.op import ByLoop, NoGradient
from flowgraph.graph.spec import is_known
from flowgraph.ops.random_bits import Draw

# Ops whose values come from or go to the session, and the random ones: they have tests of their own.
SPECIAL = set("placeholder constant variable run_key fold_key assign group custom_gradient custom_op py_call".split())
SPECIAL |= {op.name for op in OPS.values() if op.bodies or isinstance(op, Draw)}
# Ops with a size that only values decide: their inference leaves it open.
SIZED_BY_VALUES = {"arange", "bincount", "nonzero", "repeat_positions", "unique"}
TRIED = [op for name, op in OPS.items() if name not in SPECIAL]
PAIRS = [(op, sample) for op in TRIED for sample in op.samples]


def cases(keep=lambda op, sample: True):
    return [pytest.param(op, sample, id=f"{op}-{i}-{sample}") for i, (op, sample) in enumerate(PAIRS) if keep(op, sample)]


CASES = cases()
DOUBLE = ("float64", "complex128")  # finite differences mean nothing in less
SMOOTH = cases(lambda op, sample: not (isinstance(op.vjp, NoGradient) or sample.edges or all(x.dtype not in DOUBLE for x in sample.inputs)))


def test_every_operation_has_samples():
    assert [op.name for op in TRIED if not list(op.samples)] == []


def as_list(result):
    """One output or several as a list."""
    return list(result) if isinstance(result, tuple | list) else [result]


def run_kernel(op, sample, **out):
    with np.errstate(all="ignore"):
        return op.kernel(np, *sample.inputs, **sample.attrs, **out)


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_inference_says_what_the_kernel_gives(op, sample):
    specs = as_list(op.infer(*[Spec(x.shape, x.dtype) for x in sample.inputs], **sample.attrs))
    for spec, result in zip(specs, as_list(run_kernel(op, sample)), strict=True):
        assert np.asarray(result).dtype == spec.dtype
        if op.name in SIZED_BY_VALUES:
            assert all(have in (want, None) for have, want in zip(spec.shape, np.shape(result), strict=True))
        else:
            assert np.shape(result) == spec.shape


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_inference_holds_with_unknown_sizes(op, sample):
    inputs = [Spec((None,) * x.ndim, x.dtype) for x in sample.inputs]
    try:
        specs = as_list(op.infer(*inputs, **sample.attrs))
    except AssertionError:
        raise
    for spec, result in zip(specs, as_list(run_kernel(op, sample)), strict=True):
        assert all(have in (want, None) for have, want in zip(spec.shape, np.shape(result), strict=True))


@pytest.mark.parametrize(("op", "sample"), cases(lambda op, sample: op.takes_out))
def test_writing_into_a_given_array_gives_the_same_bits(op, sample):
    fresh = np.asarray(run_kernel(op, sample))
    out = np.full(fresh.shape, 7, fresh.dtype)
    run_kernel(op, sample, out=out)
    np.testing.assert_array_equal(out, fresh)


@pytest.mark.parametrize(("op", "sample"), cases(lambda op, sample: op.in_place))
def test_working_in_place_gives_the_same_bits(op, sample):
    # Of one memory order: NumPy's vector kernels, whose last bits may differ, need steps that are not negative.
    sample = sample._replace(inputs=tuple(np.array(x) for x in sample.inputs))
    fresh = np.asarray(run_kernel(op, sample))
    for position, x in enumerate(sample.inputs):
        if x.shape == fresh.shape and x.dtype == fresh.dtype:
            inputs = [np.array(y) for y in sample.inputs]
            with np.errstate(all="ignore"):
                op.kernel(np, *inputs, **sample.attrs, out=inputs[position])
            np.testing.assert_array_equal(inputs[position], fresh)


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_cutting_into_slices_gives_the_whole(op, sample):
    specs = [Spec(x.shape, x.dtype) for x in sample.inputs]
    out = as_list(op.infer(*specs, **sample.attrs))[0]
    slicing = op.slicing(out, *specs, **sample.attrs) if out.shape or sample.inputs[0].ndim else None
    if slicing is None or slicing.length < 2:
        pytest.skip("not cut")
    whole = np.asarray(as_list(run_kernel(op, sample))[0])
    middle = slicing.length // 2
    parts = []
    with np.errstate(all="ignore"):
        for rows in (slice(0, middle), slice(middle, None)):
            inputs = [x[rows] if cut else x for x, cut in zip(sample.inputs, slicing.inputs, strict=True)]
            parts.append(np.asarray(as_list(op.kernel(np, *inputs, **sample.attrs))[0]))
    joined = np.concatenate(parts) if slicing.join == "concat" else parts[0] + parts[1]
    np.testing.assert_allclose(joined, whole, rtol=1e-5 if whole.dtype in ("float32", "complex64") else 1e-12)


def differentiated(op, sample):
    """The inputs by which the op is differentiated."""
    # (y of the gradients of pooling and relu is a function of x, which a difference in x alone would not know.)
    floats = [i for i, x in enumerate(sample.inputs) if x.dtype in DOUBLE and i not in op.shape_inputs]
    floats = floats[1:] if op.name in ("gammainc", "gammaincc") else floats  # which have no gradient by a
    floats = floats[:1] if op.name in ("max_pool_grad", "max_pool_gather") or op.name == "relu_grad" else floats
    return [] if op.name in ("zeros_like", "ones_like") else floats


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("op", "sample"), SMOOTH)
def test_gradient_agrees_with_finite_differences(op, sample, order):
    floats = differentiated(op, sample)
    if not floats:
        pytest.skip("nothing to differentiate by")

    def outputs(*x):
        return [y for y in op.node(x, sample.attrs).outputs if y.dtype.kind in "fc"]

    fg.check_gradient(outputs, *sample.inputs, order=order, wrt=floats, tolerance=2e-5)


@pytest.mark.parametrize("factor", [1.001, 0.999])
def test_a_gradient_that_is_off_by_a_thousandth_is_caught(factor):
    @fg.custom_gradient
    def wrong(x):
        return fg.sin(x), lambda g: g * fg.cos(x) * factor

    with pytest.raises(GradientError, match="differ by"):
        fg.check_gradient(wrong, np.linspace(0.1, 1.0, 4))


def test_operations_run_through_a_session_agree_with_their_kernels():
    for op in TRIED:
        sample = next(iter(op.samples))
        with fg.Graph() as graph:
            inputs = [fg.placeholder(f"x{i}", (None,) * x.ndim, x.dtype) for i, x in enumerate(sample.inputs)]
            ys = op.node(inputs, sample.attrs).outputs
        with fg.Session(graph, threads=1) as session:
            results = session.run(list(ys), dict(zip(inputs, sample.inputs, strict=True)))
        for result, want in zip(results, as_list(run_kernel(op, sample)), strict=True):
            np.testing.assert_array_equal(result, want, err_msg=op.name)
            assert is_known(np.shape(result))


@pytest.mark.parametrize(("op", "sample"), SMOOTH)
def test_jvp_agrees_with_finite_differences(op, sample):
    moving = differentiated(op, sample)
    if not moving:
        pytest.skip("nothing to differentiate by")
    rng = np.random.default_rng(7)
    step = 1e-6
    directions = [np.asarray(rng.standard_normal(sample.inputs[i].shape)) for i in moving]
    directions = [d + 1j * d[::-1] if sample.inputs[i].dtype.kind == "c" and d.ndim else d for i, d in zip(moving, directions, strict=True)]
    directions = [np.asarray(d, sample.inputs[i].dtype) for i, d in zip(moving, directions, strict=True)]
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", x.shape, x.dtype) for i, x in enumerate(sample.inputs)]
        outputs = op.node(inputs, sample.attrs).outputs
        tangents = push_forward(outputs, [inputs[i] for i in moving], [fg.constant(d) for d in directions])
    ends = []
    for sign in (1, -1):
        arrays = list(sample.inputs)
        for i, direction in zip(moving, directions, strict=True):
            arrays[i] = arrays[i] + sign * step * direction
        result = op.kernel(np, *arrays, **sample.attrs)
        ends.append(result if isinstance(result, tuple | list) else (result,))
    with fg.Session(graph, threads=1) as session:
        for tangent, high, low in zip(tangents, *ends, strict=True):
            if tangent is not None:
                measured = (np.asarray(high) - np.asarray(low)) / (2 * step)
                np.testing.assert_allclose(session.run(tangent, dict(zip(inputs, sample.inputs, strict=True))), measured, 1e-4, 1e-5)


def entries_of(x, count):
    """``count`` arrays like ``x`` that differ a little, each still within the op's domain."""
    if x.dtype.kind in "fc":
        with np.errstate(invalid="ignore"):
            return [x * (1 - 0.01 * k) for k in range(count)]
    return [np.roll(x.ravel(), k).reshape(x.shape) for k in range(count)]


@pytest.mark.parametrize(("op", "sample"), cases(lambda op, sample: not isinstance(op.vmap, ByLoop)))
def test_batching_rule_agrees_with_a_loop_over_the_entries(op, sample):
    assert op.vmap is not None, "neither a batching rule nor a reason for having none"
    count = 3
    many = [entries_of(x, count) for x in sample.inputs]
    arity = len(sample.inputs)
    subsets = dict.fromkeys([tuple(range(arity)), *((i,) for i in range(arity))])
    for subset in subsets:
        arrays = [np.stack(many[i]) if i in subset else x for i, x in enumerate(sample.inputs)]
        with fg.Graph() as graph:
            inputs = [fg.placeholder(f"x{i}", x.shape, x.dtype) for i, x in enumerate(arrays)]
            one = vmap(lambda *xs: op.node(xs, sample.attrs).outputs, in_axes=[0 if i in subset else None for i in range(arity)])
            outputs = one(*inputs)
        with fg.Session(graph, threads=1) as session:
            batched = session.run(outputs, dict(zip(inputs, arrays, strict=True)))
        for k in range(count):
            with np.errstate(all="ignore"):
                alone = op.kernel(np, *[many[i][k] if i in subset else x for i, x in enumerate(sample.inputs)], **sample.attrs)
            for have, want in zip(batched, alone if isinstance(alone, tuple | list) else (alone,), strict=True):
                assert have[k].dtype == np.asarray(want).dtype
                # A batch may be one larger matrix product, which some BLAS kernels add up in another order.
                rtol, atol = (1e-5, 1e-6) if have.dtype in ("float32", "complex64") else (1e-9, 1e-12)
                np.testing.assert_allclose(have[k], want, rtol, atol, err_msg=f"{op} batched over inputs {subset}")
