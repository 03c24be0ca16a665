"""Writes merge-matrix-methods.json: merges on spheres, in pairs and of matrices, by formula, in float64 by numpy.

Run: python test/vectors/make-merge-matrix-methods.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

COMMENT = [
    (
        "Cases as in merge-methods.json: one tensor merged by one method. `base` (or null) and `models` are its "
        "operands, flat in row-major order, in `shape`; all of them, and all differences from the base, are exact in "
        "float32. For slerp the base is the other end."
    ),
    (
        "`values` and `each` are the settings of a merge program. `expected` is the result in float64, of shape "
        "`expected_shape` where that is not `shape`: an engine that computes in float32 agrees within `tolerance`, "
        "absolute. With `error` instead, the method refuses with that code."
    ),
    "Singular vectors: in each pair the left one's element of the largest magnitude is positive.",
]
cases: list[dict] = []


def case(name, method, models, base=None, *, values=None, each=None, result=None, tolerance=2e-6):
    """Appends a case; `result` is its array or the code of its error, `tolerance` relative to its largest element."""
    models = [np.asarray(model, np.float64) for model in models]
    base = None if base is None else np.asarray(base, np.float64)
    for array in [*models, *([] if base is None else [base, *(model - base for model in models)])]:
        assert np.array_equal(array, array.astype(np.float32)), name
    entry = {
        "name": f"{method}: {name}",
        "method": method,
        "values": values or {},
        "each": each or {},
        "seed": 0,
        "tensor": "layer.weight",
        "shape": list(models[0].shape),
        "base": None if base is None else base.ravel().tolist(),
        "models": [model.ravel().tolist() for model in models],
    }
    if isinstance(result, str):
        entry["error"] = result
    else:
        assert np.isfinite(result).all(), name
        if result.shape != models[0].shape:
            entry["expected_shape"] = list(result.shape)
        entry["expected"] = [float(f"{number:.9g}") for number in result.ravel()]
        entry["tolerance"] = float(f"{tolerance * max(1.0, np.abs(result).max()):.3g}")
    cases.append(entry)


def numbers(seed, shape, step=2**-12, most=1.0):
    """Random multiples of `step` up to ±most."""
    return np.random.default_rng(seed).integers(-round(most / step), round(most / step) + 1, shape) * step


SHAPES = {"vector": (17,), "matrix": (5, 7), "four axes": (3, 2, 2, 2)}
INPUTS = {
    name: (numbers(10 * i, s), [numbers(10 * i + 1 + k, s) for k in range(4)])
    for i, (name, s) in enumerate(SHAPES.items())
}


# Spheres


def angle(a, b):
    """Between two vectors."""
    return np.arccos(np.clip(np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))


def arc(a, b, t):
    """The point at t of the great circle from a to b."""
    theta = angle(a, b)
    return (np.sin((1 - t) * theta) * a + np.sin(t * theta) * b) / np.sin(theta)


def along(function, axis, a, b, t):
    """`function` on each pair of vectors along an axis."""
    a, b = np.moveaxis(a, axis, -1), np.moveaxis(b, axis, -1)
    flat = [function(x, y, t) for x, y in zip(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]), strict=True)]
    return np.moveaxis(np.stack(flat).reshape(a.shape), -1, axis)


def multislerp(tensors, weights, normalize=True):
    """The exponential map at the mean direction, step by step as the formula has it."""
    weights = np.array(weights) / (sum(weights) if normalize else 1)
    units = [x / (np.linalg.norm(x) + 1e-8) for x in tensors]
    mean = sum(w * u for w, u in zip(weights, units, strict=True))
    mean = mean / np.linalg.norm(mean)
    tangent = sum(w * (u - np.sum(u * mean) * mean) for w, u in zip(weights, units, strict=True))
    size = np.linalg.norm(tangent)
    point = mean * np.cos(size) + (tangent * np.sin(size) / size if size > 1e-8 else 0)
    return point * sum(w * np.linalg.norm(x) for w, x in zip(weights, tensors, strict=True))


def karcher(tensors, steps=10, tol=1e-5):
    """Gradient steps on the sphere, on the vectors themselves."""
    norms = [np.linalg.norm(x) for x in tensors]
    units = [x / n for x, n in zip(tensors, norms, strict=True) if n > tol]
    if not units:
        return np.zeros(tensors[0].shape)
    point = sum(units) / len(units)
    size = np.linalg.norm(point)
    point = units[0] if size < tol else point / size
    for _ in range(steps):
        step = np.zeros(point.shape)
        for unit in units:
            cosine = np.clip(np.sum(point * unit), -1, 1)
            theta = np.arccos(cosine)
            if theta >= tol:
                step += theta / np.sin(theta) * (unit - cosine * point) / len(units)
        size = np.linalg.norm(step)
        if size < tol:
            break
        point = np.cos(size) * point + np.sin(size) / size * step
        point = point / np.linalg.norm(point)
    return point * sum(norms) / len(norms)


for name, (base, models) in INPUTS.items():
    for t in (0.0, 0.3, 0.5, 1.0):
        case(f"{name}, t {t}", "slerp", models[:1], base, values={"t": t}, result=arc(base, models[0], t))
    near = base + numbers(90, base.shape, 2**-12, 0.022)
    assert 0.9995 < np.cos(angle(base, near)) < 0.9999
    case(f"{name}, nearly collinear", "slerp", [near], base, values={"t": 0.25}, result=0.75 * base + 0.25 * near)
    case(f"{name}, opposite", "slerp", [-2 * base], base, values={"t": 0.25}, result=0.75 * base - 0.5 * base)
    for w in ([1.0, 3.0], [0.0, 1.0]):
        t = w[1] / sum(w)
        a, b = models[:2]
        each = {"weight": w}
        case(f"{name}, {w}", "nuslerp", [a, b], each=each, result=arc(a, b, t))
        case(f"{name}, {w}, from a base", "nuslerp", [a, b], base, each=each, result=base + arc(a - base, b - base, t))
        rows, columns = {"nuslerp_flatten": 0}, {"nuslerp_flatten": 0, "nuslerp_row_wise": 1}
        case(f"{name}, {w}, rows", "nuslerp", [a, b], each=each, values=rows, result=along(arc, -1, a, b, t))
        moved = base + along(arc, -1, a - base, b - base, t)
        case(f"{name}, {w}, rows from a base", "nuslerp", [a, b], base, each=each, values=rows, result=moved)
        case(f"{name}, {w}, columns", "nuslerp", [a, b], each=each, values=columns, result=along(arc, 0, a, b, t))
    case(f"{name}, weights cancel", "nuslerp", models[:2], each={"weight": [1.0, -1.0]}, result=arc(*models[:2], 0.5))
    for count in (2, 3, 4):
        some, w = models[:count], [1.0, 0.5, 0.25, 2.0][:count]
        each = {"weight": w}
        case(f"{name} of {count}", "multislerp", some, each=each, result=multislerp(some, w))
        moved = base + multislerp([x - base for x in some], w, False)
        values = {"normalize_weights": 0}
        case(f"{name} of {count}, from a base", "multislerp", some, base, each=each, values=values, result=moved)
        case(f"{name} of {count}", "karcher", some, result=karcher(some))
        values = {"max_iter": 3, "tol": 1e-3}
        case(f"{name} of {count}, {values}", "karcher", some, values=values, result=karcher(some, 3, 1e-3))
a = numbers(91, (6,))
zero = np.zeros(6)
case("same model twice", "nuslerp", [a, a], each={"weight": [1.0, 2.0]}, result=a)
case("a zero end", "slerp", [zero], a, values={"t": 0.5}, result=np.sin(np.pi / 4) * a)
case("opposite directions of two", "multislerp", [a, -2 * a], each={"weight": [1.0, 1.0]}, result=-0.5 * a)
case("directions cancel", "multislerp", [a, a, -a], each={"weight": [1.0, 1.0, 2.0]}, result="no_direction")
case("weights sum to zero", "multislerp", [a, 2 * a], each={"weight": [1.0, -1.0]}, result="weights_sum_zero")
case("nothing changed", "multislerp", [a, a, a], a, each={"weight": [1.0, 1.0, 2.0]}, result=a)
case("one is zero", "karcher", [a, zero, 2 * a[::-1]], result=karcher([a, zero, 2 * a[::-1]]))
case("all are zero", "karcher", [zero, zero], result=zero)

# model_stock


def stock(deltas):
    """t·mean(δ)."""
    n = len(deltas)
    cosines = [
        np.clip(np.sum(deltas[i] * deltas[j]) / max(np.linalg.norm(deltas[i]) * np.linalg.norm(deltas[j]), 1e-6), -1, 1)
        for i in range(n)
        for j in range(i)
    ]
    c = np.mean(cosines)
    return n * c / (1 + (n - 1) * c) * sum(deltas) / n


def stock_rows(deltas):
    """An angle for each row along the first axis; vectors are one row."""
    if deltas[0].ndim < 2:
        return stock(deltas)
    return np.stack([stock([delta[r] for delta in deltas]) for r in range(len(deltas[0]))])


for name, (base, models) in INPUTS.items():
    for count in (2, 3):
        # Differences that agree for the most part, as those of fine-tunes of one base do.
        some = [base + models[3] / 2 + model / 4 for model in models[:count]]
        deltas = [model - base for model in some]
        case(f"{name} of {count}", "model_stock", some, base, result=base + stock(deltas))
        values = {"filter_wise": 1}
        case(f"{name} of {count}, rows", "model_stock", some, base, values=values, result=base + stock_rows(deltas))
case("unchanged models", "model_stock", [a, a], a, result=a)

# Pairs


def fusion(x, b):
    """Important changes, whole."""
    rows, other = x.reshape(-1, x.shape[-1]), b.reshape(-1, x.shape[-1])
    p, q = (np.exp(r) / np.exp(r).sum(axis=1, keepdims=True) + 1e-8 for r in (rows, other))
    importance = np.abs(rows - other) * np.sum(p * np.log(p / q), axis=1, keepdims=True)
    low, middle, high = np.quantile(importance, [0.25, 0.5, 0.75])
    threshold = middle + 1.5 * (high - low)
    assert (np.abs(importance - threshold) > 1e-4 * threshold).all()
    kept = importance >= threshold
    assert kept.any()
    return np.where(kept, rows, other).reshape(x.shape)


for name, (base, models) in INPUTS.items():
    for t in (0.0, 0.05, 0.5, 4.0):
        w = np.clip(t / np.maximum(np.abs(base - models[0]), 1e-6), 0, 1)
        result = w * models[0] + (1 - w) * base
        case(f"{name}, t {t}", "nearswap", models[:1], base, values={"t": t}, result=result)
    case(name, "arcee_fusion", models[:1], base, result=fusion(models[0], base))

# Matrices: results through singular vectors


def svd(matrix):
    """Thin, with signs as the comment says."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    signs = np.sign(u[np.abs(u).argmax(axis=0), np.arange(len(s))])
    return u * signs, s, vt * signs[:, None]


def orthogonal(matrix):
    """The nearest matrix with orthonormal rows or columns, within the range of `matrix`."""
    p, s, qt = np.linalg.svd(matrix, full_matrices=False)
    rank = int((s > 1e-6 * s[0]).sum())
    return p[:, :rank] @ qt[:rank]


def tsvm(deltas):
    """Task singular vectors."""
    keep = max(1, min(deltas[0].shape) // len(deltas))
    parts = [np.linalg.svd(delta, full_matrices=False) for delta in deltas]
    u = orthogonal(np.hstack([p[0][:, :keep] for p in parts]))
    v = orthogonal(np.vstack([p[2][:keep] for p in parts]))
    return u @ np.diag(np.concatenate([p[1][:keep] for p in parts])) @ v


def iso_c(deltas):
    """All singular values at their mean."""
    total = sum(deltas)
    return orthogonal(total) * np.linalg.svd(total, compute_uv=False).mean()


def iso_cts(deltas, fraction=0.8):
    """Common directions, then some of each model's own."""
    rank = min(deltas[0].shape)
    own = round(rank * (1 - fraction) / len(deltas))
    common = rank - own * len(deltas)
    u, s, vt = np.linalg.svd(sum(deltas), full_matrices=False)
    us, ss, vs = [u[:, :common]], [s[:common]], [vt[:common]]
    for delta in deltas:
        left, values, right = np.linalg.svd(delta - us[0] @ us[0].T @ delta, full_matrices=False)
        us.append(left[:, :own])
        ss.append(values[:own])
        vs.append(right[:own])
    return orthogonal(np.hstack(us)) @ orthogonal(np.vstack(vs)) * np.concatenate(ss).mean()


def svc(deltas, weights, alpha=0.1):
    """Each singular value times N/Σ max(alpha, sᵢ)."""
    total = sum(w * d for w, d in zip(weights, deltas, strict=True))
    u, s, vt = np.linalg.svd(total, full_matrices=False)
    result = np.zeros(total.shape)
    for r in range(len(s)):
        merged = u[:, r] @ total
        shares = 0.0
        for delta in deltas:
            own = u[:, r] @ delta
            shares += max(alpha, merged @ own / (own @ own))
        result += len(deltas) / shares * s[r] * np.outer(u[:, r], vt[r])
    return result


def wudi(deltas, steps, rate):
    """Adam on Σ ‖(X − ΔWᵢ)ΔWᵢᵀ‖²/‖ΔWᵢ‖²."""
    x = sum(deltas)
    mean, square = np.zeros(x.shape), np.zeros(x.shape)
    for step in range(1, steps + 1):
        gradient = sum(2 * (x - d) @ d.T @ d / np.sum(d * d) for d in deltas)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        x = x - rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return x


MATRICES = {"wide": (6, 9), "tall": (9, 6), "square": (8, 8)}
for index, (name, shape) in enumerate(MATRICES.items()):
    base = numbers(200 + index, shape)
    for count in (2, 3):
        models = [base + numbers(300 + 10 * index + k, shape, 2**-12, 0.5) for k in range(count)]
        deltas = [model - base for model in models]
        label = f"{name} of {count}"
        for method, function in (("tsvm", tsvm), ("iso_c", iso_c), ("iso_cts", iso_cts)):
            case(label, method, models, base, result=base + function(deltas), tolerance=1e-5)
        case(
            f"{label}, λ 1.5",
            "tsvm",
            models,
            base,
            values={"lambda": 1.5},
            result=base + 1.5 * tsvm(deltas),
            tolerance=1e-5,
        )
        values = {"common_space_fraction": 0.5, "lambda": 0.75}
        case(
            f"{label}, {values}",
            "iso_cts",
            models,
            base,
            values=values,
            result=base + 0.75 * iso_cts(deltas, 0.5),
            tolerance=1e-5,
        )
        each = {"weight": [1.0, 0.5, 2.0][:count]}
        case(label, "svc", models, base, each=each, result=base + svc(deltas, each["weight"]), tolerance=1e-5)
        each = {"weight": [1.0] * count}
        values = {"alpha": 0.8, "lambda": 0.5}
        result = base + 0.5 * svc(deltas, each["weight"], 0.8)
        case(f"{label}, {values}", "svc", models, base, each=each, values=values, result=result, tolerance=1e-5)
        values = {"steps": 20, "learning_rate": 1e-3}
        case(label, "wudi", models, base, values=values, result=base + wudi(deltas, 20, 1e-3), tolerance=1e-4)

base, models = INPUTS["vector"]
models = models[:3]
mean = sum(model - base for model in models) / 3
weights = [1.0, 0.5, 0.25]
for method in ("tsvm", "iso_c", "iso_cts", "core_iso_c"):
    case("vectors are averaged", method, models, base, values={"lambda": 0.5}, result=base + 0.5 * mean)
case("vectors are averaged", "wudi", models, base, result=base + mean)
total = sum(w * (model - base) for w, model in zip(weights, models, strict=True))
case("vectors are summed", "svc", models, base, each={"weight": weights}, result=base + total)
case("vectors are averaged", "knots_ties", models, base, each={"weight": weights}, result=base + total / 1.75)

# Low rank


def knots(deltas, weights, density):
    """TIES on the right factors of all updates side by side."""
    n = deltas[0].shape[1]
    u, s, vt = np.linalg.svd(np.hstack(deltas), full_matrices=False)
    rank = int((s > 1e-4 * s[0]).sum())
    parts = []
    for i in range(len(deltas)):
        part = vt[:rank, i * n : (i + 1) * n]
        keep = int(density * part.size)
        least = np.sort(np.abs(part).ravel())[part.size - keep]
        parts.append(np.where(np.abs(part) >= least, part, 0))
    terms = [w * part for w, part in zip(weights, parts, strict=True)]
    sign = np.where(sum(terms) >= 0, 1, -1)
    agree = [np.sign(term) == sign for term in terms]
    divisor = sum(w * a for w, a in zip(weights, agree, strict=True))
    merged = sum(term * a for term, a in zip(terms, agree, strict=True)) / np.where(divisor == 0, 1, divisor)
    return u[:, :rank] @ np.diag(s[:rank]) @ merged


def core_iso_c(deltas, rank):
    """In the basis of all left and all right factors."""
    u = np.linalg.svd(np.hstack(deltas), full_matrices=False)[0][:, :rank]
    v = np.linalg.svd(np.vstack(deltas), full_matrices=False)[2][:rank]
    core = u.T @ sum(deltas) @ v.T
    return u @ (orthogonal(core) * np.linalg.svd(core, compute_uv=False).mean()) @ v


for index, (name, shape) in enumerate(MATRICES.items()):
    base = numbers(500 + index, shape)
    deltas = [
        numbers(600 + 10 * index + 2 * k, (shape[0], 2), 2**-5)
        @ numbers(601 + 10 * index + 2 * k, (2, shape[1]), 2**-5)
        for k in range(2)
    ]
    models = [base + delta for delta in deltas]
    for density in (1.0, 0.5):
        each = {"weight": [1.0, 0.5], "density": [density, density]}
        result = base + knots(deltas, each["weight"], density)
        case(f"{name}, density {density}", "knots_ties", models, base, each=each, result=result, tolerance=1e-5)
    each = {"weight": [1.0, 0.5], "density": [0.5, 0.0]}
    case(f"{name}, density 0", "knots_ties", models, base, each=each, result="density_too_small")
    case(name, "core_iso_c", models, base, result=base + core_iso_c(deltas, 4), tolerance=1e-5)

for name, shape in {**MATRICES, "convolution": (4, 3, 2, 2)}.items():
    base, model = numbers(700, shape), numbers(701, shape)
    u, s, vt = svd((model - base).reshape(len(model), -1))
    for rank, epsilon in ((3, 0.0), (64, (s[1] + s[2]) / 2)):
        r = min(rank, len(s))
        root = np.sqrt(np.where(s[:r] > epsilon, s[:r], 0))
        values = {"max_rank": rank, "sv_epsilon": float(epsilon)}
        a = (root[:, None] * vt[:r]).reshape(r, *shape[1:])
        b = (u[:, :r] * root).reshape(shape[0], r, *[1 for _ in shape[2:]])
        case(f"{name}, rank {rank}", "lora_a", [model], base, values=values, result=a, tolerance=1e-5)
        case(f"{name}, rank {rank}", "lora_b", [model], base, values=values, result=b, tolerance=1e-5)
case("a vector", "lora_a", [np.ones(4)], np.zeros(4), result="tensor_shape_mismatch")

lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in cases)
text = f'{{"comment": {json.dumps(COMMENT, ensure_ascii=False)}, "cases": [\n{lines}\n]}}\n'
Path(__file__).with_name("merge-matrix-methods.json").write_text(text)
