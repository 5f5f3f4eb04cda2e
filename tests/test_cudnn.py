"""Convolutions by cuDNN, over a stand-in for its front end: which engines are refused, what is served, and what falls back."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.ops import conv_kernels
from tests.test_cuda import rows, standing_in


class NotSupported(RuntimeError):
    pass


class Tensor:
    def __init__(self, dim=None):
        self.dim, self.is_output = dim, False

    def set_output(self, value):
        self.is_output = value
        return self

    def set_data_type(self, kind):
        return self

    def set_dim(self, dim):
        self.dim = dim
        return self

    def set_stride(self, stride):
        self.stride = stride
        return self


class Graph:
    """A graph of one convolution, computed by the kernels of the host."""

    module: SimpleNamespace

    def __init__(self, io_data_type, intermediate_data_type, compute_data_type, handle):
        self.order = []
        self.kind = io_data_type

    def tensor(self, name, dim, stride):
        return Tensor(dim)

    def _node(self, name, **given):
        self.name, self.given, self.made = name, given, Tensor()
        return self.made

    def conv_fprop(self, **given):
        return self._node("conv", **given)

    def conv_dgrad(self, **given):
        return self._node("dgrad", **given)

    def conv_wgrad(self, **given):
        return self._node("wgrad", **given)

    def validate(self):
        self.order.append("validate")

    def build_operation_graph(self):
        self.order.append("operation graph")

    def create_execution_plans(self, modes):
        self.order.append("plans")

    def deselect_numeric_notes(self, notes):
        assert self.order == ["validate", "operation graph", "plans"]
        self.module.refused.append(set(notes))

    def check_support(self):
        if self.given["dilation"] != [1, 1]:
            raise NotSupported("no engine")

    def build_plans(self):
        self.module.built.append(self.name)

    def get_workspace_size(self):
        return 1000

    def execute(self, tensors, workspace, handle):
        assert workspace.host.nbytes == 1000 and handle == "handle"
        self.module.ran.append(self.name)
        out = tensors[self.made]
        arrays = {name: tensors[t] for name, t in self.given.items() if isinstance(t, Tensor)}
        hosts, result = {name: array.host for name, array in arrays.items()}, out.host
        out.gpu.kernel(list(arrays.values()), [out, workspace], "cudnn", lambda: result.__setitem__(..., self._computed(hosts)))

    def _computed(self, arrays):
        (top, left), (bottom, right) = self.given["pre_padding"], self.given["post_padding"]
        how = {"stride": tuple(self.given["stride"]), "padding": ((top, bottom), (left, right)), "dilation": (1, 1)}
        names = {"conv": ("image", "weight"), "dgrad": ("loss", "filter"), "wgrad": ("loss", "image")}[self.name]
        a, b = (arrays[name] for name in names)
        if self.name == "conv":
            return conv_kernels.conv2d(np, a, b, groups=a.shape[1] // b.shape[1], **how)
        shape = tuple(self.made.dim)
        if self.name == "dgrad":
            return conv_kernels.conv2d_input_grad(np, a, b, shape=shape, groups=shape[1] // b.shape[1], **how)
        return conv_kernels.conv2d_weight_grad(np, a, b, shape=shape, groups=b.shape[1] // shape[1], **how)


@pytest.fixture
def cudnn(monkeypatch):
    notes = SimpleNamespace(NONDETERMINISTIC="nondeterministic", TENSOR_CORE="tensor core", DOWN_CONVERT_INPUTS="down")
    module = SimpleNamespace(
        backend_version=lambda: 91000,
        create_handle=lambda: "handle",
        set_stream=lambda handle, stream: None,
        data_type=SimpleNamespace(FLOAT="float", HALF="half"),
        heur_mode=SimpleNamespace(A="a", FALLBACK="fallback"),
        numerical_note=notes,
        cudnnGraphNotSupportedError=NotSupported,
        pygraph=Graph,
        refused=[],
        built=[],
        ran=[],
    )
    monkeypatch.setattr(Graph, "module", module, raising=False)
    monkeypatch.setitem(sys.modules, "cudnn", module)
    with standing_in():
        yield module


def network(**options):
    x = fg.placeholder("x", (4, 4, 9, 8))
    w = fg.variable(rows(6, 4 // options.get("groups", 1), 3, 3), name="w")
    y = fg.nn.conv2d(x, w, **options)
    loss = fg.sum(fg.tanh(y))
    return x, [y, *fg.gradients(loss, [x, w])]


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"padding": ((1, 0), (2, 1))}, {"groups": 2}, {"dilation": 2}])
def test_convolutions_and_gradients_agree_with_the_host(options, cudnn):
    with fg.Graph() as graph:
        x, fetches = network(**options)
    value = rows(4, 4, 9, 8, seed=1)
    with fg.Session(graph, device="cpu:0", jit=False) as host:
        expected = host.run(fetches, {x: value})
    with fg.Session(graph, device="cuda:0", jit=False) as session:
        for _ in range(2):
            for ours, theirs in zip(session.run(fetches, {x: value}), expected, strict=True):
                np.testing.assert_allclose(ours, theirs, 1e-4, 1e-4)
    # (For what cuDNN has no engine, CuPy's kernels serve.)
    assert set(cudnn.ran) == (set() if "dilation" in options else {"conv", "dgrad", "wgrad"})


@pytest.mark.parametrize("tf32", [False, True])
def test_engines_that_are_not_deterministic_or_not_exact_are_refused(tf32, cudnn):
    with fg.Graph() as graph:
        x, fetches = network()
    with fg.Session(graph, device="cuda:0", jit=False, tf32=tf32) as session:
        session.run(fetches, {x: rows(4, 4, 9, 8)})
    exact = set() if tf32 else {"tensor core", "down"}
    assert len(cudnn.refused) == 3 and all(notes == {"nondeterministic"} | exact for notes in cudnn.refused)


def test_cudnn_can_be_left_out(cudnn):
    with fg.Graph() as graph:
        x, fetches = network()
    with fg.Session(graph, device="cuda:0", jit=False, cudnn=False) as session:
        session.run(fetches, {x: rows(4, 4, 9, 8)})
    assert not cudnn.built


def test_cudnn_that_is_insisted_on_and_missing_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "cudnn", None)
    with standing_in(), fg.Graph() as graph:
        with pytest.raises(fg.MissingExtraError, match="cuDNN is not installed"):
            fg.Session(graph, device="cuda:0", cudnn=True)
        fg.Session(graph, device="cuda:0").close()
