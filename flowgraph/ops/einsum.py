"""Sums of products over named axes: einsum, and what it is lowered to.

An einsum becomes diagonals, sums, and for each pair of operands a multiplication, a matrix product, or, where several axes are summed or
stand side by side, ``contract``: one batched matrix product after merging axes, whose sizes perhaps only the run knows. Its gradients are
contractions again. The order of the pairs is opt_einsum's where all sizes are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Dim, Tensor
from ..graph.arguments import as_several
from ..graph.op import public
from ..graph.spec import format_shape, is_known, normalize_axis, promote_dtypes
from .contract import LETTERS, contract
from .diagonals import diagonal_part
from .elementwise import astype, conj, multiply
from .matmul import matmul
from .reduce import sum
from .shape import expand_dims, permute_dims, reshape, squeeze


def einsum(subscripts: Any, *operands: Any, optimize: Any = True) -> Tensor:
    """The sum of products of ``operands`` that ``subscripts`` names, in NumPy's notation.

    subscripts  a letter for each axis of each operand: "ij,jk->ik" is a matrix product. Letters that the result lacks are summed. A
                letter that one operand has twice is its diagonal; "..." stands for further axes, which broadcast. Without "->", the
                result has the letters that occur once, in the order of the alphabet. NumPy's other form works as well:
                ``einsum(x, [0, 1], y, [1, 2])``
    optimize    whether to choose the order in which pairs are multiplied by their cost (True), or to go from left to right (False, or
                where a size is not known)
    returns     tensor of the promoted dtype; each pair of operands is one matrix product
    raises      ArgumentError for subscripts that make no sense, ShapeError where one letter stands for two sizes

    >>> session.run(fg.einsum("ij,kj->ik", [[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]))
    array([[11., 17.]])
    """
    if not isinstance(subscripts, str):
        numbers = operands[::2] if len(operands) % 2 else (*operands[::2], operands[-1])
        if not all(isinstance(each, list | tuple) and all(n is Ellipsis or n in range(len(LETTERS)) for n in each) for each in numbers):
            forms = 'fg.einsum("ij,jk->ik", x, y), or fg.einsum(x, [0, 1], y, [1, 2])'
            raise ArgumentError("einsum: the subscripts come first", help=forms)
        subscripts, operands = _lettered((subscripts, *operands))
    tensors = list(contract.lift(operands))
    terms, result = _parsed(subscripts, tensors)
    dtype = promote_dtypes(*[x.dtype for x in tensors])
    pairs = [_settled(x, term) for x, term in zip(_cropped(subscripts, tensors, terms), terms, strict=True)]
    for chosen in _order(pairs, result, optimize):
        taken = [pairs[i] for i in chosen]
        pairs = [pair for i, pair in enumerate(pairs) if i not in chosen]
        needed = set(result).union(*(term for _, term in pairs))
        pairs.append(_multiplied(*taken, needed=needed, wanted=result if not pairs else ""))
    (x, term), *_ = pairs
    x, term = _summed(x, term, set(result))
    return astype(_permuted(x, term, result), dtype)


def tensordot(x: Any, y: Any, axes: Any = 2) -> Tensor:
    """The sum of products over several axes of ``x`` and as many of ``y``; the result has the other axes of x, then those of y.

    axes    how many: the last ones of x with the first ones of y; or a pair of ints or sequences: axes of x, axes of y
    raises  ShapeError when the sizes of a pair of axes differ, ArgumentError for unequal numbers of axes

    >>> session.run(fg.tensordot(np.ones((2, 3, 4)), np.ones((3, 4, 5)))).shape
    (2, 5)
    """
    x, y = contract.lift((x, y))
    if isinstance(axes, int | np.integer):
        if not 0 <= axes <= min(x.ndim, y.ndim):
            raise ArgumentError(f"tensordot: {axes} axes of {format_shape(x.shape)} and {format_shape(y.shape)}")
        axes = (range(x.ndim - axes, x.ndim), range(axes))
    axes = axes.tolist() if isinstance(axes, np.ndarray) else axes
    if not isinstance(axes, tuple | list) or len(axes) != 2:
        raise ArgumentError(f"tensordot: axes are a number, or a pair of axes of x and axes of y, got {axes!r:.60}")
    sides: Any = axes
    of_x, of_y = ([normalize_axis(a, t.ndim) for a in as_several(side, "axes")] for side, t in zip(sides, (x, y), strict=True))
    if len(of_x) != len(of_y) or len(set(of_x)) != len(of_x) or len(set(of_y)) != len(of_y):
        raise ArgumentError(f"tensordot: axes {of_x} of x do not pair with axes {of_y} of y")
    left = LETTERS[: x.ndim]
    right = list(LETTERS[x.ndim : x.ndim + y.ndim])
    for a, b in zip(of_x, of_y, strict=True):
        if isinstance(x.shape[a], int) and isinstance(y.shape[b], int) and x.shape[a] != y.shape[b]:
            raise ShapeError(
                f"tensordot: axis {a} of x has size {x.shape[a]}, and axis {b} of y, its partner, {y.shape[b]}",
                help="fg.tensordot(x, y, (axes of x, axes of y))",
            )
        right[b] = left[a]
    result = [c for c in left if c not in right] + [c for c in right if c not in left]
    return contract(x, y, subscripts=f"{left},{''.join(right)}->{''.join(result)}")


def inner(x: Any, y: Any) -> Tensor:
    """The sum of products over the last axes, as ``np.inner``."""
    x, y = contract.lift((x, y))
    return tensordot(x, y, (-1, -1)) if x.ndim and y.ndim else multiply(x, y)


def dot(x: Any, y: Any) -> Tensor:
    """The product that ``np.dot`` means: matrices and vectors as ``matmul``, else over the last axis of x and the last but one of y."""
    x, y = contract.lift((x, y))
    if not (x.ndim and y.ndim):
        return multiply(x, y)
    return matmul(x, y) if y.ndim <= 2 else tensordot(x, y, (-1, -2))


def outer(x: Any, y: Any) -> Tensor:
    """The products of each element of ``x`` with each of ``y``, both flattened.

    returns  (n, m)

    >>> session.run(fg.outer([1, 2], [3, 4, 5]))
    array([[ 3,  4,  5],
           [ 6,  8, 10]])
    """
    x, y = multiply.lift((x, y))
    rows, columns = (t if t.ndim == 1 else reshape(t, -1) for t in (x, y))
    return multiply(expand_dims(rows, 1), columns)


def kron(x: Any, y: Any) -> Tensor:
    """The Kronecker product: each element of ``x`` times all of ``y``, laid out in blocks.

    returns  as many dimensions as the larger has; sizes are the products of those of x and y
    raises   ShapeError when more than one size of the result is not known before a run

    >>> session.run(fg.kron([[1, 2]], [[1, 1]]))
    array([[1, 1, 2, 2]])
    """
    x, y = multiply.lift((x, y))
    ndim = max(x.ndim, y.ndim)
    for t in range(ndim - x.ndim):
        x = expand_dims(x, t)
    for t in range(ndim - y.ndim):
        y = expand_dims(y, t)
    sizes = [a * b if isinstance(a, int) and isinstance(b, int) else -1 for a, b in zip(x.shape, y.shape, strict=True)]
    if sizes.count(-1) > 1:
        raise ShapeError(f"kron: the sizes of {format_shape(x.shape)} and {format_shape(y.shape)} must be known, but for one axis")
    for axis in range(ndim):
        x, y = expand_dims(x, 2 * axis + 1), expand_dims(y, 2 * axis)
    return reshape(multiply(x, y), sizes)


def vecdot(x: Any, y: Any, axis: int = -1) -> Tensor:
    """The sum of products of vectors along ``axis``, those of ``x`` conjugated; the other axes broadcast.

    raises  ShapeError for scalars, and when the lengths differ

    >>> session.run(fg.vecdot([[1.0, 2.0], [3.0, 4.0]], [1.0, 10.0]))
    array([21., 43.])
    """
    x, y = matmul.lift((x, y))
    if not x.ndim or not y.ndim:
        raise ShapeError("vecdot: a scalar is no vector", help="use x * y")
    x, y = (_last(t, normalize_axis(axis, t.ndim)) for t in (x, y))
    return squeeze(matmul(expand_dims(conj(x), -2), expand_dims(y, -1)), (-2, -1))


def _last(x: Tensor, axis: int) -> Tensor:
    return x if axis == x.ndim - 1 else permute_dims(x, [*(a for a in range(x.ndim) if a != axis), axis])


# --- subscripts


def _lettered(items: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """NumPy's other form, in letters: operands, each followed by the numbers of its axes, and perhaps those of the result."""

    def text(numbers: Any) -> str:
        return "".join("..." if n is Ellipsis else LETTERS[n] for n in numbers)

    operands = items[: len(items) // 2 * 2 : 2]
    subscripts = ",".join(text(numbers) for numbers in items[1::2])
    return subscripts + (f"->{text(items[-1])}" if len(items) % 2 else ""), tuple(operands)


def _parsed(subscripts: str, operands: Sequence[Tensor]) -> tuple[list[str], str]:
    """The letters of each operand and of the result; the axes under an ellipsis get letters of their own."""
    text = subscripts.replace(" ", "")
    given, arrow, result = text.partition("->")
    terms = given.split(",")
    if len(terms) != len(operands):
        raise _confused(subscripts, f"names {len(terms)} operand{'s' * (len(terms) != 1)}, but {len(operands)} are given")
    if any(c not in LETTERS for c in (given + result).replace("...", "").replace(",", "")):
        raise _confused(subscripts, "may hold letters, commas, one -> and ...")
    free = [c for c in reversed(LETTERS) if c not in text]
    widest = 0
    for term, x in zip(terms, operands, strict=True):
        letters = term.replace("...", "", 1)
        rest = x.ndim - len(letters)
        if rest < 0 or (rest and "..." not in term):
            raise _confused(subscripts, f"names {len(letters)} axes of {x.name}, which has {x.ndim}: {format_shape(x.shape)}")
        if "..." in term:
            widest = max(widest, rest)
    # The axes under an ellipsis broadcast: their letters count from the last.
    under = "".join(free[:widest])[::-1]
    for i, (term, x) in enumerate(zip(terms, operands, strict=True)):
        rest = x.ndim - len(term.replace("...", "", 1))
        terms[i] = term.replace("...", under[len(under) - rest :])
    letters = "".join(terms)
    if not arrow:
        result = under + "".join(c for c in sorted(set(letters)) if letters.count(c) == 1 and c not in under)
    elif "..." in result:
        result = result.replace("...", under, 1)
    elif under:
        raise _confused(subscripts, "leaves out the ... of its operands in the result", "write it behind the arrow, or take fg.sum first")
    if len(set(result)) != len(result):
        raise _confused(subscripts, "names a letter twice in the result")
    if not set(result) <= set(letters):
        raise _confused(subscripts, f"has {min(set(result) - set(letters))} in the result, but in no operand")
    return terms, result


def _confused(subscripts: str, what: str, help: str = 'for example "bij,bjk->bik"') -> ArgumentError:
    return ArgumentError(f"einsum: {subscripts!r} {what}", help=help)


def _cropped(subscripts: str, operands: Sequence[Tensor], terms: list[str]) -> list[Tensor]:
    """The operands without axes of size 1 that stand for a larger size elsewhere; changes ``terms`` with them."""
    largest: dict[str, Dim] = {}
    for x, term in zip(operands, terms, strict=True):
        for label, dim in zip(term, x.shape, strict=True):
            known = largest.get(label, 1)
            if isinstance(known, int) and isinstance(dim, int) and dim != known and 1 not in (dim, known):
                raise ShapeError(
                    f"einsum: {label} in {subscripts!r} stands for {known} and for {dim}",
                    help="axes with one letter have one size",
                )
            if known == 1:
                largest[label] = dim
    results = []
    for i, (x, term) in enumerate(zip(operands, terms, strict=True)):
        drop = [axis for axis, (label, dim) in enumerate(zip(term, x.shape, strict=True)) if dim == 1 and largest[label] != 1]
        results.append(squeeze(x, drop) if drop else x)
        terms[i] = "".join(label for axis, label in enumerate(term) if axis not in drop)
    return results


# --- lowering


def _settled(x: Tensor, term: str) -> tuple[Tensor, str]:
    """``x`` with each letter once: a letter that stands twice is a diagonal."""
    while len(set(term)) != len(term):
        label = next(c for c in term if term.count(c) > 1)
        first = term.index(label)
        second = term.index(label, first + 1)
        x = diagonal_part(x, offset=0, axes=(first - x.ndim, second - x.ndim))
        term = "".join(c for i, c in enumerate(term) if i not in (first, second)) + label
    return x, term


def _order(pairs: Sequence[tuple[Tensor, str]], result: str, optimize: Any) -> list[tuple[int, ...]]:
    """Which operands are multiplied, one step after the other; the product stands last among those that are left."""
    count = len(pairs)
    if count > 2 and optimize and all(is_known(x.shape) for x, _ in pairs):
        import opt_einsum

        subscripts = ",".join(term for _, term in pairs) + "->" + result
        path, _ = opt_einsum.contract_path(subscripts, *(x.shape for x, _ in pairs), shapes=True)
        steps = [tuple(sorted(step)) for step in path]
        if all(len(step) == 2 for step in steps):
            return steps
    return [(0, 1), *((0, left - 1) for left in range(count - 1, 1, -1))] if count > 1 else []


def _multiplied(one: tuple[Tensor, str], other: tuple[Tensor, str], *, needed: set[str], wanted: str) -> tuple[Tensor, str]:
    """The product of two operands, summed over the letters that nobody else needs, and its letters: ``wanted`` if given."""
    x, left = _summed(*one, needed.union(other[1]))
    y, right = _summed(*other, needed.union(left))
    result = [c for c in left if c in needed] + [c for c in right if c in needed and c not in left]
    if all(c in needed for c in left if c in right):
        # Nothing is summed: a plain multiplication, which can be fused with its neighbours.
        order = wanted or "".join(result)
        if set(order) == set(result):
            return multiply(_spread(x, left, order), _spread(y, right, order)), order
    final = wanted if set(wanted) == set(result) else "".join(result)
    batch = [c for c in final if c in left and c in right]
    summed = [c for c in left if c in right and c not in needed]
    if len(summed) == 1 and len(left) == len(right) == len(batch) + 2:
        # One row, one column and one sum: a matrix product between views.
        (row,), (column,) = ([c for c in term if c not in (*batch, *summed)] for term in (left, right))
        if final.index(column) < final.index(row):
            x, left, row, y, right, column = y, right, column, x, left, row
        lead = "".join(batch)
        x, y = _permuted(x, left, lead + row + summed[0]), _permuted(y, right, lead + summed[0] + column)
        return _permuted(matmul(x, y), lead + row + column, final), final
    return contract(x, y, subscripts=f"{left},{right}->{final}"), final


def _summed(x: Tensor, term: str, needed: set[str]) -> tuple[Tensor, str]:
    """``x`` summed over the letters that are not ``needed``."""
    axes = [axis for axis, label in enumerate(term) if label not in needed]
    if not axes:
        return x, term
    return astype(sum(x, axis=axes), x.dtype), "".join(label for label in term if label in needed)


def _spread(x: Tensor, term: str, order: str) -> Tensor:
    """``x`` with its axes in ``order``, and size 1 for letters that it lacks."""
    x = _permuted(x, term, "".join(label for label in order if label in term))
    for axis, label in enumerate(order):
        if label not in term:
            x = expand_dims(x, axis)
    return x


def _permuted(x: Tensor, term: str, order: str) -> Tensor:
    return x if term == order else permute_dims(x, [term.index(label) for label in order])


for _function in (einsum, tensordot, inner, dot, outer, kron, vecdot):
    public(_function)
