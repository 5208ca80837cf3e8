"""HiPPO, and S4 against the loop of its paper with dense matrices, in float64."""

from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from architectures.kernels.dplr_kernel import (
    discrete_powers,
    dplr_chunk_starts,
    dplr_kernel,
    dplr_state_after,
)
from architectures.layers.hippo import legs_low_rank, legs_normal_part
from tests.agreement import SINGLE, agree_with_carried_loop, build, close, gated, mixer_of, normal

DENSE = 1e-9  # float64, through inverses and powers of matrices


def hippo_legs(n_state: int) -> Tensor:
    """Gu et al. 2020, theorem 2, entry by entry."""
    A = torch.zeros(n_state, n_state, dtype=torch.float64)
    for n in range(n_state):
        for k in range(n):
            A[n, k] = -(((2 * n + 1) * (2 * k + 1)) ** 0.5)
        A[n, n] = -(n + 1)
    return A


@pytest.mark.parametrize("n_state", [2, 8, 64])
def test_hippo_is_its_normal_part_less_the_low_rank(n_state: int) -> None:
    frequencies, V = legs_normal_part(n_state)
    P = legs_low_rank(n_state)
    eigenvalues = torch.complex(torch.full_like(frequencies, -0.5), frequencies)
    rebuilt = 2 * (V * eigenvalues @ V.mH).real - torch.outer(P, P)
    close(rebuilt, hippo_legs(n_state))
    close(V.mH @ V, torch.eye(n_state // 2).to(V.dtype))
    assert frequencies.min() > 0


def dense_s4(mixer: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The continuous A (H, N, N), B and C (H, N) and dt, with both of each conjugate pair."""
    half = torch.complex(-mixer.log_decay.exp(), mixer.frequency)
    L, P, B, C = (
        torch.cat([part, part.conj()], dim=1)
        for part in (half, *(torch.view_as_complex(p) for p in (mixer.P, mixer.B, mixer.C)))
    )
    return torch.diag_embed(L) - P.unsqueeze(2) * P.conj().unsqueeze(1), B, C, mixer.log_dt.exp()


def s4_by_loop(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Gu et al. 2022, equations 1 and 3: dense matrices inverted, token by token."""
    A, B, C, dt = dense_s4(mixer)
    eye = torch.eye(A.shape[1], dtype=A.dtype)
    half_step = 0.5 * dt.view(-1, 1, 1) * A
    inverse = torch.linalg.inv(eye - half_step)
    transition = inverse @ (eye + half_step)
    written = (inverse @ (dt.unsqueeze(1) * B).unsqueeze(2)).squeeze(2)
    h = torch.view_as_complex(state)
    h, outputs = torch.cat([h, h.conj()], dim=2), []
    for x_t in x.unbind(1):
        h = (transition @ h.unsqueeze(3)).squeeze(3) + written * x_t.unsqueeze(2)
        outputs.append((C * h).sum(2).real + mixer.D * x_t)
    n = state.shape[2]
    return gated(torch.stack(outputs, dim=1), mixer.mix), torch.view_as_real(h[:, :, :n])


@pytest.mark.parametrize("n_state", [2, 10])
def test_s4_equals_the_papers_loop_with_dense_matrices(n_state: int) -> None:
    mixer = mixer_of("s4", state=n_state, dt_min=0.05, dt_max=0.5)
    agree_with_carried_loop(mixer, s4_by_loop, normal(3, 6, n_state // 2, 2, seed=4), DENSE)


@pytest.mark.parametrize("length", [1, 2, 3, 16, 31, 64, 101])
def test_s4s_kernel_is_that_of_its_dense_matrices_discretised_by_scipy(length: int) -> None:
    mixer = mixer_of("s4", state=10, dt_min=1e-2, dt_max=0.5)
    space = mixer._state_space()
    kernel = dplr_kernel(space, discrete_powers(space, length), length)
    A, B, C, dt = (part.detach().numpy() for part in dense_s4(mixer))
    for channel in range(6):
        system = (A[channel], B[channel][:, None], C[channel][None], np.zeros((1, 1)))
        transition, written, *_ = scipy.signal.cont2discrete(system, dt[channel], "bilinear")
        h, expected = written, []
        for _ in range(length):
            expected.append((C[channel] @ h).item().real)
            h = transition @ h
        close(kernel[channel], torch.tensor(expected, dtype=torch.float64), DENSE)


def test_s4s_kernel_is_cut_off_and_not_wrapped_around() -> None:
    """Slow states still ring at T: without the truncation they would come back at the start."""
    mixer = mixer_of("s4", state=10, dt_min=1e-3, dt_max=2e-3)
    space = mixer._state_space()
    short, long = (dplr_kernel(space, discrete_powers(space, T), T) for T in (16, 400))
    assert long[:, 300].abs().max() > 1e-3 * long.abs().max()
    close(short, long[:, :16], DENSE)


@pytest.mark.parametrize("n_tokens", [[0, 1, 2], [16, 17, 37], [5, 40, 36]])
def test_s4_carries_a_state_any_number_of_tokens(n_tokens: list[int]) -> None:
    mixer = mixer_of("s4", state=6, dt_min=0.05, dt_max=0.5)
    powers = discrete_powers(mixer._state_space(), 40)
    state = normal(3, 6, 6)
    after = dplr_state_after(powers, dplr_chunk_starts(powers, state), torch.tensor(n_tokens))
    for row, n in enumerate(n_tokens):
        expected = torch.linalg.matrix_power(powers.squares[0], n) @ state[row].unsqueeze(2)
        close(after[row], expected.squeeze(2))


@pytest.mark.parametrize("n_state", [2, 16, 64])
def test_s4_begins_with_hippo_in_another_basis(n_state: int) -> None:
    mixer = build("s4", 2, layers=1, state=n_state).blocks[0].mixer
    A, B, _, _ = dense_s4(mixer)
    _, V = legs_normal_part(n_state)
    V = torch.cat([V, V.conj()], dim=1)
    rebuilt = V @ A[0] @ V.mH
    scale = hippo_legs(n_state).abs().max()
    close(rebuilt.real / scale, hippo_legs(n_state) / scale, SINGLE)
    close((V @ B[0]).real, (2 * torch.arange(n_state) + 1).double().sqrt(), SINGLE)
    if n_state <= 16:  # beyond, the eigenvalues of so skewed a matrix are lost to rounding
        eigenvalues = torch.linalg.eigvals(hippo_legs(n_state)).real.sort().values
        close(eigenvalues, -torch.arange(n_state, 0, -1).double(), SINGLE)


def test_s4_is_stable_whatever_its_parameters() -> None:
    mixer = mixer_of("s4", state=6)
    with torch.no_grad():
        for seed, parameter in enumerate(mixer.parameters()):
            parameter.copy_(3 * normal(*parameter.shape, seed=seed))
    transition = discrete_powers(mixer._state_space(), 1).squares[0]
    assert torch.linalg.eigvals(transition).abs().max() < 1


def test_s4_trains_its_dynamics_slowly_and_without_decay() -> None:
    body = build("s4", 6, layers=1)
    (group,) = body.param_groups()
    mixer = body.blocks[0].mixer
    expected = [mixer.log_dt, mixer.log_decay, mixer.frequency, mixer.P, mixer.B]
    assert [id(p) for p in group.parameters] == [id(p) for p in expected]
    assert (group.weight_decay, group.max_learning_rate) == (0.0, 1e-3)


def test_s4_in_bfloat16_autocast_keeps_its_state_space_in_float32() -> None:
    layer = build("s4", 6, layers=1).float().blocks[0].mixer
    x = normal(2, 60, 6).float()
    _, expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        _, state = layer(x)
    assert torch.equal(state, expected)
