"""Convolutions and their gradients by cuDNN, where it is installed (`pip install "flowgraph[cudnn]"`): deterministic engines only.

CuPy 14 has no cuDNN of its own. NVIDIA's Python front end takes addresses: so nothing of CuPy's is converted, and nothing waits for another
stream, which a captured graph would not allow. What cuDNN does not serve, CuPy's kernels do: numbers that it does not know, sizes that only
a run knows, and what it has no engine for. `Unserved` says which.

Of the engines that are allowed the first in the order of cuDNN's own forecast is taken, never the one that is measured to be the fastest:
the bits of a result must not depend on a clock.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import MissingExtraError
from ..graph.spec import is_known
from ..graph.text import first_line

# op -> the method of the front end, and what it calls the two arrays.
METHODS = {
    "conv": ("conv_fprop", ("image", "weight")),
    "conv_input_grad": ("conv_dgrad", ("loss", "filter")),
    "conv_weight_grad": ("conv_wgrad", ("loss", "image")),
}
# dtype -> cuDNN's names of it, and of what it is computed in.
NUMBERS = {
    "float16": ("HALF", "FLOAT"),
    "bfloat16": ("BFLOAT16", "FLOAT"),
    "float32": ("FLOAT", "FLOAT"),
    "float64": ("DOUBLE", "DOUBLE"),
}
# Engines may load so many bytes at once.
ALIGNMENT = 16
# cuDNN 9.
OLDEST = 90000


class Unserved(Exception):
    """Why cuDNN does not compute a convolution."""


def load(asked: bool | None) -> ModuleType:
    """The front end, once cuDNN itself is there. raises Unserved; MissingExtraError where it is insisted on."""
    if asked is False:
        raise Unserved("cuDNN is left out")
    try:
        import cudnn

        version = cudnn.backend_version()  # fails where the library itself is missing
        if version < OLDEST:
            raise ImportError(f"cuDNN's number is {version}, and has to be {OLDEST} at least")
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        if asked:
            raise MissingExtraError.of("cuDNN", "cudnn") from error
        is_missing = isinstance(error, ModuleNotFoundError)
        raise Unserved("cuDNN is not installed" if is_missing else f"cuDNN cannot be loaded: {error}") from error
    return cudnn  # type: ignore[no-any-return]


def _in_order(dims: list[int]) -> list[int]:
    """The strides of arrays whose elements lie in C's order."""
    strides = [1]
    for size in reversed(dims[1:]):
        strides.insert(0, strides[0] * size)
    return strides


class Convolutions:
    """The convolutions of one device.

    `_lock` is held while a plan is made or runs, as a handle of cuDNN's serves one thread at a time; it guards the other fields.
    """

    def __init__(self, cudnn: Any, device: Any) -> None:
        self._cudnn, self._device = cudnn, device
        self._lock = threading.Lock()
        self._handle: Any = None
        self._stream: int | None = None
        self._made: dict[Any, Any] = {}  # what is to be computed -> its kernel, or the text why there is none

    def kernel(self, op: Any, attrs: Mapping[str, Any], inputs: Sequence[Any], out: Any) -> Callable[..., Any]:
        """The kernel of an op for inputs of these specs. raises Unserved.

        out  the spec of the result
        """
        specs = (*inputs[:2], out)
        if out.dtype.name not in NUMBERS:
            raise Unserved(f"cuDNN has no {out.dtype.name}")
        if not all(is_known(x.shape) for x in specs):
            raise Unserved("only a run knows the sizes")
        if not all(math.prod(x.shape) for x in specs):
            raise Unserved("there is nothing to compute")
        shapes = op.one_set(*specs, **attrs)
        how = {name: attrs[name] for name in ("stride", "padding", "dilation")}
        made = self._one(op.name, shapes, how, out.dtype)
        kernel = op.in_sets(self._device.xp, made, *specs, **attrs)
        kernel.by, kernel.scratch = "cuDNN", made.scratch
        return kernel  # type: ignore[no-any-return]

    def _one(self, op: str, shapes: Sequence[Any], how: dict[str, Any], dtype: np.dtype[Any]) -> Any:
        """The kernel of a convolution with one set of filters."""
        key = (op, *shapes, dtype.name, *how.values())
        with self._lock:
            found = self._made.get(key)
            if found is None:
                found = self._made[key] = self._tried(op, shapes, how, dtype)
        if isinstance(found, str):
            raise Unserved(found)
        return found

    def _tried(self, op: str, shapes: Sequence[Any], how: dict[str, Any], dtype: np.dtype[Any]) -> Any:
        """The same, or why there is none."""
        with self._device.chosen():
            try:
                if self._handle is None:
                    self._handle = self._cudnn.create_handle()
                    weakref.finalize(self, self._cudnn.destroy_handle, self._handle).atexit = False
            except RuntimeError as error:
                return f"cuDNN does not start: {error}"
            try:
                return self._built(op, shapes, how, dtype)
            except Unserved as error:
                return str(error)
            except self._cudnn.cudnnGraphNotSupportedError:
                return "cuDNN has no engine for it"
            except RuntimeError as error:
                return f"cuDNN fails: {first_line(error)}"

    def _built(self, op: str, shapes: Sequence[Any], how: dict[str, Any], dtype: np.dtype[Any]) -> Any:
        _check_windows(op, shapes, **how)
        graph = self.graph(op, shapes, how, dtype)
        graph.check_support()
        graph.build_plans()
        return self._asking(graph, shapes[2], dtype, int(graph.get_workspace_size()))

    def graph(
        self,
        op: str,
        shapes: Sequence[Any],
        how: dict[str, Any],
        dtype: np.dtype[Any],
        strides: Sequence[Callable[[list[int]], list[int]]] = (_in_order,) * 3,
    ) -> Any:
        """cuDNN's graph of a convolution with one set of filters, with the engines that may serve it in cuDNN's order.

        shapes   of the two arrays, 1 and 2, and the result, 3; ``strides``: what makes the distances of their elements of their sizes
        how      stride, padding and dilation
        """
        cudnn, rank = self._cudnn, len(how["stride"])
        number, wide = (getattr(cudnn.data_type, name) for name in NUMBERS[dtype.name])
        graph = cudnn.pygraph(io_data_type=number, intermediate_data_type=wide, compute_data_type=wide, handle=self._handle)
        dims = [_dims(shape, rank) for shape in shapes]
        method, names = METHODS[op]
        given = {}
        for uid, (name, dim, lie) in enumerate(zip(names, dims, strides, strict=False), 1):
            given[name] = graph.tensor(name=name, dim=dim, stride=lie(dim), data_type=number, uid=uid)
        made = getattr(graph, method)(**given, **_windows(**how), compute_data_type=wide, name=op)
        made.set_output(True).set_data_type(number).set_dim(dims[2]).set_stride(strides[2](dims[2])).set_uid(3)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        graph.deselect_numeric_notes(self._refused(dtype))
        return graph

    def _asking(self, graph: Any, shape: tuple[int, ...], dtype: np.dtype[Any], scratch: int) -> Any:
        """The kernel that asks for ``graph`` on the current stream."""
        handle, execute, set_stream, lock = self._handle, graph.execute, self._cudnn.set_stream, self._lock
        empty, current = self._device.xp.empty, self._device.cupy.cuda.get_current_stream

        def ready(x: Any) -> Any:
            if x.dtype != dtype:
                x = x.astype(dtype)
            return x if x.flags.c_contiguous and not x.data.ptr % ALIGNMENT else x.copy()

        def call(x: Any, y: Any, *target: Any, out: Any = None) -> Any:
            x, y, result = ready(x), ready(y), empty(shape, dtype)
            beside = empty(scratch, np.uint8) if scratch else None
            addresses = {1: x.data.ptr, 2: y.data.ptr, 3: result.data.ptr}
            with lock:
                stream = current().ptr
                if stream != self._stream:
                    set_stream(handle=handle, stream=stream)
                    self._stream = stream
                execute(addresses, 0 if beside is None else beside.data.ptr, handle=handle)
            if out is None:
                return result
            out[...] = result
            return out

        call.scratch = scratch  # type: ignore[attr-defined]
        return call

    def _refused(self, dtype: np.dtype[Any]) -> list[Any]:
        """What engines must not do: give other bits each time, or add up or multiply in fewer bits than the numbers have."""
        notes = self._cudnn.numerical_note
        refused = [notes.NONDETERMINISTIC, notes.REDUCED_PRECISION_REDUCTION]
        if dtype != np.float32:
            return [*refused, notes.DOWN_CONVERT_INPUTS]
        return refused if self._device.tf32 else [*refused, notes.DOWN_CONVERT_INPUTS, notes.TENSOR_CORE]


def _check_windows(op: str, shapes: Sequence[Any], *, stride: Any, padding: Any, dilation: Any) -> None:
    """raises Unserved where windows leave more of the images out than their stride explains, of which cuDNN knows nothing."""
    a, b, out = shapes
    images, filters, results = {"conv": (a, b, out), "conv_input_grad": (out, b, a), "conv_weight_grad": (b, out, a)}[op]
    for size, window, count, step, borders, gap in zip(images[2:], filters[2:], results[2:], stride, padding, dilation, strict=True):
        if (size + sum(borders) - gap * (window - 1) - 1) // step + 1 != count:
            raise Unserved("the windows leave more of the images out than cuDNN knows of")


def _dims(shape: Sequence[int], rank: int) -> list[int]:
    """Sequences are images of height 1."""
    return [*shape[:2], *(1,) * (rank == 1), *shape[2:]]


def _windows(stride: Sequence[int], padding: Sequence[tuple[int, int]], dilation: Sequence[int]) -> dict[str, list[int]]:
    is_line = len(stride) == 1
    return {
        "pre_padding": [0] * is_line + [before for before, _ in padding],
        "post_padding": [0] * is_line + [behind for _, behind in padding],
        "stride": [1] * is_line + list(stride),
        "dilation": [1] * is_line + list(dilation),
    }
