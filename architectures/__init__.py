"""What is compared: one file per architecture, the contract in body.py, and this table.

To add one: write its file, import its class here and add a line. `bench list` reads this file's
text without importing it, so keep plain imports and one literal dict.
"""

from __future__ import annotations

from architectures.bidirectional import Bidirectional
from architectures.bilstm_stack import BilstmStack
from architectures.body import Body
from architectures.gru import Gru
from architectures.gru_stack import GruStack
from architectures.lstm import Lstm
from architectures.lstm_stack import LstmStack
from architectures.mamba import Mamba
from architectures.rnn import Rnn
from architectures.rnn_stack import RnnStack
from architectures.s4d import S4d
from architectures.transformer import Transformer

ARCHITECTURES: dict[str, type[Body]] = {
    "rnn": Rnn,
    "lstm": Lstm,
    "gru": Gru,
    "rnn_stack": RnnStack,
    "lstm_stack": LstmStack,
    "gru_stack": GruStack,
    "bilstm_stack": BilstmStack,
    "bidirectional": Bidirectional,
    "s4d": S4d,
    "mamba": Mamba,
    "transformer": Transformer,
}
