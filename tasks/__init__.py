"""The tasks by name. A new one is a file here and a line in the table."""

from tasks.adding import Adding
from tasks.digits import Digits
from tasks.enwik8 import Enwik8
from tasks.mqar import Mqar
from tasks.parity import Parity
from tasks.ptb import Ptb
from tasks.python_bytes import PythonBytes
from tasks.reverse_string import ReverseString
from tasks.selective_copy import SelectiveCopy
from tasks.shakespeare import Shakespeare
from tasks.smnist5k import Smnist5k
from tasks.task import Task
from tasks.text8 import Text8
from tasks.text_file import TextFile
from tasks.wikitext2 import Wikitext2
from tasks.wikitext103 import Wikitext103

TASKS: dict[str, type[Task]] = {
    "adding": Adding,
    "digits": Digits,
    "enwik8": Enwik8,
    "mqar": Mqar,
    "parity": Parity,
    "ptb": Ptb,
    "python_bytes": PythonBytes,
    "reverse_string": ReverseString,
    "selective_copy": SelectiveCopy,
    "shakespeare": Shakespeare,
    "smnist5k": Smnist5k,
    "text8": Text8,
    "text_file": TextFile,
    "wikitext103": Wikitext103,
    "wikitext2": Wikitext2,
}
