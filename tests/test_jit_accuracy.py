"""The functions of compiled loops keep the bounds that the kernels keep: they are measured against the same references."""

import pytest

pytest.importorskip("llvmlite")

from benchmarks.accuracy import compiled, table
from benchmarks.accuracy.measure import measured
from benchmarks.accuracy.references import REFERENCES
from flowgraph.graph import OPS

pytestmark = pytest.mark.usefixtures("own_kernels")


@pytest.mark.parametrize(("name", "dtype"), compiled.loops())
def test_a_compiled_loop_errs_by_no_more_than_its_bound(name, dtype):
    worst = measured(OPS[name], REFERENCES[name], dtype, 2000, compiled.kernel(OPS[name], dtype))
    assert worst.ulps <= table.bound_of(name, dtype), f"{worst.ulps:.4g} ulps at {worst.where}"


def test_the_page_lists_every_compiled_function_whose_result_is_rounded():
    found = {(name, dtype) for name, (errors, _) in table.read().compiled.items() for dtype in errors}
    rounded = {(name, dtype) for name, dtype in compiled.loops() if REFERENCES[name].bound}
    assert sorted(rounded - found) == [], "python -m benchmarks.accuracy writes the page anew"
    assert {name for name, _ in found} == {name for name, _ in rounded}
