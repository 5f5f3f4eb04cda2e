"""Every public function of tensors, handed nonsense in place of each of its arguments in turn: it takes it, or says what is wrong."""

import inspect
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest

import flowgraph as fg

LIBRARIES = {"": fg, "nn.": fg.nn, "linalg.": fg.linalg, "fft.": fg.fft, "random.": fg.random, "special.": fg.special, "init.": fg.init}
LIBRARIES |= {"metrics.": fg.metrics, "optim.": fg.optim}
# What runs, draws or checks, and is no function of tensors.
OTHERS = {
    "draw",
    "matrices",
    "Session",
    "Function",
    "RunFuture",
    "Plan",
    "Explanation",
    "devices",
    "Graph",
    "Node",
    "Tensor",
    "check_gradient",
    "get_default_graph",
    "trace",
}
NONSENSE = ["a", None, object(), -1, 1.5, [], {}, (1, 2), np.array("a"), True, float("nan"), [1, "a"], b"x", slice(1), np.ones((2, 2, 2))]
SHAPES = [((2, 3), "float32"), ((3, 3), "float32"), ((4,), "float32"), ((4,), "int32")]


def functions():
    for library, module in LIBRARIES.items():
        for name in getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]:
            function = getattr(module, name)
            is_error = isinstance(function, type) and issubclass(function, Exception)
            if name not in OTHERS and callable(function) and not inspect.ismodule(function) and not is_error:
                yield pytest.param(function, id=library + name)


def calls(function):
    """Argument lists with nonsense in one place each; everywhere else stand tensors, and what may be left out is."""
    signature = inspect.signature(function.infer if isinstance(function, fg.graph.Op) else function)
    kinds = inspect.Parameter
    required, optional = 0, []
    for parameter in signature.parameters.values():
        if parameter.kind is kinds.VAR_POSITIONAL or (parameter.default is kinds.empty and parameter.kind is not kinds.KEYWORD_ONLY):
            required += parameter.kind is not kinds.VAR_KEYWORD
        elif parameter.kind is not kinds.VAR_KEYWORD:
            optional.append(parameter.name)
    for shape, dtype in SHAPES:
        tensors = [fg.placeholder("t", shape, dtype) for _ in range(required)]
        for nonsense in NONSENSE:
            for place in range(required):
                yield [*tensors[:place], nonsense, *tensors[place + 1 :]], {}
            for name in optional:
                yield tensors, {name: nonsense}


def outcome(function, arguments, options):
    """What is wrong with how ``function`` takes what it is handed; None where it takes it, or says what is wrong with that."""
    try:
        function(*arguments, **options)
    except fg.FlowgraphError as error:
        is_told = error.message.strip() and error.call is not None and error.call.location.file == __file__
        return None if is_told else f"an error without message or line: {error!r}"
    except Exception as error:
        # Python's own, for a call that does not fit the signature, has no frame behind this one.
        frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
        return repr(error) if len(frames) > 1 else None
    return None


@pytest.mark.parametrize("function", list(functions()))
def test_nonsense_is_taken_or_told_and_never_ends_in_an_error_of_numpys_or_pythons(function):
    with warnings.catch_warnings(), np.errstate(all="ignore"), fg.Graph():
        warnings.simplefilter("ignore")
        found = [(arguments, options, outcome(function, arguments, options)) for arguments, options in calls(function)]
    assert len(found) > len(SHAPES)
    assert [each for each in found if each[2] is not None] == []


@pytest.fixture(scope="module")
def session():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 3))
        fg.identity(x @ fg.variable(np.ones((3, 2), np.float32), name="w"), name="y")
    with fg.Session(graph, threads=1) as session:
        yield session


ROWS = np.ones((5, 3), np.float32)

USES = {
    "fetch": lambda s, bad: s.run(bad),
    "feeds": lambda s, bad: s.run(s.graph["y"], bad),
    "a feed": lambda s, bad: s.run(s.graph["y"], {s.graph["x"]: bad}),
    "the key of a feed": lambda s, bad: s.run(s.graph["y"], [(bad, 1)]),
    "timeout": lambda s, bad: s.run(s.graph["w"], timeout=bad),
    "inputs of a function": lambda s, bad: s.function(bad, s.graph["y"]),
    "outputs of a function": lambda s, bad: s.function([s.graph["x"]], bad),
    "an argument of a function": lambda s, bad: s.function([s.graph["x"]], s.graph["y"])(bad),
    "a plan": lambda s, bad: s.plan(bad),
    "the feeds of a plan": lambda s, bad: s.plan(s.graph["y"], bad),
    "a shape in a plan": lambda s, bad: s.plan(s.graph["y"], {s.graph["x"]: bad}),
    "the file of an export": lambda s, bad: s.function([s.graph["x"]], s.graph["y"]).export(bad),
    "the name of a variable": lambda s, bad: s.variables[bad],
    "the value of a variable": lambda s, bad: s.variables.update(w=bad),
    "several variables": lambda s, bad: s.variables.update(bad),
    "the state of random draws": lambda s, bad: setattr(s, "random_state", bad),
    "the name of a node": lambda s, bad: s.graph[bad],
    "a session's graph": lambda s, bad: fg.Session(bad).close(),
    "a session's threads": lambda s, bad: fg.Session(s.graph, threads=bad).close(),
    "a session's seed": lambda s, bad: fg.Session(s.graph, seed=bad).close(),
    "a session's passes": lambda s, bad: fg.Session(s.graph, passes=bad).close(),
    "a scope": lambda s, bad: fg.scope(bad).__enter__(),
    "control dependencies": lambda s, bad: fg.control_dependencies(bad).__enter__(),
    "what is traced": lambda s, bad: fg.trace(bad),
    "what is drawn": lambda s, bad: fg.draw(bad),
    "a format": lambda s, bad: fg.draw(s.graph, format=bad),
    "a depth": lambda s, bad: fg.draw(s.graph, depth=bad),
    "rows": lambda s, bad: fg.data.batches(bad, 2),
    "the size of a batch": lambda s, bad: fg.data.batches(ROWS, bad),
    "a shuffle": lambda s, bad: fg.data.batches(ROWS, 2, shuffle=bad),
    "a part to hold out": lambda s, bad: fg.data.split(ROWS, bad),
    "a data set": lambda s, bad: fg.data.load(bad),
    "a matrix of counts": lambda s, bad: fg.viz.confusion(bad, file="confusion.png"),
    "predicted classes": lambda s, bad: fg.viz.confusion([0, 1, 2], bad, "confusion.png"),
    "a history": lambda s, bad: fg.viz.curves({"loss": bad}, "curves.png"),
    "what predicts": lambda s, bad: fg.viz.decision_boundary(bad, ROWS[:3, :2], [0, 1, 2], "boundary.png"),
    "the file of a picture": lambda s, bad: fg.viz.images(ROWS[None, :3], bad),
    "a record": lambda s, bad: fg.io.Recorder("run").scalar("loss", bad, 1),
    "a step": lambda s, bad: fg.io.Recorder("run").scalar("loss", 1, bad),
    "a recorded image": lambda s, bad: fg.io.Recorder("run").image("x", bad, 1),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_a_session_a_graph_data_and_pictures_take_nonsense_or_tell_it(use, session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = [(nonsense, outcome(lambda bad: use(session, bad), [nonsense], {})) for nonsense in NONSENSE]
    assert [each for each in found if each[1] is not None and not each[1].startswith("FileNotFoundError")] == []
