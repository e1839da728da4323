"""`kubelb[httpx]`: see `clients.py`."""

import clients
import httpx
import using

from kubelb.adapters import httpx as adapter

clients.use(httpx, adapter)
using.done("httpx", "httpcore", "anyio", "sniffio")
