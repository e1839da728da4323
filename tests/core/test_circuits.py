"""Circuit breakers: when they open, what that does, how trials decide, and that an observer does nothing."""

import gc
import math
import random
import threading
from typing import Any

import pytest

from kubelb.core import Lease, Phase
from kubelb.core.events import CircuitChanged, Ejected
from kubelb.core.health.breaker import CircuitBreaker
from kubelb.core.health.circuits import OK, Circuits
from kubelb.core.health.outliers import OutlierDetection
from kubelb.core.policies import REGISTRY
from kubelb.core.view import EndpointView
from kubelb.errors import Unusable
from kubelb.model import CANCELLED, SUCCESS, Outcome, Verdict

from .kit import Rig, busy, failed, pods


def broken(count: int = 3, policy: Any = "least_request", seed: int = 7, outliers: Any = None, **options: Any) -> Rig:
    """A rig with circuits; each endpoint's alone where nothing else is said."""
    options.setdefault("per_service", False)
    return Rig(count, policy, seed, outliers=outliers, breaker=CircuitBreaker(**options))


def serve(rig: Rig, number: int, *, good: int = 0, bad: int = 0) -> None:
    for _ in range(good):
        rig.succeed(number)
    rig.fail(number, bad)


def circuit(rig: Rig, number: int) -> str:
    return view(rig, number).circuit


def view(rig: Rig, number: int) -> EndpointView:
    return next(each for each in rig.balancer.view() if each.address == rig.state(number).endpoint.authority)


def changes(rig: Rig) -> list[tuple[str, str]]:
    return [(event.endpoint, event.state) for event in rig.told(CircuitChanged)]


@pytest.mark.parametrize(
    "options",
    [
        {"failure_rate": 0.0},
        {"failure_rate": 1.1},
        {"failure_rate": math.nan},
        {"slow_call_rate": -0.5},
        {"slow_call_duration": 0.0},
        {"slow_call_duration": math.nan},
        {"window": 0},
        {"minimum_calls": 2.5},
        {"trials": 0},
        {"minimum_calls": 200},
        {"trials": 101},
        {"open_for": 0.0},
        {"open_for": math.inf},
        {"per_endpoint": False, "per_service": False},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    """The error names the option, its value and what to give."""
    with pytest.raises(ValueError, match=rf"CircuitBreaker\(.*{next(iter(options))}=.*give"):
        CircuitBreaker(**options)


def test_twenty_calls_of_which_half_failed_open() -> None:
    """Nineteen do not, nor do fewer failures; the endpoint is out of the choice for ten seconds, and says why."""
    rig = broken()
    serve(rig, 0, good=10, bad=9)
    assert circuit(rig, 0) == "closed"
    rig.fail(0)
    assert rig.told(CircuitChanged) == [
        CircuitChanged("svc.ns", "10.0.0.0:80", "open", "10 of 20 calls failed", 20, 10, 0, 10.0, pod="web-0")
    ]
    assert rig.picks(60)["10.0.0.0"] == 0
    rig.clock.advance(4.0)
    seen = view(rig, 0)
    assert (seen.state, seen.circuit, seen.ejection) == ("open", "open", None)
    assert seen.reasons == ("its circuit is open for 6.0 s more: 10 of 20 calls failed",)
    serve(rig, 1, good=11, bad=9)
    assert circuit(rig, 1) == "closed"
    assert circuit(rig, 2) == "closed"
    assert rig.balancer.circuit == ""


def test_the_window_is_the_last_hundred() -> None:
    """What is further back is forgotten."""
    rig = broken()
    serve(rig, 0, good=200, bad=49)
    assert circuit(rig, 0) == "closed"
    rig.fail(0)
    assert circuit(rig, 0) == "open"
    assert rig.told(CircuitChanged)[0].reason == "50 of 100 calls failed"


def slowly(rig: Rig, number: int, seconds: float, outcome: Outcome) -> None:
    lease = rig.lease(number)
    rig.clock.advance(seconds)
    lease.release(outcome)


def test_slow_calls_open_too() -> None:
    """Half of them beyond the duration, whatever else they were; a cancelled one was slow if it lasted so long."""
    rig = broken(slow_call_duration=1.0)
    for outcome in (Outcome(), Outcome(reason="404"), busy(), CANCELLED, Outcome(Verdict.NEUTRAL)):
        for _ in range(2):
            slowly(rig, 0, 1.0, outcome)
            slowly(rig, 0, 0.9, Outcome())
    assert rig.told(CircuitChanged) == []  # the 20th, a quick success, opens nothing
    slowly(rig, 0, 5.0, SUCCESS)
    (event,) = rig.told(CircuitChanged)
    assert (event.reason, event.failures, event.slow) == ("0 of 21 calls failed, 11 were slow", 0, 11)


@pytest.mark.parametrize("outcome", [CANCELLED, Outcome(Verdict.NEUTRAL)])
def test_what_was_given_up_soon_is_no_call(outcome: Outcome) -> None:
    """It says nothing in either direction."""
    rig = broken()
    for _ in range(50):
        rig.lease(0).release(outcome)
    serve(rig, 0, good=10, bad=9)
    for _ in range(50):
        rig.lease(0).release(outcome)
    assert rig.told(CircuitChanged) == []
    rig.fail(0)
    assert rig.told(CircuitChanged)[0].calls == 20


def test_a_429_and_a_404_are_answers() -> None:
    """They fill the window like successes."""
    rig = broken()
    for _ in range(10):
        rig.lease(0).release(busy())
        rig.lease(0).release(Outcome(reason="404"))
    serve(rig, 0, bad=19)
    assert circuit(rig, 0) == "closed"
    rig.fail(0)
    assert circuit(rig, 0) == "open"


def test_a_body_that_breaks_is_a_failure() -> None:
    """Counted when it breaks; a body that ends well has been counted."""
    rig = broken()
    for _ in range(20):
        lease = rig.lease(0)
        lease.observe(Outcome(open=True))
        lease.release(failed())
    assert circuit(rig, 0) == "open"
    for _ in range(20):
        lease = rig.lease(1)
        lease.observe(Outcome(open=True))
        lease.release()
    assert circuit(rig, 1) == "closed"


def opened(rig: Rig, *numbers: int) -> None:
    for number in numbers or (0,):
        serve(rig, number, bad=20)
        assert circuit(rig, number) == "open"


def test_five_trials_close_it_again_in_slow_start() -> None:
    """After ten seconds the next five requests are the trials, and no sixth goes there before they have ended."""
    rig = broken()
    opened(rig)
    rig.clock.advance(9.9)
    assert rig.picks(20)["10.0.0.0"] == 0
    rig.clock.advance(0.2)
    leases = [rig.balancer.pick() for _ in range(20)]
    trials = [lease for lease in leases if lease.endpoint.ip == "10.0.0.0"]
    assert len(trials) == 5
    assert (view(rig, 0).state, view(rig, 0).reasons) == (
        "half-open",
        ("its circuit is half-open: 20 of 20 calls failed",),
    )
    for lease in trials[:4]:
        lease.release()
    assert circuit(rig, 0) == "half-open"
    trials[4].release()
    assert circuit(rig, 0) == "closed"
    assert changes(rig) == [("10.0.0.0:80", word) for word in ("open", "half-open", "closed")]
    assert rig.told(CircuitChanged)[2].reason == "0 of 5 trials failed"
    assert view(rig, 0).state == "warming"
    serve(rig, 0, bad=19)
    assert circuit(rig, 0) == "closed"  # it begins anew


def test_trials_that_go_wrong_open_it_again_as_soon_as_that_is_certain() -> None:
    """Three of five are half of them or more, however the others end; those are stragglers then."""
    rig = broken()
    opened(rig)
    rig.clock.advance(10)
    trials = [rig.balancer.pick() for _ in range(5)]
    assert {lease.endpoint.ip for lease in trials} == {"10.0.0.0"}
    rig.clock.advance(1)
    trials[0].release()
    for lease in trials[1:4]:
        lease.release(failed())
    assert circuit(rig, 0) == "open"
    assert rig.told(CircuitChanged)[-1].reason == "3 of 4 trials failed"
    trials[4].release()
    assert circuit(rig, 0) == "open"
    rig.clock.advance(9.9)
    assert rig.picks(10)["10.0.0.0"] == 0
    rig.clock.advance(0.1)
    assert rig.balancer.pick().endpoint.ip == "10.0.0.0"


@pytest.mark.parametrize("end", [None, CANCELLED, "lost"])
def test_a_trial_without_a_verdict_is_given_to_another_request(end: Any) -> None:
    """Cancelled or lost: a second later there is one more; one that is still under way is not repeated."""
    rig = broken()
    opened(rig)
    rig.clock.advance(10)
    trials = [rig.balancer.pick() for _ in range(5)]
    if end == "lost":
        del trials[0]
        gc.collect()
    else:
        trials.pop(0).release(end)
    assert rig.picks(20)["10.0.0.0"] == 0
    rig.clock.advance(1)
    again = [lease for lease in (rig.balancer.pick() for _ in range(20)) if lease.endpoint.ip == "10.0.0.0"]
    assert len(again) == 1
    for lease in trials + again:
        lease.release()
    assert circuit(rig, 0) == "closed"


def test_stragglers_decide_nothing() -> None:
    """Begun before the circuit opened: how they end is no trial, and no part of a new window."""
    rig = broken()
    early = [rig.lease(0) for _ in range(30)]
    rig.clock.advance(1)
    opened(rig)
    rig.clock.advance(10)
    rig.balancer.pick().release()
    for lease in early[:10]:
        lease.release(failed())
    assert circuit(rig, 0) == "half-open"
    for _ in range(4):
        rig.balancer.pick().release()
    assert circuit(rig, 0) == "closed"
    for lease in early[10:]:
        lease.release(failed())
    assert circuit(rig, 0) == "closed"


def test_where_every_circuit_is_open_picks_are_refused_with_the_counts() -> None:
    """Unusable at once, for first attempts and for retries, until one is due its trials."""
    rig = broken(3)
    opened(rig, 0)
    rig.clock.advance(2)
    opened(rig, 1, 2)
    for avoid in ([], [rig.state(0)]):
        with pytest.raises(
            Unusable, match=r"no circuit of 3 endpoints is closed; the next trial is in 8\.0 s"
        ) as caught:
            rig.balancer.pick(avoid=avoid)
        assert caught.value.counts == {"known": 3, "circuit open": 3}
    assert rig.balancer.refusal() is None  # endpoints there are
    rig.clock.advance(8)
    trials = [rig.balancer.pick() for _ in range(5)]
    with pytest.raises(Unusable, match="trials are under way") as caught:
        rig.balancer.pick()
    assert caught.value.counts == {"known": 3, "circuit open": 2, "circuit half-open": 1}
    for lease in trials:
        lease.release()
    assert rig.balancer.pick().endpoint.ip == "10.0.0.0"


def test_leaving_the_set_leaves_the_circuit_behind() -> None:
    """A pod that comes back, or another at its address, begins closed; late reports of the old circuit are nothing."""
    rig = broken(3)
    opened(rig)
    everyone = pods(3)
    rig.set(everyone[1:], everyone[:1])
    rig.set(everyone)
    assert circuit(rig, 0) == ""
    assert rig.picks(90)["10.0.0.0"] > 0
    circuits = rig.guards.circuits
    assert circuits is not None
    assert circuits.away == []
    serve(rig, 0, good=10, bad=5)
    old = rig.state(0).circuits[0]
    rig.set(everyone[1:], everyone[:1])
    rig.set(everyone)
    old.calls.extend([1] * 50)
    assert circuits.matters(old, 1, rig.clock())
    assert circuits.report(old, 1, rig.clock(), rig.clock()) == []


def test_a_report_that_comes_too_late_opens_nothing() -> None:
    """Between the failure and the lock another thread opened it, or successes came."""
    rig = broken()
    serve(rig, 0, bad=19)
    (its,) = rig.state(0).circuits
    circuits = rig.guards.circuits
    assert circuits is not None
    assert circuits.report(its, 1, rig.clock(), rig.clock()) == []
    opened(rig)
    assert circuits.report(its, 1, rig.clock(), rig.clock()) == []


# The service's own


def test_the_services_circuit_refuses_everything_at_once() -> None:
    """Over all endpoints, fifty of a hundred: no endpoint is to blame, and nothing is sent for ten seconds."""
    rig = broken(3, per_service=True, per_endpoint=False)
    assert rig.balancer.circuit == "closed"
    for number in range(3):
        serve(rig, number, good=3, bad=4)
    assert rig.balancer.circuit == "open"
    assert changes(rig) == [("", "open")]
    rig.clock.advance(2)
    for avoid in ([], [rig.state(0)]):
        with pytest.raises(Unusable, match=r"the circuit of the service is open for 8\.0 s more") as caught:
            rig.balancer.pick(avoid=avoid)
    assert caught.value.counts == {"calls": 20, "failures": 11, "slow": 0}
    seen = view(rig, 1)
    assert (seen.state, seen.circuit) == ("ready", "")
    assert seen.reasons == ("the service's circuit is open for 8.0 s more: 11 of 20 calls failed",)
    rig.clock.advance(8)
    trials = [rig.balancer.pick() for _ in range(5)]
    assert rig.balancer.circuit == "half-open"
    with pytest.raises(Unusable, match="half-open and its trials are under way"):
        rig.balancer.pick()
    with pytest.raises(Unusable, match="half-open"):
        rig.balancer.pick(avoid=[trials[0].state])
    trials.pop().release(CANCELLED)
    rig.clock.advance(1)
    trials.append(rig.balancer.pick())
    with pytest.raises(Unusable):
        rig.balancer.pick()
    for lease in trials:
        lease.release()
    assert changes(rig) == [("", "open"), ("", "half-open"), ("", "closed")]
    assert sum(rig.picks(30).values()) == 30


def test_a_trial_of_the_service_finds_an_endpoint_that_its_caller_can_use() -> None:
    """The first choice has no connection: the second is no second trial."""
    rig = broken(3, per_service=True, per_endpoint=False, trials=1)
    serve(rig, 0, bad=20)
    rig.clock.advance(10)
    lease = rig.balancer.pick(usable=lambda state: state is rig.state(2))
    assert lease.endpoint.ip == "10.0.0.2"
    lease.release()
    assert rig.balancer.circuit == "closed"


def test_both_circuits_at_once() -> None:
    """One dead endpoint opens its own and not the service's; all dead open all, and trials close all."""
    rig = broken(4, per_service=True, policy="round_robin")
    for _ in range(40):
        for number in range(4):
            (rig.fail if number == 0 else rig.succeed)(number)
    assert changes(rig) == [("10.0.0.0:80", "open")]
    for _ in range(60):
        for number in (1, 2, 3):
            rig.fail(number)
    assert rig.balancer.circuit == "open"
    assert {view.circuit for view in rig.balancer.view()} == {"open"}
    rig.clock.advance(10)
    for _ in range(40):
        rig.clock.advance(0.2)
        try:
            rig.balancer.pick().release()
        except Unusable:
            continue
    assert rig.balancer.circuit == "closed"
    assert {view.circuit for view in rig.balancer.view()} == {"closed"}


# Beside ejection


def test_an_ejected_endpoint_whose_circuit_is_open_waits_for_both() -> None:
    """Its probe is not sent into an open circuit; when that is half-open the probe is a trial too."""
    rig = broken(3, outliers=OutlierDetection(jitter=0.0, base_ejection=5.0), minimum_calls=5, window=10)
    rig.fail(0, 5)
    assert (view(rig, 0).state, view(rig, 0).circuit) == ("ejected", "open")
    assert len(view(rig, 0).reasons) == 2
    rig.clock.advance(6)
    assert rig.picks(20)["10.0.0.0"] == 0
    rig.clock.advance(4)
    leases = [rig.balancer.pick() for _ in range(20)]
    (probe,) = [lease for lease in leases if lease.endpoint.ip == "10.0.0.0"]
    assert view(rig, 0).state == "probing"
    probe.release()
    assert rig.state(0).phase is Phase.ACTIVE
    assert circuit(rig, 0) == "half-open"
    trials = [lease for lease in (rig.balancer.pick() for _ in range(20)) if lease.endpoint.ip == "10.0.0.0"]
    assert len(trials) == 4
    for lease in trials:
        lease.release()
    assert circuit(rig, 0) == "closed"


def test_a_half_open_endpoint_that_is_ejected_gets_no_trials() -> None:
    """Nor is it counted out twice: the error names what keeps each away."""
    rig = broken(2, outliers=OutlierDetection(jitter=0.0, base_ejection=30.0), minimum_calls=5, window=10)
    rig.fail(0, 5)
    rig.state(0).consecutive = 0  # so that the other's failing is not taken for a correlated one
    rig.state(0).notes = []
    rig.state(0).rule = ""
    serve(rig, 1, good=10, bad=4)
    rig.succeed(1)
    serve(rig, 1, bad=4)
    assert (circuit(rig, 1), rig.state(1).phase) == ("open", Phase.ACTIVE)
    with pytest.raises(Unusable) as caught:
        rig.balancer.pick()
    assert caught.value.counts == {"known": 2, "ejected": 1, "circuit open": 1}
    rig.clock.advance(10)
    assert [rig.balancer.pick().endpoint.ip for _ in range(5)] == ["10.0.0.1"] * 5
    assert circuit(rig, 0) == "half-open"


def test_a_state_that_another_request_has_claimed_is_not_claimed_again() -> None:
    """Of the places that a picker was built with, those taken meanwhile are passed over."""
    rig = broken()
    opened(rig)
    rig.clock.advance(10)
    rig.balancer.pick()
    guards = rig.guards
    assert [guards.claim(rig.state(0)) for _ in range(6)] == [True] * 4 + [False] * 2
    assert not guards.claim(rig.state(1))
    assert not guards.claim_gate()
    assert rig.balancer.pick().endpoint.ip != "10.0.0.0"


@pytest.mark.parametrize("bad", [0, 1])
def test_a_decision_that_an_interrupt_cut_short_is_made_later(bad: int) -> None:
    """The last trial was written down and not acted upon: within a second it is, or no request would come again."""
    rig = broken(trials=2)
    opened(rig)
    rig.clock.advance(10)
    trial = rig.balancer.pick()
    trial.state.circuits[0].calls.extend([bad, bad])
    trial.release(None)
    rig.clock.advance(1)
    rig.balancer.pick().release()
    assert circuit(rig, 0) == ("open" if bad else "closed")


def test_a_closed_balancer_sends_no_trials() -> None:
    """And refuses by its own error."""
    rig = broken()
    opened(rig)
    rig.balancer.close()
    rig.clock.advance(100)
    with pytest.raises(Exception, match="closed"):
        rig.balancer.pick()


# Observers


def history(rig: Rig, seed: int) -> list[str]:
    chance = random.Random(seed)
    picked: list[str] = []
    for turn in range(3000):
        rig.clock.advance(0.02)
        lease = rig.balancer.pick()
        picked.append(lease.endpoint.ip)
        bad = (lease.endpoint.ip == "10.0.0.0" and chance.random() < 0.7) or 500 < turn < 800
        lease.release(failed() if bad else Outcome())
    return picked


@pytest.mark.parametrize("policy", sorted(REGISTRY))
def test_an_observer_changes_nothing_but_the_reports(policy: str) -> None:
    """The same requests go to the same endpoints as without; its circuits open, try and close on paper."""
    without = Rig(5, policy, outliers=None)
    observed = broken(5, policy, per_service=True, observe=True)
    assert history(observed, 1) == history(without, 1)
    told = observed.told(CircuitChanged)
    assert {event.state for event in told if event.endpoint == ""} == {"open", "half-open", "closed"}
    if policy != "peak_ewma":  # which sends too little to it
        assert {event.state for event in told if event.endpoint == "10.0.0.0:80"} >= {"open", "half-open"}
    assert all(event.observed for event in told)
    assert observed.balancer._wake == without.balancer._wake


def test_an_observed_circuit_shows_in_the_view_alone() -> None:
    """Open, half-open with the first request after its time, closed after five."""
    rig = broken(2, observe=True)
    opened(rig)
    assert view(rig, 0).state == "ready"
    assert view(rig, 0).reasons == ("observed: its circuit would be open, 20 of 20 calls failed",)
    assert rig.balancer.serves(rig.state(0))
    rig.set(pods(3))
    rig.clock.advance(31)
    rig.balancer.pick().release(None)  # a slow start is over: time passes for all but the observed
    assert circuit(rig, 0) == "open"
    rig.succeed(0)
    assert view(rig, 0).reasons == ("observed: its circuit would be half-open, 20 of 20 calls failed",)
    for _ in range(4):
        rig.succeed(0)
    assert (circuit(rig, 0), view(rig, 0).reasons) == ("closed", ())


def test_both_observers_together_change_nothing() -> None:
    """Ejection and breakers, watched side by side."""
    without = Rig(5, "peak_ewma", outliers=None)
    observed = broken(5, "peak_ewma", outliers=OutlierDetection(observe=True), per_service=True, observe=True)
    assert history(observed, 3) == history(without, 3)
    assert observed.told(CircuitChanged)
    assert observed.told(Ejected)


def test_outcomes_from_many_threads() -> None:
    """Endpoints that fail and recover, picks from several threads, time that passes: afterwards all is closed."""
    rig = Rig(4, "random", breaker=CircuitBreaker(), outliers=OutlierDetection())
    stop = threading.Event()
    errors: list[BaseException] = []

    def calls() -> None:
        turn = 0
        try:
            while not stop.is_set():
                turn += 1
                rig.clock.advance(0.01)
                try:
                    lease = rig.balancer.pick()
                except Unusable:
                    rig.clock.advance(1.0)
                    continue
                bad = lease.endpoint.ip == "10.0.0.0" or turn % 1000 < 100
                lease.release(failed() if bad else Outcome())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    stop.wait(0.5)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    for _ in range(400):
        rig.clock.advance(2.0)
        try:
            rig.balancer.pick().release()
        except Unusable:
            continue
    assert {view.circuit for view in rig.balancer.view()} == {"closed"}
    assert rig.balancer.circuit == "closed"
    assert sum(state.in_flight for state in rig.balancer.states()) == 0


def test_a_circuit_is_made_once_and_no_outcome_of_a_success_takes_the_lock() -> None:
    """The ordinary case is one append."""

    class Locked:
        def __enter__(self) -> None:
            raise AssertionError("locked")

        def __exit__(self, *_: object) -> None:
            raise AssertionError

    rig = broken(2, per_service=True)
    rig.balancer._lock = Locked()  # type: ignore[assignment]
    for _ in range(150):
        rig.balancer.pick().release()
    states = [Lease(state, 0.0).state for state in rig.picking.eligible]
    assert all(set(circuit.calls) == {OK} for state in states for circuit in state.circuits)
    assert len({id(circuit) for state in states for circuit in state.circuits}) == 3
    assert isinstance(rig.guards.circuits, Circuits)
