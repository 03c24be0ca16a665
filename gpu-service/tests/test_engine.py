"""The merge engine through programs and files: what it refuses, and that nothing but its inputs decides bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from pydantic import ValidationError

from owm_compute.errors import ComputeError
from owm_compute.merge.computed import ComputedSource
from owm_compute.merge.engine import MergeReport, run_program
from owm_compute.merge.program import Program
from owm_compute.merge.run import run_merge
from owm_compute.merge.statistics import StatisticStore
from owm_compute.progress import Silent
from owm_compute.tensors.safetensors_source import SafetensorsSource
from owm_compute.tensors.torch_io import save_tensors

Tensors = Mapping[str, torch.Tensor]


class Engine:
    """Runs programs over tensors that are written as the files of their models."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.report: MergeReport

    def __call__(
        self, models: Sequence[Tensors], *, out: str = "out", program: Mapping[str, Any] | None = None, **options: Any
    ) -> dict[str, torch.Tensor]:
        output = self.directory / out
        output.mkdir(exist_ok=True)
        with ExitStack() as stack:
            sources = []
            for index, tensors in enumerate(models):
                path = self.directory / f"{index}.safetensors"
                save_tensors(path, tensors)
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                source = SafetensorsSource([(path.name, path, digest)], label=f"model-{index}")
                sources.append(stack.enter_context(source))
            plan = Program.model_validate({**linear(len(models)), **(program or {})})
            self.report = run_program(plan, sources, output, **options)
        merged: dict[str, torch.Tensor] = {}
        for path in sorted(output.glob("*.safetensors")):
            merged.update(safetensors.torch.load_file(path))
        return merged

    def record(self, out: str = "out") -> list[dict[str, Any]]:
        """The lines of the record, without the head."""
        lines = (self.directory / out / "merge-record.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines[1:]]


def linear(models: int, **fields: Any) -> dict[str, Any]:
    """A program for the mean of models."""
    return {
        "schema": "owm.merge-program/1",
        "sources": [{"label": f"model-{i}", "weights": [f"{i}"]} for i in range(models)],
        "settings": [{"values": {"normalize": 1}, "each": {"weight": [1.0 / (i + 1) for i in range(models)]}}],
        "operations": [{"method": "linear", "models": list(range(models))}],
        "files": [{"path": "model.safetensors", "every": 0}],
        **fields,
    }


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


def model(seed: int, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    """Tensors of several sizes, one of them empty, one a scalar."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (37, 41), "a.bias": (37,), "b.weight": (5, 3, 2, 2), "empty": (0, 4), "scale": ()}
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def digests(report: MergeReport) -> dict[str, str]:
    return {file.path: file.sha256 for file in report.files}


def test_threads_and_chunks_do_not_change_a_byte(engine: Engine) -> None:
    models = [model(seed) for seed in range(3)]
    engine(models)
    expected = digests(engine.report)["model.safetensors"]
    for threads, chunk in [(1, 7), (2, 64), (3, 1000), (2, 1 << 20)]:
        engine(models, out=f"{threads}-{chunk}", threads=threads, chunk=chunk)
        assert digests(engine.report)["model.safetensors"] == expected


def test_rounds_once_from_single_precision(engine: Engine) -> None:
    models = [model(seed) for seed in range(2)]
    merged = engine(models)
    for name, tensor in merged.items():
        exact = (models[0][name].float() * (1 / 1.5)) + (models[1][name].float() * (0.5 / 1.5))
        assert torch.equal(tensor, exact.bfloat16())


def test_an_interrupted_merge_goes_on_and_gives_the_same_bytes(engine: Engine) -> None:
    models = [model(seed) for seed in range(2)]
    engine(models)
    whole = digests(engine.report)
    file, record = engine.directory / "out/model.safetensors", engine.directory / "out/merge-record.jsonl"
    complete, lines = file.read_bytes(), record.read_text().splitlines(keepends=True)
    for cut in range(1, len(lines) + 1):
        record.write_text("".join(lines[:cut]) + lines[-1][:10])
        # What lies behind the last finished tensor is whatever the crash left.
        file.write_bytes(complete[:-20] + b"\xff" * 20)
        engine(models)
        assert digests(engine.report) == whole
        assert (engine.report.resumed_bytes > 0) == (cut > 1)


def test_a_tensor_altered_since_the_crash_is_computed_again(engine: Engine) -> None:
    models = [model(seed) for seed in range(2)]
    engine(models)
    whole, file = digests(engine.report), engine.directory / "out/model.safetensors"
    altered = bytearray(file.read_bytes())
    altered[-1] ^= 1
    file.write_bytes(altered)
    engine(models)
    assert digests(engine.report) == whole


def test_what_another_program_left_is_not_gone_on_from(engine: Engine) -> None:
    models = [model(seed) for seed in range(2)]
    engine(models)
    other = {"settings": [{"values": {"normalize": 0}, "each": {"weight": [0.1, 0.2]}}]}
    merged = engine(models, program=other)
    assert engine.report.resumed_bytes == 0
    assert torch.equal(
        merged["scale"], (models[0]["scale"].float() * 0.1 + models[1]["scale"].float() * 0.2).bfloat16()
    )


def test_what_other_inputs_left_is_not_gone_on_from(engine: Engine) -> None:
    engine([model(0), model(1)])
    merged = engine([model(0), model(2)])
    assert torch.equal(merged["scale"], engine([model(0), model(2)], out="fresh")["scale"])


def test_shards_hold_the_same_tensors_and_an_index(engine: Engine) -> None:
    models = [model(seed) for seed in range(2)]
    whole = engine(models)
    names = list(whole)
    files = [
        {"path": f"model-{i + 1:05}-of-00002.safetensors", "tensors": [{"name": n, "operation": 0} for n in part]}
        for i, part in enumerate([names[:2], names[2:]])
    ]
    merged = engine(models, out="shards", program={"files": files})
    assert all(torch.equal(merged[name], whole[name]) for name in names)
    index = json.loads((engine.directory / "shards/model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(names)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in whole.values())
    assert "model.safetensors.index.json" in digests(engine.report)


def test_a_model_that_is_a_program_is_merged_as_if_it_had_been_written(engine: Engine) -> None:
    a, b, c = (model(seed) for seed in range(3))
    middle = engine([a, b])
    written = engine([middle, c], out="written")
    expected = digests(engine.report)["model.safetensors"]
    with ExitStack() as stack:
        opened = []
        for index, tensors in enumerate((a, b, c)):
            path = engine.directory / f"nested-{index}.safetensors"
            save_tensors(path, tensors)
            opened.append(stack.enter_context(SafetensorsSource([(path.name, path, str(index))], label=str(index))))
        inner = ComputedSource("a+b", Program.model_validate(linear(2)), opened[:2], StatisticStore())
        out = engine.directory / "nested"
        out.mkdir()
        report = run_program(Program.model_validate(linear(2)), [inner, opened[2]], out, threads=2, chunk=50)
    assert digests(report)["model.safetensors"] == expected
    assert report.determinism == "exact"
    assert written["scale"].dtype == torch.bfloat16


def test_a_merge_is_as_exact_as_the_programs_it_reads(engine: Engine) -> None:
    a, b = ({"w": torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))} for seed in range(2))
    with ExitStack() as stack:
        opened = []
        for index, tensors in enumerate((a, b)):
            path = engine.directory / f"{index}.safetensors"
            sha256, _ = save_tensors(path, tensors)
            opened.append(stack.enter_context(SafetensorsSource([(path.name, path, sha256)], label=str(index))))
        spectral = linear(2, settings=[{}], operations=[{"method": "iso_c", "models": [0], "base": 1}])
        inner = ComputedSource("inner", Program.model_validate(spectral), opened, StatisticStore())
        out = engine.directory / "outer"
        out.mkdir()
        report = run_program(Program.model_validate(linear(2)), [inner, opened[0]], out)
    assert report.determinism == "tolerance"


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"a.bias": torch.tensor([float("nan")] * 37)}, "non_finite", "a.bias.*index 0 in model-1"),
        ({"a.bias": torch.ones(38)}, "tensor_shape_mismatch", r"\[37\] in model-0.*\[38\] in model-1"),
        ({"a.bias": torch.ones(37, dtype=torch.int32)}, "tensor_dtype_mismatch", "I32"),
        ({"a.bias": None}, "tensor_missing", "model-1 lacks tensor 'a.bias'"),
    ],
)
def test_refuses_models_that_do_not_fit(
    engine: Engine, change: dict[str, torch.Tensor | None], code: str, says: str
) -> None:
    other = {name: tensor for name, tensor in {**model(1, torch.float32), **change}.items() if tensor is not None}
    with pytest.raises(ComputeError, match=says) as failure:
        engine([model(0, torch.float32), other])
    assert (failure.value.code, failure.value.field) == (code, "a.bias")


def test_a_result_beyond_its_dtype_is_an_error_not_an_infinity(engine: Engine) -> None:
    models = [{"x": torch.full((9,), 60000.0, dtype=torch.float16)} for _ in range(2)]
    double = {"settings": [{"values": {"normalize": 0}, "each": {"weight": [1, 1]}}]}
    with pytest.raises(ComputeError, match="merged tensor 'x' is not finite at index 0"):
        engine(models, program=double)


def test_integers_are_copied_and_must_agree(engine: Engine) -> None:
    steps = {"n": torch.tensor([1, 2**60 + 1]), "flag": torch.tensor([True, False]), "w": torch.ones(3)}
    merged = engine([steps, steps])
    assert torch.equal(merged["n"], steps["n"])
    assert torch.equal(merged["flag"], steps["flag"])
    with pytest.raises(ComputeError, match="differ between the models at index 1"):
        engine([steps, {**steps, "n": torch.tensor([1, 2])}])


def test_an_optional_tensor_is_merged_over_the_models_that_have_it(engine: Engine) -> None:
    a, b, c = {"x": torch.ones(4)}, {"x": torch.ones(4), "y": torch.full((4,), 2.0)}, {"y": torch.full((4,), 5.0)}
    files = [
        {
            "path": "model.safetensors",
            "tensors": [{"name": name, "operation": 0, "optional": True} for name in ("x", "y")],
        }
    ]
    merged = engine([a, b, c], program={"files": files})
    # Weights 1/2 and 1/3 of the two models that have it.
    assert torch.allclose(merged["y"], torch.full((4,), (2 / 2 + 5 / 3) / (1 / 2 + 1 / 3)))


def test_embeddings_are_cropped_to_the_shape_that_the_program_names(engine: Engine) -> None:
    a, b = torch.randn(6, 5), torch.randn(4, 3)
    files = [{"path": "model.safetensors", "tensors": [{"name": "e", "operation": 0, "shape": [4, 3]}]}]
    merged = engine([{"e": a}, {"e": b}], program={"files": files}, chunk=5)
    assert torch.allclose(merged["e"], (a[:4, :3] + b / 2) / 1.5)


def test_the_record_tells_what_was_merged_and_how_alike_it_was(engine: Engine) -> None:
    x = torch.tensor([3.0, 4.0])
    engine([{"x": x}, {"x": -2 * x}])
    [line] = engine.record()
    assert line["settings"] == {"normalize": 1, "weight": [1, 0.5]}
    assert line["statistics"]["norms"] == [5, 10]
    assert line["statistics"]["cosines"] == [-1]
    assert [operand["label"] for operand in line["models"]] == ["model-0: x", "model-1: x"]


def test_a_pipeline_is_written_into_folders_each_with_files_of_its_own(tmp_path: Path) -> None:
    def pipeline(seed: int) -> dict[str, dict[str, torch.Tensor]]:
        # Two components that call a tensor by the same name.
        return {"unet": model(seed), "vae": {"scale": model(seed + 5)["scale"], "norm": torch.full((2,), float(seed))}}

    paths: dict[str, Path] = {}
    for i in range(2):
        for folder, tensors in pipeline(i).items():
            paths[f"{i}/{folder}"] = tmp_path / f"{i}-{folder}.safetensors"
            save_tensors(paths[f"{i}/{folder}"], tensors)
    program = linear(2)
    program["sources"] = [
        {"label": f"model-{i}", "folders": {folder: [f"{i}/{folder}"] for folder in ("unet", "vae")}} for i in range(2)
    ]
    files = {
        "unet/x-00001-of-00002.safetensors": ["a.weight", "a.bias"],
        "unet/x-00002-of-00002.safetensors": ["b.weight", "empty", "scale"],
        "vae/x.safetensors": ["scale", "norm"],
    }
    program["files"] = [
        {"path": path, "tensors": [{"name": f"{path.split('/')[0]}/{name}", "operation": 0} for name in names]}
        for path, names in files.items()
    ]
    merge = partial(
        run_merge,
        Program.model_validate(program),
        Files(paths),
        threads=1,
        progress=Silent(),
        statistics=StatisticStore(),
    )
    (tmp_path / "out").mkdir()
    report = merge(tmp_path / "out")
    for path, names in files.items():
        written = safetensors.torch.load_file(tmp_path / "out" / path)
        assert set(written) == set(names)
        first, second = (pipeline(i)[path.split("/")[0]] for i in range(2))
        for name in names:
            mean = (first[name].double() + second[name].double() / 2) / 1.5
            torch.testing.assert_close(written[name].double(), mean, rtol=1e-2, atol=1e-2)
    index = json.loads((tmp_path / "out/unet/x.safetensors.index.json").read_text())
    assert {name: f"unet/{file}" for name, file in index["weight_map"].items()} == {
        name: path for path, names in files.items() for name in names if path.startswith("unet/")
    }
    assert [file.path for file in report.files] == [*files, "unet/x.safetensors.index.json", "merge-record.jsonl"]
    assert merge(tmp_path / "out").resumed_bytes > 0


@pytest.mark.parametrize("path", ["../x", "/x", "a//x", "a/../x", "a/b/x", "a/.x", ".a/x", "a/", ""])
def test_an_output_leads_nowhere_but_into_its_directory(path: str) -> None:
    with pytest.raises(ValidationError):
        Program.model_validate(linear(1, files=[{"path": path, "every": 0}]))


class Files:
    """Files as the inputs of a job."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths

    def path(self, name: str) -> Path:
        return self._paths[name]

    arriving = path

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.path(name).read_bytes()).hexdigest()
