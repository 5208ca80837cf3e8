"""The Transformer's options: positions, window, grouped queries, and both directions."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from architectures.body import state_tensors
from architectures.layers.attention import Attention
from architectures.layers.positions import alibi_slopes, sinusoids
from architectures.transformer import Transformer
from architectures.transformer_bidirectional import TransformerBidirectional
from bench.certify.laws import LAWS
from tests.agreement import normal

EXACT = 1e-12  # float64, the same sums in another order
POSITIONS = ("rotary", "learned", "sinusoidal", "alibi", "none")
VARIANTS: list[tuple[type[Transformer], dict[str, Any]]] = [
    *[(Transformer, {"position": position}) for position in POSITIONS[1:]],
    *[(Transformer, {"position": position, "window": 6}) for position in POSITIONS],
    (Transformer, {"window": 1}),
    (Transformer, {"window": 200}),
    (Transformer, {"heads": 4, "kv_heads": 1}),
    *[(TransformerBidirectional, {"position": position}) for position in POSITIONS[1:]],
    (TransformerBidirectional, {"window": 4, "kv_heads": 2}),
]


def build(cls: type[Transformer] = Transformer, **options: Any) -> Any:
    torch.manual_seed(0)
    return cls(16, **{"layers": 1, **options}).double()


@pytest.mark.parametrize(("cls", "options"), VARIANTS, ids=str)
@pytest.mark.parametrize("law", LAWS)
def test_every_variant_keeps_the_laws(
    law: str, cls: type[Transformer], options: dict[str, Any]
) -> None:
    finding = LAWS[law](lambda: cls(16, **options), torch.float64, torch.device("cpu"))
    assert finding.holds, finding


def by_hand(mixer: Attention, x: Tensor) -> Tensor:
    """Attention of one row x (T, D) with plain loops over heads, queries and keys."""
    depth = mixer.head_width
    key_start = mixer.heads * depth
    value_start = key_start + mixer.kv_heads * depth
    projected = x @ mixer.project_in.weight.t()
    outputs = torch.zeros_like(x)
    for head in range(mixer.heads):
        group = head // (mixer.heads // mixer.kv_heads)
        query = projected[:, head * depth : (head + 1) * depth]
        key = projected[:, key_start + group * depth :][:, :depth]
        value = projected[:, value_start + group * depth :][:, :depth]
        for t in range(len(x)):
            seen = [
                s
                for s in range(len(x))
                if (not mixer.causal or s <= t)
                and (mixer.window is None or abs(t - s) < mixer.window)
            ]
            slope = 2.0 ** (-8.0 * (head + 1) / mixer.heads) if mixer.alibi else 0.0
            scores = [query[t] @ key[s] / math.sqrt(depth) - slope * abs(t - s) for s in seen]
            weights = torch.stack(scores).softmax(0)
            outputs[t, head * depth : (head + 1) * depth] = weights @ value[seen]
    return outputs @ mixer.project_out.weight.t()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"alibi": True}, {"window": 3}, {"window": 3, "alibi": True}, {"kv_heads": 2}],
    ids=str,
)
def test_attention_is_its_equation(options: dict[str, Any], causal: bool) -> None:
    torch.manual_seed(0)
    mixer = Attention(16, heads=4, dropout=0.0, rotary_base=None, causal=causal, **options).double()
    x = normal(2, 7, 16)
    y, _ = mixer(x)
    for row in range(2):
        torch.testing.assert_close(y[row], by_hand(mixer, x[row]), rtol=EXACT, atol=EXACT)


def test_alibis_slopes_are_the_papers() -> None:
    expected = [2.0**-k for k in range(1, 9)]
    assert alibi_slopes(8, torch.zeros(1)).tolist() == pytest.approx(expected)


def test_sinusoids_are_the_papers() -> None:
    table = sinusoids(torch.arange(5), torch.zeros(6, dtype=torch.float64))
    for pos in range(5):
        for i in range(3):
            angle = pos / 10_000 ** (2 * i / 6)
            assert table[pos, i].item() == pytest.approx(math.sin(angle))
            assert table[pos, 3 + i].item() == pytest.approx(math.cos(angle))


def test_the_encoder_equals_torchs() -> None:
    body = build(TransformerBidirectional, position="none")
    block = body.blocks[0]
    peer = nn.TransformerEncoderLayer(
        16, 4, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    with torch.no_grad():
        peer.self_attn.in_proj_weight.copy_(block.mixer.project_in.weight)
        peer.self_attn.out_proj.weight.copy_(block.mixer.project_out.weight)
        peer.self_attn.in_proj_bias.zero_()
        peer.self_attn.out_proj.bias.zero_()
    peer.linear1.load_state_dict(block.mlp[1].expand.state_dict())
    peer.linear2.load_state_dict(block.mlp[1].contract.state_dict())
    x = normal(2, 7, 16)
    torch.testing.assert_close(body(x)[0], body.norm(peer(x)), rtol=EXACT, atol=EXACT)


def test_without_positions_an_encoder_cannot_tell_the_order() -> None:
    x, order = normal(2, 7, 16), torch.tensor([3, 1, 6, 0, 2, 5, 4])
    for position in POSITIONS:
        body = build(TransformerBidirectional, position=position)
        shuffled, y = body(x[:, order])[0], body(x)[0]
        same = bool((shuffled - y[:, order]).abs().max() <= EXACT)
        assert same is (position == "none"), position


@pytest.mark.parametrize("position", ["rotary", "alibi", "none"])
def test_relative_positions_do_not_know_where_they_begin(position: str) -> None:
    body, x = build(position=position, window=3), normal(1, 12, 16)
    late = body(x)[0][:, 4:]
    torch.testing.assert_close(body(x[:, 2:])[0][:, 2:], late, rtol=1e-10, atol=1e-10)


def test_a_window_forgets_and_its_cache_holds_what_it_sees() -> None:
    body, x = build(window=5), normal(3, 9, 16)
    _, ((keys, values, n_read),) = body(x)
    assert keys.shape == values.shape == (3, 4, 4, 4)
    assert n_read.tolist() == [9, 9, 9]
    other = torch.cat([normal(3, 4, 16, seed=1), x[:, 4:]], dim=1)
    assert torch.equal(body(x)[0][:, 8], body(other)[0][:, 8])
    assert not torch.equal(body(x)[0][:, 7], body(other)[0][:, 7])


def test_grouped_heads_keep_a_smaller_cache() -> None:
    x = normal(3, 9, 16)
    sizes = [
        sum(t.numel() for t in state_tensors(build(heads=4, kv_heads=kv_heads)(x)[1]))
        for kv_heads in (4, 2, 1)
    ]
    assert sizes == [sizes[0], sizes[0] / 2, sizes[0] / 4]


def test_learned_positions_end() -> None:
    body, x = build(position="learned", max_length=8), normal(2, 9, 16)
    for lengths in (None, torch.tensor([8, 4])):
        _, state = body(x[:, :8], lengths=lengths)
        with pytest.raises(ValueError, match="9 tokens are more than the 8 learned positions"):
            body.step(x[:, 0], state)
    with pytest.raises(ValueError, match="9 tokens are more than the 8"):
        body(x)
    body(x, lengths=torch.tensor([8, 4]))  # padding needs no position


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_heads": 3}, "kv_heads 3 must divide heads 4"),
        ({"kv_heads": 0}, "kv_heads must be at least 1"),
        ({"window": 0}, "window must be at least 1"),
        ({"position": "rotory"}, "position must be one of rotary, learned"),
        ({"position": "learned", "max_length": 0}, "max_length must be at least 1"),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)
