"""Writes merge-mergekit.json: what mergekit itself makes of a tiny Llama, for the methods whose formulas coincide.

Run: MERGEKIT=/path/to/mergekit-yaml python test/vectors/make-merge-mergekit.py
(mergekit at commit a6e4028; numpy, safetensors)
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

COMMENT = [
    (
        "`models` are the tensors of four tiny models, flat in row-major order, exact in float32; model 0 is the base "
        "where an entry of `cases` has `base`. `models` of a case are indices."
    ),
    (
        "`values` and `each` are the settings of a merge program; `expected` is what mergekit a6e4028 wrote with dtype "
        "float32. Agreement is within 1e-6 of the largest element."
    ),
]
KEPT = {
    "model.layers.0.input_layernorm.weight": (8,),
    "model.layers.0.self_attn.q_proj.weight": (8, 8),
    "model.layers.0.mlp.down_proj.weight": (8, 12),
}
SHAPES = {
    "model.embed_tokens.weight": (12, 8),
    "lm_head.weight": (12, 8),
    "model.norm.weight": (8,),
    "model.layers.0.post_attention_layernorm.weight": (8,),
    **{f"model.layers.0.self_attn.{name}_proj.weight": (8, 8) for name in "kvo"},
    **{f"model.layers.0.mlp.{name}_proj.weight": (12, 8) for name in ("gate", "up")},
    **KEPT,
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 12,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
TWO, THREE = [1.0, 2.0], [1.0, 2.0, 0.5]
# Method, models, whether model 0 is the base, values, each.
CASES = [
    ("slerp", [3], True, {"t": 0.3}, {}),
    ("slerp", [1], True, {"t": 0.3}, {}),
    ("nuslerp", [1, 3], False, {}, {"weight": TWO}),
    ("nuslerp", [1, 3], True, {}, {"weight": TWO}),
    ("nuslerp", [1, 3], False, {"nuslerp_flatten": 0}, {"weight": TWO}),
    ("nuslerp", [1, 3], False, {"nuslerp_flatten": 0, "nuslerp_row_wise": 1}, {"weight": TWO}),
    ("multislerp", [1, 2, 3], False, {}, {"weight": THREE}),
    ("multislerp", [1, 2, 3], True, {}, {"weight": THREE}),
    ("karcher", [1, 2, 3], False, {}, {}),
    ("model_stock", [1, 2, 3], True, {}, {}),
    ("model_stock", [1, 2, 3], True, {"filter_wise": 1}, {}),
    ("nearswap", [1], True, {"t": 0.002}, {}),
    ("linear", [1, 2, 3], False, {}, {"weight": THREE}),
    ("task_arithmetic", [1, 2, 3], True, {"lambda": 0.7}, {"weight": THREE}),
    ("ties", [1, 2, 3], True, {}, {"weight": THREE, "density": [0.5, 0.5, 0.25]}),
    ("sce", [1, 2, 3], True, {"select_topk": 0.5}, {}),
    ("ram", [1, 2, 3], True, {"epsilon": 0.01}, {}),
    ("ramplus_tl", [1, 2, 3], True, {"epsilon": 0.01}, {}),
]


def write_model(directory, seed):
    """A fine-tune of the base (seeds 1 and 2), or a model of its own."""
    directory.mkdir()
    tensors = {}
    for index, (name, shape) in enumerate(sorted(SHAPES.items())):
        own = np.random.default_rng([seed, index]).standard_normal(shape)
        base = np.random.default_rng([0, index]).standard_normal(shape)
        values = base + 0.2 * own if seed in (1, 2) else own
        # Multiples of 2⁻¹⁶, so that differences are exact.
        tensors[name] = (np.round(values * 0.05 * 2**16) / 2**16).astype(np.float32)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps(CONFIG))
    return tensors


def recipe(root, method, models, base, values, each):
    """The case in mergekit's language; JSON is YAML."""
    entries = [
        {"model": str(root / str(k)), "parameters": {name: numbers[i] for name, numbers in each.items()}}
        for i, k in enumerate(models)
    ]
    if method == "slerp":
        entries.insert(0, {"model": str(root / "0")})
    switches = ("nuslerp_flatten", "nuslerp_row_wise", "filter_wise")
    parameters = {name: bool(value) if name in switches else value for name, value in values.items()}
    document = {"merge_method": method, "models": entries, "parameters": parameters, "dtype": "float32"}
    return {**document, "base_model": str(root / "0")} if base else document


def main():
    """Runs every case."""
    cases = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        models = [write_model(root / str(seed), seed) for seed in range(4)]
        for number, (method, indices, base, values, each) in enumerate(CASES):
            config, output = root / f"{number}.yml", root / f"out{number}"
            config.write_text(json.dumps(recipe(root, method, indices, base, values, each)))
            command = [os.environ["MERGEKIT"], "--no-copy-tokenizer", str(config), str(output)]
            subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
            merged = load_file(output / "model.safetensors") if (output / "model.safetensors").exists() else {}
            for path in output.glob("model-*.safetensors"):
                merged.update(load_file(path))
            expected = {name: [float(f"{x:.9g}") for x in merged[name].ravel()] for name in KEPT}
            cases.append(
                {
                    "method": method,
                    "models": indices,
                    "base": base,
                    "values": values,
                    "each": each,
                    "expected": expected,
                }
            )
    kept = [{name: model[name].ravel().tolist() for name in KEPT} for model in models]
    lines = ",\n".join(json.dumps(entry) for entry in cases)
    text = (
        f'{{"comment": {json.dumps(COMMENT)},\n"shapes": {json.dumps(KEPT)},\n"models": {json.dumps(kept)},\n'
        f'"cases": [\n{lines}\n]}}\n'
    )
    Path(__file__).with_name("merge-mergekit.json").write_text(text)


main()
