"""How kubelb's own threads begin: in an empty context; and how what a callback raises in one is told.

Discovery begins with the first request, so its threads are started in the middle of a user's. Tracers hand a thread the
context it was started in (Sentry's, OpenTelemetry's for threads, CPython itself where threads inherit it), and a thread
that lives as long as the process would count everything it does to that one request: a watch of the API server as a
child of a page that was served hours ago, with its trace's id in the headers.
"""

import threading
from contextvars import Context

__all__ = ["begin", "report"]


def begin(thread: threading.Thread) -> None:
    """Start a thread that works for no single request. Raises RuntimeError where none can be started."""
    Context().run(thread.start)


def report(error: Exception) -> None:
    """Tell of an exception that must not end the thread it was raised in, as Python does where one has ended it."""
    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))
