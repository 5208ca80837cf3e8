"""Architectures against independent implementations with the same weights."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from architectures.body import state_tensors
from architectures.layers.bidirectional import BidirectionalPair
from architectures.layers.recurrent import RecurrentStack
from architectures.s4d import S4dLayer, initial_spectrum
from tests.agreement import build, normal

EXACT = 1e-12  # float64, the same sums in another order
LENGTHS = torch.tensor([5, 17, 1])


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize(
    ("name", "torch_class"), [("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)]
)
def test_stacks_equal_torch(name: str, torch_class: Any, lengths: Tensor | None) -> None:
    body = build(f"{name}_stack", 6)
    peer = torch_class(6, 6, num_layers=2, batch_first=True).double()
    peer.load_state_dict(body.recurrence.state_dict())
    x = normal(3, 17, 6)
    y, state = body(x, lengths=lengths)
    peer_y, peer_state = run_torch(peer, x, lengths)
    mine = list(state_tensors(state))
    theirs = list(state_tensors(peer_state))
    real = real_tokens(lengths)
    close(y[real], peer_y[real])
    for actual, expected in zip(mine, theirs, strict=True):
        close(actual, expected.transpose(0, 1))
    cotangent = normal(3, 17, 6, seed=1) * real.unsqueeze(2)
    gradients = torch.autograd.grad((y * cotangent).sum(), list(body.parameters()))
    peer_gradients = torch.autograd.grad((peer_y * cotangent).sum(), list(peer.parameters()))
    for actual, expected in zip(gradients, peer_gradients, strict=True):
        close(actual, expected)


def real_tokens(lengths: Tensor | None) -> Tensor:
    """Mask (3, 17) of the tokens before the lengths."""
    limits = torch.full((3,), 17) if lengths is None else lengths
    return torch.arange(17) < limits.unsqueeze(1)


def run_torch(peer: nn.RNNBase, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Any]:
    if lengths is None:
        return peer(x)  # type: ignore[no-any-return]
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, state = peer(packed)
    return pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0], state


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
def test_bilstm_stack_equals_torch(lengths: Tensor | None) -> None:
    body = build("bilstm_stack", 6)
    peer = nn.LSTM(6, 3, num_layers=2, batch_first=True, bidirectional=True).double()
    peer.load_state_dict(body.recurrence.state_dict())
    x = normal(3, 17, 6)
    y, (h, c) = body(x, lengths=lengths)
    peer_y, (peer_h, peer_c) = run_torch(peer, x, lengths)
    real = real_tokens(lengths)
    close(y[real], peer_y[real])
    close(h, peer_h.transpose(0, 1))
    close(c, peer_c.transpose(0, 1))


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
def test_a_pair_of_lstms_equals_torchs_bidirectional_lstm(lengths: Tensor | None) -> None:
    ahead, back = RecurrentStack(6, "lstm").double(), RecurrentStack(6, "lstm").double()
    body = BidirectionalPair(ahead, back).double()
    peer = nn.LSTM(6, 6, batch_first=True, bidirectional=True).double()
    weights = dict(ahead.recurrence.state_dict())
    weights |= {f"{key}_reverse": value for key, value in back.recurrence.state_dict().items()}
    peer.load_state_dict(weights)
    x = normal(3, 17, 6)
    y, (ahead_state, back_state) = body(x, lengths=lengths)
    peer_y, (peer_h, peer_c) = run_torch(peer, x, lengths)
    real = real_tokens(lengths)
    close(y[real], body.merge(peer_y)[real])
    close(torch.cat([ahead_state[0], back_state[0]], dim=1), peer_h.transpose(0, 1))
    close(torch.cat([ahead_state[1], back_state[1]], dim=1), peer_c.transpose(0, 1))


def test_the_residual_backbone_is_its_equation() -> None:
    body = build("gru", 6, layers=1)
    block = body.blocks[0]
    x = normal(3, 17, 6)

    def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
        centred = x - x.mean(2, keepdim=True)
        deviation = (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()
        return layer.weight * centred / deviation + layer.bias

    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    hidden = x + block.mixer.recurrence(norm(x, block.norm))[0]
    mlp = block.mlp[1]
    normed = norm(hidden, block.mlp[0])
    activated = nn.functional.gelu(normed @ mlp.expand.weight.t() + mlp.expand.bias)
    hidden = hidden + activated @ mlp.contract.weight.t() + mlp.contract.bias
    close(body(x)[0], norm(hidden, body.norm))


@pytest.mark.parametrize("init", ["legs", "inv", "lin"])
def test_s4d_equals_its_dense_state_space_discretised_by_scipy(init: str) -> None:
    torch.manual_seed(0)
    layer = S4dLayer(3, n_state=8, init=init, dt_min=1e-2, dt_max=0.5, dropout=0.0).double()
    x = normal(1, 37, 3)
    y = torch.stack([dense_state_space(layer, channel, x[0, :, channel]) for channel in range(3)])
    gated = layer.mix(nn.functional.gelu(y.t()))
    close(layer(x)[0][0], gated[:, :3] * gated[:, 3:].sigmoid())


def dense_state_space(layer: S4dLayer, channel: int, u: Tensor) -> Tensor:
    """One channel as a real system of matrices with zero-order hold, run by scipy."""
    with torch.no_grad():
        real = -layer.log_decay[channel].exp().numpy()
        imaginary = layer.frequency[channel].numpy()
        C_real, C_imaginary = layer.C[channel].numpy().T
        n_state = len(real)
        # Re and Im of h as one real vector: h' = A h + u.
        A = np.block([[np.diag(real), -np.diag(imaginary)], [np.diag(imaginary), np.diag(real)]])
        B = np.concatenate([np.ones(n_state), np.zeros(n_state)])[:, None]
        C = 2 * np.concatenate([C_real, -C_imaginary])[None]
        system = (A, B, C, layer.D[channel].numpy().reshape(1, 1))
        dt = layer.log_dt[channel].exp().item()
        A, B, C, D, _ = scipy.signal.cont2discrete(system, dt, method="zoh")
        state, outputs = np.zeros((2 * n_state, 1)), []
        for value in u.numpy():
            # The step that reads u_t is the one that puts y_t out.
            state = A @ state + B * value
            outputs.append((C @ state + D * value).item())
        return torch.tensor(outputs, dtype=torch.float64)


def test_s4d_legs_is_the_spectrum_of_hippos_normal_part() -> None:
    index = np.arange(8)
    lower = np.sqrt(np.outer(2 * index + 1, 2 * index + 1))
    hippo = -np.tril(lower, -1) - np.diag(index + 1)
    rank_one = np.sqrt(index + 0.5)
    eigenvalues = np.linalg.eigvals(hippo + np.outer(rank_one, rank_one))
    expected = np.sort(eigenvalues.imag[eigenvalues.imag > 0])
    np.testing.assert_allclose(eigenvalues.real, -0.5, atol=1e-9)
    np.testing.assert_allclose(initial_spectrum("legs", 8).imag.numpy(), expected, rtol=1e-5)


def test_s4d_inv_and_lin_are_their_formulas() -> None:
    inverse, linear = initial_spectrum("inv", 4), initial_spectrum("lin", 4)
    assert inverse.imag.tolist() == pytest.approx([12 / math.pi, 4 / (3 * math.pi)])
    assert linear.imag.tolist() == pytest.approx([0.0, math.pi])
    assert inverse.real.tolist() == linear.real.tolist() == [-0.5, -0.5]
