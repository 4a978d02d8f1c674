"""What all tests share."""

import os
import tempfile

# Before torch is imported: models of a few thousand weights are slower on two threads than on one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)

# Of several processes that share the tests none sees another's workspaces.
HOME = tempfile.TemporaryDirectory(prefix="personalization-tests-")
os.environ.setdefault("PERSONALIZATION_HOME", HOME.name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests, each takes a file, and one all that browse."""
    for item in items:
        file = item.nodeid.partition("::")[0]
        browses = item.get_closest_marker("browser")
        item.add_marker(pytest.mark.xdist_group("browser" if browses else file))
