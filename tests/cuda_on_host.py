# mypy: ignore-errors
"""CUDA kernels compiled as C++ for the host, in place of CuPy's ``RawModule``: threads of a block are fibers that meet at barriers."""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np

COMPILER = shutil.which("g++")

PRELUDE = """
#include <math.h>
#include <string.h>
#include <ucontext.h>
#include <stdlib.h>
struct Place { unsigned x, y, z; };
static Place threadIdx, blockIdx;
#define __global__
#define __device__
#define __noinline__
#define __shared__ static
#define __launch_bounds__(threads)
template <class T> static T min(T a, T b) { return a < b ? a : b; }
template <class A, class B> static A as_bits(B b) { A a; memcpy(&a, &b, sizeof a); return a; }
static float __int_as_float(unsigned x) { return as_bits<float>(x); }
static int __float_as_int(float x) { return as_bits<int>(x); }
static double __longlong_as_double(long long x) { return as_bits<double>(x); }
static long long __double_as_longlong(double x) { return as_bits<long long>(x); }
static unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned __int128)a * b >> 64; }
static float fg_near_reciprocal(float x) { return 1 / x; }
static ucontext_t scheduler, *fibers;
static int current, *over;
static void (*body)();
static void __syncthreads() { swapcontext(&fibers[current], &scheduler); }
// (The lanes of all warps meet at each shuffle; of two places a thread uses one after the other, so that none is written while it is read.)
static double given[2][1024];
static char turn[1024];
template <class T> static T __shfl_xor_sync(unsigned, T x, int other) {
    int own = current;
    double* place = given[turn[own] ^= 1];
    memcpy(&place[own], &x, sizeof x);
    __syncthreads();
    memcpy(&x, &place[own ^ other], sizeof x);
    return x;
}
static void start() { body(); over[current] = 1; swapcontext(&fibers[current], &scheduler); }
static void run(int grid, int bx, int by, int meets, void (*kernel)()) {
    int count = bx * by;
    body = kernel;
    fibers = (ucontext_t*)malloc(count * sizeof(ucontext_t));
    over = (int*)malloc(count * sizeof(int));
    const int size = 1 << 15;
    char* stacks = meets ? (char*)malloc((size_t)count * size) : 0;
    for (int b = 0; b < grid; ++b) {
        blockIdx.x = b;
        for (int t = 0; t < count; ++t) {
            over[t] = 0;
            if (!meets) { threadIdx.x = t % bx; threadIdx.y = t / bx; kernel(); continue; }
            getcontext(&fibers[t]);
            fibers[t].uc_stack.ss_sp = stacks + (size_t)t * size;
            fibers[t].uc_stack.ss_size = size;
            fibers[t].uc_link = 0;
            makecontext(&fibers[t], start, 0);
        }
        for (int left = meets ? count : 0; left;) {
            left = 0;
            for (int t = 0; t < count; ++t) {
                if (over[t]) continue;
                current = t; threadIdx.x = t % bx; threadIdx.y = t / bx;
                swapcontext(&scheduler, &fibers[t]);
                left += !over[t];
            }
        }
    }
    free(stacks); free(over); free(fibers);
}
"""

KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(([^)]*)\) \{', re.S)


def library(text):
    """The kernels of a module as functions of C; kept for the process and its folder of temporary files."""
    folder = Path(tempfile.gettempdir()) / f"flowgraph-cuda-on-host-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    source = [PRELUDE, text.replace("__restrict__", "")]
    for name, parameters in KERNEL.findall(text):
        pairs = [p.strip().rpartition(" ") for p in parameters.split(",")]
        types = [kind.replace("__restrict__", "").replace("const ", "").strip() for kind, _, _ in pairs]
        casts = ", ".join(f"*({kind}*)arguments[{i}]" for i, kind in enumerate(types))
        source.append(f"static void** arguments_of_{name};")
        source.append(f"static void call_{name}() {{ void** arguments = arguments_of_{name}; {name}({casts}); }}")
        source.append(
            f'extern "C" void run_{name}(int grid, int bx, int by, int meets, void** given)'
            f" {{ arguments_of_{name} = given; run(grid, bx, by, meets, call_{name}); }}"
        )
    whole = "\n".join(source)
    path = folder / hashlib.sha256(whole.encode()).hexdigest()[:32]
    made = path.with_suffix(".so")
    if not made.exists():
        draft = path.with_name(f"{path.name}-{os.getpid()}-{threading.get_ident()}.cpp")  # (two threads may be at the same text)
        draft.write_text(whole)
        flags = ["-std=c++17", "-O1", "-march=native", "-ffp-contract=off", "-fno-strict-aliasing", "-shared", "-fPIC", "-w"]
        subprocess.run([COMPILER, *flags, str(draft), "-o", str(draft.with_suffix(".so"))], check=True, capture_output=True, text=True)
        draft.with_suffix(".so").rename(made)
        draft.unlink()
    return ctypes.CDLL(str(made))


class HostModule:
    """What stands for ``cupy.RawModule`` over arrays of NumPy."""

    def __init__(self, code, options=()):
        assert "-fmad=false" in options
        self.code, self.library = code, library(code)
        self.kinds = {
            name: ["*" in parameter and "const" not in parameter for parameter in parameters.split(",")]
            for name, parameters in KERNEL.findall(code)
        }

    def get_function(self, name):
        function = getattr(self.library, f"run_{name}")
        body = self.code[self.code.index(f" {name}(") :]
        meets = re.search("__syncthreads|fg_across|fg_down", body.partition('\nextern "C"')[0]) is not None

        def call(grid, block, arguments):
            values = [ctypes.c_void_p(x.ctypes.data) if isinstance(x, np.ndarray) else ctypes.c_longlong(int(x or 0)) for x in arguments]
            pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
            function(grid[0], block[0], block[1] if len(block) > 1 else 1, int(meets), pointers)

        return call
