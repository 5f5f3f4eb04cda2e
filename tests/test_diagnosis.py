"""What is wrong with the gradients of a loss is found, and the line to blame named."""

import numpy as np
import pytest

import flowgraph as fg
from tests.stand_in import standing_in

RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 20)).astype(np.float32)
Y = RNG.standard_normal((64, 1)).astype(np.float32)


@pytest.fixture
def x():
    with fg.Graph():
        yield fg.placeholder("x", ("batch", 20))


def dense(x, width, name, size=0.1, bias=0.0):
    """A layer whose first values are given."""
    w = fg.variable(fg.init.normal((x.shape[-1], width), size), name=f"{name}/w")
    return x @ w + fg.variable(fg.init.constant(bias, (width,)), name=f"{name}/b")


def found(loss, *args, **options):
    """The kinds of findings with the lines to blame."""
    return [(finding.kind, finding.location.text) for finding in fg.diagnose(loss, *args, **options).findings]


def measured(loss, feeds, **options):
    with fg.Session(loss.graph, threads=1, **options) as session:
        return fg.diagnose(loss, session=session, feeds=feeds)


def test_where_the_path_to_variables_stops_is_named_with_the_reason(x):
    scores = dense(x, 5, "a")
    hits = fg.argmax(scores, axis=1)
    loss = fg.mean(fg.astype(hits, "float32"))
    (finding,) = fg.diagnose(loss).findings
    assert finding.kind == "stops"
    assert finding.text == "no gradient reaches a/w and a/b: it stops at argmax, as a position is constant between its jumps"
    assert finding.location.text == "hits = fg.argmax(scores, axis=1)"
    path = finding.rows.splitlines()
    assert [line.split()[0] for line in path] == ["mean", "astype", "argmax", "add", "matmul", "a/w"]
    assert "<- stops here: a position is constant between its jumps" in path[2]
    assert finding.help.startswith("train with the scores and not the class")


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda y: fg.astype(fg.astype(y, "int32"), "float32"), "it is int32, and only floats have gradients"),
        (lambda y: fg.astype(y > 0, "float32"), "a comparison is constant between its jumps"),
        (fg.stop_gradient, "fg.stop_gradient was asked to stop it"),
        (fg.round, "a rounded number is constant between its jumps"),
        (lambda y: fg.custom_op(np.sin, infer=lambda a: a)(y), "it was given no gradient"),
    ],
)
def test_whatever_hands_no_gradient_on_is_named(x, build, reason):
    loss = fg.mean(build(dense(x, 5, "a")))
    (finding,) = fg.diagnose(loss).findings
    assert finding.kind == "stops"
    assert finding.text.endswith(reason)


def test_a_way_on_which_a_gradient_arrives_is_enough(x):
    y = dense(x, 5, "a")
    assert fg.diagnose(fg.mean(y * fg.stop_gradient(y) + fg.round(y))).findings == []


def test_a_variable_that_is_not_used_and_a_graph_without_any_are_told(x):
    fg.variable(fg.init.zeros((3,)), name="forgotten")
    assert found(fg.mean(dense(x, 5, "a"))) == [("unused", 'fg.variable(fg.init.zeros((3,)), name="forgotten")')]
    with fg.Graph():
        (finding,) = fg.diagnose(fg.mean(fg.placeholder("z", (3,)))).findings
    assert finding.text == "the graph has no trainable variable"


def test_probabilities_where_scores_belong_are_found(x):
    labels = fg.placeholder("labels", ("batch",), "int64")
    p = fg.nn.softmax(dense(x, 5, "a"))
    q = fg.nn.sigmoid(dense(x, 1, "b"))
    loss = fg.mean(fg.nn.softmax_cross_entropy(p, labels)) + fg.mean(fg.nn.sigmoid_cross_entropy(q, fg.ones((1, 1))))
    assert found(loss) == [("twice", 'p = fg.nn.softmax(dense(x, 5, "a"))'), ("twice", 'q = fg.nn.sigmoid(dense(x, 1, "b"))')]


def test_a_network_that_learns_has_nothing_wrong(x):
    hidden = fg.nn.relu(dense(x, 50, "a"))
    loss = fg.mean(fg.square(dense(hidden, 1, "b")))
    diagnosis = measured(loss, {x: X})
    assert diagnosis.findings == []
    assert "nothing is wrong" in str(diagnosis)
    w = loss.graph["a/w"]
    with fg.Session(loss.graph, threads=1) as session:
        (value, slope) = session.run([w, fg.gradients(loss, w)[0]], {x: X})
    np.testing.assert_allclose(diagnosis.sizes[w].value, np.sqrt(np.mean(value**2)), rtol=1e-5)
    np.testing.assert_allclose(diagnosis.sizes[w].gradient, np.sqrt(np.mean(slope**2)), rtol=1e-4)
    assert 0 < diagnosis.sizes[hidden].zeros < 1


def test_units_that_are_never_on_are_counted(x):
    y = dense(x, 50, "a")
    hidden = fg.nn.relu(y)
    loss = fg.mean(fg.square(dense(hidden, 1, "b")))
    with fg.Session(loss.graph, threads=1) as session:
        session.variables["a/b"] = np.where(np.arange(50) < 30, -90, 0).astype(np.float32)
        diagnosis = fg.diagnose(loss, session=session, feeds={x: X})
    (finding,) = diagnosis.findings
    assert finding.kind == "dead units"
    assert finding.text.startswith("30 of the 50 units of relu are 0 for all of the 64 examples")
    assert finding.location.text == "hidden = fg.nn.relu(y)"
    assert diagnosis.sizes[hidden].note == "30 of 50 units dead"


def test_channels_that_are_never_on_are_counted():
    with fg.Graph():
        images = fg.placeholder("images", ("batch", 3, 8, 8))
        y = fg.nn.conv2d(images, fg.variable(fg.init.normal((6, 3, 3, 3), 0.1), name="w"))
        hidden = fg.nn.relu(y - fg.reshape(fg.constant(np.array([0, 0, 90, 90, 90, 0], np.float32)), (6, 1, 1)))
        diagnosis = measured(fg.mean(hidden), {images: RNG.standard_normal((5, 3, 8, 8)).astype(np.float32)})
    assert [finding.kind for finding in diagnosis.findings] == ["dead units"]
    assert "3 of the 6 units" in diagnosis.findings[0].text


def test_a_gradient_that_is_zero_is_followed_to_the_node_where_it_dies(x):
    hidden = dense(x, 50, "a", bias=-900.0)
    y = fg.nn.relu(hidden)
    loss = fg.mean(fg.square(dense(y, 1, "b") - 1.0))
    kinds = {finding.kind: finding for finding in measured(loss, {x: X}).findings if "a/w" in finding.text}
    assert kinds["zero"].location.text == "y = fg.nn.relu(hidden)"
    assert "relu hands on nothing" in kinds["zero"].text
    assert "all units are off" in kinds["zero"].help


def test_saturated_activations_are_found(x):
    y = fg.tanh(dense(x, 50, "a", size=100.0))
    diagnosis = measured(fg.mean(fg.square(y)), {x: X})
    assert [(f.kind, f.location.expression) for f in diagnosis.findings] == [("saturated", 'fg.tanh(dense(x, 50, "a", size=100.0))')]


def test_gradients_that_vanish_and_that_explode_are_found(x):
    def deep(x, size, function):
        for i in range(6):
            with fg.scope(f"layer{i}"):
                x = function(dense(x, 20, "dense", size))
        return fg.mean(dense(x, 1, "last", 1.0))

    (vanishing,) = measured(deep(x, 0.01, fg.nn.sigmoid), {x: X}).findings
    assert vanishing.kind == "vanishing"
    assert "the gradient by layer0/matmul is" in vanishing.text
    assert len(vanishing.rows.splitlines()) == 7
    assert vanishing.node.op.name == "matmul"
    with fg.Graph():
        x = fg.placeholder("x", ("batch", 20))
        (exploding,) = measured(deep(x, 30.0, fg.nn.leaky_relu), {x: X}).findings
    assert exploding.kind == "exploding"


def test_what_is_not_finite_is_explained_with_the_expression(x):
    w = fg.variable(fg.init.normal((20,), 0.1), name="w")
    loss = fg.mean(fg.where(x > 0, fg.sqrt(x * w), 0.0))
    findings = [f for f in measured(loss, {x: X}).findings if f.kind == "not finite"]
    assert [f.location.expression for f in findings] == ["fg.sqrt(x * w)"]
    assert "sqrt: made nan of finite values" in findings[0].text
    assert "nan" in findings[0].rows


def test_random_numbers_are_those_of_the_next_run_and_nothing_is_written(x):
    y = fg.nn.dropout(dense(x, 50, "a"), 0.5)
    loss = fg.mean(fg.square(y))
    with fg.Session(loss.graph, threads=1) as session:
        before, state = session.variables.copy(), session.random_state
        diagnosis = fg.diagnose(loss, session=session, feeds={x: X})
        assert session.random_state == state
        np.testing.assert_equal(session.variables.copy(), before)
        assert diagnosis.value == f"{session.run(loss, {x: X}):.6g}"


def test_a_diagnosis_is_drawn_with_the_sizes_of_gradients_and_what_is_wrong(x):
    fg.variable(fg.init.zeros((3,)), name="forgotten")
    loss = fg.mean(fg.square(fg.tanh(dense(x, 50, "a", size=100.0))))
    diagnosis = measured(loss, {x: X})
    text = str(diagnosis.draw(format="dot"))
    assert "saturated" in text and "unused" in text and "forgotten" in text and "size of the gradient" in text
    assert "<svg" in diagnosis._repr_svg_()
    assert sorted(note.split()[-1] for note in diagnosis.notes.values()) == ["saturated", "unused"]
    assert "unused" in str(fg.diagnose(loss).draw(format="dot"))


def test_a_session_on_a_gpu_is_measured_on_the_host():
    with standing_in(), fg.Graph() as graph, fg.Session(graph, device="cuda:0", threads=1, jit=False) as session:
        x, w = fg.placeholder("x", (3,)), fg.variable(np.ones(3, np.float32), name="w")
        loss = fg.sum(fg.log(x * w))
        diagnosis = fg.diagnose(loss, session=session, feeds={x: np.array([1, 2, 4], np.float32)})
        assert diagnosis.findings == []
        assert diagnosis.sizes[w].gradient == 1.0
        (finding,) = fg.diagnose(loss, session=session, feeds={x: np.zeros(3, np.float32)}).findings
    assert finding.kind == "not finite"
    assert finding.location.text == "loss = fg.sum(fg.log(x * w))"


def test_a_loss_within_loops_and_recurrent_layers_is_diagnosed():
    with fg.Graph():
        words = fg.placeholder("words", ("batch", 7, 4))
        output = fg.nn.LSTM(4, 5)(words)
        loss = fg.mean(fg.square(output[0] if isinstance(output, tuple) else output))
        assert measured(loss, {words: RNG.standard_normal((3, 7, 4)).astype(np.float32)}).findings == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda x: fg.diagnose(x), "diagnose: a loss is a tensor of one float, got <Tensor x"),
        (lambda x: fg.diagnose(3.0), "diagnose: a loss is a tensor of one float, got 3.0"),
        (lambda x: fg.diagnose(fg.sum(x), ["w"]), "diagnose: variables are tensors of the graph of the loss, got 'w'"),
        (lambda x: fg.diagnose(fg.sum(x), session=3), "diagnose: a session is expected, got 3"),
        (lambda x: fg.diagnose(fg.sum(x), feeds={x: 3}), "diagnose: feeds are for a session"),
        (lambda x: fg.diagnose(fg.sum(x), session=fg.Session(), feeds=X), "diagnose: feeds are a dict from tensors to values, got ndarray"),
        (lambda x: fg.diagnose(fg.sum(x), session=fg.Session(), feeds={x: X.T}), "x is fed shape (20, 64), but it is (batch, 20)"),
        (lambda x: fg.diagnose(fg.sum(x), [x], fg.Session(), {}), "placeholder x (batch, 20) float32 is not fed"),
    ],
)
def test_a_slip_is_told_with_the_line(x, make, said, refused):
    error = refused(make, x)
    assert error.message.startswith(said)
