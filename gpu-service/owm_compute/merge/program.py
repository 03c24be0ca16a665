"""The merge program: what the edge compiles a recipe into, every parameter resolved, and what the engine executes.

A program names its inputs by the input names of the job. It holds no choice that is still open, so program, inputs and
engine version decide the output's bytes. The edge's schema of the same document is `src/formats/recipe/program.ts`;
`test/vectors/merge-programs.json` is read by both.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from owm_compute.specs import InputName, OutputPath, Seed, Strict

Name = Annotated[str, Field(min_length=1, max_length=512)]
Index = Annotated[int, Field(ge=0, le=100_000)]
Dtype = Literal["F64", "F32", "F16", "BF16"]
Number = Annotated[float, Field(ge=-1e9, le=1e9)]
PermutedAxis = Annotated[str, Field(pattern=r"^[^*]{1,512}(\*[1-9][0-9]{0,8})?$")]
Prompt = Annotated[str, Field(min_length=1, max_length=10_000)]
Folder = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]


class Adapter(Strict):
    """A PEFT LoRA adapter, applied while its base model is read: W + scale·B·A."""

    config: InputName
    weights: Annotated[list[InputName], Field(min_length=1, max_length=100)]


class SourceSpec(Strict):
    """One model: its files by input name. `config` is its config.json, where it has one.

    A model of format `program` has no files: it is the result of another merge, computed while it is read. A pipeline
    has its weights in `folders`, whose tensors are called `folder/name`.
    """

    label: Annotated[str, Field(min_length=1, max_length=600)]
    format: Literal["safetensors", "gguf", "npz", "h5", "keras", "program"] = "safetensors"
    weights: Annotated[list[InputName], Field(max_length=1000, default_factory=list)]
    folders: Annotated[
        dict[Folder, Annotated[list[InputName], Field(max_length=1000)]], Field(max_length=64, default_factory=dict)
    ]
    program: Program | None = None
    config: InputName | None = None
    adapter: Adapter | None = None
    tokenizer: Annotated[dict[str, InputName], Field(default_factory=dict)]
    """Tokenizer files by their file name (`tokenizer.json`, `tokenizer_config.json`, …)."""


class Settings(Strict):
    """Resolved parameters of one or more tensors: one value each, and one value a model for per-model parameters.

    Booleans are 0 and 1. Per-model lists follow `Operation.models`; the base has no entry.
    """

    values: Annotated[dict[str, Number], Field(default_factory=dict)]
    each: Annotated[dict[str, list[Number]], Field(default_factory=dict)]


class Operation(Strict):
    """A method on operands: `models` and `base` are indices of `Program.sources`."""

    method: Annotated[str, Field(min_length=1, max_length=100)]
    models: Annotated[list[Index], Field(min_length=1, max_length=64)]
    base: Index | None = None
    settings: Index = 0


class TensorOp(Strict):
    """One tensor of the output.

    `names`: empty when every operand calls the tensor by the output's name, one entry for another name in all of them,
    else one a model and then one for the base. `dtype`: of the output, null for the stored one of the base, or of the
    first model where there is no base.
    `shape`: when given, operands are cropped to it from the front of each axis (embeddings of unequal vocabularies).
    `optional`: a model that lacks the tensor is left out of the operation instead of being an error.
    """

    name: Name
    operation: Index
    names: Annotated[list[Name], Field(max_length=65, default_factory=list)]
    dtype: Dtype | None = None
    shape: Annotated[list[Annotated[int, Field(ge=0, le=2**40)]], Field(max_length=8)] | None = None
    optional: bool = False


class OutputSpec(Strict):
    """One safetensors file of the output; `every` takes all tensors of that operation's first model, by their names.

    The tensors of a file in a folder are called `folder/name` here, and `name` in the file.
    """

    path: OutputPath
    tensors: Annotated[list[TensorOp], Field(max_length=200_000, default_factory=list)]
    every: Index | None = None


class TokenSource(Strict):
    """Where the embedding row of a token comes from: a model's row of a token or of an id, or zeros.

    `default` adds the token to the vocabulary where it is missing; its row comes from where any other's does.
    """

    token: Annotated[str, Field(min_length=1, max_length=1000)]
    kind: Literal["default", "model_token", "zero"]
    model: Index | None = None
    model_token: str | None = None
    model_id: Index | None = None
    force: bool = False


class TokenizerSpec(Strict):
    """The output's vocabulary: whose tokens, and which tensors (`embeddings`) have a row a token."""

    source: Literal["union", "base"] | Index
    base: Index
    tokens: Annotated[list[TokenSource], Field(max_length=10_000, default_factory=list)]
    pad_to_multiple_of: Annotated[int, Field(ge=1, le=65_536)] | None = None
    embeddings: Annotated[list[Name], Field(max_length=64, default_factory=list)]


class AlignSpec(Strict):
    """Hidden units of every other model are permuted to fit those of `reference` (git re-basin, weight matching)."""

    reference: Index
    spec: Annotated[dict[Name, list[PermutedAxis | None]], Field(max_length=100_000)] | None = None
    """Permutation group of each axis of each tensor, null where nothing is permuted; `group*b` is an axis on which each
    unit has b indices in a row (a flattened convolution). Without a spec it follows from the architecture.
    """


class PromptSpec(Strict):
    """What an expert is for, in words: a direction in the space of the token embeddings of `source`.

    The i-th of a program is a tensor of shape (hidden,) of that source, named `owm.prompts.{i}`.
    """

    source: Index
    embedding: Name
    positive: Annotated[list[Prompt], Field(min_length=1, max_length=1000)]
    negative: Annotated[list[Prompt], Field(max_length=1000, default_factory=list)]


class ConfigSpec(Strict):
    """The output's config.json: that of a source, with these keys replaced; `vocab_size` follows the tokenizer."""

    source: Index
    patch: Annotated[dict[str, Any], Field(default_factory=dict)]


class Program(Strict):
    """Everything the engine does, in the order of the output."""

    schema_: Annotated[Literal["owm.merge-program/1"], Field(alias="schema")]
    seed: Seed = 0
    sources: Annotated[list[SourceSpec], Field(min_length=1, max_length=64)]
    settings: Annotated[list[Settings], Field(min_length=1, max_length=100_000)]
    operations: Annotated[list[Operation], Field(min_length=1, max_length=100_000)]
    files: Annotated[list[OutputSpec], Field(min_length=1, max_length=1000)]
    tokenizer: TokenizerSpec | None = None
    align: AlignSpec | None = None
    prompts: Annotated[list[PromptSpec], Field(max_length=64, default_factory=list)]
    config: ConfigSpec | None = None
