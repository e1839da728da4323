"""A service's endpoints from DNS.

    nameserver -> asker (sockets) -> lookup (questions, answers) -> poller (when) -> reducer (-> Snapshot) -> source

`lookup.py`, `poller.py` and `reducer.py` are pure; `dialogue.py` and `asker.py` are the only places that touch a
socket. This package imports dnspython, so whoever builds a source imports it then and not before.
"""
