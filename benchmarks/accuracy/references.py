"""All references, by family, and the ops that have no numbers of their own to measure."""

from __future__ import annotations

from . import contractions, elementwise, exact, matrices, reductions, special, transforms
from .measure import Reference

FAMILIES: dict[str, dict[str, Reference]] = {
    "Shapes, positions and order": exact.REFERENCES,
    "Element by element": elementwise.REFERENCES,
    "Special functions": special.REFERENCES,
    "Reductions, running sums and losses": reductions.REFERENCES,
    "Sums of products": contractions.REFERENCES,
    "Fourier transforms": transforms.REFERENCES,
    "Linear algebra": matrices.REFERENCES,
}
REFERENCES = {name: reference for family in FAMILIES.values() for name, reference in family.items()}

_VALUES = "hands on what the session or the graph holds"
_DRAWS = "a random draw: its distribution is tested, and it has no true value"
_BODIES = "runs the ops of its sub-graphs"
_YOURS = "runs the user's function"
UNMEASURED = {
    **dict.fromkeys(["placeholder", "constant", "variable", "assign", "group"], _VALUES),
    **dict.fromkeys(["run_key", "fold_key", "random_bits", "random_uniform", "random_normal", "random_exponential"], _DRAWS),
    **dict.fromkeys(["random_integers", "random_permutation", "random_gamma", "log_uniform_candidates"], _DRAWS),
    **dict.fromkeys(["cond", "scan", "while", "checkpoint"], _BODIES),
    **dict.fromkeys(["custom_gradient", "custom_op", "py_call"], _YOURS),
}
