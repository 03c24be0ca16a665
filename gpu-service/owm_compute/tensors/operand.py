"""What a merge reads: one tensor of one model, whatever it is stored as, delivered in pieces by element range."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Set
from types import TracebackType
from typing import Protocol, Self

import torch


class Operand(Protocol):
    """A tensor that can be read in pieces. Wrappers (an adapter, a permutation, a crop) are operands over operands.

    `dtype` is the safetensors name of the dtype that `read` delivers (`F32` for what is dequantised on the way);
    `stored` the one that a merge writes when its recipe names none (`BF16` for fp8 with block scales).
    `identity` changes whenever the values do: a digest of the file with the tensor's name, and of every wrapper.
    """

    @property
    def label(self) -> str:
        """The model and the tensor, for messages."""

    @property
    def dtype(self) -> str:
        """Dtype of the values as read."""

    @property
    def stored(self) -> str:
        """Dtype of the values when written again."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values as read."""

    @property
    def identity(self) -> str:
        """Names the values: equal identities mean equal bytes."""

    def read(self, start: int, out: torch.Tensor) -> None:
        """Fills `out`, 1-D, contiguous, on the CPU, of dtype `dtype`, with the elements from flat index `start` on.

        Called from several threads at once. The values do not depend on how a tensor is cut into reads.
        """


def derived(*parts: object) -> str:
    """Identity of an operand made from others: a digest of their identities and of what was done."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Source(Mapping[str, Operand]):
    """The tensors of a model by name; `label` names the model in messages. Close it when the merge is done."""

    label: str
    exact: bool = True
    """Whether its values are the same on any machine: not where linear algebra had a part in them."""

    def close(self) -> None:
        """Releases files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Collection(Source):
    """A source that has all its operands at hand."""

    def __init__(self, label: str, operands: Mapping[str, Operand]) -> None:
        self.label = label
        self._operands = operands

    def __getitem__(self, name: str) -> Operand:
        return self._operands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._operands)

    def __len__(self) -> int:
        return len(self._operands)


class Overlay(Source):
    """A source with some of its operands replaced, added or (`hidden`) left out; the rest is passed through."""

    def __init__(self, source: Source, replaced: Mapping[str, Operand], hidden: Set[str] = frozenset()) -> None:
        self._source = source
        self._replaced = dict(replaced)
        self._hidden = {name for name in hidden if name in source}
        self._added = [name for name in self._replaced if name not in source]
        self.label = source.label
        self.exact = source.exact

    def __getitem__(self, name: str) -> Operand:
        if name in self._hidden:
            raise KeyError(name)
        return self._replaced.get(name) or self._source[name]

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self._source if name not in self._hidden)
        yield from self._added

    def __len__(self) -> int:
        return len(self._source) - len(self._hidden) + len(self._added)

    def close(self) -> None:
        """Releases the source below."""
        self._source.close()
