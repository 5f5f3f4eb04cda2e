"""Operations of the user's own: Python functions of arrays, with what the graph must know of them said beside."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, GradientError, ShapeError
from ..graph import Op, Spec, Tensor, Work, op
from ..graph.arguments import as_function, call, counted
from ..graph.op import by_loop
from ..graph.report import spec_text
from ..graph.spec import as_dtype, as_shape, format_spec, is_known, may_be_equal

HOW = "a (shape, dtype) pair, an input, or a list of these for several results"


class CustomOp(Op):
    """A user's function of NumPy arrays."""

    vmap = by_loop("a function of one example says nothing of many")

    def infer(self, *inputs: Any, function: Any, infer: Any, gradient: Any, work: Any) -> Any:
        specs = _specs(call(infer, f"infer of {_called(function)}", counted(len(inputs), "argument"), *inputs), function)
        return specs if len(specs) != 1 else specs[0]

    def kernel(self, xp: Any, *inputs: Any, function: Any, infer: Any, gradient: Any, work: Any) -> Any:
        arrays = [_lent(xp.asarray(x)) for x in inputs]
        wanted = _specs(infer(*arrays), function)
        results = function(*arrays)
        if len(wanted) == 1:
            results = [results]
        elif not isinstance(results, tuple | list) or len(results) != len(wanted):
            count = counted(len(results), "result") if isinstance(results, tuple | list) else "one result"
            raise ShapeError(f"{_called(function)} gave {count}, but infer says {len(wanted)}", help="several come in a tuple")
        made = [_checked(xp, result, spec, arrays, function) for result, spec in zip(results, wanted, strict=True)]
        return made[0] if len(made) == 1 else tuple(made)

    def vjp(self, g: Any, out: Any, *inputs: Tensor, function: Any, infer: Any, gradient: Any, work: Any) -> Any:
        node = (out[0] if isinstance(out, tuple) else out).node
        if gradient is None:
            raise GradientError(
                f"{node.name} has no gradient",
                help="fg.custom_op(..., gradient=lambda g, y, *inputs: ...), or fg.stop_gradient on what it reads",
            )
        given = call(gradient, f"custom_op: the gradient of {node.name}", "(g, y, *inputs)", g, out, *inputs)
        given = tuple(given) if isinstance(given, tuple | list) else (given,)
        if len(given) != len(inputs):
            counts = f"{counted(len(given), 'cotangent')} for {counted(len(inputs), 'input')}"
            raise GradientError(f"the gradient of {node.name} gave {counts}", help="one for each input; None for one without")
        for number, (c, x) in enumerate(zip(given, inputs, strict=True)):
            if c is None:
                continue
            if not isinstance(c, Tensor) or not may_be_equal(c.shape, x.shape) or c.dtype != x.dtype:
                raise GradientError(
                    f"the gradient of {node.name} gave {spec_text(c)} for input {number}, which is {spec_text(x)}",
                    help="a cotangent is a tensor of the shape and dtype of what it belongs to: sum over axes that were broadcast",
                )
        return given

    def work(self, *inputs: Any, function: Any, infer: Any, gradient: Any, work: Any) -> Work:
        if work is not None:
            return Work(*work(*inputs))
        specs = [Spec(s.shape, s.dtype) for s in (*_specs(infer(*inputs), function), *inputs) if is_known(s.shape)]
        return Work(10.0 * sum(s.size for s in specs), float(sum(s.nbytes for s in specs)))


class PyCall(CustomOp):
    """A user's function with effects of its own: it runs once in each run that needs it, and is never merged with another."""

    is_stateful = True


_custom_op = op(CustomOp)
_py_call = op(PyCall)


def custom_op(
    function: Callable[..., Any] | None = None,
    *,
    infer: Callable[..., Any],
    gradient: Callable[..., Any] | None = None,
    work: Callable[..., tuple[float, float]] | None = None,
) -> Any:
    """Makes an operation of a Python function of NumPy arrays; a decorator, too.

    function  takes an array for each input, which it must not write, and returns an array (a tuple where ``infer`` says several);
              equal inputs must give equal results
    infer     from the inputs, which have ``shape`` and ``dtype`` (sizes may be unknown): a (shape, dtype) pair, an input whose shape and
              dtype the result has, or a list of these for several results
    gradient  ``gradient(g, y, *inputs)`` builds the cotangents of the inputs from that of the result, of tensors; None for no gradient
    work      from the inputs, of known shapes: flops and bytes, for the scheduler
    returns   a function of tensors
    raises    a run raises ExecutionError when the function raises, or gives another shape or dtype than ``infer`` says

    >>> @fg.custom_op(infer=lambda x: x, gradient=lambda g, y, x: g * 3 * x**2)
    ... def cube(x):
    ...     return x * x * x
    >>> x = fg.placeholder("x", (), "float64")
    >>> y = cube(x)
    >>> session.run([y, *fg.gradients(y, [x])], {x: 2.0})
    [np.float64(8.0), np.float64(12.0)]
    """
    if function is None:
        return functools.partial(custom_op, infer=infer, gradient=gradient, work=work)
    attrs = {"function": function, "infer": infer, "gradient": gradient, "work": work}
    for name, value in attrs.items():
        if value is not None:
            as_function(value, f"custom_op: {name}")

    @functools.wraps(function, updated=())
    def wrapped(*inputs: Any) -> Any:
        outputs = _custom_op.node(_custom_op.lift(inputs), attrs, _name(function)).outputs
        return outputs[0] if len(outputs) == 1 else outputs

    return wrapped


def py_call(function: Callable[..., Any], result: Any, *inputs: Any) -> Any:
    """What a Python function of NumPy arrays gives, as a tensor. It may have effects: it runs once in each run that needs it.

    result  what it gives: a (shape, dtype) pair, a tensor whose shape and dtype it has, or a list of these for several
    raises  a run raises ExecutionError when the function raises, or gives another shape or dtype

    >>> seen = []
    >>> y = fg.py_call(lambda x: (seen.append(float(x)), x)[1], ((), "float64"), fg.constant(2.0))
    >>> session.run(y), seen
    (np.float64(2.0), [2.0])
    """
    as_function(function, "py_call: its first argument")
    specs = _specs(result, function)
    attrs = {"function": function, "infer": lambda *_: specs, "gradient": None, "work": None}
    outputs = _py_call.node(_py_call.lift(inputs), attrs, _name(function)).outputs
    return outputs[0] if len(outputs) == 1 else outputs


def _name(function: Any) -> str | None:
    """What its nodes are called; None, as the operation is, for one without a name."""
    name = getattr(function, "__name__", type(function).__name__)
    return name if name.isidentifier() else None


def _called(function: Any) -> str:
    return _name(function) or "the function"


def _specs(said: Any, function: Any) -> list[Spec]:
    if not isinstance(said, list):
        said = [said]
    specs = []
    for part in said:
        if isinstance(part, tuple) and len(part) == 2:
            specs.append(Spec(as_shape(part[0]), as_dtype(part[1])))
        elif hasattr(part, "shape") and hasattr(part, "dtype"):
            specs.append(Spec(tuple(part.shape), part.dtype))
        else:
            raise ArgumentError(f"{part!r:.60} does not say what {_called(function)} gives", help=HOW)
    return specs


def _lent(array: Any) -> Any:
    """An array that the function can read and not write."""
    view = array.view()
    if isinstance(view, np.ndarray):
        view.flags.writeable = False
    return view


def _checked(xp: Any, result: Any, spec: Spec, inputs: Sequence[Any], function: Any) -> Any:
    made = xp.asarray(result)
    fits = len(made.shape) == len(spec.shape) and all(a == b or not isinstance(b, int) for a, b in zip(made.shape, spec.shape, strict=True))
    if not fits or made.dtype != spec.dtype:
        raise ShapeError(
            f"{_called(function)} gave {'None' if result is None else format_spec(made.shape, made.dtype)}, but "
            f"{format_spec(spec.shape, spec.dtype)} was said",
            help=f'return result.astype("{spec.dtype}")' if fits and made.dtype.kind in "biufc" else None,
        )
    return made.copy() if any(xp.may_share_memory(made, x) for x in inputs) else made
