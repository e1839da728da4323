"""Programs that trace: each patches its process for good, so that tests start them as processes of their own.

Each has `start()`, which begins to trace and returns `record`: that calls a function inside a trace and returns the
spans of its outgoing requests as (name, url).
"""
