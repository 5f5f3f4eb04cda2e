"""Records: classes of named fields, written as dataclasses are, and made in a twentieth of their time.

`dataclasses` writes up to six methods of a class as text and compiles them whenever its module is imported, which takes 0.2 to 0.6 ms. Of
those that most programs need, that was a tenth of the time to a first result. Records share their methods; only ``__init__`` is
written as text, when the first record of a class is made.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, ClassVar, TypeVar, dataclass_transform

_REQUIRED = object()


class _Fresh:
    """A default that is made for each record."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def field(*, default_factory: Callable[[], Any]) -> Any:
    """The default of a field, made anew for each record."""
    return _Fresh(default_factory)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class _Kind(type):
    """Reads the fields of a class from its annotations.

    frozen  whether they stay as they are
    eq      whether records with equal fields are equal, and show them; else each is itself only
    slots   whether a record is no more than its fields
    """

    def __new__(
        meta, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, frozen: bool = True, eq: bool = True, slots: bool = False
    ) -> _Kind:
        own = [each for each, kind in namespace.get("__annotations__", {}).items() if not kind.startswith("ClassVar")]
        fields = {each: default for base in bases for each, default in getattr(base, "_fields", {}).items()}
        fields |= {each: namespace.pop(each, _REQUIRED) for each in own}
        namespace["_fields"] = fields
        if fields:
            namespace["_values"] = attrgetter(*fields)
            namespace.setdefault("__init__", _first)
        if slots:
            namespace["__slots__"] = tuple(own)
        shared: dict[str, Any] = {"__setattr__": _refuse, "__delattr__": _refuse} if frozen else {}
        if eq:
            shared |= {"__eq__": _equal, "__hash__": _hash if frozen else None, "__repr__": _shown}
        return super().__new__(meta, name, bases, shared | namespace)


def _first(self: Any, *values: Any, **named: Any) -> None:
    """Stands for ``__init__`` until the first record is made."""
    kind = type(self)
    kind.__init__ = _initialiser(kind)
    kind.__init__(self, *values, **named)


def _initialiser(kind: Any) -> Any:
    """The ``__init__`` of a class of records."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_Fresh": _Fresh}
    parameters, lines = ["self"], []
    for name, default in kind._fields.items():
        if default is not _REQUIRED:
            known[f"_{name}"] = default
        parameters.append(name if default is _REQUIRED else f"{name}=_{name}")
        value = f"_{name}.make() if {name} is _{name} else {name}" if isinstance(default, _Fresh) else name
        lines.append(f"    self.{name} = {value}" if kind.__setattr__ is object.__setattr__ else f"    _set(self, {name!r}, {value})")
    text = "\n".join([f"def __init__({', '.join(parameters)}):", *lines])
    exec(compile(text, f"<flowgraph record {kind.__name__}>", "exec"), known)
    return known["__init__"]


def _refuse(self: Any, name: str, value: Any = None) -> None:
    raise AttributeError(f"the {name} of a {type(self).__name__} stays as it is: `replace` makes another one", name=name, obj=self)


def _equal(self: Any, other: Any) -> bool:
    return bool(type(self) is type(other) and self._values(self) == self._values(other))


def _hash(self: Any) -> int:
    return hash(self._values(self))


def _shown(self: Any) -> str:
    return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"


class Record(metaclass=_Kind, frozen=False, eq=False):
    """Base of them: ``class Size(Record)``."""

    __slots__ = ()
    _fields: ClassVar[dict[str, Any]]

    def __reduce__(self) -> Any:
        return type(self), tuple(getattr(self, name) for name in self._fields)


R = TypeVar("R", bound=Record)


def replace(record: R, **changes: Any) -> R:
    """Another record, with some fields that differ."""
    return type(record)(**{name: getattr(record, name) for name in record._fields} | changes)
