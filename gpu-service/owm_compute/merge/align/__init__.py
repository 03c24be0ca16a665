"""Alignment by permutation before a merge: hidden units of one model are reordered to fit those of another."""

from owm_compute.merge.align.aligned import AlignedSource, align_sources

__all__ = ["AlignedSource", "align_sources"]
