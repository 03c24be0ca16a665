"""Weights of NumPy, Keras and HDF5 files: the values that the libraries wrote, and no file that can do harm."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from owm_compute.errors import ComputeError
from owm_compute.tensors.hdf5 import open_hdf5, open_keras
from owm_compute.tensors.npz import open_npz
from owm_compute.tensors.operand import Source
from tests.test_sources import assert_reads, cuts, read

FRESH = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TYPES = ["?", "u1", "i1", "<i2", "<u2", "<f2", "<i4", "<u4", "<f4", "<f8", "<i8", "<u8"]
Opener = Callable[..., Source]


def opened(opener: Opener, path: Path, raw: bytes | None = None) -> Source:
    """The file (written first, if bytes are given) as a source."""
    if raw is not None:
        path.write_bytes(raw)
    return opener([(path.name, path, "0" * 64)], label="team/model@main")


def read_all(opener: Opener, path: Path, raw: bytes) -> None:
    """Reads every tensor of the file."""
    with opened(opener, path, raw) as source:
        for operand in source.values():
            read(operand)


def tensor(array: np.ndarray) -> torch.Tensor:
    """The array as a tensor, to compare with."""
    return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))


def numbers(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Different values in every place, as far as the type has them."""
    return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


# NumPy


@FRESH
@given(
    st.sampled_from(TYPES),
    st.lists(st.integers(0, 5), max_size=4).map(tuple),
    st.booleans(),
    st.booleans(),
    cuts,
)
def test_arrays_of_npz_files_are_read_in_any_pieces(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], compressed: bool, column_major: bool, cut: list[float]
) -> None:
    array = np.asarray(numbers(shape, dtype), order="F" if column_major else "C")
    path = tmp_path / "weights.npz"
    arrays: dict[str, Any] = {"dense/kernel": array, "other": np.zeros(3)}
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    with opened(open_npz, path) as source:
        assert sorted(source) == ["dense/kernel", "other"]
        assert source["dense/kernel"].label == "team/model@main: dense/kernel"
        assert_reads(source["dense/kernel"], tensor(array), cut)


def test_a_compressed_array_is_unpacked_once_for_all_threads(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(300, 2000)).astype(np.float32)
    np.savez_compressed(tmp_path / "w.npz", a=np.asfortranarray(array))
    with opened(open_npz, tmp_path / "w.npz") as source, ThreadPoolExecutor(4) as pool:
        for values in pool.map(lambda part: read(source["a"], [part / 8]), range(8)):
            assert np.array_equal(values.numpy(), array)


def npy(header: bytes, data: bytes = b"", version: bytes = b"\x01\0") -> bytes:
    """A .npy file with any header."""
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + data


def zipped(raw: bytes, method: int = zipfile.ZIP_STORED, name: str = "a.npy") -> bytes:
    """An archive of one member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, raw)
    return file.getvalue()


def saved(array: np.ndarray) -> bytes:
    """The bytes of an .npy file, pickled objects allowed."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (zipped(saved(np.array([{}], dtype=object))), r"'a' is of type '\|O'"),
        (zipped(saved(np.zeros(2, ">f4"))), "'a' is of type '>f4'"),
        (zipped(saved(np.zeros(2, [("x", "<f4")]))), r"'a' is of type \"\[\('x'"),
        (zipped(saved(np.zeros(2, "<c8"))), "'a' is of type '<c8'"),
        (zipped(npy(b"__import__('os').system('true')\n")), "no .npy header that NumPy would write"),
        (zipped(npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }\n")), "the shape"),
        (zipped(npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }\n", bytes(8))), "has 8 bytes, not 36"),
        (zipped(npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n")), "no .npy header that NumPy"),
        (zipped(npy(b"", version=b"\x04\0")), "no .npy header"),
        (zipped(b""), "no .npy header"),
        (zipped(b"cos\nsystem\n(S'true'\ntR.", name="a.pkl"), "'a.pkl' is no .npy file"),
        (b"PK", "no ZIP archive"),
        (bytes(100), "no ZIP archive"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_unread(tmp_path: Path, raw: bytes, message: str) -> None:
    with pytest.raises(ComputeError, match=message):
        opened(open_npz, tmp_path / "w.npz", raw)


def test_an_archive_that_lies_about_its_members_is_refused(tmp_path: Path) -> None:
    array = saved(np.zeros(2000, np.float32))
    whole = zipped(array, zipfile.ZIP_DEFLATED)
    at = whole.rindex(b"PK\x01\x02")

    def changed(offset: int, value: int, size: int = 4) -> bytes:
        return whole[: at + offset] + value.to_bytes(size, "little") + whole[at + offset + size :]

    lies = {
        "encrypted": changed(8, 1, 2),
        "by a method": changed(10, 12, 2),
        "can't have": changed(24, 2**31),
        "ends after the file": changed(20, 2**30),
        "called otherwise": changed(46, ord("b"), 1),
        "something follows": whole + b"x",
        "more than its members": whole[:at] + whole[at:].replace(b"\x01\0\x01\0", b"\0\0\0\0"),
    }
    for message, raw in lies.items():
        with pytest.raises(ComputeError, match=message):
            opened(open_npz, tmp_path / "w.npz", raw)


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    whole = zipped(saved(np.zeros(4)))
    at = whole.rindex(b"PK\x01\x02")
    end = whole.rindex(b"PK\x05\x06")
    entry = whole[at:end]
    ending = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, 2 * len(entry), at, 0)
    with pytest.raises(ComputeError, match="stands twice"):
        opened(open_npz, tmp_path / "w.npz", whole[:end] + entry + ending)
    # The same data once more, under the name of a header that lies within the first member's data.
    inner = zipped(zipped(saved(np.zeros(4)), name="b.npy"), name="a.npy")
    at, end = inner.rindex(b"PK\x01\x02"), inner.rindex(b"PK\x05\x06")
    entry = inner[at:end]
    second = bytearray(whole[whole.rindex(b"PK\x01\x02") : whole.rindex(b"PK\x05\x06")].replace(b"a.npy", b"b.npy"))
    second[42:46] = inner.index(b"PK\x03\x04", 1).to_bytes(4, "little")
    ending = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(entry) + len(second), at, 0)
    with pytest.raises(ComputeError, match="overlaps another member"):
        opened(open_npz, tmp_path / "w.npz", inner[:end] + bytes(second) + ending)


def test_a_bomb_goes_off_within_what_it_declares(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000,), }\n"
    small, large = npy(header, bytes(1000)), npy(header, bytes(10_000_000))
    raw = zipped(large, zipfile.ZIP_DEFLATED)
    at = raw.rindex(b"PK\x01\x02")
    raw = raw[: at + 24] + len(small).to_bytes(4, "little") + raw[at + 28 :]
    with opened(open_npz, tmp_path / "w.npz", raw) as source, pytest.raises(ComputeError, match="unpacks to more than"):
        read(source["a"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]), st.data())
def test_a_damaged_archive_is_refused_or_read(tmp_path: Path, method: int, data: st.DataObject) -> None:
    raw = bytearray(zipped(saved(numbers((3, 4), "<f4")), method))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    with suppress(ComputeError):
        read_all(open_npz, tmp_path / "w.npz", bytes(raw))


# HDF5


@FRESH
@given(
    st.sampled_from(TYPES),
    st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple),
    st.sampled_from(["plain", "chunks", "gzip", "gzip, shuffled, summed"]),
    st.data(),
)
def test_arrays_of_hdf5_files_are_read_in_any_pieces(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], packing: str, data: st.DataObject
) -> None:
    array = numbers(shape, dtype)
    options: dict[str, Any] = {}
    if packing != "plain":
        options["chunks"] = tuple(data.draw(st.integers(1, dim)) for dim in shape)
    if packing.startswith("gzip"):
        options["compression"] = "gzip"
    if packing.endswith("summed"):
        options |= {"shuffle": True, "fletcher32": True}
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a/b/kernel", data=array, **options)
        file["scalar"] = np.float32(3)
    with opened(open_hdf5, path) as source:
        assert sorted(source) == ["a.b.kernel", "scalar"]
        assert_reads(source["a.b.kernel"], tensor(array), data.draw(cuts))
        assert read(source["scalar"]).item() == 3


KERAS_3 = {
    "layers/dense/vars/0": "dense.kernel",
    "layers/dense/vars/1": "dense.bias",
    "layers/dense_1/vars/0": "dense_1.kernel",
    "layers/batch_normalization/vars/0": "batch_normalization.gamma",
    "layers/batch_normalization/vars/1": "batch_normalization.beta",
    "layers/batch_normalization/vars/2": "batch_normalization.moving_mean",
    "layers/batch_normalization/vars/3": "batch_normalization.moving_variance",
    "layers/layer_normalization/vars/0": "layer_normalization.0",
    "layers/lstm/cell/vars/0": "lstm.cell.kernel",
    "layers/lstm/cell/vars/1": "lstm.cell.recurrent_kernel",
    "layers/functional/layers/conv2d/vars/0": "functional.conv2d.kernel",
    "layers/my_layer/vars/0": "my_layer.0",
    "_layer_checkpoint_dependencies/embedding/vars/0": "embedding.embeddings",
}
KERAS_2 = {
    "model_weights/dense/dense/kernel:0": "dense.kernel",
    "model_weights/dense_1/sequential/dense_1/kernel": "dense_1.kernel",
    "model_weights/inner/block/conv/kernel:0": "inner.block.conv.kernel",
    "model_weights/lstm/lstm/lstm_cell/bias:0": "lstm.lstm_cell.bias",
}
STATES = ["optimizer/vars/0", "layers/dropout/seed_generator/vars/0", "layers/dropout_1/seed_generator_1/vars/0"]


@pytest.mark.parametrize(
    ("names", "states"), [(KERAS_3, STATES), (KERAS_2, ["optimizer_weights/adam/m:0"])], ids=["Keras 3", "Keras 2"]
)
def test_variables_of_keras_have_the_names_of_their_layers(
    tmp_path: Path, names: dict[str, str], states: list[str]
) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["model_config"] = '{"class_name": "Lambda"}'
        for index, path in enumerate([*names, *states]):
            file[path] = np.full((2, 3), index, np.float32)
        file.create_group("layers/flatten/vars")
    with opened(open_hdf5, tmp_path / "w.h5") as source:
        assert set(source) == set(names.values())
        for index, name in enumerate(names.values()):
            assert read(source[name]).tolist() == [[index] * 3] * 2


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_keras_archive_has_its_weights_and_nothing_of_it_is_run(tmp_path: Path, method: int) -> None:
    weights = io.BytesIO()
    kernel = numbers((30, 20), "<f4")
    with h5py.File(weights, "w") as file:
        file["layers/dense/vars/0"] = kernel
        half = file.create_dataset("layers/dense/vars/1", data=np.array([0x3F80, 0xC000], "<u2").view("V2"))
        half.attrs["dtype"] = "bfloat16"
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("config.json", '{"module": "os", "class_name": "system", "config": "exit 1"}')
        archive.writestr("model.weights.h5", weights.getvalue())
    with opened(open_keras, path) as source:
        assert_reads(source["dense.kernel"], tensor(kernel), [0.3, 0.9])
        assert source["dense.bias"].stored == "BF16"
        assert read(source["dense.bias"]).tolist() == [1.0, -2.0]
    with pytest.raises(ComputeError, match="the archive has no model"):
        opened(open_keras, tmp_path / "other.keras", zipped(b""))


def hostile(write: Callable[[h5py.File], object]) -> bytes:
    """An HDF5 file that `write` fills."""
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        write(made)
    return file.getvalue()


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "<f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", (4,))
    file.create_virtual_dataset("a", layout)


def bomb(file: h5py.File) -> None:
    made = file.create_dataset("a", (8,), "u1", chunks=(8,), compression="gzip")
    made.id.write_direct_chunk((0,), zlib.compress(bytes(100_000)))


def circle(file: h5py.File) -> None:
    file.create_group("a")["b"] = file["/"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda file: file.__setitem__("a", h5py.ExternalLink("/etc/passwd", "/")), "'a' is a link"),
        (lambda file: file.__setitem__("a", h5py.SoftLink("/b")), "'a' is a link"),
        (virtual, "'a' has its data in other files"),
        (
            lambda f: f.create_dataset("a", (4,), "<f4", external=[("/etc/passwd", 0, 16)]),
            "has its data in other files",
        ),
        (lambda file: file.__setitem__("a", "text"), "'a' is of type object"),
        (lambda file: file.__setitem__("a", np.zeros(2, ">f4")), "'a' is of type >f4"),
        (lambda file: file.__setitem__("a", np.zeros(2, "<c8")), "'a' is of type complex64"),
        (lambda file: file.__setitem__("a", np.dtype("<f4")), "'a' is no array"),
        (lambda file: file.create_dataset("a", (2**40,), "<f4"), "has not the bytes of its shape"),
        (lambda file: file.create_dataset("a", (2**40,), "<f4", chunks=(4,)), "parts that were never written"),
        (lambda file: file.create_dataset("a", (2**40,), "<f4", chunks=(2**28,)), "chunks of 1073741824 bytes"),
        (lambda file: file.create_dataset("a", (8,), "<f4", chunks=(8,), compression="lzf"), "filter other than gzip"),
        (circle, "contains itself"),
        (bomb, "unpacks to more than it says"),
    ],
)
def test_hdf5_that_leads_elsewhere_or_is_no_numbers_is_refused(
    tmp_path: Path, write: Callable[[h5py.File], object], message: str
) -> None:
    with pytest.raises(ComputeError, match=message):
        read_all(open_hdf5, tmp_path / "w.h5", hostile(write))


def test_a_damaged_hdf5_file_is_refused(tmp_path: Path) -> None:
    whole = hostile(lambda file: file.create_dataset("a", data=np.ones(1000)))
    for raw in (b"", whole[:500], whole[:-3000], bytes(len(whole))):
        with pytest.raises(ComputeError, match="import_invalid"):
            opened(open_hdf5, tmp_path / "w.h5", raw)
