"""How a merge method is written: one typed function with a decorator, from which its parameters are read.

A method has a *prepare* step, run once a tensor, which may sweep over the operands to reduce them to a few numbers, and
returns the *apply* step, which turns one chunk of the operands into one chunk of the result. Purely elementwise methods
are just the apply step. All arithmetic is float32 (float64 where an operand is); the engine rounds once at the end.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import Any, Literal, Protocol, TypeVar, get_type_hints

import torch

from owm_compute.errors import ComputeError

Shared = TypeVar("Shared")


class Each(tuple[float, ...]):
    """One value a model, in the order of the models. As an annotation it makes a parameter per-model."""


@dataclass(frozen=True)
class Chunk:
    """Elements [start, start + length) of every operand, flat, in float32 or float64, on one device.

    The tensors of `models` and `base` are scratch of this thread: a method may overwrite them and return one of them.
    With `deltas`, `models` hold xᵢ − base. `scratch(i)` gives further buffers of the same length and dtype.
    """

    start: int
    length: int
    models: list[torch.Tensor]
    base: torch.Tensor | None
    scratch: Callable[[int], torch.Tensor]
    tally: dict[str, float] = field(default_factory=dict)
    """Counts that a method reports for the record of the tensor (`kept`, `sign_conflicts`); added up over chunks."""

    @property
    def origin(self) -> torch.Tensor:
        """The base, for methods that have none without."""
        if self.base is None:
            raise ValueError("the method is registered as one that needs no base")
        return self.base


class Operands(Protocol):
    """The operands of one output tensor, as a method's prepare step sees them."""

    @property
    def name(self) -> str:
        """Name of the output tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of every operand."""

    @property
    def count(self) -> int:
        """Number of elements."""

    @property
    def models(self) -> int:
        """How many models there are, without the base."""

    @property
    def has_base(self) -> bool:
        """Whether there is a base."""

    @property
    def seed(self) -> int:
        """The merge's seed."""

    def sweep(self) -> Iterator[Chunk]:
        """Reads every operand once, chunk by chunk in order; chunks are as long as the engine likes."""

    def statistic(self, key: str, compute: Callable[[], Sequence[float]]) -> list[float]:
        """Numbers that depend only on the operands and on `key`: computed once, then kept for later merges."""

    def share(self, key: str, compute: Callable[[], Shared]) -> Shared:
        """What several outputs of the same operands have in common: computed once, kept for the next few outputs."""

    def whole(self) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """The operands in full, shaped (deltas where the method takes deltas), for methods that need a matrix."""


Apply = Callable[[Chunk], torch.Tensor]
Prepare = Callable[..., Apply]
OutputShape = Callable[[tuple[int, ...], Mapping[str, Any]], tuple[int, ...]]
"""Shape of the result from that of the operands and the parameters, so that headers alone tell the layout."""
Check = Callable[[str, tuple[int, ...], Mapping[str, Any]], None]
"""Refuses parameters with which a tensor of that name and shape can't be merged."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method; without a default it is required. Booleans are numbers 0 and 1 in a program."""

    name: str
    kind: Literal["float", "int", "bool"]
    each: bool
    default: float | None
    minimum: float | None = None
    maximum: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Method:
    """A merge method: what it takes and how it runs."""

    name: str
    summary: str
    reference: str
    """The paper or the tool whose maths it follows."""
    base: Literal["required", "optional", "forbidden", "endpoint"]
    """`endpoint`: the base is one of the models that are mixed (slerp), not an origin that others differ from."""
    least: int
    most: int | None
    """How many models besides the base."""
    deltas: bool
    """Whether chunks hold differences from the base."""
    determinism: Literal["exact", "tolerance"]
    """`exact`: the same bytes on any machine; `tolerance`: equal up to the rounding of the machine's linear algebra."""
    matrix: bool
    """Whether prepare holds whole tensors in memory."""
    parameters: tuple[Parameter, ...]
    prepare: Prepare
    output_shape: OutputShape | None = None
    """Shape of a result that isn't shaped as its operands; its chunks cover the result and hold no operands."""
    check: Check | None = None
    """Run for every tensor before a byte is read or written."""


REGISTRY: dict[str, Method] = {}


@dataclass(frozen=True)
class Bounds:
    """Limits of a parameter and what it means: the metadata of an `Annotated` parameter."""

    minimum: float | None = None
    maximum: float | None = None
    note: str = ""
    default: float | None = None
    """Of a per-model parameter, whose default can't stand in the signature."""


def merge_method(
    name: str,
    *,
    reference: str,
    base: Literal["required", "optional", "forbidden", "endpoint"] = "forbidden",
    least: int = 1,
    most: int | None = None,
    deltas: bool = False,
    determinism: Literal["exact", "tolerance"] = "exact",
    matrix: bool = False,
    output_shape: OutputShape | None = None,
    check: Check | None = None,
) -> Callable[[Prepare], Prepare]:
    """Registers `f(operands, *, parameters…) -> Apply`. Parameters are read from the keyword arguments.

    Annotate with `float`, `int`, `bool` or `Each` (one value a model); `Annotated[float, Bounds(0, 1)]` sets limits.
    Python keywords get a trailing underscore (`lambda_` is the parameter `lambda`).
    """

    def register(function: Prepare) -> Prepare:
        if name in REGISTRY:
            raise ValueError(f"there is a method {name!r} already")
        summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
        REGISTRY[name] = Method(
            name,
            summary,
            reference,
            base,
            least,
            most,
            deltas,
            determinism,
            matrix,
            _parameters(function),
            function,
            output_shape,
            check,
        )
        return function

    return register


def elementwise(function: Callable[..., torch.Tensor]) -> Prepare:
    """Makes a prepare step of `f(chunk, *, parameters…) -> Tensor`: all that a method without a sweep needs."""

    def prepare(_operands: Operands, **settings: object) -> Apply:
        return lambda chunk: function(chunk, **settings)

    prepare.__doc__ = function.__doc__
    prepare.__dict__["__wrapped__"] = function
    return prepare


def find_method(name: str) -> Method:
    """The method of that name. Raises `ComputeError` (`unknown_method`)."""
    method = REGISTRY.get(name)
    if method is None:
        raise ComputeError(
            "unknown_method", f"there is no merge method {name!r}", fix=f"use one of {', '.join(sorted(REGISTRY))}"
        )
    return method


def bind(
    method: Method, values: Mapping[str, float], each: Mapping[str, Sequence[float]], models: int
) -> dict[str, object]:
    """Keyword arguments of a method from the numbers of a program; `invalid_spec` names what is missing or unknown."""
    known = {parameter.name: parameter for parameter in method.parameters}
    for name in [*values, *each]:
        if name not in known or (name in each) != known[name].each:
            raise ComputeError("invalid_spec", f"{method.name} has no such parameter {name!r}", field=name)
    bound: dict[str, object] = {}
    for parameter in method.parameters:
        keyword = f"{parameter.name}_" if iskeyword(parameter.name) else parameter.name
        if parameter.name not in values and parameter.name not in each and parameter.default is None:
            raise ComputeError("invalid_spec", f"{method.name} needs {parameter.name}", field=parameter.name)
        if parameter.each:
            numbers = each.get(parameter.name, [parameter.default or 0.0] * models)
            if len(numbers) != models:
                raise ComputeError("invalid_spec", f"{parameter.name} needs {models} values", field=parameter.name)
            bound[keyword] = Each(numbers)
        else:
            numbers = [values.get(parameter.name, parameter.default or 0.0)]
            bound[keyword] = _CASTS[parameter.kind](numbers[0])
        _check_bounds(parameter, numbers)
    return bound


def _check_bounds(parameter: Parameter, numbers: Sequence[float]) -> None:
    low, high = parameter.minimum, parameter.maximum
    for number in numbers:
        if (low is not None and number < low) or (high is not None and number > high):
            limits = f"{'' if low is None else f'{low:g} ≤ '}{parameter.name}{'' if high is None else f' ≤ {high:g}'}"
            raise ComputeError("invalid_spec", f"{parameter.name} is {number:g}, not {limits}", field=parameter.name)


_CASTS: dict[str, Callable[[float], object]] = {"float": float, "int": int, "bool": bool}


def _parameters(function: Prepare) -> tuple[Parameter, ...]:
    target = inspect.unwrap(function)
    hints = get_type_hints(target, include_extras=True)
    found = []
    for keyword, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        hint = hints[keyword]
        bounds = next((part for part in getattr(hint, "__metadata__", ()) if isinstance(part, Bounds)), Bounds())
        plain = getattr(hint, "__origin__", hint)
        kind: Literal["float", "int", "bool"] = "bool" if plain is bool else "int" if plain is int else "float"
        default = bounds.default if parameter.default is inspect.Parameter.empty else float(parameter.default)
        found.append(
            Parameter(keyword.rstrip("_"), kind, plain is Each, default, bounds.minimum, bounds.maximum, bounds.note)
        )
    return tuple(found)
