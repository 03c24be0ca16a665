"""What a submission may say: the kinds of job and their specs, checked before anything is accepted."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from owm_compute.errors import ComputeError
from owm_compute.models.config import parse_config

Kind = Literal["merge", "evaluate", "train"]
JobId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,80}$")]
# Only a label: inputs lie on disk under numbers, so a name may hold whatever a path in a repository may.
InputName = Annotated[str, Field(min_length=1, max_length=2000)]
# No part is empty or begins with a dot, so a path leads nowhere but into the directory it is joined to.
OutputPath = Annotated[str, Field(pattern=r"^(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,99}/)?[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, Field(min_length=1, max_length=4000)]
Seed = Annotated[int, Field(ge=0, le=2**53 - 1)]


class Strict(BaseModel):
    """No coercion, no unknown fields, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class MergeSpec(Strict):
    """A merge program, by input name."""

    program: InputName
    dry_run: bool = False
    """Output files are written, hashed and reported, and not uploaded: what a merge is verified with."""
    output_bytes: Annotated[int, Field(ge=0, le=2**50)] | None = None
    """Bytes of the output, where the plan knows them: room for so many must be free before the work begins."""


class EvaluateSpec(Strict):
    """A classifier on one split of a data set; `config`, `weights`, `task` and `data` are input names."""

    config: InputName
    weights: Annotated[list[InputName], Field(min_length=1, max_length=1000)]
    task: InputName
    data: InputName
    split: Annotated[str, Field(min_length=1, max_length=100)]
    seed: Seed = 0
    compute_dtype: Literal["float32", "float64"] = "float32"
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 256


class OptimizerSpec(Strict):
    """An optimiser; `momentum` only counts for the one of that name."""

    name: Literal["sgd", "momentum", "rmsprop", "adam"]
    lr: Annotated[float, Field(gt=0, le=1000)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0


class InitialModel(Strict):
    """The model that a training starts from, by input names."""

    config: InputName
    weights: Annotated[list[InputName], Field(min_length=1, max_length=1000)]


class TrainSpec(Strict):
    """A classifier trained on one split, from an architecture or from an initial model."""

    config: dict[str, Any] | None = None
    initial: InitialModel | None = None
    task: InputName
    data: InputName
    split: Annotated[str, Field(min_length=1, max_length=100)]
    init: Literal["he_normal", "xavier_uniform", "xavier_normal", "normal", "uniform", "default"] = "he_normal"
    optimizer: OptimizerSpec
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    seed: Seed = 0


class InputFile(Strict):
    """A file that the job needs; `name` is how the spec refers to it."""

    name: InputName
    url: Url
    sha256: Sha256
    size: Annotated[int, Field(ge=0, le=2**50)]


class HubUrls(Strict):
    """Where the edge takes uploads, events and the result of this job; null where it takes no uploads by chunks."""

    uploads_url: Url
    events_url: Url
    result_url: Url
    xet_token_url: Url | None = None


class Limits(Strict):
    """What the job may take: wall-clock seconds, and bytes of memory above the warm interpreter."""

    timeout_s: Annotated[int, Field(ge=1)] = 3600
    memory_bytes: Annotated[int, Field(ge=2**24)] = 4 * 2**30


class _Submission(Strict):
    id: JobId
    attempt: Annotated[int, Field(ge=1, le=2**31 - 1)]
    inputs: Annotated[list[InputFile], Field(max_length=2000)]
    hub: HubUrls
    token: Annotated[str, Field(min_length=1, max_length=4000, pattern=r"^[\x21-\x7e]+$")]
    limits: Limits = Limits()

    @property
    def is_dry_run(self) -> bool:
        """Whether the output is reported and not uploaded."""
        return False

    def planned_bytes(self) -> int:
        """Bytes of the output, as far as they can be told before the work."""
        return 0


class MergeSubmission(_Submission):
    """A job of kind merge."""

    kind: Literal["merge"]
    spec: MergeSpec

    def references(self) -> list[tuple[str, str]]:
        """(field, input name) of every input the spec needs."""
        return [("spec.program", self.spec.program)]

    @property
    def is_dry_run(self) -> bool:
        """What the spec says."""
        return self.spec.dry_run

    @property
    def weights(self) -> list[str]:
        """Digests of all inputs but the program."""
        return [item.sha256 for item in self.inputs if item.name != self.spec.program]

    def planned_bytes(self) -> int:
        """What the plan says; where it says nothing, as much as all inputs together."""
        if self.spec.output_bytes is not None:
            return self.spec.output_bytes
        return sum(item.size for item in self.inputs)


class EvaluateSubmission(_Submission):
    """A job of kind evaluate."""

    kind: Literal["evaluate"]
    spec: EvaluateSpec

    def references(self) -> list[tuple[str, str]]:
        """(field, input name) of every input the spec needs."""
        single = [(f"spec.{name}", getattr(self.spec, name)) for name in ("config", "task", "data")]
        return single + [(f"spec.weights.{i}", name) for i, name in enumerate(self.spec.weights)]


class TrainSubmission(_Submission):
    """A job of kind train."""

    kind: Literal["train"]
    spec: TrainSpec

    def references(self) -> list[tuple[str, str]]:
        """(field, input name) of every input the spec needs."""
        names = [("spec.task", self.spec.task), ("spec.data", self.spec.data)]
        if self.spec.initial is not None:
            names.append(("spec.initial.config", self.spec.initial.config))
            names += [(f"spec.initial.weights.{i}", name) for i, name in enumerate(self.spec.initial.weights)]
        return names


Submission = MergeSubmission | EvaluateSubmission | TrainSubmission
SPECS: dict[str, type[Strict]] = {"merge": MergeSpec, "evaluate": EvaluateSpec, "train": TrainSpec}


SUBMISSION: TypeAdapter[MergeSubmission | EvaluateSubmission | TrainSubmission] = TypeAdapter(
    Annotated[MergeSubmission | EvaluateSubmission | TrainSubmission, Field(discriminator="kind")]
)


def parse_submission(body: bytes, *, max_timeout_s: int, max_memory_bytes: int) -> Submission:
    """A checked submission from the bytes of a request.

    Raises `ComputeError` (422) with `field`: `invalid_spec`, `input_missing`, `input_duplicate`, `origin_mismatch`,
    `weights_sum_zero`, `limit_too_large`, or an architecture's own code.
    """
    try:
        job = SUBMISSION.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # The location begins with the kind, which the caller never wrote as a field.
        path = [str(part) for part in first["loc"][1:]]
        raise ComputeError("invalid_spec", first["msg"], field=".".join(path) or None) from None
    _check_inputs(job)
    _check_origins(job)
    if job.limits.timeout_s > max_timeout_s:
        raise _too_large("limits.timeout_s", max_timeout_s)
    if job.limits.memory_bytes > max_memory_bytes:
        raise _too_large("limits.memory_bytes", max_memory_bytes)
    if isinstance(job, TrainSubmission):
        if (job.spec.config is None) == (job.spec.initial is None):
            raise ComputeError("invalid_spec", "give exactly one of config and initial", field="spec.config")
        if job.spec.config is not None:
            parse_config(job.spec.config, field="spec.config")
    return job


def _check_inputs(job: Submission) -> None:
    names: set[str] = set()
    for index, item in enumerate(job.inputs):
        if item.name in names:
            raise ComputeError("input_duplicate", f"{item.name!r} stands twice", field=f"inputs.{index}.name")
        names.add(item.name)
    for field, name in job.references():
        if name not in names:
            raise ComputeError("input_missing", f"no input is named {name!r}", field=field, fix="add it to inputs")


def _check_origins(job: Submission) -> None:
    # The job token goes to these URLs, so all of them must be the edge that sent it.
    home = _origin(job.hub.result_url, "hub.result_url")
    places = [("hub.uploads_url", job.hub.uploads_url), ("hub.events_url", job.hub.events_url)]
    if job.hub.xet_token_url is not None:
        places.append(("hub.xet_token_url", job.hub.xet_token_url))
    places += [(f"inputs.{index}.url", item.url) for index, item in enumerate(job.inputs)]
    for field, url in places:
        if _origin(url, field) != home:
            raise ComputeError(
                "origin_mismatch",
                "the URL has another origin than hub.result_url",
                field=field,
                fix="serve inputs and job routes from one origin",
            )


def _origin(url: str, field: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and not parts.username and not parts.password:
            return parts.scheme, parts.hostname, parts.port
    except ValueError:
        pass
    raise ComputeError("invalid_spec", "not an absolute http(s) URL without credentials", field=field)


def _too_large(field: str, most: int) -> ComputeError:
    return ComputeError("limit_too_large", f"at most {most} here", field=field, fix=f"ask for at most {most}")
