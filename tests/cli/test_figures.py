"""Percentiles, and what the summary says of them."""

import pytest

from kubelb.cli.demo.measure import KUBELB, PLAIN, Figures, Record, Sample, figures, percentile
from kubelb.cli.demo.script import AFTER, BEFORE, FAULTS, WARM_UP, Act
from kubelb.cli.demo.settings import TIMEOUT, Settings
from kubelb.cli.demo.summary import sentences, summarize
from kubelb.cli.demo.view import in_words

ACTS = [Act(phase, phase, 1.0, phase) for phase in (WARM_UP, BEFORE, FAULTS, AFTER)]


def sample(side: str = KUBELB, latency: float = 0.01, error: str = "", act: int = 2, due: float = 0.0) -> Sample:
    return Sample(side, act, due, latency, "reviews-0", error)


def summary_of(*samples: Sample):
    record = Record()
    for each in samples:
        record.add(each)
    settings = Settings(5.0, 10.0, 7)
    return summarize(settings, 5.0, ACTS, record, forwarder=0.0002, retries=1, ejections=0)


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(1, 0.5, 1), (2, 0.5, 1), (100, 0.5, 50), (100, 0.99, 99), (101, 0.99, 100), (10, 0.99, 10)],
)
def test_percentiles_are_values_that_occurred(count, share, expected):
    """Nearest rank: the least value that `share` of all do not exceed."""
    assert percentile(list(range(1, count + 1)), share) == expected


def test_no_request_no_percentile():
    """Nothing is not zero."""
    assert figures([]) == Figures(0, 0, None, None, None)


def test_a_failure_ranks_as_the_timeout():
    """A request that fails in a millisecond is the slowest of all; one that took longer than the timeout stays so."""
    found = figures([sample(latency=0.01), sample(latency=0.001, error="ConnectError")])
    assert (found.p50, found.p99) == (0.01, TIMEOUT)
    assert figures([sample(latency=TIMEOUT + 2, error="ReadTimeout")]).p99 == TIMEOUT + 2


def test_a_look_at_the_last_seconds():
    """Requests count from when they were due, and what ended out of order is found."""
    record = Record()
    for due, latency in ((0.0, 0.1), (1.0, 4.0), (5.0, 0.1), (4.0, 1.5)):
        record.add(sample(due=due, latency=latency))
    assert sorted(each.due for each in record.since(4.0)) == [4.0, 5.0]
    assert [each.due for each in record.since(4.5)] == [5.0]


def test_words_follow_the_numbers():
    """A better p99 of plain httpx is told, errors of ours even more so."""
    better = summary_of(sample(latency=0.02), sample(PLAIN, latency=0.01))
    assert better.ok
    assert "no worse" in sentences(better)
    worse = summary_of(sample(latency=0.02), sample(PLAIN, error="ReadError"))
    assert "no worse" not in sentences(worse)
    assert "1 error," in sentences(worse)
    failed = summary_of(sample(error="ReadError"), sample(PLAIN))
    assert not failed.ok
    assert "1 x ReadError" in sentences(failed)


def test_no_traffic_is_no_success():
    """A demo that sent nothing has shown nothing."""
    assert not summary_of().ok


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.00042, "0.4 ms"), (0.0162, "16 ms"), (0.9994, "999 ms"), (0.9997, "1.0 s"), (5.0, "5.0 s")],
)
def test_latencies_in_words(seconds, words):
    """Two or three digits, whatever the size."""
    assert in_words(seconds) == words
