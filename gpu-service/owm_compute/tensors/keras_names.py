"""Names of the variables of a Keras file, from where they stand in it.

- Keras 3 (`.keras`, `.weights.h5`) numbers the variables of a layer: `layers/dense/vars/0` → `dense.kernel`. A layer is
  called by its class and its place among the layers of that class, so equal architectures have equal names. Where the
  class does not tell what a number is, it stays: `my_layer/vars/2` → `my_layer.2`.
- Older `.h5` files name them: `model_weights/dense/dense/kernel:0` → `dense.kernel`.
- In any other HDF5 file the path is the name: `a/b/c` → `a.b.c`.

States of optimisers and of random generators are no weights and have no name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_CONTAINERS = frozenset({"layers", "_layer_checkpoint_dependencies"})
_STATES = frozenset({"optimizer", "optimizer_weights"})
_GENERATOR = "seed_generator"
_WEIGHTS = "model_weights"
_KERNEL = ("kernel", "bias")
_RECURRENT = ("kernel", "recurrent_kernel", "bias")
# By the class of a layer, or the attribute that holds it: its variables in their order. The last of a tuple that ends
# in a bias may be missing; of others all must be there, else their numbers would not tell which is which.
_VARIABLES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("dense", "einsum_dense", "conv1d", "conv2d", "conv3d"), _KERNEL),
    **dict.fromkeys(("conv1d_transpose", "conv2d_transpose", "conv3d_transpose"), _KERNEL),
    **dict.fromkeys(("depthwise_conv1d", "depthwise_conv2d"), _KERNEL),
    **dict.fromkeys(("query_dense", "key_dense", "value_dense", "output_dense"), _KERNEL),
    **dict.fromkeys(("separable_conv1d", "separable_conv2d"), ("depthwise_kernel", "pointwise_kernel", "bias")),
    **dict.fromkeys(("cell", "lstm_cell", "gru_cell", "simple_rnn_cell"), _RECURRENT),
    "embedding": ("embeddings",),
    "layer_normalization": ("gamma", "beta"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
_PLACE = re.compile(r"_[0-9]+\Z")
_OUTPUT = re.compile(r":[0-9]+\Z")


def variable_names(paths: Sequence[str]) -> dict[str, str]:
    """Path → name, of every path that is a weight."""
    split = {path: tuple(path.split("/")) for path in paths}
    numbered = any(len(parts) > 1 and parts[-2] == "vars" for parts in split.values())
    groups = Counter(parts[:-1] for parts in split.values())
    names: dict[str, str] = {}
    for path, parts in split.items():
        if parts[0] in _STATES or _GENERATOR in {_PLACE.sub("", part) for part in parts[:-1]}:
            continue
        names[path] = ".".join(_numbered(parts, groups[parts[:-1]]) if numbered else _named(parts))
    return names


def _numbered(parts: tuple[str, ...], count: int) -> list[str]:
    if len(parts) < 2 or parts[-2] != "vars":
        return list(parts)
    layer = [part for part in parts[:-2] if part not in _CONTAINERS]
    known = _VARIABLES.get(_PLACE.sub("", layer[-1]).lstrip("_"), ()) if layer else ()
    if count == len(known) or (known[-1:] == ("bias",) and count == len(known) - 1):
        number = int(parts[-1]) if parts[-1].isdecimal() and len(parts[-1]) < 3 else count
        return [*layer, known[number] if number < count else parts[-1]]
    return [*layer, parts[-1]]


def _named(parts: tuple[str, ...]) -> list[str]:
    inner = parts[1:] if parts[0] == _WEIGHTS and len(parts) > 1 else parts
    layer, *path, variable = inner if len(inner) > 1 else ("", *inner)
    # The path of a variable repeats its layer, below models that contain it.
    if layer in path:
        path = path[len(path) - path[::-1].index(layer) :]
    return [part for part in (layer, *path, _OUTPUT.sub("", variable)) if part]
