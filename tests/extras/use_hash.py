"""`kubelb[hash]`: the same key goes to the same endpoint."""

import using

import kubelb

TARGET = "static:///127.0.0.1:1,127.0.0.1:2,127.0.0.1:3"

with kubelb.LoadBalancer(TARGET, policy="ring_hash") as lb:
    found = {key: {lb.call(lambda attempt: attempt.endpoint.port, key=key) for _ in range(5)} for key in ("a", b"b")}
    assert {len(ports) for ports in found.values()} == {1}
    assert len({lb.call(lambda attempt: attempt.endpoint.port, key=str(i)) for i in range(100)}) == 3
using.done("xxhash")
