"""Weights in files: what is saved comes back, what does not fit is named, and nothing is done by halves."""

import json
import os
import pickle
import struct
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowgraph.errors import ArgumentError, DtypeError, FileFormatError, ShapeError
from flowgraph.io import WeightsError, load_weights, save_weights
from flowgraph.io.files import atomic_path


class Variables(MutableMapping[str, Any]):
    """A session's variables as flowgraph.io sees them: reading copies, writing checks shape and dtype."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values_by_name = {name: np.array(value) for name, value in values.items()}
        self.refuse = ""

    def __getitem__(self, name: str) -> Any:
        return self.values_by_name[name].copy()

    def __setitem__(self, name: str, value: Any) -> None:
        old = self.values_by_name[name]
        if name == self.refuse:
            self.refuse = ""
            raise KeyboardInterrupt
        if old.shape != value.shape:
            raise ShapeError(f"{name}: {value.shape}")
        if old.dtype != value.dtype:
            raise DtypeError(f"{name}: {value.dtype}")
        self.values_by_name[name] = np.array(value)

    def __delitem__(self, name: str) -> None:
        raise TypeError

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)


class Session:
    def __init__(self, **values: Any) -> None:
        self.variables = Variables(values)


def zeros_like(session):
    return Session(**{name: np.zeros_like(value) for name, value in session.variables.items()})


def assert_same(session, other):
    assert list(session.variables) == list(other.variables)
    for name, value in session.variables.items():
        got = other.variables[name]
        assert (got.dtype, got.shape) == (value.dtype, value.shape)
        assert got.tobytes() == value.tobytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.safetensors"


def by_hand(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64".split()


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_saved_comes_back_bit_for_bit(path, dtype, shape):
    session = Session(w=np.random.default_rng(0).integers(0, 2, shape).astype(dtype))
    other = Session(w=np.full(shape, 7).astype(dtype))
    save_weights(session, path)
    load_weights(other, path)
    assert_same(session, other)


def test_not_a_number_infinity_and_minus_zero_come_back(path):
    session = Session(w=np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]))
    save_weights(session, path)
    other = zeros_like(session)
    load_weights(other, path)
    assert_same(session, other)


class Views(Session):
    """A session whose variables come as views with strides of their own."""

    def __init__(self, **values):
        super().__init__()
        self.variables: Any = values


@pytest.mark.parametrize(
    "view",
    [np.arange(6.0).reshape(2, 3).T, np.arange(9.0)[::-2], np.broadcast_to(3.0, (2, 2)), np.arange(3.0, dtype=">f8")],
)
def test_the_numbers_are_saved_whatever_their_strides_and_byte_order(path, view):
    save_weights(Views(w=view), path)
    other = Session(w=np.zeros(view.shape))
    load_weights(other, path)
    np.testing.assert_array_equal(other.variables["w"], view)


def test_other_programs_read_the_file(path):
    from safetensors.numpy import load_file

    save_weights(Session(**{"mlp/w": np.arange(3.0)}), path)
    assert list(load_file(path)) == ["mlp/w"]


def test_metadata_comes_back_with_the_report(path):
    session = Session(w=np.zeros(2))
    save_weights(session, path, metadata={"mean": "33.3", "ümlaut": "é"})
    assert load_weights(session, path).metadata == {"mean": "33.3", "ümlaut": "é"}
    with pytest.raises(ArgumentError, match=r"metadata has 33\.3 under 'mean', but it takes texts only"):
        save_weights(session, path, metadata={"mean": 33.3})  # type: ignore[dict-item]


def test_only_takes_variables_and_scopes_by_name(path):
    session = Session(**{"mlp/w": 1.0, "mlp/b": 2.0, "mlp2/w": 3.0, "w": 4.0})

    def saved(only):
        save_weights(session, path, only=only)
        return load_weights(session, path, strict=False).loaded

    assert saved("mlp") == ("mlp/w", "mlp/b")
    assert saved(["w", "mlp/b"]) == ("mlp/b", "w")
    assert saved(name for name in ["mlp2/"]) == ("mlp2/w",)
    assert saved([]) == ()


def test_a_name_in_only_that_fits_nothing_is_an_error_with_the_nearest(path):
    with pytest.raises(ArgumentError) as caught:
        save_weights(Session(**{"dense/w": 1.0, "x": 1.0}), path, only=["dense/v"])
    assert "named 'dense/v'" in str(caught.value)
    assert "did you mean dense/w?" in str(caught.value)
    assert not path.exists()


# What does not fit


@pytest.fixture
def misfit(path):
    """A file and a session that differ in every way there is."""
    save_weights(Session(same=np.ones(2), old=np.ones(1), bent=np.ones((2, 3)), typed=np.ones(2)), path)
    return Session(same=np.zeros(2), new=np.zeros(1), bent=np.zeros((3, 2)), typed=np.zeros(2, np.int32))


def test_everything_that_does_not_fit_is_reported_at_once_and_nothing_is_loaded(path, misfit, text_of):
    with pytest.raises(WeightsError) as caught:
        load_weights(misfit, path)
    error = caught.value
    assert error.missing == ("new",)
    assert error.extra == ("old",)
    assert [mismatch.name for mismatch in error.mismatched] == ["bent", "typed"]
    assert error.mismatched[0] == ("bent", (2, 3), "float64", (3, 2), "float64")
    assert text_of(error) == (
        f"load_weights: {path} does not fit the session's variables: 1 missing, 1 extra, 2 mismatched\n"
        "  at           test_weights.py:LINE    load_weights(misfit, path)\n"
        "  missing      new\n"
        "  extra        old\n"
        "  mismatched   bent: (2, 3) float64 in the file, (3, 2) float64 here\n"
        "               typed: (2,) float64 in the file, (2,) int32 here\n"
        "  help         fg.io.load_weights(session, path, strict=False) loads what fits; nothing has been loaded now"
    )
    assert misfit.variables["same"].tolist() == [0, 0]


def test_not_strict_loads_what_fits_and_returns_the_rest(path, misfit):
    report = load_weights(misfit, path, strict=False)
    assert not report.fits
    assert report.loaded == ("same",)
    assert (report.missing, report.extra) == (("new",), ("old",))
    assert [mismatch.name for mismatch in report.mismatched] == ["bent", "typed"]
    assert misfit.variables["same"].tolist() == [1, 1]
    assert misfit.variables["bent"].tolist() == np.zeros((3, 2)).tolist()


def test_a_long_list_is_cut_in_the_text_and_whole_in_the_fields(path):
    save_weights(Session(**{f"old{i}": 1.0 for i in range(100)}), path)
    with pytest.raises(WeightsError) as caught:
        load_weights(Session(), path)
    assert len(caught.value.extra) == 100
    assert "and 80 more" in str(caught.value)


def test_the_error_travels_between_processes(path, misfit):
    with pytest.raises(WeightsError) as caught:
        load_weights(misfit, path)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert copy.missing == ("new",)


def test_an_interruption_while_loading_leaves_all_variables_as_they_were(path):
    save_weights(Session(a=np.ones(2), b=np.ones(2), c=np.ones(2)), path)
    session = Session(a=np.zeros(2), b=np.zeros(2), c=np.zeros(2))
    session.variables.refuse = "b"
    with pytest.raises(KeyboardInterrupt):
        load_weights(session, path)
    assert [value.tolist() for value in session.variables.values()] == [[0, 0]] * 3


# Narrower floats


@pytest.mark.parametrize("narrow, wide", [("float16", "float32"), ("float16", "float64"), ("float32", "float64")])
def test_narrower_floats_fit_wider_variables_and_not_the_other_way(path, narrow, wide):
    values = np.array([0.1, -2.5, np.inf], narrow)
    session = Session(w=np.zeros(3, wide))
    save_weights(Session(w=values), path)
    load_weights(session, path)
    assert session.variables["w"].dtype == wide
    np.testing.assert_array_equal(session.variables["w"], values)
    save_weights(session, path)
    with pytest.raises(WeightsError, match="1 mismatched"):
        load_weights(Session(w=values), path)


BF16 = {
    "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
    "w": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [4, 12]},
}
BF16_DATA = b"\1\2\3\4" + struct.pack("<4H", 0x3F80, 0xC000, 0x3DCD, 0x7F80)  # 1, -2, about 0.1, infinity


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bfloat16_fits_wider_variables_without_another_library(path, dtype):
    session = Session(a=np.zeros(4, np.uint8), w=np.zeros((2, 2), dtype))
    load_weights(session, by_hand(path, BF16, BF16_DATA))
    assert session.variables["w"].tolist() == [[1.0, -2.0], [0.10009765625, np.inf]]
    assert session.variables["a"].tolist() == [1, 2, 3, 4]


def test_bfloat16_variables_come_back(path):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    session = Session(w=np.array([[1, -2], [0.1, np.inf]], bfloat16))
    save_weights(session, path)
    other = zeros_like(session)
    load_weights(other, path)
    assert_same(session, other)


def test_dtypes_that_cannot_be_held_are_named(path):
    header = {"w": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}
    with pytest.raises(WeightsError, match=r"w: \(2,\) F8_E4M3 in the file, \(2,\) float32 here"):
        load_weights(Session(w=np.zeros(2, np.float32)), by_hand(path, header, b"ab"))
    with pytest.raises(DtypeError, match="variable w is complex128, which a safetensors file cannot hold"):
        save_weights(Session(w=np.zeros(2, np.complex128)), path)


# Damaged files


def whole_file(path):
    save_weights(Session(w=np.arange(6.0), v=np.ones(2)), path)
    return path.read_bytes()


def test_a_file_cut_anywhere_is_an_error_that_names_it_and_loads_nothing(path):
    content = whole_file(path)
    session = Session(w=np.zeros(6), v=np.zeros(2))
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError) as caught:
            load_weights(session, path)
        assert str(caught.value).startswith(f"load_weights: {path} is damaged, truncated, or no safetensors file: ")
        assert f"{length} bytes" in str(caught.value)
    assert session.variables["w"].tolist() == [0] * 6


def test_a_header_with_a_wrong_byte_anywhere_is_an_error_or_does_not_fit(path):
    content = whole_file(path)
    header = 8 + int.from_bytes(content[:8], "little")
    for place in range(header):
        path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
        with pytest.raises((FileFormatError, WeightsError)):
            load_weights(Session(w=np.zeros(6), v=np.zeros(2)), path)


def entry(dtype="F32", shape=(2,), start=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "header, data",
    [
        ({"w": entry(end=4)}, bytes(8)),
        ({"w": entry(shape=[2**40, 2**40])}, bytes(8)),
        ({"w": entry(shape=[-2])}, bytes(8)),
        ({"w": entry(start=8, end=0)}, bytes(8)),
        ({"w": entry(start=800, end=808)}, bytes(8)),
        ({"w": entry(), "v": entry()}, bytes(8)),
        ({"w": entry(dtype="F33")}, bytes(8)),
        ({"w": entry()}, bytes(9)),
        ({"w": 3}, bytes(8)),
        ({"__metadata__": {"a": 3}, "w": entry()}, bytes(8)),
        (b"[" * 100_000, b""),
        (b"not json", b""),
    ],
)
def test_a_header_that_lies_is_an_error(path, header, data):
    with pytest.raises(FileFormatError, match=r"w\.safetensors is damaged"):
        load_weights(Session(w=np.zeros(2, np.float32)), by_hand(path, header, data))


@pytest.mark.parametrize("content", [b"", b"hello, I am a text and no weights", bytes(100), pickle.dumps({"w": 1})])
def test_a_file_of_another_format_is_an_error_and_is_never_executed(path, content):
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="no safetensors file"):
        load_weights(Session(w=np.zeros(2)), path)


def test_a_missing_file_and_a_folder_are_pythons_own_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        load_weights(Session(), tmp_path / "none.safetensors")
    with pytest.raises(OSError, match=str(tmp_path.name)):
        load_weights(Session(), tmp_path)


# Atomic writes


def test_a_failed_save_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    old = whole_file(path)
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_weights(Session(w=np.zeros(100)), path)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == old


def test_a_block_that_raises_leaves_nothing(path):
    with pytest.raises(KeyboardInterrupt):
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            assert temporary.parent == path.parent
            assert temporary.suffix == path.suffix
            assert not path.exists()
            raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []


def test_what_was_written_is_synced_before_it_takes_its_place(path, monkeypatch):
    steps = []

    def watched(name, function):
        def call(*arguments):
            steps.append(name)
            return function(*arguments)

        monkeypatch.setattr(os, name, call)

    watched("fsync", os.fsync)
    watched("replace", os.replace)
    save_weights(Session(w=np.zeros(2)), path)
    assert steps[:2] == ["fsync", "replace"]


@pytest.mark.skipif(os.name != "posix", reason="permissions and symbolic links as POSIX has them")
def test_the_file_has_the_usual_permissions_and_a_symbolic_link_stays(path):
    plain = path.with_name("plain")
    plain.write_text("")
    link = path.with_name("link.safetensors")
    link.symlink_to(path)
    save_weights(Session(w=np.zeros(2)), link)
    assert link.is_symlink()
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o640)
    save_weights(Session(w=np.ones(2)), path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such folder to write into.*none'"):
        save_weights(Session(), tmp_path / "none" / "w.safetensors")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        save_weights(Session(), tmp_path)


def test_paths_may_be_texts_and_hold_any_letters(tmp_path):
    session = Session(w=np.arange(3.0))
    name = os.path.join(tmp_path, "gewichte äöü 重み.safetensors")
    save_weights(session, name)
    assert load_weights(session, name).fits
    assert Path(name).exists()
