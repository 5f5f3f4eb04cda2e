"""Lazy: modules of kernels that many programs do without, each loaded when first named: a tenth of the time to import flowgraph."""

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
    from . import conv as conv
    from . import cuda as cuda
    from . import cuda_together as cuda_together
    from . import draws as draws
    from . import pool as pool
    from . import products as products
    from . import windows as windows
else:
    __getattr__ = lazily(__name__, ["conv", "cuda", "cuda_together", "draws", "pool", "products", "windows"])
