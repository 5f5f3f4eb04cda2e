"""Names that a module has not: which of those that it has may have been meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def near_names(name: str, known: Sequence[str], most: int = 3) -> list[str]:
    """Those of ``known`` that are spelt like ``name``, or that it is a part of.

    >>> near_names("cross_entropy", ["relu", "softmax_cross_entropy", "sigmoid_cross_entropy"])
    ['softmax_cross_entropy', 'sigmoid_cross_entropy']
    >>> near_names("adam", ["SGD", "Adam", "AdamW"], 1)
    ['Adam']
    """
    from difflib import get_close_matches  # slow to load, and only mistakes need it

    wanted = name.lower().replace("_", "")
    plain = {each: each.lower().replace("_", "") for each in known}
    same = [each for each in known if plain[each] == wanted]
    close = get_close_matches(wanted, plain.values(), n=most, cutoff=0.75)
    spelt = [each for word in close for each in known if plain[each] == word]
    holding = [each for each in known if len(wanted) > 3 and wanted in plain[each]]
    return list(dict.fromkeys([*same, *holding, *spelt]))[:most]


def tells_near(module: str, known: Sequence[str]) -> Callable[[str], Any]:
    """What a module has as ``__getattr__``: the error for a name that it has not names those that are near."""
    short = module.replace("flowgraph", "fg", 1)

    def missing(name: str) -> Any:
        near = [] if name.startswith("_") else near_names(name, known)
        hint = f": did you mean {' or '.join(f'{short}.{each}' for each in near)}?" if near else ""
        raise AttributeError(f"module {module!r} has no attribute {name!r}{hint}", name=name)

    return missing
