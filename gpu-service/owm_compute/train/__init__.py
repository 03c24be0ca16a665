"""Training of small classifiers, usable as a library: `train_classifier(config, table, plan)`."""

from owm_compute.train.classifier import Hyperparameters, TrainedModel, train_classifier
from owm_compute.train.optimizers import Optimizer

__all__ = ["Hyperparameters", "Optimizer", "TrainedModel", "train_classifier"]
