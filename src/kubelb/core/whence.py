"""Whence: what a user's code raised on a request's path, told by its kind and place.

Its words may hold what belongs to the request, such as its key (``KeyError('session-7')``), and events go to logs.
"""

__all__ = ["whence"]


def whence(error: BaseException) -> str:
    """Return ``"KeyError at /app/policy.py:41"``, the place where it was raised, without a word of its text."""
    where, step = "", error.__traceback__
    while step is not None:
        where, step = f" at {step.tb_frame.f_code.co_filename}:{step.tb_lineno}", step.tb_next
    return type(error).__name__ + where
