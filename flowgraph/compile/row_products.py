"""Row products: a tall matrix times a vector, and the sum of its rows that the gradient of this is, become parts of the loop between them.

Both are bound by memory, and in one pass the rows come from it once. So a step of logistic regression reads its data once and not twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from ..graph import Node, Tensor
from ..graph.spec import is_known
from ..jit.values import FLOAT32, FLOAT64
from .regions import Region, Regions, agree

# Rows of more bytes fill the inner cache before their products are known, and BLAS is as good at these.
LONGEST_ROW_BYTES = 2048
# Views whose result lies in memory as what they are made of does.
_IN_ORDER = frozenset({"reshape", "reshape_like", "expand_dims", "squeeze"})


class RowsTimes(NamedTuple):
    """What a node of a region computes: the product of each row of ``matrix`` with ``other``, or the sum of rows, each times a number."""

    matrix: Tensor
    other: Tensor


def taken_in(region: Region, regions: Regions, is_lone: Callable[[Tensor], bool]) -> dict[Node, RowsTimes]:
    """Puts the products of rows that ``region`` alone reads into it, and the sums of these rows that it weighs; gives all of them.

    is_lone  whether a tensor is computed in the run, and read by the region alone
    """
    if region.row or region.shape[0] < 2 or region.shape[1:] not in ((), (1,)):
        return {}
    made: dict[Node, RowsTimes] = {}
    read = [tensor for member in region.members for tensor in map(regions.resolved, member.inputs) if tensor not in region.kinds]
    for tensor in dict.fromkeys(read):
        product = _row_products(tensor, regions) if regions.spec(tensor).shape == region.shape else None
        if product is not None and is_lone(tensor) and agree(tensor.node._context.device, region.request):
            made[tensor.node] = product
            region.kinds[tensor] = "element"
    matrices = {product.matrix for product in made.values()}
    for node in regions.nodes if made else ():
        rows = _sum_of_rows(node, matrices, region, regions)
        if rows is not None:
            made[node] = rows
            region.kinds[node.outputs[0]] = "total"
    region.members = sorted([*region.members, *made], key=lambda node: node.id)
    regions.region_of.update(dict.fromkeys(made, region))
    return made


def _row_products(tensor: Tensor, regions: Regions) -> RowsTimes | None:
    node = tensor.node
    if node.op.name != "matmul" or node._context.control:
        return None
    x, y = map(regions.resolved, node.inputs)
    rows, vector, out = regions.spec(x), regions.spec(y), regions.spec(tensor)
    if not (is_known(rows.shape) and is_known(vector.shape)) or len(rows.shape) != 2 or vector.shape[1:] not in ((), (1,)):
        return None
    is_fit = rows.dtype == vector.dtype == out.dtype and rows.dtype in (FLOAT32, FLOAT64)
    if not is_fit or not 2 <= rows.shape[1] <= LONGEST_ROW_BYTES // rows.dtype.itemsize or not _is_in_order(x, regions):
        return None
    return RowsTimes(x, y)


def _is_in_order(tensor: Tensor, regions: Regions) -> bool:
    """Whether an array is likely to lie in C order."""
    op = tensor.node.op
    return tensor in regions.fed or tensor in regions.found.values or not op.is_view or op.name in _IN_ORDER


def _sum_of_rows(node: Node, matrices: Collection[Tensor], region: Region, regions: Regions) -> RowsTimes | None:
    """The rows of one of ``matrices``, each times a number of ``region``, added up."""
    if node.op.name not in ("contract", "matmul") or node._context.control or not agree(node._context.device, region.request):
        return None
    out = node.outputs[0]
    if out in regions.fed or out in regions.found.same or out in regions.found.values or node in regions.ordered:
        return None
    x, y = map(regions.resolved, node.inputs)
    if node.op.name == "contract":
        left, right = node.attrs["subscripts"].partition("->")[0].split(",")
        is_sum = node.attrs["subscripts"] == f"{left},{left[:1]}->{left[1:]}" and len(left) == 2 and right == left[:1]
    else:
        is_sum = x.node.op.name == "permute_dims" and x.node.attrs["axes"] == (1, 0) and x not in regions.fed
        x = regions.resolved(x.node.inputs[0]) if is_sum else x
    is_met = x in matrices and region.kinds.get(y) == "element" and regions.spec(y).shape == region.shape
    return RowsTimes(x, y) if is_sum and is_met and _all_floats(regions, x, y, out) else None


def _all_floats(regions: Regions, *tensors: Any) -> bool:
    """Whether all are floats of one size."""
    return len({regions.spec(tensor).dtype for tensor in tensors}) == 1
