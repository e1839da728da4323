"""One implementation for httpx and its continuation httpx2, whose classes have the same names in other modules.

kit.py        the modules, their exceptions and what these mean
dial.py       network backends that dial an endpoint, whatever the URL says
timeouts.py   the client's timeouts, bounded by the call's own end
shield.py     cleaning up although the task is being cancelled
mending.py    what a cancelled request leaves in a pool
common.py     options, hosts, hints, judging: all that needs no waiting
body.py       response streams that hold the lease until the body has ended
transport.py  sync; atransport.py asyncio
"""
