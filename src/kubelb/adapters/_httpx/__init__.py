"""One implementation for httpx and its continuation httpx2, whose classes have the same names in other modules.

kit.py        the modules, their exceptions and what these mean
timeouts.py   the client's timeouts, bounded by the call's own end
checks.py     limits and hints that a user gives
view.py       a request as a policy sees it
mounting.py   the keys under which a client finds a transport for every name of its service
beside.py     what other hosts get that match such a key as well
plainly.py    what goes past kubelb, or does not belong here
common.py     options, hosts, hints, judging: all that needs no waiting
dial.py       network backends that dial an endpoint, whatever the URL says; adial.py
foreign.py    connections that a forked child has from its parent
produced.py   request bodies that are produced while they are sent
body.py       response streams that hold the lease until the body has ended; abody.py
transport.py  sync; atransport.py

The files with an "a" before their name are asyncio's, and so are these. A sync program loads none of them:

apool.py      httpcore's pool, which ends what it has begun to close
shield.py     cleaning up although the task is being cancelled
mending.py    what a cancelled request leaves in a pool
httpx_asyncio.py, httpx2_asyncio.py    the public names
"""
