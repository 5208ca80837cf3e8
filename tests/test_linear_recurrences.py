"""Linear recurrences and state spaces against loops written from the papers, in float64."""

from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import gelu

from architectures import ARCHITECTURES
from architectures.kernels.dplr_kernel import (
    discrete_powers,
    dplr_chunk_starts,
    dplr_kernel,
    dplr_state_after,
)
from architectures.kernels.linear_scan import CHUNK_TOKENS, last_state, linear_scan
from architectures.layers.hippo import legs_low_rank, legs_normal_part

EXACT = 1e-11  # float64, sums of a hundred terms in another order
DENSE = 1e-9  # the same through inverses and powers of matrices
SINGLE = 1e-5  # the same in float32
SCAN_LENGTHS = [1, 2, CHUNK_TOKENS - 1, CHUNK_TOKENS, CHUNK_TOKENS + 1, 3 * CHUNK_TOKENS + 5]
DTYPES = [torch.float64, torch.complex128]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=dtype, generator=generator)


def close(actual: Tensor, expected: Tensor, tolerance: float = EXACT) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def scan_by_loop(a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    states = []
    for a_t, b_t in zip(a.expand_as(b).unbind(1), b.unbind(1), strict=True):
        state = a_t * state + b_t
        states.append(state)
    return torch.stack(states, dim=1)


def scan_inputs(length: int, dtype: torch.dtype, decay_shape: tuple[int, int]) -> list[Tensor]:
    """a (moduli around 1, some above), b and state, as linear_scan takes them."""
    rows, times = decay_shape
    a = normal(rows, times, 5, seed=1, dtype=dtype)
    a = a / a.abs() * (1 + 0.1 * normal(rows, times, 5, seed=2))
    b, state = normal(3, length, 5, seed=3, dtype=dtype), normal(3, 5, seed=4, dtype=dtype)
    return [tensor.requires_grad_() for tensor in (a, b, state)]


@pytest.mark.parametrize("decay", ["each token", "one for all rows", "constant", "one a row"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["real", "complex"])
@pytest.mark.parametrize("length", SCAN_LENGTHS)
def test_the_scan_equals_the_loop_with_all_gradients(
    length: int, dtype: torch.dtype, decay: str
) -> None:
    shapes = {
        "each token": (3, length),
        "one for all rows": (1, length),
        "constant": (1, 1),
        "one a row": (3, 1),
    }
    inputs = scan_inputs(length, dtype, shapes[decay])
    cotangent = normal(3, length, 5, seed=5, dtype=dtype)
    last_cotangent = normal(3, 5, seed=6, dtype=dtype)
    results = []
    for scan in (linear_scan, scan_by_loop):
        states = scan(*inputs)
        loss = (states * cotangent).sum() + (last_state(states) * last_cotangent).sum()
        gradients = torch.autograd.grad(loss.real if loss.is_complex() else loss, inputs)
        results.append([states, *gradients])
    for actual, expected in zip(*results, strict=True):
        close(actual, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=["real", "complex"])
@pytest.mark.parametrize("constant", [False, True])
def test_the_scan_passes_gradcheck_through_both_states(constant: bool, dtype: torch.dtype) -> None:
    def scan(a: Tensor, b: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        states = linear_scan(a, b, state)
        return states, last_state(states)

    long = CHUNK_TOKENS + 2
    for length, fast in [(3, False), (long, True)]:
        a, b, state = scan_inputs(length, dtype, (1, 1) if constant else (3, length))
        assert gradcheck(scan, (a, b, state), fast_mode=fast)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, *DTYPES])
def test_the_scan_keeps_the_dtype_and_leaves_its_inputs(dtype: torch.dtype) -> None:
    source = torch.complex128 if dtype.is_complex else torch.float64
    inputs = [tensor.detach().to(dtype) for tensor in scan_inputs(41, source, (3, 41))]
    kept = [tensor.clone() for tensor in inputs]
    a, b, state = inputs
    states = linear_scan(a, b, state)
    assert states.dtype == dtype
    close(states, scan_by_loop(a, b, state), EXACT if dtype in DTYPES else SINGLE)
    for tensor, before in zip(inputs, kept, strict=True):
        assert torch.equal(tensor, before)
    assert torch.equal(linear_scan(a, b), linear_scan(a, b, torch.zeros_like(state)))


@pytest.mark.parametrize("length", [CHUNK_TOKENS, 41])
def test_the_scan_takes_any_strides(length: int) -> None:
    a, b, state = scan_inputs(length, torch.float64, (3, length))
    turned = [tensor.transpose(0, 1).contiguous().transpose(0, 1) for tensor in (a, b)]
    close(linear_scan(*turned, state), linear_scan(a, b, state))


def test_a_decay_of_zero_forgets_and_a_decay_of_one_adds_up() -> None:
    b, state = normal(2, 70, 3), normal(2, 3, seed=1)
    close(linear_scan(torch.zeros_like(b), b, state), b)
    close(linear_scan(torch.ones_like(b), b, state), state.unsqueeze(1) + b.cumsum(1))


def test_the_last_state_is_that_after_the_lengths() -> None:
    states = normal(3, 9, 2)
    expected = torch.stack([states[0, 8], states[1, 3], states[2, 0]])
    close(last_state(states, torch.tensor([9, 4, 1])), expected)
    assert last_state(states).untyped_storage().nbytes() == 3 * 2 * 8


def build(name: str, width: int = 6, **options: Any) -> Any:
    architecture: Any = ARCHITECTURES[name]
    torch.manual_seed(0)
    return architecture(width, **options).double()


def mixer_of(name: str, **options: Any) -> Any:
    """The first mixer of a body, all of its parameters moved away from special values."""
    mixer = build(name, layers=1, **options).blocks[0].mixer
    with torch.no_grad():
        for index, parameter in enumerate(mixer.parameters()):
            parameter.add_(0.1 * normal(*parameter.shape, seed=100 + index))
    return mixer


def agree_with_loop(mixer: Any, loop: Any, state: Tensor, atol: float = EXACT) -> None:
    """Outputs, final state and all gradients are those of a loop over the tokens.

    `loop` maps the mixer, x and a state to y and the state, as forward does.
    """
    x = normal(3, 41, 6, seed=1).requires_grad_()
    state = state.clone().requires_grad_()
    inputs = [x, state, *mixer.parameters()]
    y_cotangent, state_cotangent = normal(3, 41, 6, seed=2), normal(*state.shape, seed=3)
    results = []
    for run in (mixer, lambda x, state: loop(mixer, x, state)):
        y, final = run(x, state)
        loss = (y * y_cotangent).sum() + (final * state_cotangent).sum()
        results.append([y, final, *torch.autograd.grad(loss, inputs)])
    for actual, expected in zip(*results, strict=True):
        close(actual, expected, atol)


def positive(x: Tensor) -> Tensor:
    """Appendix B of Feng et al.: g, x + 1/2 from 0 on and sigmoid(x) below."""
    return torch.where(x >= 0, x + 0.5, x.sigmoid())


def mingru_by_loop(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Feng et al. 2024, section 3.1."""
    W_z, W_c = mixer.project_in.weight.chunk(2)
    b_z, b_c = mixer.project_in.bias.chunk(2)
    outputs = []
    for x_t in x.unbind(1):
        z = torch.sigmoid(x_t @ W_z.t() + b_z)
        candidate = x_t @ W_c.t() + b_c
        if mixer.candidate == "positive":
            candidate = positive(candidate)
        state = (1 - z) * state + z * candidate
        outputs.append(state if mixer.project_out is None else mixer.project_out(state))
    return torch.stack(outputs, dim=1), state


def minlstm_by_loop(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Feng et al. 2024, section 3.2."""
    W_f, W_i, W_c = mixer.project_in.weight.chunk(3)
    b_f, b_i, b_c = mixer.project_in.bias.chunk(3)
    outputs = []
    for x_t in x.unbind(1):
        f = torch.sigmoid(x_t @ W_f.t() + b_f)
        i = torch.sigmoid(x_t @ W_i.t() + b_i)
        candidate = x_t @ W_c.t() + b_c
        if mixer.candidate == "positive":
            candidate = positive(candidate)
        state = f / (f + i) * state + i / (f + i) * candidate
        outputs.append(state if mixer.project_out is None else mixer.project_out(state))
    return torch.stack(outputs, dim=1), state


@pytest.mark.parametrize("candidate", ["linear", "positive"])
@pytest.mark.parametrize("expand", [1, 2])
@pytest.mark.parametrize(
    ("name", "loop"), [("mingru", mingru_by_loop), ("minlstm", minlstm_by_loop)]
)
def test_minimal_gates_equal_the_papers_loop(
    name: str, loop: Any, expand: int, candidate: str
) -> None:
    mixer = mixer_of(name, expand=expand, candidate=candidate)
    agree_with_loop(mixer, loop, normal(3, 6 * expand, seed=4))


def test_minlstms_gates_sum_to_one_even_where_both_vanish() -> None:
    mixer = mixer_of("minlstm")
    shut = torch.full((1, 6), -800.0, dtype=torch.float64)  # sigmoid is 0 here
    keep, written = mixer.gate((shut, shut, torch.ones_like(shut)))
    close(keep, torch.full_like(keep, 0.5))
    close(written, torch.full_like(keep, 0.5))


def test_minlstms_forget_bias_is_the_option() -> None:
    plain, biased = build("minlstm", layers=1), build("minlstm", layers=1, forget_bias=2.0)
    added = biased.blocks[0].mixer.project_in.bias - plain.blocks[0].mixer.project_in.bias
    close(added, torch.tensor([2.0] * 6 + [0.0] * 12).double(), SINGLE)


def gated(y: Tensor, mix: Any) -> Tensor:
    """GELU and a gated linear unit, as the blocks of S4D, LRU and S4 have them."""
    left, right = mix(gelu(y)).chunk(2, dim=-1)
    return left * right.sigmoid()


def lru_by_loop(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Orvieto et al. 2023, appendix A: its complex matrices, token by token."""
    decay = torch.exp(torch.complex(-mixer.nu.exp(), mixer.theta.exp()))
    B = torch.complex(mixer.B[..., 0], mixer.B[..., 1]) * mixer.gamma_log.exp().unsqueeze(1)
    C = torch.complex(mixer.C[..., 0], mixer.C[..., 1])
    h, outputs = torch.complex(state[..., 0], state[..., 1]), []
    for x_t in x.unbind(1):
        h = decay * h + x_t.to(B.dtype) @ B.t()
        outputs.append((h @ C.t()).real + mixer.D * x_t)
    return gated(torch.stack(outputs, dim=1), mixer.mix), torch.stack([h.real, h.imag], dim=2)


def test_lru_equals_the_papers_loop() -> None:
    agree_with_loop(mixer_of("lru", state=5, r_min=0.5), lru_by_loop, normal(3, 5, 2, seed=4))


def test_lru_begins_uniform_on_the_ring_with_normalised_input() -> None:
    mixer = build("lru", layers=1, state=4000, r_min=0.4, r_max=0.9, max_phase=1.5).blocks[0].mixer
    decay, _, _ = mixer.discretise()
    assert 0.4 - SINGLE < decay.abs().min() < decay.abs().max() < 0.9 + SINGLE
    assert 0 < decay.angle().min() < 0.01
    assert 1.49 < decay.angle().max() < 1.5
    # Uniform on the area: the mean of |lambda|^2 is that of the bounds; 4 standard errors.
    assert decay.abs().square().mean().item() == pytest.approx((0.16 + 0.81) / 2, abs=0.012)
    # Section 3.4: the states of white inputs then have the inputs' variance.
    close(mixer.gamma_log.exp().square(), 1 - decay.abs().square(), SINGLE)


def test_lru_is_stable_whatever_its_parameters() -> None:
    mixer = mixer_of("lru", state=5)
    with torch.no_grad():
        mixer.nu.copy_(torch.tensor([-20.0, -3.0, 0.0, 3.0, 20.0]))
    assert mixer.discretise()[0].abs().max() < 1


def test_lru_trains_its_recurrence_slowly_and_without_decay() -> None:
    body = build("lru", layers=1)
    (group,) = body.param_groups()
    mixer = body.blocks[0].mixer
    expected = [mixer.nu, mixer.theta, mixer.gamma_log, mixer.B]
    assert [id(p) for p in group.parameters] == [id(p) for p in expected]
    assert (group.weight_decay, group.learning_rate_scale) == (0.0, 0.25)


def s5_by_loop(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Smith et al. 2023, section 3: both halves of the conjugate pairs, zero-order hold."""
    half = torch.complex(-mixer.log_decay.exp(), mixer.frequency)
    A = torch.cat([half, half.conj()])
    B, C = (torch.complex(weight[..., 0], weight[..., 1]) for weight in (mixer.B, mixer.C))
    B, C = torch.cat([B, B.conj()]), torch.cat([C, C.conj()], dim=1)
    dt = mixer.log_dt.exp().repeat(2)
    decay = torch.exp(dt * A)
    B = ((decay - 1) / A).unsqueeze(1) * B
    h = torch.complex(state[..., 0], state[..., 1])
    h, outputs = torch.cat([h, h.conj()], dim=1), []
    for x_t in x.unbind(1):
        h = decay * h + x_t.to(B.dtype) @ B.t()
        outputs.append((h @ C.t()).real + mixer.D * x_t)
    activated = gelu(torch.stack(outputs, dim=1))
    h = h[:, : len(half)]
    return activated * mixer.gate(activated).sigmoid(), torch.stack([h.real, h.imag], dim=2)


@pytest.mark.parametrize(("state", "blocks"), [(2, 1), (12, 1), (12, 3)])
def test_s5_equals_the_papers_loop(state: int, blocks: int) -> None:
    mixer = mixer_of("s5", state=state, init_blocks=blocks)
    agree_with_loop(mixer, s5_by_loop, normal(3, state // 2, 2, seed=4))


def test_s5_begins_with_hippos_normal_part_in_each_block() -> None:
    mixer = build("s5", layers=1, state=24, init_blocks=3).blocks[0].mixer
    frequencies, _ = legs_normal_part(8)
    close(mixer.frequency, frequencies.repeat(3), SINGLE)
    close(mixer.log_decay.exp(), torch.full((12,), 0.5).double(), SINGLE)
    dt = mixer.log_dt.exp()
    assert 0.999e-3 < dt.min() < dt.max() < 1.001e-1


def test_s5_begins_with_the_map_of_real_matrices() -> None:
    """B and C are drawn real, of variance 1 / D and 1 / N, and then change basis."""
    mixer = build("s5", 40, layers=1, state=64).blocks[0].mixer
    torch.manual_seed(0)  # as build does
    drawn_B, drawn_C = torch.randn(64, 40) / 40**0.5, torch.randn(40, 64) / 64**0.5
    B, C = (torch.complex(weight[..., 0], weight[..., 1]) for weight in (mixer.B, mixer.C))
    _, V = legs_normal_part(64)
    close(2 * (V @ B).real, drawn_B.double(), SINGLE)
    close(2 * (C @ V.mH).real, drawn_C.double(), SINGLE)


def test_s5_trains_its_dynamics_slowly_and_without_decay() -> None:
    body = build("s5", layers=1)
    (group,) = body.param_groups()
    mixer = body.blocks[0].mixer
    expected = [mixer.log_dt, mixer.log_decay, mixer.frequency, mixer.B]
    assert [id(p) for p in group.parameters] == [id(p) for p in expected]
    assert (group.weight_decay, group.max_learning_rate) == (0.0, 1e-3)


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


def test_irnn_is_the_papers_loop_from_the_identity() -> None:
    mixer = build("irnn", layers=1).blocks[0].mixer
    cell = mixer.recurrence
    assert torch.equal(cell.weight_hh_l0, torch.eye(6).double())
    assert not cell.bias_hh_l0.any()
    assert not cell.bias_ih_l0.any()
    drawn = build("irnn", 100, layers=1).blocks[0].mixer.recurrence.weight_ih_l0
    assert drawn.std().item() == pytest.approx(1e-3, rel=0.05)

    def loop(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h, outputs = state[:, 0], []
        for x_t in x.unbind(1):
            h = torch.relu(x_t @ cell.weight_ih_l0.t() + h @ cell.weight_hh_l0.t())
            outputs.append(h)
        return torch.stack(outputs, dim=1), h.unsqueeze(1)

    x, state = normal(3, 9, 6), normal(3, 1, 6, seed=1).abs()
    for actual, expected in zip(mixer(x, state), loop(mixer, x, state), strict=True):
        close(actual, expected)


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
    agree_with_loop(mixer, s4_by_loop, normal(3, 6, n_state // 2, 2, seed=4), DENSE)


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
    body = build("s4", layers=1)
    (group,) = body.param_groups()
    mixer = body.blocks[0].mixer
    expected = [mixer.log_dt, mixer.log_decay, mixer.frequency, mixer.P, mixer.B]
    assert [id(p) for p in group.parameters] == [id(p) for p in expected]
    assert (group.weight_decay, group.max_learning_rate) == (0.0, 1e-3)


def test_s4_in_bfloat16_autocast_keeps_its_state_space_in_float32() -> None:
    layer = build("s4", layers=1).float().blocks[0].mixer
    x = normal(2, 60, 6).float()
    _, expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        _, state = layer(x)
    assert torch.equal(state, expected)


BAD_OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("mingru", {"expand": 0}, "expand must be at least 1, not 0"),
    ("minlstm", {"candidate": "log"}, "candidate must be one of linear, positive, not 'log'"),
    ("s4", {"state": 1}, "state must be at least 2, not 1"),
    ("s4", {"state": 7}, "state must be even (conjugate pairs), not 7: 8?"),
    ("s4", {"dt_min": 0.0}, "give 0 < dt_min <= dt_max, not 0.0 and 0.1"),
    ("s5", {"state": 1}, "state must be at least 2, not 1"),
    ("s5", {"state": 10, "init_blocks": 2}, "state must be a multiple of 4"),
    ("s5", {"init_blocks": 0}, "init_blocks must be at least 1"),
    ("s5", {"dt_min": 0.2}, "give 0 < dt_min <= dt_max, not 0.2 and 0.1"),
    ("lru", {"state": 0}, "state must be at least 1, not 0"),
    ("lru", {"r_min": 0.9, "r_max": 0.5}, "give 0 <= r_min <= r_max <= 1, not 0.9 and 0.5"),
    ("lru", {"r_max": 1.1}, "r_max <= 1, not 0.0 and 1.1"),
    ("lru", {"max_phase": 7.0}, "max_phase must be above 0 and at most 2 pi, not 7.0"),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD_OPTIONS, ids=str)
def test_a_bad_option_is_an_error_that_names_it(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        build(name, **options)
    assert message in str(error.value)
