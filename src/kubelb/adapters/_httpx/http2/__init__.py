"""HTTP/2: a connection of our own in the place of httpcore's, over the h2 library.

httpcore lets each stream read the socket for all, under one lock, with its own timeout. So a stream waits behind
another one's read, a timeout of one is stored and raised in all, a GOAWAY ends what could be finished, and two threads
share a state machine that knows no threads. Here one connection is a `Machine` without I/O and a shell around it:

endings.py     how a stream or a connection ends, and what that says of the endpoint and of the request
cutter.py      finds GOAWAY among the bytes, because h2 ends the connection with it
headers.py     a request's fields as HTTP/2 has them
stream.py      one request and its response
machine.py     what a request does with a connection; over state.py, what that is at a moment and how it ends, and
hearing.py     what it makes of the bytes that it receives
pooled.py      what httpcore's pool asks of a connection
threads.py     the sync shell: the thread that waits first reads for all, and hands that on; over wire.py, its socket
tasks.py       the asyncio shell: one task reads, another one writes while there is something to write
pool.py        httpcore's pools, with these connections where HTTP/2 was negotiated; apool.py is asyncio's

What holds:

- A stream ends alone: its timeout, cancellation or discard sends RST_STREAM, and its neighbours hear nothing of it.
- A stream that timed out in silence puts the connection in doubt: a PING is sent, and nothing new is until any answer.
- GOAWAY, or a limit of streams that is reached: no new stream there; another connection is opened, within the limits.
- What the peer guarantees not to have processed (RFC 9113, 8.7) has never been sent, a POST too: REFUSED_STREAM, and a
  stream above GOAWAY's last. It is the one thing that a peer's word is taken for.
- A connection's end is one failure, not one for each stream; after GOAWAY with NO_ERROR none, within bounds.

Internals of httpcore's and h2's that this stands on are listed in `docs/development/internals.md`, with what happens
without them; `ConnectionNotAvailable`, which is public, is httpcore's word for "ask another connection".
`tests/adapters/test_http2_internals.py` notices when one of them changes.
"""
