"""A pipeline as one source: the models in its folders, their tensors called `folder/name`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from owm_compute.tensors.operand import Operand, Source


class Folders(Source):
    """Sources by the folder that they lie in."""

    def __init__(self, folders: Mapping[str, Source], *, label: str) -> None:
        self._folders = dict(folders)
        self.label = label

    def __getitem__(self, name: str) -> Operand:
        folder, _, rest = name.partition("/")
        return self._folders[folder][rest]

    def __iter__(self) -> Iterator[str]:
        for folder, source in self._folders.items():
            yield from (f"{folder}/{name}" for name in source)

    def __len__(self) -> int:
        return sum(map(len, self._folders.values()))

    def close(self) -> None:
        """Releases all of them."""
        for source in self._folders.values():
            source.close()
