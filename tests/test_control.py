"""Loops and branches as nodes: values, gradients of any order, tangents, batches, laziness, draws, errors, cancelling."""

import threading

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.autodiff.forward import push_forward

RNG = np.random.default_rng(5)
W = RNG.standard_normal((3, 3)) * 0.5
H = RNG.standard_normal(3)
XS = RNG.standard_normal((4, 3))


def recurrence(w, h, xs):
    """A small recurrent net as a scan: its last state and the stacked outputs."""

    def turn(h, x):
        h = fg.tanh(h @ w + x)
        return h, fg.sum(h * h)

    return fg.scan(turn, h, xs)


def unrolled(w, h, xs):
    ys = []
    for t in range(len(XS)):
        h = fg.tanh(h @ w + xs[t])
        ys.append(fg.sum(h * h))
    return h, fg.stack(ys)


def loss_of(net):
    def loss(w, h, xs):
        last, ys = net(w, h, xs)
        return fg.sum(last) + fg.sum(ys * ys)

    return loss


def value_of(function, *arrays):
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", np.shape(a), np.asarray(a).dtype) for i, a in enumerate(arrays)]
        out = function(*inputs)
    with fg.Session(graph, threads=1) as session:
        return session.run(out, dict(zip(inputs, arrays, strict=True)))


def test_a_scan_gives_what_its_unrolled_form_gives():
    for scanned, by_hand in zip(value_of(recurrence, W, H, XS), value_of(unrolled, W, H, XS), strict=True):
        np.testing.assert_array_equal(scanned, by_hand)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_gradients_of_a_scan_agree_with_finite_differences(order):
    fg.check_gradient(loss_of(recurrence), W, H, XS, order=order, tolerance=1e-4)


SHARED = {
    "vector @ w": (lambda w, h: h @ w, H),
    "w @ vector": (lambda w, h: w @ h, H),
    "matrix @ w": (lambda w, h: h @ w, XS),
    "w @ matrix": (lambda w, h: w @ h, XS.T),
    "matrices @ w": (lambda w, h: h @ w, np.stack([XS, -XS])),
    "w turned": (lambda w, h: h @ fg.permute_dims(w), XS),
    "matrix turned": (lambda w, h: fg.permute_dims(fg.permute_dims(h) @ w), XS.T),
}


@pytest.mark.parametrize("loop", ["scan", "while_loop"])
@pytest.mark.parametrize(("product", "start"), SHARED.values(), ids=SHARED)
def test_the_gradient_by_a_matrix_that_all_turns_share_is_one_product_behind_the_loop(product, start, loop):
    def turn(w, h):
        return fg.tanh(product(w, h) + h / 2)

    def looped(w, h):
        if loop == "scan":
            h, _ = fg.scan(lambda h, _: (turn(w, h), None), h, length=5)
        else:
            h, _ = fg.while_loop(lambda c: c[1] < 5, lambda c: (turn(w, c[0]), c[1] + 1), (h, np.int64(0)))
        return fg.sum(h * h)

    def by_hand(w, h):
        for _ in range(5):
            h = turn(w, h)
        return fg.sum(h * h)

    with fg.Graph() as graph:
        w, h = fg.constant(W), fg.constant(start)
        slopes = [fg.gradients(f(w, h), [w, h]) for f in (looped, by_hand)]
    with fg.Session(graph, threads=1) as session:
        for ours, wanted in zip(*session.run(slopes), strict=True):
            np.testing.assert_allclose(ours, wanted, rtol=1e-12)
        backwards = slopes[0][1].node
        assert backwards.attrs["carries"] == 1  # the cotangent of h, and no sum over the turns
        assert "contract" in str(session.plan(slopes[0][0]))
    fg.check_gradient(looped, W, start, order=2, tolerance=1e-4)


@pytest.mark.parametrize("turn", [lambda c, v: (c + v, None), lambda c, v: (c * 2.0, None)], ids=["sum", "without its xs"])
def test_a_scan_whose_gradient_needs_nothing_of_its_turns_counts_them_by_its_xs(turn):
    fg.check_gradient(lambda c, xs: fg.scan(turn, c, xs)[0], H, XS)


def test_the_gradient_of_a_scan_runs_the_loop_forwards_once():
    with fg.Graph() as graph:
        w, h, xs = fg.constant(W), fg.constant(H), fg.placeholder("xs", (None, 3), "float64")
        loss = loss_of(recurrence)(w, h, xs)
        slopes = fg.gradients(loss, [w, h, xs])
    with fg.Session(graph, threads=1) as session:
        plan = session.plan([loss, *slopes], {xs: (4, 3)})
        assert sum(bool(unit.bodies) for unit in plan.units) == 2  # one forwards, one backwards
        assert sum(bool(unit.bodies) for unit in session.plan(loss, {xs: (4, 3)}).units) == 1


def test_a_scan_over_a_size_that_is_known_only_in_the_run():
    with fg.Graph() as graph:
        xs = fg.placeholder("xs", (None, 3), "float64")
        last, ys = recurrence(fg.constant(W), fg.constant(H), xs)
        (slope,) = fg.gradients(fg.sum(ys), [xs])
    with fg.Session(graph, threads=1) as session:
        for count in (0, 1, 5):
            assert [v.shape for v in session.run([last, ys, slope], {xs: np.ones((count, 3))})] == [(3,), (count,), (count, 3)]


def test_a_scan_of_a_thousand_turns_has_as_many_nodes_as_one_of_two():
    def nodes(length):
        with fg.Graph() as graph:
            x = fg.placeholder("x", (), "float64")
            y, _ = fg.scan(lambda c, _: (fg.sin(c), None), x, length=length)
            fg.gradients(y, [x])
        return len(graph)

    assert nodes(1000) == nodes(2)


def test_a_scan_in_reverse_stacks_its_results_where_their_inputs_stand():
    total, sums = value_of(lambda xs: fg.scan(lambda c, x: (c + x, c + x), 0.0, xs, reverse=True), np.array([1.0, 2.0, 3.0]))
    assert total == 6.0
    np.testing.assert_array_equal(sums, [6.0, 5.0, 3.0])


def test_a_nesting_is_carried_as_it_is():
    def turn(state, x):
        return {"n": state["n"] + 1, "pair": (state["pair"][1], x)}, None

    last = value_of(lambda xs: fg.scan(turn, {"n": 0, "pair": (0.0, 0.0)}, xs)[0], np.array([1.0, 2.0, 3.0]))
    assert last == {"n": 3, "pair": (2.0, 3.0)}


def test_loops_nest():
    def rows(x):
        return fg.map(lambda row: fg.scan(lambda c, v: (c * v, None), 1.0, row)[0], x)

    x = RNG.uniform(0.5, 1.5, (3, 4))
    np.testing.assert_allclose(value_of(rows, x), x.prod(axis=1))
    fg.check_gradient(rows, x, order=2)


def power(x, count=None):
    """x ** (2 ** k) until it passes 100."""
    return fg.while_loop(lambda y: fg.abs(y) < 100.0, lambda y: y * y, x, maximum=count)


def test_a_while_loop_ends_when_its_condition_fails():
    assert value_of(power, 3.0) == 6561.0
    assert value_of(lambda x: power(x, 1), 3.0) == 9.0
    assert value_of(power, 200.0) == 200.0


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_of_a_while_loop_agree_with_finite_differences(order):
    w = np.array(1.1)

    def function(x, w):
        return fg.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, fg.sin(s[1]) * w), (0, x))[1]

    fg.check_gradient(function, H, w, order=order)
    fg.check_gradient(power, np.array(1.3), order=order, tolerance=1e-4, step=1e-7 if order == 1 else 1e-5)


def choice(x, w):
    return fg.cond(fg.sum(x) > 0, lambda: fg.sum(x * w), lambda: fg.sum(fg.sin(x)))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("order", [1, 2])
def test_gradients_of_a_branch_agree_with_finite_differences(sign, order):
    fg.check_gradient(choice, sign * np.abs(H), W, order=order)


def test_only_the_chosen_branch_runs():
    labels = np.array([7])  # out of range: the branch that reads it would raise
    function = lambda p: fg.cond(p, lambda: fg.nn.softmax_cross_entropy(np.zeros((1, 3)), labels), lambda: np.zeros(1))  # noqa: E731
    assert value_of(function, np.array(False)) == 0.0
    with pytest.raises(fg.ExecutionError, match="a label is outside"):
        value_of(function, np.array(True))


def test_a_number_in_one_branch_takes_the_dtype_of_the_other():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float32")
        y = fg.cond(x > 0, lambda: x, lambda: 0.5)
    assert y.dtype == np.float32
    with fg.Session(graph, threads=1) as session:
        assert session.run(y, {x: -1}) == 0.5


@pytest.mark.parametrize(
    "function", [loss_of(recurrence), lambda w, h, xs: fg.sum(choice(h, w)), lambda w, h, xs: fg.sum(power(h[0], 3) * w)]
)
def test_tangents_agree_with_the_gradient(function):
    directions = [RNG.standard_normal(a.shape) for a in (W, H, XS)]
    with fg.Graph() as graph:
        inputs = [fg.placeholder(n, a.shape, "float64") for n, a in zip("whx", (W, H, XS), strict=True)]
        y = function(*inputs)
        (tangent,) = push_forward([y], inputs, [fg.constant(d) for d in directions])
        slopes = fg.gradients(y, inputs)
    with fg.Session(graph, threads=1) as session:
        along, exact = session.run([tangent, slopes], dict(zip(inputs, (W, H, XS), strict=True)))
    np.testing.assert_allclose(along, sum(np.sum(s * d) for s, d in zip(exact, directions, strict=True)))


@pytest.mark.parametrize(
    "function",
    [
        lambda h, w: recurrence(w, h, fg.constant(XS)),
        choice,
        lambda h, w: power(h[0], 3),
        lambda h, w: fg.gradients(fg.sum(recurrence(w, h, fg.constant(XS))[0]), [h, w]),
    ],
)
def test_a_batch_gives_what_each_entry_gives(function):
    hs = RNG.standard_normal((5, 3)) + 0.2
    with fg.Graph() as graph:
        h, w = fg.placeholder("h", (5, 3), "float64"), fg.placeholder("w", (3, 3), "float64")
        many = fg.vmap(function, in_axes=(0, None))(h, w)
        each = [function(h[i], w) for i in range(5)]
    with fg.Session(graph, threads=1) as session:
        many, each = session.run([many, each], {h: hs, w: W})
    flat = many if isinstance(many, list | tuple) else [many]
    for i in range(5):
        for have, want in zip(flat, each[i] if isinstance(each[i], list | tuple) else [each[i]], strict=True):
            np.testing.assert_allclose(have[i], want, rtol=1e-12)


def test_each_turn_draws_anew_and_the_same_again_with_the_same_seed():
    with fg.Graph() as graph:
        draws = fg.map(lambda _: fg.random.uniform((2,)), np.zeros(3))
        nested = fg.map(lambda _: fg.map(lambda _: fg.random.uniform(()), np.zeros(3)), np.zeros(3))
        outside = fg.random.uniform((2,))
    runs = []
    for _ in range(2):
        with fg.Session(graph, threads=1, seed=3) as session:
            runs.append([np.concatenate([v.ravel() for v in session.run([draws, nested, outside])]) for _ in range(2)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert len(np.unique(runs[0])) == np.size(runs[0])


def test_a_variable_made_in_a_body_belongs_to_the_graph_around_and_learns():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (4, 3), "float32")

        def turn(total, row):
            return total + fg.sum(fg.variable(np.ones(3, "f4"), name="w") * row), None

        loss, _ = fg.scan(turn, 0.0, x)
        update = fg.optim.SGD(0.1).minimize(loss)
    with fg.Session(graph, threads=1) as session:
        session.run(update, {x: np.ones((4, 3), "f4")})
        np.testing.assert_allclose(session.variables[graph.variables[0]], 0.6, rtol=1e-6)


@pytest.mark.parametrize("turn", [lambda n: n * 0, lambda n: n])
@pytest.mark.parametrize("holds", [lambda n: n >= 0, lambda n: fg.constant(True)])
def test_a_loop_without_end_can_be_cancelled(holds, turn):
    with fg.Graph() as graph:
        started = fg.while_loop(holds, turn, 0)
    with fg.Session(graph, threads=1) as session:
        with pytest.raises(fg.RunTimeoutError):
            session.run(started, timeout=0.05)
        future = session.run_async(started)
        future.cancel()
        with pytest.raises(fg.RunCancelledError):
            future.result(10)
        assert session.run(fg.constant(1, graph=graph)) == 1
    assert not [t for t in threading.enumerate() if t.name.startswith("flowgraph")]


@pytest.mark.parametrize("loop", ["scan", "while_loop"])
def test_a_batch_of_gradients_through_a_loop_whose_start_is_the_same_for_all(loop):
    def loss(w):
        if loop == "scan":
            _, ys = fg.scan(lambda h, x: (fg.tanh(h @ w + x),) * 2, fg.constant(H), fg.constant(XS))
            return fg.sum(ys**2)
        h, _ = fg.while_loop(lambda c: c[1] < 3, lambda c: (fg.tanh(c[0] @ w), c[1] + 1), (fg.constant(H), np.int64(0)))
        return fg.sum(h**2)

    with fg.Graph() as graph:
        ws = RNG.standard_normal((4, 3, 3))
        together = fg.vmap(fg.value_and_grad(loss))(fg.constant(ws))
        apart = [fg.value_and_grad(loss)(fg.constant(w)) for w in ws]
    with fg.Session(graph, threads=1) as session:
        ours, theirs = session.run([together, apart])
    for got, want in zip(ours, zip(*theirs, strict=True), strict=True):
        np.testing.assert_allclose(got, np.stack(want), rtol=1e-12)


@pytest.mark.parametrize("turns", [0, 3])
@pytest.mark.parametrize("loop", ["scan", "while_loop"])
def test_a_loop_of_no_turns_has_the_sizes_that_a_run_says(loop, turns):
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("time", "batch", 2), "float64")
        w, start = fg.constant(np.eye(2)), fg.sum(x, axis=0)
        if loop == "scan":
            h, ys = fg.scan(lambda h, row: (fg.tanh(h @ w + row), h * row), start, x)
        else:
            count = fg.placeholder("count", (), "int64")
            h, _ = fg.while_loop(lambda c: c[1] < count, lambda c: (fg.tanh(c[0] @ w), c[1] + 1), (start, np.int64(0)))
            ys = h
        slopes = fg.gradients(fg.sum(h) + fg.sum(ys * ys), [w, x])
    with fg.Session(graph, threads=1) as session:
        feeds = {x: np.ones((turns, 5, 2))} if loop == "scan" else {x: np.ones((3, 5, 2)), count: turns}
        stacked, *found = session.run([ys, *slopes], feeds)
    assert stacked.shape == ((turns, 5, 2) if loop == "scan" else (5, 2))
    assert found[1].shape == feeds[x].shape
    assert (found[0] == 0).all() == (turns == 0)


def test_results_are_never_memory_of_the_feeds():
    x = np.ones(3)
    last, kept = value_of(lambda x: (fg.while_loop(lambda v: v[0] > 2.0, lambda v: v, x), fg.cond(x[0] > 0, lambda: x, lambda: x * 2)), x)
    assert not np.shares_memory(last, x)
    assert not np.shares_memory(kept, x)


def test_what_runs_in_a_body_names_its_own_line():
    with fg.Graph() as graph:
        labels = fg.placeholder("labels", (2, 1), "int64")
        losses = fg.map(lambda label: fg.nn.softmax_cross_entropy(np.zeros((1, 3)), label), labels)
    with fg.Session(graph, threads=1) as session, pytest.raises(fg.ExecutionError) as caught:
        session.run(losses, {labels: [[0], [9]]})
    assert "class_labels: a label is outside 0 ... 2" in str(caught.value)
    assert "losses = fg.map(lambda label" in str(caught.value)


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda x: fg.scan(lambda c, v: (c + v, None), fg.constant(0), x), fg.ShapeError, "as () int64 and comes out as () float64"),
        (lambda x: fg.scan(lambda c, v: (fg.stack([v, v]), None), 0.0, x), fg.ShapeError, "and comes out as (2,) float64"),
        (lambda x: fg.scan(lambda c, v: c, 0.0, x), fg.ArgumentError, "the body returns (carry, y)"),
        (lambda x: fg.scan(lambda c, v: (c, None), 0.0), fg.ArgumentError, "without xs, length is the number of turns"),
        (lambda x: fg.scan(lambda c, v: (c, None), 0.0, x, length=7), fg.ShapeError, "the xs have 3 entries, but length is 7"),
        (lambda x: fg.scan(lambda c, v: (c, None), 0.0, x[0]), fg.ShapeError, "is a scalar, it has no turns"),
        (lambda x: fg.map(lambda a, b: a + b, x, x[:2]), fg.ShapeError, "the xs have 3 and 2 entries"),
        (lambda x: fg.while_loop(lambda c: c > 0, lambda c: c, x), fg.ShapeError, "the condition gives one boolean, got (3,) bool"),
        (lambda x: fg.while_loop(lambda c: True, lambda c: (c, c), x), fg.ArgumentError, "the carry has 1 value, the body returns 2"),
        (lambda x: fg.cond(x > 0, lambda: x, lambda: x), fg.ShapeError, "the predicate is one boolean, got (3,) bool"),
        (lambda x: fg.cond(x[0] > 0, lambda: x, lambda: x[:2]), fg.ShapeError, "the branches build shapes (3,) and (2,)"),
        (lambda x: fg.cond(x[0] > 0, lambda: x, lambda: (x, x)), fg.ArgumentError, "the branches build 1 and 2 tensors"),
        (lambda x: fg.cond(x[0] > 0, lambda: x, lambda: fg.astype(x, "float32")), fg.DtypeError, "the branches build float64 and float32"),
        (lambda x: fg.map(lambda v: fg.assign(fg.variable(0.0, name="v"), v), x), fg.ArgumentError, "cannot write a variable"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_loop_or_a_branch_is_said_while_building(build, error, text):
    with fg.Graph():
        x = fg.placeholder("x", (3,), "float64")
        with pytest.raises(error) as caught:
            build(x)
    assert text in str(caught.value)


def test_a_gradient_by_a_constant_that_a_body_uses_is_not_lost():
    with fg.Graph() as graph:
        c = fg.constant(np.array([2.0, 3.0]))
        x = fg.placeholder("x", (4, 2), "float64")
        total, _ = fg.scan(lambda t, row: (t + fg.sum(row * c), None), 0.0, x)
        chosen = fg.cond(total > 0, lambda: fg.sum(c * c), lambda: fg.sum(c))
        slopes = [*fg.gradients(total, [c]), *fg.gradients(chosen, [c])]
    with fg.Session(graph, threads=1) as session:
        by_scan, by_cond = session.run(slopes, {x: np.ones((4, 2))})
    np.testing.assert_array_equal(by_scan, [4.0, 4.0])
    np.testing.assert_array_equal(by_cond, [4.0, 6.0])


@pytest.mark.parametrize("reverse", [False, True])
def test_turns_write_into_their_stacks_and_the_last_carry_is_no_part_of_one(reverse):
    """A y that is the carry as well, one that is a view of it, one for itself, and a number; a body's first call does not write there."""
    xs = RNG.standard_normal((5, 200, 100))

    def turn(c, x):
        c = fg.tanh(c @ fg.constant(np.eye(100) / 2) + x)
        return c, (c, fg.permute_dims(c), c * 2 + x, fg.sum(c))

    with fg.Graph() as graph:
        steps = fg.placeholder("steps", (None, 200, 100), "float64")
        last, ys = fg.scan(turn, fg.zeros((200, 100), "float64"), steps, reverse=reverse)
    with fg.Session(graph, threads=1) as session:
        for run in range(3):
            given = xs + run
            got = session.run([last, *ys], {steps: given})
            c, wanted = np.zeros((200, 100)), []
            for x in given[::-1] if reverse else given:
                c = np.tanh(c / 2 + x)
                wanted.append((c, c.T, c * 2 + x, c.sum()))
            wanted = wanted[::-1] if reverse else wanted
            np.testing.assert_allclose(got[0], c, rtol=1e-12, atol=1e-14)
            assert not any(np.shares_memory(got[0], y) for y in got[1:])
            for have, want in zip(got[1:], zip(*wanted, strict=True), strict=True):
                np.testing.assert_allclose(have, np.stack(want), rtol=1e-12, atol=1e-14)


def test_the_turns_of_a_loop_take_entries_that_do_not_lie_side_by_side():
    xs = RNG.standard_normal((40, 6, 30))
    with fg.Graph() as graph:
        x = fg.placeholder("x", xs.shape, "float64")
        last, ys = fg.scan(
            lambda c, x: (fg.tanh(c) + x * x + 1, fg.exp(x) * c), fg.zeros((40, 30), "float64"), fg.permute_dims(x, (1, 0, 2))
        )
    with fg.Session(graph, threads=1) as session:
        for _ in range(3):
            have_last, have = session.run([last, ys], {x: xs})
    c, want = np.zeros((40, 30)), []
    for entry in xs.transpose(1, 0, 2):
        want.append(np.exp(entry) * c)
        c = np.tanh(c) + entry * entry + 1
    np.testing.assert_allclose(have, np.stack(want), rtol=1e-12)
    np.testing.assert_allclose(have_last, c, rtol=1e-12)


def parts_of(plan):
    """For each loop of a plan the rows of its parts; (0, 0) for one that is not cut."""
    loops: dict[str, list[tuple[int, int]]] = {}
    for unit in plan.units:
        if unit.bodies:
            loops.setdefault(unit.node.name, []).append(unit.read)
    return list(loops.values())


def recurrent(layer, size, batch, turns=5):
    """A layer's outputs and gradients, and what to feed it."""
    rng = np.random.default_rng(3)
    x = fg.placeholder("x", ("batch", turns, 7), "float32")
    y = layer(7, size)(x)
    gradients = fg.gradients(fg.mean(y * y), [x, *x.graph.variables])
    return [y, *gradients], {x: rng.standard_normal((batch, turns, 7), np.float32)}


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize(
    ("layer", "size", "batch", "cut"), [(fg.nn.LSTM, 128, 129, 2), (fg.nn.GRU, 128, 128, 2), (fg.nn.RNN, 256, 300, 2)], ids=str
)
def test_a_loop_in_parts_gives_the_same_bits_with_any_number_of_threads(layer, size, batch, cut, jit):
    with fg.Graph() as graph:
        fetches, feeds = recurrent(layer, size, batch)
    results = []
    for threads in (1, 2, 4):
        with fg.Session(graph, threads=threads, jit=jit, seed=0) as session:
            parts = parts_of(session.plan(fetches, {x: value.shape for x, value in feeds.items()}))
            assert [rows == [(0, batch // 2), (batch // 2, batch)] for rows in parts].count(True) == cut
            results += [session.run(fetches, feeds) for _ in range(3)]  # by the interpreter, then by generated source
    for again in results[1:]:
        for one, other in zip(results[0], again, strict=True):
            np.testing.assert_array_equal(one, other)
    with fg.Session(graph, threads=1, jit=jit, seed=0) as session:
        few = {x: value[:8] for x, value in feeds.items()}
        assert parts_of(session.plan(fetches, {x: value.shape for x, value in few.items()})) == [[(0, 0)]] * 2
        np.testing.assert_allclose(results[0][0][:8], session.run(fetches[0], few), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [8, 80], ids=["small", "in a kept buffer"])
def test_a_matrix_that_turns_read_transposed_is_copied_once_in_front_of_the_loop(size):
    random = np.random.default_rng(3)
    values, rows = random.standard_normal((size, size)) / size, random.standard_normal((5, size))
    with fg.Graph() as graph:
        w, h = fg.variable(values, name="w"), fg.constant(rows)
        turned = fg.permute_dims(w)
        last, _ = fg.scan(lambda h, _: (h @ turned, None), h, length=4)
        onwards, _ = fg.scan(lambda h, _: (fg.tanh(h @ w), None), h, length=4)
        (slope,) = fg.gradients(fg.sum(onwards), h)
    steps = [rows]
    for _ in range(4):
        steps.append(np.tanh(steps[-1] @ values))
    expected = np.ones_like(rows)
    for after in steps[:0:-1]:
        expected = (expected * (1 - after * after)) @ values.T
    for options in ({}, {"jit": False}, {"threads": 1}):
        with fg.Session(graph, **options) as session:
            for fetches in ([last, turned], [slope]):
                plan = session.plan(fetches)
                (copy,) = [unit for unit in plan.units if unit.node.op.name == "permute_dims"]
                assert copy.nbytes == values.nbytes
                bodies = [body for unit in plan.units for body in unit.bodies]
                assert bodies and not any(unit.node.op.name == "permute_dims" for body in bodies for unit in body.units)
            for _ in range(2):
                found, given, uphill = session.run([last, turned, slope])
                np.testing.assert_allclose(found, rows @ np.linalg.matrix_power(values.T, 4), rtol=1e-9, atol=1e-15)
                np.testing.assert_allclose(uphill, expected, rtol=1e-9, atol=1e-15)
                np.testing.assert_array_equal(given, values.T)
                given[:] = 0  # it is the caller's


N, K = 256, 300
TABLE = RNG.standard_normal((9, K))
OF_ROWS = RNG.standard_normal((N, K))
MATRIX = RNG.standard_normal((K, K)) / K


def over_rows(xs, reverse=False):
    """A loop that reads rows of what it captures and of its entries, and a table of which all parts read the whole."""
    of_rows = fg.constant(OF_ROWS)

    def turn(h, x):
        h = fg.tanh(h @ MATRIX) + of_rows * fg.constant(TABLE)[x] + fg.sum(h[:, 1:], axis=1, keepdims=True)
        return h, (h[:, :3], fg.max(h, axis=1))

    return fg.scan(turn, np.zeros((N, K)), fg.constant(xs), reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_is_cut_along_rows_that_its_turns_treat_alike(reverse):
    xs = RNG.integers(0, 9, (4, N))
    last, (ys, highest) = over_rows(xs, reverse)
    with fg.Session(threads=2) as session:
        assert parts_of(session.plan([last, ys, highest])) == [[(0, 64), (64, 128), (128, 192), (192, 256)]]
        results = session.run([last, ys, highest])
    h, first, most = np.zeros((N, K)), np.empty((4, N, 3)), np.empty((4, N))
    for t in range(4)[:: -1 if reverse else 1]:
        h = np.tanh(h @ MATRIX) + OF_ROWS * TABLE[xs[t]] + h[:, 1:].sum(axis=1, keepdims=True)
        first[t], most[t] = h[:, :3], h.max(axis=1)
    for result, expected in zip(results, [h, first, most], strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-9)


def test_outputs_of_a_loop_that_is_cut_by_rows_have_one_stack_where_they_are_the_same():
    def turn(h, x):
        h = fg.tanh(h @ MATRIX + x)
        return h, (h, h * 1, -h)

    xs = RNG.standard_normal((4, N, K))
    for options in ({}, {"jit": False}, {"threads": 1}):
        with fg.Graph() as graph:
            start = fg.placeholder("start", ("rows", K), "float64")
            last, (ys, again, other) = fg.scan(turn, start, fg.placeholder("xs", (4, "rows", K), "float64"))
        with fg.Session(graph, **options) as session:
            feeds = {start: np.zeros((N, K)), graph["xs"]: xs}
            plan = session.plan([last, ys, again, other], {x: value.shape for x, value in feeds.items()})
            parts = [unit for unit in plan.units if unit.bodies]
            assert len(parts) > 1
            for unit in parts:
                _, first, second, third = unit.writes
                assert first == second != third
            for _ in range(2):
                end, *found = session.run([last, ys, again, other], feeds)
                h = np.zeros((N, K))
                for t in range(4):
                    h = np.tanh(h @ MATRIX + xs[t])
                    for made, expected in zip(found, (h, h, -h), strict=True):
                        np.testing.assert_allclose(made[t], expected, rtol=1e-9)
                np.testing.assert_allclose(end, h, rtol=1e-9)
                found[0][:] = 0  # each is the caller's own
                np.testing.assert_allclose(found[1][3], h, rtol=1e-9)


@pytest.mark.parametrize(
    "turn",
    [
        lambda h, x: (fg.nn.softmax(h @ MATRIX, axis=0) + x, None),
        lambda h, x: (h @ MATRIX - fg.mean(h, axis=0) + x, None),
        lambda h, x: (fg.tanh(h @ MATRIX + x), fg.sum(h)),
        lambda h, x: (fg.tanh(h[::-1] @ MATRIX + x), None),
        lambda h, x: (fg.tanh(h @ MATRIX + x) * fg.constant(OF_ROWS[:, :1] > 0), None),
        lambda h, x: (fg.reshape(fg.tanh(h @ MATRIX + x), (N, K)), None),
        lambda h, x: (fg.tanh(h @ MATRIX + x) + fg.random.normal((N, K), dtype="float64"), None),
        lambda h, x: (fg.tanh(h @ MATRIX + x) + fg.random.normal((K,), dtype="float64"), None),
        lambda h, x: (fg.tanh(OF_ROWS @ h.transpose() @ h + x), None),
    ],
    ids=["softmax", "mean", "sum", "flipped", "constant", "reshape", "draws", "a draw for all", "a matrix of rows"],
)
def test_a_loop_whose_turns_mix_rows_or_hold_their_number_is_not_cut(turn):
    start, xs = fg.constant(np.zeros((N, K))), fg.constant(RNG.standard_normal((3, N, K)))
    apart, _ = fg.scan(lambda h, x: (fg.tanh(h @ MATRIX + x), None), start, xs)
    mixed, _ = fg.scan(turn, start, xs)
    with fg.Session(threads=2) as session:
        assert parts_of(session.plan(apart)) == [[(0, 128), (128, 256)]]
        assert parts_of(session.plan(mixed)) == [[(0, 0)]]


def test_an_error_in_a_part_of_a_loop_names_the_node_and_the_line():
    xs = np.zeros((4, N), int)
    xs[2, N - 1] = 9
    last, _ = over_rows(xs)
    for threads in (1, 2):
        with fg.Session(threads=threads) as session:
            for _ in range(2):
                with pytest.raises(fg.ExecutionError, match="9 is out of bounds") as caught:
                    session.run(last)
                assert caught.value.node.op.name == "gather"
                assert "fg.constant(TABLE)[x]" in str(caught.value)


def test_a_loop_whose_turns_only_a_run_counts_is_not_cut():
    keep = fg.placeholder("keep", (3,), bool)
    xs = fg.constant(np.ones((3, N, K)))[keep]
    last, ys = fg.scan(lambda h, x: (h @ MATRIX + x, x), np.zeros((N, K)), xs)
    with fg.Session(threads=2) as session:
        assert parts_of(session.plan([last, ys], {keep: (3,)})) == [[(0, 0)]]
        assert session.run(ys, {keep: np.array([True, False, True])}).shape == (2, N, K)
