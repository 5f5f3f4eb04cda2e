"""Products of matrices by cuBLAS, over the stand-in: every layout, batch and dtype gives what NumPy does, also where it is captured."""

import gc

import numpy as np
import pytest

from flowgraph.devices import cublas, open_device
from tests.stand_in import standing_in


@pytest.fixture
def device():
    with standing_in():
        yield open_device("cuda:0")


def whole(*shape):
    """Small whole numbers, whose products and sums are exact."""
    return np.random.default_rng(len(shape)).integers(-4, 5, shape)


SIDES = [((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((1, 4), (4, 1)), ((3, 1), (1, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)),
         ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (6, 4, 5)), ((4,), (2, 4, 5)), ((2, 3, 4), (4,)), ((2, 3, 3, 4), (2, 1, 4, 1)),
         ((2, 1, 1, 3, 4), (1, 2, 3, 4, 5)), ((0, 3, 4), (4, 5)), ((3, 0), (0, 5)), ((4,), (4,))]  # fmt: skip
LAYOUTS = {
    "as it is": lambda x: x,
    "transposed": lambda x: x.swapaxes(-1, -2).copy().swapaxes(-1, -2) if x.ndim > 1 else x,
    "a part of wider rows": lambda x: np.concatenate([x, x], -1)[..., : x.shape[-1]],
    "every other row": lambda x: np.repeat(x, 2, -2)[..., ::2, :] if x.ndim > 1 else x,
    "every other number": lambda x: np.repeat(x, 2, -1)[..., ::2],
    "upside down": lambda x: x[..., ::-1, :].copy()[..., ::-1, :] if x.ndim > 1 else x[::-1].copy()[::-1],
    "the batch inside": lambda x: np.moveaxis(np.moveaxis(x, 0, -2).copy(), -2, 0) if x.ndim > 2 else x,
}


def on_device(device, x, layout):
    """``x`` there, as a view into memory in which it lies as on the host."""
    laid = layout(x)
    root = laid if laid.base is None else laid.base
    moved = device.copied(root)
    start = (laid.__array_interface__["data"][0] - root.__array_interface__["data"][0]) // x.itemsize
    view = np.lib.stride_tricks.as_strided(moved.host.reshape(-1)[start:], laid.shape, laid.strides)
    np.testing.assert_array_equal(view, x)
    return type(moved).of(moved.gpu, view, moved.holder)


@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_products_are_those_of_numpy_however_the_factors_lie(sides, device):
    x, y = (whole(*shape).astype(np.float32) for shape in sides)
    expected = np.matmul(x, y)
    with device.active():
        for first in LAYOUTS.values():
            for second in LAYOUTS.values():
                result = device.xp.matmul(on_device(device, x, first), on_device(device, y, second))
                assert result.shape == expected.shape and result.dtype == expected.dtype
                np.testing.assert_array_equal(device.to_host(result), expected)


@pytest.mark.parametrize("dtypes", ["ff", "dd", "ee", "FF", "DD", "fd", "ef", "fD", "ii", "??", "fi"])
def test_products_have_the_dtypes_of_numpy(dtypes, device):
    x, y = whole(2, 3, 4).astype(dtypes[0]), whole(4, 5).astype(dtypes[1])
    expected = np.matmul(x, y)
    with device.active():
        result = device.xp.matmul(device.copied(x), device.copied(y))
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(device.to_host(result), expected)


@pytest.mark.parametrize("sides", SIDES, ids=str)
@pytest.mark.parametrize("layout", ["as it is", "transposed", "a part of wider rows", "the batch inside"])
def test_products_are_written_where_they_are_asked_to_be(sides, layout, device):
    x, y = (whole(*shape).astype(np.float32) for shape in sides)
    expected = np.matmul(x, y)
    if not expected.ndim or (layout != "as it is" and expected.ndim < 2):
        return
    with device.active():
        out = on_device(device, np.zeros_like(expected), LAYOUTS[layout])
        assert device.xp.matmul(device.copied(x), device.copied(y), out=out) is out
        np.testing.assert_array_equal(device.to_host(out), expected)


def test_factors_that_can_be_read_as_they_lie_are_not_copied(device):
    x, heads = whole(6, 2, 3, 4).astype(np.float32), whole(2, 3, 4, 5).astype(np.float32)
    with device.active():
        a, b, one = device.copied(x), device.copied(heads), device.copied(heads[0, 0])
        log = device.cupy.gpu.log
        for left, right in ((a, one), (a[:, 0], one), (a[..., :2, :], one), (one.swapaxes(0, 1), one), (b.swapaxes(2, 3), b)):
            before = len(log)
            device.xp.matmul(left, right)
            assert [what for what, *_ in log[before:] if what not in ("allocate", "free", "empty")] == ["matmul"]


def test_large_factors_whose_batch_has_two_steps_are_multiplied_in_turns_and_small_ones_are_copied(device, monkeypatch):
    """Queries and keys of heads, side by side in one array, and their gradients."""
    x = whole(3, 7, 2, 4, 5).astype(np.float32)  # (batch, tokens, queries and keys, heads, width)
    for most, calls in ((cublas.TURN_BYTES, 1), (0, 3)):
        monkeypatch.setattr(cublas, "TURN_BYTES", most)
        with device.active():
            q, k = (device.copied(x)[:, :, i].transpose(0, 2, 1, 3) for i in range(2))
            ours = q.host, k.host
            for a, b in ((0, 1), (1, 0)):
                start = len(device.cupy.gpu.log)
                first, second = (q, k)[a], (q, k)[b].swapaxes(-1, -2)
                made = device.xp.matmul(first, second)
                names = [entry[0] for entry in device.cupy.gpu.log[start:]]
                assert names.count("matmul") == calls and ("ascontiguousarray" in names) == (calls == 1)
                np.testing.assert_array_equal(device.to_host(made), np.matmul(ours[a], ours[b].swapaxes(-1, -2)))


def test_a_product_can_be_captured_where_cupy_refuses_to(device):
    x = whole(3, 3).astype(np.float32)
    with device.active():
        given = device.copied(x)
        device.xp.matmul(given, given)
        device.compute.begin_capture()
        made = device.xp.matmul(given, given)
        with pytest.raises(NotImplementedError):
            device.cupy.matmul(given, given)
        device.compute.end_capture().launch(device.compute)
        np.testing.assert_array_equal(device.to_host(made), x @ x)


def test_each_stream_has_memory_of_its_own_to_work_in(device):
    with device.active():
        other = device.cupy.cuda.Stream(non_blocking=True)
        for stream in (device.compute, other, device.compute):
            device.products.prepare(stream)
        (one, first), (two, second) = device.cupy.gpu.blas.handles.values()
        assert (one, two) == (device.compute.ptr, other.ptr) and first.holder.memory is not second.holder.memory


def test_handles_go_with_their_device():
    with standing_in() as cupy:
        device = open_device("cuda:0")
        with device.active():
            x = device.copied(whole(3, 3).astype(np.float32))
            device.xp.matmul(x, x)
        assert len(cupy.gpu.blas.handles) == 1
        del device
        gc.collect()
        assert not cupy.gpu.blas.handles


def test_without_cublas_of_that_name_products_are_those_of_cupy(device, monkeypatch):
    monkeypatch.setattr(cublas, "load", lambda cupy: None)
    x = whole(3, 3).astype(np.float32)
    with device.active():
        np.testing.assert_array_equal(device.to_host(device.xp.matmul(device.copied(x), device.copied(x))), x @ x)
    assert not device.cupy.gpu.blas.handles


def test_a_status_that_is_not_0_is_an_error(device, monkeypatch):
    monkeypatch.setattr(device.cupy.gpu.blas, "cublasGemmEx", lambda *arguments: 13, raising=False)
    with device.active(), pytest.raises(RuntimeError, match="cuBLAS: EXECUTION_FAILED"):
        x = device.copied(whole(3, 3).astype(np.float32))
        device.xp.matmul(x, x)
