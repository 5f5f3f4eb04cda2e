"""The replay at a prompt: commands read from a terminal, a pipe or an argument, each answered in text."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TextIO

import numpy as np

from ..compile.source import legend, task_sources
from ..errors import ArgumentError, FlowgraphError
from ..graph import Tensor
from ..graph.report import where
from ..graph.spec import format_spec
from ..session.expressions import Expression
from .replay import Replay
from .stepping import Breakpoint, Stepping, Value, members, title

PROMPT = "(replay) "

# command -> (other names, what follows it, what it does)
COMMANDS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "step": (("s", "forward"), "[N]", "run the next step, or N of them"),
    "back": (("b",), "[N]", "take the last step back, or N of them"),
    "goto": (("g",), "N", "go to where N steps have run, forwards or backwards"),
    "continue": (("c", "run"), "", "run to the next breakpoint, or to the end"),
    "reverse": (("r",), "", "go back to the breakpoint before, or to the start"),
    "list": (("l",), "[N]", "the steps around here (N of them, 11 if not said)"),
    "where": (("w",), "", "the last step: its line, its inputs, what it made"),
    "show": (("p", "print"), "NAME | EXPRESSION", "a tensor's shape, dtype, statistics and values; or what norm(x - 1) and the like give"),
    "break": ((), "[WHERE]", "stop behind a node, scope, line or condition; without WHERE, what there is"),
    "delete": ((), "[N]", "take breakpoint N away, or all"),
    "set": ((), "NAME = EXPRESSION", "change a value and go back to where it was made; `x` is what it was"),
    "unset": ((), "NAME", "take that back"),
    "into": ((), "[TURN]", "step through one turn of the loop, or the branch, that ran last"),
    "out": ((), "", "leave it again"),
    "source": ((), "", "the program that ran, a kernel a line"),
    "runs": ((), "", "the runs of this record"),
    "select": ((), "N", "look at another run, from its start"),
    "verify": ((), "[THREADS | order]", "run all of it, and compare each task with the record, bit by bit"),
    "results": ((), "", "run to the end, and what was fetched and written"),
    "info": ((), "", "what made this record"),
    "help": (("h", "?"), "[COMMAND]", "this; or more on one"),
    "quit": (("q", "exit"), "", "leave"),
}

_MORE = {
    "break": """  break layer1/matmul            behind that node
  break layer1                   behind each node of a scope (the same as layer1/*)
  break train.py:12              behind each node that this line made
  break any(isnan(x))            behind the first value, of any node, that is not a number
  break layer1/* if norm(x) > 5  both
A condition is an expression of x, the value that a node has made: NumPy's functions, comparisons, and, or, not.""",
    "show": """  show layer1/matmul             its values
  show layer1/matmul[0, :5]      some of them
  show split:1                   the second output of a node
  show norm(value("layer1/w"))   an expression; value("name") is a tensor, and x is what the last step made
What is printed as "computed again" is inside a compiled loop, which keeps it to itself: its last digits may differ from the loop's.""",
    "set": """  set layer1/relu = x * 0        all of it, from what it was
  set layer1/relu[3] = nan       a part
  set x = 2.0                    a feed, or a variable: the replay goes back to its start
Everything that comes behind reads the new value: go on with step or continue, and see what becomes of the results.""",
}

_LONGEST = 2000  # characters of values


class Quit(Exception):
    """Ends the session."""


class Terminal:
    """Reads commands and writes answers. Errors are answers as well: nothing that is typed ends it but ``quit``.

    replay  what it is about
    out     where answers go
    """

    def __init__(self, replay: Replay, out: TextIO) -> None:
        self.replay, self.out = replay, out
        self.levels: list[Stepping] = [replay]
        self._last = ""

    @property
    def here(self) -> Stepping:
        """The run itself, or the loop that was entered last."""
        return self.levels[-1]

    def greet(self) -> None:
        """What is shown at the start."""
        run, record = self.replay.recorded, self.replay.record
        count, place = len(record.runs), record.runs.index(run)
        which = "the only one" if count == 1 else f"of {count}" if place < count - 1 else f"the last of {count}"
        self._write(f"run {place}, {which}: {len(self.replay.steps)} steps; help lists commands")
        for note in record.differences():
            self._write(f"note: {note}")
        if run.error:
            self._write(f"it ended with {run.error.splitlines()[0]}")

    def run(self, commands: Iterable[str]) -> None:
        """Answers each command, until they end or one says quit."""
        for command in commands:
            try:
                self.answer(command)
            except Quit:
                return

    def answer(self, line: str) -> None:
        """Answers one command; an empty one repeats the last that moves."""
        line = line.strip() or self._last
        if not line or line.startswith("#"):
            return
        word, _, rest = line.partition(" ")
        name = _command(word)
        self._last = line if name in ("step", "back", "continue", "reverse") else ""
        if name is None:
            from difflib import get_close_matches

            near = get_close_matches(word, COMMANDS, n=2)
            self._write(f"there is no command {word!r}: {'did you mean ' + ' or '.join(near) + '?' if near else 'help lists them'}")
            return
        action: Callable[[str], None] = getattr(self, f"_{name}")
        try:
            action(rest.strip())
        except FlowgraphError as error:
            self._write(f"{type(error).__name__}: {error}")

    def _write(self, text: str) -> None:
        print(text, file=self.out)

    # --- going

    def _step(self, rest: str) -> None:
        if self.here.is_over:
            self._write(self._at_end())
            return
        self.here.forward(_number(rest, 1))
        self._place()

    def _back(self, rest: str) -> None:
        self.here.back(_number(rest, 1))
        self._place()

    def _goto(self, rest: str) -> None:
        self.here.go(_number(rest, None))
        self._place()

    def _continue(self, rest: str) -> None:
        if self.here.is_over:
            self._write(self._at_end())
            return
        found = self.here.run()
        inner = self.here.inner
        if inner is not None:
            path = inner.path[len(self.here.walk.path) :]
            self._write(f"stopped: in {' in '.join(map(str, reversed(path)))}, {inner.node.name} would; `into {path[0].number}` goes there")
        elif found is not None:
            self._write(f"breakpoint {self.here.breakpoints.index(found)}: {found.text}")
        self._place()

    def _reverse(self, rest: str) -> None:
        found = self.here.run_back()
        if found is not None:
            self._write(f"breakpoint {self.here.breakpoints.index(found)}: {found.text}")
        self._place()

    def _place(self) -> None:
        step, here = self.here.step, self.here
        if step is None:
            self._write(f"at the start, before {len(here.steps)} steps")
        elif here.is_over and here.inner is None:
            self._write(f"step {here.place} of {len(here.steps)}, the last   {title(step)}")
        else:
            self._write(f"step {here.place} of {len(here.steps)}   {title(step)}")

    def _at_end(self) -> str:
        return f"all {len(self.here.steps)} steps have run; back, goto N or reverse go back" + (
            ", out leaves" if len(self.levels) > 1 else ""
        )

    # --- looking

    def _list(self, rest: str) -> None:
        here, count = self.here, _number(rest, 11)
        first = max(0, min(here.place - 1 - count // 2, len(here.steps) - count))
        for step in here.steps[first : first + count]:
            mark = "->" if step.number == here.place - 1 else "  "
            self._write(f"{mark} {step.number + 1:>4}  {title(step)}")

    def _where(self, rest: str) -> None:
        self._place()
        step = self.here.step
        if step is None:
            return
        for node in members(step):
            if len(members(step)) > 1:
                self._write(f"  {node.name} = {node.op.name}   {where(node.location)}")
            if node.forward is not None:
                self._write(f"  while differentiating {node.forward.name}   {where(node.forward.location)}")
        inputs = dict.fromkeys(tensor for node in members(step) for tensor in node.inputs)
        made = {tensor for node in members(step) for tensor in node.outputs}
        for tensor in inputs:
            if tensor not in made:
                self._write(f"  reads  {self._brief(tensor)}")
        for tensor, _ in step.made:
            self._write(f"  makes  {self._brief(tensor)}")

    def _brief(self, tensor: Tensor) -> str:
        try:
            return f"{tensor.name}   {summary(self.here.look(tensor).array)}"
        except FlowgraphError:
            return f"{tensor.name}   {format_spec(tensor.shape, tensor.dtype)}"

    def _show(self, rest: str) -> None:
        if not rest:
            step = self.here.step
            if step is None or not step.made:
                raise ArgumentError("show takes a name or an expression", help="show layer1/matmul")
            rest = step.made[-1][0].name
        found = self._named(rest)
        if found is None:
            self._write(_text(self._evaluated(rest)))
            return
        value, index = found
        again = "" if value.is_exact else ", computed again"
        change = ", changed" if value.tensor in self.here.changed else ""
        self._write(f"{value.tensor.name}   {summary(value.array)}{again}{change}   {where(value.tensor.node.location)}")
        self._write(_text(value.array if index is None else self._indexed(value.array, index)))

    def _named(self, text: str) -> tuple[Value, str | None] | None:
        """The value that is named, and what stands in brackets behind it; None for an expression."""
        match = re.fullmatch(r"([\w./:-]+?)(\[.*\])?", text)
        if match is None:
            return None
        if match[1].partition(":")[0] not in self.here.graph and (match[1] == "x" or match[1].replace(".", "").isdigit()):
            return None
        return self.here.look(match[1]), match[2]

    def _indexed(self, array: Any, index: str) -> Any:
        return Expression(f"x{index}", {"x"})(x=np.asarray(array))

    def _evaluated(self, text: str, **names: Any) -> Any:
        step = self.here.step
        if "x" not in names and step is not None and step.values:
            names["x"] = step.values[-1]
        expression = Expression(text, {"x", "value"})
        if "x" not in names and re.search(r"\bx\b", text):
            raise ArgumentError("x is what the last step made, and none has made a value yet")
        return expression(value=lambda name: self.here.value(str(name)), **names)

    def _source(self, rest: str) -> None:
        self._write(legend(self.replay.plan) + task_sources(self.replay.plan).listing().rstrip())

    # --- stopping

    def _break(self, rest: str) -> None:
        points = self.here.breakpoints
        if rest:
            points.append(Breakpoint(rest, self.here.graph))
            self._write(f"breakpoint {len(points) - 1}: {points[-1].text}")
            return
        for number, point in enumerate(points):
            self._write(f"breakpoint {number}: {point.text}")
        if not points:
            self._write("there are no breakpoints: break layer1/*, break train.py:12, break any(isnan(x))")

    def _delete(self, rest: str) -> None:
        points = self.here.breakpoints
        if not rest:
            points.clear()
            return
        number = _number(rest, None)
        if number >= len(points):
            raise ArgumentError(f"there is no breakpoint {number}", help="break lists them")
        del points[number]

    # --- changing

    def _set(self, rest: str) -> None:
        match = re.fullmatch(r"([\w./:-]+?)\s*(\[[^=]*\])?\s*=\s*(.+)", rest)
        if match is None:
            raise ArgumentError(f"set {rest}: a name and a value are expected", help="set layer1/relu = x * 0")
        name, index, text = match.groups()
        tensor = self.here.tensor(name)
        try:
            was = self.here.look(tensor).array
        except ArgumentError:
            was = None
        if was is None and (index is not None or re.search(r"\bx\b", text)):
            self.here.look(tensor)  # says which step makes it
        value = self._evaluated(text, **({} if was is None else {"x": np.asarray(was)}))
        if index is not None:
            whole = np.array(was)
            _put(whole, index, value)
            value = whole
        self.here.change(tensor, value)
        self._write(f"{tensor.name}   {summary(self.here.look(tensor).array)}, changed")
        self._place()

    def _unset(self, rest: str) -> None:
        self.here.restore(rest)
        self._place()

    # --- loops

    def _into(self, rest: str) -> None:
        level = self.here.into(_number(rest, 0))
        level.breakpoints = list(self._points_of(level))
        self.levels.append(level)
        self._write(f"in {' in '.join(map(str, reversed(level.walk.path)))}: {len(level.steps)} steps; out leaves")
        given = [f"{tensor.name} {summary(level.walk.known[tensor])}" for tensor, _ in level.walk.plan.feeds]
        for line in given:
            self._write(f"  given  {line}")

    def _points_of(self, level: Stepping) -> Iterator[Breakpoint]:
        for point in self.here.breakpoints:
            try:
                yield Breakpoint(point.text, level.graph)
            except ArgumentError:
                continue

    def _out(self, rest: str) -> None:
        if len(self.levels) == 1:
            raise ArgumentError("this is the run itself; into N enters a loop")
        self.levels.pop()
        self._place()

    # --- the record

    def _runs(self, rest: str) -> None:
        for number, run in enumerate(self.replay.record.runs):
            mark = "->" if run is self.replay.recorded else "  "
            fed = ", ".join(f"{tensor.name} {tuple(array.shape)}" for tensor, array in run.feeds.items())
            end = run.error.splitlines()[0] if run.error else f"{len(run.tasks)} tasks"
            names = ", ".join(fetch.name for fetch in run.fetches[:4]) + (", ..." if len(run.fetches) > 4 else "")
            self._write(f"{mark} {number:>4}  {names} from {fed or 'nothing'}: {end}")

    def _select(self, rest: str) -> None:
        replay = Replay(self.replay.record, _number(rest, None), jit=self.replay._jit)
        self.replay.close()
        self.replay, self.levels = replay, [replay]
        self.greet()

    def _verify(self, rest: str) -> None:
        comparison = self.replay.check_order() if rest == "order" else self.replay.verify(_number(rest, 1))
        self._write(str(comparison))

    def _results(self, rest: str) -> None:
        del self.levels[1:]
        self.replay.go(len(self.replay.steps))
        for fetch, value in zip(self.replay.recorded.fetches, self.replay.results(), strict=True):
            if value is not None:
                self._write(f"{fetch.name}   {summary(value)}\n{_text(value)}")
        for name, value in self.replay.updates().items():
            self._write(f"{name} becomes {summary(value)}")
        if self.replay.changed:
            self._write(f"with {', '.join(tensor.name for tensor in self.replay.changed)} changed")

    def _info(self, rest: str) -> None:
        record = self.replay.record
        self._write(f"made with {', '.join(f'{name} {version}' for name, version in record.made.items())}")
        shown = {name: value for name, value in record.session.items() if name != "calibration"}
        self._write("session: " + ", ".join(f"{name} {value}" for name, value in shown.items()))
        for name in record.functions:
            self._write(f"it needs the Python function {name}")
        for line in record.differences():
            self._write(f"note: {line}")

    def _help(self, rest: str) -> None:
        name = _command(rest) if rest else None
        if rest and name is None:
            raise ArgumentError(f"there is no command {rest!r}", help="help lists them")
        if name is not None:
            others, follows, text = COMMANDS[name]
            self._write(f"{name} {follows}".rstrip() + (f"   (or {', '.join(others)})" if others else "") + f"\n  {text}")
            if name in _MORE:
                self._write(_MORE[name])
            return
        for each, (others, follows, text) in COMMANDS.items():
            self._write(f"  {', '.join((each, *others[:1])):<12} {follows:<20} {text}")
        self._write("`help break`, `help show` and `help set` have examples. An empty line repeats step, back, continue and reverse.")

    def _quit(self, rest: str) -> None:
        raise Quit


def summary(value: Any) -> str:
    """Shape, dtype and statistics of an array, in one line.

    >>> summary(np.array([1.0, 3.0, np.nan]))
    '(3,) float64, min 1, max 3, mean 2, norm 3.162, 1 nan'
    """
    array = np.asarray(value)
    text = format_spec(array.shape, array.dtype)
    if not array.size:
        return f"{text}, empty"
    if array.size == 1 and array.dtype.kind in "biufc":
        return f"{text}, {array.reshape(-1)[0]}"
    if array.dtype.kind == "b":
        return f"{text}, {int(array.sum())} of {array.size} true"
    if array.dtype.kind in "iu":
        return f"{text}, min {array.min()}, max {array.max()}"
    wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    finite = wide[np.isfinite(wide)]
    parts = [text]
    if finite.size and array.dtype.kind != "c":
        parts += [f"min {finite.min():.4g}", f"max {finite.max():.4g}", f"mean {finite.mean():.4g}"]
    if finite.size:
        parts.append(f"norm {np.linalg.norm(finite):.4g}")
    for what, count in (("nan", np.isnan(wide).sum()), ("inf", np.isinf(wide).sum())):
        if count:
            parts.append(f"{count} {what}")
    return ", ".join(parts)


def _text(value: Any) -> str:
    text = np.array2string(np.asarray(value), precision=6, threshold=60, edgeitems=3) if isinstance(value, np.ndarray) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _command(word: str) -> str | None:
    """The command that is meant: by its name, another name, or a beginning that only it has."""
    for name, (others, _, _) in COMMANDS.items():
        if word == name or word in others:
            return name
    begun = [name for name in COMMANDS if len(word) > 1 and name.startswith(word)]
    return begun[0] if len(begun) == 1 else None


def _number(text: str, default: int | None) -> int:
    if not text and default is not None:
        return default
    if not text.isdecimal():
        raise ArgumentError(f"a number is expected, got {text!r:.40}")
    return int(text)


def _put(array: Any, index: str, value: Any) -> None:
    """Writes where an index, as it was typed, says."""
    places = Expression(f"value{index}", {"value"})(value=_Index())
    try:
        array[places] = value
    except (IndexError, ValueError, TypeError) as error:
        raise ArgumentError(f"{index} cannot be written: {error}") from error


class _Index:
    def __getitem__(self, index: Any) -> Any:
        return index


def lines_of(commands: str | None, given: TextIO, out: TextIO) -> Iterator[str]:
    """The commands: of a text, in which ``;`` parts them, of a pipe, or typed at a prompt. Those not typed are echoed."""
    if commands is not None:
        lines: Sequence[str] | TextIO = [part for part in re.split(r"[;\n]", commands) if part.strip()]
    elif given.isatty():
        yield from _typed()
        return
    else:
        lines = given
    for line in lines:
        print(f"{PROMPT}{line.strip()}", file=out)
        yield line


def _typed() -> Iterator[str]:
    try:
        import readline  # noqa: F401  (it gives the prompt a history)
    except ImportError:
        pass
    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("  (quit leaves)")


def main(replay: Replay, commands: str | None = None) -> None:
    """Runs the prompt over a replay: reads ``commands``, or what is typed or piped in."""
    terminal = Terminal(replay, sys.stdout)
    terminal.greet()
    try:
        terminal.run(lines_of(commands, sys.stdin, sys.stdout))
    finally:
        terminal.replay.close()
