"""The kernel that a body names is what a profiler sees running, and asking leaves no trace."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.profiler import ProfilerActivity, profile

from architectures import ARCHITECTURES
from architectures.body import PROBE_TOKENS, Body, State
from architectures.encoder_decoder import EncoderDecoder
from architectures.kernels import linear_scan as linear
from architectures.kernels import wkv4 as wkv
from architectures.kernels.native import library
from architectures.kernels.paths import FUSED, name_of, note, note_chunked, recorded
from architectures.layers.recurrent import RecurrentStack
from bench.certify.laws import certified_width
from bench.measure import session
from tests.small_run import a_run, row_of

# Of an architecture's probe, all processor time; they take 5 to 50 ms, torch's loops 300.
PROBE_S = 3.0
# What an operator or function of torch, seen by its profiler, says of the path.
SIGNS = {
    "aten::mkldnn_rnn_layer": "onednn",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "sdpa-flash",
    "aten::_scaled_dot_product_attention_math": "sdpa-math",
    "aten::fft_rfft": "fft",
}
LOOPS = {"aten::gru", "aten::lstm", "aten::rnn_tanh", "aten::rnn_relu"}
MEASURED = {"measure": {"instruments": ["throughput"], "seconds_per_cell": 0.01, "min_rounds": 3}}
PLAIN = {"reference", "chunked"}
"""Of which torch's operators show nothing."""


def build(name: str, width: int | None = None, **options: Any) -> Body:
    torch.manual_seed(0)
    architecture: Any = ARCHITECTURES[name]
    body: Body = architecture(width or certified_width(architecture, **options), **options)
    return body


def words(body: Body) -> set[str]:
    """Every path of every operation."""
    return {word for path in body.kernel_paths().values() for word in path.split("+")}


def profiled(body: Body, dtype: torch.dtype) -> set[str]:
    """The paths that the profiler's events stand for, forward and backward."""
    x = torch.randn(2, 9, body.width, dtype=dtype, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        y, _ = body(x)
        y.sum().backward()
    seen = {event.key for event in profiler.key_averages()}
    found = {path for sign, path in SIGNS.items() if sign in seen}
    if any(event.startswith("seqbench::") for event in seen):
        found.add("native-cpu")
    if seen & LOOPS and "onednn" not in found:
        found.add("aten")
    return found


@pytest.mark.parametrize("choice", ["native", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_paths_named_are_those_that_a_profiler_sees(
    name: str, dtype: torch.dtype, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQBENCH_KERNELS", choice)
    body = build(name).to(dtype)
    named = {word for word in words(body) if not word.startswith("transformers-")}
    assert named - PLAIN == profiled(body, dtype)
    assert (choice == "native" and dtype == torch.float32) or "native-cpu" not in named


@pytest.mark.parametrize(
    ("name", "native", "reference", "in_float64"),
    [
        ("gru", "native-cpu", "aten", "aten"),
        ("irnn", "native-cpu", "aten", "aten"),
        ("lstm", "onednn", "onednn", "aten"),
        ("bilstm_stack", "onednn", "onednn", "aten"),
        ("mingru", "native-cpu", "reference", "reference"),
        ("s5", "native-cpu", "reference", "reference"),
        ("s4d", "fft", "fft", "fft"),
        ("mamba", "native-cpu", "reference", "reference"),
        ("mamba2", "chunked", "chunked", "chunked"),
        ("gated_deltanet", "native-cpu", "reference", "reference"),
        ("rwkv4", "native-cpu", "reference", "reference"),
        ("xlstm", "chunked+reference", "chunked+reference", "chunked+reference"),
        ("transformer", "sdpa-flash", "sdpa-flash", "sdpa-flash"),
        ("hybrid", "native-cpu+sdpa-flash", "reference+sdpa-flash", "reference+sdpa-flash"),
        ("encoder_decoder", "native-cpu", "aten", "aten"),
    ],
)
def test_the_name_is_that_of_what_decides_the_speed(
    name: str, native: str, reference: str, in_float64: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "onednn" in native and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    for choice, expected in [("native", native), ("reference", reference)]:
        monkeypatch.setenv("SEQBENCH_KERNELS", choice)
        assert build(name).kernel == expected
    assert build(name).double().kernel == in_float64


def test_dropout_changes_the_attention_that_torch_takes() -> None:
    assert build("transformer", attention_dropout=0.1).kernel == "sdpa-math"
    assert build("transformer", attention_dropout=0.1).eval().kernel == "sdpa-math"


def test_two_directions_with_padding_are_not_packed() -> None:
    """A packed sequence would be torch's loop."""
    body = build("bilstm_stack")
    assert body.kernel_paths() == {"lstm": "onednn"}
    assert body.kernel_paths(padded=True) == {"lstm": "onednn"}


def test_an_answer_in_turn_is_plain() -> None:
    body = EncoderDecoder(8, attention="bahdanau")
    assert "reference" in body.kernel.split("+")
    assert "reference" not in EncoderDecoder(8, attention="luong").kernel


class Restless(Body):
    """Counts its calls in a buffer, and draws random numbers."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(1), persistent=False)
        self.seen: list[tuple[bool, int]] = []

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        self.seen.append((self.dropout.training, x.shape[1]))
        self.calls += 1
        return self.dropout(self.norm(x.flatten(0, 1))).view_as(x), None


@pytest.mark.parametrize("make", [lambda: Restless(5), lambda: build("hf"), lambda: build("gru")])
def test_asking_leaves_the_body_as_it_was(make: Callable[[], Body]) -> None:
    body = make()
    modules = list(body.modules())
    for module in modules[::2]:
        module.training = False
    parameters = list(body.parameters())
    parameters[0].grad = torch.ones_like(parameters[0])
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    buffers = [buffer.clone() for buffer in body.buffers()]
    modes, randomness = [module.training for module in modules], torch.get_rng_state()
    with torch.no_grad():
        assert body.kernel
    assert torch.equal(torch.get_rng_state(), randomness)
    assert [module.training for module in modules] == modes
    assert torch.equal(parameters[0].grad, torch.ones_like(parameters[0]))
    assert all(parameter.grad is None for parameter in parameters[1:])
    assert all(torch.equal(body.state_dict()[name], before[name]) for name in before)
    assert all(map(torch.equal, body.buffers(), buffers))
    if isinstance(body, Restless):
        assert body.seen == [(True, PROBE_TOKENS)]


def test_a_body_that_fails_is_left_as_it_was_too() -> None:
    body = Restless(5).eval()
    body.norm = nn.LayerNorm(4)  # type: ignore[assignment]
    with pytest.raises(RuntimeError):
        _ = body.kernel
    assert not body.training
    assert int(body.calls) == 0
    note("scan", "reference")  # no recorder is left open


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_asking_is_cheap(name: str) -> None:
    body = build(name, 64)
    assert body.kernel  # the first call may compile
    begun = time.process_time()
    assert body.kernel
    assert time.process_time() - begun < PROBE_S


def test_no_more_tokens_are_probed_than_there_are_positions() -> None:
    assert build("transformer", position="learned", max_length=7).kernel == "sdpa-flash"


def test_notes_are_heard_while_one_listens() -> None:
    note("scan", "reference")
    with recorded() as paths:
        note("scan", "native-cpu")
        note("convolution", "fft")
        note("scan", "reference")
        note("scan", "native-cpu")
    note("scan", "triton")
    assert paths == {"scan": "native-cpu+reference", "convolution": "fft"}
    assert name_of(paths) == "native-cpu+reference+fft"


def test_minor_operations_name_a_body_only_if_there_is_no_other() -> None:
    assert name_of({}) == "reference"
    assert name_of({"causal_convolution": "native-cpu"}) == "native-cpu"
    assert name_of({"causal_convolution": "native-cpu", "ssd": "chunked"}) == "chunked"


def test_plain_products_are_the_fast_form_on_a_cpu_alone() -> None:
    for device, expected in [("cpu", "chunked"), ("meta", "reference")]:
        with recorded() as paths:
            note_chunked("ssd", torch.empty(1, device=device))
        assert paths == {"ssd": expected}


def test_the_fused_operators_are_torchs() -> None:
    for name in FUSED:
        assert hasattr(torch.ops.aten, name.removeprefix("aten::")), name


def test_a_self_check_is_not_taken_for_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs the reference, whose scan has a dispatch point of its own."""
    monkeypatch.setenv("SEQBENCH_KERNELS", "native")
    monkeypatch.setattr(wkv.native.KERNEL, "_tried", False)
    assert build("rwkv4").kernel_paths() == {"wkv4": "native-cpu"}
    assert wkv.native.KERNEL._tried


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_the_compiler_does_not_see_notes() -> None:
    def scaled(x: Tensor) -> Tensor:
        note("scan", "reference")
        return 2 * x

    compiled = torch.compile(scaled, backend="eager", fullgraph=True)
    assert torch.equal(compiled(torch.ones(3)), torch.full((3,), 2.0))


@pytest.mark.parametrize("how", ["train", "measure"])
def test_a_row_names_the_kernel_of_its_precision(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQBENCH_KERNELS", "auto")
    kernels = {}
    for precision in ("32-true", "64-true", "bf16-true", "bf16-mixed"):
        training = {"precision": precision, "steps": 1 if how == "train" else 0}
        run = a_run(
            architecture={"name": "mamba", "layers": 1},
            training=training,
            **({} if how == "train" else MEASURED),
        )
        row = row_of(run) if how == "train" else session.measure([run], "test", {}, {})[0]
        assert row.status == "ok", row.log_tail
        kernels[precision] = row.kernel, row.provenance["kernel_paths"]
    native = {"causal_convolution": "native-cpu", "selective_scan": "native-cpu"}
    plain = {"causal_convolution": "reference", "selective_scan": "reference"}
    assert kernels["32-true"] == ("native-cpu", native)
    assert kernels["64-true"] == ("reference", plain)
    assert kernels["bf16-true"] == ("native-cpu", {**native, "causal_convolution": "reference"})
    assert kernels["bf16-mixed"][0] == "native-cpu"


def test_a_row_names_the_kernel_of_padded_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if padding were packed, which oneDNN does not take."""
    monkeypatch.setattr(RecurrentStack, "_run_both_ways", packed)
    row = row_of(a_run(architecture="bilstm_stack", task="listops", length=64))
    assert row.status == "ok", row.log_tail
    assert row.kernel == "aten"


def packed(
    body: RecurrentStack, x: Tensor, state: Any, lengths: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    rows = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, state = body.recurrence(rows, state)
    return pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0], state


def test_a_kernel_that_failed_its_check_is_in_the_row_and_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SEQBENCH_KERNELS", "auto")
    kernel = linear.native.KERNEL
    for name, value in {"_tried": False, "reason": None, "check": lambda: 1.0}.items():
        monkeypatch.setattr(kernel, name, value)
    row = row_of(a_run(architecture="mingru"))
    assert row.status == "ok", row.log_tail
    assert row.kernel == "reference"
    reason = row.provenance["native_kernels_missing"]["linear_scan"]
    assert "its self-check found an error of 1.0e+00" in reason
    assert reason in caplog.text
    assert library.reasons()
