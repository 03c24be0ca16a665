"""Turns a program and its opened sources into tasks: names, shapes and dtypes are checked before a byte is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Importing the package is what registers the methods that a program may name.
import owm_compute.merge.methods  # noqa: F401
from owm_compute.errors import ComputeError
from owm_compute.merge.method import Method, bind, find_method
from owm_compute.merge.program import Operation, OutputSpec, Program, Settings, TensorOp
from owm_compute.tensors.crop import CroppedOperand
from owm_compute.tensors.dtypes import EXACT, FLOATS
from owm_compute.tensors.operand import Operand, Source
from owm_compute.tensors.writer import TensorSpec


@dataclass(frozen=True)
class Task:
    """One tensor of the output: what is read, by which method with which settings, and what is written."""

    name: str
    method: Method
    settings: Settings
    models: tuple[Operand, ...]
    base: Operand | None
    seed: int
    spec: TensorSpec

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Models, then the base."""
        return self.models if self.base is None else (*self.models, self.base)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of every operand."""
        return self.operands[0].shape

    @property
    def is_exact(self) -> bool:
        """Whether the tensor holds integers or bools, which are not merged but must agree."""
        return self.operands[0].dtype in EXACT

    @property
    def bound(self) -> dict[str, object]:
        """Keyword arguments of the method."""
        return bind(self.method, self.settings.values, self.settings.each, len(self.models))


@dataclass(frozen=True)
class OutputFile:
    """A safetensors file to write, tensor by tensor."""

    path: str
    tasks: tuple[Task, ...]

    def stored_name(self, task: Task) -> str:
        """What the file calls a tensor: its name without the folder that the file lies in."""
        return task.name.removeprefix(_folder(self.path))


def _folder(path: str) -> str:
    """With its slash; empty for the root."""
    return path[: path.rfind("/") + 1]


def resolve(program: Program, sources: Sequence[Source]) -> list[OutputFile]:
    """The output files of a program over its opened sources.

    Raises `ComputeError`: `tensor_missing`, `tensor_shape_mismatch`, `tensor_dtype_mismatch`, `unknown_method` or
    `invalid_spec`, with the tensor as `field`.
    """
    methods = [_checked_method(operation) for operation in program.operations]
    files = []
    for file in program.files:
        tasks = tuple(_task(program, sources, op, methods[op.operation]) for op in _tensor_ops(program, sources, file))
        if stray := next((task.name for task in tasks if not task.name.startswith(_folder(file.path))), None):
            raise ComputeError("invalid_spec", f"{stray!r} is no tensor of the folder of {file.path}", field=stray)
        files.append(OutputFile(file.path, tasks))
    return files


def _tensor_ops(program: Program, sources: Sequence[Source], file: OutputSpec) -> list[TensorOp]:
    if file.every is None:
        return file.tensors
    source = sources[program.operations[file.every].models[0]]
    return [TensorOp(name=name, operation=file.every, names=[]) for name in source]


def _checked_method(operation: Operation) -> Method:
    method = find_method(operation.method)
    count, has_base = len(operation.models), operation.base is not None
    if count < method.least or (method.most is not None and count > method.most):
        most = "or more" if method.most is None else f"to {method.most}"
        raise ComputeError("invalid_spec", f"{method.name} takes {method.least} {most} models, not {count}")
    if has_base != (method.base in ("required", "endpoint")) and method.base != "optional":
        raise ComputeError("invalid_spec", f"{method.name} {'takes no' if has_base else 'needs a'} base model")
    return method


def _task(program: Program, sources: Sequence[Source], op: TensorOp, method: Method) -> Task:
    operation = program.operations[op.operation]
    settings = program.settings[operation.settings]
    indices = [*operation.models, *([] if operation.base is None else [operation.base])]
    names = op.names if len(op.names) > 1 else [op.names[0] if op.names else op.name] * len(indices)
    if len(names) != len(indices):
        raise ComputeError("invalid_spec", f"{op.name!r} needs {len(indices)} names", field=op.name)
    found = [sources[index].get(name) for index, name in zip(indices, names, strict=True)]
    count = len(operation.models)
    for index, name, operand in zip(indices, names, found, strict=True):
        if operand is None and not op.optional:
            raise ComputeError("tensor_missing", f"{sources[index].label} lacks tensor {name!r}", field=op.name)
    present = [i for i in range(count) if found[i] is not None]
    if op.optional and len(present) < count:
        settings = Settings(
            values=settings.values,
            each={name: [numbers[i] for i in present] for name, numbers in settings.each.items()},
        )
    models = tuple(operand for operand in found[:count] if operand is not None)
    base = found[count] if operation.base is not None else None
    if len(models) < method.least or (operation.base is not None and base is None):
        raise ComputeError("tensor_missing", f"too few models have tensor {op.name!r}", field=op.name)
    if op.shape is not None:
        shape = tuple(op.shape)
        models = tuple(_cropped(operand, shape, op.name) for operand in models)
        base = None if base is None else _cropped(base, shape, op.name)
    return _checked(Task(op.name, method, settings, models, base, program.seed, TensorSpec("F32", ())), op)


def _cropped(operand: Operand, shape: tuple[int, ...], name: str) -> Operand:
    if operand.shape == shape:
        return operand
    try:
        return CroppedOperand(operand, shape)
    except ValueError as error:
        raise ComputeError("tensor_shape_mismatch", str(error), field=name) from None


def _checked(task: Task, op: TensorOp) -> Task:
    first = task.operands[0]
    for other in task.operands:
        if other.shape != first.shape:
            raise ComputeError(
                "tensor_shape_mismatch",
                f"tensor {task.name!r} has shape {list(first.shape)} in {first.label} "
                f"and {list(other.shape)} in {other.label}",
                field=task.name,
            )
        if other.dtype not in FLOATS and other.dtype not in EXACT:
            raise ComputeError(
                "tensor_dtype_mismatch", f"tensor {task.name!r} of {other.dtype} can't be merged", field=task.name
            )
        if other.dtype != first.dtype and (other.dtype in EXACT or first.dtype in EXACT):
            raise ComputeError(
                "tensor_dtype_mismatch",
                f"tensor {task.name!r} is {first.dtype} in {first.label} and {other.dtype} in {other.label}",
                field=task.name,
            )
    stored = (task.base or first).stored
    dtype = stored if task.is_exact else op.dtype or stored
    settings = task.bound
    if task.is_exact and task.method.output_shape is not None:
        raise ComputeError(
            "tensor_dtype_mismatch",
            f"{task.method.name} takes floating-point tensors, not {task.name!r} of {first.dtype}",
            field=task.name,
        )
    if task.method.check is not None and not task.is_exact:
        task.method.check(task.name, task.shape, settings)
    shape = task.shape if task.method.output_shape is None else task.method.output_shape(task.shape, settings)
    return Task(task.name, task.method, task.settings, task.models, task.base, task.seed, TensorSpec(dtype, shape))


def count_of(shape: tuple[int, ...]) -> int:
    """Number of elements."""
    return math.prod(shape)


def is_exact(files: Sequence[OutputFile], sources: Sequence[Source]) -> bool:
    """Whether the bytes are the same on any machine: as exact as the least exact method and source."""
    methods = (task.method.determinism == "exact" for file in files for task in file.tasks)
    return all(source.exact for source in sources) and all(methods)
