"""What edge and service must agree about: the table of merge methods."""

from __future__ import annotations

from pathlib import Path

from owm_compute.merge.catalog import render

ROOT = Path(__file__).resolve().parents[1]


def test_the_committed_table_of_methods_is_current() -> None:
    assert (ROOT / "methods.json").read_text() == render(), "run: python -m owm_compute methods > methods.json"
