"""Gradient reach: decay and growth are found as they are, on bodies whose gradients are known."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from architectures import ARCHITECTURES
from architectures.body import Body, UnsupportedError
from bench.measure import clipping, decay, gradient_reach, jacobian
from bench.spec import parse_run
from bench.training.execute import prepare

LENGTH = 65
TOLERANCE = 0.05  # of the decay time, as the instrument promises
SIGMA_TOLERANCE = 2e-3  # the power iteration stops at changes of 1e-4, and converges slowly
ROUNDING = float(np.finfo(np.float64).eps)


class Leaking(Body):
    """h_t = a h_(t-1) + x_t; a rate of None stands for a = sigmoid(x_t). State: h (B, D)."""

    rate: float | None = 1.0

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x, state=None, *, lengths=None):
        self.check_call(x, state, lengths)
        h = torch.zeros_like(x[:, 0]) if state is None else state
        y, new = [], h
        for t, x_t in enumerate(x.unbind(1)):
            rate = x_t.detach().sigmoid() if self.rate is None else self.rate
            new = rate * h + self.scale * x_t
            h = new if lengths is None else torch.where((t < lengths)[:, None], new, h)
            y.append(new)
        return torch.stack(y, 1), h


class Turning(Body):
    """h_t = M h_(t-1) + x_t, with a fixed matrix M that is not symmetric. State: h (B, D)."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__(len(matrix))
        self.register_buffer("matrix", matrix)

    def forward(self, x, state=None, *, lengths=None):
        h = torch.zeros_like(x[:, 0]) if state is None else state
        for x_t in x.unbind(1):
            h = h @ self.matrix.T + x_t
        return h.unsqueeze(1), h


@pytest.fixture
def leaking(monkeypatch):
    def register(rate: float | None) -> None:
        monkeypatch.setattr(Leaking, "rate", rate)
        monkeypatch.setitem(ARCHITECTURES, "leaking", Leaking)

    return register


def a_run(architecture="leaking", task="temporal_order", length=LENGTH, **training):
    return parse_run(
        {
            "architecture": architecture,
            "task": task,
            "length": length,
            "width": 8,
            "training": {"steps": 0, "batch_size": 8, **training},
            "measure": {"instruments": ["throughput"]},
        }
    )


@pytest.mark.parametrize("source", ["input", "state"])
def test_a_decay_of_a_tenth_per_step_has_its_decay_time(leaking, source):
    leaking(0.9)
    found = gradient_reach.measure(a_run())
    expected = -1 / math.log(0.9)
    assert expected == pytest.approx(9.49, abs=0.01)
    prefix = f"reach_{source}_init"
    assert found[f"{prefix}_verdict"] == "vanishing"
    assert found[f"{prefix}_decay_tokens"] == pytest.approx(expected, rel=TOLERANCE)
    assert found[f"{prefix}_decay_tokens_low"] <= expected * (1 + 1e-9)
    assert found[f"{prefix}_decay_tokens_high"] >= expected * (1 - 1e-9)
    assert f"{prefix}_decay_missing" not in found
    # 0.9^(k - 1) passes 1% between k = 44 and 45; the state is seen at powers of 2 alone.
    assert found[f"{prefix}_effective_tokens"] == {"input": 44, "state": 32}[source]


def test_growth_is_called_exploding_and_has_no_decay_time(leaking):
    leaking(1.05)
    found = gradient_reach.measure(a_run())
    for source in ("input", "state"):
        assert found[f"reach_{source}_init_verdict"] == "exploding"
        assert found[f"reach_{source}_init_rate_per_token"] == pytest.approx(-math.log(1.05))
        assert f"reach_{source}_init_decay_tokens" not in found
        assert "exploding" in found[f"reach_{source}_init_decay_missing"]
    assert found["reach_input_init_effective_tokens"] == LENGTH - 1
    assert found["jacobian_init_max"] == pytest.approx(1.05, rel=SIGMA_TOLERANCE)


def test_the_identity_is_flat_and_has_no_decay_time(leaking):
    leaking(1.0)
    found = gradient_reach.measure(a_run())
    assert found["reach_input_init_verdict"] == "flat"
    assert "flat" in found["reach_input_init_decay_missing"]
    json.dumps(found, allow_nan=False)
    assert json.loads(found["reach_input_json"])["k"] == list(range(1, LENGTH))
    assert json.loads(found["reach_state_json"])["k"] == [1, 2, 4, 8, 16, 32, 64]


def test_the_gradient_at_the_state_is_that_of_the_chain_of_steps(leaking):
    """Of h_(t-k) it is a^k v, and of x_(t-k) the same: one row each, of its own length."""
    leaking(0.8)
    run = a_run(task={"name": "listops"}, length=40)
    probe = gradient_reach.Probe(prepare(run))
    reading = probe.reading()
    assert len(set(reading.ends.tolist())) > 1, "the rows have to be of different lengths"
    rows = reading.ends >= 4
    expected = 0.8**4 * reading.cotangent()[rows].norm(dim=1)
    torch.testing.assert_close(probe.state_norms(4), expected)
    norms, distances = probe.input_norms()
    torch.testing.assert_close(norms[distances == 4], expected)


def test_the_sequence_is_split_after_the_token_that_is_meant(leaking):
    """s(k) has the factors of the last k tokens, each of its own size."""
    leaking(None)
    probe = gradient_reach.Probe(prepare(a_run(task="listops", length=40)))
    reading = probe.reading()
    rows = (reading.ends >= 3).nonzero().flatten().tolist()
    expected = [
        (reading.x[row, end - 2 : end + 1].sigmoid().prod(dim=0) * reading.cotangent()[row]).norm()
        for row, end in ((row, int(reading.ends[row])) for row in rows)
    ]
    torch.testing.assert_close(probe.state_norms(3), torch.stack(expected))


def test_small_weights_vanish_and_the_identity_does_not():
    default = gradient_reach.measure(a_run("rnn"))
    identity = gradient_reach.measure(
        a_run({"name": "rnn", "init": "identity", "nonlinearity": "relu"})
    )
    assert default["reach_input_init_verdict"] == "vanishing"
    assert default["reach_input_init_effective_tokens"] < LENGTH / 2
    assert identity["reach_input_init_verdict"] == "flat"
    assert identity["reach_input_init_effective_tokens"] == LENGTH - 1
    assert default["reach_dtype"] == "float64"


def test_the_largest_singular_value_is_that_of_the_matrix():
    rng = torch.Generator().manual_seed(1)
    matrix = torch.randn(7, 7, dtype=torch.float64, generator=rng) / 7**0.5
    x = torch.randn(3, 11, 7, dtype=torch.float64, generator=rng)
    found = jacobian.along(Turning(matrix), x, jacobian.positions_along(11), rng)
    expected = torch.linalg.matrix_norm(matrix, 2)
    assert found.shape == (8, 3)
    assert torch.linalg.eigvals(matrix).abs().max() < 0.9 * expected  # they would not do
    torch.testing.assert_close(found, expected.expand(8, 3), rtol=SIGMA_TOLERANCE, atol=0)


def test_a_jacobian_of_zero_is_zero():
    zero = torch.zeros(5, 5, dtype=torch.float64)
    x = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert jacobian.along(Turning(zero), x, [1, 3], torch.Generator()).max() == 0


@pytest.mark.parametrize("name", ["gru", "lstm", "s4d", "mamba", "xlstm"])
def test_the_power_iteration_agrees_with_the_whole_jacobian(name):
    torch.manual_seed(0)
    body = ARCHITECTURES[name](8).double()
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    found = jacobian.along(body, x, [4], torch.Generator().manual_seed(0)).item()
    with torch.no_grad():
        _, state = body(x[:, :4])
    parts, rebuild = jacobian.real_parts(state)
    shapes = [part.shape for part in parts]
    sizes = [part.numel() for part in parts]

    def step(flat):
        given = [part.view(s) for part, s in zip(flat.split(sizes), shapes, strict=True)]
        new, _ = jacobian.real_parts(body.step(x[:, 4], rebuild(given))[1])
        return torch.cat([part.flatten() for part in new])

    flat = torch.cat([part.flatten() for part in parts])
    whole = torch.autograd.functional.jacobian(step, flat)
    assert found == pytest.approx(torch.linalg.matrix_norm(whole, 2).item(), rel=0.02)


@pytest.mark.parametrize("task", ["parity", "digits", "docstring_pairs", "reverse_string"])
@pytest.mark.parametrize("architecture", ["transformer", "bilstm_stack"])
def test_every_kind_of_task_is_measured_or_says_why_not(task, architecture):
    run = a_run(architecture, task, length=64)
    if (architecture, task) == ("bilstm_stack", "reverse_string"):
        with pytest.raises(UnsupportedError, match="reads ahead"):
            gradient_reach.measure(run)
        return
    found = gradient_reach.measure(run)
    assert found["reach_input_init_verdict"] in ("vanishing", "flat", "exploding")
    for name in ("reach_state", "jacobian"):
        assert (f"{name}_json" in found) != (f"{name}_missing" in found)


def test_training_gives_a_second_curve_and_the_share_of_clipped_steps():
    found = gradient_reach.measure(a_run("gru", length=16, clip_norm=1e-3), train_steps=5)
    curves = json.loads(found["reach_input_json"])
    assert curves.keys() == {"k", "init", "trained"}
    assert curves["init"] != curves["trained"]
    assert found["clipped_share"] == 1.0
    assert 1e-3 < found["gradient_norm_p50"] <= found["gradient_norm_p99"]
    loose = gradient_reach.measure(a_run("gru", length=16, clip_norm=1e6), train_steps=2)
    assert loose["clipped_share"] == 0.0
    none = gradient_reach.measure(a_run("gru", length=16, clip_norm=None), train_steps=2)
    assert "clipped_share" not in none
    assert "null" in none["clipped_share_missing"]


def test_a_training_that_diverges_says_so_and_keeps_the_first_curve(monkeypatch):
    def diverge(prepared, steps):
        raise gradient_reach.DivergedError("the gradient's norm was nan at step 2 of 3")

    monkeypatch.setattr(clipping, "train", diverge)
    found = gradient_reach.measure(a_run("gru", length=16), train_steps=3)
    assert "step 2" in found["reach_trained_missing"]
    assert json.loads(found["reach_input_json"]).keys() == {"k", "init"}


def test_measuring_leaves_the_random_numbers_as_they_were():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = gradient_reach.measure(a_run({"name": "gru", "dropout": 0.5}, length=16), 2)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert gradient_reach.measure(a_run({"name": "gru", "dropout": 0.5}, length=16), 2) == first


def test_noise_after_a_fall_is_not_fitted():
    k = np.arange(1.0, 200.0)
    rng = np.random.default_rng(0)
    norms = np.exp(-k / 2.0) + 1e-15 * rng.random((5, len(k)))
    found = decay.fit(k, norms, ROUNDING)
    assert 1 / found.rate_per_token == pytest.approx(2.0, rel=TOLERANCE)
    assert found.fitted_to < 60


def test_the_small_beginning_of_a_growth_is_not_noise():
    k = np.arange(1.0, 200.0)
    found = decay.fit(k, np.exp(k / 2.0)[None].repeat(3, 0), ROUNDING)
    assert found.verdict == "exploding"
    assert found.fitted_to == 199


def test_a_curve_beyond_all_numbers_is_cut_where_it_ends():
    k = np.arange(1.0, 9.0)
    norms = np.array([[1.0, math.inf, *[math.nan] * 6]])
    found = decay.fit(k, norms, ROUNDING)
    assert found.verdict == "exploding"
    assert found.rate_per_token is None
    nothing = decay.fit(k, np.zeros((2, 8)), ROUNDING)
    assert nothing.verdict is None
    assert nothing.metrics("p")["p_decay_missing"]


def test_the_interval_is_as_wide_as_the_rows_differ():
    k = np.arange(1.0, 50.0)
    taus = np.array([8.0, 9.0, 10.0, 11.0, 12.0])[:, None]
    found = decay.fit(k, np.exp(-k / taus), ROUNDING)
    assert found.rate_low < found.rate_per_token < found.rate_high
    assert found.rate_low >= 1 / 12
    assert found.rate_high <= 1 / 8
    alone = decay.fit(k, np.exp(-k / taus[:1]), ROUNDING)
    assert alone.rate_low is None


def test_a_slope_within_its_own_noise_is_flat():
    for rate, low, high, verdict in (
        (0.1, 0.05, 0.15, "vanishing"),
        (0.1, -0.01, 0.2, "flat"),
        (-0.1, -0.2, -0.05, "exploding"),
        (-0.1, -0.2, 0.01, "flat"),
        (0.04, 0.03, 0.05, "flat"),  # less than a factor of e over 20 tokens
        (-0.04, -0.05, -0.03, "flat"),
    ):
        assert decay._verdict(rate, low, high, 20.0) == verdict


def test_the_fit_explains_the_share_of_the_variance_that_a_line_does():
    distances = np.arange(1.0, 21.0)
    logs = -0.1 * distances + 0.3 * (-1.0) ** np.arange(20)
    found = decay.fit(distances, np.exp(logs)[None], ROUNDING)
    correlation = np.corrcoef(distances, logs)[0, 1]
    assert found.r2 == pytest.approx(correlation**2)
    assert found.r2 < 0.9


def test_a_row_that_ends_before_a_distance_is_not_in_its_mean():
    norms = np.array([[1.0, np.nan, 3.0], [1.0, 2.0, 4.0]])
    assert decay.root_mean_square(norms) == pytest.approx([1.0, 2.0, math.sqrt(12.5)])


def test_a_line_through_two_points_is_no_fit():
    found = decay.fit(np.array([1.0, 2.0]), np.array([[1.0, 0.5]]), ROUNDING)
    assert (found.rate_per_token, found.missing) == (None, "2 distances are too few for a fit")


def test_a_fast_rate_is_the_low_end_of_the_decay_time():
    found = decay.Decay(
        verdict="vanishing",
        rate_per_token=0.1,
        rate_low=0.05,
        rate_high=0.2,
        r2=1.0,
        fitted_to=20,
        reach=5,
    ).metrics("x")
    names = ("x_decay_tokens_low", "x_decay_tokens", "x_decay_tokens_high")
    assert [found[name] for name in names] == pytest.approx([5.0, 10.0, 20.0])
