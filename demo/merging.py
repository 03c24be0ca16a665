"""Regenerates the figures and tables of docs/merging.md: trains small networks on the digits and merges them.

Everything goes through the code that the hub uses: its training, its merge engine, its metrics. One command, from this
folder: `PYTHONPATH=../gpu-service ../gpu-service/.venv/bin/python merging.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import teams
import torch
from charts import Line, Row, interval_chart, line_chart
from owm_compute.data.table import Table
from owm_compute.data.task import parse_task
from owm_compute.evaluate import Comparison, compare
from owm_compute.evaluate.metrics import softmax, wilson
from owm_compute.merge.run import parse_program, run_merge
from owm_compute.merge.statistics import StatisticStore
from owm_compute.models.config import ModelConfig, parse_config
from owm_compute.models.load import Model, load_directory
from owm_compute.progress import Silent
from owm_compute.train import Hyperparameters, Optimizer, train_classifier
from owm_compute.train.initialization import InitScheme
from sklearn.datasets import load_digits

DOCS = Path(__file__).resolve().parents[1] / "docs"
LAMBDAS = [step / 10 for step in range(11)]
PAIRS, WIDTH_PAIRS = 5, 3
WIDTHS = [16, 32, 64, 128, 256, 512]
EPOCHS = 15
SETTINGS = ["two branches of one start", "two seeds, as they are", "two seeds, aligned"]
Rows = npt.NDArray[np.int64]


@cache
def digits_table(rows: tuple[int, ...]) -> Table:
    """These rows of the digits, as the compute service reads a split."""
    digits = load_digits()
    chosen = np.array(rows)
    return Table(
        parse_task(json.dumps(teams.task({})).encode()),
        [f"digit-{row:04d}" for row in rows],
        (digits.data[chosen] / 16).astype(np.float32),
        digits.target[chosen].astype(np.int64),
    )


def table_of(rows: Rows) -> Table:
    """`digits_table` of an array."""
    return digits_table(tuple(rows.tolist()))


@dataclass(frozen=True)
class Score:
    """How a model does on some images: accuracy, mean cross-entropy, and which it gets right."""

    accuracy: float
    loss: float
    correct: dict[str, bool]

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(sum(self.correct.values()), len(self.correct))


def score(model: Model, rows: Rows) -> Score:
    """A model's score on some images."""
    table = table_of(rows)
    logits = model.predict(table.features)
    right = logits.argmax(axis=1) == table.labels
    loss = -np.log(softmax(logits)[np.arange(len(table.labels)), table.labels]).mean()
    return Score(float(right.mean()), float(loss), dict(zip(table.ids, map(bool, right), strict=True)))


class Files(dict[str, Path]):
    """The input files of a merge by name, as the engine asks for them."""

    def path(self, name: str) -> Path:
        """Where it lies."""
        return self[name]

    arriving = path

    def sha256(self, name: str) -> str:
        """Its digest."""
        return hashlib.sha256(self[name].read_bytes()).hexdigest()


@dataclass(frozen=True)
class Recipe:
    """A method with its parameters: one value each, and one value a model."""

    method: str
    values: Mapping[str, float] = field(default_factory=dict)
    each: Mapping[str, Sequence[float]] = field(default_factory=dict)
    align: bool = False


class Lab:
    """Trains and merges in folders of its own."""

    def __init__(self, place: Path) -> None:
        self._folders: Iterator[Path] = (place / str(number) for number in count())

    def _folder(self) -> Path:
        folder = next(self._folders)
        folder.mkdir()
        return folder

    def train(
        self,
        config: ModelConfig,
        rows: Rows,
        *,
        seed: int,
        start: Path | None = None,
        plan: Hyperparameters | None = None,
    ) -> Path:
        """A model trained on some images, from scratch or from a model."""
        base = plan or Hyperparameters(epochs=EPOCHS, init="default")
        numbered = Hyperparameters(base.optimizer, base.epochs, base.batch_size, seed, base.init)
        initial = None if start is None else load_directory(start)
        folder = self._folder()
        train_classifier(config, table_of(rows), numbered, initial=initial).save(folder)
        return folder

    def merge(self, recipe: Recipe, models: Sequence[Path], base: Path | None = None) -> Model:
        """The merged model, by the engine of the compute service."""
        parents = [*models, *([] if base is None else [base])]
        program: dict[str, Any] = {
            "schema": "owm.merge-program/1",
            "sources": [
                {"label": str(i), "weights": [f"{i}/model.safetensors"], "config": f"{i}/config.json"}
                for i in range(len(parents))
            ],
            "settings": [{"values": dict(recipe.values), "each": {k: list(v) for k, v in recipe.each.items()}}],
            "operations": [
                {
                    "method": recipe.method,
                    "models": list(range(len(models))),
                    "base": None if base is None else len(models),
                }
            ],
            "files": [{"path": "model.safetensors", "every": 0}],
            "config": {"source": 0},
            "align": {"reference": 0} if recipe.align else None,
        }
        files = {f"{i}/{path.name}": path for i, parent in enumerate(parents) for path in parent.iterdir()}
        folder = self._folder()
        run_merge(
            parse_program(json.dumps(program).encode()),
            Files(files),
            folder,
            threads=1,
            progress=Silent(),
            statistics=StatisticStore(),
        )
        return load_directory(folder)


def mlp(width: int) -> ModelConfig:
    """A perceptron with two hidden layers."""
    return parse_config({**teams.ARCHITECTURE, "hidden_sizes": [width, width]})


def cnn() -> ModelConfig:
    """A small convolutional network."""
    return parse_config(
        {
            "architectures": ["OwmCNN"],
            "model_type": "owm_cnn",
            "image_size": [8, 8],
            "in_channels": 1,
            "channels": [32, 64],
            "hidden_size": 128,
            "num_labels": 10,
            "activation": "relu",
        }
    )


def split_once() -> tuple[Rows, Rows]:
    """1,200 images to train on and 597 to judge on."""
    order = np.random.default_rng(0).permutation(1797).astype(np.int64)
    return order[:1200], order[1200:]


def weighted(share: float, *, align: bool = False) -> Recipe:
    """(1 − λ)·first + λ·second."""
    return Recipe("linear", {"normalize": 0}, {"weight": [1 - share, share]}, align)


Curve = list[Score]


def walk(lab: Lab, parents: Sequence[Path], test: Rows, *, align: bool = False) -> Curve:
    """The scores along the line from one model to the other."""
    return [score(lab.merge(weighted(share, align=align), parents), test) for share in LAMBDAS]


def curves(lab: Lab, config: ModelConfig) -> dict[str, list[Curve]]:
    """For each setting one curve a pair of models."""
    train, test = split_once()
    found: dict[str, list[Curve]] = {name: [] for name in SETTINGS}
    half = Hyperparameters(epochs=EPOCHS // 2, init="default")
    for pair in range(PAIRS):
        start = lab.train(config, train, seed=1000 + pair, plan=half)
        branches = [
            lab.train(config, rows, seed=seed + pair, start=start, plan=half)
            for seed, rows in ((2000, train[:600]), (3000, train[600:]))
        ]
        seeds = [lab.train(config, train, seed=2 * pair + 1), lab.train(config, train, seed=2 * pair + 2)]
        found[SETTINGS[0]].append(walk(lab, branches, test))
        found[SETTINGS[1]].append(walk(lab, seeds, test))
        found[SETTINGS[2]].append(walk(lab, seeds, test, align=True))
    return found


def barrier(curve: Curve) -> float:
    """How far the loss rises above the straight line between the ends, at its highest."""
    first, last = curve[0].loss, curve[-1].loss
    return max(point.loss - ((1 - at) * first + at * last) for at, point in zip(LAMBDAS, curve, strict=True))


def draw_curves(name: str, title: str, found: Mapping[str, Sequence[Curve]], floor: float) -> None:
    """Accuracy along the line between two models."""
    lines = []
    for setting, pairs in found.items():
        columns = [[curve[step].accuracy for curve in pairs] for step in range(len(LAMBDAS))]
        points = [(at, fmean(column)) for at, column in zip(LAMBDAS, columns, strict=True)]
        lines.append(Line(setting, points, [(min(column), max(column)) for column in columns]))
    svg = line_chart(
        title,
        ("λ: weight of the second model", "accuracy"),
        lines,
        x_ticks=[(at, f"{at:g}") for at in LAMBDAS],
        y_range=(floor, 1.0),
    )
    (DOCS / "merging" / f"{name}.svg").write_text(svg)


def curve_table(all_curves: Mapping[str, Mapping[str, Sequence[Curve]]]) -> str:
    """Ends, midpoint and barrier of every setting, over the pairs."""
    lines = ["| network | models | worse end | midpoint | barrier (loss) |", "|---|---|---|---|---|"]
    for network, found in all_curves.items():
        for setting, pairs in found.items():
            ends = [min(curve[0].accuracy, curve[-1].accuracy) for curve in pairs]
            middles = [curve[len(curve) // 2].accuracy for curve in pairs]
            barriers = [barrier(curve) for curve in pairs]
            cells = " | ".join(spread(values) for values in (ends, middles, barriers))
            lines.append(f"| {network} | {setting} | {cells} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Mean, and lowest to highest."""
    return f"{fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def width_study(lab: Lab) -> dict[int, list[tuple[float, float, float]]]:
    """Width → one (worse end, naive midpoint, aligned midpoint) a pair of seeds."""
    train, test = split_once()
    found: dict[int, list[tuple[float, float, float]]] = {}
    for width in WIDTHS:
        found[width] = []
        for pair in range(WIDTH_PAIRS):
            parents = [lab.train(mlp(width), train, seed=2 * pair + offset) for offset in (1, 2)]
            ends = [score(load_directory(parent), test).accuracy for parent in parents]
            naive, aligned = (
                score(lab.merge(weighted(0.5, align=align), parents), test).accuracy for align in (False, True)
            )
            found[width].append((min(ends), naive, aligned))
    return found


def draw_widths(found: Mapping[int, Sequence[tuple[float, float, float]]]) -> None:
    """Midpoints against the width of the hidden layers."""
    lines = []
    for index, name in enumerate(["worse end", "midpoint as they are", "midpoint aligned"]):
        columns = [[pair[index] for pair in found[width]] for width in WIDTHS]
        points = [(float(np.log2(width)), fmean(column)) for width, column in zip(WIDTHS, columns, strict=True)]
        lines.append(Line(name, points, [(min(column), max(column)) for column in columns]))
    svg = line_chart(
        "Perceptrons of two seeds: the wider, the better they align",
        ("units in each of the two hidden layers", "accuracy"),
        lines,
        x_ticks=[(float(np.log2(width)), str(width)) for width in WIDTHS],
        y_range=(0.0, 1.0),
    )
    (DOCS / "merging" / "width.svg").write_text(svg)


def start_table(lab: Lab) -> str:
    """What the initialisation does to alignment: two perceptrons of width 256, started narrow and wide."""
    train, test = split_once()
    lines = ["| weights start as | worse end | midpoint | midpoint, aligned |", "|---|---|---|---|"]
    schemes: dict[InitScheme, str] = {"default": "U(±1/√fan_in), torch's own", "he_normal": "N(0, 2/fan_in), He"}
    for init, label in schemes.items():
        plan = Hyperparameters(epochs=EPOCHS, init=init)
        ends, naive, aligned = [], [], []
        for pair in range(PAIRS):
            parents = [lab.train(mlp(256), train, seed=2 * pair + offset, plan=plan) for offset in (1, 2)]
            ends.append(min(score(load_directory(parent), test).accuracy for parent in parents))
            naive.append(score(lab.merge(weighted(0.5), parents), test).accuracy)
            aligned.append(score(lab.merge(weighted(0.5, align=True), parents), test).accuracy)
        lines.append(f"| {label} | {spread(ends)} | {spread(naive)} | {spread(aligned)} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Candidate:
    """A method with the one coefficient that is searched; `recipe` makes it from a value of the grid."""

    name: str
    symbol: str
    grid: Sequence[float]
    recipe: Callable[[float], Recipe]
    base: bool = True


def scaled(method: str, top: float = 1.6, *, each: Sequence[str] = (), **values: float) -> Candidate:
    """A method with a factor on what it adds to the base."""
    grid = [round(0.1 * step, 1) for step in range(1, round(top * 10) + 1)]
    return Candidate(
        method,
        "λ",
        grid,
        lambda value: Recipe(method, {**values, "lambda": value}, {name: [1.0, 1.0] for name in each}),
    )


def with_density(method: str, density: float, **values: float) -> Candidate:
    """A method that keeps a share of each difference."""
    grid = [round(0.1 * step, 1) for step in range(1, 21)]
    return Candidate(
        method,
        "λ",
        grid,
        lambda value: Recipe(method, {**values, "lambda": value}, {"weight": [1.0, 1.0], "density": [density] * 2}),
    )


CANDIDATES = [
    Candidate("linear", "λ", LAMBDAS, weighted, base=False),
    Candidate("slerp", "t", LAMBDAS, lambda value: Recipe("slerp", {"t": value}), base=False),
    Candidate("karcher", "", [0.0], lambda _: Recipe("karcher"), base=False),
    scaled("task_arithmetic", each=["weight"]),
    with_density("ties", 0.5),
    with_density("dare_linear", 0.5),
    with_density("dare_ties", 0.5),
    with_density("breadcrumbs", 0.5),
    with_density("della", 0.5),
    scaled("consensus_ta", each=["weight"]),
    Candidate("sce", "", [0.0], lambda _: Recipe("sce")),
    Candidate("ram", "", [0.0], lambda _: Recipe("ram")),
    Candidate("model_stock", "", [0.0], lambda _: Recipe("model_stock")),
    scaled("tsvm"),
    scaled("iso_c", 3.0),
    scaled("iso_cts", 3.0),
    scaled("svc", each=["weight"]),
    Candidate("wudi", "", [0.0], lambda _: Recipe("wudi")),
]


@dataclass(frozen=True)
class Outcome:
    """A model of the comparison, judged once on the test images."""

    name: str
    chosen: str
    validation: Score
    test: Score
    group: int


def two_teams(lab: Lab) -> tuple[list[Outcome], list[tuple[float, Score, Score]]]:
    """Base, parents, one trained on everything, and each method's best by the validation images; and a λ sweep."""
    split = teams.split_digits()
    config = parse_config(teams.ARCHITECTURE)
    base = lab.train(
        config, split.base, seed=1, plan=Hyperparameters(Optimizer(name="adam", lr=0.003), epochs=15, batch_size=32)
    )
    parents = {
        name: lab.train(config, rows, seed=ord(name), start=base, plan=teams.TEAM_PLAN)
        for name, rows in (("a", split.team_a), ("b", split.team_b))
    }
    both = lab.train(config, np.concatenate([split.team_a, split.team_b]), seed=7, start=base, plan=teams.TEAM_PLAN)

    def judged(name: str, model: Model, chosen: str, group: int) -> Outcome:
        return Outcome(name, chosen, score(model, split.validation), score(model, split.test), group)

    outcomes = [
        judged("base", load_directory(base), "", 0),
        judged("team A", load_directory(parents["a"]), "", 0),
        judged("team B", load_directory(parents["b"]), "", 0),
        judged("trained on all the data", load_directory(both), "", 2),
    ]
    sweep: list[tuple[float, Score, Score]] = []
    for candidate in CANDIDATES:
        merged = {value: merge_teams(lab, candidate, value, parents, base) for value in candidate.grid}
        scores = {value: score(model, split.validation) for value, model in merged.items()}
        # The lowest loss decides: accuracy on 360 images is equal for many coefficients.
        best = min(scores, key=lambda value: scores[value].loss)
        chosen = f"{candidate.symbol} = {best:g}" if candidate.symbol else ""
        outcomes.append(judged(candidate.name, merged[best], chosen, 1))
        if candidate.name == "task_arithmetic":
            sweep = [(value, scores[value], score(model, split.test)) for value, model in merged.items()]
    return outcomes, sweep


def merge_teams(lab: Lab, candidate: Candidate, value: float, parents: Mapping[str, Path], base: Path) -> Model:
    """The teams' models merged by a candidate; slerp walks from team A's model, its base, to team B's."""
    recipe = candidate.recipe(value)
    if candidate.name == "slerp":
        return lab.merge(recipe, [parents["b"]], parents["a"])
    return lab.merge(recipe, [parents["a"], parents["b"]], base if candidate.base else None)


def draw_teams(outcomes: Sequence[Outcome], best: Outcome) -> None:
    """Every model's accuracy on the test images."""
    ranked = [*outcomes[:4], *sorted(outcomes[4:], key=lambda one: -one.test.accuracy)]
    svg = interval_chart(
        "Two teams: what each method makes of their models",
        "accuracy on 540 test images with 95 % intervals; dashed: the better parent",
        [Row(one.name, one.test.accuracy, *one.test.interval, one.group) for one in ranked],
        groups=["base and parents", "merged", "trained on all the data"],
        x_range=(0.7, 1.0),
        mark=best.test.accuracy,
    )
    (DOCS / "merging" / "teams.svg").write_text(svg)


def draw_sweep(sweep: Sequence[tuple[float, Score, Score]]) -> None:
    """Task arithmetic: accuracy against λ on the validation and on the test images."""
    lines = []
    for index, name in ((1, "360 validation images"), (2, "540 test images")):
        scores: list[tuple[float, Score]] = [(one[0], one[1] if index == 1 else one[2]) for one in sweep]
        lines.append(
            Line(name, [(at, found.accuracy) for at, found in scores], [found.interval for _, found in scores])
        )
    svg = line_chart(
        "Task arithmetic of the two teams: base + λ·(δA + δB), with 95 % intervals",
        ("λ", "accuracy"),
        lines,
        x_ticks=[(at, f"{at:g}") for at, _, _ in sweep],
        y_range=(0.5, 1.0),
    )
    (DOCS / "merging" / "sweep.svg").write_text(svg)


def team_table(outcomes: Sequence[Outcome], best: Outcome) -> str:
    """Every model on the test images, beside the better parent on the same images."""
    lines = [
        "| model | chosen on validation | test accuracy | minus the better parent | McNemar p |",
        "|---|---|---|---|---|",
    ]
    for one in outcomes:
        low, high = one.test.interval
        cells = f"{one.test.accuracy:.3f} [{low:.3f}, {high:.3f}]"
        versus = "– | –"
        if one is not best:
            found: Comparison = compare(one.test.correct, best.test.correct)
            versus = f"{found.difference:+.3f} [{found.lo:+.3f}, {found.hi:+.3f}] | {found.p_value:.2g}"
        lines.append(f"| {one.name} | {one.chosen or '–'} | {cells} | {versus} |")
    return "\n".join(lines)


def write_tables(tables: Mapping[str, str]) -> None:
    """Puts each table between its marks in the page."""
    page = DOCS / "merging.md"
    text = page.read_text()
    for name, table in tables.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = marks.sub(rf"\g<1>{table}\n\g<2>", text)
    page.write_text(text)


def main() -> None:
    """Trains, merges, draws and writes."""
    torch.set_num_threads(1)
    (DOCS / "merging").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        lab = Lab(Path(place))
        both = {"MLP 64-256-256-10": curves(lab, mlp(256)), "CNN 32-64, fc 128": curves(lab, cnn())}
        draw_curves("mlp", "Perceptron: accuracy along the line between two models", both["MLP 64-256-256-10"], 0.75)
        draw_curves("cnn", "Convolutional network: accuracy between two models", both["CNN 32-64, fc 128"], 0.0)
        print(curve_table(both), flush=True)
        draw_widths(width_study(lab))
        starts = start_table(lab)
        print(starts, flush=True)
        outcomes, sweep = two_teams(lab)
        # The better one on the test images: a choice in the parents' favour.
        best = max(outcomes[1:3], key=lambda one: one.test.accuracy)
        draw_teams(outcomes, best)
        draw_sweep(sweep)
        print(team_table(outcomes, best))
        write_tables({"curves": curve_table(both), "starts": starts, "teams": team_table(outcomes, best)})


if __name__ == "__main__":
    main()
