"""The tasks by name. A new one is a file here and a line in the table."""

from tasks.adding import Adding
from tasks.conllu_file import ConlluFile
from tasks.copy_memory import CopyMemory
from tasks.csv_classification import CsvClassification
from tasks.cycle_navigation import CycleNavigation
from tasks.digits import Digits
from tasks.docstring_pairs import DocstringPairs
from tasks.dyck import Dyck
from tasks.enwik8 import Enwik8
from tasks.ett import Ett
from tasks.even_pairs import EvenPairs
from tasks.g2p import G2p
from tasks.image import Image
from tasks.induction import Induction
from tasks.jsb import Jsb
from tasks.listops import Listops
from tasks.modular_arithmetic import ModularArithmetic
from tasks.mqar import Mqar
from tasks.needle import Needle
from tasks.ner import Ner
from tasks.parity import Parity
from tasks.pathfinder import Pathfinder
from tasks.pathx import PathX
from tasks.pos import Pos
from tasks.psmnist import Psmnist
from tasks.ptb import Ptb
from tasks.python_bytes import PythonBytes
from tasks.python_tokens import PythonTokens
from tasks.retrieval import Retrieval
from tasks.reverse_string import ReverseString
from tasks.selective_copy import SelectiveCopy
from tasks.shakespeare import Shakespeare
from tasks.smnist import Smnist
from tasks.smnist5k import Smnist5k
from tasks.speech_commands import SpeechCommands
from tasks.spoken_digits import SpokenDigits
from tasks.stack_manipulation import StackManipulation
from tasks.task import Task
from tasks.temperatures import Temperatures
from tasks.temporal_order import TemporalOrder
from tasks.text import Text
from tasks.text8 import Text8
from tasks.text_file import TextFile
from tasks.translate import Translate
from tasks.wikitext2 import Wikitext2
from tasks.wikitext103 import Wikitext103
from tasks.word_problem import WordProblem

TASKS: dict[str, type[Task]] = {
    "adding": Adding,
    "conllu_file": ConlluFile,
    "copy_memory": CopyMemory,
    "csv_classification": CsvClassification,
    "cycle_navigation": CycleNavigation,
    "digits": Digits,
    "docstring_pairs": DocstringPairs,
    "dyck": Dyck,
    "enwik8": Enwik8,
    "ett": Ett,
    "even_pairs": EvenPairs,
    "g2p": G2p,
    "image": Image,
    "induction": Induction,
    "jsb": Jsb,
    "listops": Listops,
    "modular_arithmetic": ModularArithmetic,
    "mqar": Mqar,
    "needle": Needle,
    "ner": Ner,
    "parity": Parity,
    "pathfinder": Pathfinder,
    "pathx": PathX,
    "pos": Pos,
    "psmnist": Psmnist,
    "ptb": Ptb,
    "python_bytes": PythonBytes,
    "python_tokens": PythonTokens,
    "retrieval": Retrieval,
    "reverse_string": ReverseString,
    "selective_copy": SelectiveCopy,
    "shakespeare": Shakespeare,
    "smnist": Smnist,
    "smnist5k": Smnist5k,
    "speech_commands": SpeechCommands,
    "spoken_digits": SpokenDigits,
    "stack_manipulation": StackManipulation,
    "temperatures": Temperatures,
    "temporal_order": TemporalOrder,
    "text": Text,
    "text8": Text8,
    "text_file": TextFile,
    "translate": Translate,
    "wikitext103": Wikitext103,
    "wikitext2": Wikitext2,
    "word_problem": WordProblem,
}
