"""Metrics and intervals against scikit-learn, scipy and their own definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from owm_compute.errors import ComputeError
from owm_compute.evaluate import compare
from owm_compute.evaluate.comparison import mcnemar_exact
from owm_compute.evaluate.metrics import (
    Floats,
    Ints,
    bootstrap_auc,
    bootstrap_macro_scores,
    classification_metrics,
    confusion_matrix,
    macro_auc,
    macro_scores_of,
    softmax,
    wilson,
)


def sample(seed: int, n: int, classes: int, skill: float = 1.0, decimals: int = 8) -> tuple[Ints, Floats]:
    """Labels and logits of a classifier of some skill; few decimals make ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)).round(decimals)
    logits[np.arange(n), labels] += skill
    return labels, logits


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 6), st.floats(0, 3))
def test_macro_scores_equal_scikit_learn(seed: int, n: int, classes: int, skill: float) -> None:
    labels, logits = sample(seed, n, classes, skill)
    predicted = logits.argmax(axis=1)
    wanted = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)[:3]
    assert np.allclose(macro_scores_of(confusion_matrix(labels, predicted, classes)), wanted, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(30, 80), st.integers(3, 5), st.sampled_from([0, 1, 8]))
def test_macro_auc_equals_scikit_learn_with_and_without_ties(seed: int, n: int, classes: int, decimals: int) -> None:
    labels, logits = sample(seed, n, classes, decimals=decimals)
    labels[:classes] = np.arange(classes)
    scores = softmax(logits)
    wanted = roc_auc_score(labels, scores, multi_class="ovr", average="macro")
    assert macro_auc(labels, scores, np.ones((1, n)))[0] == pytest.approx(wanted, abs=1e-12)


def test_weighted_auc_equals_scikit_learn() -> None:
    labels, logits = sample(1, 200, 4)
    scores = softmax(logits)
    weights = np.random.default_rng(2).integers(0, 4, (5, 200)).astype(np.float64)
    wanted = [
        np.mean([roc_auc_score(labels == k, scores[:, k], sample_weight=row) for k in range(4)]) for row in weights
    ]
    assert np.allclose(macro_auc(labels, scores, weights), wanted, atol=1e-12)


@settings(deadline=None)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_equals_scipy(case: tuple[int, int]) -> None:
    successes, n = case
    wanted = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_the_bootstrap_of_cells_has_the_spread_of_the_bootstrap_of_samples() -> None:
    labels, logits = sample(3, 300, 4)
    predicted = logits.argmax(axis=1)
    fast = bootstrap_macro_scores(confusion_matrix(labels, predicted, 4), seed=0, resamples=4000)
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 300, (2000, 300))
    slow = np.array([macro_scores_of(confusion_matrix(labels[row], predicted[row], 4)) for row in rows])
    assert np.allclose(fast.mean(axis=0), slow.mean(axis=0), atol=0.004)
    assert np.allclose(fast.std(axis=0), slow.std(axis=0), rtol=0.1)


def test_intervals_are_the_same_for_the_same_seed_and_hold_the_value() -> None:
    labels, logits = sample(5, 400, 5)
    first, again, other = (classification_metrics(labels, logits, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert [entry["metric"] for entry in first] == ["accuracy", "precision", "recall", "f1", "roc_auc"]
    for entry in first:
        assert entry["n"] == 400
        assert entry["ci"]["lo"] < entry["value"] < entry["ci"]["hi"]
        assert entry["ci"]["method"] == ("wilson" if entry["metric"] == "accuracy" else "bootstrap")


def test_auc_is_left_out_when_only_one_class_occurs() -> None:
    _, logits = sample(6, 20, 3)
    metrics = classification_metrics(np.zeros(20, dtype=np.int64), logits, 0)
    assert "roc_auc" not in [entry["metric"] for entry in metrics]


def test_auc_resamples_without_a_class_still_count_the_others() -> None:
    labels, logits = sample(7, 12, 3)
    labels[:3] = [0, 1, 2]
    labels[3:] = labels[3:] % 2
    values = bootstrap_auc(labels, softmax(logits), seed=0)
    assert len(values) > 900
    assert ((values >= 0) & (values <= 1)).all()


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_equals_the_exact_binomial_test(only_a: int, only_b: int) -> None:
    n = only_a + only_b
    wanted = binomtest(only_a, n).pvalue if n else 1.0
    assert mcnemar_exact(only_a, only_b) == pytest.approx(wanted, rel=1e-9)


def test_a_paired_comparison_is_sharper_than_two_intervals() -> None:
    rng = np.random.default_rng(0)
    a = {f"s{i}": bool(rng.random() < 0.9) for i in range(1000)}
    b = {name: right and rng.random() < 0.97 for name, right in a.items()}
    found = compare(a, b, seed=1)
    assert found == compare(a, b, seed=1)
    assert found.difference == pytest.approx(found.accuracy_a - found.accuracy_b)
    assert 0 < found.lo < found.difference < found.hi
    assert found.hi - found.lo < 0.5 * (wilson(900, 1000)[1] - wilson(900, 1000)[0]) * 2
    assert found.p_value < 1e-4


def test_runs_of_other_samples_are_not_compared() -> None:
    with pytest.raises(ComputeError, match="samples_differ"):
        compare({"a": True}, {"b": True})
    with pytest.raises(ComputeError, match="samples_differ"):
        compare({}, {})
