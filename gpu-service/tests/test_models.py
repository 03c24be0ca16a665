"""Models, their data and their training, as a library."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from owm_compute.data.table import Table, read_table
from owm_compute.data.task import parse_task
from owm_compute.errors import ComputeError
from owm_compute.evaluate import compare, evaluate_classifier, read_correct
from owm_compute.models.architectures import empty_model
from owm_compute.models.config import ModelConfig, parse_config_bytes
from owm_compute.models.load import load_directory, load_model
from owm_compute.tensors.torch_io import save_tensors
from owm_compute.train import Hyperparameters, Optimizer, train_classifier
from owm_compute.train.initialization import initialize
from tests.digits import cnn, csv_rows, mlp, task_json

CONFIGS = [mlp(), mlp(hidden_sizes=[]), mlp(hidden_sizes=[7, 5, 3]), cnn(), cnn(channels=[3], activation="gelu")]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_module_has_exactly_the_tensors_its_configuration_names(config: ModelConfig) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in empty_model(config).state_dict().items()}
    assert found == config.tensor_shapes()


@pytest.mark.parametrize("config", [mlp(), cnn()], ids=["mlp", "cnn"])
def test_learns_the_digits_saves_and_predicts_the_same(
    config: ModelConfig, train_table: Table, validation_table: Table, tmp_path: Path
) -> None:
    trained = train_classifier(config, train_table, Hyperparameters(Optimizer(name="adam", lr=0.01), epochs=8))
    assert trained.loss_curve[-1] < trained.loss_curve[0] / 3
    assert trained.accuracy > 0.95
    trained.save(tmp_path)
    loaded = load_directory(tmp_path)
    assert np.array_equal(loaded.predict(validation_table.features), trained.model.predict(validation_table.features))
    result = evaluate_classifier(loaded, validation_table)
    assert result.metrics[0]["value"] > 0.85
    result.write_samples(tmp_path / "samples.jsonl")
    assert compare(read_correct(tmp_path / "samples.jsonl"), result.correct()).difference == 0


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "adam"])
def test_every_optimizer_lowers_the_loss(name: Any, train_table: Table) -> None:
    rate = 0.05 if name in ("sgd", "momentum") else 0.002
    plan = Hyperparameters(Optimizer(name=name, lr=rate), epochs=3)
    curve = train_classifier(mlp(), train_table, plan).loss_curve
    assert curve[-1] < curve[0]


@pytest.mark.parametrize(
    ("scheme", "std"),
    [
        ("he_normal", math.sqrt(2 / 400)),
        ("xavier_normal", math.sqrt(2 / 1000)),
        ("xavier_uniform", math.sqrt(2 / 1000)),
        ("normal", 0.05),
        ("uniform", 0.05 / math.sqrt(3)),
        ("default", 1 / math.sqrt(3 * 400)),
    ],
)
def test_an_initialisation_has_its_spread(scheme: Any, std: float) -> None:
    module = empty_model(mlp(input_size=400, hidden_sizes=[600]))
    initialize(module, scheme, seed=3)
    weight = dict(module.named_parameters())["layers.0.weight"].detach()
    error = 5 * std / math.sqrt(weight.numel())
    assert abs(float(weight.mean())) < error
    assert float(weight.std()) == pytest.approx(std, abs=error)


def test_adding_a_layer_changes_no_other_tensors_initial_values() -> None:
    small, deep = empty_model(mlp(hidden_sizes=[32])), empty_model(mlp(hidden_sizes=[32, 32]))
    for module in (small, deep):
        initialize(module, "he_normal", seed=1)
    assert torch.equal(small.state_dict()["layers.0.weight"], deep.state_dict()["layers.0.weight"])


def test_training_that_diverges_says_where(train_table: Table) -> None:
    plan = Hyperparameters(Optimizer(name="sgd", lr=1000, weight_decay=10), epochs=5)
    with pytest.raises(ComputeError, match=r"diverged: .* in epoch"):
        train_classifier(mlp(), train_table, plan)


def write_model(directory: Path, change: dict[str, torch.Tensor | None]) -> Path:
    """A model file of the small perceptron with tensors replaced or (None) left out."""
    tensors: dict[str, torch.Tensor | None] = {n: torch.zeros(s) for n, s in mlp().tensor_shapes().items()}
    path = directory / "model.safetensors"
    save_tensors(path, {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None})
    return path


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"layers.0.bias": None}, "tensor_missing"),
        ({"extra": torch.zeros(1)}, "tensor_unexpected"),
        ({"layers.0.bias": torch.zeros(33)}, "tensor_shape_mismatch"),
        ({"layers.0.bias": torch.zeros(32).int()}, "tensor_dtype_mismatch"),
        ({"layers.0.bias": torch.full((32,), math.nan)}, "non_finite"),
    ],
)
def test_refuses_weights_that_do_not_fit(tmp_path: Path, change: dict[str, torch.Tensor | None], code: str) -> None:
    with pytest.raises(ComputeError) as refused:
        load_model(mlp(), [("weights", write_model(tmp_path, change))])
    assert refused.value.code == code


def test_a_model_whose_output_is_not_finite_gives_no_metrics(tmp_path: Path, validation_table: Table) -> None:
    change: dict[str, torch.Tensor | None] = {
        "layers.1.bias": torch.full((10,), 3e38),
        "layers.0.bias": torch.full((32,), 3e38),
    }
    change["layers.1.weight"] = torch.full((10, 32), 3e38)
    model = load_model(mlp(), [("weights", write_model(tmp_path, change))])
    with pytest.raises(ComputeError, match="non_finite: the model's output for sample 'd1200'"):
        evaluate_classifier(model, validation_table)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "config_invalid"),
        (b"[]", "config_invalid"),
        (b"[" * 100_000, "config_invalid"),
        (b"{}", "unsupported_architecture"),
        (b'{"architectures":["OwmMLP"],"model_type":"owm_cnn"}', "config_invalid"),
        (b'{"architectures":["OwmMLP"],"model_type":"owm_mlp","auto_map":{}}', "unsupported_architecture"),
        (b" " * 1_000_001, "config_invalid"),
    ],
)
def test_refuses_a_configuration(raw: bytes, code: str) -> None:
    with pytest.raises(ComputeError) as refused:
        parse_config_bytes(raw)
    assert refused.value.code == code


def test_poolings_must_leave_something_of_the_image() -> None:
    with pytest.raises(ComputeError, match="config_invalid"):
        cnn(channels=[4, 4, 4, 4])


def table_of(directory: Path, raw: bytes) -> Table:
    """A table of a task with two features."""
    task = parse_task(task_json(features=["x", "y"], classes=["n", "p"], modality="tabular", image_size=None))
    path = directory / "data.csv"
    path.write_bytes(raw)
    return read_table(path, task, label="data.csv")


def test_reads_quoted_cells_any_column_order_and_both_line_ends(tmp_path: Path) -> None:
    table = table_of(tmp_path, b'\xef\xbb\xbflabel,y,extra,x,id\r\np,2,"a ""b"",\n",16,one\nn,-1e1,,+.5,two')
    assert table.ids == ["one", "two"]
    assert table.labels.tolist() == [1, 0]
    assert table.features.tolist() == [[1.0, 0.125], [0.03125, -0.625]]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "line 1: the file is empty"),
        (b"id,x,y,label\n", "line 2: the file has no rows"),
        (b"id,x,label\na,1,n\n", "line 1: column 'y' is missing"),
        (b"id,x,y,x,label\n", "line 1: column 'x' stands twice"),
        (b"id,x,y,label\na,1,2\n", "line 2: 3 cells"),
        (b"id,x,y,label\na,1,2,n\nb,1,zwei,n\n", "line 3, column 'y': 'zwei'"),
        (b"id,x,y,label\na,1,nan,n\n", "line 2, column 'y': 'nan'"),
        (b"id,x,y,label\na,1,1_0,n\n", "line 2, column 'y': '1_0'"),
        (b"id,x,y,label\na,1,1e999,n\n", "line 2, column 'y': '1e999'"),
        (b"id,x,y,label\na,1,1e300,n\n", "column 'y': not finite in float32"),
        (b"id,x,y,label\na,1,2,q\n", "line 2, column 'label': 'q'"),
        (b"id,x,y,label\na,1,2,n\na,1,2,n\n", "line 3, column 'id': the id 'a'"),
        (b'id,x,y,label\na,"1"2,2,n\n', "line 2"),
        (b"id,x,y,label\n\xff,1,2,n\n", "not UTF-8"),
    ],
)
def test_names_the_place_of_a_bad_cell(tmp_path: Path, raw: bytes, says: str) -> None:
    with pytest.raises(ComputeError) as refused:
        table_of(tmp_path, raw)
    assert refused.value.code == "dataset_mismatch"
    assert says in refused.value.message


@pytest.mark.parametrize(
    "change", [{"features": ["a", "a"]}, {"classes": ["1"]}, {"kind": "regression"}, {"target": "id"}, {"odd": 1}]
)
def test_refuses_a_task(change: dict[str, Any]) -> None:
    with pytest.raises(ComputeError, match="task_invalid"):
        parse_task(task_json(**change))


@pytest.mark.parametrize("config", [mlp(input_size=63), mlp(num_labels=9), cnn(image_size=[4, 16])])
def test_a_model_for_other_data_is_refused(config: ModelConfig, train_table: Table) -> None:
    with pytest.raises(ComputeError, match="dataset_mismatch"):
        train_classifier(config, train_table, Hyperparameters())


def test_the_csv_of_the_digits_keeps_every_value(train_table: Table) -> None:
    assert train_table.features.shape == (1200, 64)
    assert train_table.features.max() == 1.0
    assert len(csv_rows(0, 1200).splitlines()) == 1201
