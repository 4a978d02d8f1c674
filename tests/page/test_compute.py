"""The thread that computes: one job after the other, closed where nobody listens."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from personalization.page.compute import Compute, alone


def where() -> threading.Thread:
    return threading.current_thread()


def test_all_jobs_run_on_one_thread_that_is_not_the_callers():
    compute = Compute()

    def places():
        yield where()
        yield where()

    seen = {compute.call(where), *compute.stream(places), compute.call(where)}
    assert len(seen) == 1
    assert where() not in seen


def test_what_a_job_raises_is_raised_to_who_asked_and_the_next_one_runs():
    compute = Compute()

    def halfway():
        yield 1
        raise ValueError("no more")

    seen = []
    with pytest.raises(ValueError, match="no more"):
        seen.extend(iter(compute.stream(halfway)))
    with pytest.raises(ZeroDivisionError):
        compute.call(lambda: 1 // 0)
    assert compute.call(lambda: 2) == 2


def test_a_generator_does_not_wait_for_who_listens():
    compute, done = Compute(), threading.Event()

    def three():
        yield from (1, 2, 3)
        done.set()

    events = compute.stream(three)
    assert next(events) == 1
    assert done.wait(10)
    assert list(events) == [2, 3]


def test_closed_before_its_end_a_generator_is_closed_at_its_next_event():
    compute, go_on = Compute(), threading.Event()
    left = []

    def endless():
        try:
            yield 0
            while go_on.wait(10):
                yield 1
        finally:
            left.append(where())

    events = compute.stream(endless)
    assert next(events) == 0
    events.close()  # at once, while the job is busy
    assert left == []
    go_on.set()
    assert [compute.call(where)] == left


def test_a_job_waits_for_its_turn():
    compute, release = Compute(), threading.Event()
    order = []

    def first():
        yield 0
        release.wait(10)
        order.append("first")

    events = compute.stream(first)
    assert next(events) == 0
    second = threading.Thread(target=compute.call, args=(lambda: order.append("second"),))
    second.start()
    release.set()
    second.join(10)
    assert order == ["first", "second"]


def test_a_job_knows_whether_others_wait_for_it():
    compute, begun, go_on = Compute(), threading.Event(), threading.Event()
    seen = []

    def first():
        begun.set()
        go_on.wait(10)
        seen.append(compute.others_wait)

    one = threading.Thread(target=compute.call, args=(first,))
    one.start()
    begun.wait(10)
    seen.append(compute.others_wait)
    events = compute.stream(lambda: (n for n in ()))
    two = threading.Thread(target=list, args=(events,))
    two.start()
    while not compute.others_wait:
        pass
    go_on.set()
    one.join(10)
    two.join(10)
    assert [*seen, compute.others_wait] == [False, True, False]


def test_a_job_that_would_wait_for_itself_is_refused():
    compute = Compute()
    with pytest.raises(RuntimeError, match="own thread"):
        compute.call(lambda: compute.call(where))


def test_alone_keeps_functions_and_generator_functions_what_they_are():
    compute = Compute()
    assert alone(lambda: compute, where)() is compute.call(where)

    def count(n):
        yield from range(n)

    assert list(alone(lambda: compute, count)(3)) == [0, 1, 2]


def test_once_closed_a_stream_ends_with_its_next_event_and_nothing_starts():
    compute, go_on = Compute(), threading.Event()
    left = []

    def endless():
        try:
            yield 0
            while go_on.wait(10):
                yield 1
        finally:
            left.append(where())

    events = compute.stream(endless)
    assert next(events) == 0
    compute.close()
    go_on.set()
    assert set(events) <= {1}
    assert len(left) == 1
    with pytest.raises(RuntimeError):
        compute.call(where)


CORES = """
import threading, torch
from personalization.page.compute import Compute
cores, seen = torch.get_num_threads(), []
compute = Compute.with_the_cores()
other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
other.start(), other.join()
assert compute.call(torch.get_num_threads) == cores
assert [*seen, torch.get_num_threads()] == [1, 1]
"""


@pytest.mark.slow
def test_one_thread_has_the_cores_and_every_other_one_of_them():
    subprocess.run(
        [sys.executable, "-c", CORES],
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        cwd=Path(__file__).parents[2],
        check=True,
    )
