"""The tasks by name. A new one is a file here and a line in the table."""

from tasks.adding import Adding
from tasks.conllu_file import ConlluFile
from tasks.digits import Digits
from tasks.g2p import G2p
from tasks.mqar import Mqar
from tasks.ner import Ner
from tasks.parity import Parity
from tasks.pos import Pos
from tasks.python_bytes import PythonBytes
from tasks.python_tokens import PythonTokens
from tasks.reverse_string import ReverseString
from tasks.selective_copy import SelectiveCopy
from tasks.smnist5k import Smnist5k
from tasks.task import Task
from tasks.translate import Translate

TASKS: dict[str, type[Task]] = {
    "adding": Adding,
    "conllu_file": ConlluFile,
    "digits": Digits,
    "g2p": G2p,
    "mqar": Mqar,
    "ner": Ner,
    "parity": Parity,
    "pos": Pos,
    "python_bytes": PythonBytes,
    "python_tokens": PythonTokens,
    "reverse_string": ReverseString,
    "selective_copy": SelectiveCopy,
    "smnist5k": Smnist5k,
    "translate": Translate,
}
