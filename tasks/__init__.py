"""The tasks by name. A new one is a file here and a line in the table."""

from tasks.adding import Adding
from tasks.digits import Digits
from tasks.mqar import Mqar
from tasks.parity import Parity
from tasks.python_bytes import PythonBytes
from tasks.reverse_string import ReverseString
from tasks.selective_copy import SelectiveCopy
from tasks.smnist5k import Smnist5k
from tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "adding": Adding,
    "digits": Digits,
    "mqar": Mqar,
    "parity": Parity,
    "python_bytes": PythonBytes,
    "reverse_string": ReverseString,
    "selective_copy": SelectiveCopy,
    "smnist5k": Smnist5k,
}
