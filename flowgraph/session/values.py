"""Values that come in and go out: feeds made to fit their tensors, results that belong to the caller, fetches in their nesting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..devices import Device
from ..devices.pages import PagedMemory
from ..errors import FeedError, FetchError, SessionClosedError, ShapeError
from ..graph import Graph, Node, Shape, Tensor
from ..graph.report import of_another_graph, where
from ..graph.spec import format_shape, may_be_equal


def as_fed(tensor: Tensor, value: Any) -> Any:
    """``value`` as an array of the tensor's dtype. raises FeedError where that would lose anything."""
    dtype = tensor.dtype
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype == dtype:
            return value
        array = np.asarray(value)
        weak = False
    else:
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as error:
            what = f"{tensor.name} is fed {type(value).__name__}, which cannot be made an array: {error}"
            raise FeedError(what, rows=[("made at", where(tensor.node.location))]) from error
        weak = isinstance(value, bool | int | float | complex | list | tuple)
    # Python's numbers take the tensor's dtype if their kind fits; arrays only where nothing can be lost.
    fits = array.dtype.kind in "biufcV" and (
        np.can_cast(array.dtype, dtype, "safe") or (weak and (array.size == 0 or _kind(array.dtype) <= _kind(dtype)))
    )
    if not fits:
        raise FeedError(
            f"{tensor.name} is fed {array.dtype if array.dtype != object else type(value).__name__}, but it is {dtype}",
            rows=[("made at", where(tensor.node.location))],
            help=f'cast it: array.astype("{dtype}")' if array.dtype.kind in "biufcV" else None,
        )
    try:
        return np.asarray(value, dtype) if weak else array.astype(dtype)
    except OverflowError as error:
        what = f"{tensor.name} is fed a number that does not fit into {dtype}: {error}"
        raise FeedError(what, rows=[("made at", where(tensor.node.location))]) from error


def is_on_gpu(value: Any) -> bool:
    """Whether it is an array on a GPU, of whichever library: CuPy's protocol or DLPack's tell."""
    if isinstance(value, np.ndarray | np.generic | bool | int | float | complex | list | tuple):
        return False
    if hasattr(value, "__cuda_array_interface__"):
        return True
    return hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] in (2, 13)  # (kDLCUDA and kDLCUDAManaged)


def adopted(tensor: Tensor, value: Any, devices: Sequence[Device]) -> tuple[Any, Any]:
    """The device of an array on a GPU, and the array as one of CuPy's. raises FeedError where it does not fit."""
    gpus: list[Any] = [device for device in devices if not device.is_host]
    rows = [("made at", where(tensor.node.location))]
    if not gpus:
        raise FeedError(
            f"{tensor.name} is fed an array on a GPU, and the session computes on the host",
            rows=rows,
            help='Session(device="cuda:0"), or copy it: array.get() of CuPy, array.cpu() of torch',
        )
    cupy = gpus[0].cupy
    array = cupy.asarray(value) if hasattr(value, "__cuda_array_interface__") else cupy.from_dlpack(value)
    device = next((gpu for gpu in gpus if gpu.index == array.device.id), None)
    if device is None:
        names = ", ".join(gpu.name for gpu in gpus)
        raise FeedError(f"{tensor.name} is fed an array on cuda:{array.device.id}, and the session computes on {names}", rows=rows)
    if array.dtype != tensor.dtype:
        raise FeedError(f"{tensor.name} is fed {array.dtype}, but it is {tensor.dtype}", rows=rows, help=f'array.astype("{tensor.dtype}")')
    return device, array


def arrived(values: list[Any]) -> list[Any]:
    """Results, once those on their way from a GPU have arrived."""
    return [handed_out(value.wait(), False) if hasattr(value, "wait") else value for value in values]


def _kind(dtype: np.dtype[Any]) -> int:
    """How far its kind reaches: truth values, whole numbers, floats (bfloat16, of kind V, is one), complex numbers."""
    return "biufc".find("f" if dtype.kind == "V" else dtype.kind)


def check_shape(tensor: Tensor, shape: Shape) -> None:
    """raises FeedError unless ``shape`` is one that ``tensor`` may have."""
    if not may_be_equal(tensor.shape, shape):
        raise FeedError(
            f"{tensor.name} is fed shape {format_shape(shape)}, but it is {format_shape(tensor.shape)}",
            rows=[("made at", where(tensor.node.location))],
            help="? and names stand for sizes that may be anything" if not tensor.is_known else None,
        )


def check_symbols(arrays: Mapping[Tensor, Any]) -> None:
    """Equal names of sizes stand for equal sizes."""
    known: dict[str, tuple[int, Tensor]] = {}
    for tensor, array in arrays.items():
        for name, size in zip(tensor.shape, array.shape, strict=True):
            if isinstance(name, str):
                seen, first = known.setdefault(name, (size, tensor))
                if seen != size:
                    raise FeedError(
                        f"the size {name!r} is {seen} in the feed of {first.name} and {size} in that of {tensor.name}",
                        rows=[(t.name, f"{format_shape(t.shape)}, fed {format_shape(arrays[t].shape)}") for t in {first: 0, tensor: 0}],
                    )


def closed() -> SessionClosedError:
    """What is raised once the session is closed."""
    return SessionClosedError("the session is closed", help="make a new one; weights can be saved before closing")


def handed_out(value: Any, copied: bool) -> Any:
    """A result as the caller gets it: his own, and a NumPy scalar where the shape is ()."""
    if isinstance(value, np.ndarray):
        if not value.ndim:
            return value[()]
        return value.copy() if copied or not value.flags.writeable else value
    if isinstance(value, np.generic) or hasattr(value, "wait"):  # (on its way from a GPU)
        return value
    return np.asarray(value)[()]


def fitting(variable: Node, value: Any) -> Any:
    """``value``, whose size may be known only now, if it fits ``variable``."""
    shape = variable.outputs[0].shape
    if value.shape != shape:
        raise ShapeError(
            f"variable {variable.name} of shape {format_shape(shape)} cannot hold the {format_shape(value.shape)} that a run made",
            rows=[("made at", where(variable.location))],
            help="no variable was written",
        )
    return value


def kept(value: Any) -> Any:
    """A value that a variable may hold: memory of its own, in C order."""
    array = np.asarray(value)
    return array if is_plain(array) else array.copy()


def is_plain(array: np.ndarray[Any, Any]) -> bool:
    """Whether it is memory of its own, in C order, that may be written."""
    flags = array.flags.num
    return flags & _PLAIN == _PLAIN or (flags & _LENT == _LENT and isinstance(array.base, PagedMemory))


# The flags of NumPy's for that: one look at all of them, as there is one for each variable in each step.
_LENT = 0x001 | 0x400
_PLAIN = _LENT | 0x004


def flatten(fetches: Any, graph: Graph) -> tuple[Callable[[list[Any]], Any], list[Tensor | Node]]:
    """The tensors and nodes in a nesting, and the function that puts their values back into it."""
    flat: list[Tensor | Node] = []

    def walk(value: Any) -> Callable[[list[Any]], Any]:
        if isinstance(value, Tensor | Node):
            if value.graph is not graph:
                rows, help = of_another_graph(value)
                raise FetchError(f"{value.name} belongs to another graph than the session's", rows=rows, help=help)
            position = len(flat)
            if isinstance(value, Node) and value.outputs:
                value = value.outputs[0]
            flat.append(value)
            return lambda values: values[position]
        if isinstance(value, list | tuple):
            parts = [walk(part) for part in value]
            if hasattr(value, "_fields"):
                return lambda values: type(value)(*[part(values) for part in parts])
            made = type(value)
            return lambda values: made([part(values) for part in parts])
        if isinstance(value, dict):
            named = {key: walk(part) for key, part in value.items()}
            return lambda values: {key: part(values) for key, part in named.items()}
        if isinstance(value, str) and value in graph:
            raise FetchError(f"a fetch is a tensor, got the text {value!r}", help=f"graph[{value!r}] is the tensor")
        raise FetchError(f"a fetch is a tensor, a node, or lists, tuples and dicts of them, got {type(value).__name__} {value!r:.60}")

    return walk(fetches), flat
