"""The tasks by name. A new one is a file here and a line in the table."""

from tasks.adding import Adding
from tasks.csv_classification import CsvClassification
from tasks.digits import Digits
from tasks.ett import Ett
from tasks.jsb import Jsb
from tasks.mqar import Mqar
from tasks.parity import Parity
from tasks.psmnist import Psmnist
from tasks.python_bytes import PythonBytes
from tasks.reverse_string import ReverseString
from tasks.selective_copy import SelectiveCopy
from tasks.smnist import Smnist
from tasks.smnist5k import Smnist5k
from tasks.speech_commands import SpeechCommands
from tasks.spoken_digits import SpokenDigits
from tasks.task import Task
from tasks.temperatures import Temperatures

TASKS: dict[str, type[Task]] = {
    "adding": Adding,
    "csv_classification": CsvClassification,
    "digits": Digits,
    "ett": Ett,
    "jsb": Jsb,
    "mqar": Mqar,
    "parity": Parity,
    "psmnist": Psmnist,
    "python_bytes": PythonBytes,
    "reverse_string": ReverseString,
    "selective_copy": SelectiveCopy,
    "smnist": Smnist,
    "smnist5k": Smnist5k,
    "speech_commands": SpeechCommands,
    "spoken_digits": SpokenDigits,
    "temperatures": Temperatures,
}
