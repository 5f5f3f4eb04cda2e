"""Records: what they share with dataclasses."""

from __future__ import annotations

import copy
import pickle
from functools import cached_property
from typing import ClassVar

import pytest

from flowgraph.records import Record, field, replace


class Size(Record):
    width: int
    height: int = 1
    names: list[str] = field(default_factory=list)
    unit: ClassVar[str] = "m"

    @cached_property
    def area(self) -> int:
        return self.width * self.height


class Open(Record, frozen=False, slots=True):
    width: int
    height: int = 1


class Itself(Record, frozen=False, eq=False):
    width: int


class More(Itself, frozen=False, eq=False):
    height: int = 2


class Other(Record):
    width: int
    height: int


def test_a_record_has_the_fields_that_its_class_names_with_their_defaults():
    size = Size(2, height=3)
    assert (size.width, size.height, size.names, size.area, Size.unit) == (2, 3, [], 6, "m")
    assert repr(size) == "Size(width=2, height=3, names=[])"
    assert Size(1).names is not Size(1).names
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'width'"):
        Size()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        Size(1, depth=2)  # type: ignore[call-arg]


def test_records_are_equal_where_their_classes_and_fields_are():
    assert Open(2) == Open(2, 1) != Open(2, 2)
    assert Other(2, 1) != Open(2, 1)  # type: ignore[comparison-overlap]
    assert len({Other(2, 1), Other(2, 1), Other(1, 2)}) == 2
    assert Itself(1) != Itself(1)
    assert len({Itself(1), Itself(1)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Open(1))


def test_a_record_stays_as_it_is_unless_its_class_says_otherwise():
    size, other = Size(2), Open(2)
    with pytest.raises(AttributeError, match="the width of a Size stays as it is"):
        size.width = 3  # type: ignore[misc]
    with pytest.raises(AttributeError, match="the width of a Size stays as it is"):
        del size.width
    other.width = 3
    assert (replace(size, width=5), size.width, other) == (Size(5), 2, Open(3))
    with pytest.raises(AttributeError, match="depth"):
        other.depth = 1  # type: ignore[attr-defined]  # (it has slots)


def test_a_class_of_records_inherits_fields_and_not_how_its_base_is_made():
    base, more = Itself(1), More(1, 3)
    assert (base.width, more.width, more.height, More(1).height) == (1, 1, 3, 2)


def test_records_are_copied_and_pickled_by_their_fields():
    for record in (Size(2, 3, ["a"]), Open(4)):
        assert copy.copy(record) == copy.deepcopy(record) == pickle.loads(pickle.dumps(record)) == record
