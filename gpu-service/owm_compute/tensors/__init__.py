"""Strict, streaming safetensors: headers are checked whole before a byte of data is believed."""
