"""Checkpoints: a training that is stopped at any moment goes on from the last of them, and ends with the same bits.

A checkpoint is one safetensors file, ``checkpoint-000000100.safetensors`` for step 100. It holds every variable, those of optimisers
included, and as a text what is no array: the step, the session's random state, and where the data stands. The file takes its
name only when it is complete and on the disk, so what has that name is whole, whenever the process was killed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..errors import ArgumentError, FileFormatError
from .files import as_path, variables_of
from .weights import File, HasVariables, fill, opened, write

FORMAT = 1
ENTRY = "flowgraph.checkpoint"  # in the metadata, with what is no array


class HasState(Protocol):
    """What can be taken along: its ``state`` is plain data (numbers, texts, lists, dicts), and setting it goes on from there."""

    state: Any


class Resumable(HasVariables, Protocol):
    """What a session is for this module."""

    random_state: tuple[int, int]


class Checkpoints:
    """The checkpoints of one training, in a folder of their own.

    folder   made by the first ``save``; one process writes to it at a time, any number may read
    session  its variables' values and its random state are saved and restored
    keep     so many are kept, the newest; None: all
    states   by name, what else goes on from where it was: ``fg.data.batches(...)``, ``rng.bit_generator`` of a NumPy generator,
             or an object with a ``state`` of plain data that can be set

    Each file is a file of weights, too: ``fg.io.load_weights`` reads it, ``strict=False`` what fits of it.

    >>> w = fg.variable(8.0, name="w")
    >>> train = fg.optim.SGD(0.25).minimize(w * w)
    >>> batches = fg.data.batches(np.arange(9), 3)
    >>> checkpoints = fg.io.Checkpoints("run", session, states={"batches": batches})
    >>> step = checkpoints.restore()             # 0 at the first start; the step of the newest one after a stop
    >>> for batch in batches:
    ...     session.run(train)
    ...     step += 1
    ...     path = checkpoints.save(step)
    >>> path, checkpoints.steps
    (PosixPath('run/checkpoint-000000003.safetensors'), [1, 2, 3])

    To begin with these weights another training, or to look at them:

    >>> fg.io.load_weights(session, checkpoints.path(1)).loaded
    ('w',)
    >>> session.run(w)
    np.float64(4.0)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        session: Resumable,
        *,
        keep: int | None = 3,
        states: Mapping[str, HasState] | None = None,
    ) -> None:
        if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 1):
            raise ArgumentError(f"Checkpoints: keep is a number of checkpoints, at least 1, or None for all, got {keep!r}")
        self.folder, self.keep = as_path(folder, "Checkpoints"), keep
        variables_of(session, "Checkpoints")
        self._session = session
        if states is not None and not isinstance(states, Mapping):
            raise ArgumentError(f"Checkpoints: states are a dict by name, got {states!r:.80}", help='states={"batches": batches}')
        self._states = dict(states or {})
        for name, each in self._states.items():
            if not hasattr(each, "state"):
                raise ArgumentError(
                    f"Checkpoints: {name} has no state, it is {each!r:.80}",
                    help="fg.data.batches(...) has one, and rng.bit_generator of a NumPy generator",
                )
        self._has_written = False

    @property
    def steps(self) -> list[int]:
        """The steps that have a checkpoint in the folder, rising."""
        if not self.folder.is_dir():
            return []
        found = (re.fullmatch(r"checkpoint-(\d{9,})\.safetensors", entry.name) for entry in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def path(self, step: int) -> Path:
        """The file of the checkpoint of ``step``, whether it is there or not."""
        if isinstance(step, bool) or not hasattr(step, "__index__") or step.__index__() < 0:
            raise ArgumentError(f"Checkpoints: a step is a number of steps, at least 0, got {step!r}")
        return self.folder / f"checkpoint-{step:09d}.safetensors"

    def save(self, step: int) -> Path:
        """Write what is needed to go on behind ``step`` steps, then remove the checkpoints that are too many.

        returns  the file, which is on the disk by then
        raises   ArgumentError where the folder has later steps, which a restart would take for the newest, or where a state is
                 no plain data; DtypeError for a dtype that safetensors does not have; OSError where nothing can be written

        Call it between runs. One that goes on meanwhile is in it with all its updates or with none of them, yet is counted as started.
        """
        path = self.path(step)
        later = [each for each in self.steps if each > step]
        if later:
            raise ArgumentError(
                f"Checkpoints: cannot save step {step}, as {self.folder} has later ones: {', '.join(map(str, later[:5]))}",
                help="remove them, or save to another folder: a restart would go on from the latest",
            )
        seed, runs = self._session.random_state
        record = {"format": FORMAT, "step": int(step), "seed": seed, "runs": runs, "states": {n: s.state for n, s in self._states.items()}}
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._has_written:
            self._remove_unfinished()
        variables: Any = self._session.variables
        write(variables.copy(), path, {ENTRY: _as_text(record)}, "Checkpoints")
        self._has_written = True
        if self.keep is not None:
            for old in self.steps[: -self.keep]:
                self.path(old).unlink(missing_ok=True)
        return path

    def restore(self, step: int | None = None) -> int:
        """Set the session and the states to where they were when the checkpoint was saved: all of it, or on an error nothing.

        step     which one; None for the newest
        returns  its step; 0 where there is none at all, and then nothing is changed
        raises   WeightsError with all that is missing, extra or of another shape, if the variables are not those of the file;
                 ArgumentError if the states are not; FileFormatError for a damaged file; FileNotFoundError for a step without one
        """
        if step is None:
            steps = self.steps
            if not steps:
                return 0
            step = steps[-1]
        path = self.path(step)
        with opened(path) as file:
            record = _record(file)
            if record["states"].keys() != self._states.keys():
                raise ArgumentError(
                    f"Checkpoints: {path} has other states than these",
                    rows=[("there", ", ".join(sorted(record["states"])) or "none"), ("here", ", ".join(sorted(self._states)) or "none")],
                    help='fg.io.Checkpoints(folder, session, states={"batches": batches}) with the names from before',
                )
            random_state = self._session.random_state
            changed: list[tuple[HasState, Any]] = []
            try:
                self._session.random_state = record["seed"], record["runs"]
                for name, each in self._states.items():
                    before = each.state
                    each.state = record["states"][name]
                    changed.append((each, before))
                fill(self._session, file, True, "Checkpoints")  # the last, as it checks before it changes anything
            except BaseException:
                for each, before in changed:
                    each.state = before
                self._session.random_state = random_state
                raise
        return int(record["step"])

    def __repr__(self) -> str:
        return f"<Checkpoints {self.folder}: steps {', '.join(map(str, self.steps)) or 'none'}>"

    def _remove_unfinished(self) -> None:
        """What a process left behind that was killed while it wrote; see `atomic_path` for the name."""
        for entry in self.folder.iterdir():
            if re.fullmatch(r"\.checkpoint-\d{9,}-[0-9a-f]{12}\.safetensors", entry.name):
                entry.unlink(missing_ok=True)


def _as_text(record: dict[str, Any]) -> str:
    import json

    for name, state in record["states"].items():
        try:
            json.dumps(state)
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                f"Checkpoints: the state of {name} is no plain data: {error}",
                help="numbers, texts, lists and dicts with texts as keys; arrays belong into variables",
            ) from error
    return json.dumps(record)


def _record(file: File) -> dict[str, Any]:
    import json

    text = file.metadata.get(ENTRY)
    if text is None:
        raise FileFormatError(f"{file.path} holds weights and is no checkpoint", help="fg.io.load_weights(session, path) loads it")
    try:
        record = json.loads(text)
        numbers = [record[key] for key in ("format", "step", "seed", "runs")]
        whole = all(type(number) is int and number >= 0 for number in numbers) and isinstance(record["states"], dict)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise FileFormatError(f"{file.path} is a damaged checkpoint: its entry {ENTRY!r} is not readable")
    if record["format"] != FORMAT:
        raise FileFormatError(f"{file.path} is a checkpoint of format {record['format']}, and this version reads {FORMAT}")
    return record  # type: ignore[no-any-return]
