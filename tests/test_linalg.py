"""Linear algebra beside NumPy's and SciPy's, closed forms of its gradients, equal eigenvalues, and what is said of unfit matrices."""

import pickle

import numpy as np
import pytest
import scipy.linalg

import flowgraph as fg
from flowgraph import linalg
from flowgraph.autodiff.vmap import vmap
from flowgraph.ops.samples import Matrices

DTYPES = ["float64", "complex128", "float32", "complex64"]
BATCHES = [(), (2,), (2, 3), (0,)]


def draw(kind, shape, dtype="float64", seed=2):
    matrices = Matrices(kind, [], dtype=dtype)
    return matrices.draw(np.random.default_rng(seed), shape)


def values(build, *arrays, unknown=False):
    """What ``build`` gives for ``arrays``, with their shapes known or not."""
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", (None,) * a.ndim if unknown else a.shape, a.dtype) for i, a in enumerate(arrays)]
        y = build(*inputs)
    with fg.Session(graph, threads=1) as session:
        result = session.run(y, dict(zip(inputs, arrays, strict=True)))
    for tensor, array in zip(y if isinstance(y, tuple) else [y], result if isinstance(y, tuple) else [result], strict=True):
        assert tensor.dtype == array.dtype
        assert len(tensor.shape) == np.ndim(array)
        assert all(have in (want, None) for have, want in zip(tensor.shape, np.shape(array), strict=True))
    return result


def gradient(build, x):
    with fg.Graph() as graph:
        tensor = fg.placeholder("x", x.shape, x.dtype)
        (slope,) = fg.gradients(build(tensor), tensor)
    with fg.Session(graph, threads=1) as session:
        return session.run(slope, {tensor: x})


def same(have, want, dtype="float64"):
    single = np.dtype(dtype) in ("float32", "complex64")
    np.testing.assert_allclose(have, want, rtol=2e-4 if single else 1e-9, atol=2e-5 if single else 1e-11)


def adjoint(x):
    return np.conj(np.swapaxes(x, -1, -2))


# --- values


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", BATCHES)
def test_functions_of_square_matrices_give_what_numpy_gives(batch, dtype, unknown):
    x = draw("any", (*batch, 4, 4), dtype)
    for name in ("inv", "det"):
        same(values(getattr(linalg, name), x, unknown=unknown), getattr(np.linalg, name)(x), dtype)
    for have, want in zip(values(linalg.slogdet, x, unknown=unknown), np.linalg.slogdet(x), strict=True):
        same(have, want, dtype)
    for power in (-2, -1, 0, 1, 2, 3, 7):
        same(values(lambda t, n=power: linalg.matrix_power(t, n), x, unknown=unknown), np.linalg.matrix_power(x, power), dtype)


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", BATCHES)
def test_decompositions_make_up_the_matrix_and_have_numpys_values(batch, dtype, unknown):
    positive = draw("positive", (*batch, 4, 4), dtype)
    lower = values(linalg.cholesky, positive, unknown=unknown)
    same(lower, np.linalg.cholesky(positive), dtype)
    same(values(lambda t: linalg.cholesky(t, upper=True), positive, unknown=unknown), adjoint(lower), dtype)

    hermitian = draw("symmetric", (*batch, 4, 4), dtype)
    w, v = values(linalg.eigh, hermitian, unknown=unknown)
    same(w, np.linalg.eigvalsh(hermitian), dtype)
    same(values(linalg.eigvalsh, hermitian, unknown=unknown), w, dtype)
    same(v * w[..., None, :] @ adjoint(v), hermitian, dtype)

    general = draw("any", (*batch, 4, 4), dtype)
    w, v = values(linalg.eig, general, unknown=unknown)
    same(general @ v, v * w[..., None, :], dtype)
    same(values(linalg.eigvals, general, unknown=unknown), w, dtype)

    for shape in [(4, 2), (2, 4), (3, 3)]:
        x = draw("any", (*batch, *shape), dtype)
        for full in (False, True):
            u, s, vh = values(lambda t, full=full: linalg.svd(t, full_matrices=full), x, unknown=unknown)
            k = s.shape[-1]
            same(u[..., :k] * s[..., None, :] @ vh[..., :k, :], x, dtype)
            assert u.shape[-1] == (shape[0] if full else k)
        same(s, np.linalg.svd(x, compute_uv=False), dtype)
        same(values(linalg.svdvals, x, unknown=unknown), s, dtype)
        q, r = values(linalg.qr, x, unknown=unknown)
        same(q @ r, x, dtype)
        same(adjoint(q) @ q, np.broadcast_to(np.eye(q.shape[-1]), (*batch, q.shape[-1], q.shape[-1])), dtype)
        same(values(lambda t: linalg.qr(t, "r"), x, unknown=unknown), r, dtype)
        assert values(lambda t: linalg.qr(t, "complete"), x, unknown=unknown)[0].shape[-1] == shape[0]
        same(values(linalg.pinv, x, unknown=unknown), np.linalg.pinv(x), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("a", "b"), [((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (3,)), ((2, 3, 3), (3, 2)), ((3, 3), (2, 3, 1)), ((2, 1, 3, 3), (4, 3, 2))]
)
def test_equations_are_solved_as_numpy_solves_them(a, b, dtype):
    x, y = draw("any", a, dtype), draw("any", (*b[:-1], b[-1]) if len(b) > 1 else (1, *b), dtype).reshape(b)
    same(values(linalg.solve, x, y), np.linalg.solve(x, y), dtype)
    same(values(linalg.solve, x, y, unknown=True), np.linalg.solve(x, y), dtype)
    same(values(linalg.lstsq, x, y), np.linalg.solve(x, y), dtype)
    for lower in (False, True):
        triangular = draw("triangular", a, dtype)
        part = (np.tril if lower else np.triu)(triangular)
        same(values(lambda s, t, lower=lower: linalg.solve_triangular(s, t, lower=lower), triangular, y), np.linalg.solve(part, y), dtype)


@pytest.mark.parametrize("lower", [False, True])
def test_a_triangular_system_of_many_blocks_is_solved_as_scipy_solves_it(lower):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((200, 200)) / 20 + np.eye(200), rng.standard_normal((200, 3))
    same(values(lambda s, t: linalg.solve_triangular(s, t, lower=lower), a, b), scipy.linalg.solve_triangular(a, b, lower=lower))


@pytest.mark.parametrize("rank", [1, 2])
def test_least_squares_and_pseudo_inverse_take_matrices_of_lower_rank(rank):
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((5, rank)) @ rng.standard_normal((rank, 3)), rng.standard_normal((5, 2))
    same(values(linalg.lstsq, a, b), np.linalg.lstsq(a, b)[0])
    same(values(linalg.pinv, a), np.linalg.pinv(a))
    assert values(linalg.matrix_rank, a) == rank
    assert values(linalg.matrix_rank, a, unknown=True) == rank
    assert values(lambda t: linalg.matrix_rank(t, rtol=1e3), a) == 0


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-2, 1.0, 30.0])
@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
def test_the_exponential_is_scipys_at_every_scale(scale, dtype):
    x = (draw("eigen", (2, 4, 4), dtype) * scale).astype(dtype)
    want = scipy.linalg.expm(x.astype("complex128" if x.dtype.kind == "c" else "float64"))
    np.testing.assert_allclose(values(linalg.expm, x), want, rtol=1e-2 if dtype == "float32" else 1e-10, atol=1e-12)


def test_an_exponential_does_not_depend_on_the_others_of_its_batch():
    x = np.stack([draw("any", (3, 3)), 100 * draw("any", (3, 3), seed=3)])
    assert values(linalg.expm, x)[0].tobytes() == values(linalg.expm, x[0]).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("order", [None, 0, 1, 2, 3, 0.5, -1, np.inf, -np.inf])
def test_norms_of_vectors_are_numpys(order, keepdims, dtype):
    x = draw("any", (2, 4, 3), dtype)

    def both(build):
        same(values(lambda t: build(linalg, t), x), build(np.linalg, x), dtype)

    both(lambda module, t: module.norm(t, order, 1, keepdims))
    for axis in [0, -1, (0, 2), None] if order is not None else []:
        both(lambda module, t, axis=axis: module.vector_norm(t, ord=order, axis=axis, keepdims=keepdims))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("order", [None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf])
def test_norms_of_matrices_are_numpys(order, keepdims, dtype):
    x = draw("any", (2, 4, 3), dtype)
    square = draw("any", (2, 3, 3), dtype)

    def both(build, x):
        same(values(lambda t: build(linalg, t), x), build(np.linalg, x), dtype)

    both(lambda module, t: module.norm(t, order, (2, 0), keepdims), x)
    both(lambda module, t: module.cond(t, order), square)
    if order is not None:
        both(lambda module, t: module.matrix_norm(t, ord=order, keepdims=keepdims), x)
    else:
        both(lambda module, t: module.norm(t, keepdims=keepdims), x)


def test_a_norm_in_half_precision_is_summed_in_single():
    x = np.full(10_000, 3.0, np.float16)  # the sum of squares, 90000, is beyond the range
    assert values(linalg.vector_norm, x) == np.float16(300)


def test_cross_trace_and_diagonal_are_numpys():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 3)), rng.standard_normal((4, 1, 3))
    same(values(linalg.cross, x, y), np.cross(x, y))
    same(values(lambda a, b: linalg.cross(a, b, axis=0), x.T, x.T[::-1]), np.cross(x.T, x.T[::-1], axis=0))
    fg.check_gradient(linalg.cross, x, y, order=2, tolerance=1e-5)
    z = rng.standard_normal((2, 3, 4))
    for offset in (-2, 0, 1, 5):
        same(values(lambda t, k=offset: linalg.trace(t, k), z), np.linalg.trace(z, offset=offset))
        same(values(lambda t, k=offset: linalg.diagonal(t, k), z), np.linalg.diagonal(z, offset=offset))
        same(values(lambda t, k=offset: np.linalg.trace(t, offset=k), z), np.linalg.trace(z, offset=offset))


def test_integers_are_taken_as_doubles():
    x = np.array([[2, 1], [1, 3]])
    assert values(linalg.inv, x).dtype == np.float64
    same(values(linalg.solve, x, np.array([1, 2])), np.linalg.solve(x, [1, 2]))
    same(values(linalg.norm, x), np.linalg.norm(x))


def test_numpy_functions_of_tensors_build_decompositions():
    x = draw("positive", (2, 3, 3))
    same(values(np.linalg.cholesky, x), np.linalg.cholesky(x))
    same(values(lambda t: np.linalg.norm(t, axis=1), x), np.linalg.norm(x, axis=1))
    same(values(lambda t: np.linalg.svd(t, full_matrices=False).S, x), np.linalg.svdvals(x))
    same(values(lambda t: np.linalg.eigh(t).eigenvalues, x), np.linalg.eigvalsh(x))


def test_a_batch_is_solved_entry_by_entry_whichever_input_carries_it():
    a, b = draw("any", (5, 3, 3)), draw("any", (5, 3, 3), seed=9)
    same(values(lambda s, t: vmap(linalg.solve)(s, t), a, b[:, :, 0]), np.linalg.solve(a, b[:, :, :1])[..., 0])
    same(values(lambda s, t: vmap(linalg.solve, in_axes=(None, 0))(s, t), a[0], b), np.linalg.solve(a[0], b))
    same(values(lambda s: vmap(lambda m: linalg.slogdet(m).logabsdet)(s), a), np.linalg.slogdet(a)[1])


# --- gradients


def test_gradients_have_their_closed_forms():
    x = draw("positive", (2, 3, 3))
    same(gradient(lambda t: fg.sum(linalg.slogdet(t).logabsdet), x), np.swapaxes(np.linalg.inv(x), -1, -2))
    same(gradient(lambda t: fg.sum(fg.log(linalg.diagonal(linalg.cholesky(t)))) * 2, x), np.linalg.inv(x))
    same(gradient(lambda t: fg.sum(linalg.trace(t @ t @ t)), x), 3 * np.swapaxes(x @ x, -1, -2))
    same(gradient(lambda t: fg.sum(linalg.eigvalsh(t)), x), np.broadcast_to(np.eye(3), x.shape))
    u, _, vh = np.linalg.svd(x)
    same(gradient(lambda t: fg.sum(linalg.matrix_norm(t, ord="nuc")), x), u @ vh)
    same(gradient(lambda t: fg.sum(linalg.trace(linalg.expm(t))), x), np.swapaxes(scipy.linalg.expm(x), -1, -2))


def loss_of_eigh(x):
    """Free of the choice of vectors: a function of the matrix."""
    w, v = linalg.eigh(x)
    return v * fg.expand_dims(fg.tanh(w), -2) @ fg.conj(fg.matrix_transpose(v))


def loss_of_svd(x):
    u, s, vh = linalg.svd(x, full_matrices=False)
    return u * fg.expand_dims(fg.tanh(s), -2) @ vh


def loss_of_eig(x):
    w, v = linalg.eig(x)
    return v * fg.expand_dims(fg.exp(w), -2) @ linalg.inv(v)


def lengths_of_eig(x):
    _, v = linalg.eig(x)
    return fg.abs(v)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize(
    ("loss", "kind", "shape"),
    [
        (loss_of_eigh, "symmetric", (2, 3, 3)),
        (loss_of_svd, "any", (2, 4, 3)),
        (loss_of_svd, "any", (3, 4)),
        (loss_of_svd, "any", (3, 3)),
        (loss_of_eig, "any", (2, 3, 3)),
        (loss_of_eig, "eigen", (3, 3)),
        (lengths_of_eig, "any", (3, 3)),
        (lambda x: linalg.qr(x, "r"), "any", (2, 4, 3)),
        (lambda x: linalg.qr(x).Q, "any", (2, 3, 4)),
        (lambda x: linalg.qr(x, "complete"), "any", (2, 3, 4)),
        (lambda x: linalg.slogdet(x), "any", (2, 3, 3)),
        (lambda x: linalg.svd(x).S, "any", (3, 2)),
        (lambda x: linalg.matrix_power(x, -3), "any", (2, 3, 3)),
        (lambda x: linalg.cholesky(x, upper=True), "positive", (2, 3, 3)),
        (lambda x: linalg.lstsq(x, x[..., :1] * 2 + 1), "any", (2, 4, 3)),
        (lambda x: linalg.cond(x), "any", (2, 3, 3)),
        (lambda x: linalg.cond(x, "fro"), "any", (3, 3)),
        (lambda x: linalg.vector_norm(x, ord=3, axis=-1), "any", (2, 3)),
        (lambda x: linalg.matrix_norm(x, ord="nuc"), "any", (2, 3, 4)),
    ],
)
def test_gradients_of_what_vectors_span_agree_with_differences(loss, kind, shape, dtype, order):
    fg.check_gradient(loss, draw(kind, shape, dtype), order=order, tolerance=5e-5)


def test_the_matrix_functions_through_decompositions_are_scipys():
    x = draw("any", (3, 3))
    same(values(loss_of_eig, x), scipy.linalg.expm(x))
    same(values(loss_of_eigh, x + x.T), scipy.linalg.funm(x + x.T, np.tanh))


@pytest.mark.parametrize("loss", [loss_of_eigh, loss_of_svd], ids=["eigh", "svd"])
def test_equal_values_leave_gradients_finite(loss):
    slope = gradient(lambda t: fg.sum(loss(t) * np.arange(9.0).reshape(3, 3)), np.eye(3))
    assert np.all(np.isfinite(slope))


def test_a_function_of_the_values_alone_is_differentiated_where_they_are_equal():
    same(gradient(lambda t: fg.sum(linalg.eigvalsh(t) ** 2), 3 * np.eye(3)), 6 * np.eye(3))
    same(gradient(lambda t: fg.sum(linalg.eigh(t).eigenvalues ** 2), 3 * np.eye(3)), 6 * np.eye(3))
    same(gradient(lambda t: fg.sum(linalg.svd(t).S ** 2), 3 * np.eye(3)), 6 * np.eye(3))


def test_the_space_of_equal_eigenvalues_has_its_gradient():
    # The projection onto the two that are equal; its derivative mixes them with the third and not among themselves.
    q = np.linalg.qr(np.random.default_rng(8).standard_normal((3, 3)))[0]
    x = q * np.array([1.0, 1.0, 4.0]) @ q.T

    def projection(t):
        pair = linalg.eigh(t).eigenvectors[:, :2]
        return pair @ fg.matrix_transpose(pair)

    fg.check_gradient(projection, x, tolerance=1e-5)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_the_gradient_of_a_determinant_is_right_for_singular_matrices(rank):
    rng = np.random.default_rng(6)
    x = rng.standard_normal((3, rank)) @ rng.standard_normal((rank, 3))
    minors = [[(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(x, i, 0), j, 1)) for j in range(3)] for i in range(3)]
    np.testing.assert_allclose(gradient(linalg.det, x), minors, atol=1e-12)


def test_the_gradient_of_the_norm_of_zero_is_zero():
    np.testing.assert_array_equal(gradient(linalg.vector_norm, np.zeros(3)), np.zeros(3))
    np.testing.assert_array_equal(gradient(linalg.norm, np.zeros((2, 2))), np.zeros((2, 2)))


def test_the_gradient_of_a_symmetric_matrix_is_symmetric():
    x = draw("positive", (3, 3))
    for build in (lambda t: linalg.cholesky(t), lambda t: linalg.eigh(t).eigenvectors, lambda t: linalg.eigvalsh(t)):
        slope = gradient(lambda t, build=build: fg.sum(build(t) ** 2 * np.arange(1.0, 4.0)), x)
        np.testing.assert_allclose(slope, slope.T, atol=1e-14)


# --- what is said of unfit matrices


def test_the_first_singular_matrix_of_a_large_batch_is_found():
    for place in [(0, 0), (3, 1), (36, 4), (99, 6)]:
        x = np.stack([np.eye(3)] * 700).reshape(100, 7, 3, 3)
        x[place] = 0
        x[99, 6] = 0
        assert f"matrix {place[0]}, {place[1]} of the batch is singular" in run_text(linalg.inv, x)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_sample_matrices_are_what_their_kind_says(dtype):
    spread = np.linspace(0.5, 2.0, 4)
    np.testing.assert_allclose(np.linalg.svdvals(draw("any", (2, 4, 5), dtype)), np.broadcast_to(spread[::-1], (2, 4)))
    np.testing.assert_allclose(np.linalg.eigvalsh(draw("positive", (4, 4), dtype)), spread)
    np.testing.assert_allclose(np.sort(np.abs(np.linalg.eigvalsh(draw("symmetric", (4, 4), dtype)))), spread)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(draw("eigen", (4, 4), dtype)).real), spread)
    for kind in ("positive", "symmetric"):
        x = draw(kind, (4, 4), dtype)
        np.testing.assert_allclose(x, adjoint(x), atol=1e-15)


def run_text(build, *arrays):
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
        y = build(*inputs)
    with fg.Session(graph) as session, pytest.raises(fg.LinAlgError) as caught:
        session.run(y, dict(zip(inputs, arrays, strict=True)))
    assert isinstance(caught.value, np.linalg.LinAlgError | fg.ExecutionError)
    return str(caught.value)


def test_a_singular_matrix_of_a_batch_is_named_with_what_to_do():
    x = np.stack([np.eye(2), np.eye(2), np.ones((2, 2))])
    text = run_text(linalg.inv, x)
    assert text.startswith("inv: matrix 2 of the batch is singular\n  node     inv, made at test_linalg.py:")
    assert "x        (3, 2, 2) float64   placeholder x0" in text
    assert "help     add a multiple of the identity, or take fg.linalg.pinv" in text
    assert run_text(linalg.solve, np.zeros((2, 2)), np.ones(2)).startswith("solve: the matrix is singular\n")
    assert run_text(linalg.solve_triangular, np.zeros((2, 2)), np.ones(2)).startswith(
        "solve_triangular: the matrix has 0 on its diagonal\n"
    )


def test_a_singular_matrix_in_a_slice_has_its_number_in_the_whole_batch():
    x = np.stack([np.eye(40) + 0.1] * 4000)
    x[3000] = 0
    with fg.Graph() as graph:
        tensor = fg.placeholder("x", x.shape, "float64")
        y = linalg.inv(tensor)
    with fg.Session(graph, threads=2) as session:
        assert "rows 3500:4000" in str(session.plan(y, {tensor: x}))
        with pytest.raises(fg.LinAlgError, match=r"^inv: matrix 3000 of the batch is singular") as caught:
            session.run(y, {tensor: x})
    assert caught.value.index == (3000,)
    assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message


def test_batches_are_the_same_bits_with_any_number_of_threads():
    x = draw("positive", (512, 12, 12))
    with fg.Graph() as graph:
        tensor = fg.placeholder("x", x.shape, "float64")
        outputs = [linalg.inv(tensor), linalg.eigvalsh(tensor), linalg.solve(tensor, tensor[0])]
    results = []
    for threads in (1, 3):
        with fg.Session(graph, threads=threads) as session:
            results.append([y.tobytes() for y in session.run(outputs, {tensor: x})])
    assert results[0] == results[1]


def test_a_matrix_that_is_not_positive_definite_is_named():
    x = np.stack([np.eye(2), -np.eye(2)])[None]
    text = run_text(linalg.cholesky, x)
    assert text.startswith("cholesky: matrix 0, 1 of the batch is not positive definite\n")
    assert "help     add a small multiple of the identity" in text


def test_an_iteration_without_an_end_asks_for_nan():
    text = run_text(linalg.svd, np.full((2, 2), np.nan))
    assert text.startswith("svd: the matrix has no singular values\n")
    assert "does it hold NaN or infinities?" in text


@pytest.mark.parametrize("name", ["inv", "det", "slogdet", "cholesky", "eigh", "eigvalsh", "eig", "eigvals", "expm"])
def test_a_matrix_that_is_not_square_is_named_while_building(name):
    with fg.Graph():
        x = fg.placeholder("x", (5, 2, 3))
        with pytest.raises(fg.ShapeError, match=f"^{name}: the matrix is not square: 2 by 3\n  node   {name}, made at test_linalg.py"):
            getattr(linalg, name)(x)
        with pytest.raises(fg.ShapeError, match=rf"^{name}: needs matrices, got \(2,\)"):
            getattr(linalg, name)(x[0, :, 0])


def test_other_slips_are_named():
    with fg.Graph():
        x, half = fg.placeholder("x", (2, 2)), fg.placeholder("half", (2, 2), "float16")
        with pytest.raises(
            fg.DtypeError, match=r'there is no linear algebra in float16\n(.*\n)*  help   cast with fg.astype\(x, "float32"\)'
        ):
            linalg.inv(half)
        with pytest.raises(fg.ShapeError, match="solve: 2 unknowns, but 3 rows on the right"):
            linalg.solve(x, np.ones((3, 1), np.float32))
        with pytest.raises(fg.ArgumentError, match=r"the power must be an int, got 0\.5"):
            linalg.matrix_power(x, 0.5)  # type: ignore[arg-type]
        with pytest.raises(fg.ShapeError, match=r"matrix_power: needs square matrices, got \(2, 1\)"):
            linalg.matrix_power(x[:, :1], 2)
        with pytest.raises(fg.ArgumentError, match="qr: mode is"):
            linalg.qr(x, "raw")
        with pytest.raises(fg.ArgumentError, match="matrix_norm: ord is"):
            linalg.matrix_norm(x, ord=3)
        with pytest.raises(fg.ArgumentError, match="vector_norm: ord is a number"):
            linalg.vector_norm(x, ord="fro")  # type: ignore[arg-type]
        with pytest.raises(fg.ShapeError, match=r"cross: size 3 is needed along axis -1 of \(2, 2\)"):
            linalg.cross(x, x)
        with pytest.raises(fg.ShapeError, match="norm: 3 axes hold neither vectors nor matrices"):
            linalg.norm(fg.expand_dims(x, 0), 2)
        with pytest.raises(fg.ShapeError, match=r"trace: \(2,\) has fewer than two dimensions"):
            linalg.trace(x[0])


def test_vectors_that_can_be_any_have_no_gradient():
    with fg.Graph():
        x = fg.placeholder("x", (4, 2))
        with pytest.raises(fg.GradientError, match="vectors that full_matrices=True adds can be any"):
            fg.gradients(fg.sum(linalg.svd(x).U), x)
        with pytest.raises(fg.GradientError, match="columns that mode='complete' adds can be any"):
            fg.gradients(fg.sum(linalg.qr(x, "complete").Q), x)
        y = fg.placeholder("y", (None, None))
        with pytest.raises(fg.GradientError, match="qr: the sizes of a matrix must be known for its gradient"):
            fg.gradients(fg.sum(linalg.qr(y).Q), y)
        with pytest.raises(fg.GradientError, match="expm: the size of a matrix must be known for its gradient"):
            fg.gradients(fg.sum(linalg.expm(y)), y)


def test_gradients_hold_where_the_batch_is_known_only_in_the_run():
    x = draw("positive", (5, 3, 3))
    with fg.Graph() as graph:
        tensor = fg.placeholder("x", ("batch", 3, 3), "float64")
        total = (
            fg.sum(linalg.slogdet(tensor).logabsdet)
            + fg.sum(linalg.svd(tensor, full_matrices=False).U ** 2)
            + fg.sum(linalg.qr(tensor, "r") ** 2)
        )
        (slope,) = fg.gradients(total, tensor)
    with fg.Session(graph) as session:
        # U is orthogonal, so the sum of its squares is constant; that of R's is that of x's.
        same(session.run(slope, {tensor: x}), np.linalg.inv(x) + 2 * x)
