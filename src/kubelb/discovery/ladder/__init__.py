"""Several sources for one service, the best one that works in use.

    rung (a source, and what it said) -> choice (which one) -> source (a Discovery that steps down and up)

`choice.py` is pure. The rungs of a bare ``SVC.NS:PORT`` are named in `kubelb.discovery.select`.
"""
