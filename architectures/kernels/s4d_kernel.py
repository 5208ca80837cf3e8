"""The diagonal state space as a convolution: its kernel, and its state before and after.

Gu et al. 2022, https://arxiv.org/abs/2206.11893, section 3. With the discretised transition
exp(z), z = dt A, and input weight b:

    h_t = exp(z) h_{t-1} + b u_t        y_t = 2 Re(C h_t)
    kernel_l = 2 Re(sum_n C_n b_n exp(l z_n))        (a Vandermonde product)

Time is split in two levels, l = p Q + q with Q about sqrt(T), so that exp(l z) is the outer product
exp(p Q z) exp(q z): P + Q exponentials instead of P Q, and every sum is a batched real matrix
product (H, P, 2n) (H, 2n, Q). Memory grows as sqrt(T) n for the kernel.

H channels, n complex states of each channel, B batch, T time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad


def s4d_kernel(z: Tensor, weight: Tensor, length: int) -> Tensor:
    """2 Re(sum_n weight exp(l z)), l < T, for complex z and weight (H, n): real (H, T)."""
    n_inner, n_outer = two_levels(length)
    inner = weight.unsqueeze(1) * powers(z, n_inner)  # (H, Q, n)
    outer = powers(z * n_inner, n_outer)  # (H, P, n)
    return real_product(outer, inner).flatten(1)[:, :length]  # (H, P, Q) -> (H, T)


def s4d_output_of_state(z: Tensor, weight: Tensor, state: Tensor, length: int) -> Tensor:
    """What a state alone would put out: 2 Re(sum_n weight exp((l + 1) z) state), l < T.

    z and weight (H, n) and state (B, H, n) are complex. Returns real (B, H, T).
    """
    n_inner, n_outer = two_levels(length)
    inner = powers(z, n_inner)  # (H, Q, n)
    outer = powers(z * n_inner, n_outer) * (weight * z.exp()).unsqueeze(1)  # (H, P, n)
    started = state.unsqueeze(2) * outer  # (B, H, P, n)
    return real_product(started, inner).flatten(2)[..., :length]  # (B, H, P, Q) -> (B, H, T)


def s4d_final_state(
    z: Tensor,
    b: Tensor,
    u: Tensor,
    state: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Tensor:
    """The state after the inputs u (B, H, T), or after `lengths` (B,) of them: complex (B, H, n).

    z and b (H, n) and the state before (B, H, n) are complex; padding in u must be 0.
    """
    length = u.shape[-1]
    n_inner, n_outer = two_levels(length)
    if lengths is not None:
        u = align_right(u, lengths)
    u = pad(u, (n_outer * n_inner - length, 0))  # zeros before the beginning change nothing
    u = u.view(*u.shape[:2], n_outer, n_inner)  # (B, H, P, Q)
    inner = torch.view_as_real(powers(z, n_inner).flip(1)).flatten(2)  # (H, Q, 2n)
    summed = u @ inner  # (B, H, P, 2n)
    summed = torch.view_as_complex(summed.view(*summed.shape[:3], -1, 2))  # (B, H, P, n)
    outer = powers(z * n_inner, n_outer).flip(1)  # (H, P, n)
    final = b * (summed * outer).sum(2)  # (B, H, n)
    if state is None:
        return final
    n_tokens = length if lengths is None else lengths.view(-1, 1, 1)
    return final + (z * n_tokens).exp() * state


def two_levels(length: int) -> tuple[int, int]:
    """Q and P with Q about sqrt(T) and P Q >= T."""
    n_inner = math.isqrt(length - 1) + 1
    return n_inner, -(-length // n_inner)


def powers(z: Tensor, n_powers: int) -> Tensor:
    """exp(l z) for l < n_powers: (H, n) to (H, n_powers, n)."""
    exponents = torch.arange(n_powers, device=z.device, dtype=z.real.dtype)
    return (z.unsqueeze(1) * exponents.unsqueeze(1)).exp()


def real_product(outer: Tensor, inner: Tensor) -> Tensor:
    """2 Re(sum_n outer inner) of complex (..., P, n) and (..., Q, n): real (..., P, Q)."""
    left = torch.view_as_real(2 * outer.conj().resolve_conj()).flatten(-2)  # (..., P, 2n)
    right = torch.view_as_real(inner).flatten(-2)  # (..., Q, 2n)
    # Re(a b) = Re a Re b - Im a Im b, the scalar product of conj(a) and b as real vectors.
    return left @ right.transpose(-1, -2)


def align_right(u: Tensor, lengths: Tensor) -> Tensor:
    """Shift each row of u (B, H, T) so that its last real token is the last; zeros come first."""
    length = u.shape[-1]
    source = torch.arange(length, device=u.device) - (length - lengths.unsqueeze(1))  # (B, T)
    shifted = u.gather(-1, source.clamp(min=0).unsqueeze(1).expand_as(u))
    return shifted.masked_fill((source < 0).unsqueeze(1), 0.0)
