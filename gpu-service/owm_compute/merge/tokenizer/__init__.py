"""Merging vocabularies: the output's tokens, the row of each token in every model, and the tokenizer's files."""

from owm_compute.merge.tokenizer.merged import MergedTokenizer, merge_tokenizers

__all__ = ["MergedTokenizer", "merge_tokenizers"]
