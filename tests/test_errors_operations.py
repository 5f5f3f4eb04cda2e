"""What a user reads after a slip in an operation: the name that he called, his line, what he gave it, and what to write instead."""

import pickle
import re
import threading

import numpy as np
import pytest

import flowgraph as fg

GRAPH = fg.Graph()
with GRAPH:
    m = fg.placeholder("m", (2, 3))
    v = fg.placeholder("v", (4,))
    i = fg.placeholder("i", (4,), "int32")
    x = fg.placeholder("x", ("batch", 3))


def test_an_axis_out_of_range_names_the_function_the_line_and_the_tensor(text_of, refused):
    with GRAPH:
        error = refused(lambda: fg.sum(m, axis=2))
    assert text_of(error) == (
        "sum: axis 2 is out of range for 2 dimensions\n"
        "  at   test_errors_operations.py:LINE    error = refused(lambda: fg.sum(m, axis=2))\n"
        '  x    (2, 3) float32   placeholder m, made at test_errors_operations.py:LINE    m = fg.placeholder("m", (2, 3))'
    )
    assert error.node is None


def test_an_operation_made_of_others_speaks_of_itself_and_of_what_it_was_given(text_of, refused):
    with GRAPH:
        error = refused(lambda: fg.vecdot(m, v))
    assert text_of(error) == (
        "vecdot: the inner sizes differ, 3 and 4\n"
        "  node   matmul, made at test_errors_operations.py:LINE    error = refused(lambda: fg.vecdot(m, v))\n"
        '  x      (2, 3) float32   placeholder m, made at test_errors_operations.py:LINE    m = fg.placeholder("m", (2, 3))\n'
        '  y      (4,) float32   placeholder v, made at test_errors_operations.py:LINE    v = fg.placeholder("v", (4,))\n'
        "  help   x @ y needs the last size of x to equal the first size of y"
    )


AXIS = "axis 5 is out of range for 2 dimensions"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        # axes
        (lambda: fg.permute_dims(m, (0, 5)), f"ShapeError: permute_dims: {AXIS}"),
        (lambda: m.transpose(5, 0), f"ShapeError: transpose: {AXIS}"),
        (lambda: fg.flip(m, 5), f"ShapeError: flip: {AXIS}"),
        (lambda: fg.concat([m, m], axis=5), f"ShapeError: concat: {AXIS}"),
        (lambda: fg.argmax(m, axis=5), f"ShapeError: argmax: {AXIS}"),
        (lambda: fg.count_nonzero(m, axis=5), f"ShapeError: count_nonzero: {AXIS}"),
        (lambda: np.mean(m, axis=5), f"ShapeError: mean: {AXIS}"),
        (lambda: fg.mean(m, axis="rows"), "ArgumentError: mean: axis must be an int, got 'rows'"),
        (lambda: fg.sum(m, axis=(0, 0)), "ShapeError: sum: axis (0, 0) names an axis twice"),
        (lambda: v.mT, "ShapeError: mT: axis -2 is out of range for 1 dimension"),
        # shapes
        (lambda: fg.reshape(m, (4, 2)), "ShapeError: reshape: (2, 3) has 6 elements, which do not fit (4, 2)"),
        (lambda: fg.reshape(x, ("batch", 4)), "ShapeError: reshape: (batch, 3) has batch * 3 elements, which do not fit (batch, 4)"),
        (lambda: fg.reshape(x, ("rows", 3)), "ShapeError: reshape: (rows, 3) has a size 'rows' that (batch, 3) has not"),
        (lambda: fg.reshape(m, 2.5), "ArgumentError: reshape: a size is an int, a name or None, got 2.5"),
        (lambda: fg.reshape(m, (None, 2)), "ArgumentError: reshape: a new size cannot be None, got (None, 2)"),
        (lambda: fg.permute_dims(m, 1), "ShapeError: permute_dims: (1,) does not name each of the 2 axes once"),
        (lambda: fg.stack([m, v]), "ShapeError: stack: the tensors have one shape, got (2, 3) and (4,)"),
        (lambda: fg.split(m, 2, axis=1), "ShapeError: split: axis 1 of size 3 does not split into 2 equal parts"),
        (lambda: fg.ones(2.5), "ArgumentError: ones: a size is an int, a name or None, got 2.5"),
        (lambda: fg.full_like(m, [1, 2]), "ShapeError: full_like: shapes (2,) and (2, 3) do not broadcast: 2 and 3 meet on axis -1"),
        (lambda: fg.segment_sum(m, i, 3), "ShapeError: segment_sum: segments of shape (4,) for a tensor of shape (2, 3)"),
        (lambda: fg.tensordot(m, m, 1), "ShapeError: tensordot: axis 1 of x has size 3, and axis 0 of y, its partner, 2"),
        (lambda: fg.top_k(m, 5), "ShapeError: top_k: there are 3 elements along the axis, fewer than 5"),
        # dtypes and kinds
        (lambda: fg.take(m, v), "DtypeError: take: an index holds integers, got float32"),
        (lambda: fg.segment_sum(v, v, 3), "DtypeError: segment_sum: segments are integers, got float32"),
        (lambda: fg.full((2,), "a"), "DtypeError: full: cannot compute with 'a'"),
        (lambda: fg.kron(m, "a"), "DtypeError: kron: cannot compute with 'a'"),
        (lambda: m @ "a", "DtypeError: matmul: cannot compute with 'a'"),
        (lambda: fg.mean(m, dtype="flot32"), "DtypeError: mean: 'flot32' is not a dtype"),
        # numbers
        (lambda: fg.eye(-1), "ArgumentError: eye: n is a whole number, at least 0, got -1"),
        (lambda: fg.triu(m, 1.5), "ArgumentError: triu: k is a whole number, got 1.5"),
        (lambda: fg.bincount(i, minlength=-1), "ArgumentError: bincount: minlength is a whole number, at least 0, got -1"),
        (lambda: fg.arange(0, 10, 0), "ArgumentError: arange: start, stop and a step other than 0 are numbers, got 0, 10, 0"),
        (lambda: fg.arange("a"), "DtypeError: arange: cannot compute with 'a'"),
        (lambda: fg.roll(m, 1.5, axis=0), "ArgumentError: roll: an int for each of the axes (0,) is expected, got 1.5"),
        (lambda: fg.var(m, correction="a"), "ArgumentError: var: correction is a number, got 'a'"),
        (lambda: fg.quantile(m, "half"), "ArgumentError: quantile: q is a number or a list of numbers in [0, 1], got 'half'"),
        # indices
        (lambda: m[2], "ShapeError: getitem: index 2 is out of range for axis 0 of size 2"),
        (lambda: m[:, ::0], "ArgumentError: getitem: the step of a slice cannot be 0"),
        (lambda: m[i > 0], "ShapeError: getitem: the mask has size 4 where axis 0 of the tensor has size 2"),
        (lambda: v.at[9].set(1.0), "ShapeError: set: index 9 is out of range for axis 0 of size 4"),
        # subscripts
        (lambda: fg.einsum("ij,jk->ik", m, m), "ShapeError: einsum: j in 'ij,jk->ik' stands for 3 and for 2"),
        (lambda: fg.einsum(m, "ij->ji"), "ArgumentError: einsum: the subscripts come first"),
    ],
)
def test_a_slip_is_told_in_one_line_with_the_name_that_was_called(make, said, refused):
    with GRAPH:
        error = refused(make)
    assert f"{type(error).__name__}: {error.message}" == said


def test_a_size_that_only_the_feed_reveals_is_refused_before_anything_runs(text_of, refused):
    with fg.Graph() as graph, fg.Session(graph) as session:
        rows = fg.placeholder("rows", ("batch", 3))
        pairs = fg.reshape(rows, (-1, 4))
        error = refused(lambda: session.run(pairs, {rows: np.ones((5, 3), np.float32)}))
    assert text_of(error) == (
        "reshape: (5, 3) has 15 elements, which do not fit (-1, 4)\n"
        "  node   reshape, made at test_errors_operations.py:LINE    pairs = fg.reshape(rows, (-1, 4))\n"
        '  x      (5, 3) float32   placeholder rows, made at test_errors_operations.py:LINE    rows = fg.placeholder("rows", ("batch", 3))'
    )
    assert error.node is pairs.node


def test_an_index_out_of_range_in_a_run_names_the_node_and_what_met_there(text_of):
    with fg.Graph() as graph, fg.Session(graph) as session:
        values, places = fg.placeholder("values", (3,)), fg.placeholder("places", (2,), "int32")
        picked = values[places]
        with pytest.raises(fg.ExecutionError) as caught:
            session.run(picked, {values: np.ones(3, np.float32), places: [0, 7]})
    assert text_of(caught.value).splitlines()[:3] == [
        "gather: index 7 is out of bounds for axis 0 with size 3 (IndexError)",
        "  node         gather, made at test_errors_operations.py:LINE    picked = values[places]",
        "  device       cpu:0",
    ]
    assert isinstance(caught.value.__cause__, IndexError)


def test_an_error_made_on_a_thread_without_code_of_the_users_names_no_line():
    made = []
    thread = threading.Thread(target=lambda: made.append(fg.ShapeError("x")))
    thread.start()
    thread.join()
    assert str(made[0]).startswith("x\n  at   test_errors_operations.py:")
    kept: list[fg.FlowgraphError] = []
    thread = threading.Thread(target=_trying, args=(fg.zeros, (-1,), kept.append))
    thread.start()
    thread.join()
    assert re.match("zeros: a size cannot be negative, got -1\n  at +test_errors_operations.py", str(kept[0]))


def _trying(function, argument, tell):
    try:
        function(argument)
    except fg.FlowgraphError as error:
        tell(error)


def test_inputs_may_be_given_by_their_names_in_any_order():
    with fg.Graph() as graph, fg.Session(graph) as session:
        a = fg.constant([1.0, 2.0])
        made = [fg.exp(x=a), fg.subtract(a, y=1.0), fg.subtract(y=a, x=3.0), fg.where(y=a, condition=a > 1, x=-a), fg.nn.relu(x=a)]
        got = session.run(made)
    for have, want in zip(got, [np.exp([1, 2]), [0, 1], [2, 1], [1, -2], [1, 2]], strict=True):
        np.testing.assert_array_equal(have, want)


def test_an_input_given_twice_or_left_out_is_refused(refused):
    with GRAPH:
        assert refused(lambda: fg.add(m, x=m)).message == "add: multiple values for argument 'x'"
        assert refused(lambda: fg.add(y=m)).message == "add: missing a required argument: 'x'"


def test_of_many_inputs_the_first_few_are_shown(refused):
    with GRAPH:
        error = refused(lambda: fg.concat([m] * 20, axis=5))
    assert [label for label, _ in error.rows] == ["at", *(f"tensors[{k}]" for k in range(8)), "..."]
    assert error.rows[-1] == ("...", "and 12 more")


def test_an_error_reads_the_same_behind_a_process(refused):
    with GRAPH:
        error = refused(lambda: fg.vecdot(m, v))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.args) == (fg.ShapeError, str(error), (error.message,))
    assert copy.node is None


def test_a_line_within_numpy_is_none_of_the_users(refused):
    with GRAPH:
        error = refused(lambda: np.vectorize(abs)(m))
    assert error.message == "m is a node of a graph, not an array"
