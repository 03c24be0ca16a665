"""What a merge reads, whatever it is stored as: the same values in pieces of any size, from any thread."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from random import Random

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from owm_compute.errors import ComputeError
from owm_compute.merge.program import SourceSpec
from owm_compute.merge.run import parse_program, run_merge
from owm_compute.merge.statistics import StatisticStore
from owm_compute.progress import Silent
from owm_compute.tensors.gguf import GgufSource
from owm_compute.tensors.gguf_blocks import TYPES
from owm_compute.tensors.open import open_source
from owm_compute.tensors.operand import Operand, Source
from owm_compute.tensors.safetensors_source import SafetensorsSource
from owm_compute.tensors.torch_io import TORCH_DTYPES, bytes_of, save_tensors
from owm_compute.tensors.writer import TensorSpec, header_bytes

FRESH = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
cuts = st.lists(st.floats(0, 1), max_size=6)


def read(operand: Operand, cut: list[float] | None = None) -> torch.Tensor:
    """The whole operand, read in pieces that end at these fractions of it."""
    count = torch.Size(operand.shape).numel()
    whole = torch.empty(count, dtype=TORCH_DTYPES[operand.dtype])
    edges = [0, *sorted(int(fraction * count) for fraction in cut or []), count]
    for start, end in pairwise(edges):
        operand.read(start, whole[start:end])
    return whole.view(operand.shape)


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors have the same bytes."""
    return bytes_of(first) == bytes_of(second.contiguous())


def shards(folder: Path, *models: dict[str, torch.Tensor]) -> list[tuple[str, Path, str]]:
    """Writes each set of tensors as a shard."""
    written = []
    for index, tensors in enumerate(models):
        path = folder / f"shard-{index}.safetensors"
        path.unlink(missing_ok=True)
        sha256, _ = save_tensors(path, tensors)
        written.append((path.name, path, sha256))
    return written


@FRESH
@given(st.sampled_from(sorted(TORCH_DTYPES)), cuts)
def test_a_stored_tensor_is_read_as_it_is_in_any_pieces(tmp_path: Path, dtype: str, cut: list[float]) -> None:
    tensor = torch.arange(60).reshape(3, 4, 5).to(TORCH_DTYPES[dtype])
    files = shards(tmp_path, {"a": torch.zeros(3)}, {"b": tensor})
    with SafetensorsSource(files, label="team/model@main") as source:
        assert sorted(source) == ["a", "b"]
        operand = source["b"]
        assert (operand.dtype, operand.stored, operand.shape) == (dtype, dtype, (3, 4, 5))
        assert operand.identity == f"{files[1][2]}:b"
        assert operand.label == "team/model@main: b"
        assert same(read(operand, cut), tensor)


def test_many_threads_read_one_tensor(tmp_path: Path) -> None:
    tensor = torch.arange(1 << 16, dtype=torch.int32)
    with SafetensorsSource(shards(tmp_path, {"a": tensor}), label="m") as source, ThreadPoolExecutor(8) as pool:
        pieces = list(pool.map(lambda part: read(source["a"], [part / 64]), range(64)))
    assert all(same(piece, tensor) for piece in pieces)


def test_elements_of_half_a_byte_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(header_bytes({"w": TensorSpec("F4", (4,))}, {}) + bytes(2))
    with pytest.raises(ComputeError, match="tensor 'w' of F4 can't be merged"):
        SafetensorsSource([("model", path, "0" * 64)], label="m")


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    files = shards(tmp_path, {"a": torch.zeros(100)})
    with SafetensorsSource(files, label="m") as source:
        files[0][1].write_bytes(files[0][1].read_bytes()[:-4])
        with pytest.raises(ComputeError, match="truncated"):
            read(source["a"])


class Files:
    """The inputs of a job: files in a folder, by their names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        return self._folder / name

    arriving = path

    def sha256(self, name: str) -> str:
        return name


def opened(folder: Path, **spec: object) -> Source:
    """A model as a merge opens it, from the files of a folder."""
    return open_source(SourceSpec.model_validate({"label": "team/model@main", **spec}), Files(folder))


def write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document))


def assert_reads(operand: Operand, wanted: torch.Tensor, cut: list[float]) -> None:
    """The operand has exactly these values, however it is cut."""
    assert operand.shape == tuple(wanted.shape)
    np.testing.assert_array_equal(read(operand, cut).numpy(), wanted.numpy())


# 8-bit floats


@FRESH
@given(
    st.sampled_from([torch.float8_e4m3fn, torch.float8_e5m2]),
    st.sampled_from([(5, 7), (4, 4), (1, 3), (2, 70_000)]),
    st.sampled_from(["block", "row", "tensor", "none"]),
    st.sampled_from([torch.float32, torch.bfloat16]),
    cuts,
)
def test_8_bit_floats_are_read_times_their_scales_and_the_scales_are_no_tensors(
    tmp_path: Path, dtype: torch.dtype, shape: tuple[int, int], kind: str, scale_dtype: torch.dtype, cut: list[float]
) -> None:
    rows, columns = shape
    codes = torch.arange(rows * columns).to(torch.uint8).view(dtype).view(shape)
    grids = {"block": (-(-rows // 2), -(-columns // 3)), "row": (rows, 1), "tensor": (), "none": ()}
    scale = (torch.rand(grids[kind]) + 0.1).to(scale_dtype)
    tensors = {"up.weight": codes, "up.input_scale": torch.ones(()), "norm.weight": torch.ones(3)}
    wanted = codes.to(torch.float32)
    if kind == "block":
        tensors["up.weight_scale_inv"] = scale
        wanted *= scale.float().repeat_interleave(2, 0)[:rows].repeat_interleave(3, 1)[:, :columns]
    elif kind != "none":
        tensors["up.weight_scale"] = scale
        wanted *= scale.float()
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", {"quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 3]}})
    with opened(tmp_path, weights=["model.safetensors"], config="config.json") as source:
        assert sorted(source) == ["norm.weight", "up.weight"]
        assert len(source) == 2
        assert (source["up.weight"].dtype, source["up.weight"].stored) == ("F32", "BF16")
        assert_reads(source["up.weight"], wanted, cut)


def test_experts_in_one_tensor_have_scales_of_their_own(tmp_path: Path) -> None:
    codes = torch.arange(3 * 4 * 5).to(torch.uint8).view(torch.float8_e4m3fn).view(3, 4, 5)
    scale = torch.rand(3, 2, 1)
    tensors = {"experts.up": codes, "experts.up_scale_inv": scale}
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", {"quantization_config": {"weight_block_size": [2, 8]}})
    with opened(tmp_path, weights=["model.safetensors"], config="config.json") as source:
        assert_reads(source["experts.up"], codes.float() * scale.repeat_interleave(2, 1), [0.4])


def test_scales_that_do_not_fit_and_packed_integers_are_refused(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.zeros(200, 200).to(torch.float8_e4m3fn), "a.weight_scale_inv": torch.ones(3, 2)}
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ComputeError, match=r"\[3, 2\], which is no scale for \[200, 200\] in blocks of 128 × 128"):
        opened(tmp_path, weights=["model.safetensors"])
    write_json(tmp_path / "config.json", {"quantization_config": {"quant_method": "gptq"}})
    with pytest.raises(ComputeError, match="quantised with gptq"):
        opened(tmp_path, weights=["model.safetensors"], config="config.json")


# GGUF


def write_gguf(path: Path, tensors: dict[str, tuple[int, np.ndarray]], architecture: str, **numbers: int) -> None:
    """Writes a GGUF file with the reference library; tensors are (type, array) with quantised ones as bytes."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "a", "b"])
    writer.add_array("tokenizer.ggml.scores", [0.0, 1.0, 2.0])
    for key, number in numbers.items():
        writer.add_uint32(f"{architecture}.attention.{key}", number)
    for name, (kind, array) in tensors.items():
        writer.add_tensor(name, array, raw_dtype=gguf.GGMLQuantizationType(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@FRESH
@given(st.sampled_from([number for number, kind in TYPES.items() if kind.dequantise]), st.randoms(), cuts)
def test_quantised_tensors_have_the_values_of_the_reference_library(
    tmp_path: Path, number: int, random: Random, cut: list[float]
) -> None:
    kind = TYPES[number]
    raw = np.frombuffer(random.randbytes(3 * 2 * kind.size), np.uint8).reshape(3, 2 * kind.size)
    with np.errstate(all="ignore"):
        wanted = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(number))
    write_gguf(tmp_path / "model.gguf", {"t": (0, np.ones(5, np.float32)), "w": (number, raw)}, "other")
    with opened(tmp_path, format="gguf", weights=["model.gguf"]) as source:
        assert sorted(source) == ["t", "w"]
        assert (source["w"].dtype, source["w"].stored) == ("F32", "F16")
        assert_reads(source["w"], torch.from_numpy(wanted), cut)
        assert read(source["t"]).tolist() == [1.0] * 5


def test_a_large_quantised_tensor_is_read_in_pieces_from_threads(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(300, 512)).astype(np.float32)
    raw = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
    write_gguf(tmp_path / "model.gguf", {"w": (8, raw)}, "other")
    wanted = torch.from_numpy(gguf.quants.dequantize(raw, gguf.GGMLQuantizationType.Q8_0))
    with opened(tmp_path, format="gguf", weights=["model.gguf"]) as source, ThreadPoolExecutor(4) as pool:
        for values_read in pool.map(lambda part: read(source["w"], [part / 16]), range(16)):
            assert torch.equal(values_read, wanted)


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """How converters reorder the rows of a llama query or key projection."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


@FRESH
@given(cuts)
def test_a_llama_has_its_hugging_face_names_and_rows(tmp_path: Path, cut: list[float]) -> None:
    random = np.random.default_rng(1)
    q, k, v = (random.normal(size=shape).astype(np.float32) for shape in [(16, 32), (8, 32), (8, 32)])
    bias = random.normal(size=16).astype(np.float32)
    quantised = gguf.quants.quantize(permuted(q, 4), gguf.GGMLQuantizationType.Q8_0)
    tensors = {
        "token_embd.weight": (0, v),
        "blk.0.attn_q.weight": (8, quantised),
        "blk.0.attn_q.bias": (0, permuted(bias, 4)),
        "blk.0.attn_k.weight": (1, permuted(k, 2).astype(np.float16)),
        "blk.0.attn_v.weight": (0, v),
        "rope_freqs.weight": (0, v),
    }
    write_gguf(tmp_path / "model.gguf", tensors, "llama", head_count=4, head_count_kv=2)
    rounded = gguf.quants.dequantize(
        gguf.quants.quantize(q, gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0
    )
    with opened(tmp_path, format="gguf", weights=["model.gguf"]) as source:
        attention = "model.layers.0.self_attn"
        assert set(source) == {
            "model.embed_tokens.weight",
            *(f"{attention}.{name}" for name in ["q_proj.weight", "q_proj.bias", "k_proj.weight", "v_proj.weight"]),
        }
        assert_reads(source[f"{attention}.q_proj.weight"], torch.from_numpy(rounded), cut)
        assert_reads(source[f"{attention}.q_proj.bias"], torch.from_numpy(bias), cut)
        assert_reads(source[f"{attention}.k_proj.weight"], torch.from_numpy(k.astype(np.float16)), cut)
        assert_reads(source[f"{attention}.v_proj.weight"], torch.from_numpy(v), cut)


def test_a_gguf_model_that_cannot_be_read_whole_is_refused_by_tensor_and_type(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, {"w": (23, np.zeros((1, 136), np.uint8))}, "other")
    with pytest.raises(ComputeError, match="tensor 'w' is quantised as IQ4_XS, which is not read"):
        opened(tmp_path, format="gguf", weights=["model.gguf"])
    write_gguf(path, {"blk.0.ffn_gate_exps.weight": (0, np.zeros((1, 2), np.float32))}, "llama")
    with pytest.raises(ComputeError, match="architecture llama has no Hugging Face name"):
        opened(tmp_path, format="gguf", weights=["model.gguf"])
    write_gguf(path, {"blk.0.attn_q.weight": (0, np.zeros((3, 2), np.float32))}, "llama", head_count=2)
    with pytest.raises(ComputeError, match="of 3 rows can't have 2 heads"):
        opened(tmp_path, format="gguf", weights=["model.gguf"])


def text(value: bytes) -> bytes:
    """A string of a GGUF file."""
    return len(value).to_bytes(8, "little") + value


def raw_gguf(
    entries: list[bytes], tensors: list[bytes], *, version: int = 3, counts: tuple[int, int] | None = None
) -> bytes:
    """A GGUF file byte by byte, with 64 bytes of data."""
    made = counts or (len(tensors), len(entries))
    head = b"GGUF" + version.to_bytes(4, "little") + b"".join(count.to_bytes(8, "little") for count in made)
    raw = head + b"".join(entries) + b"".join(tensors)
    return raw + bytes(-len(raw) % 32) + bytes(64)


def info(name: bytes, shape: list[int], number: int, offset: int) -> bytes:
    """A tensor of a GGUF header."""
    raw = text(name) + len(shape).to_bytes(4, "little") + b"".join(dim.to_bytes(8, "little") for dim in shape)
    return raw + number.to_bytes(4, "little") + offset.to_bytes(8, "little")


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    """A key and value of a GGUF header."""
    return text(key) + kind.to_bytes(4, "little") + value


U64_MAX = b"\xff" * 8
HOSTILE_GGUF = {
    "magic": b"GGML" + bytes(60),
    "version": raw_gguf([], [], version=1),
    "tensors": raw_gguf([], [], counts=(2**40, 0)),
    "entries": raw_gguf([], [], counts=(0, 2**40)),
    "number": raw_gguf([], [], counts=(2**63, 0)),
    "truncated": raw_gguf([entry(b"k", 8, (2**40).to_bytes(8, "little"))], []),
    "text": raw_gguf([entry(b"", 4, bytes(4))], []),
    "utf8": raw_gguf([entry(b"\xff", 4, bytes(4))], []),
    "duplicate": raw_gguf([entry(b"k", 4, bytes(4))] * 2, []),
    "type": raw_gguf([entry(b"k", 13, bytes(4))], []),
    "array": raw_gguf([entry(b"k", 9, (b"\x09\0\0\0\x01" + bytes(7)) * 9)], []),
    "alignment": raw_gguf([entry(b"general.alignment", 4, b"\x03\0\0\0")], []),
    "shape": raw_gguf([], [info(b"w", [2**32, 2**32], 0, 0)]),
    "offsets": raw_gguf([], [info(b"w", [4], 0, 32)]),
}
MORE_HOSTILE_GGUF = [
    ("number", raw_gguf([entry(b"k", 8, U64_MAX)], [])),
    ("truncated", raw_gguf([entry(b"k", 9, b"\x08\0\0\0" + (2**50).to_bytes(8, "little"))], [])),
    ("truncated", raw_gguf([], [info(b"w", [17], 0, 0)])),
    ("truncated", raw_gguf([], [])[:20]),
    ("text", raw_gguf([], [info(b"n" * 64, [4], 0, 0)])),
    ("duplicate", raw_gguf([], [info(b"w", [4], 0, 0)] * 2)),
    ("shape", raw_gguf([], [info(b"w", [1] * 5, 0, 0)])),
    ("shape", raw_gguf([], [info(b"w", [33], 8, 0)])),
    ("offsets", raw_gguf([], [info(b"v", [4], 0, 0), info(b"w", [4], 0, 0)])),
    ("alignment", raw_gguf([entry(b"general.alignment", 8, text(b"32"))], [])),
    ("alignment", raw_gguf([entry(b"general.alignment", 4, b"\0\0\0\x80")], [])),
]


@pytest.mark.parametrize(("code", "raw"), [*HOSTILE_GGUF.items(), *MORE_HOSTILE_GGUF])
def test_a_hostile_gguf_file_is_refused_with_a_code(tmp_path: Path, code: str, raw: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(raw)
    with pytest.raises(ComputeError, match=f"gguf.{code}: ") as refused:
        GgufSource([("model.gguf", path, "0")], label="m")
    assert refused.value.code == "gguf_invalid"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_gguf_file_is_refused_or_read_whole(tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(raw_gguf([entry(b"k", 9, b"\x08\0\0\0\x01" + bytes(7) + text(b"v"))], [info(b"w", [2, 8], 0, 0)]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    path = tmp_path / "model.gguf"
    path.write_bytes(raw)
    try:
        source = GgufSource([("model.gguf", path, "0")], label="m")
    except ComputeError:
        return
    with source:
        for operand in source.values():
            assert read(operand).shape == operand.shape


# Adapters

LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "bias": "none", "target_modules": ["q"], "peft_version": "0.18.0"}


def adapted(
    folder: Path, base: dict[str, torch.Tensor], adapter: dict[str, torch.Tensor], config: dict[str, object]
) -> Source:
    """A base model with a PEFT adapter on it, as a merge opens it."""
    safetensors.torch.save_file(base, folder / "model.safetensors")
    prefixed = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in adapter.items()}
    safetensors.torch.save_file(prefixed, folder / "adapter_model.safetensors")
    write_json(folder / "adapter_config.json", {**LORA, **config})
    files = {"config": "adapter_config.json", "weights": ["adapter_model.safetensors"]}
    return opened(folder, weights=["model.safetensors"], adapter=files)


def assert_close(operand: Operand, wanted: torch.Tensor, cut: list[float]) -> None:
    """The operand has these values up to float32's rounding, and the same bytes however it is cut."""
    whole = read(operand)
    torch.testing.assert_close(whole.double(), wanted, rtol=1e-5, atol=1e-5)
    assert same(read(operand, cut), whole)


@FRESH
@given(
    st.sampled_from([(6, 5), (1, 70_000), (70_000, 1), (40, 3000)]),
    st.integers(1, 5),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
    st.booleans(),
    cuts,
)
def test_a_low_rank_pair_is_added_to_its_weight(
    tmp_path: Path, shape: tuple[int, int], rank: int, dtype: torch.dtype, rank_stabilized: bool, cut: list[float]
) -> None:
    rows, columns = shape
    weight, a, b = torch.randn(shape).to(dtype), torch.randn(rank, columns).bfloat16(), torch.randn(rows, rank)
    adapter = {"h.q.lora_A.weight": a, "h.q.lora_B.weight": b}
    config: dict[str, object] = {"r": rank, "use_rslora": rank_stabilized}
    scale = 6 / (math.sqrt(rank) if rank_stabilized else rank)
    with adapted(tmp_path, {"h.q.weight": weight, "h.v.weight": weight.clone()}, adapter, config) as source:
        assert sorted(source) == ["h.q.weight", "h.v.weight"]
        stored = source["h.v.weight"].stored
        assert (source["h.q.weight"].stored, source["h.q.weight"].dtype == "F64") == (stored, stored == "F64")
        assert_close(source["h.q.weight"], weight.double() + scale * (b.double() @ a.double()), cut)
        assert same(read(source["h.v.weight"]), weight)


def test_embeddings_and_transposed_layers_and_convolutions_take_the_product_their_way(tmp_path: Path) -> None:
    table, conv1d, conv = torch.randn(9, 5), torch.randn(6, 8), torch.randn(7, 3, 2, 2)
    a, b = torch.randn(4, 9), torch.randn(5, 4)
    embedding = {"wte.lora_embedding_A": a, "wte.lora_embedding_B": b}
    with adapted(tmp_path, {"wte.weight": table}, embedding, {}) as source:
        assert_close(source["wte.weight"], (table + 1.5 * (b @ a).T).double(), [0.3, 0.7])
    a, b = torch.randn(4, 6), torch.randn(8, 4)
    layer = {"c.lora_A.weight": a, "c.lora_B.weight": b}
    with adapted(tmp_path, {"c.weight": conv1d}, layer, {"fan_in_fan_out": True}) as source:
        assert_close(source["c.weight"], (conv1d + 1.5 * (b @ a).T).double(), [0.5])
    a, b = torch.randn(4, 3, 2, 2), torch.randn(7, 4, 1, 1)
    with adapted(tmp_path, {"c.weight": conv}, {"c.lora_A.weight": a, "c.lora_B.weight": b}, {}) as source:
        product = (b.view(7, 4) @ a.view(4, 12)).view(7, 3, 2, 2)
        assert_close(source["c.weight"], (conv + 1.5 * product).double(), [0.5])


def test_patterns_set_rank_and_alpha_and_whole_tensors_take_the_place_of_the_base(tmp_path: Path) -> None:
    base = {name: torch.randn(3, 3) for name in ["a.q.weight", "b.q.weight", "head.weight"]}
    base |= {name: torch.ones(3) for name in ["a.q.bias", "norm.bias"]}
    adapter = {
        "a.q.lora_A.weight": torch.randn(4, 3),
        "a.q.lora_B.weight": torch.randn(3, 4),
        "b.q.lora_A.weight": torch.randn(2, 3),
        "b.q.lora_B.weight": torch.randn(3, 2),
        "a.q.lora_B.bias": torch.randn(3),
        "norm.bias": torch.randn(3),
        "head.modules_to_save.weight": torch.randn(5, 3),
        "score.weight": torch.randn(2, 3),
    }
    config: dict[str, object] = {
        "rank_pattern": {"b.q": 2},
        "alpha_pattern": {"b.q": 10},
        "lora_bias": True,
        "modules_to_save": ["head", "score"],
    }
    with adapted(tmp_path, base, adapter, config) as source:
        pair = adapter["a.q.lora_B.weight"].double() @ adapter["a.q.lora_A.weight"].double()
        assert_close(source["a.q.weight"], base["a.q.weight"] + 1.5 * pair, [])
        pair = adapter["b.q.lora_B.weight"].double() @ adapter["b.q.lora_A.weight"].double()
        assert_close(source["b.q.weight"], base["b.q.weight"] + 5 * pair, [])
        assert_close(source["a.q.bias"], 1 + 1.5 * adapter["a.q.lora_B.bias"].double(), [])
        assert same(read(source["head.weight"]), adapter["head.modules_to_save.weight"])
        assert same(read(source["norm.bias"]), adapter["norm.bias"])
        assert same(read(source["score.weight"]), adapter["score.weight"])


PAIR = {"q.lora_A.weight": torch.ones(4, 3), "q.lora_B.weight": torch.ones(3, 4)}


@pytest.mark.parametrize(
    ("adapter", "config", "message"),
    [
        (PAIR, {"use_dora": True}, "use_dora: DoRA rescales"),
        (PAIR, {"peft_type": "LOHA"}, "of type 'LOHA'"),
        (PAIR, {"init_lora_weights": "pissa_niter_4"}, "started from changed weights"),
        (PAIR, {"use_something_new": 1}, "use_something_new: the setting is not known"),
        (PAIR, {"alpha_pattern": {".*q": 3}}, "is a regular expression"),
        (PAIR, {"r": 8}, "has rank 4, its configuration says 8"),
        (PAIR, {"lora_alpha": "16"}, "lora_alpha is no number"),
        ({**PAIR, "z.lora_A.weight": torch.ones(4, 3)}, {}, "adapter of z has lora_A: no pair"),
        ({**PAIR, "extra.weight": torch.ones(3)}, {}, "'base_model.model.extra.weight' of the adapter belongs to no"),
        ({"k.lora_A.weight": torch.ones(4, 3), "k.lora_B.weight": torch.ones(3, 4)}, {}, "does not have"),
        ({"q.lora_A.weight": torch.ones(4, 3), "q.lora_B.weight": torch.ones(2, 4)}, {}, r"the weight is \[3, 3\]"),
    ],
)
def test_an_adapter_that_cannot_be_added_whole_is_refused(
    tmp_path: Path, adapter: dict[str, torch.Tensor], config: dict[str, object], message: str
) -> None:
    with pytest.raises(ComputeError, match=message):
        adapted(tmp_path, {"q.weight": torch.ones(3, 3)}, adapter, config)


# Together


def test_a_merge_takes_models_of_every_format_with_adapters_on_them(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    names = [f"model.layers.0.self_attn.{name}_proj.weight" for name in "qk"]
    weights = {name: random.normal(size=(8, 32)).astype(np.float32) for name in names}
    half = {name: torch.from_numpy(weight).bfloat16() for name, weight in weights.items()}
    safetensors.torch.save_file(half, tmp_path / "model.safetensors")
    a, b = torch.randn(4, 32), torch.randn(8, 4)
    pair = {
        f"base_model.model.{names[0].removesuffix('weight')}lora_{part}.weight": t
        for part, t in zip("AB", (a, b), strict=True)
    }
    safetensors.torch.save_file(pair, tmp_path / "adapter.safetensors")
    write_json(tmp_path / "adapter.json", LORA)
    q8 = gguf.GGMLQuantizationType.Q8_0
    blocks = {name: gguf.quants.quantize(permuted(weight, 2), q8) for name, weight in weights.items()}
    tensors = {f"blk.0.attn_{letter}.weight": (8, blocks[name]) for letter, name in zip("qk", names, strict=True)}
    write_gguf(tmp_path / "model.gguf", tensors, "llama", head_count=2, head_count_kv=2)
    adapter = {"config": "adapter.json", "weights": ["adapter.safetensors"]}
    program = {
        "schema": "owm.merge-program/1",
        "sources": [
            {"label": "a", "weights": ["model.safetensors"], "adapter": adapter},
            {"label": "b", "format": "gguf", "weights": ["model.gguf"]},
        ],
        "settings": [{"each": {"weight": [1.0, 1.0]}}],
        "operations": [{"method": "linear", "models": [0, 1]}],
        "files": [{"path": "out.safetensors", "tensors": [{"name": name, "operation": 0} for name in names]}],
    }
    output = tmp_path / "out"
    output.mkdir()
    run_merge(
        parse_program(json.dumps(program).encode()),
        Files(tmp_path),
        output,
        threads=2,
        progress=Silent(),
        statistics=StatisticStore(tmp_path / "statistics.json"),
    )
    merged = safetensors.torch.load_file(output / "out.safetensors")
    for name, added in zip(names, (1.5 * b @ a, torch.zeros(8, 32)), strict=True):
        # Q8_0 keeps a part in 254 of the largest value of a block; the result is rounded to bfloat16.
        wanted = (half[name].float() + added + torch.from_numpy(weights[name])) / 2
        assert merged[name].dtype == torch.bfloat16
        torch.testing.assert_close(merged[name].float(), wanted, rtol=2**-8, atol=0.02)
