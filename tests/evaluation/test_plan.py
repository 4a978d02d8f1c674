"""Claims about plans: a cheaper one is a part of a dearer one."""

from __future__ import annotations

import math
from itertools import pairwise

from personalization.evaluation.plan import PLANS, TRIED_FIRST, Budget
from personalization.evaluation.prompts import eval_prompts
from tests.support.known import (
    MUG,
)


def test_prompts_begin_alike_whatever_their_number_so_that_reports_compare():
    assert eval_prompts(MUG, 10)[:4] == eval_prompts(MUG, 4)
    for longer, shorter in pairwise(PLANS):
        assert set(shorter.strengths) <= set(longer.strengths)
        assert TRIED_FIRST in shorter.strengths
        assert shorter.pictures(word=False) < longer.pictures(word=False)


def test_where_the_pace_is_not_known_the_cheapest_plan_is_taken():
    assert Budget().afford(math.inf, word=False) == PLANS[-1]
    assert Budget(None).afford(math.inf, word=False) == PLANS[0]
    assert Budget(1e6).afford(1.0, word=False) == PLANS[0]
