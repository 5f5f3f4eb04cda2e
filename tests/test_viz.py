"""What a drawing says: boxes, scopes, edges and notes; what is tried where Graphviz fails; the layout of our own."""

import itertools
import os
import re
import stat
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.cli import main
from flowgraph.graph import OPS, Spec
from flowgraph.graph.context import current
from flowgraph.graph.subgraph import trace
from flowgraph.viz import dot, layers, paper, style, ways
from flowgraph.viz import svg as svg_of
from flowgraph.viz.folding import RUNS
from flowgraph.viz.graph_picture import GraphPicture
from flowgraph.viz.picture import BOXES, GRADIENT, TITLE, UPDATE
from flowgraph.viz.places import DEEPEST
from flowgraph.viz.plan_picture import PlanPicture

SVG = "{http://www.w3.org/2000/svg}"


def network(layers=3, *, train=True):
    """Dense layers in scopes of their own, a loss, and one step of SGD with momentum."""
    with fg.Graph() as graph:
        h = x = fg.placeholder("x", ("batch", 16))
        for i in range(layers):
            h = fg.nn.relu(fg.nn.Linear(16, 16, name=f"dense{i}")(h))
        with fg.scope("loss"):
            loss = fg.mean(h)
        if train:
            fg.optim.SGD(0.1, momentum=0.9).minimize(loss)
    assert x.graph is graph
    return graph


def chain(length, op=fg.exp):
    with fg.Graph() as graph:
        h = fg.placeholder("x", (4,))
        for _ in range(length):
            h = op(h)
    return graph


def picture(graph, depth=None, **options):
    return GraphPicture(graph.nodes, depth, **options)


def titles(picture, home=None):
    return [box.title for box in picture.boxes.values() if home is None or box.home == home]


def edges(picture, kind):
    boxes = picture.boxes
    return [(boxes[edge.start].title, boxes[edge.end].title) for edge in picture.edges if edge.kind == kind]


# --- what is drawn


def test_a_scope_deeper_than_the_depth_is_one_box_that_counts_its_nodes():
    drawn = picture(network(train=False), 0)
    dense = next(box for box in drawn.boxes.values() if box.title == "dense0")
    assert (dense.detail, dense.members) == ("4 nodes", 4)
    assert "2 variable, 1 matmul, 1 add" in dense.tooltip
    assert titles(picture(network(train=False), 1), ("dense0",)) == ["w", "b", "matmul", "add"]


def test_a_gradient_stands_beside_the_node_that_it_is_the_gradient_of():
    drawn = picture(network(), 2)
    assert "matmul" in titles(drawn, ("dense1", GRADIENT))
    assert not any(part.startswith("gradients") for box in drawn.boxes.values() for part in box.home)


def test_the_nodes_that_update_a_variable_stand_beside_it():
    drawn = picture(network(), 9)
    inside = titles(drawn, ("dense1", UPDATE, "w"))
    assert "velocity" in inside
    assert "assign" in inside
    assert titles(picture(network(), 1), ("dense1",)) == ["w", "b", "matmul", "add", "gradient", "update", "train/update"]


def test_kinds_tell_forward_gradient_and_update_nodes_apart():
    drawn = picture(network(), 9)
    kinds = {(box.home, box.title): box.kind for box in drawn.boxes.values()}
    assert kinds[("dense0",), "matmul"] == "forward"
    assert kinds[("dense0", GRADIENT), "matmul"] == "gradient"
    assert kinds[("dense0", UPDATE, "w"), "assign"] == "update"
    assert kinds[("dense0",), "w"] == "variable"
    assert kinds[(), "x"] == "placeholder"


def test_a_user_s_own_scope_called_gradient_is_not_mixed_up_with_the_gradients():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ())
        with fg.scope("a"), fg.scope("gradient"):
            y = fg.exp(x)
        with fg.scope("a"):
            z = fg.sin(y)
        fg.gradients(z, x)
    homes = {box.home for box in picture(graph, 9).boxes.values()}
    assert {("a", "gradient"), ("a", GRADIENT)} <= homes


def test_a_number_is_written_into_the_nodes_that_read_it():
    with fg.Graph() as graph:
        fg.placeholder("x", (3,)) * 0.5
    assert titles(picture(graph)) == ["x", "multiply 0.5"]


def test_a_number_that_nothing_reads_and_a_constant_with_a_name_have_a_box():
    with fg.Graph() as graph:
        fg.constant(2.0)
        fg.placeholder("x", ()) + fg.constant(3.0, name="three")
    assert titles(picture(graph)) == ["constant", "x", "three", "add"]


def test_edges_show_shapes_once_and_a_dtype_where_it_is_not_the_common_one():
    with fg.Graph() as graph:
        y = fg.exp(fg.placeholder("x", ("batch", 3)))
        fg.sin(y) + fg.cos(y)
        fg.astype(fg.astype(y, "int32"), "float32")
    drawn = picture(graph)
    assert drawn.dtype == "float32"
    labels = [edge.label for edge in drawn.edges]
    assert labels.count("(batch, 3)") == 3
    assert labels.count("(batch, 3) int32") == 1
    assert "without a dtype: float32" in dot.source(drawn)


def test_a_big_picture_has_no_labels_on_its_edges():
    assert any(edge.label for edge in picture(chain(20)).edges)
    assert not any(edge.label for edge in picture(chain(200)).edges)


def test_tooltips_say_shape_dtype_bytes_and_the_line_that_made_it():
    with fg.Graph() as graph:
        y = fg.exp(fg.placeholder("x", (2, 3)))
    text = str(fg.draw(y, format="dot"))
    assert r"exp\nexp -> (2, 3) float32, 24 B\ntest_viz.py:" in text
    assert 'y = fg.exp(fg.placeholder(\\"x\\", (2, 3)))' in text
    assert 'tooltip="x: (2, 3) float32"' in text
    assert graph is y.graph


def test_what_every_layer_reads_is_a_tag_in_each_and_no_long_edge():
    with fg.Graph() as graph:
        fg.placeholder("x", (16, 16))
    graph = network(4)
    drawn = picture(graph, 1)
    tags = [box for box in drawn.boxes.values() if box.kind == "tag"]
    assert [tag.home for tag in tags] == [(f"dense{i}",) for i in range(4)]
    assert {tag.title for tag in tags} == {"train/update"}
    assert edges(drawn, "control").count(("update", "train/update")) == 4


def test_many_that_run_before_one_are_words_in_it_and_no_edges():
    drawn = picture(network(12), 0)
    train = next(box for box in drawn.boxes.values() if box.title == "train")
    assert train.detail == "1 node, after 12 others"
    assert "after 12 others: dense0, dense1" in train.tooltip
    assert not edges(drawn, "control")


def test_only_what_the_tensors_depend_on_is_drawn():
    with fg.Graph():
        x = fg.placeholder("x", ())
        y = fg.exp(x)
        fg.sin(x)
    assert "sin" not in str(fg.draw(y, format="dot"))
    assert "sin" not in str(fg.draw([y, x.node], format="dot"))


# --- folding


@pytest.mark.parametrize("count", [BOXES - 1, BOXES + 1, 3_000, 20_000])
def test_a_drawing_without_a_depth_has_no_more_boxes_than_a_page_shows(count):
    drawn = picture(chain(count))
    assert len(drawn.boxes) <= BOXES
    assert sum(box.members for box in drawn.boxes.values()) == count + 1


def test_scopes_are_opened_as_deep_as_the_page_allows():
    graph = network(10)
    assert [picture(graph, most=most).depth for most in (300, 150, 100, 40)] == [3, 2, 1, 0]


def test_where_scopes_are_missing_nodes_made_one_after_another_are_one_box():
    drawn = picture(chain(5_999))
    assert len(drawn.boxes) == RUNS
    assert titles(drawn)[0] == "x … exp_98"
    assert drawn.notes == ["6000 of 6000 nodes are folded into 60 boxes"]
    assert len(drawn.edges) == RUNS - 1


def test_a_fold_where_all_depends_on_all_keeps_the_edges_that_imply_the_others():
    random = np.random.default_rng(0)
    with fg.Graph() as graph:
        tensors = [fg.placeholder("x", (4,))]
        for _ in range(3_000):
            tensors.append(tensors[random.integers(len(tensors))] + tensors[random.integers(len(tensors))])
    drawn = picture(graph)
    assert len(drawn.edges) < 3 * len(drawn.boxes)
    assert "edges that longer ways imply are left out" in drawn.notes[1]


def test_a_depth_that_is_asked_for_is_kept_whatever_its_size():
    assert len(picture(chain(1_000), 0, most=None).boxes) == 1_001


# --- DOT


def test_scopes_are_clusters_within_clusters():
    text = str(fg.draw(network(2), format="dot", depth=9))
    scopes = {box.home[:i] for box in picture(network(2), 9).boxes.values() for i in range(1, len(box.home) + 1)}
    assert len(re.findall(r"subgraph cluster_\d+ \{", text)) == len(scopes)
    body = text[text.index('label="dense0"') :]
    nested = body[: body.index("\n  }")]  # a cluster of the top ends at two blanks
    assert [word for word in ("gradient", "update", "w", "b") if f'label="{word}", tooltip=" "' in nested] == [
        "gradient",
        "update",
        "w",
        "b",
    ]
    assert 'label="dense1"' not in nested


def test_gradient_edges_are_given_upside_down_and_control_edges_are_dashed():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ())
        y = fg.sin(fg.exp(x))
        fg.gradients(y, x)
        with fg.control_dependencies([y]):
            fg.cos(x)
    text = str(fg.draw(graph, format="dot"))
    drawn = picture(graph)
    for edge in drawn.edges:
        if edge.kind == "gradient":
            assert re.search(rf"{edge.end} -> {edge.start} \[.*dir=back", text)
        if edge.kind == "control":
            assert re.search(rf"{edge.start} -> {edge.end} \[.*style=dashed", text)
    assert {"gradient", "control", "reads", "data"} <= {edge.kind for edge in drawn.edges}


def test_the_legend_names_the_kinds_that_the_picture_has():
    assert "update" not in str(fg.draw(network(train=False), format="dot"))
    legend = str(fg.draw(network(), format="dot")).splitlines()[1]
    assert all(word in legend for word in ("forward", "gradient", "update"))


ODD = ['say "hi"', "a\\nb", "<b> & </b>", "\\N \\G", "тензор 张量", "tab\there", "null\0byte", "]; } digraph", "x" * 300]


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("way", ["dot", "own"])
def test_odd_names_are_drawn_as_they_are(name, way, monkeypatch):
    with fg.Graph() as graph:
        h = fg.exp(fg.constant(np.ones(3), name=name), name=name)
        with fg.scope(name):
            fg.sin(h)
    if way == "own":
        monkeypatch.setattr(dot, "program", lambda: None)
    elif dot.program() is None:
        pytest.skip("no dot program is installed")
    svg = str(fg.draw(graph))
    assert ("drawn without Graphviz" in svg) == (way == "own")
    words = "".join(ElementTree.fromstring(svg).itertext()).replace("\xa0", " ")
    shown = name.replace("\0", "�").replace("\t", " ")
    assert (shown if len(shown) <= TITLE else f"{shown[: TITLE - 1]}…") in words.replace("\t", " ")


@pytest.mark.parametrize("way", ["dot", "own"])
def test_an_empty_graph_and_very_deep_scopes_are_drawn(way, monkeypatch):
    if way == "own":
        monkeypatch.setattr(dot, "program", lambda: None)
    ElementTree.fromstring(str(fg.draw(fg.Graph())))
    with fg.Graph() as graph, fg.scope("/".join(["deep"] * 900)):
        fg.placeholder("x", ())
    assert "float32" in str(fg.draw(graph, depth=900))
    assert max(len(box.home) for box in picture(graph, 900).boxes.values()) == DEEPEST


# --- values on edges


def toy():
    with fg.Graph():
        x, y, z = (fg.placeholder(name, ()) for name in "xyz")
        q = fg.add(x, y, name="q")
        return [x, y, z, q, fg.multiply(q, z, name="f")]


def test_values_and_gradients_stand_on_the_edges_in_their_colours():
    tensors = toy()
    text = str(fg.draw(tensors[-1], format="dot", values=dict(zip(tensors, [-2, 5, -4, 3, -12])), gradients={tensors[3]: -4}))
    numbers = dict(re.findall(rf"(n\d+) -> \w+ \[.*?{style.VALUE}\"> (-?\d+) ", text))
    assert numbers == {f"n{tensor.node.id}": str(value) for tensor, value in zip(tensors, [-2, 5, -4, 3, -12])}
    assert re.search(rf"n3 -> n4 .*{style.SLOPE}\"> -4 ", text)


def test_arrays_as_values_are_shortened():
    x, *_, f = toy()
    text = str(fg.draw(f, format="dot", values={x: np.array([1.5, 2]), f: np.arange(100.0)}))
    assert all(f">{number}</FONT></TD>" in text for number in ("1.5", "2"))  # a table
    assert "(100,) of 0 … 99" in text


def test_drawing_builds_no_nodes():
    tensors = toy()
    graph = tensors[0].graph
    count = len(graph)
    fg.draw(tensors, values=dict.fromkeys(tensors, 1.0))
    assert len(graph) == count


# --- programs


def installed(name):
    """The command of one of the two programs, wherever it is."""
    import shutil

    for folder in (None, os.path.dirname(sys.executable)):
        if found := shutil.which(name, path=folder):
            return [found] if name == "dot" else [found, "-Kdot"]
    return pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("name", ["graphviz-pure", "dot"])
@pytest.mark.parametrize("depth", [1, 9])
def test_each_program_draws_the_network(name, depth, monkeypatch, tmp_path):
    command = installed(name)
    monkeypatch.setattr(dot, "program", lambda: command)
    monkeypatch.setattr(ways, "fits", lambda width, height: True)
    svg = str(fg.draw(network(), depth=depth))
    assert "drawn" not in "".join(ElementTree.fromstring(svg).itertext())
    assert len(re.findall(r'<g id="\w+" class="node">', svg)) == len(picture(network(), depth).boxes)
    file = fg.draw(network(), tmp_path / "graph.png", depth=depth)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_the_system_s_dot_writes_pdf(monkeypatch, tmp_path):
    command = installed("dot")
    monkeypatch.setattr(dot, "program", lambda: command)
    assert fg.draw(network(), tmp_path / "graph.pdf").read_bytes().startswith(b"%PDF")


def test_without_what_writes_a_pdf_the_error_says_what_to_do(monkeypatch, tmp_path, text_of):
    monkeypatch.setattr(paper, "is_available", lambda: False)
    monkeypatch.setattr(dot, "program", lambda: ["graphviz-pure", "-Kdot"])
    with pytest.raises(fg.DrawingError) as caught:
        fg.draw(network(), tmp_path / "graph.pdf")
    assert text_of(caught.value) == (
        "draw: graphviz-pure (of the package graphviz-pure) cannot write pdf\n"
        '  at     test_viz.py:LINE    fg.draw(network(), tmp_path / "graph.pdf")\n'
        '  help   pip install "flowgraph[plot]", or install Graphviz for pdf: apt install graphviz; .svg, .html and .png work without it'
    )
    assert not (tmp_path / "graph.pdf").exists()


def fake(folder, body):
    """A program called ``dot`` in ``folder``, which is all that is on the path."""
    program = folder / "dot"
    program.write_text(f"#!{sys.executable}\nimport os, sys, time\ntext = sys.stdin.read()\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


FAILURES = {
    "fails": ("sys.exit('trouble in init_rank')", "failed with status 1: trouble in init_rank"),
    "prints nothing": ("", "wrote no svg"),
    "complains": (
        "os.write(1, b'<?xml ?>' if '-Tsvg' in sys.argv else b'\\x89PNG'); sys.stderr.write('Error: lost edge')",
        "complained: Error: lost edge",
    ),
    "hangs": ("time.sleep(60)", "took longer than"),
    "leaves a child that hangs": ("os.fork()\ntime.sleep(60)", "took longer than"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_where_dot_does_not_draw_our_own_layout_does_and_says_so(failure, tmp_path, monkeypatch):
    body, reason = FAILURES[failure]
    fake(tmp_path, body)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ways, "SECONDS", 0.3 if "hangs" in failure else 20.0)
    words = "".join(ElementTree.fromstring(str(fg.draw(network()))).itertext())
    assert f"drawn without Graphviz, as dot {reason}" in words
    assert "dense0" in words


@pytest.mark.parametrize("failure", FAILURES)
def test_a_png_that_nothing_draws_is_an_error_with_the_reason(failure, tmp_path, monkeypatch):
    body, reason = FAILURES[failure]
    program = fake(tmp_path, body)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ways, "SECONDS", 0.3 if "hangs" in failure else 20.0)
    monkeypatch.setattr(paper, "is_available", lambda: False)
    with pytest.raises(fg.DrawingError, match=re.escape(f"{program} {reason.replace('svg', 'png')}")) as caught:
        fg.draw(network(), tmp_path / "graph.png")
    assert caught.value.help == 'draw less: depth=1; or pip install "flowgraph[plot]", which draws without dot; .svg and .html need nothing'


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_png_and_pdf_are_drawn_by_our_own_layout_where_dot_does_not(kind, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    fake(tmp_path, "sys.exit('trouble in init_rank')")
    monkeypatch.setenv("PATH", str(tmp_path))
    written = []
    monkeypatch.setattr(paper, "_text", lambda axes, x, y, text, *rest, **options: written.append(text))
    file = fg.draw(network(), tmp_path / f"graph.{kind}", depth=1, heat={network().nodes[0]: 1.0}, notes={network().nodes[0]: "x"})
    assert file.read_bytes().startswith({"png": b"\x89PNG", "pdf": b"%PDF"}[kind])
    assert {"dense0", "gradient", "matmul"} <= set(written)
    assert "drawn without Graphviz, as dot failed with status 1: trouble in init_rank" in written


def test_where_dot_fails_it_is_asked_again_without_labels_and_then_with_less(tmp_path, monkeypatch):
    log = tmp_path / "log"
    log_line = "' (batch, 16)\"' in text, text.count('cluster_'), text.count('drawn simpler')"
    fake(tmp_path, f"print({log_line}, file=open({str(log)!r}, 'a'))\nsys.exit(1)")
    monkeypatch.setenv("PATH", str(tmp_path))
    fg.draw(network(), depth=1)
    assert log.read_text().splitlines() == ["True 5 0", "False 5 1", "False 0 1"]


def test_the_system_s_dot_comes_first_and_then_the_one_beside_python(tmp_path, monkeypatch):
    program = fake(tmp_path, "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert dot.program() == [str(program)]
    program.unlink()
    beside = tmp_path / "graphviz-pure"
    beside.write_text("#!/bin/sh\n")
    beside.chmod(0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert dot.program() == [str(beside), "-Kdot"]
    beside.unlink()
    assert dot.program() is None


def test_a_notebook_shows_a_graph_and_a_tensor_without_any_program(monkeypatch):
    monkeypatch.setattr(dot, "program", lambda: None)
    graph = network()
    for shown in (graph._repr_svg_(), graph["loss/mean"]._repr_svg_()):
        assert ElementTree.fromstring(shown).tag == f"{SVG}svg"
        assert "as dot is not there" in shown


def test_what_dot_draws_too_high_for_a_page_is_drawn_in_columns(tmp_path, monkeypatch):
    tall = '<?xml version="1.0"?><svg width="300pt" height="4000pt" viewBox="0 0 300 4000" xmlns="http://www.w3.org/2000/svg"></svg>'
    fake(tmp_path, f"sys.stdout.write({tall!r})")
    monkeypatch.setenv("PATH", str(tmp_path))
    svg = str(fg.draw(chain(200)))
    size = [float(ElementTree.fromstring(svg).get(side, "0")) for side in ("width", "height")]
    assert ways.fits(*size)
    assert "drawn without" not in svg
    assert ways.size_of(tall.encode(), "svg") == (400.0, 4000 / 0.75)


def test_what_is_too_wide_for_a_page_is_folded_a_level_more_unless_a_depth_was_asked_for(tmp_path, monkeypatch):
    xml = '<?xml version="1.0"?><svg width="%dpt" height="90pt" xmlns="http://www.w3.org/2000/svg"></svg>'
    fake(tmp_path, f"sys.stdout.write({xml!r} % (text.count('cluster_') * 300))")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ways, "fits", lambda width, height: width == 10 * 400)  # ten scopes are open
    graph = network(8)
    clusters = {depth: str(fg.draw(graph, format="dot", depth=depth)).count("cluster_") for depth in (1, 3)}
    assert ElementTree.fromstring(str(fg.draw(graph))).get("width") == f"{clusters[1] * 300}pt"
    assert ElementTree.fromstring(str(fg.draw(graph, depth=3))).get("width") == f"{clusters[3] * 300}pt"


# --- the layout of our own


def random_graph(count, seed=0):
    random = np.random.default_rng(seed)
    with fg.Graph() as graph:
        tensors = [fg.placeholder("x", (4,))]
        for _ in range(count):
            scopes = [fg.scope(str(part)) for part in random.integers(3, size=random.integers(3))]
            for scope in scopes:
                scope.__enter__()
            tensors.append(tensors[random.integers(len(tensors))] * tensors[-1 - random.integers(min(5, len(tensors)))])
            for scope in reversed(scopes):
                scope.__exit__(None, None, None)
    return graph


def unconnected():
    with fg.Graph() as graph:
        for i in range(40):
            fg.placeholder(f"x{i}", ())
    return graph


GRAPHS = {
    "network": lambda: network(4),
    "chain": lambda: chain(400),
    "random": lambda: random_graph(400),
    "no edges": unconnected,
}


def apart(a, b):
    return a.x + a.width <= b.x + 1e-6 or b.x + b.width <= a.x + 1e-6 or a.y + a.height <= b.y + 1e-6 or b.y + b.height <= a.y + 1e-6


def within(a, b):
    return b.x - 1e-6 <= a.x and a.x + a.width <= b.x + b.width + 1e-6 and b.y - 1e-6 <= a.y and a.y + a.height <= b.y + b.height + 1e-6


@pytest.mark.parametrize("name", GRAPHS)
def test_no_two_boxes_overlap_and_each_is_in_its_scope(name):
    drawn = picture(GRAPHS[name](), 9, most=None)
    placed = layers.layout(drawn)
    assert all(apart(a, b) for a, b in itertools.combinations(placed.boxes.values(), 2))
    homes = {box.home[:i] for box in drawn.boxes.values() for i in range(1, len(box.home) + 1)}
    assert len(placed.scopes) == len(homes)
    for scope in placed.scopes:
        for part in scope.parts:
            assert within(part, scope)
    whole = layers.Part("", placed.width, placed.height, placed.left)
    assert all(within(part, whole) for part in placed.boxes.values())


@pytest.mark.parametrize("name", GRAPHS)
def test_every_box_and_every_edge_is_in_the_svg(name):
    drawn = picture(GRAPHS[name](), 9, most=None)
    svg = ElementTree.fromstring(svg_of.source(drawn))
    paths = [path for path in svg.iter(f"{SVG}path") if path.get("class", "").startswith("e-")]
    assert len(paths) == len(drawn.edges)
    tooltips = [title.text or "" for group in svg.iter(f"{SVG}g") for title in group.iter(f"{SVG}title")]
    assert sorted(tooltips) == sorted(box.tooltip for box in drawn.boxes.values() if box.kind not in ("tag", "end"))


def test_an_edge_ends_at_its_two_boxes():
    drawn = picture(network(3), 9, most=None)
    placed = layers.layout(drawn)
    for edge, way in zip(drawn.edges, placed.curves, strict=True):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", svg_of._path(edge, way, False).split('d="')[1].split('"')[0])]
        for key, (x, y) in ((edge.start, numbers[:2]), (edge.end, numbers[-2:])):
            part = placed.boxes[key]
            assert part.x - 1 <= x <= part.x + part.width + 1
            assert part.y - 1 <= y <= part.y + part.height + 1


def test_what_is_read_stands_below_what_reads_it_and_a_gradient_beside_it():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ())
        y = fg.sin(fg.exp(x))
        fg.gradients(y, x)
    drawn = picture(graph)
    placed = layers.layout(drawn).boxes
    for edge in drawn.edges:
        if edge.kind == "data":
            assert placed[edge.start].y > placed[edge.end].y
        if edge.kind == "gradient":
            assert placed[edge.start].y < placed[edge.end].y


def test_the_size_of_the_svg_grows_with_the_graph_and_no_faster():
    sizes = {count: len(svg_of.source(picture(chain(count), 9, most=None))) for count in (6_000, 12_000)}
    assert sizes[12_000] < 2.2 * sizes[6_000]


def test_a_long_chain_is_broken_into_columns():
    placed = layers.layout(picture(chain(5_000), 9, most=None))
    assert 0.5 < placed.width / placed.height < 2


# --- errors


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((42,), {}, "draw: what to draw is a graph, a tensor, a node, a list of tensors and nodes, or a plan, got 42"),
        (([],), {}, "draw: what to draw is a graph, a tensor, a node, a list of tensors and nodes, or a plan, got []"),
        ((None, "graph.gif"), {}, "draw: the format is one of svg, png, pdf, dot, html, got 'gif'"),
        ((None, "graph"), {}, "draw: the format is one of svg, png, pdf, dot, html, and 'graph' has no ending"),
        ((None,), {"depth": -1}, "draw: depth is a whole number from 0 on, or None, got -1"),
        ((None,), {"values": {"x": 1.0}}, "draw: values are numbers by tensor, got 'x' as a key"),
    ],
)
def test_what_cannot_be_drawn_is_said(arguments, options, said):
    graph = chain(1)
    with pytest.raises(fg.ArgumentError) as caught:
        fg.draw(*(graph if argument is None else argument for argument in arguments), **options)
    assert caught.value.message == said


def test_tensors_of_two_graphs_are_not_drawn_together():
    with pytest.raises(fg.ArgumentError, match="belong to two graphs"):
        fg.draw([toy()[0], toy()[0]])


def test_png_and_pdf_without_a_program_say_what_to_install(monkeypatch, tmp_path, text_of):
    monkeypatch.setattr(dot, "program", lambda: None)
    monkeypatch.setattr(paper, "is_available", lambda: False)
    with pytest.raises(fg.DrawingError) as caught:
        fg.draw(chain(1), tmp_path / "graph.png")
    assert text_of(caught.value) == (
        "draw: no dot program was found, and a png needs one, or matplotlib\n"
        '  at     test_viz.py:LINE    fg.draw(chain(1), tmp_path / "graph.png")\n'
        '  help   pip install "flowgraph[dot]" or "flowgraph[plot]", or install Graphviz; .svg, .html and .dot need none'
    )
    assert Path(fg.draw(chain(1), tmp_path / "graph.svg")).exists()


# --- sub-graphs


def test_a_sub_graph_is_a_scope_of_its_node_and_captures_lead_into_it():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,))
        with fg.scope("outer"):
            body, _ = trace(lambda h: h * x, [x], "loop", ["h"])
            graph.append(OPS["identity"], (x,), {"body": body}, Spec((3,), x.dtype), current(), "loop", x.node._code, x.node._offset)
    drawn = picture(graph, 9)
    home = ("outer", "loop", "body")
    assert titles(drawn, home) == ["h", "x", "multiply"]
    assert titles(drawn, home[:2]) == ["loop"]
    assert ("x", "x") in edges(drawn, "data")
    assert ("multiply", "loop") in edges(drawn, "data")
    assert len({box.key for box in drawn.boxes.values()}) == len(drawn.boxes)
    folded = next(box for box in picture(graph, 1).boxes.values() if box.members > 1)
    assert (folded.title, folded.members) == ("loop", 4)


def test_the_gradient_of_a_loop_stands_beside_the_loop_and_is_a_gradient_inside():
    with fg.Graph() as graph:
        w = fg.variable(np.eye(3, dtype=np.float32), name="w")
        with fg.scope("net"):
            last, _ = fg.scan(lambda h, x: (fg.tanh(h @ w + x), None), fg.constant(np.zeros(3, np.float32)), fg.placeholder("xs", (10, 3)))
        fg.gradients(fg.sum(last), w)
    drawn = picture(graph, 9)
    inside = [box for box in drawn.boxes.values() if box.home[-1:] == ("body",)]
    assert {box.home[:2] for box in inside} == {("net", "scan"), ("net", GRADIENT)}
    assert {box.kind for box in inside if box.home[:2] == ("net", GRADIENT)} <= {"gradient", "placeholder", "constant"}
    assert {box.kind for box in inside if box.home[:2] == ("net", "scan")} == {"forward", "placeholder"}
    assert "turn" not in titles(drawn)


# --- plans


def plan(rows=8192, jit=False):
    """A product that is cut into eight slices of rows, each with relu and its part of the sum, and what adds the parts up."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 256))
        w = fg.variable(np.ones((256, 256), np.float32), name="w")
        y = fg.sum(fg.nn.relu(x @ w))
        update = fg.assign(w, w * y)
    with fg.Session(graph, threads=1, jit=jit) as session:
        return session.plan([y, update], {x: (rows, 256)})


def test_a_plan_is_drawn_as_tasks_with_their_kernels():
    drawn = PlanPicture(plan())
    tasks = plan().tasks
    assert sum(box.home != () for box in drawn.boxes.values()) == len(plan().units)
    assert {box.home[0].split(",")[0] for box in drawn.boxes.values() if box.home} == {f"task {task.index}" for task in tasks}
    first = [box for box in drawn.boxes.values() if box.home and box.home[0].startswith("task 0,")]
    assert [(box.title, box.detail) for box in first] == [(name, "rows 0:1024") for name in ("matmul", "relu", "sum")]
    ways = {(edge.start, edge.end) for edge in drawn.edges}
    keys = [box.key for box in first]
    assert {("f0", keys[0]), ("v0", keys[0]), (keys[0], keys[1]), (keys[1], keys[2])} <= ways
    assert not any(a in keys and b in keys for a, b in ways - {(keys[0], keys[1]), (keys[1], keys[2])})


def test_a_compiled_loop_is_named_after_the_ops_in_it():
    pytest.importorskip("llvmlite")
    drawn = PlanPicture(plan(jit=True))
    first = [box.title for box in drawn.boxes.values() if box.home and box.home[0].startswith("task 0,")]
    assert first == ["matmul", "relu_sum"]


def test_a_plan_says_what_is_fed_fetched_and_written():
    drawn = PlanPicture(plan())
    assert titles(drawn, ())[:2] == ["x", "w"]
    assert titles(drawn, ())[2:] == ["fetched", "w is written"]
    (end,) = [edge.start for edge in drawn.edges if drawn.boxes[edge.end].title == "fetched"]
    assert drawn.boxes[end].title == "sum"


def test_a_plan_of_depth_0_has_a_box_for_each_task():
    drawn = PlanPicture(plan(), 0)
    details = [box.detail.rpartition(",")[0] for box in drawn.boxes.values() if box.title.startswith("task ")]
    assert len(details) == len(plan().tasks)
    assert details.count("3 kernels") == 8  # matmul, relu and sum of a slice
    assert "sum" in details[8]
    assert drawn.notes == [f"{len(plan().units)} kernels in {len(plan().tasks)} tasks; depth=1 shows the kernels"]
    few = PlanPicture(plan(), most=5)
    assert len(few.boxes) <= 5 + 4
    assert "matmul" in plan()._repr_svg_()


def test_a_task_with_more_kernels_than_a_page_shows_has_boxes_for_runs_of_them():
    graph = chain(2_000)
    with fg.Session(graph, threads=1, jit=False) as session:
        drawn = PlanPicture(session.plan(graph.nodes[-1].outputs, {graph.placeholders[0]: (4,)}))
    assert len(drawn.boxes) <= BOXES
    assert sum(box.members for box in drawn.boxes.values() if box.home) == 2_000
    assert titles(drawn)[1] == "exp … exp"


# --- the command line


TOY = """
import flowgraph as fg
with fg.Graph() as small:
    fg.placeholder("x", ())
with fg.Graph() as graph:
    y = fg.sin(fg.exp(fg.placeholder("x", ())))
def build():
    return fg.cos(fg.placeholder("z", ()))
def plain():
    fg.tanh(fg.placeholder("z", ()))
if __name__ == "__main__":
    raise SystemExit("this is not run")
"""


def command(*arguments, capsys=None):
    status = main(["draw", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out.strip(), err.strip()


@pytest.fixture
def toy_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.py").write_text(TOY)
    return tmp_path / "toy.py"


@pytest.mark.parametrize(
    ("arguments", "there", "absent"),
    [
        (["toy.py"], "sin", "cos"),
        (["toy.py:small"], "float32", "exp"),
        (["toy.py:build"], "cos", "sin"),
        (["toy.py:plain"], "tanh", "sin"),
        (["toy.py", "--only", "exp"], "exp", "sin"),
    ],
    ids=str,
)
def test_draw_takes_a_python_file_and_a_name_in_it(toy_file, capsys, arguments, there, absent):
    assert command(*arguments, "-o", "out.dot", capsys=capsys) == (0, "out.dot", "")
    text = Path("out.dot").read_text()
    assert there in text
    assert f"label=<{absent}>" not in text


def test_a_page_with_the_passes_a_plan_and_a_difference_are_drawn_from_the_command_line(toy_file, capsys):
    Path("net.py").write_text(
        "import flowgraph as fg\nwith fg.Graph() as graph:\n    x = fg.placeholder('x', ('n', 4))\n    y = fg.exp(x * 1.0)\n"
    )
    assert command("net.py", "--passes", "--feed", "x=3,4", "-o", "net.html", "--mark", "exp", capsys=capsys) == (0, "net.html", "")
    assert all(name in Path("net.html").read_text() for name in ('"algebra"', '"tasks"', "is x"))
    assert command("net.py:y", "--plan", "--feed", "x=3,4", "-o", "plan.dot", capsys=capsys)[0] == 0
    assert "task 0" in Path("plan.dot").read_text()
    assert command("net.py", "--against", "toy.py", "-o", "change.dot", capsys=capsys)[0] == 0
    assert "removed" in Path("change.dot").read_text()
    assert command("net.py", "--devices", "-o", "net.dot", capsys=capsys)[0] == 0


def test_the_heat_of_a_file_is_what_its_runs_took(toy_file, capsys):
    run = "with fg.Session(graph, threads=1) as session:\n        session.run(y, {graph.placeholders[0]: 1.0})\n"
    build = "import flowgraph as fg\nwith fg.Graph() as graph:\n    y = fg.exp(fg.placeholder('x', ()))\n"
    Path("ran.py").write_text(f"{build}if __name__ == '__main__':\n    {run}")
    assert command("ran.py", "--heat", "memory", "-o", "ran.dot", "--mark", "exp", capsys=capsys) == (0, "ran.dot", "")
    assert "memory made" in Path("ran.dot").read_text()
    Path("idle.py").write_text("x = 1\n")
    status, _, err = command("idle.py", "--heat", "time", capsys=capsys)
    assert (status, err) == (1, "ArgumentError: draw: idle.py ran nothing in a session, so that there is no time to show")


def test_draw_takes_a_graph_file(toy_file, capsys):
    fg.io.save_graph(network(2), "net.graph")
    assert command("net.graph", "--depth", "1", "-o", "net.dot", capsys=capsys)[0] == 0
    assert Path("net.dot").read_text() == str(fg.draw(fg.io.load_graph("net.graph"), format="dot", depth=1))
    assert command("net.graph", "--only", "loss/mean", capsys=capsys)[1] == "net.svg"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["toy.py", "-o", "toy.gif"], "ArgumentError: draw: toy.gif must end in one of svg, png, pdf, dot, html"),
        (["toy.py", "--plan", "--feed", "x"], "ArgumentError: --feed is NAME=SIZES, got 'x'\n  help   --feed x=128,784"),
        (["sized.py", "--plan"], "ArgumentError: the sizes of placeholder x (n, 4) are not known\n  help   --feed x=128,4"),
        (["toy.py", "--mark", "expp"], "UnknownNameError: no node is called 'expp'"),
        (["toy.py:missing"], "ArgumentError: toy.py has no name 'missing'\n  help   it has small, graph, y"),
        (["toy.py:fg"], "ArgumentError: toy.py:fg is no graph, tensor or function that gives one, but <module"),
        (["toy.py", "--only", "expp"], "UnknownNameError: no node is called 'expp'\n  help   near: exp"),
        (["none.py"], "FileNotFoundError: [Errno 2] No such file or directory: 'none.py'"),
        (["none.py:x"], "FileNotFoundError: [Errno 2] No such file or directory: 'none.py'"),
        (["empty.py"], "ArgumentError: empty.py has no graph among its names\n  help   give it one at the top"),
        (["net.graph:graph"], "ArgumentError: net.graph is a graph file, which has no names of Python"),
    ],
    ids=str,
)
def test_what_draw_cannot_do_is_said_in_one_piece(toy_file, capsys, arguments, said):
    Path("empty.py").write_text("x = 1\n")
    Path("sized.py").write_text("import flowgraph as fg\nwith fg.Graph() as graph:\n    y = fg.exp(fg.placeholder('x', ('n', 4)))\n")
    fg.io.save_graph(chain(1), "net.graph")
    status, out, err = command(*arguments, capsys=capsys)
    assert (status, out) == (1, "")
    assert err.startswith(said)


def test_an_edge_into_a_loop_of_a_plan_names_what_the_loop_is_given():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,), "float64")
        start, rows = fg.exp(x), fg.sin(x)
        end, _ = fg.scan(lambda carry, row: (carry * row, carry), start, fg.stack([rows, rows]))
    with fg.Session(graph, threads=1, jit=False) as session:
        drawn = PlanPicture(session.plan(end, {x: (3,)}))
    keys = {box.title: key for key, box in reversed(drawn.boxes.items())}  # what hands out the loop's results stands behind it
    tensors = {(edge.start, edge.end): list(edge.tensors) for edge in drawn.edges}
    assert tensors[keys["exp"], keys["scan"]] == [start]
    assert [named for (begin, _), named in tensors.items() if begin == keys["scan"] and named] == []


# --- in hand


def test_a_drawing_shows_itself_in_a_notebook_and_is_saved_in_any_format(tmp_path):
    graph = network()
    drawing = fg.draw(graph)
    assert drawing._repr_svg_() == str(drawing) and drawing._repr_html_() is None and drawing._repr_png_() is None
    assert drawing.save(tmp_path / "graph.svg").read_bytes() == drawing.data
    assert drawing.save(tmp_path / "graph.dot").read_text() == str(fg.draw(graph, format="dot"))
    assert "<title>graph" in drawing.save(tmp_path / "graph.html").read_text()
    page = fg.draw(graph, format="html")
    assert page._repr_svg_() is None and page._repr_html_().startswith("<iframe srcdoc=")
    with pytest.raises(fg.ArgumentError, match="the format is one of svg, png, pdf, dot, html, got 'gif'"):
        drawing.save(tmp_path / "graph.gif")
    with pytest.raises(fg.ArgumentError, match="the path of a file is expected, got None"):
        drawing.save(None)
    assert re.fullmatch(r"<Drawing: svg, [\d.]+ kB>", repr(drawing))
