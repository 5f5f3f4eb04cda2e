"""Together: several loops as one CUDA kernel, of which each has some of the blocks: a small kernel takes longer to start than to run.

No CuPy in this module.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..records import Record
from .cuda import CudaLoop

# A kernel of a module: what stands before its name, its name and its parameters.
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(([^)]*)\) \{', re.S)
# A kernel can be given 4096 bytes of pointers.
MOST_ARRAYS = 480


class CudaTogether(Record):
    """One kernel for several loops.

    text   of the module, with the kernel ``together``
    grid   the number of blocks; ``block``: of their threads
    """

    text: str
    grid: int
    block: tuple[int, int]


def can_be_together(loop: Any, cuda: CudaLoop) -> bool:
    """Whether the kernels of a loop may be a part of such a kernel: one that leaves nothing to another, and whose threads never wait."""
    is_strided = any(operand.strided for operand in loop.operands)
    return [launch.name for launch in cuda.launches] == ["elements"] and not cuda.parts and not is_strided


def cuda_together(cudas: Sequence[CudaLoop]) -> CudaTogether:
    """The kernel of loops that all have blocks of one size. It takes the arrays of the first loop, those of the second, and so on."""
    texts: dict[str, int] = {}
    parameters, calls, first = list[str](), list[str](), 0
    heads: dict[str, None] = {}  # what kernels share, and their texts
    modules = []
    for cuda in cudas:
        (launch,) = cuda.launches
        found = KERNEL.search(cuda.text)
        assert found is not None and found[1] == launch.name
        *arrays, _ = found[2].split(", ")  # (the last is for parts, of which there are none)
        given = [parameter.rpartition(" ")[0] for parameter in arrays]
        if cuda.text not in texts:
            texts[cuda.text] = len(texts)
            heads[cuda.text[: found.start()]] = None
            body = cuda.text[found.end() :].replace("blockIdx.x", "block_of_part")
            function = f"__device__ __noinline__ void {launch.name}({found[2]}, const unsigned block_of_part) {{{body}"
            modules.append(f"namespace part{texts[cuda.text]} {{\n{function}}}\n")
        names = [f"a{len(parameters) + i}" for i in range(len(given))]
        parameters += [f"{kind} {name}" for kind, name in zip(given, names, strict=True)]
        call = f"part{texts[cuda.text]}::{launch.name}({', '.join(names)}, (double*)0, blockIdx.x - {first})"
        calls.append(f"    if (blockIdx.x < {first + launch.grid}) {{ {call}; return; }}")
        first += launch.grid
    head = f'extern "C" __global__ void together({", ".join(parameters)}) {{'
    return CudaTogether("\n".join([*heads, *modules, head, *calls, "}"]) + "\n", first, cudas[0].launches[0].block)
