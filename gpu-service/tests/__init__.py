"""Tests of the compute service."""
