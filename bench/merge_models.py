"""Makes Llama-shaped checkpoints, a base and three fine-tunes of it, and merges them with the engine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from owm_compute.merge.engine import run_program
from owm_compute.merge.program import Program
from owm_compute.tensors.safetensors_source import SafetensorsSource
from owm_compute.tensors.torch_io import save_tensors

MODELS = ["base", "one", "two", "three"]
SHARD_BYTES = 800_000_000
VOCABULARY = 32_000
# hidden size, layers, intermediate size, width of keys and values, whether lm_head is its own
LLAMAS = {"S": (768, 12, 2048, 768, False), "M": (2048, 22, 5632, 256, True)}
EXPERTS = 10_000

# What each run merges: the method, how many models besides the base, their parameters, and those of all.
RUNS: dict[str, tuple[str, int, dict[str, float], dict[str, float]]] = {
    "passthrough": ("passthrough", 1, {}, {}),
    "linear": ("linear", 2, {"weight": 0.5}, {"normalize": 1}),
    "slerp": ("slerp", 1, {}, {"t": 0.4}),
    "task_arithmetic": ("task_arithmetic", 3, {"weight": 0.4}, {}),
    "ties": ("ties", 3, {"weight": 0.4, "density": 0.5}, {}),
    "dare_ties": ("dare_ties", 3, {"weight": 0.4, "density": 0.5}, {}),
    "della": ("della", 3, {"weight": 0.4, "density": 0.5, "epsilon": 0.15}, {}),
    "model_stock": ("model_stock", 3, {}, {}),
    "karcher": ("karcher", 3, {}, {}),
}
WITHOUT_BASE = {"passthrough", "linear", "karcher"}


def shapes(size: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the tensors of a size."""
    if size == "T":
        for index in range(EXPERTS):
            yield f"model.layers.{index // 200}.mlp.experts.{index % 200}.up_proj.weight", (64, 64)
        return
    hidden, layers, inner, narrow, head = LLAMAS[size]
    yield "model.embed_tokens.weight", (VOCABULARY, hidden)
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        for name, rows, columns in [
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", narrow, hidden),
            ("self_attn.v_proj", narrow, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", inner, hidden),
            ("mlp.up_proj", inner, hidden),
            ("mlp.down_proj", hidden, inner),
        ]:
            yield f"{prefix}.{name}.weight", (rows, columns)
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    if head:
        yield "lm_head.weight", (VOCABULARY, hidden)


def make(folder: Path, size: str) -> None:
    """Writes base and fine-tunes (base + 10⁻³ noise) as bf16 shards with index and config.json, once."""
    for number, model in enumerate(MODELS):
        place = folder / size / model
        if (place / "config.json").exists():
            continue
        place.mkdir(parents=True, exist_ok=True)
        shards: list[dict[str, torch.Tensor]] = [{}]
        where: dict[str, int] = {}
        for index, (name, shape) in enumerate(shapes(size)):
            generator = torch.Generator().manual_seed(index)
            tensor = torch.randn(shape, generator=generator) * 0.02
            if number:
                noise = torch.Generator().manual_seed(1_000_000 * number + index)
                tensor = tensor.bfloat16().float() + torch.randn(shape, generator=noise) * 1e-3
            if sum(t.nbytes for t in shards[-1].values()) > SHARD_BYTES:
                shards.append({})
            shards[-1][name] = tensor.bfloat16()
            where[name] = len(shards)
        names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
        for name, tensors in zip(names, shards, strict=True):
            save_tensors(place / name, tensors)
        index = {"metadata": {}, "weight_map": {name: names[shard - 1] for name, shard in where.items()}}
        (place / "model.safetensors.index.json").write_text(json.dumps(index))
        hidden, layers, inner, narrow, head = LLAMAS.get(size, (64, 1, 64, 64, True))
        config: dict[str, Any] = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "intermediate_size": inner,
            "num_attention_heads": hidden // 64,
            "num_key_value_heads": narrow // 64,
            "vocab_size": VOCABULARY,
            "tie_word_embeddings": not head,
            "torch_dtype": "bfloat16",
        }
        (place / "config.json").write_text(json.dumps(config))


def program(run: str, folder: Path, size: str) -> Program:
    """The merge program of a run."""
    method, count, each, values = RUNS[run]
    has_base = run not in WITHOUT_BASE
    chosen = [*MODELS[1 : count + 1], *(["base"] if has_base else [])]
    every = {"path": "model.safetensors", "every": 0}
    return Program.model_validate(
        {
            "schema": "owm.merge-program/1",
            "sources": [{"label": name, "weights": [p.name for p in _shards(folder / size / name)]} for name in chosen],
            "settings": [{"values": values, "each": {name: [value] * count for name, value in each.items()}}],
            "operations": [{"method": method, "models": list(range(count)), "base": count if has_base else None}],
            "files": [every],
        }
    )


def merge(folder: Path, size: str, run: str, out: Path) -> None:
    """One merge on as many threads as `OWM_THREADS` says; what the engine counted, as JSON."""
    torch.set_num_threads(1)
    plan = program(run, folder, size)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        sources = []
        for spec in plan.sources:
            files = [(path.name, path, f"{spec.label}/{path.name}") for path in _shards(folder / size / spec.label)]
            sources.append(stack.enter_context(SafetensorsSource(files, label=spec.label)))
        report = run_program(plan, sources, out, threads=int(os.environ.get("OWM_THREADS", "2")))
    print(json.dumps({"sha256": report.files[0].sha256, "parameters": report.parameters}))


def configuration(folder: Path, size: str, run: str) -> str:
    """The same run as a mergekit configuration."""
    method, count, each, values = RUNS[run]
    base = str(folder / size / "base")
    models: list[dict[str, Any]] = [
        {"model": str(folder / size / name), "parameters": each} for name in MODELS[1 : count + 1]
    ]
    if run == "slerp":
        models.append({"model": base})
    document: dict[str, Any] = {"merge_method": method, "models": models, "parameters": values, "dtype": "bfloat16"}
    if run not in WITHOUT_BASE:
        document["base_model"] = base
    return json.dumps(document)


def _shards(place: Path) -> list[Path]:
    return sorted(place.glob("*.safetensors"))


def main() -> None:
    """`make FOLDER SIZE`, `merge FOLDER SIZE RUN OUT` or `configuration FOLDER SIZE RUN`."""
    step, folder, size, *rest = sys.argv[1:]
    if step == "make":
        make(Path(folder), size)
    elif step == "merge":
        merge(Path(folder), size, rest[0], Path(rest[1]))
    else:
        print(configuration(Path(folder), size, rest[0]))


if __name__ == "__main__":
    main()
