"""WUDI: the merged matrix that disturbs each model's own inputs least, found by a few hundred steps of Adam."""

from __future__ import annotations

from typing import Annotated

import torch

from owm_compute.merge.method import Apply, Bounds, Operands, merge_method
from owm_compute.merge.methods.matrices import merge_matrices

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


@merge_method("wudi", reference="arXiv:2503.08099", base="required", deltas=True, determinism="tolerance", matrix=True)
def wudi(
    operands: Operands,
    *,
    steps: Annotated[int, Bounds(0, 10_000, "steps of Adam")] = 300,
    learning_rate: Annotated[float, Bounds(0, 1, "step size of Adam")] = 1e-5,
) -> Apply:
    """Minimises Σ ‖(X − ΔWᵢ)·ΔWᵢᵀ‖²/‖ΔWᵢ‖² over X by Adam from X = Σ ΔWᵢ: rows of ΔWᵢ stand for the inputs of model i.

    The gradient is 2·(X·G − H) with G = Σ ΔWᵢᵀΔWᵢ/‖ΔWᵢ‖² and H = Σ ΔWᵢ·ΔWᵢᵀΔWᵢ/‖ΔWᵢ‖²: one product a step however
    many models there are, but hundreds of steps: matrices of large models want a GPU. Other shapes than matrices are
    averaged. Memory: (N + 10)·m·n + 2·n² numbers.
    """

    def merge(deltas: list[torch.Tensor]) -> torch.Tensor:
        merged = torch.zeros_like(deltas[0])
        gram = merged.new_zeros(merged.shape[1], merged.shape[1])
        target = torch.zeros_like(merged)
        for delta in deltas:
            merged += delta
            square = float(torch.linalg.vector_norm(delta)) ** 2
            if square > 0:
                product = (delta.T @ delta).div_(square)
                target += delta @ product
                gram += product
        # One model alone is its own minimum, where Adam would amplify the rounding of a zero gradient.
        return merged if len(deltas) == 1 else _adam(merged, gram, target, steps, learning_rate)

    return merge_matrices(operands, merge)


def _adam(x: torch.Tensor, gram: torch.Tensor, target: torch.Tensor, steps: int, rate: float) -> torch.Tensor:
    mean, square = torch.zeros_like(x), torch.zeros_like(x)
    gradient, root = torch.empty_like(x), torch.empty_like(x)
    for step in range(1, steps + 1):
        torch.mm(x, gram, out=gradient).sub_(target).mul_(2)
        mean.lerp_(gradient, 1 - _BETAS[0])
        square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        torch.sqrt(square, out=root).div_((1 - _BETAS[1] ** step) ** 0.5).add_(_EPSILON)
        x.addcdiv_(mean, root, value=-rate / (1 - _BETAS[0] ** step))
    return x
