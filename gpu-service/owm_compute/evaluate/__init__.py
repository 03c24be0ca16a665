"""Evaluation of classifiers and the statistics around it, usable as a library."""

from owm_compute.evaluate.classification import Evaluation, evaluate_classifier
from owm_compute.evaluate.comparison import Comparison, compare, read_correct

__all__ = ["Comparison", "Evaluation", "compare", "evaluate_classifier", "read_correct"]
