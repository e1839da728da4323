"""The blocking half of calls with one response: an attempt in the caller's thread, and others where it did not do."""

from collections.abc import Callable
from typing import Any

from kubelb.adapters._grpc.shared.calling import Calling, ended
from kubelb.adapters._grpc.shared.seen import Attempts
from kubelb.core.lease import Lease
from kubelb.core.steps import Send
from kubelb.errors import LoadBalancerError, NotReady
from kubelb.model import CANCELLED, Outcome, Request
from kubelb.runtime.driving import settle
from kubelb.telemetry.conventions import rpc_answer

__all__ = ["Invoke", "OneResponse"]

Invoke = Callable[[Any, float | None], Any]
"""Makes the RPC by a sub-channel's multicallable, within so many seconds."""


class OneResponse(Calling):
    """What both kinds share once the request is something that can be sent."""

    def block(
        self, invoke: Invoke, timeout: float | None, metadata: Any, wait_for_ready: bool | None, replay: Any = None
    ) -> Any:
        """Make the RPC, by as many attempts as may be made."""
        if wait_for_ready is None:
            wait_for_ready = self.waits
        if self.watch.on() and type(self.at) is not Attempts:
            with self.watch.rpc(self.method) as seen:
                seen.answered(rpc_answer("OK"))
                return self.seen_by(seen, blocks=True).block(invoke, timeout, metadata, wait_for_ready, replay)
        wanted, timeout = self.begin(timeout, metadata)
        channel = self.channel
        try:
            lease = (channel.subs.pick_patiently if wait_for_ready else channel.subs.pick)(wanted)
        except NotReady:
            lease = None
        except LoadBalancerError as error:
            raise self.refused_at_once(error) from None
        if lease is None:
            return self._flow(invoke, wanted, timeout, wait_for_ready, None, replay)
        try:
            value = invoke(self.at(lease.state), timeout)
        except Exception as error:  # noqa: BLE001
            outcome = self.outcome(error, lease, self.overdue(lease.start, timeout))
        except BaseException:
            lease.release(CANCELLED)
            raise
        else:
            if not self.always_flow:
                lease.release()
                if channel.subs.leaving:  # asked here, for a call less
                    channel.left()
                return value
            outcome = Outcome(value=value)
        return self._go_on(outcome, lease, invoke, wanted, timeout, wait_for_ready, replay)

    def _go_on(
        self,
        outcome: Outcome,
        lease: Lease,
        invoke: Invoke,
        wanted: Request,
        timeout: float | None,
        wait_for_ready: bool | None,
        replay: Any,
    ) -> Any:
        """End the call as its first attempt has ended, or make others."""
        outcome.fresh = replay is not None and replay.whole
        settle(lease, outcome)
        self.channel.left()
        if self.lb.settled(wanted, outcome):
            return ended(outcome)
        return self._flow(invoke, wanted, timeout, wait_for_ready, outcome, replay)

    def _flow(
        self,
        invoke: Invoke,
        wanted: Request,
        timeout: float | None,
        wait_for_ready: bool | None,
        first: Outcome | None,
        replay: Any,
    ) -> Any:
        clock, channel = self.clock, self.channel
        start = clock() if first is None else first.lease.start
        ends = None if timeout is None else start + timeout

        def send(step: Send) -> Outcome:
            left = None if ends is None else max(0.0, ends - clock())
            try:
                outcome = Outcome(value=invoke(self.at(step.lease.state), left))
            except Exception as error:  # noqa: BLE001
                outcome = self.outcome(error, step.lease, self.overdue(start, timeout))
            outcome.fresh = replay is not None and replay.whole
            return outcome

        try:
            return ended(
                self.lb.run(
                    wanted,
                    send,
                    first=first,
                    deadline=ends,
                    connections=channel.patient if wait_for_ready else channel.waiting,
                )
            )
        except LoadBalancerError as error:
            raise self.refused(error) from None
        finally:
            channel.left()
