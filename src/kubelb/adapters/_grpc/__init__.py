"""gRPC, sync and asyncio: one sub-channel per endpoint, under a channel that looks like any other.

options.py      what every sub-channel is told: authority, no proxy, quick reconnects
methods.py      what a service config says of methods
codes.py        what a status means for health and retry
refusals.py     kubelb's own errors as what gRPC's users catch
subchannels.py  the sub-channels of one channel: made, watched, picked among, drained
watch.py        how a sub-channel's state is learnt, by grpcio's quick way or by its public one
tls.py          credentials from files, as fresh as these
common.py       what a channel is besides: the sub-channels, the multicallables
below.py        what public code reads of a channel's inside
calling.py      what a multicallable is besides

channel.py      the sync channel
unary.py        its calls with one response: blocking
future.py       the same, not blocking
stream.py       its calls with a stream of responses
replay.py       request streams that can be sent again

aio_*.py        the same for asyncio, and what only that has: interceptors on each channel
"""
