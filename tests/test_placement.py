"""Placement by forecasts: what runs where when nothing is asked for, why, and that the bits are those of one device."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.devices import Cpu
from flowgraph.devices.speed import Link, Speed

NAMES = ["cpu:0", "cpu:1"]
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def session(graph):
    with fg.Session(graph, devices=NAMES, threads=1, jit=False) as session:
        yield session


def placed(plan):
    """The device of each kernel but copies, by the name of its node."""
    return {unit.node.name: unit.device for unit in plan.units if unit.node.op.name != "copy"}


def copies(plan):
    """(tensor, device) of each copy; of what is copied in parts, once."""
    return [(unit.node.inputs[0], unit.device) for unit in plan.units if unit.node.op.name == "copy" and not unit.part]


def towers(x, length=3):
    r"""
     x
    / \
      a   b      each a chain of products
    \ /
    sum
    """
    ends = []
    for name in ("a", "b"):
        y = x
        for step in range(length):
            y = fg.matmul(y, x, name=f"{name}{step}")
        ends.append(y)
    return fg.add(*ends, name="sum")


SIZE = 512
FLOPS = 2 * SIZE**3


def speeds(first, second, link=1e12):
    """Devices that take so many seconds for each product of the towers."""
    devices = {name: Speed(1e-6, FLOPS / seconds, 1e13) for name, seconds in zip(NAMES, (first, second), strict=True)}
    return fg.Calibration(devices, {"cpu:0 cpu:1": Link(10e-6, link), "cpu:1 cpu:0": Link(10e-6, link)})


def plan_with(graph, fetches, feeds, calibration=None, devices=NAMES, **options):
    # (Equal nodes of the two branches stay two.)
    with fg.Session(graph, devices=devices, jit=False, passes=("algebra", "fold"), calibration=calibration, **options) as session:
        return session.plan(fetches, feeds)


def test_independent_branches_go_to_two_devices(graph):
    y = towers(x := fg.placeholder("x", (SIZE, SIZE)))
    plan = plan_with(graph, y, {x: x.shape})
    where = placed(plan)
    assert where["a0"] == where["a1"] == where["a2"] != where["b0"] == where["b1"] == where["b2"]
    assert len(copies(plan)) == 2  # x, and the end of one of them
    (note,) = [note for note in plan.notes if "expected" in note]
    assert note.startswith("place: each node where it is done first; expected are each node where its inputs are: 16.6 ms, all on cpu:0: ")


def test_a_chain_stays_where_it_is(graph):
    x = fg.placeholder("x", (SIZE, SIZE))
    y = x
    for _ in range(6):
        y = y @ x
    plan = plan_with(graph, y, {x: x.shape})
    assert set(placed(plan).values()) == {"cpu:0"}
    assert not any("expected" in note for note in plan.notes)


def test_what_takes_no_time_is_not_spread(graph):
    y = towers(x := fg.placeholder("x", (8, 8)), length=20)
    assert set(placed(plan_with(graph, y, {x: x.shape})).values()) == {"cpu:0"}


def test_a_placement_that_saves_less_than_a_tenth_is_not_taken(graph):
    y = towers(x := fg.placeholder("x", (SIZE, SIZE)))
    feeds = {x: x.shape}
    assert set(placed(plan_with(graph, y, feeds, speeds(1e-3, 1e-3))).values()) == {"cpu:0", "cpu:1"}
    # Six products on the first take 6 ms; one of them on the second, with what it costs to copy, would end after 5.6.
    slow = speeds(1e-3, 5.5e-3, link=SIZE * SIZE * 4 / 0.05e-3)
    assert set(placed(plan_with(graph, y, feeds, slow)).values()) == {"cpu:0"}


def test_all_goes_to_the_faster_device_although_feeds_are_on_the_first(graph):
    x = fg.placeholder("x", (SIZE, SIZE))
    y = x
    for _ in range(4):
        y = y @ x
    plan = plan_with(graph, y, {x: x.shape}, speeds(1e-2, 1e-3))
    assert set(placed(plan).values()) == {"cpu:1"}
    assert any(note.startswith("place: all on cpu:1; expected are") for note in plan.notes)
    assert "placed where it is done first: 1.0 ms after 11 us of copies, done at 1.0 ms on cpu:1, 10.0 ms, done at 10.0 ms on cpu:0" in str(
        plan
    )


def test_copies_that_cost_more_than_they_save_are_not_made(graph):
    y = towers(x := fg.placeholder("x", (SIZE, SIZE)))
    slow = speeds(1e-3, 1e-3, link=SIZE * SIZE * 4 / 10e-3)
    assert set(placed(plan_with(graph, y, {x: x.shape}, slow)).values()) == {"cpu:0"}


def test_a_measured_kernel_counts_more_than_an_estimate(graph):
    y = towers(x := fg.placeholder("x", (SIZE, SIZE)))
    quick = fg.Calibration(kernels={"cpu": {f"b{i}": 1e-6 for i in range(3)}})
    assert set(placed(plan_with(graph, y, {x: x.shape}, quick)).values()) == {"cpu:0"}


def test_requests_hold_and_the_rest_goes_round_them(graph):
    x = fg.placeholder("x", (SIZE, SIZE))
    with fg.device("cpu:1"):
        busy = fg.matmul(x, x, name="busy")
        for _ in range(5):
            busy = busy @ x
    free = fg.matmul(x, x, name="free")
    plan = plan_with(graph, [busy, free @ x], {x: x.shape})
    assert placed(plan)["busy"] == "cpu:1" and placed(plan)["free"] == "cpu:0"


def test_a_gradient_runs_with_what_it_is_the_gradient_of(graph):
    x, w = fg.placeholder("x", (SIZE, SIZE)), fg.variable(np.eye(SIZE, dtype=np.float32), name="w")
    losses = []
    for name in ("a", "b"):
        y = x
        for step in range(2):
            y = fg.tanh(fg.matmul(y, w, name=f"{name}{step}"))
        losses.append(fg.sum(y))
    plan = plan_with(graph, fg.gradients(losses[0] + losses[1], w), {x: x.shape})
    devices = {unit.node: unit.device for unit in plan.units}
    products = {node: device for node, device in devices.items() if node.op.name == "matmul"}
    assert set(products.values()) == {"cpu:0", "cpu:1"}
    behind = [(device, products[node.forward]) for node, device in products.items() if node.forward in products]
    assert len(behind) >= 4 and all(mine == theirs for mine, theirs in behind)


# --- beside each other


def test_nodes_that_are_colocated_are_placed_together(graph):
    y = towers(x := fg.placeholder("x", (SIZE, SIZE)))
    with fg.colocate_with(graph["b2"]):
        after = fg.matmul(x, x, name="after")
        last = fg.matmul(after, x, name="last")
    plan = plan_with(graph, [y, last], {x: x.shape})
    where = placed(plan)
    assert where["after"] == where["last"] == where["b2"]
    assert "placed beside b2, as asked" in str(plan)


def test_what_asks_for_a_device_takes_along_what_is_colocated_with_it(session):
    x = fg.placeholder("x", (64, 64))
    with fg.device("cpu:1"):
        y = fg.exp(x, name="y")
    with fg.colocate_with(y), fg.scope("inner"):
        z = fg.sin(x, name="z")
        with fg.device("cpu:0"):
            back = fg.cos(x, name="back")
    assert z.node.device == "cpu:1" and back.node.device == "cpu:0"
    assert placed(session.plan([y, z, back], {x: (64, 64)})) == {"y": "cpu:1", "inner/z": "cpu:1", "inner/back": "cpu:0"}


def test_a_request_of_a_neighbour_is_one_of_all(session):
    x = fg.placeholder("x", (64, 64))
    y = fg.exp(x, name="y")
    with fg.colocate_with(y):
        with fg.device("cpu:1"):
            asked = fg.sin(x, name="asked")
        z = fg.cos(x, name="z")
    assert z.node.colocated is y.node and asked.node.colocated is None
    with fg.colocate_with(asked):
        w = fg.tanh(z, name="w")
    plan = session.plan([w, y], {x: (64, 64)})
    assert placed(plan) == {"y": "cpu:0", "z": "cpu:0", "w": "cpu:1"}


def test_nodes_may_be_colocated_with_a_variable(session):
    with fg.device("cpu:1"):
        w = fg.variable(np.ones((64, 64), np.float32), name="w")
    free = fg.variable(np.ones((64, 64), np.float32), name="free")
    with fg.colocate_with(w):
        y = fg.exp(w, name="y")
    with fg.colocate_with(free):
        z = fg.exp(y, name="z")
    plan = session.plan(z)
    assert placed(plan) == {"y": "cpu:1", "z": "cpu:0"} and "placed beside free, as asked" in str(plan)


def test_colocation_outlives_a_file(graph, tmp_path):
    x = fg.placeholder("x", (4,))
    y = fg.exp(x, name="y")
    with fg.colocate_with(y):
        fg.sin(x, name="z")
    fg.io.save_graph(graph, tmp_path / "g.fgz")
    loaded = fg.io.load_graph(tmp_path / "g.fgz")
    assert loaded["z"].node.colocated is loaded["y"].node and loaded["y"].node.colocated is None


def test_colocating_with_what_is_no_tensor_of_the_graph_is_refused(graph):
    with fg.Graph():
        other = fg.placeholder("other", ())
    for wrong in (other, "y", None):
        with pytest.raises(fg.GraphError, match="colocate_with: takes a tensor or node of the current graph"):
            with fg.colocate_with(wrong):  # type: ignore[arg-type]
                pass


# --- what a device lacks


class Poor(Cpu):
    """A device without exponentials."""

    def lacks(self, op, dtypes):
        return "it has no exponentials" if op == "exp" else None


@pytest.fixture
def poor(graph, monkeypatch):
    monkeypatch.setattr("flowgraph.session.session.open_device", lambda name: (Poor if name == "cpu:1" else Cpu)(int(name[-1])))
    with fg.Session(graph, devices=["cpu:1", "cpu:0"], jit=False) as session:
        yield session


def test_what_a_device_lacks_runs_on_another_and_the_plan_says_so(poor):
    x = fg.placeholder("x", (64,))
    with fg.device("cpu:1"):
        y = fg.exp(fg.sin(x), name="y")
    z = fg.exp(fg.cos(y), name="z")
    plan = poor.plan(z, {x: (64,)})
    assert placed(plan) == {"sin": "cpu:1", "y": "cpu:0", "cos": "cpu:0", "z": "cpu:0"}
    assert "place: exp is not on cpu:1: it has no exponentials; it runs on cpu:0 (2 nodes)" in plan.notes
    assert "placed as cpu:1, which it asks for, lacks it" in str(plan) and "placed where there is a kernel for it" in str(plan)
    value = np.linspace(0, 1, 64, dtype=np.float32)
    np.testing.assert_array_equal(poor.run(z, {x: value}), np.exp(np.cos(np.exp(np.sin(value)))))


def test_a_loop_is_where_all_of_its_body_can_run(poor):
    x = fg.placeholder("x", (5, 8))
    total, _ = fg.scan(lambda carry, row: (fg.exp(-carry) + row, None), fg.zeros((8,)), x)
    plan = poor.plan(total, {x: (5, 8)})
    assert placed(plan) == {"scan": "cpu:0"}
    assert "place: scan is not on cpu:1: its body has exp: it has no exponentials; it runs on cpu:0" in plan.notes


def test_what_no_device_has_is_refused_with_its_line(graph, monkeypatch):
    monkeypatch.setattr("flowgraph.session.session.open_device", lambda name: Poor(int(name[-1])))
    x = fg.placeholder("x", (64,))
    y = fg.exp(x, name="y")
    with fg.Session(graph, devices=NAMES) as session, pytest.raises(fg.ArgumentError) as caught:
        session.plan(y, {x: (64,)})
    assert caught.value.message == "y cannot run on any device of this session: cpu:0 lacks it, it has no exponentials"
    assert 'y = fg.exp(x, name="y")' in str(caught.value)


# --- calibration


def test_calibrating_measures_devices_and_the_ways_between_them(tmp_path):
    measured = fg.calibrate(NAMES)
    assert set(measured.speeds) == set(NAMES) and set(measured.links) == {"cpu:0 cpu:1", "cpu:1 cpu:0"}
    for speed in measured.speeds.values():
        assert 1e-8 < speed.call_seconds < 1e-3 and 1e8 < speed.flops_per_second < 1e15 and 1e8 < speed.bytes_per_second < 1e13
    measured.save(tmp_path / "speeds.json")
    assert fg.Calibration.load(tmp_path / "speeds.json") == measured


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"speeds": {"cpu:0": {"call_seconds": -1}}, "links": {}, "kernels": {}}', '{"speeds": 3, "links": {}}']
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(fg.FileFormatError, match=r"x\.json is no calibration: "):
        fg.Calibration.load(tmp_path / "x.json")


def test_a_session_measures_the_kernels_of_a_request(graph, session):
    y = towers(x := fg.placeholder("x", (64, 64)))
    w = fg.variable(np.zeros((64, 64), np.float32), name="w")
    noise = fg.random.normal((64, 64))
    total, _ = fg.scan(lambda carry, row: (carry + row, None), fg.zeros((64,)), y)
    with fg.device("cpu:1"):
        step = fg.assign(w, w + noise)
    measured = session.calibrate([total, step], {x: np.ones((64, 64), np.float32)})
    assert {"a0", "a2", "sum", noise.node.name, "scan"} <= set(measured.kernels["cpu"])
    assert all(0 < seconds < 1 for seconds in measured.kernels["cpu"].values())
    assert not session.variables["w"].any()
    json.dumps(measured.kernels)
    with fg.Session(graph, devices=NAMES, calibration=measured) as other:
        assert re.search("kernels: [1-9] on cpu:0", str(other.plan([total, step], {x: (64, 64)})))


def test_what_is_no_calibration_makes_no_session(graph):
    with pytest.raises(fg.ArgumentError, match=r"Session: calibration is what fg\.calibrate gives, got 3"):
        fg.Session(graph, calibration=3)  # type: ignore[arg-type]
    with pytest.raises(fg.ArgumentError, match="calibrate: devices is a list of names, got 'cpu:0'"):
        fg.calibrate("cpu:0")


# --- the bits

STEPS = [
    lambda a, b: a @ b,
    lambda a, b: fg.tanh(a) + b,
    lambda a, b: fg.matrix_transpose(a) - fg.mean(b, axis=1, keepdims=True),
    lambda a, b: fg.nn.softmax(a @ b),
    lambda a, b: fg.sort(a) * b,
    lambda a, b: fg.concat(fg.split(a, 2)[::-1]) @ b,
]


def wide_program(seed):
    """A training step of many branches that asks for nothing."""
    rng = np.random.default_rng(seed)
    x = fg.placeholder("x", (256, 256))
    tensors = [x, *[fg.variable((rng.standard_normal((256, 256)) / 256).astype("f"), name=f"w{i}") for i in range(3)]]
    for _ in range(12):
        a, b = rng.integers(len(tensors), size=2)
        made = STEPS[rng.integers(len(STEPS))](tensors[a], tensors[b])
        if rng.random() < 0.2:
            with fg.colocate_with(tensors[a]):
                made = made + 1.0
        tensors.append(made)
    loss = fg.mean(fg.stack([fg.sum(fg.square(t)) for t in tensors[4:]]))
    return [loss, tensors[-1], fg.optim.Adam(0.01).minimize(loss)], {x: rng.standard_normal((256, 256)).astype("f")}


@pytest.mark.parametrize("jit", [False, None])
@pytest.mark.parametrize("seed", range(5))
def test_a_program_that_is_spread_has_the_bits_of_one_device(seed, jit):
    results = []
    free = fg.Calibration(links={"cpu:0 cpu:1": Link(1e-9, 1e15), "cpu:1 cpu:0": Link(1e-9, 1e15)})
    for names in (NAMES[:1], NAMES):
        with fg.Graph() as graph:
            fetches, feeds = wide_program(seed)
        with fg.Session(graph, devices=names, threads=1, jit=jit, calibration=free) as session:
            values = [value for _ in range(3) for value in session.run(fetches, feeds)[:-1]]
            results.append([value.tobytes() for value in [*values, *session.variables.copy().values()]])
            plan = session.plan(fetches, {tensor: value.shape for tensor, value in feeds.items()})
            assert {unit.device for unit in plan.units} == set(names)
            assert len(copies(plan)) == len(set(copies(plan)))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["linear_regression.py"],
        ["newton.py", "--descent-steps", "20", "--out", "."],
        ["mlp_mnist.py", "--epochs", "1", "--limit", "2560"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_example_prints_the_same_on_two_devices(arguments, tmp_path):
    texts = []
    for devices in ("cpu:0", "cpu:0, cpu:1"):
        command = [sys.executable, str(EXAMPLES / arguments[0]), *arguments[1:], "--device", devices]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout)
    assert texts[0] == texts[1] != ""


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_takes_a_device(example):
    assert example.stem == "command_line" or "options(parser)" in example.read_text()
