"""Who competes: the package behind each rival, its threads, and what is set in its environment before it loads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util


@dataclass(frozen=True)
class Rival:
    """A competitor.

    name          as in ``--rival`` and in the table
    module        what it imports
    packages      distributions whose versions belong to its figures; one name may stand for several builds ("a|b")
    threads       how its threads are set, for the reader
    environment   number of threads -> environment variables of its process
    beside        another module without which it is not there
    """

    name: str
    module: str
    packages: tuple[str, ...]
    threads: str
    environment: Callable[[int], dict[str, str]] = lambda threads: {}
    beside: str = "sys"

    @property
    def is_installed(self) -> bool:
        return all(util.find_spec(module) is not None for module in (self.module, self.beside))

    @property
    def versions(self) -> dict[str, str]:
        """Package name -> version, of those that are installed."""
        found = {}
        for package in (name for names in self.packages for name in names.split("|")):
            try:
                found[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        return found


def blas_threads(threads: int) -> dict[str, str]:
    """Environment variables that give every BLAS so many threads."""
    return {"OPENBLAS_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}


# Every process is also pinned to the first `threads` CPUs, which is what limits the libraries that have no setting.
RIVALS = {
    rival.name: rival
    for rival in (
        Rival("flowgraph", "flowgraph", ("flowgraph",), "`Session(threads=n)`"),
        Rival("numpy", "numpy", ("numpy",), "BLAS: `OPENBLAS_NUM_THREADS=n`; all else is one thread", blas_threads),
        Rival("torch", "torch", ("torch",), "`torch.set_num_threads(n)`"),
        Rival("torch-channels-last", "torch", ("torch",), "`torch.set_num_threads(n)`"),
        Rival(
            "jax",
            "jax",
            ("jax", "jaxlib"),
            "no setting: all CPUs the process may use",
            lambda threads: {"JAX_PLATFORMS": "cpu"},
        ),
        Rival(
            "tensorflow",
            "tensorflow",
            ("tensorflow|tensorflow-cpu",),
            "`ConfigProto(intra_op_parallelism_threads=n, inter_op_parallelism_threads=n)`",
            lambda threads: {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        ),
        Rival(
            "pytensor",
            "pytensor",
            ("pytensor", "numba"),
            "BLAS: `OPENBLAS_NUM_THREADS=n`; its cache of compiled kernels stays",
            blas_threads,
        ),
        Rival(
            "onnxruntime",
            "onnxruntime",
            ("onnxruntime",),
            "`SessionOptions.intra_op_num_threads = n`",
            beside="onnx",
        ),
        Rival("numexpr", "numexpr", ("numexpr",), "`set_num_threads(n)`"),
        # Dask's own advice: one BLAS thread, as its workers are threads already.
        Rival(
            "dask",
            "dask",
            ("dask",),
            "`get(..., num_workers=n)`, BLAS: `OPENBLAS_NUM_THREADS=1`",
            lambda threads: blas_threads(1),
        ),
    )
}
