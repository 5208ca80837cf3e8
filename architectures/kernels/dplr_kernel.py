"""The diagonal plus low-rank state space: Gu et al. 2022, https://arxiv.org/abs/2111.00396.

    h' = A h + B u,   A = diag(L) - P P*                (theorem 1; here with Q = P)
    h_t = M (2 h_{t-1} + dt B u_t) - h_{t-1},   y_t = C h_t
    M = (I - dt/2 A)^-1                                 (bilinear: transition W = 2 M - I)

States come in conjugate pairs, of which one is kept: products with C and P* are over both, which is
2 Re of the half. As a real vector a state has Re and Im in turn; W is a real matrix on these.

Time is split in two levels, T <= F = S Q with Q a power of 2 about sqrt(T): W^Q is reached by
squarings, W^q b and c W^q for all q < Q by doubling, and chunks of Q tokens are carried S times.

H channels, n complex states of each channel, N = 2n real ones, B batch, T time, Q tokens of a
chunk, S chunks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from architectures.kernels.s4d_kernel import align_right


@dataclass(frozen=True, kw_only=True)
class StateSpace:
    """The continuous system of each channel: complex (H, n) all, but the step dt, real (H, 1)."""

    L: Tensor
    P: Tensor
    B: Tensor
    C: Tensor
    dt: Tensor


@dataclass(frozen=True, kw_only=True)
class Powers:
    """The discrete system of each channel, real, with its powers for two levels of time."""

    squares: list[Tensor]  # W^1, W^2, W^4, .. W^Q, each (H, N, N)
    columns: Tensor  # W^q M dt B, q < Q: (H, N, Q)
    rows: Tensor  # C W^q, q < Q: (H, Q, N)
    n_chunks: int


def bilinear_product(space: StateSpace, v: Tensor) -> Tensor:
    """M v for complex v (..., H, n), by Woodbury's identity: E v - E P s with E diagonal.

    E = 1 / (1 - dt/2 L),  s = dt/2 P* E v / (1 + dt/2 P* E P)
    """
    half = 0.5 * space.dt
    E = 1 / (1 - half * space.L)  # (H, n)
    Ev, EP = E * v, E * space.P
    conj_P = space.P.conj()
    over_pairs = half * 2 * (conj_P * Ev).sum(-1, keepdim=True).real  # (..., H, 1)
    scale = 1 + half * 2 * (conj_P * EP).sum(-1, keepdim=True).real  # (H, 1)
    return Ev - EP * (over_pairs / scale)


def dplr_step(space: StateSpace, u: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """One token u (B, H) after the complex state (B, H, n), or none: y (B, H) and the new state."""
    written = space.dt * space.B * u.unsqueeze(2)  # (B, H, n)
    if state is None:
        state = bilinear_product(space, written)
    else:
        state = bilinear_product(space, 2 * state + written) - state
    return 2 * (space.C * state).sum(2).real, state


def chunk_tokens(length: int) -> int:
    """Q: the power of 2 from sqrt(T) on."""
    return int(2 ** math.ceil(math.log2(length) / 2))


def discrete_powers(space: StateSpace, length: int) -> Powers:
    """All powers that T tokens ask for."""
    n = space.L.shape[1]
    n_inner = chunk_tokens(length)
    eye = torch.eye(2 * n, dtype=space.dt.dtype, device=space.dt.device)
    unit = torch.view_as_complex(eye.view(2 * n, 1, n, 2))  # the real basis, (N, 1, n)
    M = real_vector(bilinear_product(space, unit)).permute(1, 2, 0)  # (N, H, N) -> (H, N, N)
    squares = [2 * M - eye]
    columns = real_vector(bilinear_product(space, space.dt * space.B)).unsqueeze(2)  # (H, N, 1)
    rows = real_vector(2 * space.C.conj()).unsqueeze(1)  # (H, 1, N)
    while columns.shape[2] < n_inner:
        columns = torch.cat([columns, squares[-1] @ columns], dim=2)
        rows = torch.cat([rows, rows @ squares[-1]], dim=1)
        squares.append(squares[-1] @ squares[-1])
    return Powers(squares=squares, columns=columns, rows=rows, n_chunks=-(-length // n_inner))


def dplr_kernel(space: StateSpace, powers: Powers, length: int) -> Tensor:
    """C W^l M dt B, l < T, by its generating function: real (H, T). Memory grows as T N.

    Cut off at F >= T tokens the function is, at the F-th roots of unity z (appendix C.3),

        sum_{l < F} kernel_l z^l = C (I - W^F) (I - W z)^-1 M dt B
                                 = C (I - W^F) 2 dt / (1 + z) (g - dt A)^-1 B
        g = 2 (1 - z) / (1 + z)

    which Woodbury's identity makes four Cauchy sums over 1 / (g - dt L). F is odd, so that z is
    never -1, where g has its pole.
    """
    row = powers.rows[:, :1]  # (H, 1, N)
    for _ in range(powers.n_chunks):
        row = row @ powers.squares[-1]
    n_points = powers.n_chunks * powers.columns.shape[2]  # F
    if n_points % 2 == 0:
        n_points, row = n_points + 1, row @ powers.squares[0]
    row = (powers.rows[:, :1] - row).view(*space.C.shape, 2)  # C (I - W^F), as 2 conj(C)
    C = 0.5 * torch.view_as_complex(row).conj()  # (H, n)
    frequency = torch.arange(n_points // 2 + 1, device=row.device, dtype=row.dtype)
    angle = math.pi / n_points * frequency  # half of the root's, (F / 2 + 1)
    conj_P = space.P.conj()
    weights = torch.stack([C * space.B, C * space.P, conj_P * space.B, conj_P * space.P], dim=2)
    sums = cauchy_sums(space.dt * space.L, weights, 2 * angle.tan())
    CB, CP, PB, PP = sums.unbind(2)  # each (H, F / 2 + 1)
    # With z = exp(-2 i angle), 2 / (1 + z) is exp(i angle) / cos(angle).
    spectrum = CB - space.dt * CP * PB / (1 + space.dt * PP)
    spectrum = space.dt * torch.polar(1 / angle.cos(), angle) * spectrum
    kernel: Tensor = torch.fft.irfft(spectrum, n_points)
    return kernel[:, :length]


def cauchy_sums(L: Tensor, weights: Tensor, g: Tensor) -> Tensor:
    """Sums over n of weights / (i g - L) and its like with both conjugated: complex (H, F, K).

    L (H, n) and weights (H, n, K) are complex, g (F,) is real. A pair is one real fraction of i g,

        w / (i g - L) + conj(..) = (2 Re(w) i g - 2 Re(w conj(L))) / ((i g)^2 - 2 Re(L) i g + |L|^2)

    so that the sums are one batched product of real matrices.
    """
    n_weights = weights.shape[2]
    g = g.unsqueeze(1)  # (F, 1)
    decay, omega = L.real.unsqueeze(1), L.imag.unsqueeze(1)  # (H, 1, n)
    # |L|^2 - g^2, by factors: the difference of squares would lose digits at resonance.
    real = (omega - g) * (omega + g) + decay.square()  # (H, F, n)
    imaginary = -2 * decay * g
    size = real.square() + imaginary.square()
    inverse = torch.cat([real / size, -imaginary / size], dim=1)  # (H, 2F, n)
    factors = torch.cat([weights, -weights * L.conj().unsqueeze(2)], dim=2)  # (H, n, 2K)
    product = inverse @ (2 * factors.real)  # (H, 2F, 2K)
    product = torch.complex(*product.chunk(2, dim=1))  # (H, F, 2K)
    return product[..., :n_weights] * (1j * g) + product[..., n_weights:]


def dplr_final_state(powers: Powers, u: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The state after u (B, H, T), or after `lengths` (B,) of it, from 0: real (B, H, N).

    Padding in u must be 0.
    """
    if lengths is not None:
        u = align_right(u, lengths)
    n_inner = powers.columns.shape[2]
    u = pad(u, (powers.n_chunks * n_inner - u.shape[2], 0))  # zeros before change nothing
    u = u.view(*u.shape[:2], -1, n_inner)  # (B, H, S, Q)
    written = torch.einsum("bhsq,hnq->bhsn", u, powers.columns.flip(2))  # by each chunk
    state = written[:, :, 0]
    for chunk in range(1, powers.n_chunks):
        state = advance(powers.squares[-1], state) + written[:, :, chunk]
    return state


def dplr_chunk_starts(powers: Powers, state: Tensor) -> Tensor:
    """A real state (B, H, N) carried on without input: W^(s Q) state, s <= S: (B, H, S + 1, N)."""
    starts = [state]
    for _ in range(powers.n_chunks):
        starts.append(advance(powers.squares[-1], starts[-1]))
    return torch.stack(starts, dim=2)


def dplr_output_of_state(powers: Powers, starts: Tensor, length: int) -> Tensor:
    """What the state alone puts out, C W^(l + 1) state, l < T: real (B, H, T)."""
    rows = powers.rows @ powers.squares[0]  # (H, Q, N)
    return torch.einsum("bhsn,hqn->bhsq", starts[:, :, :-1], rows).flatten(2)[..., :length]


def dplr_state_after(powers: Powers, starts: Tensor, n_tokens: Tensor) -> Tensor:
    """The state n tokens (B,) later without input, W^n state: real (B, H, N)."""
    n_inner = powers.columns.shape[2]
    rows = torch.arange(len(starts), device=starts.device)
    state = starts[rows, :, n_tokens // n_inner]  # (B, H, N)
    for bit, square in enumerate(powers.squares[:-1]):
        is_set = (n_tokens >> bit & 1).bool().view(-1, 1, 1)
        state = torch.where(is_set, advance(square, state), state)
    return state


def dplr_state_flops_per_token(length: int, n_state: int) -> float:
    """Operations per channel and token to make the final state; powers and kernel are not counted.

    They are made once for the whole batch.
    """
    n_inner = chunk_tokens(length)
    n_chunks = -(-length // n_inner)
    return 2.0 * n_state * n_chunks * n_inner / length + 2.0 * n_state**2 * (n_chunks - 1) / length


def advance(W: Tensor, state: Tensor) -> Tensor:
    """W (H, N, N) on each state (B, H, N)."""
    return torch.einsum("hmn,bhn->bhm", W, state)


def real_vector(v: Tensor) -> Tensor:
    """Re and Im in turn: complex (..., n) to real (..., N)."""
    return torch.view_as_real(v.resolve_conj()).flatten(-2)
