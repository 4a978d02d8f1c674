"""What all tests share."""

import os
import tempfile

# Before torch is imported: models of a few thousand weights are slower on two threads than on one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)

# Of several processes that share the tests none sees another's workspaces.
HOME = tempfile.TemporaryDirectory(prefix="personalization-tests-")
os.environ.setdefault("PERSONALIZATION_HOME", HOME.name)
