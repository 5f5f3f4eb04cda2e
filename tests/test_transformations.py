"""Functions of functions: each against closed forms, finite differences, and each other; how they compose; what is said."""

from typing import Any

import numpy as np
import pytest

import flowgraph as fg

untyped: Any = fg  # for calls that are wrong
RNG = np.random.default_rng(11)
X = RNG.uniform(0.3, 1.5, 3)
V = RNG.standard_normal(3)
W = RNG.standard_normal((3, 3)) * 0.5
XS = RNG.standard_normal((4, 3))


def run(build, **options):
    """What ``build`` builds, run."""
    with fg.Graph() as graph:
        out = build()
    with fg.Session(graph, threads=1, **options) as session:
        return session.run(out)


def differences(function, x, step=1e-6):
    """The Jacobian of ``function`` at ``x`` by central differences: ``(*y.shape, *x.shape)``."""
    columns = []
    for i in range(x.size):
        d = np.zeros(x.size)
        d[i] = step
        d = d.reshape(x.shape)
        high, low = (run(lambda at=at: function(fg.constant(at))) for at in (x + d, x - d))
        columns.append((high - low) / (2 * step))
    return np.moveaxis(np.array(columns), 0, -1).reshape(*np.shape(columns[0]), *x.shape)


def plain(x):
    return fg.sum(fg.sin(x) * x**2)


def scanned(x):
    last, ys = fg.scan(lambda h, v: (fg.tanh(h @ fg.constant(W) + v), fg.sum(h * h)), x, XS)
    return fg.sum(last * x) + fg.sum(ys)


def looped(x):
    return fg.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * fg.cos(s[1]) + x), (0, x))[1].sum()


def chosen(x):
    return fg.cond(fg.sum(x) > 0, lambda: fg.sum(x**3), lambda: fg.sum(fg.exp(x)))


def batched(x):
    return fg.sum(fg.vmap(lambda row: fg.sum(fg.sin(row * x)) ** 2)(XS))


def with_a_pullback_inside(x):
    y, pullback = fg.vjp(lambda v: fg.sin(v) * v, x)
    return fg.sum(pullback(y * x)[0])


def with_a_tangent_inside(x):
    return fg.sum(fg.jvp(lambda v: fg.exp(v) * x, (x,), (x * x,))[1])


def with_a_gradient_in_each_turn(x):
    """Gradient descent on a function of its own, unrolled as a scan."""
    return fg.sum(fg.scan(lambda w, _: (w - 0.1 * fg.grad(lambda v: fg.sum(fg.cos(v * x)))(w), None), x, length=3)[0])


FUNCTIONS = [
    plain,
    scanned,
    looped,
    chosen,
    batched,
    with_a_pullback_inside,
    with_a_tangent_inside,
    with_a_gradient_in_each_turn,
]
every_function = pytest.mark.parametrize("function", FUNCTIONS)


# --- each against differences


@every_function
def test_grad_agrees_with_finite_differences_to_the_second_order(function):
    np.testing.assert_allclose(run(lambda: fg.grad(function)(X)), differences(function, X), rtol=1e-6, atol=1e-7)
    fg.check_gradient(function, X, order=2, tolerance=1e-4)


@every_function
def test_a_hessian_is_the_jacobian_of_the_gradient_in_either_mode(function):
    measured = differences(fg.grad(function), X)
    reverse, forward, symmetric = run(
        lambda: [
            fg.jacobian(fg.grad(function), mode="reverse")(X),
            fg.jacobian(fg.grad(function), mode="forward")(X),
            fg.hessian(function)(X),
        ]
    )
    for table in (reverse, forward, symmetric):
        np.testing.assert_allclose(table, measured, rtol=1e-5, atol=1e-6)


@every_function
def test_a_tangent_is_the_gradient_along_it_and_a_product_with_the_hessian_that_of_the_gradient(function):
    (_, tangent), slope, (product,), hessian = run(
        lambda: [fg.jvp(function, (X,), (V,)), fg.grad(function)(X), fg.hvp(function, (X,), (V,)), fg.hessian(function)(X)]
    )
    np.testing.assert_allclose(tangent, slope @ V, rtol=1e-9)
    np.testing.assert_allclose(product, hessian @ V, rtol=1e-9)


@every_function
def test_a_batch_of_gradients_is_the_gradient_of_a_batch(function):
    points = np.stack([X, X + 0.1, X - 0.2])
    at_once, each = run(lambda: [fg.vmap(fg.grad(function))(points), fg.map(fg.grad(function), points)])
    np.testing.assert_allclose(at_once, each, rtol=1e-9)
    of_batch, each = run(lambda: [fg.grad(lambda p: fg.sum(fg.vmap(function)(p)))(points), fg.map(fg.grad(function), points)])
    np.testing.assert_allclose(of_batch, each, rtol=1e-9)


def test_a_batch_of_gradients_of_loops_that_end_apart_says_what_to_write():
    def doubled(x):
        return fg.while_loop(lambda y: y < 10.0, lambda y: y * 2, x)

    with fg.Graph(), pytest.raises(fg.ArgumentError, match="take the gradient of the batched loop"):
        fg.vmap(fg.grad(doubled))(X)
    np.testing.assert_array_equal(run(lambda: fg.grad(lambda x: fg.sum(fg.vmap(doubled)(x)))([3.0, 1.0])), [4.0, 16.0])


@every_function
def test_forward_over_reverse_over_forward_and_reverse_over_all_of_it_agree(function):
    def third(x):
        return fg.jvp(lambda v: fg.hvp(function, (v,), (V,))[0], (x,), (V,))[1]

    def nested(x):
        along = function
        for _ in range(2):
            along = (lambda inner: lambda v: fg.sum(fg.grad(inner)(v) * V))(along)
        return fg.grad(along)(x)

    forward, reverse = run(lambda: [third(fg.constant(X)), nested(fg.constant(X))])
    np.testing.assert_allclose(forward, reverse, rtol=1e-8, atol=1e-9)


@every_function
def test_transformations_work_in_a_branch_and_in_a_loop(function):
    direct, in_branch, in_loop = run(
        lambda: [
            fg.grad(function)(X),
            fg.cond(fg.constant(True), lambda: fg.grad(function)(X), lambda: fg.constant(X)),
            fg.scan(lambda c, x: (c, fg.grad(function)(x)), 0.0, X[None])[1][0],
        ]
    )
    np.testing.assert_allclose(in_branch, direct, rtol=1e-12)
    np.testing.assert_allclose(in_loop, direct, rtol=1e-12)


# --- values known in closed form


def test_all_orders_of_a_power():
    def orders(x):
        f, found = lambda v: v**5, []
        for _ in range(6):
            found.append(f(x))
            f = fg.grad(f)
        return found

    assert run(lambda: orders(fg.constant(2.0))) == [32.0, 80.0, 160.0, 240.0, 240.0, 120.0]


def test_only_the_use_inside_the_function_is_differentiated():
    def build():
        x = fg.constant(3.0)
        outer = x * x
        return fg.grad(lambda v: v * x + outer)(x)  # x and outer are constants of that function

    assert run(build) == 3.0


def test_inner_and_outer_gradients_are_not_confused():
    # d/dx [x * d/dy (x + y)] = 1: the classic that a careless nesting gets wrong.
    assert run(lambda: fg.grad(lambda x: x * fg.grad(lambda y: x + y)(1.0))(1.0)) == 1.0


def test_a_jacobian_has_the_shape_of_the_result_and_then_that_of_the_argument():
    def f(p):
        return {"product": p["a"] @ p["b"], "sum": fg.sum(p["b"])}

    p = {"a": RNG.standard_normal((2, 3)), "b": RNG.standard_normal((3, 4))}
    for mode in ("forward", "reverse", None):
        found = run(lambda mode=mode: fg.jacobian(f, mode=mode)(p))
        assert found["product"]["a"].shape == (2, 4, 2, 3)
        np.testing.assert_allclose(found["product"]["a"], np.einsum("ik,lj->ijkl", np.eye(2), p["b"]))
        np.testing.assert_allclose(found["product"]["b"], np.einsum("il,jm->ijlm", p["a"], np.eye(4)))
        np.testing.assert_array_equal(found["sum"]["a"], np.zeros((2, 3)))
        np.testing.assert_array_equal(found["sum"]["b"], np.ones((3, 4)))


@pytest.mark.parametrize(("m", "n"), [(50, 2), (2, 50)])
def test_a_jacobian_takes_the_cheaper_mode(m, n):
    with fg.Graph() as graph:
        x, w = fg.placeholder("x", (n,), "float64"), fg.placeholder("w", (m, n), "float64")
        table = fg.jacobian(lambda x: fg.sin(w @ x))(x)
    with fg.Session(graph, threads=1) as session:
        sizes = [int(np.prod(unit.spec.shape)) for unit in session.plan(table, {x: (n,), w: (m, n)}).units if unit.spec is not None]
    assert max(sizes) == 100  # never 50 x 50, which the other mode would start from


def test_a_jacobian_by_a_vector_whose_size_only_a_run_knows():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None,), "float64")
        tables = [fg.jacobian(lambda v: fg.sin(v) * v, mode=mode)(x) for mode in ("reverse", "forward")]
    with fg.Session(graph, threads=1) as session:
        for n in (1, 4):
            at = RNG.standard_normal(n)
            for table in session.run(tables, {x: at}):
                np.testing.assert_allclose(table, np.diag(np.cos(at) * at + np.sin(at)))


def test_argnums_choose_arguments_and_nestings_keep_their_form():
    def f(a, p, factor):
        return fg.sum(a * p["w"][0]) * factor + p["b"]

    p = {"w": [np.array([1.0, 2.0])], "b": 3.0}
    value, (slope, slopes) = run(lambda: fg.value_and_grad(f, argnums=(0, 1))(np.array([4.0, 5.0]), p, factor=2.0))
    assert value == 31.0
    np.testing.assert_array_equal(slope, [2.0, 4.0])
    assert slopes.keys() == {"w", "b"}
    assert slopes["b"] == 1.0
    np.testing.assert_array_equal(slopes["w"][0], [8.0, 10.0])
    np.testing.assert_array_equal(run(lambda: fg.grad(f, argnums=-2)(np.array([4.0, 5.0]), p, 2.0))["w"][0], [8.0, 10.0])


def test_aux_comes_beside_the_result():
    def f(x):
        return fg.sum(x * x), {"doubled": x * 2}

    x = np.array([1.0, 2.0])
    slope, aux = run(lambda: fg.grad(f, has_aux=True)(x))
    np.testing.assert_array_equal(slope, [2.0, 4.0])
    np.testing.assert_array_equal(aux["doubled"], [2.0, 4.0])
    (value, aux), _ = run(lambda: fg.value_and_grad(f, has_aux=True)(x))
    assert (value, aux["doubled"].tolist()) == (5.0, [2.0, 4.0])

    def both():
        _, pullback, aux = fg.vjp(f, x, has_aux=True)
        return pullback(1.0)[0], aux["doubled"], *fg.jvp(f, (x,), (x,), has_aux=True)[:2]

    cotangent, doubled, y, tangent = run(both)
    np.testing.assert_array_equal(cotangent, doubled)
    assert (y, tangent) == (5.0, 10.0)


def test_a_pullback_serves_many_cotangents_here_and_in_loops():
    basis = np.eye(3)

    def build():
        _, pullback = fg.vjp(lambda x: fg.constant(W) @ fg.sin(x), fg.constant(X))
        here = fg.stack([pullback(row)[0] for row in basis])
        in_loop = fg.map(lambda g: pullback(g)[0], basis)
        at_once = fg.vmap(lambda g: pullback(g)[0])(basis)
        return here, in_loop, at_once

    for table in run(build):
        np.testing.assert_allclose(table, W * np.cos(X))


def test_none_stands_for_a_tangent_or_cotangent_of_zeros_and_integers_have_none():
    def f(x, y):
        return x * y, fg.argmax(x)

    def build():
        (_, index), (tangent, none) = fg.jvp(f, (X, V), (V, None))
        assert none is None
        _, pullback = fg.vjp(f, X, V)
        return tangent, index, pullback((None, None)), pullback((X, None))

    tangent, index, zeros, slopes = run(build)
    np.testing.assert_allclose(tangent, V * V)
    assert index == np.argmax(X)
    np.testing.assert_array_equal(zeros, np.zeros((2, 3)))
    np.testing.assert_allclose(slopes, [V * X, X * X])


def test_complex_numbers_pass_in_both_directions():
    z, t = X + 1j * V, V - 1j * X

    def build():
        (_, tangent), (_, pullback) = fg.jvp(lambda z: z * z, (z,), (t,)), fg.vjp(lambda z: z * z, z)
        return tangent, pullback(t)[0], fg.grad(lambda z: fg.sum(fg.abs(z) ** 2))(z), fg.jacobian(lambda x: fg.exp(x * z))(X)

    tangent, cotangent, slope, table = run(build)
    np.testing.assert_allclose(tangent, 2 * z * t)
    np.testing.assert_allclose(cotangent, 2 * np.conj(z) * t)
    np.testing.assert_allclose(slope, 2 * z)
    np.testing.assert_allclose(table, np.diag(z * np.exp(X * z)))


def test_random_draws_inside_are_the_same_for_value_and_gradient():
    def f(x):
        return fg.sum(x * fg.random.normal((3,), dtype="float64"))

    value, slope = run(lambda: fg.value_and_grad(f)(X), seed=4)
    np.testing.assert_allclose(value, slope @ X)


# --- what is said


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: fg.grad(lambda x: x * 2)(X), fg.GradientError, "grad: the function returns shape (3,), and only a scalar has a gradient"),
        (lambda: fg.grad(lambda x: (x[0], x[1]))(X), fg.GradientError, "grad: the function returns 2 tensors"),
        (lambda: fg.grad(lambda x: fg.argmax(x))(X), fg.GradientError, "grad: the function returns int64, and only a real float"),
        (lambda: fg.grad(lambda x: x)(1j), fg.GradientError, "take fg.real or fg.abs of it"),
        (lambda: fg.grad(lambda x: x * x)(3), fg.GradientError, "grad: 3 is int64, and only floats have derivatives"),
        (lambda: fg.grad(fg.sum)(np.arange(3)), fg.GradientError, "write 2.0 for 2, cast with fg.astype"),
        (lambda: fg.grad(fg.sum, argnums=1)(X), fg.ArgumentError, "grad: argnums 1 does not fit 1 argument"),
        (lambda: fg.grad(fg.sum, argnums=(0, -1))(X), fg.ArgumentError, "grad: argnums (0, -1) does not fit 1 argument"),
        (lambda: fg.grad(fg.sum, has_aux=True)(X), fg.ArgumentError, "grad: with has_aux the function returns (result, aux)"),
        (
            lambda: fg.grad(lambda x: fg.sum(fg.astype(fg.argsort(x), "float64")), unconnected="error")(X),
            fg.GradientError,
            "stops at argsort",
        ),
        (lambda: fg.grad(lambda x: fg.constant(1.0), unconnected="error")(X), fg.GradientError, "does not depend on"),
        (lambda: untyped.jvp(fg.sum, X, V), fg.ArgumentError, "jvp: primals is a tuple with one entry for each argument"),
        (lambda: fg.jvp(fg.sum, (X,), (V, V)), fg.GradientError, "jvp: there are 1 primal and 2 tangents"),
        (lambda: fg.jvp(fg.sum, (X,), ([V, V],)), fg.GradientError, "jvp: the primals have 1 tensor, the tangents 2"),
        (lambda: fg.jvp(fg.sum, (X,), (V.astype("f4"),)), fg.GradientError, "what it belongs to, got (3,) float32"),
        (lambda: fg.vjp(fg.sin, X)[1](1.0), fg.GradientError, "vjp: a cotangent of the result is (3,) float64, as"),
        (lambda: fg.vjp(fg.sin, X)[1]((V, V)), fg.GradientError, "vjp: the value has 1 tensor, the cotangent 2"),
        (lambda: fg.vjp(lambda: fg.constant(1.0)), fg.ArgumentError, "vjp: there is nothing to differentiate by"),
        (lambda: fg.hvp(fg.sin, (X,), (V,)), fg.GradientError, "hvp: the function returns shape (3,)"),
        (lambda: fg.hessian(fg.sin)(X), fg.GradientError, "hessian: the function returns shape (3,)"),
        (lambda: untyped.jacobian(fg.sin, mode="both")(X), fg.ArgumentError, 'jacobian: mode is "forward", "reverse" or None'),
        (lambda: fg.jacobian(fg.argsort)(X), fg.GradientError, "is int64, and only floats have derivatives"),
        (lambda: fg.jacobian(lambda z: z * z)(X + 0j), fg.GradientError, "of a complex result by a complex argument"),
        (
            lambda: fg.jacobian(lambda x: x @ x)(fg.placeholder("x", (None, None), "float64")),
            fg.GradientError,
            "more than one size is unknown before a run",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_differentiated_is_said(build, error, text):
    with fg.Graph(), pytest.raises(error) as caught:
        build()
    assert text in str(caught.value)


# --- recomputing


def layers(count, block):
    """A loss over a chain of ``count`` blocks of four layers each."""

    def loss(x, w):
        for _ in range(count):
            x = block(x, w)
        return fg.sum(x * x)

    return loss


def four_layers(x, w):
    for _ in range(4):
        x = fg.tanh(x @ w) + fg.sin(x)
    return x


def plan_of(block, count=8):
    with fg.Graph() as graph:
        x, w = fg.placeholder("x", (500, 20), "float64"), fg.placeholder("w", (20, 20), "float64")
        outputs = fg.value_and_grad(layers(count, block), argnums=1)(x, w)
    with fg.Session(graph, threads=1, jit=False) as session:  # kernels of single nodes can be counted
        feeds = {x: RNG.standard_normal((500, 20)), w: W20}
        values = session.run(outputs, {x: X20, w: W20})
        return session.plan(outputs, feeds), session.last_report, values


W20, X20 = RNG.standard_normal((20, 20)) * 0.2, RNG.standard_normal((500, 20))


def test_a_chain_of_checkpoints_has_the_same_gradient_in_a_fraction_of_the_memory():
    kept, kept_report, values = plan_of(four_layers)
    again, again_report, same = plan_of(fg.checkpoint(four_layers))
    np.testing.assert_allclose(same[0], values[0], rtol=1e-12)
    np.testing.assert_allclose(same[1], values[1], rtol=1e-9)
    assert again.peak_bytes < 0.4 * kept.peak_bytes
    assert again_report.peak_bytes < 0.4 * kept_report.peak_bytes
    # What it keeps grows with the number of blocks, each of whose inputs is one array of 80 kB.
    longer = plan_of(fg.checkpoint(four_layers), count=16)[0]
    assert longer.peak_bytes - again.peak_bytes == 8 * X20.nbytes


def test_what_runs_again_is_not_merged_with_what_ran_before():
    plan, _, _ = plan_of(fg.checkpoint(four_layers))
    tanhs = [unit for whole in plan.units for body in whole.bodies for unit in body.units if unit.node.op.name == "tanh"]
    assert len(tanhs) == 2 * 8 * 4


@pytest.mark.parametrize("order", [1, 2, 3])
def test_gradients_through_a_checkpoint_agree_with_finite_differences(order):
    block = fg.checkpoint(lambda x, factor: {"a": fg.sin(x) * factor, "b": (fg.sum(x * x), x)})

    def loss(x, factor):
        found = block(block(x, factor)["a"], factor=2.0)
        return fg.sum(found["a"] ** 2) + found["b"][0] * fg.sum(found["b"][1] ** 3)

    fg.check_gradient(loss, X, np.array(1.5), order=order, tolerance=1e-4)


@every_function
def test_a_checkpoint_changes_no_derivative_and_no_batch(function):
    inside = fg.checkpoint(function)
    points = np.stack([X, X + 0.1])

    def build(f):
        return fg.grad(f)(X), fg.hessian(f)(X), fg.jvp(f, (X,), (V,))[1], fg.vmap(f)(points), fg.vmap(fg.grad(f))(points)

    for have, want in zip(run(lambda: build(inside)), run(lambda: build(function)), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-9)


def test_draws_in_a_checkpoint_are_the_same_when_it_runs_again():
    with fg.Graph() as graph:
        loss, slope = fg.value_and_grad(fg.checkpoint(lambda x: fg.sum(x * fg.random.normal((3,), dtype="float64"))))(X)
    with fg.Session(graph, threads=1, seed=7) as session:
        value, along = session.run([loss, slope])
    np.testing.assert_allclose(value, along @ X)


# --- gradients of the user's own


@fg.custom_gradient
def softly_exp(x, w):
    """exp(x) * w, whose gradient is written with what the function has computed, and with a gradient taken inside."""
    y = fg.exp(x)
    product = y * w
    return product, lambda g: (g * product, fg.gradients(product, w, grad_ys=g)[0])


def honest_exp(x, w):
    return fg.exp(x) * w


def with_own_gradient(f):
    """Functions of x that use ``f`` plainly, in a loop, in a branch, in a batch, and in a checkpoint."""
    return [
        lambda x: fg.sum(f(x, x * 2) ** 2),
        lambda x: fg.sum(fg.scan(lambda c, v: (f(c * 0.1, v + x), None), x, XS)[0]),
        lambda x: fg.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, f(s[1] * 0.1, x)), (0, x))[1].sum(),
        lambda x: fg.cond(fg.sum(x) > 0, lambda: fg.sum(f(x, x)), lambda: fg.sum(x)),
        lambda x: fg.sum(fg.vmap(lambda v: f(v, x))(XS)),
        lambda x: fg.sum(fg.checkpoint(lambda v: f(v, x) * v)(x)),
    ]


@pytest.mark.parametrize("number", range(6))
def test_a_gradient_of_the_users_own_works_wherever_and_to_any_order(number):
    own, honest = with_own_gradient(softly_exp)[number], with_own_gradient(honest_exp)[number]
    points = np.stack([X, X + 0.1])

    def build(f):
        return (
            f(fg.constant(X)),
            fg.grad(f)(X),
            fg.hessian(f)(X),
            fg.jvp(f, (X,), (V,))[1],
            fg.vmap(fg.grad(f))(points),
            fg.hvp(f, (X,), (V,))[0],
        )

    for have, want in zip(run(lambda: build(own)), run(lambda: build(honest)), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-9)
    fg.check_gradient(own, X, order=3, tolerance=1e-3)


def test_what_the_user_writes_is_the_gradient_right_or_wrong():
    @fg.custom_gradient
    def wrong(x):
        return fg.sum(x * x), lambda g: g * 7.0 * x

    batch = np.stack([X, V])
    slope, tangent, rows, shared = run(
        lambda: [
            fg.grad(wrong)(X),
            fg.jvp(wrong, (X,), (V,))[1],
            fg.vmap(fg.grad(wrong))(batch),
            fg.grad(lambda x: fg.sum(fg.vmap(lambda f: wrong(x) * f)(np.array([1.0, 2.0]))))(X),
        ]
    )
    np.testing.assert_allclose(slope, 7 * X)
    np.testing.assert_allclose(tangent, 7 * X @ V)
    np.testing.assert_allclose(rows, 7 * batch)
    np.testing.assert_allclose(shared, 21 * X)


def test_an_argument_without_a_cotangent_counts_as_constant():
    @fg.custom_gradient
    def picked(x, index):
        return x[index], lambda g: (fg.ones_like(x) * g, None)

    np.testing.assert_array_equal(run(lambda: fg.grad(picked)(X, np.int64(1))), np.ones(3))


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (lambda x: x, fg.GraphError, "the function returns a tensor and its gradient function, got <Tensor"),
        (lambda x: (x, lambda g: (g, g)), fg.GraphError, "has 1 argument, but its gradient function gave 2 cotangents"),
        (lambda x: (fg.sum(x), lambda g: g), fg.ShapeError, "the cotangent of argument 0 of lambda is () float64, and the"),
        (lambda x: (x, lambda g: fg.astype(g, "float32")), fg.ShapeError, "is (3,) float32, and the argument (3,) float64"),
    ],
)  # fmt: skip
def test_a_gradient_function_that_does_not_fit_is_refused_when_the_function_is_called(function, error, text):
    with fg.Graph(), pytest.raises(error) as caught:
        fg.custom_gradient(function)(X)
    assert text in str(caught.value)
