"""The values of a session's variables in a safetensors file: names, shapes, dtypes and numbers, and no code.

The format: https://huggingface.co/docs/safetensors. Other frameworks read and write it, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DtypeError, FileFormatError, FlowgraphError
from .files import as_path, atomic_path, variables_of


class HasVariables(Protocol):
    """What a session is for this module: something with variables by name."""

    @property
    def variables(self) -> MutableMapping[str, NDArray[Any]]: ...


def save_weights(
    session: HasVariables,
    path: str | os.PathLike[str],
    *,
    only: str | Iterable[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the values of the session's variables to ``path``, as a safetensors file with the variables' names.

    path      file to write; the old one stays until the new one is complete, and stays if writing fails
    only      names of variables, or of scopes with variables in them; None: all variables
    metadata  texts by name to keep beside the weights; ``load_weights`` returns them
    raises    ArgumentError for a name in ``only`` that fits no variable, DtypeError for a dtype that safetensors
              does not have, OSError where the file cannot be written

    >>> w = fg.variable(fg.init.zeros((2, 3)), name="w")
    >>> fg.io.save_weights(session, "w.safetensors", metadata={"trained": "not at all"})
    >>> report = fg.io.load_weights(session, "w.safetensors")
    >>> report.loaded, report.metadata
    (('w',), {'trained': 'not at all'})
    """
    variables = variables_of(session, "save_weights")
    names = _chosen(list(variables), only)
    write({name: variables[name] for name in names}, as_path(path, "save_weights"), dict(metadata or {}), "save_weights")


def load_weights(session: HasVariables, path: str | os.PathLike[str], *, strict: bool = True) -> WeightsReport:
    """Set the session's variables to the values in the safetensors file at ``path``: all of them, or on an error none.

    strict   the file has to have each variable, with its shape and dtype, and nothing else; False: load what fits
    returns  ``WeightsReport``: what was loaded, and what did not fit. Narrower floats in the file (float16, bfloat16)
             fit wider variables, as nothing is lost
    raises   WeightsError if ``strict`` and anything does not fit, with all of it at once; FileFormatError for a file
             that is truncated, damaged or no safetensors file; FileNotFoundError and other OSErrors as ``open`` does

    >>> w, v = fg.variable(fg.init.zeros((2, 3)), name="w"), fg.variable(fg.init.zeros((3,)), name="v")
    >>> fg.io.save_weights(session, "w.safetensors", only="w")
    >>> fg.io.load_weights(session, "w.safetensors", strict=False).missing
    ('v',)
    """
    variables_of(session, "load_weights")
    with opened(as_path(path, "load_weights")) as file:
        return fill(session, file, strict, "load_weights")


class Mismatch(NamedTuple):
    """An entry of a file that does not fit the variable of its name; the dtypes are NumPy's names."""

    name: str
    file_shape: tuple[int, ...]
    file_dtype: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name}: {self.file_shape} {self.file_dtype} in the file, {self.shape} {self.dtype} here"


@dataclass(frozen=True)
class WeightsReport:
    """What ``load_weights`` found: names of variables and entries, in order, and the file's texts.

    loaded      variables that now have the file's values
    missing     variables that the file does not have
    extra       entries of the file that are no variables here
    mismatched  entries whose shape or dtype is not the variable's
    metadata    texts by name that were saved beside the weights
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether the file has each variable as it is here, and nothing else."""
        return not (self.missing or self.extra or self.mismatched)


class WeightsError(FlowgraphError, ValueError):
    """A file of weights that does not fit the variables; ``missing``, ``extra``, ``mismatched`` as in WeightsReport."""

    def __init__(self, path: str, report: WeightsReport, what: str = "load_weights") -> None:
        self.path, self.report, self.what = path, report, what
        self.missing, self.extra, self.mismatched = report.missing, report.extra, report.mismatched
        groups: list[tuple[str, tuple[object, ...]]] = [
            ("missing", self.missing),
            ("extra", self.extra),
            ("mismatched", self.mismatched),
        ]
        counts = ", ".join(f"{len(group)} {label}" for label, group in groups if group)
        super().__init__(
            f"{what}: {path} does not fit the session's variables: {counts}",
            rows=[(label, _listed(group)) for label, group in groups if group],
            help="fg.io.load_weights(session, path, strict=False) loads what fits; nothing has been loaded now",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return WeightsError, (self.path, self.report, self.what), {"rows": self.rows}


def write(arrays: Mapping[str, Any], path: str | os.PathLike[str], metadata: dict[Any, Any], what: str) -> None:
    """Write ``arrays`` to a safetensors file, complete or not at all; ``what`` names the caller's function in errors."""
    for key, text in metadata.items():
        if not (isinstance(key, str) and isinstance(text, str)):
            raise ArgumentError(
                f"{what}: metadata has {text!r} under {key!r}, but it takes texts only",
                help="metadata={name: str(value)}, or json.dumps(value) for what has parts",
            )
    if "__metadata__" in arrays:
        raise ArgumentError(f"{what}: safetensors keeps the name __metadata__ for itself; rename the variable")
    # In C order, as safetensors writes memory as it lies, whatever the strides; ascontiguousarray turns () into (1,).
    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in ordered.items():
        if array.dtype.name not in _SAVED_DTYPES:
            raise DtypeError(f"{what}: variable {name} is {array.dtype}, which a safetensors file cannot hold")

    from safetensors.numpy import save_file

    with atomic_path(path) as temporary:
        save_file(ordered, temporary, metadata=metadata or None)


def fill(session: HasVariables, file: File, strict: bool, what: str) -> WeightsReport:
    """Set the session's variables to the values in ``file``: all of them, or on an error none."""
    entries = {name: file.entry(name) for name in file.names}
    variables = session.variables
    present = {name: variables[name] for name in variables}
    shared = [name for name in present if name in entries]
    mismatched = tuple(
        Mismatch(name, entries[name].shape, entries[name].dtype, present[name].shape, present[name].dtype.name)
        for name in shared
        if not _fits(entries[name], present[name])
    )
    differing = {each.name for each in mismatched}
    report = WeightsReport(
        loaded=tuple(name for name in shared if name not in differing),
        missing=tuple(name for name in present if name not in entries),
        extra=tuple(name for name in entries if name not in present),
        mismatched=mismatched,
        metadata=file.metadata,
    )
    if strict and not report.fits:
        raise WeightsError(file.path, report, what)
    values = {name: file.array(name, present[name].dtype) for name in report.loaded}
    try:
        variables.update(values)
    except BaseException:
        # Each was checked above, so this is a Ctrl-C or a session that closes meanwhile.
        variables.update({name: present[name] for name in values})
        raise
    return report


def _listed(group: tuple[object, ...], most: int = 20) -> str:
    lines = [str(each) for each in group[:most]]
    if len(group) > most:
        lines.append(f"and {len(group) - most} more")
    return "\n".join(lines)


def _chosen(names: list[str], only: str | Iterable[str] | None) -> list[str]:
    if only is None:
        return names
    wanted = list(only) if isinstance(only, Iterable) and not isinstance(only, str) else [only]
    each: Any
    for each in wanted:
        if not isinstance(each, str):
            raise ArgumentError(f"save_weights: only takes names of variables and scopes, got {each!r:.80}")
        if not any(_is_in(name, each) for name in names):
            from difflib import get_close_matches

            near = get_close_matches(each, names, n=3)
            raise ArgumentError(
                f"save_weights: there is no variable and no scope with variables named {each!r}",
                help=f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names[:20]) or 'none'}",
            )
    return [name for name in names if any(_is_in(name, each) for each in wanted)]


def _is_in(name: str, scope: str) -> bool:
    return name == scope or name.startswith(scope.rstrip("/") + "/")


# safetensors' name of each dtype that NumPy has, or gets from ml_dtypes (bfloat16).
_DTYPES = {
    "BOOL": "bool", "C64": "complex64",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16",
}  # fmt: skip
_SAVED_DTYPES = frozenset(_DTYPES.values())
_WIDER = {"float16": ("float32", "float64"), "bfloat16": ("float32", "float64"), "float32": ("float64",)}


class _Entry(NamedTuple):
    shape: tuple[int, ...]
    dtype: str  # NumPy's name, or safetensors' where NumPy has none


def _fits(entry: _Entry, value: NDArray[Any]) -> bool:
    dtype = value.dtype.name
    return entry.shape == value.shape and (entry.dtype == dtype or dtype in _WIDER.get(entry.dtype, ()))


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[File]:
    """The file at ``path`` with its header checked. raises FileFormatError for a damaged one, also while it is read within the block."""
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as raw:  # a missing file, a folder or a file without permission: Python's own errors
        size = os.fstat(raw.fileno()).st_size
        try:
            with safe_open(Path(path), framework="np") as file:
                yield File(str(path), file, raw.fileno())
        except SafetensorError as error:
            reason = str(error).removeprefix("Error while deserializing header: ")
            raise FileFormatError(
                f"{path} is damaged, truncated, or no safetensors file: {reason}",
                rows=[("size", f"{size} bytes")],
                help="copy or download the file again, or save the weights anew with fg.io.save_weights",
            ) from error


class File:
    """A safetensors file that is open, with its header checked by the safetensors library."""

    def __init__(self, path: str, file: Any, descriptor: int) -> None:
        self.path = path
        self._file = file
        self._descriptor = descriptor
        self.names: list[str] = list(file.keys())
        self.metadata: dict[str, str] = dict(file.metadata() or {})

    def entry(self, name: str) -> _Entry:
        entry = self._file.get_slice(name)
        dtype = str(entry.get_dtype())
        return _Entry(tuple(entry.get_shape()), _DTYPES.get(dtype, dtype))

    def array(self, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        entry = self.entry(name)
        if entry.dtype != "bfloat16":
            return np.asarray(self._file.get_tensor(name), dtype)
        # NumPy has no bfloat16 and the library none for NumPy, so the bits are read here: a float32's upper half.
        bits = np.frombuffer(self._raw(name), "<u2").reshape(entry.shape)
        if dtype.name == "bfloat16":
            return bits.astype(np.uint16).view(dtype)
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(dtype)

    def _raw(self, name: str) -> bytes:
        import json

        with os.fdopen(os.dup(self._descriptor), "rb") as raw:
            raw.seek(0)
            header_size = int.from_bytes(raw.read(8), "little")
            start, end = json.loads(raw.read(header_size))[name]["data_offsets"]
            raw.seek(8 + header_size + start)
            return raw.read(end - start)
