"""The tokens of a `tokenizer.json`, read as data: nothing of it is run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from owm_compute.errors import ComputeError

MAX_TOKENIZER_BYTES = 256 * 2**20
MAX_TOKENS = 4_000_000


@dataclass(frozen=True)
class Vocabulary:
    """Token → id of a model, with the definitions of its added tokens by content; `document` is the whole file."""

    label: str
    ids: dict[str, int]
    added: dict[str, dict[str, Any]]
    document: dict[str, Any]

    @property
    def size(self) -> int:
        """Rows that the ids need: the highest id and one."""
        return max(self.ids.values(), default=-1) + 1


def read_vocabulary(path: Path, label: str, rows: int | None) -> Vocabulary:
    """The vocabulary of a model whose embedding has `rows` rows; tokens beyond them have no row and are left out.

    Raises `ComputeError` (`tokenizer_invalid`) for a file that is no tokenizer, or is larger than any.
    """
    if path.stat().st_size > MAX_TOKENIZER_BYTES:
        raise _invalid(label, f"is larger than {MAX_TOKENIZER_BYTES} bytes")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _invalid(label, f"is no JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise _invalid(label, "has no model")
    ids = _model_ids(document["model"], label)
    added: dict[str, dict[str, Any]] = {}
    for entry in document.get("added_tokens") or []:
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise _invalid(label, "has an added token without content")
        ids[entry["content"]] = _checked_id(entry.get("id"), label)
        added[entry["content"]] = entry
    kept = {token: number for token, number in ids.items() if rows is None or number < rows}
    return Vocabulary(label, kept, {token: entry for token, entry in added.items() if token in kept}, document)


def _model_ids(model: dict[str, Any], label: str) -> dict[str, int]:
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        return {token: _checked_id(number, label) for token, number in vocabulary.items()}
    # A unigram model lists [token, score] in the order of ids.
    if isinstance(vocabulary, list) and all(isinstance(entry, list) and entry for entry in vocabulary):
        return {str(entry[0]): number for number, entry in enumerate(vocabulary)}
    raise _invalid(label, "has a model without vocabulary")


def _checked_id(number: object, label: str) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < MAX_TOKENS:
        raise _invalid(label, f"has a token id {number!r}")
    return number


def _invalid(label: str, problem: str) -> ComputeError:
    return ComputeError(
        "tokenizer_invalid",
        f"tokenizer.json of {label} {problem}",
        field=label,
        fix="publish a tokenizer.json as the tokenizers library writes it",
    )
