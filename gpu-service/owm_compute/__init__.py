"""The compute service of OWM Hub: merges, evaluates and trains open-weight models."""

__version__ = "0.2.0"
