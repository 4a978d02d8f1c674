"""What all tests share."""

import os

# Before torch is imported: models of a few thousand weights are slower on two threads than on one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
