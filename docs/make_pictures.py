"""Every picture of the documents, made from the code each time the documents are built.

A page shows ``pictures/toy.svg`` by its name here. To add a picture, write a function that draws it into the path it
is given, and list it in PICTURES. A picture that cannot be made stops the build. By hand: ``python -m
docs.make_pictures``.
"""

import heapq
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import flowgraph as fg
from benchmarks.drawing import training_graph
from docs import shown
from examples import lenet_mnist, toy
from flowgraph.compile import Plan
from flowgraph.runtime.schedule import RunState, Schedule
from flowgraph.viz import dot

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#5f6b7a"  # forward, gradient, update: as in drawings of graphs


# --- the lecture's example, and the page for beginners


def toy_values(path: Path) -> None:
    """F = (x + y) z with the value (green) and the gradient (red) of each edge."""
    toy.draw(path)


def toy_graph(path: Path) -> None:
    """The same graph with the nodes that compute the gradients."""
    fg.draw(toy.graph, path)


def line(path: Path) -> None:
    """The graph of the first ten minutes: a line that is fitted to points."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 2), "float32")
        target = fg.placeholder("target", ("batch",), "float32")
        with fg.scope("line"):
            w = fg.variable(np.zeros(2, np.float32), name="w")
            b = fg.variable(np.float32(0), name="b")
            prediction = x @ w + b
        with fg.scope("loss"):
            loss = fg.mean(fg.square(prediction - target))
        fg.optim.SGD(0.1).minimize(loss)
    fg.draw(graph, path, depth=1)


# --- LeNet


@cache
def lenet() -> tuple[fg.Graph, fg.Tensor, fg.Node]:
    """LeNet's training graph, its loss and its update, as in examples/lenet_mnist.py."""
    with fg.Graph() as graph:
        images = fg.placeholder("images", ("batch", 1, 28, 28), "float32")
        classes = fg.placeholder("classes", ("batch",), "int32")
        logits = lenet_mnist.lenet(images)
        with fg.scope("loss"):
            loss = fg.mean(fg.nn.softmax_cross_entropy(logits, classes))
        update = fg.optim.SGD(fg.optim.one_cycle(0.05, 1000), momentum=0.9).minimize(loss)
    return graph, loss, update


def lenet_at(path: Path, depth: int) -> None:
    """LeNet's training graph with its scopes open down to ``depth``."""
    fg.draw(lenet()[0], path, depth=depth)


def lenet_heat(path: Path, what: str) -> None:
    """LeNet's training graph in the colours of a measurement."""
    fg.draw(lenet()[0], path, depth=1, heat=fg.viz.heat_of(lenet_trace(), what))


def lenet_passes(path: Path) -> None:
    """LeNet's training step as a page with a slider over the passes."""
    graph, loss, update = lenet()
    fg.draw(fg.explain([loss, update], {graph["images"]: (128, 1, 28, 28), graph["classes"]: (128,)}), path)


@cache
def lenet_plan() -> Plan:
    """The plan of one training step on 128 images."""
    graph, loss, update = lenet()
    with fg.Session(graph, threads=1) as session:
        return session.plan([loss, update], {graph["images"]: (128, 1, 28, 28), graph["classes"]: (128,)})


# --- the page on training


@cache
def digits() -> tuple[fg.Session, list[fg.Tensor], list[float], fg.Tensor, tuple[Any, Any]]:
    """The network of that page after its 15 epochs: session, what is shown of its layers, losses, classes, test images."""
    data = fg.data.load("digits")
    train, test = fg.data.split(((data.x / 16).reshape(-1, 1, 8, 8), data.y), 0.2)
    with fg.Graph() as graph:
        x, y = fg.placeholder("x", ("batch", 1, 8, 8)), fg.placeholder("y", ("batch",), "int32")
        parts: list[Any] = [fg.nn.Conv2d(1, 16, 3, padding="same", bias=None), fg.nn.BatchNorm(16), fg.nn.relu, fg.nn.max_pool2d]
        net = fg.nn.Sequential(*parts, fg.nn.flatten, fg.nn.Dropout(0.2), fg.nn.Linear(256, 10))
        loss = fg.mean(fg.nn.softmax_cross_entropy(net(x, training=True), y))
        update = fg.group([fg.optim.AdamW(0.005, weight_decay=0.01).minimize(loss), *net.updates])
        shown = [x, net[:3](x, training=False), net[:4](x, training=False), net(x, training=False)]
        classes = fg.argmax(shown[-1], axis=1)
    session = fg.Session(graph, seed=3)
    step = session.function([x, y], [loss, update])
    transform = fg.data.random_shift(1)
    batches = fg.data.batches(train, 64, epochs=15, seed=1, drop_last=True, transform=transform, prefetch=0)
    losses = [float(step(*batch)[0]) for batch in batches]
    return session, shown, losses, classes, test


def training_curves(path: Path) -> None:
    """Its loss."""
    fg.viz.curves({"loss": digits()[2]}, path, log=True)


def training_confusion(path: Path) -> None:
    """Which digits it takes for which."""
    session, (x, *_), _, classes, test = digits()
    fg.viz.confusion(test[1], session.run(classes, {x: test[0]}), path)


def training_filters(path: Path) -> None:
    """The filters of its convolution."""
    fg.viz.filters(digits()[0].variables["conv/w"], path)


def training_activations(path: Path) -> None:
    """What its layers make of a digit."""
    session, shown, _, _, test = digits()
    fg.viz.activations(session, shown, {shown[0]: test[0][:64]}, path)


def training_saliency(path: Path) -> None:
    """Which pixels its scores depend on."""
    session, (x, *_, logits), _, _, test = digits()
    fg.viz.saliency(session, logits, x, {x: test[0][:8]}, path)


# --- the page on drawings


def digit_values(path: Path) -> None:
    """What the first layers of that network make of a digit."""
    session, (x, _, pooled, _), _, _, test = digits()
    fg.draw(pooled, path, values=session, feeds={x: test[0][:1]})


def on_two_devices(path: Path) -> None:
    """Products on two devices, and the plan's copies between them."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", (512, 512))
        with fg.device("cpu:1"):
            there = fg.exp(x) @ x
        y = fg.sum(x @ x + there)
    with fg.Session(graph, devices=["cpu:0", "cpu:1"], threads=1) as session:
        fg.draw(session.plan(y, {x: (512, 512)}), path)


def difference(path: Path) -> None:
    """A net, and the same with another activation and a scale."""

    def build(activation: Callable[[fg.Tensor], fg.Tensor], is_scaled: bool) -> fg.Graph:
        with fg.Graph() as graph:
            h = fg.placeholder("x", ("batch", 8))
            for i in range(2):
                h = fg.nn.Linear(8, 8, name=f"dense{i}")(h)
                h = activation(h) if i else fg.nn.relu(h)
            with fg.scope("loss"):
                fg.mean(h * np.float32(0.5) if is_scaled else h)
        return graph

    fg.viz.draw_difference(build(fg.nn.relu, False), build(fg.tanh, True), path)


def large(path: Path) -> None:
    """The training graph of some 100,000 nodes."""
    fg.draw(training_graph(100_000), path)


# --- the engine


def relu_graph() -> tuple[fg.Graph, fg.Tensor, fg.Tensor]:
    """The example of the page on the engine: the sum of a rectified product."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 256))
        w = fg.variable(np.ones((256, 256), np.float32), name="w")
        y = fg.sum(fg.nn.relu(fg.matmul(x, w)))
    return graph, x, y


def forward(path: Path) -> None:
    """The graph of that example."""
    fg.draw(relu_graph()[0], path)


def backward(path: Path) -> None:
    """The same with the gradient by w."""
    graph, _, y = relu_graph()
    fg.gradients(y, graph.variables)
    fg.draw(graph, path)


def plan(path: Path) -> None:
    """Its plan for 2,048 rows."""
    graph, x, y = relu_graph()
    with fg.Session(graph, threads=1) as session:
        fg.draw(session.plan(y, {x: (4096, 256)}), path)


def branch(path: Path) -> None:
    """A branch, with the sub-graphs that its node holds."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,))
        fg.cond(fg.sum(x) > 0, lambda: fg.log(x), lambda: fg.exp(x) * 2)
    fg.draw(graph, path)


def loop(path: Path) -> None:
    """A recurrent net, whose gradient is a loop that runs the other way."""
    with fg.Graph() as graph:
        xs = fg.placeholder("xs", (10, 3))
        w = fg.variable(np.eye(3, dtype=np.float32), name="w")
        with fg.scope("net"):
            last, _ = fg.scan(lambda h, x: (fg.tanh(h @ w + x), None), fg.constant(np.zeros(3, np.float32)), xs)
        fg.gradients(fg.sum(last), w)
    fg.draw(graph, path)


LAYERS = [
    ("cli", "commands", "people"),
    ("diagnosis · replay", "why a loss does not go down; runs, step by step, again", "people"),
    ("nn · optim · data · io · viz", "libraries, written with the public interface only", "people"),
    ("session", "feeds, fetches, the values of variables, the cache of plans", "running"),
    ("traces", "what runs did, and would do elsewhere", "running"),
    ("runtime", "runs a plan: scheduler, pool, memory", "running"),
    ("compile", "graph to plan", "compiling"),
    ("autodiff", "graph to more graph", "compiling"),
    ("ops", "every operation, one place each", "compiling"),
    ("devices", "arrays: NumPy, CuPy", "foundation"),
    ("graph", "Graph, Node, Tensor, Op: no arrays, no threads", "foundation"),
]
TINTS = {"people": "#ffffff", "running": "#d9f0e6", "compiling": "#dcebf7", "foundation": "#fff4c9"}


def layers(path: Path) -> None:
    """The layers as a stack: imports go down it."""
    rows = "".join(
        f'<TR><TD BGCOLOR="{TINTS[tint]}" WIDTH="190"><B>{name}</B></TD><TD BGCOLOR="{TINTS[tint]}" ALIGN="LEFT"> {what} </TD></TR>'
        for name, what, tint in LAYERS
    )
    table = f'<TABLE BORDER="0" CELLBORDER="1" CELLSPACING="3" CELLPADDING="6" COLOR="{GREY}">{rows}</TABLE>'
    diagram(path, f"a [label=<{table}>, shape=plain];")


def request(path: Path) -> None:
    """What becomes of one request."""
    compiling = ["prune", "infer shapes", "lower to kernels", "cut into slices", "reuse memory", "group into tasks"]
    running = ["read variables", "start what waits for nothing", "finish a task, start those that it made ready", "write variables"]
    steps = [("passes", BLUE, "compile: once", compiling), ("run", GREEN, "run: each time", running)]
    lines = [
        'call [label="session.run(fetches, feeds)", shape=plain, fontname="Courier"];',
        f'cache [label="plan cache\nfetches, feeds, shapes", shape=cylinder, style=filled, fillcolor="{TINTS["foundation"]}"];',
        'values [label="arrays of the fetches", shape=plain];',
    ]
    for name, color, label, boxes in steps:
        lines.append(f'subgraph cluster_{name} {{ label="{label}"; labeljust=l; color="{color}"; fontcolor="{color}"; style=rounded;')
        lines += [f'{name}{i} [label="{text}", color="{color}"];' for i, text in enumerate(boxes)]
        lines.append(" -> ".join(f"{name}{i}" for i in range(len(boxes))) + ";}")
    lines += [
        "call -> cache;",
        'cache -> passes0 [label=" not there yet"];',
        'passes5 -> run0 [label=" plan"];',
        'cache -> run0 [label=" there", constraint=true];',
        'run2 -> run2 [label=" until all tasks have run"];',
        "run3 -> values;",
    ]
    diagram(path, "\n".join(lines))


def tasks(path: Path) -> None:
    """The states of a task."""
    diagram(
        path,
        """rankdir=LR; ranksep=0.9;
        waiting -> ready [label="last input\\narrived"];
        ready -> running [label="a thread is free;\\nlongest remaining\\npath first"];
        running -> done [label="frees what it\\nwas last to read"];
        running -> failed [label="kernel raised"];
        ready -> dropped [label="run failed or\\nwas cancelled"];
        waiting -> dropped;""",
    )


def diagram(path: Path, body: str) -> None:
    """Draws boxes that are no graph of ours, written in DOT, in the same style."""
    text = (
        'digraph { graph [fontname="Arial", fontsize=11, ranksep=0.35, nodesep=0.3];'
        'node [shape=box, style=rounded, fontname="Arial", fontsize=11, height=0.35];'
        f'edge [fontname="Arial", fontsize=10, fontcolor="{GREY}", color="{GREY}", arrowsize=0.7];\n{body}}}'
    )
    command = dot.program()
    if command is None:
        raise fg.DrawingError("the pictures of the documents need a dot program", help='pip install "flowgraph[dot]"')
    path.write_bytes(dot.run(command, text, "svg", 60.0))


# --- the page on errors


def shown_program(opening: str) -> dict[str, Any]:
    """The names that a program of the page on errors has made, the one with ``opening`` in it, until it fails."""
    page = (Path(__file__).resolve().parent / "errors.md").read_text("utf-8")
    (program,) = [program for program, _ in shown.programs(page) if opening in program]
    names: dict[str, Any] = {}
    with fg.Graph():
        try:
            exec(program.replace("print(", "str("), names)
        except fg.FlowgraphError as error:
            names["error"] = error
    return names


def error(path: Path) -> None:
    """A product that could not be made, and what it would have been made of."""
    shown_program("scores = 0.5")["error"].draw(path)


def diagnosis(path: Path) -> None:
    """A network in which gradients vanish, with what is wrong with it."""
    shown_program("fg.diagnose(loss")["diagnosis"].draw(path)


def schedule(path: Path) -> None:
    """The same plan on 1, 2 and 4 threads, by the engine's own scheduler and the times that it expects."""
    plan = lenet_plan()
    counts = (1, 2, 4)
    figure, axes = canvas(8, 3.4, len(counts), [1 + threads * 0.8 for threads in counts])
    for axis, threads in zip(axes, counts):
        bars = simulated(plan, threads)
        for thread, start, seconds, kind in bars:
            axis.barh(thread, seconds * 1e3, left=start * 1e3, height=0.85, color=kind, edgecolor="white", linewidth=0.4)
        axis.set_yticks(range(threads))
        axis.set_ylim(threads - 0.4, -0.6)
        axis.set_ylabel(f"{threads} thread{'s' * (threads > 1)}")
    axes[-1].set_xlabel("milliseconds")
    axes[0].set_title("one training step of LeNet on 128 images: forward (blue), gradients (orange), update (green)", fontsize=9)
    save(figure, path)


def simulated(plan: Plan, threads: int) -> list[tuple[int, float, float, str]]:
    """Thread, start, length and colour of each task."""
    state = RunState(Schedule({task.index: task.after for task in plan.tasks}, {task.index: task.priority for task in plan.tasks}))
    urgency = state.schedule.urgency
    ready = [(urgency(index), index) for index in state.start()]
    heapq.heapify(ready)
    free, running, now, bars = list(range(threads)), list[tuple[float, int, int]](), 0.0, []
    while ready or running:
        while ready and free:
            task = plan.tasks[heapq.heappop(ready)[1]]
            thread = free.pop(0)
            heapq.heappush(running, (now + task.seconds, task.index, thread))
            bars.append((thread, now, task.seconds, kind_of(task)))
        now, index, thread = heapq.heappop(running)
        free.append(thread)
        free.sort()
        for other in state.finish(index):
            heapq.heappush(ready, (urgency(other), other))
    return bars


def kind_of(task: Any) -> str:
    """The colour of a task: that of its kernels which take longest."""
    weights = {BLUE: 0.0, ORANGE: 0.0, GREEN: 0.0}
    for unit in task.units:
        color = ORANGE if unit.node.forward is not None else GREEN if unit.node.scope.startswith("train") else BLUE
        weights[color] += unit.seconds
    return max(weights, key=lambda color: weights[color])


@cache
def lenet_trace() -> fg.Trace:
    """Five training steps on 128 images, on two threads."""
    graph, loss, update = lenet()
    rng = np.random.default_rng(0)
    images, classes = rng.random((128, 1, 28, 28), np.float32), rng.integers(0, 10, 128).astype(np.int32)
    with fg.Session(graph, threads=2) as session:
        step = session.function([graph["images"], graph["classes"]], [loss, update])
        for _ in range(3):
            step(images, classes)
        with session.trace() as trace:
            for _ in range(5):
                step(images, classes)
    return trace


@cache
def wide_trace() -> fg.Trace:
    """Runs of eight branches that do not depend on each other, on two threads."""
    rng = np.random.default_rng(0)
    with fg.Graph() as graph:
        x = fg.placeholder("x", (256, 256), "float32")
        ends = []
        for branch in range(8):
            w = fg.variable(rng.standard_normal((256, 256)).astype(np.float32) / 16, name=f"w{branch}")
            h = x
            for _ in range(2 + branch % 4):
                h = fg.tanh(h @ w)
            ends.append(h)
        total = fg.sum(sum(ends))
    with fg.Session(graph, threads=2) as session:
        step = session.function([x], total)
        for _ in range(3):
            step(np.ones((256, 256), np.float32))
        with session.trace() as trace:
            for _ in range(15):
                step(np.ones((256, 256), np.float32))
    return trace


def memory_curve(path: Path) -> None:
    """What less memory costs in time, for the gradient of a net of 16 layers."""
    with fg.Graph() as graph:
        x = h = fg.placeholder("x", (500, 100), "float64")
        for layer in range(16):
            w = fg.variable(np.eye(100), name=f"w{layer}")
            h = fg.nn.gelu(h @ w)
        slopes = fg.gradients(fg.mean(fg.square(h)), graph.variables)
    with fg.Session(graph, threads=1) as session:
        session.function([x], slopes).memory_curve().draw(path)


def canvas(width: float, height: float, rows: int, heights: list[float] | None = None) -> tuple[Any, Any]:
    """A figure of matplotlib with ``rows`` plots above each other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=heights)
    for axis in axes[:, 0]:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes[:, 0])


def save(figure: Any, path: Path) -> None:
    """Writes a figure with the same bytes each time."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "flowgraph"}):
        figure.savefig(path, metadata={"Date": None})


def quickest(trace: fg.Trace) -> int:
    """The run that others on this machine have disturbed least."""
    return min(trace.runs, key=lambda run: run.seconds).number


PICTURES: dict[str, Callable[[Path], object]] = {
    "gantt.svg": lambda path: wide_trace().gantt(path, run=quickest(wide_trace())),
    "prediction.svg": lambda path: wide_trace().predict(threads=[1, 2, 4, 8, 16]).draw(path),
    "memory.svg": lambda path: lenet_trace().memory(quickest(lenet_trace())).draw(path),
    "memory_curve.svg": memory_curve,
    "lenet_heat.svg": lambda path: fg.draw(lenet()[0], path, depth=0, heat=lenet_trace()),
    "toy.svg": toy_values,
    "toy_graph.svg": toy_graph,
    "line.svg": line,
    "error.svg": error,
    "diagnosis.svg": diagnosis,
    "lenet_0.svg": partial(lenet_at, depth=0),
    "lenet_1.svg": partial(lenet_at, depth=1),
    "lenet_2.svg": partial(lenet_at, depth=2),
    "lenet_time.svg": partial(lenet_heat, what="time"),
    "lenet_roofline.svg": partial(lenet_heat, what="roofline"),
    "digit_values.svg": digit_values,
    "devices.svg": on_two_devices,
    "difference.svg": difference,
    "large.svg": large,
    "layers.svg": layers,
    "request.svg": request,
    "tasks.svg": tasks,
    "forward.svg": forward,
    "backward.svg": backward,
    "plan.svg": plan,
    "branch.svg": branch,
    "loop.svg": loop,
    "schedule.svg": schedule,
    "training_curves.svg": training_curves,
    "training_confusion.svg": training_confusion,
    "training_filters.png": training_filters,
    "training_activations.png": training_activations,
    "training_saliency.png": training_saliency,
}


# Pages that stand beside those of the documents.
PAGES: dict[str, Callable[[Path], object]] = {"lenet_passes.html": lenet_passes}


def make_all(folder: Path, drawings: dict[str, Callable[[Path], object]] = PICTURES) -> None:
    """Draw every picture into ``folder``, and remove from it what is no longer listed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.name not in drawings:
            old.unlink()
    for name, draw in drawings.items():
        draw(folder / name)
        if not (folder / name).is_file():
            raise RuntimeError(f"docs/make_pictures.py: {name} was not made")


if __name__ == "__main__":
    make_all(Path(__file__).resolve().parent / "pictures")
    make_all(Path(__file__).resolve().parent / "pages", PAGES)
