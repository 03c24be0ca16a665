"""Classification metrics and their 95 % intervals as pure functions of labels, predictions and scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEVEL = 0.95
RESAMPLES = 1000
# Two-sided normal quantile of LEVEL.
_Z = 1.959963984540054
# Cells of resampling weights held at once (8 bytes each).
_BLOCK = 4_000_000


def confusion_matrix(labels: Ints, predicted: Ints, classes: int) -> Ints:
    """Counts, shape (classes, classes): row = true class, column = predicted class."""
    cells = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def softmax(logits: Floats) -> Floats:
    """Probabilities (n, k) of logits (n, k)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion; `n` ≥ 1."""
    share = successes / n
    z2 = _Z * _Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return max(0.0, low), min(1.0, high)


def macro_scores(hits: Floats, support: Floats, predicted: Floats) -> Floats:
    """Macro precision, recall and F1, shape (…, 3), of counts per class (…, k).

    The mean is over the classes that occur among labels or predictions; a ratio with denominator 0 counts as 0.
    """
    present = (support + predicted) > 0
    number = np.maximum(present.sum(axis=-1), 1)

    def mean(numerator: Floats, denominator: Floats) -> Floats:
        ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
        return np.asarray(ratio.sum(axis=-1) / number)

    return np.stack(
        [mean(hits, predicted), mean(hits, support), mean(2 * hits, support + predicted)],
        axis=-1,
    )


def macro_scores_of(confusion: Ints) -> Floats:
    """`macro_scores`, shape (3,), of a confusion matrix (k, k)."""
    counts = confusion.astype(np.float64)
    return macro_scores(np.diagonal(counts).copy(), counts.sum(axis=1), counts.sum(axis=0))


def bootstrap_macro_scores(confusion: Ints, seed: int, resamples: int = RESAMPLES) -> Floats:
    """`macro_scores` of `resamples` bootstrap samples, shape (resamples, 3).

    Drawing samples with replacement and counting them into cells is drawing the cells from a multinomial, so only
    the occupied cells are drawn, however many samples there are.
    """
    classes = confusion.shape[0]
    rows, columns = np.nonzero(confusion)
    n = int(confusion.sum())
    draws = np.random.default_rng(seed).multinomial(n, confusion[rows, columns] / n, size=resamples)
    hits, support, predicted = (np.zeros((resamples, classes)) for _ in range(3))
    for cell, (row, column) in enumerate(zip(rows, columns, strict=True)):
        support[:, row] += draws[:, cell]
        predicted[:, column] += draws[:, cell]
        if row == column:
            hits[:, row] += draws[:, cell]
    return macro_scores(hits, support, predicted)


def macro_auc(labels: Ints, scores: Floats, weights: Floats) -> Floats:
    """One-vs-rest ROC-AUC averaged over classes, shape (b,), for sample weights (b, n) and scores (n, k).

    Ties count one half. A class without positive or negative weight is left out of the mean; NaN when none is left.
    """
    total = np.zeros(len(weights))
    counted = np.zeros(len(weights))
    for index in range(scores.shape[1]):
        positive = labels == index
        if not positive.any() or positive.all():
            continue
        order = np.argsort(scores[:, index], kind="stable")
        ranked = scores[order, index]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        sorted_weights = weights[:, order]
        positives = np.add.reduceat(sorted_weights * positive[order], starts, axis=1)
        negatives = np.add.reduceat(sorted_weights, starts, axis=1) - positives
        below = np.cumsum(negatives, axis=1) - negatives / 2
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        defined = pairs > 0
        area = (positives * below).sum(axis=1)
        total += np.divide(area, pairs, out=np.zeros_like(area), where=defined)
        counted += defined
    return np.divide(total, counted, out=np.full_like(total, np.nan), where=counted > 0)


def bootstrap_auc(labels: Ints, scores: Floats, seed: int, resamples: int = RESAMPLES) -> Floats:
    """`macro_auc` of `resamples` bootstrap samples, without those in which it is undefined."""
    n = len(labels)
    rng = np.random.default_rng(seed)
    share = np.full(n, 1 / n)
    block = max(1, _BLOCK // n)
    areas = [
        macro_auc(labels, scores, rng.multinomial(n, share, size=min(block, resamples - start)).astype(np.float64))
        for start in range(0, resamples, block)
    ]
    values = np.concatenate(areas)
    return np.asarray(values[np.isfinite(values)])


def percentile_interval(values: Floats) -> tuple[float, float]:
    """The middle 95 % of bootstrap values."""
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def classification_metrics(labels: Ints, logits: Floats, seed: int) -> list[dict[str, Any]]:
    """Every metric of a run with n and interval, as the record carries them.

    `labels` (n,) class indices, `logits` (n, k). ROC-AUC is left out when all samples are of one class.
    """
    n, classes = logits.shape
    predicted = logits.argmax(axis=1)
    confusion = confusion_matrix(labels, predicted, classes)
    correct = int(np.diagonal(confusion).sum())
    metrics = [_entry("accuracy", correct / n, n, wilson(correct, n), "wilson")]
    points = macro_scores_of(confusion)
    draws = bootstrap_macro_scores(confusion, seed)
    for index, name in enumerate(("precision", "recall", "f1")):
        interval = percentile_interval(draws[:, index])
        metrics.append(_entry(name, float(points[index]), n, interval, "bootstrap"))
    scores = softmax(logits)
    area = float(macro_auc(labels, scores, np.ones((1, n)))[0])
    if math.isfinite(area):
        interval = percentile_interval(bootstrap_auc(labels, scores, seed))
        metrics.append(_entry("roc_auc", area, n, interval, "bootstrap"))
    return metrics


def _entry(metric: str, value: float, n: int, interval: tuple[float, float], method: str) -> dict[str, Any]:
    ci = {"level": LEVEL, "lo": interval[0], "hi": interval[1], "method": method}
    return {"metric": metric, "value": value, "n": n, "ci": ci, "higher_is_better": True}
