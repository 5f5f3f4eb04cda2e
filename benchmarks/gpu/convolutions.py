"""``python -m benchmarks.gpu.convolutions``: which of cuDNN's engines serve the convolutions of a training step, and how fast they are.

A row for each kind of convolution: how often the step has it, the engine that flowgraph takes (the first that is allowed, of so many that
cuDNN proposes) and the memory that it works in. On a GPU each allowed engine is measured, and a row says what the one that is taken and the
fastest one take: so it shows what choosing by measurement would gain, and with --last another layout.

Without a GPU the rows are for an H200. cuDNN then wants a library named libcuda.so.1 to load, of a driver or an empty one.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

import flowgraph as fg
from benchmarks.gpu.models import MODELS, Model
from benchmarks.gpu.rivals import Flowgraph
from flowgraph.devices.cudnn import METHODS, Convolutions

# What cuDNN has to know of an H200 to make plans for it, in its own words.
H200 = {
    "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536, "multiProcessorCount": 132,
    "smCountOrigin": 0, "warpSize": 32, "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448,
    "reservedSharedMemoryPerBlock": 1024, "oversizedSharedMemoryPerBlock": 0, "maxRegistersPerSM": 65536, "maxCtasPerSM": 32,
    "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "pciDeviceId": 0, "isTccDriver": 0, "supportCoopLaunch": 1,
    "totalGlobalMem": 150121545728, "smClockRateKHz": 1980000, "memClockRateKHz": 3201000, "memoryBusWidth": 6144, "l2CacheSize": 62914560,
    "cudaDeviceId": 0, "deviceVer": 900, "driverVer": 13000, "deviceName": "NVIDIA H200",
}  # fmt: skip
RUNS = 20


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.convolutions", description=__doc__)
    parser.add_argument("--model", choices=["lenet", "resnet"], default="resnet")
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32", "float64"], default="float32")
    parser.add_argument("--tf32", action="store_true", help="products of float32 may be computed in TF32")
    parser.add_argument("--last", action="store_true", help="images and results lie with their channels last")
    asked = parser.parse_args(arguments)
    cudnn = importlib.import_module("cudnn")
    gpu = cupy_with_gpu()
    convolutions = on_gpu(cudnn, gpu, asked.tf32) if gpu else for_h200(cudnn, asked.tf32)
    print(f"{asked.model}, {asked.dtype}{', TF32' * asked.tf32}, channels {'last' if asked.last else 'before sizes'}", end=", ")
    print("measured" if gpu else "planned for an H200", end="\n\n")
    print("| kind | images | filters | step | times | engine | of | MB beside |" + " ms | fastest | ms |" * bool(gpu))
    print("|---|---|---|---|---|---|---|---|" + "---|---|---|" * bool(gpu))
    totals = np.zeros(3)
    for (op, shapes, how), times in kinds(MODELS[asked.model]).items():
        found = list(engines(convolutions, gpu, op, shapes, dict(how), np.dtype(number(asked.dtype)), asked.last))
        name, proposed, nbytes, seconds = found[0]
        best = min(found, key=lambda each: each[3])
        images, filters = named(op, shapes)
        row = [
            op,
            *[" x ".join(map(str, sizes)) for sizes in (images, filters)],
            how[0][1][0],
            times,
            name,
            proposed,
            f"{nbytes / 1e6:.1f}",
        ]
        row += [f"{seconds * 1e3:.3f}", best[0], f"{best[3] * 1e3:.3f}"] if gpu else []
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
        totals += times * np.array([nbytes, seconds, best[3]])
    print(f"\nIn all {totals[0] / 1e9:.2f} GB beside", end="")
    print(f", {totals[1] * 1e3:.2f} ms, and {totals[2] * 1e3:.2f} ms by the fastest engines." if gpu else ".")
    return 0


def cupy_with_gpu() -> Any:
    """CuPy, where it is installed and finds a GPU; else None."""
    try:
        cupy = importlib.import_module("cupy")
        return cupy if cupy.cuda.runtime.getDeviceCount() else None
    except Exception:  # whatever a driver that is missing leads to
        return None


def on_gpu(cudnn: Any, cupy: Any, tf32: bool) -> Convolutions:
    """cuDNN's convolutions on the first GPU."""
    made = Convolutions(cudnn, SimpleNamespace(tf32=tf32, chosen=contextlib.nullcontext, xp=cupy, cupy=cupy))
    made._handle = cudnn.create_handle()
    cudnn.set_stream(handle=made._handle, stream=cupy.cuda.get_current_stream().ptr)
    return made


def for_h200(cudnn: Any, tf32: bool) -> Convolutions:
    """cuDNN's convolutions for an H200 that is not there: they can be planned, and not run. raises RuntimeError without libcuda."""
    properties = cudnn.create_device_properties(json.dumps(H200))

    def pygraph(handle: Any, **options: Any) -> Any:
        return cudnn.pygraph(device_property=properties, sm_version=90, **options)

    names = "data_type", "heur_mode", "numerical_note", "cudnnGraphNotSupportedError", "set_stream"
    given = {name: getattr(cudnn, name) for name in names}
    absent = SimpleNamespace(pygraph=pygraph, create_handle=lambda: None, destroy_handle=lambda handle: None, **given)
    cupy = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=None))
    return Convolutions(absent, SimpleNamespace(tf32=tf32, chosen=contextlib.nullcontext, xp=np, cupy=cupy))


def kinds(model: Model) -> Counter[Any]:
    """The convolutions of a step, (op, shapes of the two arrays and the result, how), and how often it has each."""
    parameters, batch = model.make(False)
    rival = Flowgraph("cpu", False)
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", np.shape(x), x.dtype) for i, x in enumerate(batch)]
        held = {name: fg.variable(value, name=name.replace("/", ".")) for name, value in parameters.items()}
        changes = fg.gradients(model.function(rival, held, *inputs), list(held.values()))
    found: Counter[Any] = Counter()
    with fg.Session(graph, device="cpu:0", jit=False) as session:
        plan = session.plan(changes, dict(zip(inputs, map(np.shape, batch), strict=True)))
        for node in dict.fromkeys(unit.node for unit in plan.units if unit.node.op.name in METHODS):
            shapes = [tuple(x.shape) for x in (*node.inputs[:2], node.outputs[0])]
            found[node.op.name, tuple(shapes), tuple((name, node.attrs[name]) for name in ("stride", "padding", "dilation"))] += 1
    return found


def named(op: str, shapes: Sequence[Any]) -> tuple[Any, Any]:
    """The shapes of images and filters."""
    a, b, out = shapes
    return {"conv": (a, b), "conv_input_grad": (out, b), "conv_weight_grad": (b, out)}[op]


def number(dtype: str) -> Any:
    return importlib.import_module("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype


def engines(
    convolutions: Convolutions, cupy: Any, op: str, shapes: Sequence[Any], how: dict[str, Any], dtype: Any, last: bool
) -> Iterator[tuple[str, int, int, float]]:
    """Of each allowed engine, in cuDNN's order: its name, how many are proposed, bytes beside, and seconds, 0 without a GPU."""
    filters = 2 if op == "conv_weight_grad" else 1
    strides = [channels_last if last and i != filters else in_order for i in range(3)]
    graph = convolutions.graph(op, shapes, how, dtype, strides)
    count = graph.get_execution_plan_count()
    arrays = {i: cupy.random.standard_normal(shape, dtype="f4").astype(dtype) for i, shape in enumerate(shapes, 1)} if cupy else {}
    for index in range(count):
        try:
            graph.build_plan_at_index(index)
        except Exception:  # refused, or not supported
            continue
        nbytes = graph.get_workspace_size_plan_at_index(index)
        seconds = measured(convolutions, cupy, graph, index, arrays, nbytes) if cupy else 0.0
        yield graph.get_plan_name_at_index(index), count, nbytes, seconds


def measured(convolutions: Convolutions, cupy: Any, graph: Any, index: int, arrays: dict[int, Any], nbytes: int) -> float:
    beside = cupy.empty(max(nbytes, 1), "uint8")
    addresses, times = {uid: array.data.ptr for uid, array in arrays.items()}, []
    for _ in range(RUNS):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        graph.execute_plan_at_index(addresses, beside.data.ptr, index, handle=convolutions._handle)
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3)
    return float(statistics.median(times[2:]))


def in_order(dims: list[int]) -> list[int]:
    return [int(np.prod(dims[axis + 1 :])) for axis in range(len(dims))]


def channels_last(dims: list[int]) -> list[int]:
    batch, *sizes, channels = in_order([dims[0], *dims[2:], dims[1]])
    return [batch, channels, *sizes]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
