"""Metrics, by a real SDK's reader: what is counted, what is looked at, and what ends when."""

import gc
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.spelled import spelled

import kubelb
from core.kit import Clock, pods
from kubelb import CircuitBreaker, DiscoveryOptions, Endpoint, LoadBalancer, Retry, RetryBudget, Snapshot
from kubelb.core import events
from kubelb.model import Changes
from kubelb.service import service_of
from kubelb.telemetry.looking import ROWS
from kubelb.telemetry.tally import KINDS
from kubelb.testing import Service
from telemetry.kit import Sdk

COUNTERS = {kind: kind.counter for kind in events.Event.kinds() if kind.counter}

TWO = "static:///10.0.0.1:80,10.0.0.2:80"


def refuse(attempt: kubelb.Attempt) -> None:
    raise ConnectionRefusedError


def answer(attempt: kubelb.Attempt) -> str:
    return "ok"


def total(sdk: Sdk, name: str) -> float:
    return sum(sdk.values(name).values())


def balancer(sdk: Sdk, target: str = TWO, **options: Any) -> LoadBalancer:
    options.setdefault("telemetry", sdk.telemetry())
    return LoadBalancer(target, policy="round_robin", clock=Clock(), rng=random.Random(1), **spelled(options))


def test_requests_picks_and_outcomes(sdk: Sdk) -> None:
    """A retry is a pick and not a request; what is in flight was picked and has not ended."""
    with balancer(sdk) as lb:
        for _ in range(3):
            lb.call(answer)
        with pytest.raises(ConnectionRefusedError):
            lb.call(refuse, idempotent=True)
        lease = service_of(lb).balancer.pick()
        assert sdk.values("kubelb.requests") == {"": 5}
        assert sdk.values("kubelb.attempts") == {"success": 3, "failure": 3, "other": 0}
        assert sdk.values("kubelb.attempts.active") == {"": 1}
        assert sdk.values("kubelb.picks") == {"": 7}
        lease.release(None)
        assert sdk.values("kubelb.attempts") == {"success": 3, "failure": 3, "other": 1}
        assert sdk.values("kubelb.attempts.active") == {"": 0}
        assert sdk.values("kubelb.picks") == {"": 7}


def test_retries_and_their_budget(sdk: Sdk) -> None:
    """By reason; a retry that the budget refused is counted too."""
    with balancer(sdk, retry=Retry(attempts=5, budget=RetryBudget(ratio=0.0, floor=3.0))) as lb:
        assert sdk.values("kubelb.retry.budget.available") == {"": 3}
        with pytest.raises(ConnectionRefusedError):
            lb.call(refuse, idempotent=True)
        assert sdk.counted("kubelb.retries") == {"refused": 3}
        assert sdk.values("kubelb.retry.budget.exhausted") == {"": 1}
        assert sdk.values("kubelb.retry.budget.available") == {"": 0}


def test_no_budget_is_no_number(sdk: Sdk) -> None:
    """Nothing is said of a budget that there is not."""
    with balancer(sdk, retry=Retry(budget=None)):
        assert sdk.values("kubelb.retry.budget.available") == {}


def test_ejections_and_states(sdk: Sdk) -> None:
    """A state that was there once goes on as 0."""
    with balancer(sdk, TWO + ",10.0.0.3:80", retry=None) as lb:
        assert sdk.values("kubelb.endpoints") == {"ready": 3}
        bad = lb.endpoints()[0].address

        def ask(attempt: kubelb.Attempt) -> None:
            if attempt.endpoint.authority == bad:
                raise ConnectionRefusedError

        for _ in range(15):
            with suppress(ConnectionRefusedError):
                lb.call(ask)
        assert total(sdk, "kubelb.ejections") == 1
        assert sdk.values("kubelb.endpoints") == {"ready": 2, "ejected": 1}
        clock: Any = service_of(lb).balancer.clock
        clock.now += 60
        lb.call(answer)
        assert total(sdk, "kubelb.ejections.ended") == 1
        assert sdk.values("kubelb.endpoints") == {"ready": 2, "ejected": 0, "warming": 1}


def test_discovery(sdk: Sdk) -> None:
    """Where endpoints come from, how old that is, whether it is enough."""
    with balancer(sdk):
        assert sdk.values("kubelb.discovery.synced") == {"static": 1}
        assert sdk.values("kubelb.discovery.stale") == {"static": 0}
        assert sdk.values("kubelb.discovery.updates") == {"": 1}
        assert sdk.points()["kubelb.discovery.age"]


def test_an_endpoint_that_went_away_has_counted(sdk: Sdk) -> None:
    """Counters never fall, and what still runs on it is counted when it ends."""
    with balancer(sdk) as lb:
        for _ in range(4):
            lb.call(answer)
        leases = [service_of(lb).balancer.pick() for _ in range(2)]
        service_of(lb)._publish(Snapshot(2, pods(3)))
        assert sdk.values("kubelb.attempts")["success"] == 4
        assert sdk.values("kubelb.attempts.active") == {"": 2}
        for lease in leases:
            lease.release()
        service_of(lb)._publish(Snapshot(3, pods(3)[:2], changes=Changes(2, removed=(pods(3)[2],))))
        assert sdk.values("kubelb.attempts")["success"] == 6
        assert sdk.values("kubelb.attempts.active") == {"": 0}
        assert service_of(lb).watch._tally._left == []


def test_one_name_is_one_series(sdk: Sdk) -> None:
    """Several load balancers of a service add up; what one had counted stays when it is closed, or lost."""
    first, second, third = (balancer(sdk) for _ in range(3))
    for lb, calls in ((first, 1), (second, 2), (third, 4)):
        for _ in range(calls):
            lb.call(answer)
    assert sdk.values("kubelb.requests") == {"": 7}
    assert sdk.values("kubelb.endpoints") == {"ready": 6}
    first.call(answer)
    first.close()
    assert sdk.values("kubelb.requests") == {"": 8}
    assert sdk.values("kubelb.endpoints") == {"ready": 4}
    del second, lb
    gc.collect()
    assert sdk.values("kubelb.requests") == {"": 8}
    assert sdk.values("kubelb.endpoints") == {"ready": 2}
    third.close()
    assert sdk.points() == {} or "kubelb.requests" not in sdk.points()


def test_a_name_that_is_found_later(sdk: Sdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind of fault: one load balancer under two names. Errors, events and metrics have the whole one.

    Also what a source says that serves another place, and what an adapter made before.
    """
    monkeypatch.setenv("KUBELB_TARGETS", "reviews.prod=10.0.0.1:80+169.254.169.254:80")
    monkeypatch.delenv("KUBELB_NAMESPACE", raising=False)
    config = tmp_path / "config"
    config.write_text("{current-context: a, contexts: [{name: a, context: {cluster: c, namespace: prod}}]}")
    told: list[events.Event] = []
    other = kubelb.LoadBalancer(
        "reviews:http",
        discovery=kubelb.DiscoveryOptions(kubeconfig=str(config)),
        telemetry=kubelb.Telemetry(service="mine"),
    )
    options = {"kubeconfig": str(config), "telemetry": sdk.telemetry(""), "breaker": CircuitBreaker()}
    with other, LoadBalancer("reviews:http", **spelled(options)) as lb:
        lb.on_event(told.append)
        lb.wait_ready(20.0)
        with suppress(ConnectionRefusedError):
            lb.call(refuse)
        service_of(lb).tell(events.TlsFilesChanged("reviews:http", ("ca.pem",), ""))
        name = "reviews.prod:http"
        service = service_of(lb)
        assert service.watch.service == service.balancer.service == str(lb.target) == name
        assert {type(event) for event in told} >= {events.Skipped, events.EndpointsChanged, events.TlsFilesChanged}
        assert {event.service for event in told} == {name}
        data = sdk.reader.get_metrics_data()
        metrics = [m for resource in data.resource_metrics for scope in resource.scope_metrics for m in scope.metrics]
        assert {point.attributes["kubelb.service"] for m in metrics for point in m.data.data_points} == {name}
        other.wait_ready(20.0)
        assert (service_of(other).watch.service, service_of(other).balancer.service) == ("mine", name)
    with pytest.raises(kubelb.Closed, match=r"^reviews\.prod:http"):
        lb.call(answer)


def test_a_closed_one_says_nothing(sdk: Sdk) -> None:
    """No series of it goes on, and one of the same name that is built later begins at zero."""
    lb = balancer(sdk)
    lb.call(answer)
    assert "kubelb.requests" in sdk.points()
    lb.close()
    assert set(sdk.points()) <= {"kubelb.call.duration"}
    with balancer(sdk):
        assert sdk.values("kubelb.requests") == {"": 0}


def test_names_are_told_apart(sdk: Sdk) -> None:
    """By the attribute `kubelb.service`: the target, a name that was given, `static` for a list of addresses."""
    telemetry = kubelb.Telemetry(meter_provider=sdk.meter_provider)
    with (
        balancer(sdk, "reviews.prod:http", telemetry=telemetry),
        balancer(sdk, telemetry=telemetry),
        balancer(sdk, telemetry=sdk.telemetry("ratings")),
    ):
        data = sdk.reader.get_metrics_data()
        assert data is not None
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        (requests,) = [metric for metric in metrics if metric.name == "kubelb.requests"]
        names = {dict(point.attributes or {})["kubelb.service"] for point in requests.data.data_points}
        assert names == {"reviews.prod:http", "static", "ratings"}
        assert "10.0.0." not in str(data.to_json())


def test_counters_do_not_go_back(sdk: Sdk) -> None:
    """Whatever threads made of a plain integer."""
    with balancer(sdk) as lb:
        lb.call(answer)
        lb.call(answer)
        assert sdk.values("kubelb.attempts")["success"] == 2
        service_of(lb).balancer.states()[0].successes = 0
        assert sdk.values("kubelb.attempts")["success"] == 2


SAMPLES: dict[type, Any] = {
    events.Retried: events.Retried("s", "10.0.0.1:80", 2, "503", 0.1),
    events.BudgetExhausted: events.BudgetExhausted("s", "503"),
    events.Ejected: events.Ejected("s", "10.0.0.1:80", "5 in a row", 10.0, 1, "consecutive-failures"),
    events.EjectionSpared: events.EjectionSpared("s", "10.0.0.1:80", "the last one", "failure-share", observed=True),
    events.ShareBounded: events.ShareBounded("s", "10.0.0.1:80", True, "7 of 7 requests"),
    events.LimitReached: events.LimitReached("s", "max_requests", 7, "10.0.0.1:80"),
    events.LocalTrouble: events.LocalTrouble("s", "10.0.0.1:80", "descriptors", "token-7", "10.0.0.1"),
    events.CircuitChanged: events.CircuitChanged("s", "10.0.0.1:80", "open", "7 of 10.0.0.1", observed=True),
    events.Returned: events.Returned("s", "10.0.0.1:80", "probe"),
    events.EndpointsChanged: events.EndpointsChanged("s", 1, 2, 3, ("10.0.0.1:80",)),
    events.DiscoveryFailed: events.DiscoveryFailed("s", "forbidden", "403 for token-7", "ask"),
    events.DiscoveryRecovered: events.DiscoveryRecovered("s", 1.0),
    events.SourceChanged: events.SourceChanged("s", "dns-srv", "endpointslices", "forbidden", "403 for token-7"),
    events.SpilledOver: events.SpilledOver("s", True, "none of 10.0.0.1:80 answers"),
    events.Skipped: events.Skipped("s", "slice a", "no port"),
    events.TlsFilesChanged: events.TlsFilesChanged("s", ("/ca.pem",)),
}


@pytest.mark.parametrize("kind", COUNTERS, ids=lambda kind: kind.__name__)
def test_every_row_counts_its_event(sdk: Sdk, kind: type) -> None:
    """By attributes that name no endpoint and repeat no text."""
    name = COUNTERS[kind].name
    with balancer(sdk) as lb:
        before = sum(point.value for point in sdk.points()[name].values())
        service_of(lb).tell(SAMPLES[kind])
        points = sdk.points()[name]
        assert sum(point.value for point in points.values()) == before + 1
        assert "10.0.0.1" not in str(list(points))
        assert "token-7" not in str(list(points))


def test_attributes_of_events(sdk: Sdk) -> None:
    """Those that have one."""
    with balancer(sdk) as lb:
        for sample in SAMPLES.values():
            service_of(lb).tell(sample)
        service_of(lb).tell(events.TlsFilesChanged("s", ("/ca.pem",), "unreadable"))
        service_of(lb).tell(events.CircuitChanged("s", "", "half-open", "5 s are over"))
        assert sdk.counted("kubelb.discovery.failures") == {"forbidden": 1}
        assert sdk.values("kubelb.tls.changes") == {"true": 1, "false": 1}
        said = {
            name: [dict(each) for each, point in points.items() if getattr(point, "value", 1)]
            for name, points in sdk.points().items()
        }
        rule, seen = "kubelb.ejection.rule", "kubelb.observed"
        assert said["kubelb.ejections"] == [{rule: "consecutive-failures", seen: "false"}]
        assert said["kubelb.ejections.spared"] == [{rule: "failure-share", seen: "true"}]
        assert said["kubelb.ejections.ended"] == [{"kubelb.ejection.end": "probe", seen: "false"}]
        assert said["kubelb.discovery.source.changes"] == [
            {"kubelb.discovery.reason": "forbidden", "kubelb.discovery.source": "dns-srv"}
        ]
        assert said["kubelb.limits.reached"] == [{"kubelb.limit": "max_requests", seen: "false"}]
        assert sorted(said["kubelb.circuit.changes"], key=str) == [
            {"kubelb.circuit.scope": "endpoint", "kubelb.circuit.state": "open", seen: "true"},
            {"kubelb.circuit.scope": "service", "kubelb.circuit.state": "half-open", seen: "false"},
        ]


def test_words_of_a_users_own_stay_bounded(sdk: Sdk) -> None:
    """A reason may come from `classify`: beyond so many they are one."""
    with balancer(sdk) as lb:
        for number in range(KINDS + 20):
            service_of(lb).tell(events.Retried("s", "10.0.0.1:80", 2, f"reason {number}", 0.1))
        service_of(lb).tell(events.Retried("s", "10.0.0.1:80", 2, "reason 3", 0.1))
        values = sdk.values("kubelb.retries")
        assert len(values) == KINDS + 1
        assert values["_OTHER"] == 20
        assert values["reason 3"] == 2


def test_an_event_without_an_instrument_is_none(sdk: Sdk) -> None:
    """It is for the log alone."""

    class Unheard(events.Event):
        pass

    with balancer(sdk) as lb:
        service_of(lb).watch.count(Unheard("s"))
        assert service_of(lb).watch._tally._events.keys() == {(events.EndpointsChanged, ())}


def test_instruments_are_well_formed() -> None:
    """Names, units and words, once each; every event that has a row is one."""
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    for row in ROWS:
        assert row.name.startswith("kubelb.")
        assert row.unit
        assert row.description.endswith(".")
        assert row.kind in {"counter", "up_down_counter", "gauge"}
    assert set(COUNTERS) == set(SAMPLES)


def test_nothing_is_reported_where_that_was_asked_for(sdk: Sdk) -> None:
    """`telemetry=False`."""
    with balancer(sdk, telemetry=False) as lb:
        lb.call(answer)
        assert not service_of(lb).watch.on()
        assert sdk.points() == {}
        assert sdk.spans() == ()


def test_what_is_no_telemetry() -> None:
    """The message says what to give."""
    with pytest.raises(TypeError, match=r"telemetry='yes': give True, False or a kubelb\.Telemetry"):
        LoadBalancer(TWO, telemetry="yes")  # type: ignore[arg-type]


def test_load_balancers_are_held_weakly(sdk: Sdk) -> None:
    """One that nobody closed goes, with everything it held."""
    import weakref

    lb = balancer(sdk)
    lb.call(answer)
    gone = weakref.ref(service_of(lb))
    sdk.points()
    del lb
    gc.collect()
    assert gone() is None
    assert set(sdk.points()) <= {"kubelb.call.duration"}


def test_ten_thousand_endpoints_are_looked_at_quickly(sdk: Sdk) -> None:
    """And make no more series than two do."""
    with balancer(sdk) as lb:
        before = sum(len(points) for points in sdk.points().values())
        many = tuple(Endpoint(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", 80) for i in range(10_000))
        service_of(lb)._publish(Snapshot(9, many))
        assert sum(sdk.values("kubelb.endpoints").values()) == 10_000
        assert sum(len(points) for points in sdk.points().values()) <= before + 1


@pytest.mark.slow
def test_an_api_server_that_is_away(sdk: Sdk, cluster: Any, pods: Service) -> None:
    """Its failures by kind, the source it was, the age of what is known; and its return."""
    lb = LoadBalancer(
        "reviews.prod:http",
        discovery=DiscoveryOptions(kubeconfig=cluster.kubeconfig, max_stale=0.01),
        telemetry=sdk.telemetry("reviews.prod:http"),
    )
    with lb:
        lb.wait_ready()
        assert sdk.values("kubelb.discovery.synced") == {"endpointslices": 1}
        assert sdk.values("kubelb.endpoints") == {"ready": len(pods)}
        cluster.api.down()
        try:
            assert soon(lambda: sdk.values("kubelb.discovery.failures").get("unreachable", 0) >= 1)
            assert soon(lambda: sdk.values("kubelb.discovery.stale") == {"endpointslices": 1})
            assert sdk.values("kubelb.discovery.age")["endpointslices"] > 0
            assert sdk.values("kubelb.endpoints") == {"ready": len(pods)}
        finally:
            cluster.api.up()
        assert soon(lambda: sdk.values("kubelb.discovery.recoveries") == {"": 1})


def soon(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not holds() and time.monotonic() < end:
        time.sleep(0.005)
    return holds()
