"""The tasks by name. A new one is a file here and a line in the table."""

from tasks.adding import Adding
from tasks.digits import Digits
from tasks.docstring_pairs import DocstringPairs
from tasks.image import Image
from tasks.listops import Listops
from tasks.mqar import Mqar
from tasks.parity import Parity
from tasks.pathfinder import Pathfinder
from tasks.pathx import PathX
from tasks.python_bytes import PythonBytes
from tasks.retrieval import Retrieval
from tasks.reverse_string import ReverseString
from tasks.selective_copy import SelectiveCopy
from tasks.smnist5k import Smnist5k
from tasks.task import Task
from tasks.text import Text

TASKS: dict[str, type[Task]] = {
    "adding": Adding,
    "digits": Digits,
    "docstring_pairs": DocstringPairs,
    "image": Image,
    "listops": Listops,
    "mqar": Mqar,
    "parity": Parity,
    "pathfinder": Pathfinder,
    "pathx": PathX,
    "python_bytes": PythonBytes,
    "retrieval": Retrieval,
    "reverse_string": ReverseString,
    "selective_copy": SelectiveCopy,
    "smnist5k": Smnist5k,
    "text": Text,
}
