"""The count of what people bring is of tests that are there."""

import ast

import pytest

from tests.cases import CASES
from tests.support.server import ROOT


def test_all_thirty_eight_are_counted():
    folders = [case.partition("/")[0] for case in CASES]
    assert (folders.count("adapter-files"), folders.count("photos-words-api")) == (17, 21)


@pytest.mark.parametrize("case", CASES)
def test_each_case_names_tests_that_are_there(case: str):
    for file, function in CASES[case][1]:
        tree = ast.parse((ROOT / "tests" / file).read_text())
        assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
