"""What a user reads after a slip with a session: feeds, fetches, functions, variables; and with what a graph is made of."""

import numpy as np
import pytest

import flowgraph as fg

GRAPH = fg.Graph()
with GRAPH:
    x = fg.placeholder("x", ("batch", 3))
    i = fg.placeholder("i", (4,), "int32")
    w = fg.variable(np.ones((3, 2), np.float32), name="w")
    u = fg.variable(shape=(2,), name="u")
    y = x @ w
X = np.ones((5, 3), np.float32)
ANOTHER = fg.Graph()
with ANOTHER:
    foreign = fg.placeholder("foreign", ())


@pytest.fixture(scope="module")
def session():
    with fg.Session(GRAPH, threads=1) as session:
        yield session


@pytest.fixture
def closed():
    with fg.Session(GRAPH, threads=1) as session:
        function = session.function([x], y)
        for _ in range(4):
            function(X)
    return session, function


def test_a_missing_feed_is_named_with_the_line_of_the_run_and_of_the_placeholder(session, refused, text_of):
    error = refused(lambda: session.run(y))
    assert text_of(error) == (
        "placeholder x (batch, 3) float32 is not fed\n"
        "  at        test_errors_session.py:LINE    error = refused(lambda: session.run(y))\n"
        '  made at   test_errors_session.py:LINE    x = fg.placeholder("x", ("batch", 3))\n'
        "  help      add it to the feeds: session.run(fetches, {x: array})"
    )


def test_sizes_of_one_name_that_differ_are_shown_side_by_side(refused, text_of):
    with fg.Graph() as graph, fg.Session(graph) as session:
        a, b = fg.placeholder("a", ("n",)), fg.placeholder("b", ("n", 2))
        error = refused(lambda: session.run(fg.sum(a) + fg.sum(b), {a: [1, 2], b: np.ones((3, 2), np.float32)}))
    assert text_of(error) == (
        "the size 'n' is 2 in the feed of a and 3 in that of b\n"
        "  at   test_errors_session.py:LINE    "
        "error = refused(lambda: session.run(fg.sum(a) + fg.sum(b), {a: [1, 2], b: np.ones((3, 2), np.float32)}))\n"
        "  a    (n,), fed (2,)\n"
        "  b    (n, 2), fed (3, 2)"
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s: s.run(y, {x: X.T}), "FeedError: x is fed shape (3, 5), but it is (batch, 3)"),
        (lambda s: s.run(y, {x: X.astype("float64")}), "FeedError: x is fed float64, but it is float32"),
        (lambda s: s.run(y, {x: None}), "FeedError: x is fed NoneType, but it is float32"),
        (lambda s: s.run(y, {x: x}), "FeedError: x is fed a tensor, x"),
        (lambda s: s.run(y, {"x": X}), "FeedError: the key of a feed is a tensor, got the text 'x'"),
        (lambda s: s.run(y, X), "FeedError: feeds are a dict from tensors to values, got ndarray"),
        (lambda s: s.run(y, x), "FeedError: feeds are a dict from tensors to values, got Tensor"),
        (lambda s: s.run(y, {foreign: 1}), "FeedError: foreign belongs to another graph than the session's"),
        (lambda s: s.run(i, {i: [1.5, 2, 3, 4]}), "FeedError: i is fed float64, but it is int32"),
        (lambda s: s.run(foreign), "FetchError: foreign belongs to another graph than the session's"),
        (lambda s: s.run("matmul"), "FetchError: a fetch is a tensor, got the text 'matmul'"),
        (lambda s: s.run(u), "UninitializedError: variable u (2,) float32 is read but has no value"),
        (lambda s: s.run(y, {x: X}, timeout=-1), "ArgumentError: Session: timeout is a number of seconds, at least 0, got -1"),
        (lambda s: s.plan(y, {x: (5, 4)}), "FeedError: x is fed shape (5, 4), but it is (batch, 3)"),
        (lambda s: s.plan(y, x), "FeedError: feeds are a dict from tensors to values, got Tensor"),
        (lambda s: s.function(["x"], y), "ArgumentError: function: inputs are tensors, got 'x'"),
        (lambda s: s.function([x], y).plan(), "ArgumentError: function: it has not been called yet, and sizes are not known"),
        (lambda s: s.function([], y), "FeedError: placeholder x (batch, 3) float32 is not fed"),
        (lambda s: s.variables["v"], "UnknownNameError: no variable is called 'v'"),
        (lambda s: s.variables.update(w=3), "ShapeError: variable w has shape (3, 2), not ()"),
        (lambda s: s.variables.update({x: X}), "UnknownNameError: no variable is called 'x'"),
        (lambda s: s.variables.update(w="a"), "DtypeError: variable w: cannot compute with 'a'"),
        (lambda s: setattr(s, "random_state", 3), "ArgumentError: Session: random_state is a pair, the seed and the number of runs, got 3"),
        (lambda s: fg.Session(GRAPH, threads=0), "ArgumentError: Session: threads is a whole number, at least 1, got 0"),
        (lambda s: fg.Session(x), "ArgumentError: Session: the first argument is a graph, got <Tensor x: (batch, 3) float32>"),
    ],
)
def test_a_slip_with_a_session_is_told_in_one_line(make, said, session, refused):
    error = refused(make, session)
    assert f"{type(error).__name__}: {error.message}" == said


def test_a_closed_session_says_so_however_it_is_asked(closed, refused):
    session, function = closed
    for make in (lambda: session.run(w), lambda: session.run_async(w), lambda: function(X), lambda: session.function([x], y)(X)):
        error = refused(make)
        assert isinstance(error, fg.SessionClosedError)
        assert error.message == "the session is closed"
        assert error.help == "make a new one; weights can be saved before closing"


def test_a_function_counts_its_arguments(session):
    with pytest.raises(TypeError, match=r"this function takes 1 argument \(x\), got 2"):
        session.function([x], y)(X, X)


def test_an_unknown_name_is_a_key_error_as_well_and_lists_near_ones(session):
    with pytest.raises(KeyError, match=r"no node is called 'matmull'\n.*\n  help   near: matmul"):
        GRAPH["matmull"]
    assert "v" not in session.variables
    assert session.variables.get("v") is None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: GRAPH[3], "UnknownNameError: no node is called 3"),
        (lambda: GRAPH["x:4"], "UnknownNameError: no output is called 'x:4'"),
        (lambda: fg.placeholder((3,)), "ArgumentError: placeholder: a name is a non-empty text without ':', got (3,)"),
        (lambda: fg.placeholder("a", (-1, 3)), "ArgumentError: placeholder: a size cannot be negative, got (-1, 3)"),
        (lambda: fg.placeholder("a", "batch, 3"), "ArgumentError: placeholder: the name of a size is a word, got 'batch, 3'"),
        (lambda: fg.placeholder("a", (3,), None), "DtypeError: placeholder: None is not a dtype"),
        (lambda: fg.placeholder("a", (3,), str), "DtypeError: placeholder: tensors hold numbers or booleans, not <class 'str'>"),
        (lambda: fg.constant(300, "uint8"), "DtypeError: constant: 300 is no uint8"),
        (lambda: fg.constant([1.0, 1.5], "int32"), "DtypeError: constant: 1.5 is no int32"),
        (lambda: fg.full((2,), 1.5, "int32"), "DtypeError: full: 1.5 is no int32"),
        (lambda: fg.constant([x, x]), "DtypeError: constant: a list that holds tensors is no array"),
        (lambda: fg.variable(x), "ArgumentError: variable: its initial value is an array or an initializer, not a tensor"),
        (lambda: fg.variable(fg.init.he_normal), "ArgumentError: variable: he_normal is no initializer: the shape is missing"),
        (lambda: fg.variable(fg.init.uniform((2,), 1, 0)), "ArgumentError: uniform: low is above high, 1.0 > 0.0"),
        (lambda: fg.variable([1.0], shape=(2,)), "ShapeError: variable: the initial value has shape (1,), not (2,)"),
        (lambda: fg.assign(x, 3.0), "ArgumentError: assign: the first argument is a variable, got <Tensor x: (batch, 3) float32>"),
        (lambda: fg.assign(w, np.ones((2, 3))), "ShapeError: assign: a variable of shape (3, 2) cannot hold (2, 3)"),
        (lambda: fg.group(x), "ArgumentError: group: takes a list of updates, got <Tensor x: (batch, 3) float32>"),
        (lambda: fg.group([y, 3]), "ArgumentError: group: takes one update or more, got 3"),
        (lambda: fg.scope("").__enter__(), "ArgumentError: a scope's name is a non-empty text, got ''"),
        (lambda: fg.device(3).__enter__(), "ArgumentError: device: the name of a device is a text, got 3"),
        (
            lambda: fg.control_dependencies([3]).__enter__(),
            "GraphError: control_dependencies: takes nodes or tensors of the current graph, got 3",
        ),
    ],
)
def test_a_slip_in_what_a_graph_is_made_of_is_told_in_one_line(make, said, refused):
    with GRAPH:
        error = refused(make)
    assert f"{type(error).__name__}: {error.message}" == said


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("numpy", r"session.run\(tensor, feeds\) gives its value"),
        ("backward", r"fg.gradients\(loss, \[w, b\]\)"),
        ("view", r"x.reshape\(shape\)"),
        ("detach", r"fg.stop_gradient\(x\)"),
    ],
)
def test_what_tensors_of_other_frameworks_have_says_what_to_write_instead(name, instead):
    with pytest.raises(AttributeError, match=f"a tensor of flowgraph has no '{name}': {instead}"):
        getattr(x, name)
    with pytest.raises(AttributeError, match="'Tensor' object has no attribute 'colour'"):
        _ = x.colour
    assert not hasattr(x, name)


def test_a_tensor_in_a_format_says_that_it_has_no_value_yet(refused):
    error = refused(lambda: f"{y:.2f}")
    assert error.message == "matmul is a node of a graph, not a number: there is nothing to write as '.2f'"
    assert f"{y}" == "<Tensor matmul: (batch, 2) float32>"


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("relu", "it is fg.nn.relu"),
        ("Adam", "it is fg.optim.Adam"),
        ("transpose", "did you mean fg.permute_dims?"),
        ("Variable", "fg.variable?"),
    ],
)
def test_a_name_that_is_elsewhere_is_named(name, instead):
    with pytest.raises(AttributeError) as caught:
        getattr(fg, name)
    assert instead in str(caught.value)
    with pytest.raises(AttributeError, match=r"has no attribute '__wrapped__'$"):
        _ = fg.__wrapped__
