"""What a user reads after a mistake. The texts are part of the product."""

import linecache
import os
import pickle
import subprocess
import sys
import traceback
import types
import zipfile

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.runtime import Program


@pytest.fixture
def small():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 3), "float32")
        w = fg.variable(np.ones((3, 2), np.float32), name="w")
        with fg.scope("layer1"):
            y = x @ w
    with fg.Session(graph) as session:
        yield graph, session, x, w, y


def test_a_shape_that_does_not_fit_is_named_while_building_with_the_line(small):
    graph, _, x, _, _ = small
    with pytest.raises(fg.ShapeError) as caught, graph, fg.scope("mlp"):
        x @ np.ones((4, 2), np.float32)
    text = str(caught.value)
    assert text.splitlines()[0] == "matmul: the inner sizes differ, 3 and 4"
    assert "mlp/matmul, made at test_errors.py:" in text
    assert "x @ np.ones((4, 2), np.float32)" in text
    assert "x      (batch, 3) float32   placeholder x, made at test_errors.py" in text
    assert "help   x @ y needs the last size of x to equal the first size of y" in text


def test_shapes_that_only_the_feeds_reveal_are_named_before_anything_runs():
    with fg.Graph() as graph:
        a, b = fg.placeholder("a", (None,)), fg.placeholder("b", (None,))
        total = a + b
    with fg.Session(graph) as session, pytest.raises(fg.ShapeError, match=r"add: shapes \(2,\) and \(3,\) do not broadcast"):
        session.run(total, {a: np.ones(2, np.float32), b: np.ones(3, np.float32)})


def test_a_missing_feed_is_named(small):
    _, session, _, _, y = small
    with pytest.raises(fg.FeedError, match=r"placeholder x \(batch, 3\) float32 is not fed"):
        session.run(y)


def test_a_feed_of_another_shape_or_dtype_is_named(small):
    _, session, x, _, y = small
    with pytest.raises(fg.FeedError, match=r"x is fed shape \(2, 4\), but it is \(batch, 3\)"):
        session.run(y, {x: np.ones((2, 4), np.float32)})
    with pytest.raises(fg.FeedError, match=r"x is fed float64, but it is float32"):
        session.run(y, {x: np.ones((2, 3))})
    with pytest.raises(fg.FeedError, match="cannot be made an array"):
        session.run(y, {x: [[1, 2, 3], [4]]})


def test_the_keys_of_feeds_are_tensors(small):
    graph, session, x, _, y = small
    with pytest.raises(fg.FeedError, match="got the text 'x'"):
        session.run(y, {"x": np.ones((1, 3), np.float32)})
    with fg.Graph():
        other = fg.placeholder("other", ())
    with pytest.raises(fg.FeedError, match="belongs to another graph"):
        session.run(y, {other: 1})
    assert graph["x"] is x


def test_what_is_no_tensor_cannot_be_fetched(small):
    _, session, _, _, y = small
    with pytest.raises(fg.FetchError, match="got float"):
        session.run([y, 1.0])
    with pytest.raises(fg.FetchError, match="got the text 'layer1/matmul'"):
        session.run("layer1/matmul")


def test_tensors_of_two_graphs_do_not_mix(small):
    _, _, x, _, _ = small
    with fg.Graph(), pytest.raises(fg.GraphError, match="its inputs belong to two graphs"):
        fg.placeholder("z", (3,)) + x


def test_equal_names_of_sizes_stand_for_equal_sizes():
    with fg.Graph() as graph:
        a, b = fg.placeholder("a", ("batch",)), fg.placeholder("b", ("batch",))
        total = a + b
    with fg.Session(graph) as session, pytest.raises(fg.FeedError, match="the size 'batch' is 2 in the feed of a and 3 in that of b"):
        session.run(total, {a: np.ones(2, np.float32), b: np.ones(3, np.float32)})


def test_an_unknown_name_lists_near_ones(small):
    with pytest.raises(fg.GraphError, match=r"no node is called 'layer1/matmull'\n  at     .*\n  help   near: layer1/matmul"):
        small[0]["layer1/matmull"]


def test_an_unknown_variable_lists_near_ones():
    with fg.Graph() as graph, fg.Session(graph) as session:
        w = fg.variable(fg.init.zeros((2,)), name="layer1/w")
        with pytest.raises(fg.UnknownNameError, match=r"no variable is called 'layer1/v'\n.*\n  help   near: layer1/w"):
            session.variables["layer1/v"]
        with pytest.raises(KeyError, match="no variable is called 'negative'"):
            session.variables[-w] = 1.0
        assert "layer1/v" not in session.variables
        assert "layer1/w" in session.variables and w in session.variables
        assert session.variables.get("layer1/v") is None


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: fg.variable(fg.init.zeros), fg.ArgumentError, "zeros is no initializer: the shape is missing"),
        (lambda: fg.variable(fg.init.zeros((2,)), dtype="float64"), fg.DtypeError, "the initializer makes float32, not float64"),
        (lambda: fg.variable(fg.init.zeros((2,)), shape=(3,)), fg.ShapeError, r"the initial value has shape \(2,\), not \(3,\)"),
    ],
)
def test_an_initializer_that_does_not_fit_its_variable_is_refused(make, error, text):
    with fg.Graph(), pytest.raises(error, match=f"variable: {text}"):
        make()


def test_a_tensor_has_no_truth_value_and_is_no_array(small):
    _, _, x, _, y = small
    with pytest.raises(fg.GraphError, match="has no truth value"):
        bool(y > 0)
    with pytest.raises(fg.GraphError, match="not an array"):
        np.asarray(x)


def test_a_variable_without_a_value_says_how_to_give_it_one():
    with fg.Graph() as graph:
        w = fg.variable(shape=(2,), name="w")
    with fg.Session(graph) as session:
        with pytest.raises(fg.UninitializedError, match=r"variable w \(2,\) float32 is read but has no value"):
            session.run(w)
        session.variables["w"] = np.ones(2, np.float32)
        np.testing.assert_array_equal(session.run(w), [1, 1])


def test_a_gradient_of_many_numbers_needs_grad_ys(small):
    _, _, x, _, y = small
    with pytest.raises(fg.GradientError, match=r"layer1/matmul has shape \(batch, 2\), and only a scalar"):
        fg.gradients(y, x)


def test_a_path_without_gradient_names_the_operation_where_it_stops(small):
    graph, _, x, w, y = small
    with graph:
        loss = fg.mean(fg.astype(fg.argmax(y, axis=1), "float32"))
    with pytest.raises(fg.GradientError, match=r"the path from mean to w stops at argmax") as caught:
        fg.gradients(loss, w, unconnected="error")
    assert "argmax" in str(caught.value)
    assert "test_errors.py" in str(caught.value)
    assert fg.gradients(loss, w, unconnected="none") == [None]
    with pytest.raises(fg.GradientError, match="does not depend on"):
        fg.gradients(fg.mean(x), w, unconnected="error")


def test_two_writes_of_one_variable_in_a_run_are_an_error_with_both_lines(small):
    graph, session, _, w, _ = small
    with graph:
        one, two = fg.assign(w, w + 1), fg.assign(w, w + 2)
    with pytest.raises(fg.GraphError, match="w is written twice in one run"):
        session.run([one, two])


def test_a_read_that_no_edge_orders_with_the_write_is_reported_with_both_lines():
    with fg.Graph() as graph:
        w = fg.variable(1.0, name="w")
        update = fg.assign(w, 2.0)
        reading = w * 3
    with fg.Session(graph) as session:
        with pytest.warns(fg.VariableOrderWarning, match="w is read by multiply and written in the same run"):
            assert session.run([reading, update]) == [3.0, None]
        assert session.run(reading) == 6.0


def test_reads_and_writes_of_the_same_two_lines_are_reported_together():
    with fg.Graph() as graph:
        w, b = fg.variable(np.ones(2), name="w"), fg.variable(1.0, name="b")
        train = fg.optim.SGD(0.1).minimize(fg.sum(w * b))
        reading = fg.exp(w) + fg.sin(w) + fg.exp(b)
    with fg.Session(graph) as session:
        with pytest.warns(fg.VariableOrderWarning) as caught:
            session.run([reading, train])
        session.run([train, reading])  # warnings are errors: it is not said again
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith("w and b are read by exp, sin and 1 more and written in the same run")
    assert "reading = fg.exp(w)" in text
    assert "train = fg.optim.SGD" in text


def test_building_in_a_loop_warns_once_with_the_line():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ())

    def loop(session):
        for _ in range(30):
            y = x + 1
            session.run(y, {x: 1.0})

    with fg.Session(graph) as session, pytest.warns(fg.GraphGrowthWarning, match=r"grows by \d nodes with every run") as caught:
        loop(session)
    assert len(caught) == 1


def test_a_missing_library_names_the_pip_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(fg.MissingExtraError, match=r'pip install "flowgraph\[plot\]"'):
        fg.viz.filters(np.ones((1, 1, 2, 2)), tmp_path / "x.png")


def test_numpy_functions_build_nodes_and_unknown_ones_say_so(small):
    _, session, x, _, y = small
    z = np.tanh(y) + np.sum(y, axis=0)
    np.testing.assert_allclose(session.run(z, {x: [[0, 0, 1]]}), [[np.tanh(1) + 1] * 2], rtol=1e-6)
    with pytest.raises(fg.GraphError, match=r"np\.unwrap has no node"):
        np.unwrap(y)


def test_the_command_line_runs_draws_and_tells_versions(tmp_path):
    file = tmp_path / "toy.py"
    file.write_text("import flowgraph as fg\nwith fg.Graph() as graph:\n    y = fg.exp(fg.placeholder('x', ()))\nprint('built')\n")

    def flowgraph(*arguments):
        command = [sys.executable, "-c", "import sys; from flowgraph.cli import main; sys.exit(main())", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)

    assert "built" in flowgraph("run", "toy.py").stdout
    assert flowgraph("draw", "toy.py", "-o", "toy.dot").returncode == 0
    assert "exp" in (tmp_path / "toy.dot").read_text()
    told = flowgraph("info").stdout
    assert "numpy" in told
    assert "cpu:0" in told
    (tmp_path / "empty.py").write_text("x = 1\n")
    wrong = flowgraph("draw", "empty.py")
    assert wrong.returncode == 1
    assert "has no graph among its names" in wrong.stderr
    command = [sys.executable, "-m", "flowgraph", "draw", "empty.py"]
    module = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert (module.returncode, module.stderr) == (1, wrong.stderr)


def test_carets_stand_below_the_expression_that_failed_whatever_its_letters_are():
    with fg.Graph():
        größe, 日本 = fg.placeholder("a", (2, 3)), fg.placeholder("b", (4, 5))
        with pytest.raises(fg.ShapeError) as caught:
            _ = "日本", größe + 1, 日本 @ größe
    line, marks = str(caught.value).splitlines()[1:3]
    before = line[: line.index("日本 @")]
    assert marks == " " * (len(before) + before.count("日") + before.count("本")) + "^" * (len("日本 @ größe") + 2)


def test_no_carets_stand_below_an_expression_that_is_all_of_its_line():
    with fg.Graph():
        a, b = fg.placeholder("a", (2, 3)), fg.placeholder("b", (4, 5))
        with pytest.raises(fg.ShapeError) as caught:
            a @ b
    assert "^" not in str(caught.value)
    assert caught.value.location.text == caught.value.location.expression == "a @ b"


def test_an_error_shows_what_the_tensors_that_met_were_made_of(small):
    graph, _, x, _, _ = small
    with graph, pytest.raises(fg.ShapeError) as caught:
        h = fg.exp(x) * fg.exp(x * 2)
        h @ fg.ones((2, 2))
    text = str(caught.value)
    tree = [line[9:25].rstrip() for line in text[text.index("  from") :].splitlines()]
    assert tree[:6] == ["multiply_1", "├─ exp", "│  └─ x", "└─ exp_1", "   └─ multiply", "      └─ x"]
    assert "fg.exp(x * 2)" in text


def test_a_tree_of_a_large_graph_stays_small():
    with fg.Graph():
        rows = [fg.placeholder(f"x{i}", (2,)) + 1 for i in range(30)]
        for _ in range(100):
            rows = [rows[i] + rows[i - 1] for i in range(30)]
        with pytest.raises(fg.ShapeError) as caught:
            fg.stack(rows) @ fg.ones((3,))
    assert len(str(caught.value).splitlines()) < 25
    assert "…" in str(caught.value)


def test_an_error_of_a_gradient_names_the_expression_that_is_differentiated():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2,), "float64")

        def halved(g, y, x):
            return fg.py_call(lambda a: a[5], g, g)

        y = fg.custom_op(lambda a: a * 2, infer=lambda a: a, gradient=halved)(x)
        (dx,) = fg.gradients(fg.sum(fg.exp(y)), x)
    with fg.Session(graph) as session, pytest.raises(fg.ExecutionError) as caught:
        session.run(dx, {x: [1.0, 2.0]})
    text = str(caught.value)
    assert "while       differentiating custom_op, made at test_errors.py" in text
    assert "raised at   test_errors.py" in text
    assert caught.value.location.text == "return fg.py_call(lambda a: a[5], g, g)"


def test_an_error_that_has_travelled_between_processes_keeps_its_text_and_line(small):
    graph, _, x, _, _ = small
    with graph, pytest.raises(fg.ShapeError) as caught:
        fg.exp(x) @ fg.ones((2, 2))
    there = pickle.loads(pickle.dumps(caught.value))
    assert str(there) == str(caught.value)
    assert there.location == caught.value.location


@pytest.mark.parametrize("flags", [[], ["-X", "no_debug_ranges"]])
def test_code_without_a_file_or_without_columns_still_has_its_line(tmp_path, flags):
    program = "import flowgraph as fg\nx = fg.placeholder('x', (2, 3))\n\ny = 1 + fg.exp(x) @ x\n"
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("packed.py", program)

    def said(*arguments, **options):
        command = [sys.executable, *flags, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False, **options).stderr

    assert "matmul, made at <string>:4" in said("-c", program)
    assert "matmul, made at <stdin>" in said("-i", input=program.replace("\n\n", "\n"))
    packed = said("-c", "import sys; sys.path.insert(0, 'packed.zip'); import packed")
    assert "matmul, made at packed.py:4    y = 1 + fg.exp(x) @ x\n" in packed
    marks = " " * len("  node   matmul, made at packed.py:4    y = 1 + ") + "^" * len("fg.exp(x) @ x")
    assert (marks in packed) == (not flags)


def test_a_cell_of_a_notebook_goes_by_its_number_and_shows_its_line(monkeypatch):
    cell = "import flowgraph as fg\nx = fg.placeholder('x', (2, 3))\ny = x @ x\n"
    file = "/tmp/ipykernel_7/1234.py"
    shell = types.SimpleNamespace(compile=types.SimpleNamespace(format_code_name=lambda name: ("Cell", "In[3]") if name == file else None))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(linecache.cache, file, (len(cell), None, cell.splitlines(keepends=True), file))
    with fg.Graph(), pytest.raises(fg.ShapeError) as caught:
        exec(compile(cell, file, "exec"), {})
    assert "matmul, made at Cell In[3]:3    y = x @ x\n" in str(caught.value)


def test_an_error_is_drawn_with_the_node_that_failed_marked_and_what_it_was_made_of(small):
    graph, session, x, _, y = small
    with graph, pytest.raises(fg.ShapeError) as caught, fg.scope("head"):
        fg.exp(y) @ fg.ones((3, 3))
    text = str(caught.value.draw(format="dot"))
    assert "matmul" in text and "the inner sizes differ, 2 and 3" in text and "exp" in text
    assert len(graph) == len([node for node in graph if node.name in graph])  # nothing was added
    assert "<svg" in (caught.value._repr_svg_() or "")
    with graph:
        broken = fg.py_call(lambda a: 1 // 0, x, fg.exp(x))
    with pytest.raises(fg.ExecutionError) as failed:
        session.run(broken + 1, {x: np.ones((2, 3), np.float32)})
    assert "py_call" in str(failed.value.draw(format="dot"))
    with pytest.raises(fg.FeedError) as missing:
        session.run(y)
    assert missing.value._repr_svg_() is None
    with pytest.raises(fg.ArgumentError, match="the FeedError is about no node"):
        missing.value.draw()


def test_a_notebook_shows_the_picture_of_an_error_and_its_own_traceback(small, monkeypatch):
    graph, _, _, _, y = small
    shown: list[object] = []
    traceback = types.SimpleNamespace(structured_traceback=lambda kind, error, trace: [kind.__name__, str(error)])
    shell = types.SimpleNamespace(InteractiveTB=traceback, kernel=True, compile=types.SimpleNamespace(format_code_name=lambda name: None))
    display = types.SimpleNamespace(display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell, display=display))
    with graph, pytest.raises(fg.ShapeError) as caught:
        fg.exp(y) @ fg.ones((3, 3))
    for _ in range(2):  # IPython asks again, for its history
        assert caught.value._render_traceback_()[0] == "ShapeError"
    assert len(shown) == 1
    assert "<svg" in str(shown[0])


def test_an_error_of_a_compiled_loop_names_its_members():
    pytest.importorskip("llvmlite")
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("n", 100), "float64")
        y = fg.tanh(fg.exp(x) * 2) + 1
    with fg.Session(graph, threads=1) as session:
        plan = session.plan(y, {x: (1000, 100)})
        (unit,) = plan.units

        def failing(*arrays, **out):
            raise MemoryError("no room")

        unit.kernel = failing
        program = Program(plan, session._buffers)
        with pytest.raises(fg.ExecutionError) as caught:
            session._runs.perform(program, [np.zeros((1000, 100))], None)
    error = caught.value
    assert error.node is y.node
    assert error.message.endswith("no room (MemoryError)")
    loop = dict(error.rows)["loop of"]
    assert [line.split(",")[0] for line in loop.splitlines()] == ["exp", "multiply", "tanh", "add"]
    assert "y = fg.tanh(fg.exp(x) * 2) + 1" in loop


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("way", ["run", "function", "direct", "async"])
def test_the_traceback_of_a_run_shows_the_frames_of_the_user_alone(way, full, monkeypatch):
    monkeypatch.setenv("FLOWGRAPH_TRACEBACK", "full" if full else "")

    def inner(a):
        return 1 // int(a[0])

    def outer(a):
        return inner(a) + a

    with fg.Graph() as graph:
        x = fg.placeholder("x", (2,), "float64")
        y = fg.custom_op(outer, infer=lambda a: a)(x) * 2
    bad = np.zeros(2)
    with fg.Session(graph, threads=1) as session:
        function = session.function([x], y)
        for _ in range(4 if way == "direct" else 0):
            function(np.ones(2))
        go = {
            "run": lambda: session.run(y, {x: bad}),
            "async": lambda: session.run_async(y, {x: bad}).result(),
        }.get(way, lambda: function(bad))
        with pytest.raises(fg.ExecutionError) as caught:
            go()
    own = "flowgraph" + os.sep
    above = [entry.filename for entry in traceback.extract_tb(caught.value.__traceback__)]
    assert caught.value.__cause__ is not None
    below = [e.name for e in traceback.extract_tb(caught.value.__cause__.__traceback__) if not e.filename.startswith("<flowgraph plan")]
    assert any(own in file or "futures" in file for file in above) == full
    if not full:
        assert below == ["outer", "inner"]
