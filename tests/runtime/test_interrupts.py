"""KeyboardInterrupt, thousands of times, at any bytecode: nothing in flight, nothing locked, a normal exit."""

import signal
import subprocess
import sys
import textwrap

import pytest

PROGRAM = textwrap.dedent(
    """
    import gc, signal, sys, time
    import kubelb
    import tenacity  # at the first retry otherwise: the import system's own callbacks tell of interrupts, not ours
    from kubelb.core import Phase
    from kubelb.service import service_of

    lb = kubelb.LoadBalancer(
        "static:///10.0.0.1:80,10.0.0.2:80,10.0.0.3:80,10.0.0.4:80",
        outliers=kubelb.OutlierDetection(base_ejection=0.002, max_ejection=0.004),
        retry=kubelb.Retry(wait=lambda state: 0, budget=None),
        **{
            "defaults": {},
            "guarded": {
                "limits": kubelb.ConcurrencyLimits(max_requests_per_endpoint=5, max_retries=5),
                "breaker": kubelb.CircuitBreaker(window=10, minimum_calls=5, open_for=0.002, trials=2),
            },
        }[sys.argv[1]],
    )
    balancer = service_of(lb).balancer
    limiter = balancer.limiter
    interrupts = calls = armed = 0

    def fn(attempt):
        global calls
        calls += 1
        if attempt.endpoint.ip == "10.0.0.1" or calls % 5 == 0:
            raise ConnectionRefusedError
        return 1

    def interrupt(*_):
        global armed, interrupts
        if armed:
            armed -= 1
            interrupts += 1
            raise KeyboardInterrupt

    def calling():  # a function: CPython 3.13 leaves a loop's jump back out of the `try` that is around the loop
        while time.monotonic() < end:
            try:
                lb.call(fn, idempotent=True)
            except (ConnectionRefusedError, kubelb.Unusable):
                pass

    def well():
        try:
            lb.call(lambda attempt: 1)
        except kubelb.Unusable:
            pass

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    began = time.monotonic()
    end = began + 3
    while True:
        if time.monotonic() >= end:  # a busy machine takes longer, and a lost trial holds all up for a second
            if (interrupts > 500 and calls > 2000) or end > began + 21:
                break
            end += 3
        try:  # two interrupts an arming, so two handlers: the second may hit the first one's
            try:
                try:
                    armed = 2  # the second one hits the handling of the first
                    calling()
                finally:
                    armed = 0
            except KeyboardInterrupt:
                armed = 0
        except KeyboardInterrupt:
            armed = 0
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.collect()
    flying = sum(state.in_flight for state in balancer.states())
    if limiter:
        flying += len(limiter.requests) + len(limiter.retries) + len(limiter.pending)
    time.sleep(0.06)
    for _ in range(50):  # everything still works, and whoever was sent away comes back
        well()
        time.sleep(0.002)
    for _ in range(2):  # probes and trials that an interrupt has lost are given out again after a second
        time.sleep(1.1)
        for _ in range(40):
            well()
    phases = {state.phase for state in balancer.states()}
    circuits = {view.circuit for view in lb.endpoints()} | {balancer.circuit}
    lb.close()
    print(interrupts, calls, flying, phases == {Phase.ACTIVE} and circuits <= {"closed", ""})
    """
)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers here")
@pytest.mark.slow
@pytest.mark.parametrize("options", ["defaults", "guarded"])
def test_a_storm_of_interrupts(options: str) -> None:
    """Some hundreds at least, in three seconds or more, around lb.call, with ejections and trials all the time."""
    command = [sys.executable, "-c", PROGRAM, options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode == 0, run.stderr
    interrupts, calls, flying, all_back = run.stdout.split()
    assert int(interrupts) > 500
    assert int(calls) > 2000
    assert (flying, all_back) == ("0", "True")
    assert "Exception ignored" not in run.stderr
