"""Graphs in files: what is saved comes back the same, and what is damaged or hostile is named and never runs."""

import copy
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowgraph as fg
from flowgraph.graph import OPS, SubGraph
from flowgraph.io.attributes import BadAttribute, read_attribute, write_attribute

HERE = Path(__file__).name
FLOAT32 = np.dtype("float32")


def a_little_of_everything():
    """A graph with training, random draws, control edges, devices, symbolic sizes, slices and odd constants."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 1, 8, 8), "float32")
        labels = fg.placeholder("labels", ("batch",), "int64")
        with fg.scope("net"):
            net = fg.nn.Sequential(
                *(fg.nn.Conv2d(1, 3, 3, padding="same"), fg.nn.relu, fg.nn.max_pool2d, fg.nn.flatten),
                fg.nn.Linear(48, 5, name="out"),
            )
            h = fg.nn.dropout(net(x), 0.25)
        loss = fg.mean(fg.nn.softmax_cross_entropy(h, labels))
        schedule = fg.optim.one_cycle(0.1, 10)
        train = fg.optim.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=5e-4).minimize(loss)
        with fg.device("cpu:0"), fg.control_dependencies([loss]):
            fg.identity(x[..., ::-1, None, 2:5], name="cut")
        fg.identity(loss, name="loss")
        fg.constant([np.nan, np.inf, -0.0], name="odd")
        fg.variable(shape=(2, 2), name="empty")
        fg.variable(fg.init.uniform((2, 2), -1, 1, "float64"), name="drawn")
        fg.variable(np.arange(6).reshape(2, 3), name="counted", trainable=False)
        assert train.name == "train/update"
    return graph


def reloaded(graph, tmp_path):
    fg.io.save_graph(graph, tmp_path / "g.graph")
    return fg.io.load_graph(tmp_path / "g.graph")


def described(graph):
    """All that a graph says of its nodes, arrays as bytes."""
    return [
        {
            "name": node.name,
            "op": node.op.name,
            "label": node._label,
            "inputs": [(t.node.id, t.index) for t in node.inputs],
            "outputs": [(t.shape, t.dtype) for t in node.outputs],
            "attrs": {key: plain(value) for key, value in node.attrs.items()},
            "scope": node.scope,
            "device": node.device,
            "control": [before.id for before in node.control],
            "forward": None if node.forward is None else node.forward.id,
            "location": node.location,
        }
        for node in graph
    ]


def plain(value):
    if isinstance(value, SubGraph):
        tensors = [value.inputs, value.captures.values(), value.outputs]
        return described(value), [[(t.node.id, t.index) for t in each] for each in tensors], value.root.scope, value.root.device
    if isinstance(value, fg.Node):
        return "node", value.id
    return (value.shape, value.dtype, value.tobytes()) if isinstance(value, np.ndarray) else value


# What is saved comes back


def test_a_loaded_graph_says_the_same_of_every_node(tmp_path):
    graph = a_little_of_everything()
    assert described(reloaded(graph, tmp_path)) == described(graph)


def test_a_loaded_graph_trains_to_the_same_bits(tmp_path):
    graph = a_little_of_everything()
    images = np.random.default_rng(0).standard_normal((6, 1, 8, 8), dtype=np.float32)

    def trained(graph):
        with fg.Session(graph, threads=1, seed=7) as session:
            feeds = {graph["x"]: images, graph["labels"]: np.arange(6) % 5}
            losses = [session.run([graph["loss"], graph.node("train/update")], feeds)[0] for _ in range(3)]
            return losses, {name: session.variables[name] for name in session.variables if name != "empty"}

    losses, weights = trained(graph)
    again, loaded = trained(reloaded(graph, tmp_path))
    assert again == losses
    assert len(set(losses)) == 3
    assert list(loaded) == list(weights)
    for name in weights:
        np.testing.assert_array_equal(loaded[name], weights[name])


def test_a_loaded_graph_takes_new_nodes_as_the_original_would(tmp_path):
    graph = a_little_of_everything()
    loaded = reloaded(graph, tmp_path)
    for each in (graph, loaded):
        with each:
            fg.gradients(each["loss"], each["net/out/w"])
            fg.random.normal((2,))
    assert described(loaded) == described(graph)
    assert sum(node.op.name == "run_key" for node in loaded) == 1


def test_nodes_of_one_place_share_one_context_again(tmp_path):
    graph = a_little_of_everything()
    loaded = reloaded(graph, tmp_path)
    assert len({id(node._context) for node in loaded}) <= len({id(node._context) for node in graph})
    assert loaded["x"].node._context is loaded.root


def test_the_lines_of_a_loaded_graph_are_in_its_errors(tmp_path):
    loaded = reloaded(a_little_of_everything(), tmp_path)
    with pytest.raises(fg.ShapeError) as caught:
        loaded["net/out/w"] @ loaded["net/out/w"]
    assert f"variable net/out/w, made at {HERE}:" in str(caught.value)
    assert 'fg.nn.Linear(48, 5, name="out"),' in str(caught.value)


def test_an_empty_graph_comes_back_empty(tmp_path):
    assert len(reloaded(fg.Graph(), tmp_path)) == 0


def test_equal_graphs_give_equal_files_and_loading_and_saving_changes_nothing(tmp_path):
    fg.io.save_graph(a_little_of_everything(), tmp_path / "a")
    fg.io.save_graph(a_little_of_everything(), tmp_path / "b")
    fg.io.save_graph(fg.io.load_graph(tmp_path / "a"), tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


@pytest.mark.parametrize("op", [op for op in OPS.values() if not op.is_stateful and len(list(op.samples))], ids=str)
def test_every_operation_survives_a_file_with_each_of_its_samples(op, tmp_path):
    with fg.Graph() as graph:
        for sample in op.samples:
            op.node([fg.constant(x) for x in sample.inputs], sample.attrs)
    assert described(reloaded(graph, tmp_path)) == described(graph)


@pytest.mark.parametrize(
    "dtype",
    "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64 complex64".split()
    + ["longdouble", "complex128"],  # not in safetensors
)
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3)], ids=str)
def test_constants_of_every_dtype_survive(dtype, shape, tmp_path):
    value = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    with fg.Graph() as graph:
        fg.constant(value, name="c")
    loaded = reloaded(graph, tmp_path)["c"].node.attrs["value"]
    assert plain(loaded) == plain(value)
    assert not loaded.flags.writeable


def test_an_array_in_another_byte_order_survives(tmp_path):
    with fg.Graph() as graph:
        fg.variable(np.arange(3, dtype=">i4"), name="w")
    loaded = reloaded(graph, tmp_path)["w"].node.attrs["initial"]
    assert (loaded.dtype.str, loaded.tolist()) == (">i4", [0, 1, 2])


ATTRIBUTES = [
    None, True, 0, 2**70, -1.5, 1e-310, "batch", "", (), (1, (None, "n"), ((0, 1), (2, 3))), Ellipsis, slice(None),
    slice(1, None, -2), (slice(0, 2), None, ..., -1), np.dtype("float32"), np.dtype(">i2"), float("inf"), -0.0,
    complex(1, float("-inf")), fg.init.he_normal((3, 4)), fg.init.uniform((2,), -1, 1, "float64"),
    fg.init.constant(3, (), "int8"), fg.init.constant(1 + 2j, (2,), "complex128"),
    fg.init.truncated_normal((2,), 2, 1, 3), fg.init.orthogonal((3, 4), 2.0, "float64"), fg.init.identity((3, 4), 0.5),
]  # fmt: skip


@pytest.mark.parametrize("value", ATTRIBUTES, ids=lambda value: str(value)[:30])
def test_attributes_come_back_with_their_types(value):
    text = json.dumps(write_attribute(value, "a", {}), allow_nan=False)
    back = read_attribute(json.loads(text), {})
    assert type(back) is type(value)
    assert repr(back) == repr(value)


def test_nan_is_a_float_as_any_other():
    assert np.isnan(read_attribute(write_attribute(float("nan"), "a", {}), {}))


# What cannot be saved


def test_a_gradient_of_your_own_is_kept(tmp_path):
    with fg.Graph() as graph:

        @fg.custom_gradient
        def clipped(x):
            return x, lambda g: fg.clip(g, -1, 1)

        with fg.scope("net"):
            y = clipped(fg.placeholder("x", ()))
    loaded = reloaded(graph, tmp_path)
    x, y = loaded["net/x"], loaded[y.name]
    with loaded:
        slopes = fg.gradients(5 * y, [x])
    with fg.Session(loaded, threads=1) as session:
        assert session.run([y, *slopes], {x: 2.0}) == [2.0, 1.0]


@dataclass
class Mine:
    """An initialiser that only this program knows."""

    shape: tuple[int, ...] = (2,)
    dtype: Any = FLOAT32

    def __call__(self, generator):
        return np.zeros(2, "f4")


def test_an_initialiser_of_your_own_cannot_be_saved(tmp_path):
    with fg.Graph() as graph:
        fg.variable(Mine(), name="w")
    with pytest.raises(fg.GraphError, match=r"w cannot be saved: its initial is an initializer of a kind .*Mine"):
        fg.io.save_graph(graph, tmp_path / "g.graph")


def test_the_old_file_stays_when_saving_fails(tmp_path):
    path = tmp_path / "g.graph"
    fg.io.save_graph(fg.Graph(), path)
    before = path.read_bytes()
    with fg.Graph() as graph:
        fg.variable(Mine(), name="w")
    with pytest.raises(fg.GraphError):
        fg.io.save_graph(graph, path)
    assert path.read_bytes() == before


# What is damaged


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("graphs") / "g.graph"
    fg.io.save_graph(a_little_of_everything(), path)
    return path.read_bytes()


def assert_refused(path, *texts):
    with pytest.raises(fg.FileFormatError) as caught:
        fg.io.load_graph(path)
    for text in (f"load_graph: {path} ", *texts):
        assert text in str(caught.value)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_told(saved, tmp_path, kept):
    path = tmp_path / "g.graph"
    path.write_bytes(saved[: int(kept * len(saved))])
    assert_refused(path, "is damaged, truncated, or no graph file", f"({int(kept * len(saved))} bytes)")


@pytest.mark.parametrize("content", [b"PK", b"weights", b"\x80\x04K\x01."], ids=["PK", "text", "pickle"])
def test_a_file_of_another_kind_is_told(tmp_path, content):
    path = tmp_path / "g.graph"
    path.write_bytes(content * 50)
    assert_refused(path, "no graph file")


def test_a_zip_of_something_else_is_told(tmp_path):
    path = tmp_path / "g.graph"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", "")
    assert_refused(path, "no graph file", "graph.json")


def test_a_missing_file_or_a_folder_is_pythons_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        fg.io.load_graph(tmp_path / "none.graph")
    with pytest.raises(IsADirectoryError):
        fg.io.load_graph(tmp_path)


@settings(max_examples=150)
@given(data=st.data())
def test_a_file_with_any_byte_changed_is_refused_or_loads_the_same(saved, tmp_path_factory, data):
    place = data.draw(st.integers(0, len(saved) - 1))
    changed = bytearray(saved)
    changed[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("changed") / "g.graph"
    path.write_bytes(changed)
    try:
        loaded = fg.io.load_graph(path)
    except fg.FileFormatError:
        return
    # What the zip's sums do not cover, such as the dates of its entries, says nothing of the graph.
    path.write_bytes(saved)
    assert described(loaded) == described(fg.io.load_graph(path))


# What is well packed and wrong


SMALL = {
    "format": "flowgraph graph",
    "version": 1,
    "contexts": [{"scope": "", "device": None, "control": [], "forward": None}],
    "locations": [["train.py", 3, "<module>", None]],
    "nodes": [
        {
            "op": "placeholder", "label": "x", "inputs": [], "outputs": [["float32", ["batch", 3]]],
            "attrs": {"shape": ["batch", 3], "dtype": {"dtype": "float32"}}, "context": 0, "location": 0,
        },
        {"op": "exp", "inputs": [[0, 0]], "outputs": [["float32", ["batch", 3]]], "context": 0, "location": 0},
        {
            "op": "sum", "inputs": [[1, 0]], "outputs": [["float32", ["batch"]]],
            "attrs": {"axis": [1], "keepdims": False}, "context": 0, "location": 0,
        },
    ],
}  # fmt: skip


def packed(path, document, arrays=b"\x02\0\0\0\0\0\0\0{}"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("graph.json", document if isinstance(document, str) else json.dumps(document))
        archive.writestr("arrays.safetensors", arrays)
    return path


def with_change(steps, value):
    document = copy.deepcopy(SMALL)
    at: Any = document
    for step in steps[:-1]:
        at = at[step]
    at[steps[-1]] = value
    return document


def test_a_file_written_by_hand_loads(tmp_path):
    graph = fg.io.load_graph(packed(tmp_path / "g", SMALL))
    assert repr(graph["sum"]) == "<Tensor sum: (batch,) float32>"
    with fg.Session(graph, threads=1) as session:
        assert session.run(graph["sum"], {graph["x"]: np.zeros((2, 3), "f4")}).tolist() == [3, 3]


CHANGES = [
    (["format"], "onnx", "holds no flowgraph graph"),
    (["version"], 2, "has version 2 of the format, and this flowgraph reads version 1"),
    (["version"], True, "has version True"),
    (["version"], None, "has version None"),
    (["nodes"], None, "'nodes' is missing"),
    (["contexts"], {}, "'contexts' is missing, or not what it should be"),
    (["nodes", 1], 3, "'op' is missing"),
    (["nodes", 1, "op"], "os.system", "has an operation that is not known here, 'os.system'"),
    (["nodes", 1, "op"], "__class__", "has an operation that is not known here"),
    (["nodes", 1, "op"], ["exp"], "'op' is missing"),
    (["nodes", 1, "label"], 3, "has a label that is no text"),
    (["nodes", 1, "inputs"], [[1, 0]], "has an input that is no earlier tensor: [1, 0]"),
    (["nodes", 1, "inputs"], [[2, 0]], "has an input that is no earlier tensor: [2, 0]"),
    (["nodes", 1, "inputs"], [[-1, 0]], "has an input that is no earlier tensor"),
    (["nodes", 1, "inputs"], [[0, 1]], "has an input that is no earlier tensor: [0, 1]"),
    (["nodes", 1, "inputs"], [[0, -1]], "has an input that is no earlier tensor"),
    (["nodes", 1, "inputs"], [[False, 0]], "has an input that is no earlier tensor"),
    (["nodes", 1, "inputs"], [0], "has an input that is no earlier tensor"),
    (["nodes", 1, "inputs"], [], "does not fit its inputs"),
    (["nodes", 1, "attrs"], {"axis": 1}, "does not fit its inputs"),
    (["nodes", 1, "attrs"], [1], "has attributes that are none"),
    (["nodes", 1, "outputs"], [["float32", ["batch", 4]]], "output is (batch, 4) float32, but it is (batch, 3)"),
    (["nodes", 1, "outputs"], [["float64", ["batch", 3]]], "but it is (batch, 3) float32"),
    (["nodes", 1, "outputs"], [], "says that an output is nothing"),
    (["nodes", 1, "outputs"], [["object", ["batch", 3]]], "has an output that is none"),
    (["nodes", 1, "outputs"], [["f4,f4", [3]]], "has an output that is none"),
    (["nodes", 1, "outputs"], [["float32", [-3]]], "has an output that is none"),
    (["nodes", 1, "outputs"], [["float32", 3]], "has an output that is none"),
    (["nodes", 1, "context"], 1, "has no context 1"),
    (["nodes", 1, "context"], -1, "has no context -1"),
    (["nodes", 1, "location"], 7, "has no location 7"),
    (["nodes", 2, "attrs", "axis"], [0], "says that an output is (batch,) float32, but it is (3,)"),
    (["nodes", 2, "attrs", "axis"], {"python": "print(1)"}, "has an attribute, 'axis', that cannot be read"),
    (["nodes", 2, "attrs", "axis"], {"slice": [0, "1", 2]}, "is no slice"),
    (["nodes", 2, "attrs", "axis"], {"float": "1.5"}, "is no float"),
    (["nodes", 0, "attrs", "dtype"], {"dtype": "O"}, "is no dtype"),
    (["nodes", 0, "attrs", "dtype"], {"dtype": ["float32"]}, "is no dtype"),
    (["nodes", 0, "attrs", "dtype"], {"array": "0/dtype", "dtype": "float32", "shape": []}, "is no array"),
    (["nodes", 0, "attrs", "dtype"], {"initializer": "eval", "shape": [3]}, "is no initializer"),
    (["nodes", 0, "attrs", "dtype"], {"initializer": "normal", "shape": [3], "std": -1.0}, "is no initializer"),
    (["contexts", 0, "scope"], "a//b", "has a scope with an empty name"),
    (["contexts", 0, "device"], 3, "has a device that is no text"),
    (["contexts", 0, "control"], [0], "refers to a node that does not come before it: 0"),
    (["contexts", 0, "forward"], 2, "refers to a node that does not come before it: 2"),
    (["contexts", 0], [], "'scope' is missing"),
    (["locations", 0], ["train.py", "3", "f", None], "has a location that is none"),
    (["locations", 0], ["train.py", 3, "f", [1]], "has a location that is none"),
    (["locations", 0], ["/dev/zero", 3, "f", None], "names a source file that is no file"),
    (["locations", 0], ["a\0b", 3, "f", None], "names a source file that is no file"),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "value", "text"), CHANGES, ids=lambda part: str(part)[:40])
def test_a_file_that_claims_what_cannot_be_is_refused(tmp_path, steps, value, text):
    assert_refused(packed(tmp_path / "g", with_change(steps, value)), text)


def test_the_node_that_is_wrong_is_named(tmp_path):
    document = with_change(["nodes", 2, "attrs", "axis"], [0])
    assert_refused(packed(tmp_path / "g", document), "node   number 2, op sum", "help   copy the file again")


def variable(**attrs):
    row = {
        "op": "variable", "label": "w", "inputs": [], "outputs": [["float32", [2]]], "context": 0, "location": 0,
        "attrs": {"shape": [2], "dtype": {"dtype": "float32"}, "initial": None, "trainable": True, **attrs},
    }  # fmt: skip
    return {**SMALL, "nodes": [row]}


@pytest.mark.parametrize(
    ("attrs", "text"),
    [
        ({"trainable": 1}, "does not say whether it is trainable"),
        ({"shape": [None]}, "has a variable of unknown shape"),
        (
            {"initial": {"initializer": "constant", "shape": [3], "dtype": {"dtype": "float32"}, "value": 0}},
            "first value",
        ),
        ({"initial": {"initializer": "constant", "shape": [2], "dtype": {"dtype": "int8"}, "value": 0}}, "first value"),
        ({"initial": "flowgraph.errors"}, "first value is not of its shape and dtype"),
    ],
)
def test_a_variable_whose_parts_do_not_fit_is_refused(tmp_path, attrs, text):
    assert "w" in fg.io.load_graph(packed(tmp_path / "good", variable()))
    assert_refused(packed(tmp_path / "g", variable(**attrs)), text)


@pytest.mark.parametrize(
    ("document", "arrays", "text"),
    [
        ("{", None, "graph.json in it is no JSON"),
        ("[" * 100_000, None, "graph.json in it is no JSON"),
        ("3", None, "holds no flowgraph graph"),
        (SMALL, b"", "arrays.safetensors in it cannot be read"),
        (SMALL, b"\xff" * 20, "arrays.safetensors in it cannot be read"),
    ],
    ids=["cut", "deep", "number", "no arrays", "bad arrays"],
)
def test_parts_that_cannot_be_read_are_named(tmp_path, document, arrays, text):
    path = packed(tmp_path / "g", document) if arrays is None else packed(tmp_path / "g", document, arrays)
    assert_refused(path, text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["float32", "inf", "normal"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["dtype", "array", "shape", "slice", "ellipsis", "float", "complex", "initializer", "value", "std"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(value=JSON)
def test_any_json_is_an_attribute_or_is_refused(value):
    try:
        read_attribute(value, {})
    except BadAttribute:
        pass


PLACES = [
    *(["nodes", n, key] for n in (0, 1, 2) for key in ("op", "inputs", "outputs", "attrs", "context", "location", "label")),
    *(["nodes", 2, "attrs", key] for key in ("axis", "keepdims")),
    *(["contexts", 0, key] for key in ("scope", "device", "control", "forward")),
    *([key] for key in SMALL),
]


@settings(max_examples=300)
@given(steps=st.sampled_from(PLACES), value=JSON)
def test_any_part_replaced_by_anything_gives_a_graph_or_a_clear_error(tmp_path_factory, steps, value):
    path = packed(tmp_path_factory.mktemp("any") / "g", with_change(steps, value))
    try:
        graph = fg.io.load_graph(path)
    except fg.FileFormatError:
        return
    assert isinstance(graph, fg.Graph)
