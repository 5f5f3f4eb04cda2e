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
