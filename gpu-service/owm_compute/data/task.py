"""`task.json`: what a data set asks a model to do."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from owm_compute.errors import ComputeError

MAX_TASK_BYTES = 4_000_000
ColumnName = Annotated[str, Field(min_length=1, max_length=200)]


class Task(BaseModel):
    """A checked classification task."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    task: Annotated[str, Field(min_length=1, max_length=200)]
    version: Annotated[str, Field(min_length=1, max_length=50)]
    kind: Literal["classification"]
    modality: Literal["image", "tabular"]
    target: ColumnName
    id: ColumnName
    features: Annotated[list[ColumnName], Field(min_length=1, max_length=65_536)]
    classes: Annotated[list[ColumnName], Field(min_length=2, max_length=10_000)]
    scale: float = 1.0
    image_size: Annotated[list[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=2, max_length=2)] | None = None
    splits: dict[str, str]
    title: str | None = None
    description: str | None = None
    source: str | None = None
    license: str | None = None
    citation: str | None = None

    def identity(self) -> dict[str, str]:
        """What a record says of the task."""
        return {"id": self.task, "version": self.version, "kind": self.kind}

    def require_split(self, split: str, field: str = "spec.split") -> None:
        """Raises `dataset_mismatch` when the task has no such split."""
        if split not in self.splits:
            raise ComputeError(
                "dataset_mismatch",
                f"the task has no split {split!r}",
                field=field,
                fix=f"use one of {', '.join(sorted(self.splits))}",
            )


def parse_task(raw: bytes, *, field: str = "task.json") -> Task:
    """A checked task from the bytes of `task.json`; raises `ComputeError` (`task_invalid`)."""
    if len(raw) > MAX_TASK_BYTES:
        raise ComputeError("task_invalid", f"the file is larger than {MAX_TASK_BYTES} bytes", field=field)
    try:
        document = json.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ComputeError("task_invalid", f"the file is no JSON: {error}", field=field) from None
    try:
        task = Task.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join([field, *(str(part) for part in first["loc"])])
        raise ComputeError("task_invalid", first["msg"], field=place) from None
    for name, values in (("features", task.features), ("classes", task.classes)):
        if len(set(values)) != len(values):
            raise ComputeError("task_invalid", f"{name} has the same entry twice", field=f"{field}.{name}")
    if {task.target, task.id} & set(task.features) or task.target == task.id:
        raise ComputeError("task_invalid", "target, id and features must be different columns", field=field)
    if task.image_size is not None and len(task.features) % (task.image_size[0] * task.image_size[1]):
        raise ComputeError(
            "task_invalid",
            "the features do not fill whole channels of image_size",
            field=f"{field}.image_size",
        )
    return task
