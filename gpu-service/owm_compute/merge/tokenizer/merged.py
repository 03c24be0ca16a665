"""Decides the output's vocabulary and the embedding row of each of its tokens in every model (merging of tokenizers).

A token that a model lacks takes the base's row, else the mean over the models that have it (the only owner's row where
there is one). Tokens of other models are appended behind the base's, as added tokens: merge rules are not combined.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from owm_compute.errors import ComputeError
from owm_compute.merge.program import SourceSpec, TokenizerSpec, TokenSource
from owm_compute.merge.tokenizer.rows import MappedRows, Rows
from owm_compute.merge.tokenizer.vocabulary import Vocabulary, read_vocabulary
from owm_compute.tensors.operand import Operand, Overlay, Source

TOKENIZER = "tokenizer.json"
_CONFIG = "tokenizer_config.json"


@dataclass(frozen=True)
class MergedTokenizer:
    """Sources whose embeddings follow the output's vocabulary; its number of rows; its files by name; what to know."""

    sources: list[Source]
    rows: int
    files: dict[str, bytes]
    notes: list[str]


def merge_tokenizers(
    spec: TokenizerSpec, specs: Sequence[SourceSpec], sources: Sequence[Source], path: Callable[[str], Path]
) -> MergedTokenizer:
    """Maps the embeddings named in `spec.embeddings` of every source that has a tokenizer; `path` finds an input.

    Raises `ComputeError`: `tokenizer_missing` or `tokenizer_invalid` with the model, `tokenizer_mismatch` for a token
    source that names a token or an id that its model lacks.
    """
    vocabularies = [_read(source, of, spec, path) for source, of in zip(sources, specs, strict=True)]
    names, notes = _output_vocabulary(spec, vocabularies)
    order = sorted(names, key=names.__getitem__)
    size = max(names.values(), default=-1) + 1
    step = spec.pad_to_multiple_of or 1
    rows = -(-size // step) * step
    own = [_own_rows(vocabulary, names, size) for vocabulary in vocabularies]
    donors = _donor_rows(spec, own, names, vocabularies)
    forced = [names[entry.token] for entry in spec.tokens if entry.force]
    mapped: list[Source] = []
    for index, source in enumerate(sources):
        mine = own[index].copy()
        mine[forced] = -1
        replaced: dict[str, Operand] = {
            name: MappedRows(source[name], mine, _owners(name, sources, donors), rows)
            for name in spec.embeddings
            if name in source and not _is_kept(source[name], mine, rows)
        }
        mapped.append(Overlay(source, replaced))
    orphans = [token for token in order if all(own_rows[names[token]] < 0 for own_rows in own)]
    listed = {entry.token for entry in spec.tokens}
    if unexplained := [token for token in orphans if token not in listed]:
        notes.append(f"no model has a row for {unexplained[:10]}: these are zeros")
    donor = spec.base if isinstance(spec.source, str) else spec.source
    return MergedTokenizer(mapped, rows, _files(donor, specs, vocabularies, names, path), notes)


def _read(source: Source, of: SourceSpec, spec: TokenizerSpec, path: Callable[[str], Path]) -> Vocabulary:
    name = of.tokenizer.get(TOKENIZER)
    if name is None:
        raise ComputeError(
            "tokenizer_missing",
            f"{of.label} has no {TOKENIZER}",
            field=of.label,
            fix="publish the model with its fast tokenizer, or leave the tokenizer section out",
        )
    rows = [source[tensor].shape[0] for tensor in spec.embeddings if tensor in source]
    return read_vocabulary(path(name), of.label, min(rows, default=None) if rows else None)


def _output_vocabulary(spec: TokenizerSpec, vocabularies: Sequence[Vocabulary]) -> tuple[dict[str, int], list[str]]:
    """Token → id of the output: the donor's ids stay, what is appended follows in the order of models and ids."""
    donor = vocabularies[spec.base if isinstance(spec.source, str) else spec.source]
    names = dict(donor.ids)
    notes: list[str] = []
    following = donor.size
    others = [vocabulary for vocabulary in vocabularies if vocabulary is not donor] if spec.source == "union" else []
    for vocabulary in others:
        for token in sorted(vocabulary.ids, key=vocabulary.ids.__getitem__):
            if token not in names:
                names[token] = following
                following += 1
    for token in {token for vocabulary in others for token in vocabulary.added}:
        definitions = {
            json.dumps({**vocabulary.added[token], "id": 0}, sort_keys=True)
            for vocabulary in vocabularies
            if token in vocabulary.added
        }
        if len(definitions) > 1:
            notes.append(f"the models define {token!r} differently: the first definition is kept")
    for entry in spec.tokens:
        if entry.token not in names:
            names[entry.token] = following
            following += 1
    return names, sorted(notes)


def _own_rows(vocabulary: Vocabulary, names: dict[str, int], size: int) -> Rows:
    rows = np.full(size, -1, dtype=np.int64)
    shared = [token for token in vocabulary.ids if token in names]
    rows[[names[token] for token in shared]] = [vocabulary.ids[token] for token in shared]
    return rows


def _donor_rows(
    spec: TokenizerSpec, own: Sequence[Rows], names: dict[str, int], vocabularies: Sequence[Vocabulary]
) -> list[Rows]:
    """Which rows a token that a model lacks is made of: those of the base alone where the base has it."""
    donors = [rows.copy() for rows in own]
    base_has = own[spec.base] >= 0
    for index, rows in enumerate(donors):
        if index != spec.base:
            rows[base_has] = -1
    for entry in spec.tokens:
        if entry.kind == "model_token" or entry.kind == "zero":
            for rows in donors:
                rows[names[entry.token]] = -1
        if entry.kind == "model_token":
            model = spec.base if entry.model is None else entry.model
            donors[model][names[entry.token]] = _row_of(entry, vocabularies[model])
    return donors


def _row_of(entry: TokenSource, vocabulary: Vocabulary) -> int:
    row = entry.model_id if entry.model_id is not None else vocabulary.ids.get(entry.model_token or entry.token)
    if row is None or row >= vocabulary.size:
        raise ComputeError(
            "tokenizer_mismatch",
            f"{vocabulary.label} has no token {entry.model_token or entry.token if row is None else row!r}",
            field=f"tokenizer.tokens.{entry.token}",
            fix="name a token or an id that the model has",
        )
    return row


def _is_kept(operand: Operand, own: Rows, rows: int) -> bool:
    """Whether every row stays where it is, so that the tensor is read as it lies."""
    return operand.shape[0] == rows == len(own) and bool(np.array_equal(own, np.arange(rows)))


def _owners(name: str, sources: Sequence[Source], donors: Sequence[Rows]) -> list[tuple[Operand, Rows]]:
    return [(source[name], rows) for source, rows in zip(sources, donors, strict=True) if name in source]


def _files(
    donor: int,
    specs: Sequence[SourceSpec],
    vocabularies: Sequence[Vocabulary],
    names: dict[str, int],
    path: Callable[[str], Path],
) -> dict[str, bytes]:
    """The donor's tokenizer files, with what was appended as added tokens."""
    files = {name: path(item).read_bytes() for name, item in sorted(specs[donor].tokenizer.items())}
    known = vocabularies[donor].ids
    appended = sorted((number, token) for token, number in names.items() if token not in known)
    if not appended:
        return files
    entries = [_added(token, number, vocabularies) for number, token in appended]
    document = dict(vocabularies[donor].document)
    document["added_tokens"] = [*(document.get("added_tokens") or []), *entries]
    files[TOKENIZER] = _json(document)
    if _CONFIG in files:
        config = json.loads(files[_CONFIG])
        if isinstance(config, dict) and isinstance(config.get("added_tokens_decoder"), dict):
            config["added_tokens_decoder"] |= {
                str(entry["id"]): {key: value for key, value in entry.items() if key != "id"} for entry in entries
            }
            files[_CONFIG] = _json(config)
    return files


def _added(token: str, number: int, vocabularies: Sequence[Vocabulary]) -> dict[str, Any]:
    """The first model's definition of an added token, or one that matches the text as it is."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    defined = next((v.added[token] for v in vocabularies if token in v.added), {})
    return {"id": number, "content": token, **{key: defined.get(key, value) for key, value in plain.items()}}


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
