"""What compiled kernels have cost and earned; and programs as their users read them."""

import re

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.runtime.program import Tally
from flowgraph.session.ledger import Entry, Ledger

pytestmark = pytest.mark.skipif(not fg.Session(fg.Graph()).jit, reason='llvmlite is not installed: pip install "flowgraph[jit]"')


@pytest.fixture
def made(own_kernels):
    """A graph with a compiled loop and a compiled convolution."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", (8, 3, 32, 32))
        conv = fg.nn.conv2d(x, fg.variable(np.ones((4, 3, 3, 3), np.float32), name="w"))
        y = fg.sum(fg.tanh(fg.exp(x) + 1.25), axis=(1, 2, 3))
    return graph, x, conv, y


def test_each_kernel_is_in_the_ledger_with_its_calls(made):
    graph, x, conv, y = made
    array = np.zeros((8, 3, 32, 32), np.float32)
    with fg.Session(graph, threads=1) as session:
        call = session.function([x], [conv, y])
        call(array)
        ledger = call.ledger()
        assert {entry.nodes[0].op.name for entry in ledger.entries} == {conv.node.op.name, "sum"}
        assert all(entry.compiled > 0 for entry in ledger.entries)
        assert not any(entry.from_disk for entry in ledger.entries)
        before = {entry.nodes: entry.calls for entry in ledger.entries}
        for _ in range(6):
            call(array)
        session.run([conv, y], {x: array})
        after = {entry.nodes: entry.calls for entry in call.ledger().entries}
        assert after == {nodes: 8 * calls for nodes, calls in before.items()}  # (it is one plan for both)
        assert after == {entry.nodes: entry.calls for entry in session.ledger().entries}
        assert f"{len(ledger.entries)} kernels, " in str(ledger)
        assert "test_ledger.py:" in str(ledger)


def test_calls_that_need_no_run_of_their_own_are_counted(own_kernels):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (100, 100), "float64")
        y = fg.tanh(fg.exp(x) + 1.5)
    with fg.Session(graph, threads=1) as session:
        call = session.function([x], y)
        for _ in range(10):
            call(np.zeros((100, 100)))
        assert call._direct is not None
        (entry,) = call.ledger().entries
        (entry,) = call.ledger().entries  # looking does not count
        assert entry.calls == 10
        assert [node.name for node in entry.nodes] == ["tanh", "add", "exp"]


def test_a_kernel_is_measured_beside_numpys(own_kernels):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (300, 300), "float64")
        y = fg.tanh(fg.exp(x) * 2.0 + x)
    with fg.Session(graph, threads=1) as session:
        session.run(y, {x: np.zeros((300, 300))})
        (entry,) = session.ledger(measure=True).entries
    assert entry.seconds is not None and entry.plain is not None
    assert entry.earned == pytest.approx(entry.calls * (entry.plain - entry.seconds) - entry.compiled)
    assert " earned since" in str(Ledger([entry]))


def test_kernels_from_disk_say_so(own_kernels):
    from flowgraph.jit.kernels import _compiler, _function

    with fg.Graph() as graph:
        x = fg.placeholder("x", (200, 200), "float64")
        y = fg.tanh(fg.exp(x) + 2.75)
    for is_second in (False, True):
        with fg.Session(graph, threads=1) as session:
            session.run(y, {x: np.zeros((200, 200))})
            (entry,) = session.ledger().entries
            assert entry.from_disk is is_second
        _compiler.cache_clear()  # as a new process does
        _function.cache_clear()


def test_where_nothing_is_compiled_the_ledger_is_empty():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (200, 200), "float64")
        y = fg.tanh(fg.exp(x))
    with fg.Session(graph, jit=False) as session:
        session.run(y, {x: np.zeros((200, 200))})
        assert session.ledger().entries == ()
        assert str(session.ledger()) == "no kernel was compiled"


def test_what_was_earned_is_less_what_compiling_cost():
    entry = Entry((), 0.02, False, calls=10, seconds=1e-3, plain=4e-3)
    assert entry.earned == pytest.approx(10 * 3e-3 - 0.02)
    assert Ledger([entry, Entry((), 0.03, True, calls=1)]).compiled == pytest.approx(0.05)
    assert Ledger([Entry((), 0.03, True, calls=1)]).earned is None


def test_a_tally_counts_what_is_added_however_often_it_is_looked_at():
    tally = Tally()
    for count in range(5):
        assert tally.total == count
        assert tally.total == count
        tally.add()


def test_a_source_names_what_the_user_named():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (300, 300))
        w = fg.variable(np.ones((300, 300), np.float32), name="w")
        loss = fg.sum(fg.tanh(fg.exp(x @ w) + 1.0))
        with fg.control_dependencies([loss.node]):
            step = fg.assign(w, w - 0.5)
    with fg.Session(graph) as session:
        text = session.function([x], [loss, step]).source()
    lines = text.splitlines()
    assert lines[0].split()[2:6] == ["x", "(300,", "300)", "float32,"]
    assert any("w (300, 300) float32, a variable    test_ledger.py:" in line for line in lines)
    assert any("sum, a result    test_ledger.py:" in line for line in lines)
    assert any("what w becomes    test_ledger.py:" in line for line in lines)
    assert any(re.search(r"\(exp, add, tanh(, sum)?\)    test_ledger.py:", line) for line in lines), text
    compile(text, "source", "exec")


def test_the_slices_of_a_node_count_together_and_what_is_read_for_its_shape_is_no_hindrance(own_kernels):
    with fg.Graph() as graph:
        x, b = fg.placeholder("x", (4000, 256)), fg.variable(np.zeros(256, np.float32), name="b")
        (slope,) = fg.gradients(fg.sum(fg.nn.relu(fg.sort(x, axis=1) + b)), b)
    with fg.Session(graph, threads=2) as session:
        for _ in range(3):
            session.run(slope, {x: np.ones((4000, 256), np.float32)})
        units = session.plan(slope, {x: (4000, 256)}).units
        ledger = session.ledger(measure=True)
        assert sum(unit.mode in ("part", "partial") for unit in units) > 1
        assert [entry.calls for entry in ledger.entries] == [3] * len(ledger.entries)
        assert all(entry.plain is not None for entry in ledger.entries)
