"""Layout: where the elements of a view lie, as far as it matters whether reshaping it copies them."""

from __future__ import annotations

from collections.abc import Sequence

Sizes = tuple[int, ...]
Strides = tuple[int, ...]


def permuted(shape: Sizes, strides: Strides | None, axes: Sequence[int]) -> Strides:
    """The strides, in elements, of an array with its axes in another order; without ``strides`` it is in C order before."""
    strides = in_order(shape) if strides is None else strides
    return tuple([strides[axis] for axis in axes])


def in_order(shape: Sizes) -> Strides:
    """The strides of an array in C order.

    >>> in_order((2, 3, 4))
    (12, 4, 1)
    """
    result, step = [], 1
    for size in reversed(shape):
        result.append(step)
        step *= size
    return tuple(reversed(result))


def is_copied(shape: Sizes, strides: Strides, target: Sizes) -> bool:
    """Whether an array with these strides has to be copied to have the shape ``target``.

    Axes that lie one in the other count as one; what is left of the array is cut up again, from the front, to the sizes of the target.

    >>> is_copied((2, 3, 4), (4, 8, 1), (2, 12)), is_copied((2, 3, 4), (4, 8, 1), (2, 3, 2, 2))
    (True, False)
    """
    runs: list[list[int]] = []  # [size, stride] of the axes that cannot be put together
    for size, stride in zip(shape, strides, strict=True):
        if size == 0:
            return False
        if size == 1:
            continue
        if runs and runs[-1][1] == size * stride:
            runs[-1] = [runs[-1][0] * size, stride]
        else:
            runs.append([size, stride])
    left = iter(target)
    for size, _ in runs:
        filled = 1
        while filled < size:
            filled *= next(left, size + 1)
        if filled != size:
            return True
    return False
