"""Writes merge-methods.json: small merges with the results of the formulas, in float64, independent of the engine.

Run: python test/vectors/make-merge-methods.py
"""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np

COMMENT = [
    (
        "Each entry of `cases` is one tensor merged by one method. `base` (or null) and `models` are its operands, "
        "flat in row-major order, in `shape`; all of them, and all differences from the base, are exact in float32."
    ),
    (
        "`values` and `each` are the settings of a merge program: one number a method, one number a model. `tensor` is "
        "the name of the tensor and `seed` the seed of the program: they decide random masks."
    ),
    (
        "`expected` is the result in float64: an engine that computes in float32 agrees within `tolerance`, absolute, "
        "before it rounds to an output dtype. With `error` instead, the method refuses with that code."
    ),
    "Equal magnitudes: an element of a lower index counts as the larger one.",
]
TINY = 1e-7
SEED = 11
cases: list[dict] = []


def tensor_name():
    """Name of the next case's tensor, which decides its random masks."""
    return f"layer.{len(cases)}.weight"


def case(name, method, models, base=None, *, values=None, each=None, result=None):
    """Appends a case; `result` is its array or the code of its error."""
    models = [np.asarray(model, np.float64) for model in models]
    base = None if base is None else np.asarray(base, np.float64)
    for array in [*models, *([] if base is None else [base, *(model - base for model in models)])]:
        assert np.array_equal(array, array.astype(np.float32)), name
    entry = {
        "name": f"{method}: {name}",
        "method": method,
        "values": values or {},
        "each": each or {},
        "seed": SEED,
        "tensor": tensor_name(),
        "shape": list(models[0].shape),
        "base": None if base is None else base.ravel().tolist(),
        "models": [model.ravel().tolist() for model in models],
    }
    if isinstance(result, str):
        entry["error"] = result
    else:
        assert np.isfinite(result).all(), name
        entry["expected"] = [float(f"{number:.12g}") for number in result.ravel()]
        entry["tolerance"] = float(f"{2e-6 * max(1.0, np.abs(result).max()):.3g}")
    cases.append(entry)


def numbers(seed, shape, step, most):
    """Random multiples of `step` up to ±most: a coarse step makes many equal magnitudes."""
    return np.random.default_rng(seed).integers(-round(most / step), round(most / step) + 1, shape) * step


# Masks and selections


def order(magnitudes):
    """Indices from the largest magnitude to the smallest."""
    return sorted(range(len(magnitudes)), key=lambda i: (-magnitudes[i], i))


def magnitude(delta, density, gamma=0.0):
    """The delta without its int(gamma·n) largest elements and without the smallest, int(density·n) of them left."""
    if density >= 1:
        return delta
    n = delta.size
    keep, top = int(density * n), int(gamma * n)
    top = min(top, n - keep)
    kept = np.zeros(n)
    for i in order(np.abs(delta).ravel())[top : top + keep]:
        kept[i] = delta.ravel()[i]
    return kept.reshape(delta.shape)


def mix(h):
    """The 32-bit finalizer of MurmurHash3."""
    h ^= h >> 16
    h = h * 0x85EBCA6B % 2**32
    h ^= h >> 13
    h = h * 0xC2B2AE35 % 2**32
    return h ^ (h >> 16)


def uniform(seed, tensor, model, n):
    """n random numbers in [0, 1) of one model's tensor."""
    digest = hashlib.sha256(f"{seed}\0{tensor}\0{model}".encode()).digest()
    first, second = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")
    return np.array([mix((mix(i ^ first) + second) % 2**32) for i in range(n)]) / 2**32


def bernoulli(delta, density, seed, tensor, model):
    """Each element kept with probability `density`."""
    if density >= 1:
        return delta
    return delta * (uniform(seed, tensor, model, delta.size) < density).reshape(delta.shape)


def row_ranks(delta, density, epsilon, seed, tensor, model):
    """Each element kept with a probability of density ± epsilon, the more the higher its rank in its row."""
    if density >= 1:
        return delta
    length = delta.shape[-1]
    rows = np.abs(delta).reshape(-1, length)
    probability = np.empty(rows.shape)
    for r, row in enumerate(rows):
        for rank, i in enumerate(reversed(order(row))):
            probability[r, i] = density - epsilon + 2 * epsilon * rank / max(length - 1, 1)
    return delta * (uniform(seed, tensor, model, delta.size).reshape(rows.shape) < probability).reshape(delta.shape)


def same_l1(delta, kept):
    """The kept elements, scaled to the L1 norm of all."""
    before, after = np.abs(delta).sum(), np.abs(kept).sum()
    return kept if before < TINY or after < TINY else kept * (before / after)


# Ways to put deltas together


def majority(terms):
    """+1 where the sum is not negative; no sum may be so near zero that rounding decides."""
    total = sum(terms)
    assert not ((np.abs(total) < 1e-6) & (total != 0)).any()
    return np.where(total >= 0, 1.0, -1.0)


def plain(deltas, weights, normalize):
    """Σ w·δ, over Σ w if asked."""
    total = sum(weights)
    return sum(w * d for w, d in zip(weights, deltas, strict=False)) / (
        total if normalize and abs(total) >= 1e-8 else 1
    )


def consensus(deltas, weights, normalize):
    """Only what agrees with the sign of the weighted sum."""
    terms = [w * d for w, d in zip(weights, deltas, strict=False)]
    sign = majority(terms)
    agree = [np.sign(t) == sign for t in terms]
    divisor = sum(w * a for w, a in zip(weights, agree, strict=False))
    return sum(t * a for t, a in zip(terms, agree, strict=False)) / np.where(
        divisor == 0, 1, divisor if normalize else 1
    )


def paper_consensus(deltas, weights):
    """TIES as published: signs elected by the unweighted deltas, then the weighted mean of those that agree."""
    sign = majority(deltas)
    agree = [np.sign(d) == sign for d in deltas]
    divisor = sum(w * a for w, a in zip(weights, agree, strict=False))
    return sum(w * d * a for w, d, a in zip(weights, deltas, agree, strict=False)) / np.where(divisor == 0, 1, divisor)


# Inputs: coarse ones hold many equal magnitudes and zeros, fine ones hardly any.


def operands(seed, shape, count, coarse):
    """A base and models."""
    step, most = (0.25, 1.0) if coarse else (2**-14, 1.0)
    base = numbers(seed, shape, step, most)
    return base, [base + numbers(seed + 1 + i, shape, step, most) for i in range(count)]


INPUTS = {
    "coarse matrix": operands(100, (4, 6), 3, True),
    "fine matrix": operands(200, (5, 7), 2, False),
    "fine vector": operands(300, (33,), 3, False),
    "coarse vector": operands(400, (16,), 4, True),
    "one element": operands(500, (1,), 2, False),
    "four axes": operands(600, (2, 3, 2, 2), 2, False),
}
WEIGHTS = {2: [1.0, 0.5], 3: [0.5, 1.0, 0.25], 4: [1.0, 0.5, 0.25, 2.0]}
NEGATIVE = {2: [1.0, -0.5], 3: [0.5, -1.0, 0.25], 4: [1.0, -0.5, 0.25, -2.0]}


# linear, passthrough, nan

for name, (_base, models) in INPUTS.items():
    w = WEIGHTS[len(models)]
    case(name, "linear", models, each={"weight": w}, result=plain(models, w, True))
base, models = INPUTS["fine matrix"]
case(
    "weights as they are",
    "linear",
    models,
    values={"normalize": 0},
    each={"weight": [0.3, -1.7]},
    result=plain(models, [0.3, -1.7], False),
)
case("weight 1 alone", "linear", models, each={"weight": [0, 1]}, result=models[1])
case(
    "weights that sum to zero", "linear", models * 2, each={"weight": [0.1, 0.2, -0.3, 0.0]}, result="weights_sum_zero"
)
many = [numbers(700 + i, (3, 5), 2**-14, 1.0) for i in range(12)]
case(
    "twelve models",
    "linear",
    many,
    each={"weight": [1.0 + i for i in range(12)]},
    result=plain(many, [1.0 + i for i in range(12)], True),
)
case("copy", "passthrough", models[:1], result=models[0])
case("scaled", "passthrough", models[:1], each={"scale": [-0.5]}, result=-0.5 * models[0])
for name in ("fine matrix", "coarse vector"):
    base, models = INPUTS[name]
    inverse = [1 / np.linalg.norm(model) for model in models]
    mean = plain(models, inverse, True)
    case(name, "nan", models, result=mean)
    case(f"{name}, from a base", "nan", models, base, values={"lambda": 0.5}, result=base + 0.5 * (mean - base))

# Generalised task arithmetic

GAMMA, EPSILON = 0.15, 0.2
KINDS = {
    "all": lambda delta, density, *_: delta,
    "magnitude": lambda delta, density, *_: magnitude(delta, density),
    "outliers": lambda delta, density, *_: magnitude(delta, density, GAMMA),
    "bernoulli": bernoulli,
    "ranks": lambda delta, density, *stream: row_ranks(delta, density, EPSILON, *stream),
}
# Method: (kind, signs, normalize, rescale), the last two being the defaults of its parameters.
METHODS = {
    "task_arithmetic": ("all", False, False, False),
    "ties": ("magnitude", True, True, False),
    "dare_linear": ("bernoulli", False, False, True),
    "dare_ties": ("bernoulli", True, False, True),
    "breadcrumbs": ("outliers", False, False, False),
    "breadcrumbs_ties": ("outliers", True, False, False),
    "della_linear": ("ranks", False, False, True),
    "della": ("ranks", True, True, True),
}
EXTRA = {"outliers": {"gamma": GAMMA}, "ranks": {"epsilon": EPSILON}}


def family(method, inputs, density=0.5, weights=WEIGHTS, **values):
    """A case an input: sparsify, rescale, combine, scale, add to the base."""
    kind, signs, normalize, rescale = METHODS[method]
    lam = values.pop("lam", 1.0)
    for name in inputs:
        base, models = INPUTS[name]
        w = weights[len(models)]
        densities = [density] * len(w) if isinstance(density, float) else density[: len(w)]
        deltas, kept = [model - base for model in models], []
        for i, delta in enumerate(deltas):
            part = KINDS[kind](delta, densities[i], SEED, tensor_name(), i)
            kept.append(same_l1(delta, part) if values.get("rescale", rescale) else part)
        merged = (consensus if signs else plain)(kept, w, values.get("normalize", normalize))
        each = {"weight": w, **{key: [number] * len(w) for key, number in EXTRA.get(kind, {}).items()}}
        if kind != "all":
            each["density"] = densities
        settings = {**values, **({} if lam == 1.0 else {"lambda": lam})}
        label = ", ".join([name, *(f"{key} {number}" for key, number in {**each, **settings}.items())])
        case(label, method, models, base, values=settings, each=each, result=base + lam * merged)


SOME = ("coarse matrix", "fine vector")
SEVERAL = tuple(name for name in INPUTS if name != "one element")
for method, (kind, _signs, normalize, rescale) in METHODS.items():
    family(method, INPUTS if kind in ("all", "bernoulli") else SEVERAL, lam=0.5)
    family(method, SOME, normalize=1 - normalize)
    if kind != "all":
        family(method, SOME, rescale=1 - rescale)
        family(method, SOME, density=1.0)
        family(method, SOME, density=[0.75, 0.25, 0.625, 0.5], lam=2.0)
    if kind in ("all", "magnitude"):
        family(method, SOME, weights=NEGATIVE, normalize=0)
        family(method, ("fine matrix",), weights={2: [1.0, -1.0]}, normalize=1)
family("ties", SOME, density=0.1)
family("breadcrumbs", SOME, density=0.95)
base, models = INPUTS["fine matrix"]
for method in ("ties", "breadcrumbs_ties", "ties_paper"):
    case(
        "nothing would be left",
        method,
        models,
        base,
        each={"weight": [1.0, 1.0], "density": [0.5, 0.02]},
        result="density_too_small",
    )
case(
    "probability below 0",
    "della",
    models,
    base,
    each={"weight": [1.0, 1.0], "density": [0.1, 0.5]},
    result="invalid_spec",
)

# The papers' own variants


def dropped(deltas, density):
    """DARE as published: random elements dropped, the others times 1/density."""
    return [bernoulli(delta, density, SEED, tensor_name(), i) / density for i, delta in enumerate(deltas)]


for name in SEVERAL:
    base, models = INPUTS[name]
    w = WEIGHTS[len(models)]
    deltas = [model - base for model in models]
    each = {"weight": w, "density": [0.5] * len(w)}
    trimmed = [magnitude(delta, 0.5) for delta in deltas]
    case(name, "ties_paper", models, base, each=each, result=base + paper_consensus(trimmed, w))
    merged = 0.25 * plain(dropped(deltas, 0.5), w, False)
    case(name, "dare_paper_linear", models, base, each=each, values={"lambda": 0.25}, result=base + merged)
    case(name, "dare_paper_ties", models, base, each=each, result=base + paper_consensus(dropped(deltas, 0.5), w))

# consensus_ta: positions that at least `agreement` task masks hold


def tall_masks(deltas, weights, mask_lambda, agreement):
    """Σ w·δ where enough models have abs(δ) ≥ mask_lambda·abs(Σ w·δ − δ)."""
    total = plain(deltas, weights, False)
    votes = sum(np.abs(delta) >= mask_lambda * np.abs(total - delta) for delta in deltas)
    return total * (votes >= agreement)


for name, (base, models) in INPUTS.items():
    w = WEIGHTS[len(models)]
    deltas = [model - base for model in models]
    for values in ({}, {"mask_lambda": 0.75, "agreement": 1, "lambda": 0.5}, {"agreement": 3}):
        settings = {"mask_lambda": 0.5, "agreement": 2, "lambda": 1.0, **values}
        merged = tall_masks(deltas, w, settings["mask_lambda"], settings["agreement"])
        case(
            f"{name}, {values}",
            "consensus_ta",
            models,
            base,
            values=values,
            each={"weight": w},
            result=base + settings["lambda"] * merged,
        )

# sce


def sce(deltas, topk):
    """Positions of the largest variance, the majority's sign, weights by energy."""
    if topk < 1:
        variance = np.var(np.stack(deltas), axis=0)
        keep = int(np.count_nonzero(variance) * topk)
        mask = np.zeros(variance.size)
        mask[order(variance.ravel())[:keep]] = 1
        deltas = [delta * mask.reshape(delta.shape) for delta in deltas]
    sign = majority(deltas)
    agree = [np.sign(delta) == sign for delta in deltas]
    energies = [np.mean(delta**2) for delta in deltas]
    total = sum(energies)
    shares = [energy / total if total >= 1e-6 else 1 / len(deltas) for energy in energies]
    divisor = np.maximum(sum(c * a for c, a in zip(shares, agree, strict=False)), 1e-6)
    return sum(c * a * delta for c, a, delta in zip(shares, agree, deltas, strict=False)) / divisor


for name, topk in itertools.product(INPUTS, (1.0, 0.5)):
    base, models = INPUTS[name]
    # Three models: differences in thirds, so that the mean of three is exact in float32.
    models = [base + 3 * (model - base) for model in models] if len(models) == 3 else models
    case(
        f"{name}, select_topk {topk}",
        "sce",
        models,
        base,
        values={"select_topk": topk},
        result=base + sce([model - base for model in models], topk),
    )
base, models = INPUTS["coarse matrix"]
case("unchanged models", "sce", [base, base], base, values={"select_topk": 0.5}, result=base)

# ram, ramplus_tl


def ram(deltas, epsilon=1e-5, r=0.0, alpha=0.0):
    """What one model changed is added, what several changed is averaged; r > 0 amplifies the former."""
    active = [np.abs(delta) > epsilon for delta in deltas]
    count = sum(a.astype(int) for a in active)
    merged = np.zeros(deltas[0].shape)
    for delta, a in zip(deltas, active, strict=False):
        unique, shared = a & (count == 1), a & (count > 1)
        rho = shared.sum() / max(unique.sum(), epsilon)
        merged += unique * delta * (1 + r * np.clip(rho, 0, alpha)) + shared * delta / np.maximum(count, 1)
    return merged


for name, (base, models) in INPUTS.items():
    deltas = [model - base for model in models]
    case(name, "ram", models, base, result=base + ram(deltas))
    case(f"{name}, epsilon 0.3", "ram", models, base, values={"epsilon": 0.3}, result=base + ram(deltas, 0.3))
    case(name, "ramplus_tl", models, base, result=base + ram(deltas, 1e-5, 0.1, 0.2))
    values = {"epsilon": 0.3, "r": 0.5, "alpha": 0.8}
    case(f"{name}, {values}", "ramplus_tl", models, base, values=values, result=base + ram(deltas, 0.3, 0.5, 0.8))

lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in cases)
text = f'{{"comment": {json.dumps(COMMENT, ensure_ascii=False)}, "cases": [\n{lines}\n]}}\n'
Path(__file__).with_name("merge-methods.json").write_text(text)
