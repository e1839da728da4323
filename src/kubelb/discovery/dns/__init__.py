"""A service's endpoints from DNS.

    nameserver -> exchange (a socket) -> dialogue (one question) -> asker (all that are under way)
        -> lookup (questions, answers) -> poller (when) -> channel (subscribers) -> reducer (-> Snapshot) -> source

`lookup.py`, `poller.py` and `reducer.py` are pure; `exchange.py` and `asker.py` are the only places that touch a
socket. This package imports dnspython, so building a source imports it, and nothing before.
"""
