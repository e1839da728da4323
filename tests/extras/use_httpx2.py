"""`kubelb[httpx2]`: see `clients.py`."""

import clients
import httpx2
import using

from kubelb.adapters import httpx2 as adapter

clients.use(httpx2, adapter)
using.done("httpx2", "anyio")
