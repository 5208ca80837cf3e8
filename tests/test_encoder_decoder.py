"""The encoder-decoder against its papers' equations, and the laws of what it is made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from architectures.encoder_decoder import EncoderDecoder
from architectures.layers.memory_attention import AdditiveAttention, GeneralAttention, Memory
from bench.certify.laws import LAWS
from tests.agreement import normal

EXACT = 1e-12  # float64, the same sums in another order
WIDTH = 12
LENGTHS = torch.tensor([4, 7, 1])
PAIRS: list[dict[str, Any]] = [
    {"attention": "bahdanau"},
    {"encoder": "transformer", "decoder": "lstm_stack", "attention": "luong"},
    {"encoder": "bilstm_stack", "decoder": "gru_stack", "attention": "bahdanau"},
    {"encoder": "mamba", "decoder": "transformer"},
    {"encoder": "hf", "decoder": "hf", "decoder_options": {"layers": 1}},
    {"encoder": "bidirectional", "decoder": "s4d", "attention": "luong"},
]


def build(width: int = WIDTH, **options: Any) -> EncoderDecoder:
    torch.manual_seed(0)
    return EncoderDecoder(width, **options).double()


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("options", PAIRS, ids=str)
@pytest.mark.parametrize("law", LAWS)
def test_every_pair_keeps_the_laws(law: str, options: dict[str, Any]) -> None:
    multiple = EncoderDecoder.width_multiple(**options)
    width = -(-WIDTH // multiple) * multiple
    finding = LAWS[law](
        lambda: EncoderDecoder(width, **options), torch.float64, torch.device("cpu")
    )
    assert finding.holds, finding


def test_without_attention_the_decoder_begins_from_the_encoders_state() -> None:
    """Sutskever et al. 2014, section 2, with torch's own LSTMs."""
    body = build(encoder="lstm_stack", decoder="lstm_stack")
    encoder, decoder = (nn.LSTM(WIDTH, WIDTH, 2, batch_first=True).double() for _ in range(2))
    encoder.load_state_dict(body.encoder.recurrence.state_dict())  # type: ignore[union-attr]
    decoder.load_state_dict(body.decoder.recurrence.state_dict())  # type: ignore[union-attr]
    source, answer = normal(3, 7, WIDTH), normal(3, 5, WIDTH, seed=1)
    y, _ = body.decode(answer, body.encode(source, lengths=LENGTHS))
    for row, length in enumerate(LENGTHS.tolist()):
        _, state = encoder(source[row : row + 1, :length])
        close(y[row], decoder(answer[row : row + 1], state)[0][0])


def test_a_decoder_of_another_kind_begins_by_reading_a_summary() -> None:
    body = build(encoder="bilstm_stack", decoder="gru_stack")
    source, answer = normal(3, 7, WIDTH), normal(3, 5, WIDTH, seed=1)
    y, _ = body.decode(answer, body.encode(source, lengths=LENGTHS))
    assert body.bridge is not None
    for row, length in enumerate(LENGTHS.tolist()):
        read, _ = body.encoder(source[row : row + 1, :length])
        summary = torch.tanh(body.bridge(torch.cat([read[:, -1], read.mean(1)], dim=1)))
        whole, _ = body.decoder(torch.cat([summary.unsqueeze(1), answer[row : row + 1]], dim=1))
        close(y[row], whole[0, 1:])


def test_bahdanau_is_equations_5_and_6_in_a_loop() -> None:
    body = build(encoder="gru_stack", decoder="gru_stack", attention="bahdanau")
    attend = body.attend
    assert isinstance(attend, AdditiveAttention)
    W, U, v = attend.query.weight, attend.key.weight, attend.score.weight[0]
    source, answer = normal(3, 7, WIDTH), normal(3, 5, WIDTH, seed=1)
    y, _ = body.decode(answer, body.encode(source, lengths=LENGTHS))
    for row, length in enumerate(LENGTHS.tolist()):
        h, state = body.encoder(source[row : row + 1, :length])
        s = torch.zeros(WIDTH).double()
        for t in range(5):
            e = torch.stack([v @ torch.tanh(W @ s + U @ h[0, j]) for j in range(length)])
            alpha = e.exp() / e.exp().sum()
            c = sum(alpha[j] * h[0, j] for j in range(length))
            given = body.merge(torch.cat([answer[row, t], c]))
            out, state = body.decoder(given.view(1, 1, -1), state)
            s = out[0, 0]
            close(y[row, t], s)


def test_luong_is_its_general_score_and_equation_5() -> None:
    body = build(encoder="gru_stack", decoder="gru_stack", attention="luong")
    assert isinstance(body.attend, GeneralAttention)
    W = body.attend.key.weight
    source, answer = normal(3, 7, WIDTH), normal(3, 5, WIDTH, seed=1)
    y, _ = body.decode(answer, body.encode(source, lengths=LENGTHS))
    for row, length in enumerate(LENGTHS.tolist()):
        h, state = body.encoder(source[row : row + 1, :length])
        out, _ = body.decoder(answer[row : row + 1], state)
        for t in range(5):
            e = torch.stack([out[0, t] @ W @ h[0, j] for j in range(length)])
            alpha = e.exp() / e.exp().sum()
            c = sum(alpha[j] * h[0, j] for j in range(length))
            close(y[row, t], torch.tanh(body.merge(torch.cat([c, out[0, t]]))))


@pytest.mark.parametrize("kind", [AdditiveAttention, GeneralAttention])
def test_operations_of_attention_are_those_that_torch_counts(kind: Any) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    attend = kind(WIDTH)
    memory = Memory.of(torch.randn(1, 7, WIDTH), None)
    with FlopCounterMode(display=False) as counter:
        attend(torch.randn(1, 7, WIDTH), attend.kept(memory))
    assert counter.get_total_flops() == 7 * attend.flops_per_query(7)


def test_the_memory_is_that_of_the_source_however_long_the_answer() -> None:
    body = build(attention="luong")
    state = body.encode(normal(2, 9, WIDTH))
    _, after = body.decode(normal(2, 50, WIDTH), state)
    assert after[2][0].shape == state[2][0].shape == (2, 9, WIDTH)
    assert body.state_grows
    assert not build().state_grows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "dot"}, "attention must be one of none, bahdanau, luong, not 'dot'"),
        ({"encoder": "grru"}, "no architecture 'grru'; did you mean 'gru'?"),
        ({"decoder": "bilstm_stack"}, "the decoder 'bilstm_stack' reads both ways"),
        ({"encoder_options": {"layer": 1}}, "gru has no option 'layer'; did you mean 'layers'?"),
        ({"decoder_options": {"layers": 0}}, "layers must be at least 1, not 0"),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        build(**options)
    assert message in str(error.value)


def test_nothing_can_be_written_without_a_source() -> None:
    with pytest.raises(ValueError, match="there is no source"):
        build().decode(normal(2, 3, WIDTH), None)
    with pytest.raises(ValueError, match="state is of a batch of 3"):
        build().decode(normal(2, 3, WIDTH), build().encode(normal(3, 4, WIDTH)))
