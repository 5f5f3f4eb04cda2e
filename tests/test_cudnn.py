"""Convolutions by cuDNN, over a stand-in for its front end: which engines are refused, what is served, and what falls back.

Where the front end and cuDNN are installed, the stand-in is compared with them, and plans are made for a GPU that is not there.
"""

import inspect
import itertools
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from benchmarks.gpu.convolutions import channels_last, for_h200, in_order, kinds, named
from benchmarks.gpu.models import MODELS
from flowgraph.devices.cudnn import Unserved
from flowgraph.graph import Spec
from flowgraph.ops import conv_fold
from flowgraph.ops.conv import conv_input_grad, conv_op, conv_weight_grad
from tests.stand_in import standing_in
from tests.test_cuda import rows

NUMBERS = {"half": np.float16, "float": np.float32, "double": np.float64}
KINDS = {"conv_fprop": "conv", "conv_dgrad": "conv_input_grad", "conv_wgrad": "conv_weight_grad"}


class NotSupported(Exception):
    pass


class Tensor:
    def __init__(self, name, dim=None, stride=None, data_type=None, uid=-1):
        self.name, self.dim, self.stride, self.data_type, self.uid = name, dim, stride, data_type, uid
        self.is_output = False

    def set_output(self, is_output):
        self.is_output = is_output
        return self

    def set_data_type(self, data_type):
        self.data_type = data_type
        return self

    def set_dim(self, dim):
        self.dim = dim
        return self

    def set_stride(self, stride):
        self.stride = stride
        return self

    def set_uid(self, uid):
        self.uid = uid
        return self


class Graph:
    """A graph of one convolution, computed by the kernels of the host."""

    module: SimpleNamespace

    def __init__(self, *, io_data_type, intermediate_data_type, compute_data_type, handle):
        assert handle == self.module.handles[-1]
        self.order = []
        self.wide = compute_data_type

    def tensor(self, dim, stride, data_type, name, uid):
        assert all(type(size) is int and size > 0 for size in dim) and len(dim) in (4, 5)
        return Tensor(name, dim, stride, data_type, uid)

    def _node(self, method, given, pre_padding, post_padding, stride, dilation, compute_data_type, name):
        assert all(len(each) == len(stride) for each in (pre_padding, post_padding, dilation)) and compute_data_type == self.wide
        self.method, self.given, self.made = method, given, Tensor(name)
        padding = tuple(zip(pre_padding, post_padding, strict=True))
        self.how = {"stride": tuple(stride), "padding": padding, "dilation": tuple(dilation)}
        return self.made

    def conv_fprop(self, image, weight, **how):
        return self._node("conv_fprop", (image, weight), **how)

    def conv_dgrad(self, loss, filter, **how):
        return self._node("conv_dgrad", (loss, filter), **how)

    def conv_wgrad(self, image, loss, **how):
        return self._node("conv_wgrad", (loss, image), **how)

    def validate(self):
        assert {tensor.uid for tensor in (*self.given, self.made)} == {1, 2, 3} and self.made.is_output
        for tensor in (*self.given, self.made):
            assert tensor.stride == [int(np.prod(tensor.dim[i + 1 :])) for i in range(len(tensor.dim))]
            assert tensor.data_type == self.made.data_type
        self.order.append("validate")

    def build_operation_graph(self):
        self.order.append("operation graph")

    def create_execution_plans(self, modes):
        self.order.append("plans")

    def deselect_numeric_notes(self, notes):
        assert self.order == ["validate", "operation graph", "plans"]
        self.module.refused.append(set(notes))

    def check_support(self):
        if self.how["dilation"] == (3, 3):
            raise NotSupported("no engine")

    def build_plans(self):
        self.module.built.append(KINDS[self.method])

    def get_workspace_size(self):
        return 1000 if self.method == "conv_wgrad" else 0

    def execute(self, addresses, workspace, handle):
        assert handle == self.module.handles[-1] and addresses.keys() == {1, 2, 3}
        assert all(isinstance(each, int) and each % 16 == 0 for each in addresses.values())
        assert workspace.array.host.nbytes == 1000 if self.method == "conv_wgrad" else workspace == 0
        a, b, out = (addresses[uid].array for uid in (1, 2, 3))
        assert self.module.streams[handle] == out.gpu.stream.ptr
        self.module.ran.append(KINDS[self.method])
        hosts = a.host, b.host, out.host
        out.gpu.kernel([a, b], [out, *([workspace.array] if workspace else [])], "cudnn", lambda: self._compute(*hosts))

    def _compute(self, a, b, out):
        for tensor, array in zip((*self.given, self.made), (a, b, out), strict=True):
            assert array.flags.c_contiguous and array.size == np.prod(tensor.dim) and array.dtype == NUMBERS[tensor.data_type]
        first, second = (array.reshape(tensor.dim) for array, tensor in zip((a, b), self.given, strict=True))
        op, shape = KINDS[self.method], tuple(self.made.dim)
        images = {"conv": first.shape, "conv_input_grad": shape, "conv_weight_grad": second.shape}[op]
        filters = shape if op == "conv_weight_grad" else second.shape
        told = {} if op == "conv" else {"shape": shape}
        made = getattr(conv_fold, op)(np, first, second, **told, **self.how, groups=images[1] // filters[1])
        assert made.shape == shape
        out[...] = made.reshape(out.shape)


@pytest.fixture
def cudnn(monkeypatch):
    names = "NONDETERMINISTIC", "TENSOR_CORE", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION"
    module = SimpleNamespace(handles=[], streams={}, refused=[], built=[], ran=[])

    def create_handle():
        module.handles.append(f"handle {len(module.handles)}")
        return module.handles[-1]

    def set_stream(handle, stream):
        module.streams[handle] = stream

    vars(module).update(
        backend_version=lambda: 91000,
        create_handle=create_handle,
        destroy_handle=lambda handle: module.streams.pop(handle, None),
        set_stream=set_stream,
        data_type=SimpleNamespace(FLOAT="float", HALF="half", DOUBLE="double", BFLOAT16="bfloat16"),
        heur_mode=SimpleNamespace(A="a", FALLBACK="fallback"),
        numerical_note=SimpleNamespace(**{name: name for name in names}),
        cudnnGraphNotSupportedError=NotSupported,
        pygraph=Graph,
    )
    monkeypatch.setattr(Graph, "module", module, raising=False)
    monkeypatch.setitem(sys.modules, "cudnn", module)
    with standing_in() as cupy:
        module.cupy = cupy
        yield module


def step(images, filters, dtype="float32", **options):
    """A placeholder, a convolution of it along as many axes as it has sizes, and the gradients by both, with a random value."""
    x = fg.placeholder("x", images, dtype)
    w = fg.variable(rows(*filters).astype(dtype), name="w")
    conv = {3: fg.nn.conv1d, 4: fg.nn.conv2d, 5: fg.nn.conv3d}[len(images)]
    y = conv(x, w, **options)
    return x, [y, *fg.gradients(fg.sum(fg.tanh(y)), [x, w])], rows(*images, seed=1).astype(dtype)


def network(dtype="float32", **options):
    return step((4, 4, 9, 8), (6, 4 // options.get("groups", 1), 3, 3), dtype, **options)


def agree(graph, fetches, feeds, tolerance=1e-4, **options):
    """Runs on the stand-in twice, the second time captured, and compares with the host; the plan."""
    with fg.Session(graph, device="cpu:0", jit=False) as host:
        expected = host.run(fetches, feeds)
    with fg.Session(graph, device="cuda:0", jit=False, **options) as session:
        for _ in range(3):
            for ours, theirs in zip(session.run(fetches, feeds), expected, strict=True):
                assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
                np.testing.assert_allclose(ours.astype(complex), theirs.astype(complex), tolerance, tolerance)
        return str(session.plan(fetches, {tensor: np.shape(value) for tensor, value in feeds.items()}))


# --- what it computes


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"padding": ((1, 0), (2, 1))},
        {"groups": 2},
        {"dilation": 2},
        {"stride": (1, 2), "dilation": (2, 1)},
    ],
)
def test_convolutions_and_gradients_agree_with_the_host(options, cudnn):
    with fg.Graph() as graph:
        x, fetches, value = network(**options)
    plan = agree(graph, fetches, {x: value})
    assert set(cudnn.ran) == {"conv", "conv_input_grad", "conv_weight_grad"} and plan.count("by cuDNN") == 3


@pytest.mark.parametrize(
    ("images", "filters", "options"),
    [
        ((4, 6, 20), (8, 6, 5), {"padding": ((2, 0),)}),
        ((4, 6, 20), (6, 1, 3), {"groups": 6, "stride": 2}),
        ((2, 4, 5, 6, 7), (6, 4, 3, 2, 3), {"padding": ((1, 0), (0, 1), (1, 1)), "stride": (2, 1, 1)}),
        ((2, 4, 5, 6, 7), (4, 2, 3, 2, 3), {"groups": 2, "dilation": (1, 2, 1)}),
        ((4, 6, 9, 8), (12, 1, 3, 3), {"groups": 6}),
    ],
)
def test_it_serves_sequences_volumes_and_channels_by_themselves(images, filters, options, cudnn):
    with fg.Graph() as graph:
        x, fetches, value = step(images, filters, **options)
    assert agree(graph, fetches, {x: value}).count("by cuDNN") == 3


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-2), ("float64", 1e-9)])
def test_it_computes_in_the_numbers_of_the_graph(dtype, tolerance, cudnn):
    with fg.Graph() as graph:
        x, fetches, value = network(dtype, padding=1)
    assert agree(graph, fetches, {x: value}, tolerance).count("by cuDNN") == 3


def test_images_of_other_numbers_than_the_filters_are_converted_first(cudnn):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2, 4, 7, 7), "float16")
        y = fg.nn.conv2d(x, rows(5, 4, 3, 3))
    assert "by cuDNN" in agree(graph, [y], {x: rows(2, 4, 7, 7, seed=1).astype("float16")})


def test_one_convolution_serves_several_sets_of_filters(cudnn):
    """The filters of an ensemble, over images that all share and over images of their own; and the gradients."""
    with fg.Graph() as graph:
        x, xs, w = fg.placeholder("x", (2, 4, 6, 7)), fg.placeholder("xs", (3, 2, 4, 6, 7)), fg.variable(rows(3, 6, 2, 3, 2), name="w")

        def conv(x, w):
            return fg.nn.conv2d(x, w, groups=2, padding=1)

        shared, own = fg.vmap(conv, in_axes=(None, 0))(x, w), fg.vmap(conv)(xs, w)
        loss = fg.sum(fg.tanh(shared)) + fg.sum(fg.tanh(own))
        fetches = [shared, own, *fg.gradients(loss, [x, xs, w])]
    plan = agree(graph, fetches, {x: rows(2, 4, 6, 7, seed=1), xs: rows(3, 2, 4, 6, 7, seed=2)})
    assert plan.count("by cuDNN") == 6


def test_arrays_that_do_not_begin_where_engines_may_read_are_copied(cudnn):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3, 1, 5, 5))
        y = fg.nn.conv2d(x[1:], rows(2, 1, 3, 3))  # 100 bytes behind the first
    assert "by cuDNN" in agree(graph, [y], {x: rows(3, 1, 5, 5, seed=1)})


# --- how


@pytest.mark.parametrize(("dtype", "tf32"), [("float32", False), ("float32", True), ("float16", False), ("float64", False)])
def test_engines_that_are_not_deterministic_or_not_exact_are_refused(dtype, tf32, cudnn):
    with fg.Graph() as graph:
        x, fetches, value = network(dtype)
    with fg.Session(graph, device="cuda:0", jit=False, tf32=tf32) as session:
        session.run(fetches, {x: value})
    exact = {"float32": {"TENSOR_CORE", "DOWN_CONVERT_INPUTS"}}.get(dtype, {"DOWN_CONVERT_INPUTS"}) if not tf32 else set()
    assert len(cudnn.refused) == 3
    assert all(notes == {"NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION"} | exact for notes in cudnn.refused)


def test_a_plan_is_made_once_for_equal_shapes(cudnn):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2, 4, 6, 6))
        ws = [fg.variable(rows(4, 4, 3, 3, seed=i), name=f"w{i}") for i in range(3)]
        y = x
        for w in ws:
            y = fg.nn.conv2d(y, w, padding=1)
        z = fg.tanh(y)
    with fg.Session(graph, device="cuda:0", jit=False) as session:
        session.run(y, {x: rows(2, 4, 6, 6)})
        session.run(z, {x: rows(2, 4, 6, 6)})
    assert cudnn.built == ["conv"] and cudnn.ran == ["conv"] * 6 and len(cudnn.handles) == 1


def test_the_list_of_devices_says_which_cudnn_there_is(cudnn):
    cudnn.backend_version = lambda: 92801
    assert "cuDNN 9.28.1" in str(fg.devices()[1])
    cudnn.backend_version = lambda: 8904
    assert "cuDNN" not in str(fg.devices()[1])


def test_cudnn_is_neither_loaded_nor_started_for_a_graph_without_convolutions(cudnn):
    cudnn.backend_version = None
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,))
        y = fg.tanh(x)
    with fg.Session(graph, device="cuda:0", jit=False) as session:
        session.run(y, {x: rows(3)})
    assert not cudnn.handles


def test_a_convolution_is_asked_for_on_the_stream_that_is_current(cudnn):
    device: Any = fg.Session(device="cuda:0").devices[0]
    images, filters = Spec((2, 4, 6, 6), np.dtype("f4")), Spec((4, 4, 3, 3), np.dtype("f4"))
    attrs = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    kernel = device.bind(conv_op, attrs, (images, filters))
    cupy, other = cudnn.cupy, cudnn.cupy.cuda.Stream(non_blocking=True)
    for stream in (device.compute, other, device.compute):
        with stream:
            kernel(cupy.ones((2, 4, 6, 6), "f4"), cupy.ones((4, 4, 3, 3), "f4"))  # (the stand-in compares the streams)
        assert cudnn.streams[cudnn.handles[0]] == stream.ptr


# --- what it does not


def test_what_has_no_engine_is_cupys_and_the_plan_says_so(cudnn):
    with fg.Graph() as graph:
        x, fetches, value = network(dilation=3)
    plan = agree(graph, fetches, {x: value})
    assert not cudnn.ran and plan.count("by CuPy, as cuDNN has no engine for it") == 3


@pytest.mark.parametrize(("dtype", "reason"), [("complex64", "cuDNN has no complex64"), ("int32", "cuDNN has no int32")])
def test_other_numbers_are_cupys(dtype, reason, cudnn):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2, 4, 6, 6), dtype)
        y = fg.nn.conv2d(x, (rows(5, 4, 3, 3) * 4).astype(dtype))
    assert reason in agree(graph, [y], {x: (rows(2, 4, 6, 6, seed=1) * 4).astype(dtype)})


def test_an_empty_batch_is_cupys(cudnn):
    with fg.Graph() as graph:
        x, fetches, value = step((0, 4, 6, 6), (5, 4, 3, 3))
    assert agree(graph, fetches, {x: value}).count("there is nothing to compute") == 3


def test_images_that_windows_leave_much_of_out_are_cupys(cudnn):
    with fg.Graph() as graph:
        g, w = fg.placeholder("g", (2, 3, 4)), rows(3, 2, 3)
        attrs: dict[str, Any] = {"stride": (2,), "padding": ((0, 0),), "dilation": (1,), "groups": 1}
        much, little = (conv_input_grad(g, w, **attrs, extra=(extra,)) for extra in (2, 1))
    plan = agree(graph, [much, little], {g: rows(2, 3, 4, seed=1)})
    assert "leave more of the images out than cuDNN knows of" in plan and plan.count("by cuDNN") == 1


def test_cudnn_can_be_left_out(cudnn):
    with fg.Graph() as graph:
        x, fetches, value = network()
    assert "by CuPy, as cuDNN is left out" in agree(graph, fetches, {x: value}, cudnn=False)
    assert not cudnn.built


def test_cudnn_that_is_insisted_on_and_missing_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "cudnn", None)
    with standing_in(), fg.Graph() as graph:
        with pytest.raises(fg.MissingExtraError, match="cuDNN is not installed"):
            fg.Session(graph, device="cuda:0", cudnn=True)
        x, fetches, value = network()
        assert "as cuDNN is not installed" in agree(graph, fetches, {x: value})


def test_cudnn_that_is_too_old_or_cannot_start_is_left_out_with_the_reason(cudnn):
    with fg.Graph() as graph:
        x, fetches, value = network()
    cudnn.backend_version = lambda: 8904
    assert "as cuDNN cannot be loaded: cuDNN's number is 8904" in agree(graph, fetches, {x: value})
    with pytest.raises(fg.MissingExtraError):
        fg.Session(graph, device="cuda:0", cudnn=True)

    def fails():
        raise RuntimeError("the driver is too old")

    cudnn.backend_version, cudnn.create_handle = lambda: 91000, fails
    assert "as cuDNN does not start: the driver is too old" in agree(graph, fetches, {x: value})


# --- the real one


@pytest.fixture(scope="module")
def real():
    """The real front end and library, for an H200: a function of whether TF32 is allowed."""
    cudnn = pytest.importorskip("cudnn")
    try:
        for_h200(cudnn, False)
    except Exception as error:  # it wants a library named libcuda.so.1, of a driver or an empty one
        pytest.skip(f"cuDNN makes no plans here: {error}")
    return partial(for_h200, cudnn)


def test_the_stand_in_has_the_parameters_of_the_real_front_end(cudnn, monkeypatch):
    monkeypatch.delitem(sys.modules, "cudnn")
    real = pytest.importorskip("cudnn")
    with_names: dict[str, Any] = {"__init__": Graph.__init__, "tensor": Graph.tensor}
    for name, ours in with_names.items():
        text = _parameters(getattr(real.pygraph, name))
        assert all(parameter in text for parameter in inspect.signature(ours).parameters if parameter != "self"), name
    for name in ("validate", "build_operation_graph", "create_execution_plans", "deselect_numeric_notes", "check_support", "build_plans"):
        assert callable(getattr(real.pygraph, name))
    for name in ("data_type", "heur_mode", "numerical_note"):
        assert all(hasattr(getattr(real, name), each) for each in vars(getattr(cudnn, name)))
    for name in ("backend_version", "create_handle", "destroy_handle", "set_stream"):
        assert callable(getattr(real, name))
    assert all(parameter in _parameters(real.set_stream) for parameter in ("handle", "stream"))
    assert not issubclass(real.cudnnGraphNotSupportedError, RuntimeError)


def _parameters(function):
    try:
        return list(inspect.signature(function).parameters)
    except ValueError:  # in C++
        return function.__doc__


@pytest.mark.parametrize("op", [conv_op, conv_input_grad, conv_weight_grad], ids=str)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("tf32", [False, True])
def test_the_real_cudnn_has_engines_for_all_samples(op, dtype, tf32, real):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    convolutions, refused = real(tf32), []
    for sample in op.samples:
        specs = [Spec(np.shape(x), np.dtype(dtype)) for x in sample.inputs]
        try:
            convolutions.kernel(op, sample.attrs, specs, op.infer(*specs, **sample.attrs))
        except Unserved as error:
            refused.append((str(error), [spec.shape for spec in specs]))
    assert all(why == "there is nothing to compute" and 0 in itertools.chain(*shapes) for why, shapes in refused), refused


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("model", ["lenet", "resnet"])
def test_the_real_cudnn_serves_all_convolutions_of_the_benchmarks(model, tf32, real):
    convolutions = real(tf32)
    for op, shapes, how in kinds(MODELS[model]):
        kernel = convolutions._one(op, shapes, dict(how), np.dtype("f4"))
        assert kernel.scratch < 400e6
        if not tf32 and op != "conv_weight_grad":
            assert kernel.scratch < 1e6  # images as flowgraph has them, with no copies in another order


# --- the table of engines


def test_the_table_of_engines_has_a_row_for_each_kind_of_convolution_of_a_step():
    found = kinds(MODELS["lenet"])
    assert sorted(op for op, _, _ in found) == ["conv", "conv", "conv_input_grad", "conv_weight_grad", "conv_weight_grad"]
    images = {named(op, shapes)[0] for op, shapes, _ in found}
    assert images == {(128, 1, 28, 28), (128, 20, 12, 12)} and set(found.values()) == {1}


def test_channels_that_lie_last_are_beside_each_other():
    assert channels_last([2, 3, 4, 5]) == [60, 1, 15, 3] and in_order([2, 3, 4, 5]) == [60, 20, 5, 1]
