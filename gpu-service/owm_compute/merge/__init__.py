"""Merging: one file per family of methods."""
