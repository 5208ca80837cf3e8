"""HiPPO-LegS and its normal part: Gu et al. 2020, https://arxiv.org/abs/2008.07669, theorem 2.

    A_nk = -sqrt((2n + 1)(2k + 1)) below the diagonal, -(n + 1) on it, 0 above
    B_n  = sqrt(2n + 1)
    A    = V diag(L) V* - P P^T,   P_n = sqrt(n + 1/2)      (S4, https://arxiv.org/abs/2111.00396,
                                                             appendix C)

A + P P^T is -1/2 I plus a skew-symmetric matrix: it is normal, its eigenvectors V are unitary and
its eigenvalues L = -1/2 + i frequency come in conjugate pairs, of which one is kept.

N real states, n = N/2 pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor


def legs_normal_part(n_state: int) -> tuple[Tensor, Tensor]:
    """The positive frequencies (n,), float64, and their eigenvectors V (N, n), complex128."""
    root = (2 * torch.arange(n_state, dtype=torch.float64) + 1).sqrt()
    skew = 0.5 * torch.outer(root, root)
    skew = skew.triu(1) - skew.tril(-1)  # (N, N)
    frequencies, vectors = torch.linalg.eigh(-1j * skew)
    return frequencies[n_state // 2 :], vectors[:, n_state // 2 :]


def legs_low_rank(n_state: int) -> Tensor:
    """P (N,), float64."""
    return (torch.arange(n_state, dtype=torch.float64) + 0.5).sqrt()


def legs_input(n_state: int) -> Tensor:
    """B (N,), float64."""
    return (2 * torch.arange(n_state, dtype=torch.float64) + 1).sqrt()
