"""The Hugging Face names of a GGUF model's tensors, by architecture, so that it merges with safetensors models."""

from __future__ import annotations

import re

from owm_compute.errors import ComputeError
from owm_compute.tensors.gguf import GgufSource
from owm_compute.tensors.operand import Operand, Overlay, Source

# GGUF architecture → whether its query and key rows are stored for interleaved rotary embeddings. Files of Mistral
# models call themselves llama.
ARCHITECTURES: dict[str, bool] = {"llama": True, "qwen2": False, "qwen3": False}
NAMES: dict[str, str] = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
LAYER_NAMES: dict[str, str] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Computed from rope_scaling of config.json, where Hugging Face models have it.
DERIVED = frozenset({"rope_freqs.weight"})
_HEADS = {"attn_q": "head_count", "attn_k": "head_count_kv"}
_LAYER = re.compile(r"blk\.(0|[1-9][0-9]{0,4})\.(\w+)\.(weight|bias)")
_OUTER = re.compile(r"(\w+)\.(weight|bias)")


class RenamedSource(Overlay):
    """Only the renamed tensors of a source."""

    def __init__(self, source: Source, renamed: dict[str, Operand]) -> None:
        super().__init__(source, renamed, hidden=set(source) - set(renamed))


def hugging_face_names(source: GgufSource) -> Source:
    """The model by its Hugging Face names and in their order of rows; other architectures keep the names of the file.

    Raises `gguf_names_unknown` when the architecture is known and one of its tensors is not, `gguf_invalid` when the
    numbers of heads are missing or do not fit.
    """
    interleaved = ARCHITECTURES.get(source.architecture or "")
    if interleaved is None:
        return source
    renamed: dict[str, Operand] = {}
    for name in source:
        if name in DERIVED:
            continue
        layer, outer = _LAYER.fullmatch(name), _OUTER.fullmatch(name)
        if layer is not None and layer[2] in LAYER_NAMES:
            alias = f"model.layers.{layer[1]}.{LAYER_NAMES[layer[2]]}.{layer[3]}"
            heads = _heads(source, name, _HEADS[layer[2]]) if interleaved and layer[2] in _HEADS else 0
        elif outer is not None and outer[1] in NAMES:
            alias, heads = f"{NAMES[outer[1]]}.{outer[2]}", 0
        else:
            raise ComputeError(
                "gguf_names_unknown",
                f"{source.label}: tensor {name!r} of architecture {source.architecture} has no Hugging Face name here",
                field=name,
                fix="give the model as safetensors",
            )
        renamed[alias] = source.operand(name, alias, heads=heads)
    return RenamedSource(source, renamed)


def _heads(source: GgufSource, name: str, kind: str) -> int:
    count = source.numbers.get(f"{source.architecture}.attention.{kind}")
    if count is None and kind == "head_count_kv":
        count = source.numbers.get(f"{source.architecture}.attention.head_count")
    rows = source[name].shape[0] if source[name].shape else 0
    if count is None or count < 1 or rows % (2 * count):
        raise ComputeError(
            "gguf_invalid", f"{source.label}: {name!r} of {rows} rows can't have {count} heads", field=name
        )
    return count
