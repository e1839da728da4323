"""Which event loop runs a task: kubelb's coroutines are asyncio's.

Under trio the first attempt of a call may do without a loop, and a retry end in words about futures that trio does not
know. So each entry for coroutines asks first, and says what to use there. Where trio is not loaded, to ask costs 20 ns.
"""

import sys
from contextlib import suppress

__all__ = ["modules", "refuse_trio"]

modules = sys.modules
"""Without ``"trio"`` in it there is nothing to refuse."""
THREAD = "await trio.to_thread.run_sync({call})"


def refuse_trio(what: str, cure: str, call: str = "") -> None:
    """Raise RuntimeError where trio runs this task; `cure` says what to use, and `call` how it runs in a thread.

    An asyncio task beside trio (trio-asyncio's) is asyncio's; a trio task beside asyncio (its guest mode) is trio's.
    """
    if "trio" in modules and _in_trio():
        how = f", in a thread: {THREAD.format(call=call)}" if call else ""
        raise RuntimeError(f"{what} runs on asyncio only, and this task is run by trio: use {cure}{how}")


def _in_trio() -> bool:
    asyncio = modules.get("asyncio")
    with suppress(AttributeError, RuntimeError):  # half imported, or no loop of asyncio's in this thread
        if asyncio is not None and asyncio.current_task() is not None:  # `asyncio.run` in a trio task
            return False
    sniffio = modules.get("sniffio")
    if sniffio is not None:  # tells trio's own tasks from those that trio-asyncio runs
        try:
            return bool(sniffio.current_async_library() == "trio")
        except sniffio.AsyncLibraryNotFoundError:
            return False
    try:
        modules["trio"].lowlevel.current_task()
    except (AttributeError, RuntimeError):  # half imported, or not in a task of its
        return False
    return True
