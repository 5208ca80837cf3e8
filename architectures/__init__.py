"""What is compared: one file per architecture, the contract in body.py, and this table.

To add one: write its file, import its class here and add a line. `bench list` reads this file's
text without importing it, so keep plain imports and one literal dict.
"""

from __future__ import annotations

from architectures.bidirectional import Bidirectional
from architectures.bilstm_stack import BilstmStack
from architectures.body import Body
from architectures.encoder_decoder import EncoderDecoder
from architectures.gated_deltanet import GatedDeltanet
from architectures.gru import Gru
from architectures.gru_stack import GruStack
from architectures.hf import Hf
from architectures.hybrid import Hybrid
from architectures.irnn import Irnn
from architectures.linear_attention import LinearAttention
from architectures.lru import Lru
from architectures.lstm import Lstm
from architectures.lstm_stack import LstmStack
from architectures.mamba import Mamba
from architectures.mamba2 import Mamba2
from architectures.mingru import MinGru
from architectures.minlstm import MinLstm
from architectures.rnn import Rnn
from architectures.rnn_stack import RnnStack
from architectures.rwkv4 import Rwkv4
from architectures.rwkv7 import Rwkv7
from architectures.s4 import S4
from architectures.s4d import S4d
from architectures.s5 import S5
from architectures.transformer import Transformer
from architectures.transformer_bidirectional import TransformerBidirectional
from architectures.xlstm import Xlstm

ARCHITECTURES: dict[str, type[Body]] = {
    "rnn": Rnn,
    "irnn": Irnn,
    "lstm": Lstm,
    "gru": Gru,
    "rnn_stack": RnnStack,
    "lstm_stack": LstmStack,
    "gru_stack": GruStack,
    "bilstm_stack": BilstmStack,
    "bidirectional": Bidirectional,
    "mingru": MinGru,
    "minlstm": MinLstm,
    "lru": Lru,
    "s4": S4,
    "s4d": S4d,
    "s5": S5,
    "mamba": Mamba,
    "mamba2": Mamba2,
    "linear_attention": LinearAttention,
    "gated_deltanet": GatedDeltanet,
    "rwkv4": Rwkv4,
    "rwkv7": Rwkv7,
    "xlstm": Xlstm,
    "transformer": Transformer,
    "transformer_bidirectional": TransformerBidirectional,
    "hybrid": Hybrid,
    "encoder_decoder": EncoderDecoder,
    "hf": Hf,
}
