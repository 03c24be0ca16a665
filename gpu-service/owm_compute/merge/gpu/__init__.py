"""Merging on an NVIDIA GPU: one fused kernel, and the copies around it."""
