"""``python -m benchmarks.gpu.audit``: what the plan of a model's step on a GPU consists of, and a forecast of its time. Needs no GPU.

Each unit of the plan is counted with the kernels that it asks for, the bytes that it reads and writes and its arithmetic; it is forecast to
take the longer of the two, and a launch for each of its kernels. Products of CuPy are what its sources say; caches are not reckoned with.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import flowgraph as fg
from benchmarks.gpu.models import MODELS
from benchmarks.gpu.rivals import Flowgraph
from flowgraph.compile.compiler import compile_plan
from flowgraph.compile.copies import CopyNode
from flowgraph.compile.fuse import Fused, FusedNode
from flowgraph.compile.plan import Plan, Unit
from flowgraph.compile.together import Together
from flowgraph.devices.device import HOST, Device
from flowgraph.devices.lacking import lacking
from flowgraph.graph.spec import is_known
from flowgraph.jit.cuda import cuda_loop

# An H200: bytes a second of copies, float32 and TF32 products, and a kernel of a captured graph.
BYTES_PER_SECOND, FLOPS_PER_SECOND, TF32_PER_SECOND, LAUNCH_SECONDS = 4.2e12, 5e13, 3.5e14, 1.7e-6
CONVOLUTIONS = frozenset({"conv", "conv_input_grad", "conv_weight_grad"})
PRODUCTS = frozenset({"matmul", "contract"})


class Gpu(Device):
    """A GPU in description: plans are made for it as for one with cuDNN, and cannot run."""

    name, xp = "cuda:0", np
    is_host = is_cut = keeps_buffers = False

    def bind(self, op: Any, attrs: dict[str, Any], inputs: Sequence[Any]) -> Any:
        return uncompiled

    def copier(self, source: Device) -> Any:
        return self

    def sent(self, x: Any) -> Any:
        raise NotImplementedError

    def lacks(self, op: str, dtypes: Sequence[Any]) -> str | None:
        return lacking(op, dtypes)


def uncompiled(described: Any) -> Any:
    """What stands for a kernel that never runs."""
    return described


class Cost(NamedTuple):
    """What a unit does: its kind, the kernels that it launches, the bytes that it moves, and the forecast seconds."""

    name: str
    kind: str
    kernels: int
    nbytes: int
    seconds: float


def plan_of(name: str, small: bool = False) -> Plan:
    """The plan of a model's step."""
    graph, inputs, fetches, batch = Flowgraph("cuda", tf32=False).graph(MODELS[name], small)
    with graph:
        feeds = {x: np.shape(value) for x, value in zip(inputs, batch, strict=True)}
        return compile_plan(fetches, feeds, Gpu(), compiled=uncompiled, others=(HOST,))


def costs(plan: Plan, tf32: bool = False) -> list[Cost]:
    """What each unit of the plan does, but for those that only see what is there in another way."""
    found = []
    for unit in plan.units:
        if isinstance(unit.node, FusedNode):
            if unit.kernel.__name__ != "as_given":
                found.append(_of_loop(unit.node.op))
        elif not (unit.node.op.is_view or isinstance(unit.node, CopyNode)):
            found.append(_of_kernel(unit, tf32))
    return found


def _of_loop(op: Fused) -> Cost:
    launches = [cuda_loop(op.loop).launches[0]] if isinstance(op, Together) else cuda_loop(op.loop).launches
    reads = sum({(source.tensor, source.window is None): source.spec.nbytes for source in op.sources}.values())
    nbytes = reads + sum(made.spec.nbytes for made in op.results)
    seconds = nbytes / BYTES_PER_SECOND + LAUNCH_SECONDS * len(launches)
    return Cost(f"{op.name} {op.sources[0].spec.shape}", f"loop, {launches[0].name}", len(launches), nbytes, seconds)


def _of_kernel(unit: Unit, tf32: bool) -> Cost:
    node, op = unit.node, unit.node.op
    specs = list(node.inputs)
    nbytes = sum(fg.graph.Spec(x.shape, x.dtype).nbytes for i, x in enumerate(specs) if i not in op.shape_inputs and is_known(x.shape))
    nbytes += unit.nbytes
    flops, kind, kernels = 0.0, "CuPy", 1
    if op.name in CONVOLUTIONS or op.name in PRODUCTS:
        flops = op.work(*specs, **node.attrs).flops
        kind = "cuDNN" if op.name in CONVOLUTIONS else "cuBLAS"
    rate = TF32_PER_SECOND if tf32 else FLOPS_PER_SECOND
    seconds = max(nbytes / BYTES_PER_SECOND, flops / rate) + LAUNCH_SECONDS * kernels
    return Cost(f"{op.name} {' '.join(str(x.shape) for x in specs)}", kind, kernels, nbytes, seconds)


def table(found: Sequence[Cost], most: int) -> str:
    """The kinds, and the largest of equal units together."""
    lines = []
    total = sum(each.seconds for each in found)
    for key in ("kind", "name"):
        groups: dict[str, list[Cost]] = {}
        for each in found:
            groups.setdefault(getattr(each, key), []).append(each)
        lines += ["", f"| {key} | units | kernels | MB | ms | share |", "| --- | --- | --- | --- | --- | --- |"]
        for name, same in sorted(groups.items(), key=lambda item: -sum(each.seconds for each in item[1]))[:most]:
            seconds, nbytes = sum(each.seconds for each in same), sum(each.nbytes for each in same)
            kernels = sum(each.kernels for each in same)
            lines.append(f"| {name} | {len(same)} | {kernels} | {nbytes / 1e6:.0f} | {seconds * 1e3:.3f} | {seconds / total:.1%} |")
    kernels, nbytes = sum(each.kernels for each in found), sum(each.nbytes for each in found)
    lines.append(f"\n{len(found)} units, {kernels} kernels, {nbytes / 1e9:.2f} GB, {total * 1e3:.2f} ms")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.audit", description=__doc__)
    parser.add_argument("--model", choices=list(MODELS), default="resnet")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--tf32", action="store_true", help="with products in TF32")
    parser.add_argument("--most", type=int, default=25, help="lines of a table")
    asked = parser.parse_args(arguments)
    start = time.perf_counter()
    plan = plan_of(asked.model, asked.small)
    seconds = time.perf_counter() - start
    print(*plan.notes, sep="\n")
    print(table(costs(plan, asked.tf32), asked.most))
    texts = {cuda_loop(unit.node.op.loop).text for unit in plan.units if isinstance(unit.node, FusedNode)}
    print(f"planned in {seconds:.2f} s, {len(texts)} texts of loops")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
