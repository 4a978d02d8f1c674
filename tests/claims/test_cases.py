"""The count of what people bring is of tests that are there."""

import ast
from collections import Counter

import pytest

from tests.cases import CASES
from tests.support.server import ROOT


def test_all_fifty_five_are_counted():
    folders = Counter(case.partition("/")[0] for case in CASES)
    assert folders == {"adapter-files": 17, "photos-words-api": 21, "safety": 17}


@pytest.mark.parametrize("case", CASES)
def test_each_case_names_tests_that_are_there(case: str):
    for file, function in CASES[case][1]:
        tree = ast.parse((ROOT / "tests" / file).read_text())
        assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
