"""gRPC, sync and asyncio: one sub-channel per endpoint, under a channel that looks like any other.

shared/     what both worlds stand on; it knows neither
sync/       the channel of threads and its calls
aio/        the channel of an event loop and its calls

What is shared:

options.py      what every sub-channel is told: authority, no proxy, quick reconnects
methods.py      what a service config says of methods
codes.py        what a status means for health and retry
refusals.py     kubelb's own errors as what gRPC's users catch
subchannels.py  the sub-channels of one channel: made, watched, picked among, drained
subchannel.py   one of them
unreached.py    those that cannot connect, and what is said of it
lastwords.py    why a connection cannot be made
watch.py        how a sub-channel's state is learnt, by grpcio's quick way or by its public one
keeping.py      the look at connections with open streams
losses.py       calls that one lost connection ended
readiness.py    whether another pick may find a connection
tls.py          credentials from files, as fresh as these
common.py       what a channel is besides: the sub-channels, the multicallables
below.py        what public code reads of a channel's inside
calling.py      what a multicallable is besides
requesting.py   what a call wants of the balancer
view.py         a call as a policy sees it
speaking.py     a call object is an RpcError
seen.py         calls that telemetry watches
replay.py       request streams that can be sent again
plain.py        the way past kubelb
library.py      gRPC's threads after a fork

Of each world:

channel.py      the channel
unary.py        calls with one response (blocking.py, future.py for threads)
stream.py       calls with a stream of responses
waiting.py      how it waits for a connection
"""
