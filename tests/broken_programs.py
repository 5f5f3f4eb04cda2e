"""Broken programs, each as short as its mistake allows. In each, one line is marked as the one to blame: `# <- here`.

A table and not tests: `tests/test_broken_programs.py` runs them, and asks of each error that it names that line and says what is wrong.
`python -m tests.broken_programs` prints how many are right, by kind, and what is wrong with the others; with a name behind it, the error
of that program as a terminal shows it.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import flowgraph as fg

MARK = "# <- here"


@dataclass(frozen=True)
class Program:
    """A function that raises.

    kind   of mistake
    error  the class that is raised
    words  that the text must have
    line   the one that is marked
    """

    kind: str
    error: type[BaseException]
    words: tuple[str, ...]
    function: Callable[[], Any]
    line: int

    @property
    def name(self) -> str:
        return self.function.__name__

    def run(self) -> BaseException:
        """What it raises; it builds in a graph of its own."""
        with fg.Graph(), warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                self.function()
            except Exception as error:
                return error
        raise AssertionError(f"{self.name} raises nothing")

    def faults(self) -> list[str]:
        """What is wrong with its error: nothing, if it names the right line and says what it must."""
        error = self.run()
        found = []
        if not isinstance(error, self.error):
            found.append(f"raises {type(error).__name__} and not {self.error.__name__}")
        place = getattr(error, "location", None)
        if place is not None and (Path(place.file).name, place.line) != (Path(__file__).name, self.line):
            found.append(f"blames {place}, and not line {self.line}")
        if f"{Path(__file__).name}:{self.line}" not in str(error) and not isinstance(error, Warning):
            found.append(f"does not show line {self.line}")
        found += [f"does not say {word!r}" for word in self.words if word not in str(error)]
        return [*found, f"{type(error).__name__}: {error}"] if found else []


PROGRAMS: list[Program] = []


def broken(kind: str, error: type[BaseException], *words: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Puts a function into the table."""

    def put(function: Callable[[], Any]) -> Callable[[], Any]:
        lines, first = inspect.getsourcelines(function)
        marked = [first + place for place, line in enumerate(lines) if MARK in line]
        assert len(marked) == 1, f"{function.__name__} has {len(marked)} lines marked"
        PROGRAMS.append(Program(kind, error, words, function, marked[0]))
        return function

    return put


def rows(*shape: int) -> np.ndarray:
    """Numbers around 0."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def images() -> fg.Tensor:
    """A batch of small images."""
    return fg.placeholder("images", ("batch", 3, 8, 8))


# --- shapes


@broken("shape", fg.ShapeError, "matmul: the inner sizes differ, 784 and 748", "placeholder x", "variable w")
def a_product_of_sizes_that_differ():
    x = fg.placeholder("x", ("batch", 784))
    w = fg.variable(fg.init.zeros((748, 10)), name="w")
    return fg.nn.relu(1.0 + x @ w)  # <- here


@broken("shape", fg.ShapeError, "do not broadcast", "(2,)", "(3,)")
def a_sum_that_only_feeds_reveal():
    a, b = fg.placeholder("a", (None,)), fg.placeholder("b", (None,))
    c = fg.exp(a)
    total = c * 2 + b  # <- here
    with fg.Session() as session:
        session.run(fg.sum(total), {a: rows(2), b: rows(3)})


@broken("shape", fg.ShapeError, "matmul: the inner sizes differ", "scope_of_it/matmul")
def a_product_in_a_function_that_another_calls():
    def dense(x, w):
        return x @ w  # <- here

    def model(x):
        with fg.scope("scope_of_it"):
            return dense(x, fg.ones((4, 4)))

    return model(fg.placeholder("x", ("batch", 5)))


@broken("shape", fg.ShapeError, "concat", "(2, 3)", "(4, 3)")
def a_concat_along_the_wrong_axis():
    parts = [fg.ones((2, 3)), fg.ones((4, 3))]
    return fg.concat(parts, axis=1)  # <- here


@broken("shape", fg.ShapeError, "reshape", "(5, 5)")
def a_reshape_to_another_size():
    x = fg.placeholder("x", (4, 6))
    return x.reshape(5, 5).sum()  # <- here


@broken("shape", fg.ShapeError, "reshape")
def a_reshape_that_only_the_feed_reveals():
    x = fg.placeholder("x", ("batch", 6))
    y = fg.reshape(x, (-1, 4))  # <- here
    with fg.Session() as session:
        session.run(y, {x: rows(3, 6)})


@broken("shape", fg.ShapeError, "axis 2 is out of range")
def an_axis_out_of_range():
    x = fg.placeholder("x", (4, 6))
    return x - x.mean(  # <- here
        axis=2,
        keepdims=True,
    )


@broken("shape", fg.ShapeError, "stack")
def a_stack_of_different_shapes():
    return fg.stack([fg.ones((i,)) for i in (2, 2, 3)])  # <- here


@broken("shape", fg.ShapeError, "conv2d", "channels")
def a_convolution_of_other_channels():
    kernel = fg.ones((6, 1, 5, 5))
    return fg.nn.conv2d(images(), kernel)  # <- here


@broken("shape", fg.ShapeError, "softmax_cross_entropy")
def labels_of_another_batch():
    logits = fg.placeholder("logits", (8, 10))
    labels = fg.placeholder("labels", (7,), "int64")
    return fg.mean(fg.nn.softmax_cross_entropy(logits, labels))  # <- here


@broken("shape", fg.ShapeError, "einsum")
def a_subscript_with_two_sizes():
    return fg.einsum("ij,jk->ik", fg.ones((2, 3)), fg.ones((4, 5)))  # <- here


@broken("shape", fg.ShapeError, "solve")
def equations_that_are_not_square():
    a = fg.ones((3, 4))
    return fg.linalg.solve(a, fg.ones((3,)))  # <- here


@broken("shape", fg.ShapeError, "split")
def a_split_that_does_not_come_out():
    x = fg.placeholder("x", (10, 3))
    first, *_ = fg.split(x, 4)  # <- here
    return first


@broken("shape", fg.ShapeError, "out of range")
def an_index_behind_the_end():
    x = fg.placeholder("x", (4, 3))
    return fg.exp(x[:, 3])  # <- here


@broken("shape", fg.ShapeError, "broadcast_to")
def a_broadcast_to_fewer_dimensions():
    return fg.broadcast_to(fg.ones((2, 3)), (3,))  # <- here


@broken("shape", fg.ShapeError, "transpose", "name each of the 3 axes once")
def an_order_of_axes_with_one_missing():
    x = fg.placeholder("x", (2, 3, 4))
    return x.transpose(0, 2)  # <- here


@broken("shape", fg.ShapeError, "do not broadcast", "add")
def numpy_s_functions_on_tensors():
    x = fg.placeholder("x", (3,))
    return np.add(np.tanh(x), np.ones(4, np.float32))  # <- here


# --- dtypes


@broken("dtype", fg.DtypeError, "float32", "take")
def an_index_that_is_a_float():
    x, i = fg.placeholder("x", (5,)), fg.placeholder("i", (2,))
    return fg.take(x, i)  # <- here


@broken("dtype", fg.DtypeError, "condition must be boolean")
def a_condition_that_is_a_number():
    x = fg.placeholder("x", (5,))
    return fg.where(x, x, 0.0)  # <- here


@broken("dtype", fg.DtypeError, "bitwise_and")
def bits_of_a_float():
    x = fg.placeholder("x", (5,))
    return x & 1  # <- here


@broken("dtype", fg.DtypeError, "300", "uint8")
def a_number_that_does_not_fit():
    return fg.placeholder("x", (5,), "uint8") + 300  # <- here


@broken("dtype", fg.DtypeError, "not a dtype")
def a_dtype_with_a_typo():
    return fg.placeholder("x", (5,), "flot32")  # <- here


@broken("dtype", fg.DtypeError, "cannot compute with 'abc'")
def a_text_in_place_of_a_tensor():
    return fg.exp("abc")  # <- here


@broken("dtype", fg.DtypeError, "a function that lacks its return gives None")
def a_function_without_return():
    def scaled(x):
        x * 2

    x = fg.placeholder("x", (5,))
    return x + scaled(x)  # <- here


@broken("dtype", fg.DtypeError, "holds tensors")
def a_list_of_tensors():
    x = fg.placeholder("x", (5,))
    return fg.exp([x[0], x[1]])  # <- here


@broken("dtype", fg.DtypeError, "1.5 is no int32")
def a_constant_that_would_be_cut():
    return fg.constant([1.0, 1.5], "int32")  # <- here


@broken("dtype", fg.GraphError, "has no truth value")
def a_python_if_on_a_tensor():
    x = fg.placeholder("x", ())
    if x > 0:  # <- here
        return x
    return -x


@broken("dtype", fg.GraphError, "not a number")
def a_python_float_of_a_tensor():
    x = fg.placeholder("x", ())
    return float(x * 2)  # <- here


@broken("dtype", fg.GraphError, "cannot be written at an index")
def a_tensor_that_is_written_to():
    x = fg.placeholder("x", (5,))
    x[0] = 1.0  # <- here


# --- feeds and fetches


@broken("feed", fg.FeedError, "placeholder x", "is not fed")
def a_feed_that_is_missing():
    x = fg.placeholder("x", (3,))
    y = fg.sum(x * 2)
    with fg.Session() as session:
        session.run(y)  # <- here


@broken("feed", fg.FeedError, "is fed shape (2, 4), but it is (batch, 3)")
def a_feed_of_another_shape():
    x = fg.placeholder("x", ("batch", 3))
    with fg.Session() as session:
        return session.run(  # <- here
            fg.sum(x),
            {x: rows(2, 4)},
        )


@broken("feed", fg.FeedError, "is fed float64, but it is float32")
def a_feed_of_another_dtype():
    x = fg.placeholder("x", (3,))
    value = np.zeros(3)
    with fg.Session() as session:
        session.run(x + 1, {x: value})  # <- here


@broken("feed", fg.FeedError, "got the text 'x'", "graph['x']")
def a_feed_by_name():
    x = fg.placeholder("x", (3,))
    with fg.Session() as session:
        session.run(x + 1, {"x": rows(3)})  # <- here


@broken("feed", fg.FeedError, "cannot be made an array")
def a_feed_of_lists_that_differ():
    x = fg.placeholder("x", (2, None))
    with fg.Session() as session:
        session.run(x + 1, {x: [[1, 2, 3], [4]]})  # <- here


@broken("feed", fg.FeedError, "the size 'batch' is 2 in the feed of x and 3 in that of y")
def batches_of_two_sizes():
    x, y = fg.placeholder("x", ("batch",)), fg.placeholder("y", ("batch", 4))
    with fg.Session() as session:
        session.run([x + 1, y + 1], {x: rows(2), y: rows(3, 4)})  # <- here


@broken("feed", fg.FeedError, "is fed a tensor")
def a_tensor_as_a_feed():
    x = fg.placeholder("x", (3,))
    with fg.Session() as session:
        session.run(x + 1, {x: fg.ones((3,))})  # <- here


@broken("feed", fg.FeedError, "feeds are a dict")
def an_array_in_place_of_feeds():
    x = fg.placeholder("x", (3,))
    with fg.Session() as session:
        session.run(x + 1, rows(3))  # <- here


@broken("feed", fg.FeedError, "is fed shape (4,), but it is (3,)")
def a_function_called_with_another_shape():
    x = fg.placeholder("x", (3,))
    with fg.Session() as session:
        double = session.function([x], x * 2)
        for _ in range(4):
            double(rows(3))
        double(rows(4))  # <- here


@broken("fetch", fg.FetchError, "got the text 'exp'")
def a_fetch_by_name():
    y = fg.exp(fg.placeholder("x", (3,)))
    with fg.Session() as session:
        session.run("exp", {y.node.inputs[0]: rows(3)})  # <- here


@broken("fetch", fg.FetchError, "got function")
def a_fetch_that_is_a_function():
    with fg.Session() as session:
        session.run(fg.ones)  # <- here


@broken("fetch", fg.UninitializedError, "variable w", "has no value")
def a_variable_without_a_value():
    w = fg.variable(shape=(3,), name="w")
    with fg.Session() as session:
        session.run(w * 2)  # <- here


@broken("fetch", fg.UnknownNameError, "no node is called 'layer1/mull'", "near: layer1/multiply")
def a_name_with_a_typo():
    with fg.scope("layer1"):
        fg.placeholder("x", (3,)) * 2
    return fg.get_default_graph()["layer1/mull"]  # <- here


@broken("fetch", fg.UnknownNameError, "no variable is called 'v'")
def a_variable_that_is_not_there():
    fg.variable(1.0, name="w")
    with fg.Session() as session:
        session.variables["v"] = 2.0  # <- here


@broken("fetch", fg.ShapeError, "variable w has shape (2, 2), not (3,)")
def a_value_that_does_not_fit_its_variable():
    fg.variable(np.ones((2, 2)), name="w")
    with fg.Session() as session:
        session.variables["w"] = np.ones(3)  # <- here


# --- mixed graphs


def elsewhere() -> fg.Tensor:
    """A tensor of another graph."""
    with fg.Graph():
        return fg.placeholder("other", (3,))


@broken("mixed graphs", fg.GraphError, "its inputs belong to two graphs", "other")
def a_sum_of_two_graphs():
    x = fg.placeholder("x", (3,))
    y = elsewhere()
    return fg.exp(x) + y  # <- here


@broken("mixed graphs", fg.FetchError, "belongs to another graph than the session's")
def a_fetch_from_another_graph():
    fg.placeholder("x", (3,))
    with fg.Session() as session:
        session.run(elsewhere())  # <- here


@broken("mixed graphs", fg.FeedError, "belongs to another graph than the session's")
def a_feed_for_another_graph():
    x = fg.placeholder("x", (3,))
    with fg.Session() as session:
        session.run(x + 1, {elsewhere(): rows(3)})  # <- here


@broken("mixed graphs", fg.GradientError, "belongs to another graph")
def a_gradient_by_a_tensor_of_another_graph():
    loss = fg.sum(fg.placeholder("x", (3,)))
    return fg.gradients(loss, elsewhere())  # <- here


@broken("mixed graphs", fg.GradientError, "belongs to another graph", "return it from there")
def a_tensor_taken_out_of_a_loop():
    kept = []
    x = fg.placeholder("x", (4,))

    def body(carry, row):
        kept.append(carry * row)
        return carry + row, carry

    last, _ = fg.scan(body, 0.0, x)
    return fg.gradients(last, kept[0])  # <- here


@broken("mixed graphs", fg.GraphError, "control_dependencies")
def a_control_dependency_on_another_graph():
    y = elsewhere()
    with fg.control_dependencies([y]):  # <- here
        return fg.ones((3,)) * 2


# --- ordering


@broken("ordering", fg.GraphError, "w is written twice in one run")
def a_variable_written_twice():
    w = fg.variable(1.0, name="w")
    up = fg.assign(w, w + 1)
    down = fg.assign(w, w - 1)
    with fg.Session() as session:
        session.run([up, down])  # <- here


@broken("ordering", fg.VariableOrderWarning, "w is read by multiply and written in the same run")
def a_read_that_nothing_orders_with_a_write():
    w = fg.variable(1.0, name="w")
    up = fg.assign(w, 2.0)
    reading = w * 3  # <- here
    with fg.Session() as session:
        session.run([reading, up])


@broken("ordering", fg.GraphGrowthWarning, "the graph grows by", "nodes with every run")
def nodes_built_in_the_training_loop():
    x = fg.placeholder("x", ())
    with fg.Session() as session:
        for step in range(40):
            y = x + step * 0.5  # <- here
            session.run(y, {x: 1.0})


@broken("ordering", fg.ShapeError, "assign", "cannot hold")
def an_update_of_another_shape():
    w = fg.variable(np.ones((3, 2)), name="w")
    return fg.assign(w, np.ones((2, 3)))  # <- here


# --- gradients


@broken("dead gradient", fg.GradientError, "stops at argmax", "a position is constant between its jumps", "<- stops here")
def a_loss_of_classes():
    x, w = fg.placeholder("x", ("batch", 3)), fg.variable(rows(3, 2), name="w")
    classes = fg.argmax(x @ w, axis=1)  # <- here
    loss = fg.mean(fg.astype(classes, "float32"))
    return fg.gradients(loss, w, unconnected="error")


@broken("dead gradient", fg.GradientError, "stops at astype")
def a_cast_to_integers():
    w = fg.variable(rows(3), name="w")
    rounded = fg.astype(w * 10, "int32")  # <- here
    return fg.gradients(fg.sum(fg.astype(rounded, "float32")), w, unconnected="error")


@broken("dead gradient", fg.GradientError, "stops at stop_gradient")
def a_gradient_that_is_stopped():
    w = fg.variable(rows(3), name="w")
    frozen = fg.stop_gradient(w * 2)  # <- here
    return fg.gradients(fg.sum(frozen), w, unconnected="error")


@broken("dead gradient", fg.GradientError, "stops at greater")
def a_loss_of_a_comparison():
    w = fg.variable(rows(3), name="w")
    right = w * 2 > 0.5  # <- here
    return fg.gradients(fg.mean(fg.astype(right, "float32")), w, unconnected="error")


@broken("dead gradient", fg.GradientError, "does not depend on b")
def a_variable_that_is_not_used():
    w, b = fg.variable(rows(3), name="w"), fg.variable(rows(3), name="b")
    loss = fg.sum(fg.square(w))
    return fg.gradients(loss, [w, b], unconnected="error")  # <- here


@broken("dead gradient", fg.GradientError, "has shape (3,), and only a scalar has a gradient of its own")
def a_gradient_of_many_numbers():
    w = fg.variable(rows(3), name="w")
    return fg.gradients(w * 2, w)  # <- here


@broken("dead gradient", fg.GradientError, "is int32, and only floats have gradients")
def a_gradient_by_an_integer():
    n = fg.variable(np.array([1, 2], np.int32), name="n")
    return fg.gradients(fg.sum(fg.astype(n, "float32")), n)  # <- here


@broken("dead gradient", fg.GradientError, "has no gradient")
def a_custom_operation_without_a_gradient():
    w = fg.variable(rows(3), name="w")
    twice = fg.custom_op(lambda a: a * 2, infer=lambda a: a)
    y = twice(w)  # <- here
    return fg.gradients(fg.sum(y), w)


@broken("dead gradient", fg.ArgumentError, "depends on no trainable variable")
def an_optimiser_with_nothing_to_train():
    loss = fg.sum(fg.placeholder("x", (3,)))
    return fg.optim.SGD(0.1).minimize(loss)  # <- here


@broken("dead gradient", fg.GradientError, "grad_ys for multiply must be (3,) float32")
def a_cotangent_of_another_shape():
    w = fg.variable(rows(3), name="w")
    return fg.gradients(w * 2, w, grad_ys=np.ones(4, np.float32))  # <- here


# --- numbers


@broken("nan", fg.NumericsError, "log: made -inf of finite values", "relu: 0", "made nan of it")
def a_logarithm_of_zero():
    p = fg.nn.relu(fg.placeholder("x", ("batch", 4)))
    t = fg.placeholder("t", ("batch", 4))
    loss = -fg.mean(t * fg.log(p))  # <- here
    with fg.Session(check_numerics=True) as session:
        x = p.node.inputs[0]
        session.run(loss, {x: rows(8, 4), t: np.zeros((8, 4), np.float32)})


@broken("nan", fg.NumericsError, "divide: made nan of finite values")
def a_mean_of_nothing():
    x = fg.placeholder("x", ("n",))
    mask = fg.astype(x > 100.0, "float32")
    mean = fg.sum(x * mask) / fg.sum(mask)  # <- here
    with fg.Session(check_numerics=True) as session:
        session.run(mean, {x: rows(50)})


@broken("nan", fg.NumericsError, "exp: made inf of finite values", "fg.nn.softmax")
def a_softmax_by_hand():
    x = fg.placeholder("x", ("batch", 5))
    e = fg.exp(x)  # <- here
    p = e / fg.sum(e, axis=1, keepdims=True)
    with fg.Session(check_numerics=True) as session:
        session.run(p, {x: rows(1000, 5) * 100})


@broken("nan", fg.NumericsError, "has not chosen", "fg.where(c, f(fg.where(c, x, 1.0)), y)", "while")
def a_gradient_through_the_branch_not_chosen():
    x = fg.placeholder("x", (4,))
    safe = fg.where(x > 0, fg.sqrt(x), 0.0)  # <- here
    (dx,) = fg.gradients(fg.sum(safe), x)
    with fg.Session(check_numerics=True) as session:
        session.run(dx, {x: [0.0, 1.0, 2.0, 0.0]})


@broken("nan", fg.NumericsError, "while", "differentiating sqrt", "slope of sqrt at 0")
def a_gradient_of_a_norm_at_zero():
    w = fg.variable(np.zeros(3, np.float32), name="w")
    norm = fg.sqrt(fg.sum(w * w))  # <- here
    (dw,) = fg.gradients(norm, w)
    with fg.Session(check_numerics=True) as session:
        session.run(dw)


@broken("nan", fg.NumericsError, "exp: made inf of finite values", "turn 3")
def a_loop_that_overflows():
    x = fg.placeholder("x", (9, 2))

    def body(carry, row):
        grown = fg.exp(carry + row)  # <- here
        return grown, grown

    _, ys = fg.scan(body, fg.zeros((2,)), x)
    with fg.Session(check_numerics=True) as session:
        session.run(ys, {x: np.ones((9, 2), np.float32)})


@broken("nan", fg.NumericsError, "x is fed values that are not finite", "1 nan of 6")
def a_nan_among_the_data():
    x = fg.placeholder("x", ("batch", 3))
    y = fg.mean(fg.tanh(x))
    data = rows(2, 3)
    data[1, 2] = np.nan
    with fg.Session(check_numerics=True, threads=1) as session:
        session.run(y, {x: data})  # <- here


@broken("nan", fg.NumericsWarning, "divide: made inf of finite values", "Said once")
def a_loss_that_is_lost_without_being_asked():
    x, w = fg.placeholder("x", ()), fg.variable(1.0, name="w")
    loss = fg.square(w / x)  # <- here
    step = fg.optim.SGD(0.1).minimize(loss)
    with fg.Session() as session:
        session.run([loss, step], {x: 0.0})


@broken("nan", fg.NumericsError, "pow: made -inf of finite values", "while", "variable w: -4e+30", "variable w would hold")
def a_rate_that_is_too_large():
    w = fg.variable(np.ones(4, np.float32), name="w")
    loss = fg.sum(w**4)  # <- here
    step = fg.optim.SGD(1e30).minimize(loss)
    with fg.Session(check_numerics=True) as session:
        for _ in range(3):
            session.run(step)


@broken("nan", fg.NumericsError, "float16", "multiply: made inf of finite values")
def a_half_precision_that_overflows():
    x = fg.placeholder("x", (3,), "float16")
    y = x * 60000  # <- here
    with fg.Session(check_numerics=True) as session:
        session.run(y, {x: np.full(3, 2, np.float16)})


# --- failing kernels, operations of one's own


@broken("kernel", fg.LinAlgError, "the matrix is singular", "fg.linalg.pinv")
def a_singular_matrix():
    x = fg.placeholder("x", (3, 3))
    y = fg.linalg.inv(x).trace()  # <- here
    with fg.Session() as session:
        session.run(y, {x: np.ones((3, 3), np.float32)})


@broken("kernel", fg.LinAlgError, "matrix 5 of the batch is not positive definite")
def one_matrix_of_a_batch():
    x = fg.placeholder("x", ("batch", 2, 2), "float64")
    y = fg.linalg.cholesky(x)  # <- here
    batch = np.stack([np.eye(2)] * 9)
    batch[5] = -1
    with fg.Session() as session:
        session.run(y, {x: batch})


@broken("kernel", fg.FlowgraphError, "take", "9")
def an_index_that_only_the_run_knows():
    x, i = fg.placeholder("x", (5,)), fg.placeholder("i", (2,), "int64")
    y = fg.exp(fg.take(x, i))  # <- here
    with fg.Session() as session:
        session.run(y, {x: rows(5), i: [1, 9]})


@broken("custom op", fg.ExecutionError, "(ZeroDivisionError)", "raised at", "mlp/half")
def a_function_that_raises():
    def half(a):
        return a / (2 if a.size < 3 else 1 // 0)  # <- here

    with fg.scope("mlp"):
        x = fg.placeholder("x", (4,))
        y = fg.py_call(half, x, x)
    with fg.Session() as session:
        session.run(y + 1, {x: rows(4)})


@broken("custom op", fg.FlowgraphError, "(3,)", "(4,)")
def a_function_that_gives_another_shape():
    def shorter(a):
        return a[1:]

    x = fg.placeholder("x", (4,))
    y = fg.py_call(shorter, x, x)  # <- here
    with fg.Session() as session:
        session.run(y, {x: rows(4)})


@broken("custom op", fg.FlowgraphError, "float64", "float32")
def a_function_that_gives_another_dtype():
    op = fg.custom_op(lambda a: a.astype("float64"), infer=lambda a: a)
    x = fg.placeholder("x", (4,))
    y = op(x)  # <- here
    with fg.Session() as session:
        session.run(y, {x: rows(4)})


@broken("custom op", fg.ExecutionError, "read-only", "raised at")
def a_function_that_writes_what_it_is_given():
    def doubled(a):
        a *= 2  # <- here
        return a

    x = fg.placeholder("x", (4,))
    y = fg.py_call(doubled, x, x)
    with fg.Session() as session:
        session.run(y, {x: rows(4)})


@broken("custom op", fg.GradientError, "gave () float32 for input 0, which is (3,) float32")
def a_gradient_of_another_shape():
    op = fg.custom_op(np.sin, infer=lambda a: a, gradient=lambda g, y, a: fg.sum(g))
    w = fg.variable(rows(3), name="w")
    y = op(w)  # <- here
    return fg.gradients(fg.sum(y), w)


@broken("custom op", fg.ShapeError, "do not broadcast")
def a_gradient_with_a_mistake_of_its_own():
    def gradient(g, y, a):
        return g * fg.ones((7,))  # <- here

    op = fg.custom_op(np.sin, infer=lambda a: a, gradient=gradient)
    w = fg.variable(rows(3), name="w")
    return fg.gradients(fg.sum(op(w)), w)


@broken("custom op", fg.ArgumentError, "infer of sin takes 1 argument")
def an_inference_that_wants_more():
    op = fg.custom_op(np.sin, infer=lambda a, b: a)
    return op(fg.placeholder("x", (3,)))  # <- here


@broken("custom op", fg.ExecutionError, "KeyError", "raised at")
def a_function_that_fails_in_a_loop_on_several_threads():
    table = {0.0: 1.0}

    def looked_up(a):
        return np.float32(table[float(a)])  # <- here

    x = fg.placeholder("x", (4,))
    _, ys = fg.scan(lambda c, row: (c, fg.py_call(looked_up, row, row)), 0.0, x)
    with fg.Session(threads=2) as session:
        session.run([ys, fg.sort(x)], {x: np.arange(4, dtype=np.float32)})


# --- control flow


@broken("control flow", fg.ShapeError, "the branches build shapes (2, 3) and (4,)")
def branches_that_differ():
    x, y = fg.placeholder("x", (2, 3)), fg.placeholder("y", (4,))
    return fg.cond(fg.sum(x) > 0, lambda: x, lambda: y)  # <- here


@broken("control flow", fg.ShapeError, "the predicate is one boolean")
def a_predicate_that_is_a_number():
    x = fg.placeholder("x", (2, 3))
    return fg.cond(fg.sum(x), lambda: x, lambda: -x)  # <- here


@broken("control flow", fg.ShapeError, "do not broadcast", "then/add")
def a_mistake_within_a_branch():
    x = fg.placeholder("x", (2, 3))
    return fg.cond(
        fg.sum(x) > 0,
        lambda: x + fg.ones((7,)),  # <- here
        lambda: x,
    )


@broken("control flow", fg.ShapeError, "goes into a turn as () float64 and comes out as (2,) float64")
def a_carry_that_grows():
    return fg.while_loop(lambda c: fg.sum(c) < 9, lambda c: fg.stack([c, c]), 0.0)  # <- here


@broken("control flow", fg.ShapeError, "do not broadcast", "scan/add")
def a_mistake_in_a_body_that_feeds_reveal():
    x = fg.placeholder("x", (None, None))

    def body(total, row):
        return total + row, None  # <- here

    last, _ = fg.scan(body, fg.zeros((3,)), x)
    with fg.Session() as session:
        session.run(last, {x: rows(2, 4)})


@broken("control flow", fg.ArgumentError, "the body returns (carry, y)")
def a_body_that_forgets_its_second_result():
    x = fg.placeholder("x", (4,))
    return fg.scan(lambda c, row: c + row, 0.0, x)  # <- here


@broken("control flow", fg.LinAlgError, "the matrix is singular", "scan/inv")
def a_kernel_that_fails_in_a_turn():
    x = fg.placeholder("x", (4, 2, 2))
    _, ys = fg.scan(
        lambda c, m: (
            c,
            fg.linalg.inv(m),  # <- here
        ),
        0.0,
        x,
    )
    with fg.Session() as session:
        session.run(ys, {x: np.zeros((4, 2, 2), np.float32)})


@broken("control flow", fg.ShapeError, "have 4 and 5 entries along their first axis")
def a_scan_over_two_lengths():
    a, b = fg.placeholder("a", (4,)), fg.placeholder("b", (5,))
    return fg.scan(lambda c, ab: (c + ab[0], ab[1]), 0.0, (a, b))  # <- here


@broken("control flow", fg.ShapeError, "the batches differ, 2 and 4")
def a_vmap_over_two_batches():
    return fg.vmap(lambda a, b: a * b)(fg.ones((2, 3)), fg.ones((4, 3)))  # <- here


@broken("control flow", fg.GraphError, "has no truth value")
def a_traced_function_that_branches_in_python():
    @fg.trace
    def clipped(x):
        return x if x.sum() > 0 else -x  # <- here

    return clipped(rows(3))


@broken("control flow", fg.ShapeError, "matmul: the inner sizes differ, 3 and 2")
def a_mistake_in_a_function_that_grad_calls():
    def loss(w):
        return fg.sum(fg.tanh(w @ w))  # <- here

    return fg.grad(loss)(fg.placeholder("w", (2, 3)))


# --- memory, devices, extras


@broken("memory", fg.MemoryLimitError, "the limit is 1.0 MB", "(500, 500) float64")
def a_run_that_takes_too_much():
    x = fg.placeholder("x", ("n", "n"), "float64")
    y = fg.sort(x, axis=0)  # <- here
    with fg.Session(memory_limit="1MB") as session:
        session.run(fg.sum(y), {x: np.zeros((500, 500))})


@broken("memory", fg.ArgumentError, "memory_limit")
def a_limit_that_is_no_size():
    with fg.Session(memory_limit="a lot"):  # <- here
        pass


@broken("device", fg.ArgumentError, "cuda:9")
def a_device_that_is_not_there():
    with fg.Session(device="cuda:9"):  # <- here
        pass


@broken("device", fg.ArgumentError, "cpu:3")
def a_node_on_a_device_that_the_session_lacks():
    x = fg.placeholder("x", (3,))
    with fg.device("cpu:3"):
        y = fg.sqrt(x)  # <- here
    with fg.Session(devices=["cpu:0", "cpu:1"]) as session:
        session.run(y, {x: rows(3)})


@broken("device", fg.ArgumentError, "named twice")
def a_device_named_twice():
    fg.Session(devices=["cpu:0", "cpu:0"])  # <- here


def without(module: str) -> Any:
    """As if a library were not installed."""
    from unittest.mock import patch

    return patch.dict(sys.modules, {module: None})


@broken("extra", fg.MissingExtraError, 'pip install "flowgraph[plot]"')
def a_picture_without_matplotlib():
    with without("matplotlib.figure"):
        fg.viz.filters(np.ones((1, 1, 2, 2)), "filters.png")  # <- here


@broken("extra", fg.MissingExtraError, 'pip install "flowgraph[sklearn]"')
def a_data_set_without_scikit_learn():
    with without("sklearn.datasets"), without("sklearn"):
        fg.data.load("iris")  # <- here


@broken("extra", fg.MissingExtraError, 'pip install "flowgraph[special]"')
def a_gamma_function_without_scipy():
    with without("scipy.special"), without("scipy"):
        y = fg.special.gammaln(fg.placeholder("x", (3,)))  # <- here
        with fg.Session() as session:
            session.run(y, {y.node.inputs[0]: rows(3)})


# --- files


def folder() -> Path:
    """A new folder in the current one, which is a test's own."""
    return Path(tempfile.mkdtemp(dir="."))


def cut_short(file: Path) -> Path:
    """The file without its end."""
    file.write_bytes(file.read_bytes()[:-9])
    return file


@broken("file", fg.FileFormatError, "is damaged, truncated, or no safetensors file")
def weights_that_are_cut_short():
    fg.variable(rows(3), name="w")
    with fg.Session() as session:
        file = folder() / "w.safetensors"
        fg.io.save_weights(session, file)
        fg.io.load_weights(session, cut_short(file))  # <- here


@broken("file", fg.FileFormatError, "no graph file")
def a_graph_that_is_cut_short():
    fg.exp(fg.placeholder("x", (3,)))
    file = folder() / "net.graph"
    fg.io.save_graph(fg.get_default_graph(), file)
    return fg.io.load_graph(cut_short(file))  # <- here


@broken("file", fg.FlowgraphError, "w", "(3,)", "(4,)")
def weights_of_another_shape():
    file = folder() / "w.safetensors"
    fg.variable(rows(3), name="w")
    with fg.Session() as session:
        fg.io.save_weights(session, file)
    with fg.Graph() as other:
        fg.variable(rows(4), name="w")
    with fg.Session(other) as session:
        fg.io.load_weights(session, file)  # <- here


@broken("file", fg.ArgumentError, "a session is expected")
def weights_saved_from_a_graph():
    fg.io.save_weights(fg.get_default_graph(), folder() / "w.safetensors")  # <- here


@broken("file", fg.FlowgraphError, "write_log")
def a_graph_with_python_in_it():
    def write_log(a):
        return a

    x = fg.placeholder("x", (3,))
    y = fg.py_call(write_log, x, x)  # <- here
    return fg.io.save_graph(y.graph, folder() / "net.graph")


@broken("file", fg.FlowgraphError, "draws random numbers")
def an_export_that_draws_random_numbers():
    x = fg.placeholder("x", (3,))
    noisy = x + fg.random.normal((3,))  # <- here
    with fg.Session() as session:
        session.function([x], noisy).export(folder() / "noisy.py")


@broken("file", fg.ArgumentError, "the format is one of")
def a_drawing_of_an_unknown_format():
    graph = fg.get_default_graph()
    fg.draw(graph, folder() / "graph.xyz")  # <- here


# --- layers and optimisers


@broken("layer", fg.ShapeError, "the inner sizes differ, 784 and 748", "variable dense/w")
def a_layer_for_other_features():
    dense = fg.nn.Linear(748, 128, name="dense")
    x = fg.placeholder("x", ("batch", 784))
    return fg.nn.relu(dense(x))  # <- here


@broken("layer", fg.ShapeError, "the inner sizes differ")
def a_layer_in_the_middle_of_a_network():
    net = fg.nn.Sequential(
        fg.nn.Linear(8, 16),
        fg.nn.relu,
        fg.nn.Linear(15, 4),
    )
    return net(fg.placeholder("x", ("batch", 8)))  # <- here


@broken("layer", fg.ArgumentError, "is this call part of training or not?")
def a_batch_norm_that_is_not_told():
    norm = fg.nn.BatchNorm(3)
    return norm(images())  # <- here


@broken("layer", fg.DtypeError, "symbols are integers")
def an_embedding_of_floats():
    embedding = fg.nn.Embedding(100, 8)
    return embedding(fg.placeholder("words", ("batch", 12)))  # <- here


@broken("layer", fg.ArgumentError, "is a class and no layer")
def a_class_in_place_of_a_layer():
    return fg.nn.Sequential(fg.nn.Linear(3, 4), fg.nn.LayerNorm)  # <- here


@broken("layer", fg.ArgumentError, "groups do not divide 3 channels")
def a_number_of_groups_that_does_not_come_out():
    return fg.nn.GroupNorm(2, 3)  # <- here


@broken("layer", fg.ShapeError, "do not broadcast")
def a_layer_of_ones_own():
    class Residual(fg.nn.Layer):
        def __init__(self, features):
            super().__init__("residual")
            self.inner = fg.nn.Linear(features, features + 1)

        def apply(self, x):
            return x + self.inner(x)  # <- here

    return Residual(4)(fg.placeholder("x", ("batch", 4)))


@broken("layer", fg.ShapeError, "max_pool2d")
def a_pooling_of_a_flat_batch():
    return fg.nn.max_pool2d(fg.ones((8, 16)), 2)  # <- here


@broken("optimiser", fg.ArgumentError, "rate is a number, at least 0, got -0.1")
def a_negative_rate():
    return fg.optim.SGD(-0.1)  # <- here


@broken("optimiser", fg.ArgumentError, "only variables are updated")
def an_optimiser_given_a_placeholder():
    x = fg.placeholder("x", (3,))
    loss = fg.sum(fg.variable(rows(3), name="w") * x)
    return fg.optim.Adam(0.1).minimize(loss, [x])  # <- here


@broken("optimiser", fg.GradientError, "only a scalar has a gradient of its own")
def a_loss_for_each_example():
    w = fg.variable(rows(3), name="w")
    losses = fg.square(w)
    return fg.optim.Adam(0.1).minimize(losses)  # <- here


@broken("optimiser", fg.ArgumentError, "takes the number of steps made")
def a_schedule_without_an_argument():
    loss = fg.sum(fg.square(fg.variable(rows(3), name="w")))
    return fg.optim.SGD(lambda: 0.1).minimize(loss)  # <- here


@broken("optimiser", fg.ShapeError, "the gradient for w is (2,) float32, and w is (3,) float32")
def a_gradient_that_does_not_fit():
    w = fg.variable(rows(3), name="w")
    return fg.optim.SGD(0.1).apply([(fg.ones((2,)), w)])  # <- here


# --- data


@broken("data", fg.ShapeError, "differ in their first size")
def arrays_of_two_lengths():
    return fg.data.batches((rows(5, 2), rows(4)), 2)  # <- here


@broken("data", fg.DataError, "raised at", "KeyError", "batch 1 of epoch 0")
def a_transform_that_raises():
    def labelled(batch, rng):
        return {0.0: "first"}[float(batch[0])] if batch[0] else batch  # <- here

    for _ in fg.data.batches(np.arange(6, dtype=np.float64), 2, shuffle=False, transform=labelled):
        pass


@broken("data", fg.DataError, "reading example 3", "raised at")
def an_example_that_cannot_be_read():
    class Examples:
        def __len__(self):
            return 6

        def __getitem__(self, place):
            return np.ones(2) if place < 3 else np.ones(int("three"))  # <- here

    for _ in fg.data.batches(Examples(), 2, shuffle=False):
        pass


@broken("data", fg.ArgumentError, "there is no data set 'mnits'")
def a_data_set_with_a_typo():
    fg.data.load("mnits")  # <- here


@broken("data", fg.ArgumentError, "size is 0")
def batches_of_nothing():
    return fg.data.batches(rows(5), 0)  # <- here


# --- sessions


@broken("session", fg.SessionClosedError, "the session is closed")
def a_run_behind_the_end():
    x = fg.placeholder("x", (3,))
    with fg.Session() as session:
        y = x + 1
    session.run(y, {x: rows(3)})  # <- here


@broken("session", fg.SessionClosedError, "the session is closed")
def a_function_called_behind_the_end():
    x = fg.placeholder("x", (3,))
    with fg.Session() as session:
        f = session.function([x], x * 2)
        for _ in range(4):
            f(rows(3))
    f(rows(3))  # <- here


@broken("session", fg.RunTimeoutError, "took longer than 0.01 s")
def a_run_without_an_end():
    endless = fg.while_loop(lambda c: c >= 0.0, lambda c: c + 0.0, 1.0)
    with fg.Session() as session:
        session.run(endless, timeout=0.01)  # <- here


@broken("session", fg.RunCancelledError, "cancelled")
def a_run_that_is_cancelled():
    endless = fg.while_loop(lambda c: c >= 0.0, lambda c: c + 0.0, 1.0)
    with fg.Session() as session:
        future = session.run_async(endless)
        future.cancel()  # <- here
        future.result()


@broken("session", fg.ArgumentError, "threads is a whole number, at least 1, got 0")
def a_session_without_threads():
    with fg.Session(threads=0):  # <- here
        pass


@broken("session", fg.ArgumentError, "inputs are tensors, got 'x'")
def a_function_of_a_name():
    x = fg.placeholder("x", (3,))
    with fg.Session() as session:
        session.function(["x"], x * 2)  # <- here


@broken("session", fg.ArgumentError, "passes are some of")
def a_pass_that_is_not_there():
    fg.Session(passes=["unroll"])  # <- here


@broken("session", fg.ArgumentError, "timeout is a number of seconds")
def a_negative_timeout():
    with fg.Session() as session:
        session.run(fg.ones((3,)), timeout=-1)  # <- here


def main(names: list[str]) -> int:
    """Prints how many are right, and the others; or the errors of the programs named."""
    chosen = [program for program in PROGRAMS if program.name in names]
    for program in chosen:
        error = program.run()
        print(f"{type(error).__name__}: {error}\n")
    if names:
        return len(names) - len(chosen)
    faults = {program: found for program in PROGRAMS if (found := program.faults())}
    for program, found in faults.items():
        print(f"{program.name}, line {program.line}:", *found, "", sep="\n  ")
    right = Counter(program.kind for program in PROGRAMS if program not in faults)
    for kind, count in Counter(program.kind for program in PROGRAMS).items():
        print(f"{kind:<14} {right[kind]:>3} of {count:>3}")
    print(f"{'all':<14} {sum(right.values()):>3} of {len(PROGRAMS):>3}")
    return len(faults)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        sys.exit(main(sys.argv[1:]))
