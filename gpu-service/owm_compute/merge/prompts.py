"""Prompts as vectors: the direction in a model's token embeddings that tells one expert's work from the others'."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.program import Program, PromptSpec, SourceSpec
from owm_compute.tensors.dtypes import FLOATS
from owm_compute.tensors.operand import Operand, Source
from owm_compute.tensors.torch_io import TORCH_DTYPES

_TOKENIZER = "tokenizer.json"
_MAX_TOKENIZER_BYTES = 200_000_000


class PromptVector:
    """Shape (hidden,), float32, of length 1: mean token embedding of the positive prompts minus that of the negative.

    Each prompt counts the same, whatever its length. The sums are float64 in a fixed order: the same on any machine.
    """

    def __init__(
        self, name: str, embedding: Operand, positive: Sequence[Sequence[int]], negative: Sequence[Sequence[int]]
    ) -> None:
        self.label = f"{embedding.label}: {name}"
        self.dtype, self.stored = "F32", embedding.stored
        self.shape = embedding.shape[1:]
        tokens = json.dumps([positive, negative])
        self.identity = f"{embedding.identity}|prompts {hashlib.sha256(tokens.encode()).hexdigest()}"
        direction = _mean_embedding(embedding, positive) - _mean_embedding(embedding, negative)
        length = math.sqrt(math.fsum((direction * direction).tolist()))
        if not math.isfinite(length) or length == 0:
            raise ComputeError(
                "prompts_cancel",
                f"the positive and negative prompts of {name} leave no direction",
                field=name,
                fix="give prompts that differ",
            )
        self._values = (direction / length).float()

    def read(self, start: int, out: torch.Tensor) -> None:
        """See `Operand.read`."""
        out.copy_(self._values[start : start + len(out)])


class PromptedSource(Source):
    """A model with prompt vectors, which are found by name but are none of the tensors that it lists as its own."""

    def __init__(self, source: Source, vectors: Mapping[str, Operand]) -> None:
        self.label = source.label
        self._source = source
        self._vectors = vectors

    def __getitem__(self, name: str) -> Operand:
        return self._vectors.get(name) or self._source[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._source)

    def __len__(self) -> int:
        return len(self._source)

    def close(self) -> None:
        """Releases the source below."""
        self._source.close()


def add_prompts(program: Program, sources: Sequence[Source], path: Callable[[str], Path]) -> list[Source]:
    """The sources with a `PromptVector` for each of the program's prompts; `path` is where an input lies.

    Raises `ComputeError`: `invalid_spec`, `tokenizer_missing`, `tokenizer_invalid`, `tokenizer_mismatch` (a token
    without an embedding), `tensor_missing`, `tensor_shape_mismatch`, or `prompts_cancel`.
    """
    added: dict[int, dict[str, Operand]] = {}
    for index, spec in enumerate(program.prompts):
        if spec.source >= len(sources):
            raise ComputeError("invalid_spec", f"there is no source {spec.source}", field=f"prompts.{index}.source")
        source, name = sources[spec.source], f"owm.prompts.{index}"
        embedding = _embedding(spec, source)
        positive, negative = (
            _token_ids(program.sources[spec.source], path, texts, embedding.shape[0])
            for texts in (spec.positive, spec.negative)
        )
        added.setdefault(spec.source, {})[name] = PromptVector(name, embedding, positive, negative)
    return [PromptedSource(source, added[index]) if index in added else source for index, source in enumerate(sources)]


def _embedding(spec: PromptSpec, source: Source) -> Operand:
    embedding = source.get(spec.embedding)
    if embedding is None:
        raise ComputeError("tensor_missing", f"{source.label} lacks tensor {spec.embedding!r}", field=spec.embedding)
    if len(embedding.shape) != 2 or embedding.dtype not in FLOATS:
        raise ComputeError(
            "tensor_shape_mismatch",
            f"tensor {spec.embedding!r} of shape {list(embedding.shape)} has no row a token",
            field=spec.embedding,
        )
    return embedding


def _token_ids(source: SourceSpec, path: Callable[[str], Path], texts: Sequence[str], rows: int) -> list[list[int]]:
    # Loaded here: few merges read prompts.
    from tokenizers import Tokenizer

    if _TOKENIZER not in source.tokenizer:
        raise ComputeError(
            "tokenizer_missing",
            f"{source.label} has no {_TOKENIZER}, which its prompts need",
            field=source.label,
            fix="publish the model with its fast tokenizer, or use gate_mode random",
        )
    file = path(source.tokenizer[_TOKENIZER])
    if file.stat().st_size > _MAX_TOKENIZER_BYTES:
        raise ComputeError("tokenizer_invalid", f"{_TOKENIZER} of {source.label} is too large", field=source.label)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:
        # The library has no exception class of its own.
        raise ComputeError(
            "tokenizer_invalid", f"{_TOKENIZER} of {source.label} can't be read: {error}", field=source.label
        ) from None
    found = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    for text, ids in zip(texts, found, strict=True):
        if not ids or max(ids) >= rows:
            raise ComputeError(
                "tokenizer_mismatch",
                f"the prompt {text[:80]!r} has no tokens with an embedding in {source.label}",
                field=source.label,
                fix="give a prompt of words that the model knows",
            )
    return found


def _mean_embedding(embedding: Operand, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    hidden = embedding.shape[1]
    row = torch.empty(hidden, dtype=TORCH_DTYPES[embedding.dtype])
    total = torch.zeros(hidden, dtype=torch.float64)
    for ids in prompts:
        prompt = torch.zeros(hidden, dtype=torch.float64)
        for token in ids:
            embedding.read(token * hidden, row)
            prompt += row.double()
        total += prompt / len(ids)
    return total / max(1, len(prompts))
