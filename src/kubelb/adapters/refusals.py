"""Refusals that are exceptions of kubelb and of the client underneath.

    except kubelb.NoEndpoints ...      either of them catches it
    except httpx.ConnectError ...

They keep service, reason and counts. A copy is the same; pickled they are kubelb's own, for what unpickles may not have
that client.
"""

from typing import Any

from kubelb import errors

__all__ = ["Refusals"]

_ALL = (
    errors.LoadBalancerError,
    errors.NotReady,
    errors.UnknownService,
    errors.NoEndpoints,
    errors.Unusable,
    errors.Overloaded,
    errors.DeadlineExceeded,
    errors.Closed,
    errors.WrongHost,
)


class Refusals:
    """kubelb's refusals for the users of one client: a deadline is its `timeout`, all others its `connect` error.

    `attributes` are what the client's own constructors would set.
    """

    def __init__(self, connect: type[Exception], timeout: type[Exception], **attributes: Any) -> None:
        self._kinds = {
            refusal: _both(refusal, timeout if refusal is errors.DeadlineExceeded else connect, attributes)
            for refusal in _ALL
        }

    def of(self, error: errors.LoadBalancerError, request: Any) -> errors.LoadBalancerError:
        """Return the same refusal as something the client's users catch too; `request` is the client's."""
        kind = self._kinds.get(type(error), self._kinds[errors.LoadBalancerError])
        refusal: errors.LoadBalancerError = kind(error.service, error.reason, error.counts)
        refusal.request = request  # type: ignore[attr-defined]  # what these clients' exceptions all have
        return refusal


def _both(refusal: type[errors.LoadBalancerError], caught: type[Exception], attributes: dict[str, Any]) -> Any:
    def __init__(self: Any, service: str, reason: str, counts: Any = None) -> None:  # noqa: N807
        # Neither base's own: kubelb's would call on to the client's, which takes other arguments.
        Exception.__init__(self, service, reason, counts)
        self.service, self.reason, self.counts = service, reason, dict(counts or {})

    def __reduce__(self: Any) -> Any:  # noqa: N807
        return refusal, (self.service, self.reason, self.counts)  # another process may not have this client

    def __copy__(self: Any) -> Any:  # noqa: N807
        twin = type(self)(self.service, self.reason, self.counts)
        twin.__dict__.update(self.__dict__, counts=dict(self.counts))
        if notes := getattr(self, "__notes__", None):
            twin.__notes__ = [*notes]
        return twin

    def __deepcopy__(self: Any, memo: Any) -> Any:  # noqa: N807, ARG001
        return __copy__(self)  # what it holds besides is the client's request

    copies = {"__copy__": __copy__, "__deepcopy__": __deepcopy__}
    own = {"__init__": __init__, "__reduce__": __reduce__, "__doc__": refusal.__doc__, "__module__": __name__}
    return type(refusal.__name__, (refusal, caught), {**attributes, **own, **copies})
