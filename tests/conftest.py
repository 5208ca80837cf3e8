"""What holds for every test."""

import os

import torch

# One thread: the suite runs in parallel processes, and threads that wait for each other at every
# operation of a tiny tensor are far slower than none.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
