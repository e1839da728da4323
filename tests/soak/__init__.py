"""A soak: every adapter at once, against pods that go wrong all the time, for as long as is asked.

    python -m tests.soak --seconds 1200 --seed 1

`pods.py` and `hypercorns.py` are the other side, in processes of their own, so that what is counted at the end (tasks,
threads, descriptors, requests in flight) is the client's alone. `threads.py` and `tasks.py` make the calls, by kubelb
and by the bare clients, `ledger.py` holds what came of them, `verdict.py` says whether that may be.
"""
