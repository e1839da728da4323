"""Whether a failure was a refusal: the host answered, and nothing listens on that port.

That is another thing than a network in which nothing answers, and has another cure.
"""

from kubelb.core.causes import arguments, cause, chain, context

__all__ = ["refused"]


def refused(error: BaseException | None) -> bool:
    """Whether a refused connection is at the bottom of it.

    >>> refused(ConnectionRefusedError()), refused(TimeoutError()), refused(None)
    (True, False, False)
    """
    found = chain(error, cause, context, arguments)
    return any(issubclass(type(each), ConnectionRefusedError) for each in found)
