"""KeyboardInterrupt, thousands of times, at any bytecode: nothing in flight, nothing locked, a normal exit."""

import signal
import subprocess
import sys
import textwrap

import pytest

PROGRAM = textwrap.dedent(
    """
    import gc, signal, time
    import kubelb
    from kubelb.core import Phase

    lb = kubelb.LoadBalancer(
        "static:///10.0.0.1:80,10.0.0.2:80,10.0.0.3:80,10.0.0.4:80",
        outliers=kubelb.OutlierDetection(base_ejection=0.002, max_ejection=0.004),
        retry=kubelb.Retry(wait=lambda state: 0, budget=None),
    )
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
            except ConnectionRefusedError:
                pass

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    end = time.monotonic() + 3
    while time.monotonic() < end:
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
    flying = sum(state.in_flight for state in lb.balancer.states())
    time.sleep(0.06)
    for _ in range(50):  # everything still works, and whoever was sent away comes back
        lb.call(lambda attempt: 1)
        time.sleep(0.002)
    time.sleep(1.1)
    for _ in range(20):
        lb.call(lambda attempt: 1)
    phases = {state.phase for state in lb.balancer.states()}
    lb.close()
    print(interrupts, calls, flying, phases == {Phase.ACTIVE})
    """
)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers here")
@pytest.mark.slow
def test_a_storm_of_interrupts() -> None:
    """Some thousands in three seconds around lb.call, with ejections and probes going on all the time."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode == 0, run.stderr
    interrupts, calls, flying, all_back = run.stdout.split()
    assert int(interrupts) > 500
    assert int(calls) > 5000
    assert (flying, all_back) == ("0", "True")
    assert "Exception ignored" not in run.stderr
