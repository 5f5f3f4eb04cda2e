"""Convolutions and their gradients by cuDNN, where it is installed (`pip install "flowgraph[cudnn]"`): deterministic engines only.

CuPy 14 has no cuDNN of its own; NVIDIA's Python front end takes CuPy's arrays. What it does not serve, CuPy's kernels do: convolutions over
one or three axes, over several sets at once, of sizes that only a run knows, and those that cuDNN has no engine for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import MissingExtraError

NAMES = {"conv": ("image", "weight"), "conv_input_grad": ("loss", "filter"), "conv_weight_grad": ("loss", "image")}


def load(asked: bool | None) -> ModuleType | None:
    """The front end, once cuDNN itself is there; None without. raises MissingExtraError where it is insisted on."""
    if asked is False:
        return None
    try:
        import cudnn

        cudnn.backend_version()  # fails where the library itself is missing
    except (ImportError, RuntimeError, OSError) as error:
        if asked:
            raise MissingExtraError.of("cuDNN", "cudnn") from error
        return None
    return cudnn  # type: ignore[no-any-return]


class Convolutions:
    """The convolutions of one device. Used by the thread that holds the device."""

    def __init__(self, cudnn: Any, device: Any) -> None:
        self._cudnn, self._device = cudnn, device
        with device.chosen():
            self._handle = cudnn.create_handle()
        cudnn.set_stream(handle=self._handle, stream=device.compute.ptr)

    def kernel(self, op: str, attrs: Mapping[str, Any], inputs: Sequence[Any], out: Any) -> Callable[..., Any] | None:
        """The kernel of an op for inputs of these specs; None where it is not one of cuDNN's.

        out  the spec of the result
        """
        arrays = [x for i, x in enumerate(inputs) if i < 2]
        sizes = [size for x in (*arrays, out) for size in x.shape]
        is_plain = all(len(x.shape) == 4 and x.dtype == out.dtype for x in arrays) and len(attrs["stride"]) == 2
        if not is_plain or out.dtype not in (np.float16, np.float32) or not all(isinstance(size, int) and size > 0 for size in sizes):
            return None
        try:
            with self._device.chosen():
                return self._built(op, attrs, arrays, out)
        except self._cudnn.cudnnGraphNotSupportedError:
            return None

    def _built(self, op: str, attrs: Mapping[str, Any], arrays: Sequence[Any], out: Any) -> Callable[..., Any]:
        cudnn, device = self._cudnn, self._device
        kind = cudnn.data_type.FLOAT if out.dtype == np.float32 else cudnn.data_type.HALF
        wide = cudnn.data_type.FLOAT
        graph = cudnn.pygraph(io_data_type=kind, intermediate_data_type=wide, compute_data_type=wide, handle=self._handle)
        given = [graph.tensor(name=name, dim=list(x.shape), stride=_strides(x.shape)) for name, x in zip(NAMES[op], arrays, strict=True)]
        (top, bottom), (left, right) = attrs["padding"]
        how = {
            "pre_padding": [top, left],
            "post_padding": [bottom, right],
            "stride": list(attrs["stride"]),
            "dilation": list(attrs["dilation"]),
        }
        add = {"conv": graph.conv_fprop, "conv_input_grad": graph.conv_dgrad, "conv_weight_grad": graph.conv_wgrad}[op]
        made = add(**dict(zip(NAMES[op], given, strict=True)), **how)
        made.set_output(True).set_data_type(kind).set_dim(list(out.shape)).set_stride(_strides(out.shape))
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        notes = cudnn.numerical_note
        refused = [notes.NONDETERMINISTIC]
        if out.dtype == np.float32 and not device.tf32:
            refused += [notes.TENSOR_CORE, notes.DOWN_CONVERT_INPUTS]  # TF32 is both
        graph.deselect_numeric_notes(refused)
        graph.check_support()
        graph.build_plans()
        xp, handle, shape, dtype = device.xp, self._handle, tuple(out.shape), out.dtype
        scratch = max(int(graph.get_workspace_size()), 1)

        def call(x: Any, w: Any, *target: Any, out: Any = None) -> Any:
            result = xp.empty(shape, dtype)
            tensors = {given[0]: xp.ascontiguousarray(x), given[1]: xp.ascontiguousarray(w), made: result}
            graph.execute(tensors, xp.empty(scratch, np.uint8), handle=handle)
            if out is None:
                return result
            out[...] = result
            return out

        return call


def _strides(shape: Sequence[int]) -> list[int]:
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    return strides
