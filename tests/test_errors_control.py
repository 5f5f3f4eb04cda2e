"""What a user reads after a slip in a branch, a loop, a transformation of a function, or an operation of his own."""

import re

import numpy as np
import pytest

import flowgraph as fg

GRAPH = fg.Graph()
with GRAPH:
    s = fg.placeholder("s", ())
    m = fg.placeholder("m", (2, 3))
    v = fg.placeholder("v", (4,))
    i = fg.placeholder("i", (4,), "int32")
    x = fg.placeholder("x", ("batch", 3))


def test_branches_that_differ_are_shown_one_below_the_other(refused, text_of):
    with GRAPH:
        error = refused(lambda: fg.cond(s > 0, lambda: m, lambda: v))
    here = "test_errors_control.py:LINE    error = refused(lambda: fg.cond(s > 0, lambda: m, lambda: v))"
    assert text_of(error) == (
        "cond: the branches build shapes (2, 3) and (4,)\n"
        f"  at          {here}\n"
        "  predicate   () bool   greater\n"
        f"  then        (2, 3) float32   cond/then/m, made at {here}\n"
        f"  otherwise   (4,) float32   cond/otherwise/v, made at {here}\n"
        "  help        both must build the same shapes"
    )
    assert isinstance(error, fg.ShapeError)


def test_a_carry_that_changes_is_shown_as_it_goes_in_and_as_it_comes_out(refused, text_of):
    def body(carry, row):
        return carry[0], carry[1] + m

    with GRAPH:
        error = refused(lambda: fg.while_loop(lambda carry: carry[0] < 3, lambda carry: body(carry, None), (s, fg.zeros((3,)))))
    assert text_of(error) == (
        "while_loop: value 1 of the carry goes into a turn as (3,) float32 and comes out as (2, 3) float32\n"
        "  at           test_errors_control.py:LINE    error = refused(lambda: fg.while_loop("
        "lambda carry: carry[0] < 3, lambda carry: body(carry, None), (s, fg.zeros((3,)))))\n"
        '  initial[0]   () float32   placeholder s, made at test_errors_control.py:LINE    s = fg.placeholder("s", ())\n'
        "  initial[1]   (3,) float32   broadcast_to\n"
        "  goes in      broadcast_to\n"
        "  comes out    while_loop/body/add, made at test_errors_control.py:LINE    return carry[0], carry[1] + m\n"
        "  help         a turn must leave shape and dtype as they are: cast or reshape the start, or what the body returns"
    )


def test_a_mistake_inside_a_body_that_the_feeds_reveal_names_the_line_in_the_body():
    with fg.Graph() as graph:
        rows = fg.placeholder("rows", (None, None))

        def body(total, row):
            return total + row, None  # here

        last, _ = fg.scan(body, fg.zeros((3,)), rows)
    with fg.Session(graph) as session, pytest.raises(fg.ShapeError, match=r"add: shapes \(3,\) and \(4,\) do not broadcast") as caught:
        session.run(last, {rows: np.ones((2, 4), np.float32)})
    assert "scan/add, made at test_errors_control.py:" in str(caught.value)
    assert "return total + row, None  # here" in str(caught.value)


def leaked():
    """A tensor from the body of a loop."""
    kept = []

    def body(carry, row):
        kept.append(carry * 2)
        return carry + row, None

    last, _ = fg.scan(body, 0.0, v)
    return last, kept[0]


def test_a_tensor_taken_out_of_a_body_says_to_return_it(refused):
    with GRAPH:
        last, inner = leaked()
        error = refused(lambda: fg.gradients(last, inner))
    assert error.message.endswith("belongs to another graph than scan")
    assert error.help == "it has a value only within the function that built it, turn by turn: return it from there"
    with fg.Session(GRAPH) as session:
        error = refused(lambda: session.run(inner, {v: np.ones(4, np.float32)}))
    assert isinstance(error, fg.FetchError)
    assert error.help == "it has a value only within the function that built it, turn by turn: return it from there"


def one(a):
    return a


def two(a, b):
    return a + b


WANTS_B = "two() missing 1 required positional argument: 'b'"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        # branches
        (lambda: fg.cond(s, lambda: m, lambda: m), "ShapeError: cond: the predicate is one boolean, got () float32"),
        (lambda: fg.cond(s > 0, lambda: m, lambda: i), "DtypeError: cond: the branches build float32 and int32"),
        (lambda: fg.cond(s > 0, lambda: {"a": m}, lambda: {"b": m}), "ArgumentError: cond: the branches build {'a': *} and {'b': *}"),
        (lambda: fg.cond(s > 0, lambda: (m, m), lambda: m), "ArgumentError: cond: the branches build (*, *) and *"),
        (lambda: fg.cond(s > 0, m, m), "ArgumentError: cond: then is a function, got <Tensor m: (2, 3) float32>"),
        (
            lambda: fg.cond(s > 0, one, one),
            "ArgumentError: cond: then takes 0 arguments: one() missing 1 required positional argument: 'a'",
        ),
        (lambda: fg.cond(s > 0, lambda: None, lambda: None), "DtypeError: cond: cannot compute with None"),
        # loops
        (
            lambda: fg.while_loop(lambda c: c < 9, lambda c: fg.stack([c, c]), 0.0),
            "ShapeError: while_loop: the carry goes into a turn as () float64 and comes out as (2,) float64",
        ),
        (
            lambda: fg.while_loop(lambda c: c < 9, lambda c: fg.astype(c, "float64"), s),
            "ShapeError: while_loop: the carry goes into a turn as () float32 and comes out as () float64",
        ),
        (
            lambda: fg.while_loop(lambda c: c[0] < 9, lambda c: c[0], (0.0, 1.0)),
            "ArgumentError: while_loop: the carry goes into a turn as (*, *) and comes out as *",
        ),
        (
            lambda: fg.while_loop(two, two, (0.0, 1.0)),
            f"ArgumentError: while_loop: the condition takes the carry, one value nested as at the start: {WANTS_B}",
        ),
        (
            lambda: fg.while_loop(lambda c: c + 1, lambda c: c, s),
            "ShapeError: while_loop: the condition gives one boolean, got () float32",
        ),
        (lambda: fg.while_loop(0, lambda c: c, s), "ArgumentError: while_loop: the condition is a function, got 0"),
        (
            lambda: fg.while_loop(lambda c: c < 1, lambda c: c, s, maximum=-1),
            "ArgumentError: while_loop: maximum, a number of turns, is a whole number, at least 0, got -1",
        ),
        (
            lambda: fg.scan(lambda c, row: c + row, s, v),
            "ArgumentError: scan: the body returns (carry, y), got <Tensor scan/add: () float32>",
        ),
        (
            lambda: fg.scan(one, s, v),
            "ArgumentError: scan: the body takes (carry, x): one() takes 1 positional argument but 2 were given",
        ),
        (
            lambda: fg.scan(lambda c, row: ({"b": row}, c), {"a": s}, v),
            "ArgumentError: scan: the carry goes into a turn as {'a': *} and comes out as {'b': *}",
        ),
        (lambda: fg.scan(lambda c, row: (c, row), s, (v, m)), "ShapeError: scan: the xs have 4 and 2 entries along their first axis"),
        (lambda: fg.scan(lambda c, row: (c, row), s, v, length=7), "ShapeError: scan: the xs have 4 entries, but length is 7"),
        (lambda: fg.map(lambda a: a, s), "ShapeError: map: s is a scalar, it has no turns"),
        (lambda: fg.map(two, v), f"ArgumentError: map: the function takes 1 argument: {WANTS_B}"),
        (lambda: fg.checkpoint(m), "ArgumentError: checkpoint: its argument is a function, got <Tensor m: (2, 3) float32>"),
        # gradients
        (lambda: fg.gradients(m, m), "GradientError: gradients: m has shape (2, 3), and only a scalar has a gradient of its own"),
        (lambda: fg.gradients(fg.sum(m), i), "GradientError: gradients: i is int32, and only floats have gradients"),
        (lambda: fg.gradients(fg.sum(m), "m"), "GradientError: gradients: xs are tensors, got 'm'"),
        (lambda: fg.grad(lambda a: a)(m), "GradientError: grad: the function returns shape (2, 3), and only a scalar has a gradient"),
        (lambda: fg.grad(lambda a: fg.sum(a))(3), "GradientError: grad: 3 is int64, and only floats have derivatives"),
        (lambda: fg.grad(fg.sum(m)), "ArgumentError: grad: what is differentiated is a function, got <Tensor sum: () float32>"),
        (lambda: fg.grad(two)(m), f"ArgumentError: grad: the function takes 1 argument: {WANTS_B}"),
        (lambda: fg.grad(fg.sum, argnums="a")(m), "ArgumentError: grad: argnums is a whole number, got 'a'"),
        (lambda: fg.grad(fg.sum, argnums=1)(m), "ArgumentError: grad: argnums 1 does not fit 1 argument"),
        (lambda: fg.grad(fg.sum)("a"), "DtypeError: grad: cannot compute with 'a'"),
        (
            lambda: fg.grad(lambda a: fg.sum(v), unconnected="error")(m),
            "GradientError: grad: sum does not depend on the argument m",
        ),
        (lambda: fg.vjp(lambda a: a, m)[1]("a"), "DtypeError: vjp: cannot compute with 'a'"),
        (
            lambda: fg.vjp(lambda a: a, m)[1](v),
            "GradientError: vjp: a cotangent of the result is (2, 3) float32, as what it belongs to, got (4,) float32",
        ),
        (
            lambda: fg.hvp(lambda a: fg.sum(a**2), m, m),
            "ArgumentError: hvp: primals is a tuple with one entry for each argument, got <Tensor m: (2, 3) float32>",
        ),
        (lambda: fg.jacobian(lambda a: a > 0)(m), "GradientError: jacobian: the result greater is bool, and only floats have derivatives"),
        (
            lambda: fg.hessian(lambda a: fg.sum(a**2))(x),
            "GradientError: hessian: of (batch, 3, batch, 3) more than one size is unknown before a run",
        ),
        # batches
        (lambda: fg.vmap(lambda a: a)(s), "ShapeError: vmap: s is a scalar, it has no axis of examples"),
        (lambda: fg.vmap(lambda a: a, in_axes=3)(m), "ShapeError: vmap: axis 3 is out of range for 2 dimensions"),
        (lambda: fg.vmap(lambda a: a, in_axes=1.5)(m), "ArgumentError: vmap: axis must be an int, got 1.5"),
        (lambda: fg.vmap(lambda a: a, in_axes=(0, 0))(m), "ArgumentError: vmap: in_axes names 2 axes for 1 argument"),
        (lambda: fg.vmap(lambda a: a, out_axes=3)(m), "ShapeError: vmap: axis 3 is out of range for 2 dimensions"),
        (lambda: fg.vmap(lambda a, b: a + b)(m, v), "ShapeError: vmap: the batches differ, 2 and 4"),
        (lambda: fg.vmap(two)(m), f"ArgumentError: vmap: the function takes 1 argument: {WANTS_B}"),
        (lambda: fg.vmap(3), "ArgumentError: vmap: its argument is a function, got 3"),
        # gradients of one's own
        (
            lambda: fg.custom_gradient(lambda a: (a, lambda g: (g, g)))(m),
            "GraphError: custom_gradient: lambda has 1 argument, but its gradient function gave 2 cotangents",
        ),
        (
            lambda: fg.custom_gradient(lambda a: (a, lambda g: fg.sum(g)))(m),
            "ShapeError: custom_gradient: the cotangent of argument 0 of lambda is () float32, and the argument (2, 3) float32",
        ),
        (lambda: fg.custom_gradient(3), "ArgumentError: custom_gradient: its argument is a function, got 3"),
        (
            lambda: fg.gradients(fg.sum(fg.custom_op(np.sin, infer=lambda a: a, gradient=lambda g, y, a: fg.sum(g))(m)), m),
            "GradientError: custom_op: the gradient of sin gave () float32 for input 0, which is (2, 3) float32",
        ),
        (
            lambda: fg.gradients(fg.sum(fg.custom_op(np.sin, infer=lambda a: a)(m)), m),
            "GradientError: custom_op: sin has no gradient",
        ),
        (
            lambda: fg.custom_op(np.sin, infer=two)(m),
            f"ArgumentError: custom_op: infer of sin takes 1 argument: {WANTS_B}",
        ),
        (lambda: fg.py_call(3, m), "ArgumentError: py_call: its first argument is a function, got 3"),
    ],
)
def test_a_slip_is_told_in_one_line_with_the_name_that_was_called(make, said, refused):
    with GRAPH:
        error = refused(make)
    message = re.sub(r"(?<=[a-z])_\d+\b", "", error.message)  # (names have numbers from the tests before)
    assert f"{type(error).__name__}: {message}" == said
