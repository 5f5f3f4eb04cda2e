"""flowgraph: write mathematics once, as a graph; differentiate it, compile it, run it asynchronously, and see all of it.

Each name here is public and has a place in the reference.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import errors as errors
from . import fft, init, linalg, random, special
from .autodiff import custom_gradient, grad, gradients, hessian, hvp, jacobian, jvp, value_and_grad, vjp, vmap
from .control import checkpoint, cond, map, scan, while_loop
from .devices import Calibration, devices
from .errors import (
    ArgumentError,
    DataError,
    DrawingError,
    DtypeError,
    ExecutionError,
    FeedError,
    FetchError,
    FileFormatError,
    FlowgraphError,
    GradientError,
    GraphError,
    GraphGrowthWarning,
    LinAlgError,
    MemoryLimitError,
    MissingExtraError,
    NumericsError,
    NumericsWarning,
    RunCancelledError,
    RunTimeoutError,
    SessionClosedError,
    ShapeError,
    UninitializedError,
    UnknownNameError,
    VariableOrderWarning,
    WatchError,
)
from .graph import Graph, Node, Tensor, colocate_with, control_dependencies, device, get_default_graph, scope
from .graph.op import public
from .ops.create import (
    arange,
    broadcast_arrays,
    eye,
    full,
    full_like,
    linspace,
    meshgrid,
    ones,
    ones_like,
    zeros,
    zeros_like,
)
from .ops.cumulative import cumulative_prod, cumulative_sum, diff
from .ops.custom import custom_op, py_call
from .ops.diagonals import diag, tril, triu
from .ops.einsum import einsum, kron, outer, tensordot, vecdot
from .ops.elementwise import (
    abs,
    acos,
    acosh,
    add,
    angle,
    asin,
    asinh,
    astype,
    atan,
    atan2,
    atanh,
    bitwise_and,
    bitwise_invert,
    bitwise_left_shift,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    cbrt,
    ceil,
    clip,
    conj,
    copysign,
    cos,
    cosh,
    deg2rad,
    divide,
    equal,
    exp,
    exp2,
    expm1,
    floor,
    floor_divide,
    fmod,
    greater,
    greater_equal,
    hypot,
    imag,
    isclose,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    multiply,
    nan_to_num,
    negative,
    nextafter,
    not_equal,
    positive,
    pow,
    rad2deg,
    real,
    reciprocal,
    remainder,
    round,
    sign,
    signbit,
    sin,
    sinc,
    sinh,
    sqrt,
    square,
    subtract,
    tan,
    tanh,
    trunc,
    where,
)
from .ops.gather import (
    bincount,
    segment_sum,
    take,
    take_along_axis,
)
from .ops.indexing import nonzero
from .ops.join import (
    concat,
    split,
    stack,
    unstack,
)
from .ops.matmul import matmul, matrix_transpose
from .ops.pad import pad
from .ops.positions import argmax, argmin
from .ops.reduce import all, any, logsumexp, max, mean, min, prod, size, sum
from .ops.repeat import (
    repeat,
    roll,
    tile,
)
from .ops.shape import (
    broadcast_to,
    expand_dims,
    flip,
    moveaxis,
    permute_dims,
    reshape,
    squeeze,
    swapaxes,
)
from .ops.sort import (
    argsort,
    isin,
    searchsorted,
    sort,
    top_k,
    unique,
)
from .ops.state import (
    assign,
    constant,
    group,
    identity,
    placeholder,
    stop_gradient,
    variable,
)
from .ops.statistics import count_nonzero, median, quantile, std, var

if TYPE_CHECKING:
    from . import data, io, metrics, nn, optim, replay, viz
    from .check import check_gradient
    from .compile import Explanation, Plan
    from .devices.calibrate import calibrate
    from .diagnosis import Diagnosis, diagnose
    from .session import Function, RunFuture, Session, explain
    from .traced import trace
    from .traces import Trace
    from .viz import draw

__version__ = "0.1.0"

__all__ = [
    # graphs
    "Graph", "Node", "Tensor", "get_default_graph", "scope", "device", "colocate_with", "control_dependencies",
    # where values come from and go to
    "placeholder", "constant", "variable", "assign", "group", "identity",
    # differentiation
    "gradients", "stop_gradient", "custom_gradient", "custom_op", "py_call", "check_gradient", "diagnose", "Diagnosis",
    # functions of functions
    "grad", "value_and_grad", "vjp", "jvp", "jacobian", "hessian", "hvp", "checkpoint", "vmap", "trace",
    # control flow
    "cond", "while_loop", "scan", "map",
    # running
    "Session", "Function", "RunFuture", "Plan", "explain", "Explanation", "devices", "calibrate",
    "Calibration",
    # seeing
    "draw", "Trace",
    # element by element
    "abs", "acos", "acosh", "add", "angle", "asin", "asinh", "astype", "atan", "atan2", "atanh", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "cbrt", "ceil", "clip", "conj", "copysign", "cos",
    "cosh", "deg2rad", "divide", "equal", "exp", "exp2", "expm1", "floor", "floor_divide", "fmod", "greater", "greater_equal",
    "hypot", "imag", "isclose", "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log10", "log1p", "log2", "logaddexp",
    "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "nan_to_num", "negative",
    "nextafter", "not_equal", "positive", "pow", "rad2deg", "real", "reciprocal", "remainder", "round", "sign", "signbit", "sin", "sinc",
    "sinh", "sqrt", "square", "subtract", "tan", "tanh", "trunc", "where",
    # reductions
    "all", "any", "argmax", "argmin", "count_nonzero", "cumulative_prod", "cumulative_sum", "diff", "logsumexp", "max", "mean", "median",
    "min", "prod", "quantile", "size", "std", "sum", "var",
    # shapes
    "arange", "argsort", "bincount", "broadcast_arrays", "broadcast_to", "concat", "expand_dims", "eye", "flip", "full",
    "full_like", "isin", "linspace", "meshgrid", "moveaxis", "nonzero", "ones", "ones_like", "pad", "permute_dims", "repeat",
    "reshape", "roll", "searchsorted", "segment_sum", "sort", "split", "squeeze", "stack", "swapaxes", "take",
    "take_along_axis", "tile", "top_k", "unique", "unstack", "zeros", "zeros_like",
    # matrices
    "diag", "einsum", "kron", "matmul", "matrix_transpose", "outer", "tensordot", "tril", "triu", "vecdot",
    # libraries
    "data", "fft", "init", "io", "linalg", "metrics", "nn", "optim", "random", "replay", "special", "viz",
    # errors
    "FlowgraphError", "ArgumentError", "DataError", "DrawingError", "DtypeError", "ExecutionError", "FeedError", "FetchError",
    "FileFormatError", "GradientError", "GraphError", "LinAlgError", "MemoryLimitError", "MissingExtraError", "NumericsError",
    "RunCancelledError", "RunTimeoutError", "SessionClosedError", "ShapeError", "UninitializedError", "UnknownNameError",
    "WatchError", "GraphGrowthWarning", "NumericsWarning", "VariableOrderWarning",
]  # fmt: skip


# Libraries and names that are loaded when they are first named: more than half of the time to import flowgraph would be theirs.
_LIBRARIES = ["data", "io", "metrics", "nn", "optim", "replay", "viz"]
_MODULE_OF = {
    "Session": "session", "Function": "session", "RunFuture": "session", "explain": "session",
    "Plan": "compile", "Explanation": "compile",
    "calibrate": "devices.calibrate", "check_gradient": "check", "trace": "traced", "diagnose": "diagnosis", "Diagnosis": "diagnosis",
    "Trace": "traces", "draw": "viz",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LIBRARIES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _MODULE_OF:
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_elsewhere(name)}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _elsewhere(name: str) -> str:
    """Where a name that is not here may have been meant to be: in a library, or under NumPy's other name for it."""
    if name.startswith("_"):
        return ""
    for library in ("nn", "linalg", "special", "random", "fft", "init", "optim"):
        if hasattr(importlib.import_module(f"{__name__}.{library}"), name):
            return f": it is fg.{library}.{name}"
    other = {"transpose": "permute_dims", "concatenate": "concat", "power": "pow", "dot": "matmul"}.get(name)
    if other is None:
        from difflib import get_close_matches

        other = next(iter(get_close_matches(name.lower(), __all__, n=1, cutoff=0.75)), None)
    return f": did you mean fg.{other}?" if other else ""


def _draw(*args: Any, **options: Any) -> Any:
    return __getattr__("draw")(*args, **options)


def _lazy(module: str, name: str) -> Any:
    """A function of a module that is loaded when it is called."""
    return lambda *args, **options: getattr(importlib.import_module(f"{__name__}.{module}"), name)(*args, **options)


public(_draw, "draw")  # what notebooks call to show a graph
for _name, _module, _function in (
    ("new_trace", "traces", "Trace"),  # what a session calls to record one, and what draws it
    ("draw_gantt", "viz.gantt", "gantt"),
    ("draw_memory", "viz.memory_picture", "draw_memory"),
    ("draw_memory_curve", "viz.memory_curve", "draw_memory_curve"),
    ("draw_prediction", "viz.prediction", "draw_prediction"),
    ("save_record", "replay.record", "save_record"),  # what a session's recorder calls when its block ends
    ("plan_cost", "compile.formulas", "Cost"),
    ("plan_explain", "compile.account", "Account"),
):
    public(_lazy(_module, _function), _name)
