"""Whether a failure was a refusal: the host answered, and nothing listens on that port.

That is another thing than a network in which nobody answers, and has another cure. Clients wrap the error of the
socket several times, so the chain of causes is searched.
"""

__all__ = ["refused"]

DEEP = 20
"""Errors in a chain that are looked at; a longer one may be a circle."""


def refused(error: BaseException | None) -> bool:
    """Whether a refused connection is at the bottom of it.

    >>> refused(ConnectionRefusedError()), refused(TimeoutError()), refused(None)
    (True, False, False)
    """
    todo = [error]
    for _ in range(DEEP):
        if not todo:
            break
        each = todo.pop(0)
        if isinstance(each, ConnectionRefusedError):
            return True
        if each is not None:
            todo += [each.__cause__, each.__context__, *(arg for arg in each.args if isinstance(arg, BaseException))]
    return False
