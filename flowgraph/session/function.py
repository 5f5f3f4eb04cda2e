"""Function: a compiled function of arrays, and its export as a program of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autodiff.again import ways
from ..compile import Plan, compile_plan
from ..compile.source import call_source, is_direct, legend, task_sources, team_source
from ..compile.standalone import write_module
from ..devices import HOST
from ..errors import ArgumentError, FlowgraphError, MemoryLimitError
from ..graph import Node, Shape, Tensor
from ..graph.arguments import counted
from ..graph.location import shorten
from ..runtime import Program, direct_call
from ..runtime.numerics import are_finite
from . import lazy
from .alone import quick_call
from .values import check_symbols, closed, flatten, handed_out

if TYPE_CHECKING:
    from pathlib import Path

    from .curve import MemoryCurve
    from .ledger import Ledger
    from .session import Session


class Function:
    """A compiled function of arrays; made by ``session.function``. Many threads may call it at once."""

    def __init__(
        self,
        session: Session,
        inputs: Sequence[Tensor],
        outputs: Any,
        memory_limit: int | None,
        check: bool | None,
        device_arrays: bool,
        may_repeat: bool = False,
    ) -> None:
        self.may_repeat = may_repeat  # whether forward values may be computed again to stay below the limit
        self.session, self.memory_limit, self.check, self.device_arrays = session, memory_limit, check, device_arrays
        self.inputs = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
        for tensor in self.inputs:
            if not isinstance(tensor, Tensor):
                raise ArgumentError(f"function: inputs are tensors, got {tensor!r:.80}", help="session.function([x, y], [f])")
        if len(set(self.inputs)) < len(self.inputs):
            raise ArgumentError("function: an input is named twice")
        self._names, self._outputs = flatten(outputs, session.graph)
        self._is_flat = type(outputs) is list and all(isinstance(output, Tensor | Node) for output in outputs)
        self._programs: dict[Any, Program] = {}  # shapes -> program; entries are only added
        self._direct: Callable[..., list[Any]] | None = None  # for the shapes seen last: the whole call as one generated function
        self._tried: set[Program] = set()
        if all(tensor.is_known for tensor in self.inputs):
            self._program(tuple(tensor.shape for tensor in self.inputs))  # says at once what is missing

    def __call__(self, *arrays: Any, timeout: float | None = None) -> Any:
        """Computes the outputs. raises as ``Session.run``, and TypeError for a wrong number of arguments."""
        try:
            direct = self._direct
            if direct is not None and timeout is None and len(arrays) == len(self.inputs):
                results = direct(*arrays)
                return results if self._is_flat else self._names(results)
            return self._names(self._run(arrays, timeout))
        except FlowgraphError as error:
            shorten(error)
            raise

    def _run(self, arrays: Sequence[Any], timeout: float | None) -> list[Any]:
        if len(arrays) != len(self.inputs):
            raise self._wrong_number(arrays)
        session = self.session
        fed = [
            a if a.__class__ is np.ndarray and a.dtype == t.dtype and a.shape == t.shape else session._feeds.fed(t, a)
            for t, a in zip(self.inputs, arrays, strict=True)
        ]
        shapes: Any = tuple([a.shape for a in fed])
        key = shapes if session.host_only else (shapes, *[a.__class__ is np.ndarray for a in fed])
        program = (self._programs.get(key) if not session._runs.watches else None) or self._program(shapes, fed, key)
        if session._runs.is_closed:
            raise closed()
        if program.is_warm and program not in self._tried and not program.extra:
            self._tried.add(program)
            state = session._state
            made = direct_call(program, session._runs, state.lock, state.values, session._feeds.fed, handed_out, self._otherwise)
            if made is not None:
                self._direct = made = self._checked(made) if self.check else made
                if timeout is None:
                    return made(*fed)
            elif not self.check and (alone := session._runs.alone(program)) is not None:
                self._direct = quick_call(alone, session._runs, self.inputs, fed, self._otherwise, self.check is None)
        return session._runs.perform(program, fed, timeout, self.check)

    def _checked(self, direct: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        """``direct`` with a look at its results: where one is not finite, it is computed once more by a run, which tells of it."""

        def call(*arrays: Any) -> list[Any]:
            results = direct(*arrays)
            if are_finite(results):
                return results
            fed = [self.session._feeds.fed(t, a) for t, a in zip(self.inputs, arrays, strict=True)]
            return self.session._runs.perform(self._program(tuple(a.shape for a in fed), fed), fed, None, self.check)

        return call

    def _wrong_number(self, arrays: Sequence[Any]) -> TypeError:
        names = ", ".join(tensor.name for tensor in self.inputs)
        return TypeError(f"this function takes {counted(len(self.inputs), 'argument')} ({names}), got {len(arrays)}")

    def _otherwise(self, *arrays: Any) -> list[Any]:
        return self._run(arrays, None)

    def source(self, *arrays: Any) -> str:
        """The Python program that calls run, with the user's lines: of the plan for these arrays (or shapes), or of the last one made.

        raises  ArgumentError when nothing has been called yet and a shape is not known
        """
        plan, session = self.plan(*arrays), self.session
        if is_direct(plan):
            return legend(plan) + call_source(plan).listing()
        program = next((program for program in session._programs.values() if program.plan is plan), None)
        team = program.team if program is not None and session._runs.may_team(program) else None
        return legend(plan) + (task_sources(plan) if team is None else team_source(plan, team, team.early)).listing()

    def ledger(self, *, measure: bool = False) -> Ledger:
        """What each kernel compiled for this function has cost, how often it was called, and what it has earned; see `Session.ledger`."""
        return lazy.ledger.ledger_of(dict.fromkeys(list(self._programs.values())), measure=measure)

    def export(self, file: str | os.PathLike[str]) -> Path:
        """Writes the function as a Python module that needs NumPy only, and its weights as ``.npz`` beside it.

        file     ends in ``.py``; the function is called like it
        returns  the path
        raises   ArgumentError when the function writes variables, draws random numbers, or holds what has no source

        The module's function takes and gives what this one does, for every size that a placeholder leaves open. Operations from
        SciPy still need SciPy.
        """
        return export(self, file)

    def _program(self, shapes: tuple[Shape, ...], fed: Sequence[Any] = (), key: Any = None) -> Program:
        session, arrays = self.session, dict(zip(self.inputs, fed, strict=False))
        if fed:
            check_symbols(arrays)
        by_tensor = dict(zip(self.inputs, shapes, strict=True))
        program = self._fitting(by_tensor, session._feeds.homes(arrays))
        if not session._runs.watches:
            self._programs[shapes if key is None else key] = program
        return program

    def _fitting(self, shapes: Mapping[Tensor, Shape], homes: Mapping[Tensor, str] = MappingProxyType({})) -> Program:
        """The program for these shapes that computes least again of those below the limit."""
        make = partial(self.session._program, shapes=shapes, limit=self.memory_limit, homes=homes, device_arrays=self.device_arrays)
        try:
            return make(self._outputs)
        except MemoryLimitError as error:
            if not self.may_repeat:
                raise
            least = error
        for _, outputs in ways(self._outputs):
            try:
                return make(outputs)
            except MemoryLimitError as error:
                least = min(least, error, key=lambda each: each.needed)
        raise least

    def memory_curve(self, *arrays: Any) -> MemoryCurve:
        """What less memory costs in time: by another order of the kernels, and by computing forward values of gradients again.

        arrays  as for a call, or shapes; none where all sizes are known
        returns a `MemoryCurve`; `Session.function` with ``memory=`` picks a point of it

        >>> x = fg.placeholder("x", (100, 100), "float64")
        >>> h = x
        >>> for _ in range(9):
        ...     h = fg.tanh(fg.sort(h, axis=0) * 2.0)
        >>> (dx,) = fg.gradients(fg.sum(h), x)
        >>> curve = session.function([x], dx).memory_curve()
        >>> curve.choices[-1].peak_bytes < curve.first.peak_bytes
        True
        """
        if len(arrays) != len(self.inputs) and (arrays or not all(tensor.is_known for tensor in self.inputs)):
            raise self._wrong_number(arrays)
        given = arrays or [tensor.shape for tensor in self.inputs]
        shapes = self.session._feeds.shapes(dict(zip(self.inputs, given, strict=True)))
        choices = []
        for kept, outputs in [(-1, self._outputs), *ways(self._outputs)]:
            for limit in (None, 0):
                plan = self.session._program(outputs, shapes, limit).plan
                how = "as it is" if kept < 0 else f"{counted(kept, 'tensor')} kept, others made again"
                how += "" if limit is None else ", in another order"
                choices.append(lazy.curve.Choice(how, plan.peak_bytes, plan.seconds, plan))
        return lazy.curve.MemoryCurve(choices)

    def plan(self, *arrays: Any) -> Plan:
        """The plan that a call with these arrays (or shapes) runs; without arguments, the last one made."""
        if not arrays and self._programs:
            return list(self._programs.values())[-1].plan
        if not arrays and self.inputs:
            raise ArgumentError("function: it has not been called yet, and sizes are not known", help="give arrays or shapes, as in a call")
        if len(arrays) != len(self.inputs):
            raise self._wrong_number(arrays)
        shapes = self.session._feeds.shapes(dict(zip(self.inputs, arrays, strict=True)))
        return self._fitting(shapes).plan


def export(function: Function, file: str | os.PathLike[str]) -> Path:
    """See `Function.export`."""
    from pathlib import Path

    if not isinstance(file, str | os.PathLike):
        raise ArgumentError(f"export: a file like predict.py is expected, got {file!r:.80}", help="its stem names the function")
    path = Path(file)
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ArgumentError(f"export: a file like predict.py is expected, got {path.name!r}", help="its stem names the function")
    session = function.session
    plan = compile_plan(function._outputs, {tensor: tensor.shape for tensor in function.inputs}, HOST, is_body=True, others=session.devices)
    with session._state.lock:
        values = {node.id: session._state.read_on_host(node) for node, _ in plan.variables}
    weights = path.with_suffix(".npz").name

    def results(names: list[str]) -> str:
        return repr(function._names([_Word(name) for name in names]))

    text, arrays = write_module(plan, values, results, name=path.stem, weights=weights)
    path.write_text(text)
    np.savez(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]
    return path


class _Word(str):
    """A text that is its own representation: a name in the nesting that a function returns."""

    __slots__ = ()
    __repr__ = str.__str__
