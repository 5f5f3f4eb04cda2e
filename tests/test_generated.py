"""Generated programs: the same bits as the interpreter, the same errors, and a text worth reading."""

import gc
import linecache
import re
import traceback
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowgraph as fg
from flowgraph.runtime import program as programs


@pytest.fixture
def toy():
    with fg.Graph() as graph:
        x, y, z = (fg.placeholder(name, (), "float32") for name in "xyz")
        f = (x + y) * z
        slopes = fg.gradients(f, [x, y, z])
    with fg.Session(graph, threads=1) as session:
        yield session.function([x, y, z], [f, *slopes])


def test_a_direct_call_gives_numpy_scalars_whatever_the_numbers_are_given_as(toy):
    for arguments in [(-2, 5, -4), (-2.0, 5.0, -4.0), [np.float32(v) for v in (-2, 5, -4)], [np.array(v, "f4") for v in (-2, 5, -4)]]:
        for _ in range(3):
            result = toy(*arguments)
            assert [float(v) for v in result] == [-12, -4, -4, 3]
            assert {type(v) for v in result} == {np.float32}


def test_a_direct_call_refuses_what_a_run_refuses(toy):
    for _ in range(3):
        toy(1, 2, 3)
    with pytest.raises(fg.FeedError, match="x is fed float64"):
        toy(np.float64(1), 2, 3)
    with pytest.raises(TypeError, match="takes 3 arguments"):
        toy(1, 2)
    toy.session.close()
    with pytest.raises(fg.SessionClosedError):
        toy(1, 2, 3)


def test_an_error_of_a_direct_call_tells_the_line_that_called(toy):
    told = set()
    for _ in range(4):  # by a run first, and then by the generated program
        with pytest.raises(fg.FeedError) as caught:
            toy(np.float64(1), 2, 3)
        told.add(str(caught.value))
        toy(1, 2, 3)
    assert len(told) == 1
    assert "toy(np.float64(1), 2, 3)" in told.pop()


def test_a_program_without_a_name_gets_the_same_errors():
    with fg.Graph() as graph, pytest.raises(fg.ShapeError, match="matmul: the inner sizes differ, 2 and 3"):
        exec("fg.matmul(np.ones((2, 2)), np.ones((3, 3)))", {"fg": fg, "np": np, "graph": graph})


def test_infinities_raise_no_warning_and_leave_the_callers_settings(toy):
    before = np.geterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            assert np.isinf(toy(3e38, 3e38, 1)[0])
    assert np.geterr() == before


def test_each_shape_has_a_program_of_its_own():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None,), "float64")
        y = fg.sum(x * 2)
    with fg.Session(graph, threads=1) as session:
        double = session.function([x], y)
        for size in (3, 3, 3, 5, 5, 3, 5, 0):
            assert double(np.ones(size)) == 2 * size


def test_what_a_direct_call_returns_belongs_to_the_caller():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,), "float64")
        fetches = [x, x[::-1], x + 0.0, fg.constant(np.ones(3))]
    with fg.Session(graph, threads=1) as session:
        call = session.function([x], fetches)
        given_array = np.arange(3.0)
        for _ in range(3):
            for result in call(given_array):
                result[...] = 7
            np.testing.assert_array_equal(given_array, np.arange(3.0))


def test_an_error_in_a_generated_program_names_the_node_and_the_line():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2, 3), "float32")
        labels = fg.placeholder("labels", (2,), "int64")
        loss = fg.mean(fg.nn.softmax_cross_entropy(x * 2, labels))
    with fg.Session(graph, threads=1) as session:
        call = session.function([x, labels], loss)
        rows = np.zeros((2, 3), "f4")
        for _ in range(3):
            call(rows, np.array([0, 1]))
        with pytest.raises(fg.ExecutionError) as caught:
            call(rows, np.array([0, 9]))
        assert "a label is outside 0 ... 2" in str(caught.value)
        assert "loss = fg.mean(fg.nn.softmax_cross_entropy(x * 2, labels))" in str(caught.value)
        assert "(2,) int64" in str(caught.value)
        assert "class_labels(" in "".join(traceback.format_exception(caught.value.__cause__))
        assert call(rows, np.array([0, 1])) == pytest.approx(np.log(3))


def test_the_source_shows_the_kernels_and_the_users_lines(toy):
    text = toy.source()
    assert re.search(r"s3 = s0 \+ s1  # add \(\) float32    test_generated.py:\d+    f = \(x \+ y\) \* z$", text, re.MULTILINE)
    assert re.match(r"# s0  x \(\) float32, fed    test_generated.py:\d+    x, y, z = ", text)
    assert re.search(r"^# s4  multiply, a result    test_generated.py:\d+    f = \(x \+ y\) \* z$", text, re.MULTILINE)
    compile(text, "toy", "exec")


def test_a_small_kernel_writes_over_an_input_that_dies_in_it_and_over_nothing_else():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,), "float64")
        fetched = x * x
        y = (fetched + x) * x
        viewed = fg.exp(x)
        z = viewed[::-1] - (viewed + x)
    with fg.Session(graph, threads=1, jit=False) as session:
        call = session.function([x], [fetched, y, z])
        value = np.array([1.0, 2.0, -3.0])
        for _ in range(3):
            results = call(value)
            for have, want in zip(
                results, [value**2, (value**2 + value) * value, np.exp(value)[::-1] - (np.exp(value) + value)], strict=True
            ):
                np.testing.assert_array_equal(have, want)
        np.testing.assert_array_equal(value, [1, 2, -3])
    calls = [line.partition("#")[0].strip() for line in call.source().splitlines()]
    assert [line for line in calls if line.startswith("s") and line[1].isdigit()] == [
        "s0 = a0",
        "s1 = s0 * s0",  # it is fetched
        "s2 = s1 + s0",
        "s3 = multiply(s2, s0, s2)",
        "s4 = exp(s0)",
        "s5 = getitem(s4)",  # a view of s4
        "s6 = s4 + s0",
        "s7 = subtract(s5, s6, s6)",
    ]


@pytest.mark.frees_at_once
def test_the_text_of_a_program_goes_with_it():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float64")
        y = fg.exp(x)
    with fg.Session(graph, threads=1) as session:
        call = session.function([x], y)
        for _ in range(3):
            call(1.0)
    del call, session
    gc.collect()
    kept = [name for name in linecache.cache if name.startswith("<flowgraph plan")]
    with fg.Session(graph, threads=1) as session:
        call = session.function([x], y)
        for _ in range(3):
            call(1.0)
        assert len([name for name in linecache.cache if name.startswith("<flowgraph plan")]) > len(kept)
    del call, session
    gc.collect()
    assert [name for name in linecache.cache if name.startswith("<flowgraph plan")] == kept


OPERATIONS = [fg.add, fg.multiply, fg.maximum, fg.subtract, lambda a, b: fg.tanh(a), lambda a, b: fg.sum(a, axis=0, keepdims=True) + b]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=25), st.sampled_from([1, 3, 5000])
)
@settings(max_examples=40, deadline=None)
def test_the_interpreter_and_generated_programs_give_the_same_bits(program, rows):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (rows, 3), "float32")
        tensors = [x]
        for operation, i, j in program:
            tensors.append(OPERATIONS[operation](tensors[i % len(tensors)], tensors[j % len(tensors)]))
        fetches = tensors[-3:]
    value = np.random.default_rng(0).standard_normal((rows, 3)).astype("f4")
    with fg.Session(graph, threads=2) as session:
        call = session.function([x], fetches)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(programs, "GENERATED_AFTER", 10**9)
            interpreted = call(value)
        runs = [call(value) for _ in range(3)]
        for run in runs:
            for have, want in zip(run, interpreted, strict=True):
                np.testing.assert_array_equal(have, want)


def test_a_product_of_matrices_is_called_without_a_function_of_python_around_it():
    with fg.Graph():
        x = fg.placeholder("x", (4, 3), "float32")
        w = fg.placeholder("w", (3, 2), "float32")
        stack = fg.placeholder("stack", (5, 4, 3), "float32")
        products = [x @ w, stack @ w]
    with fg.Session(x.graph, threads=1) as session:
        plan = session.plan(products, {x: (4, 3), w: (3, 2), stack: (5, 4, 3)})
    assert [unit.kernel is np.matmul for unit in plan.units] == [True, False]


def test_generated_programs_lay_arrays_out_as_the_interpreter_does():
    r = np.random.default_rng(0)
    a, b = r.standard_normal((40, 40), np.float32), r.standard_normal((40, 40), np.float32)
    with fg.Graph() as graph:
        x, y = fg.placeholder("x", (40, 40)), fg.placeholder("y", (40, 40))
        # The exponentials lie in memory column by column. Written over them, the sum with y would too, and be added up in another order.
        columns = fg.sum(fg.exp(fg.matrix_transpose(x)) + y)
        rows = fg.sum(fg.exp(x @ y) + y)
    with fg.Session(graph, threads=1, jit=False) as session:
        step = session.function([x, y], [columns, rows])
        assert len({tuple(value.tobytes() for value in step(a, b)) for _ in range(4)}) == 1
        assert "s4 = s3 + s1 " in step.source() and "s8 = add(s7, s1, s7) " in step.source()
