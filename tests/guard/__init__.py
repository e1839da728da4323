"""No test speaks to anything beyond this machine: see `loopback.py`."""
