"""`kubelb demo`: the same traffic through kubelb and through plain httpx behind a kube-proxy, while pods go wrong.

    script      what happens, act by act              traffic    open-loop requests for both sides
    stage       the pods and the two ways to them     measure    what became of each request
    forwarder   a kube-proxy on loopback              view       a live table, or lines of text
    show        one performance from start to end     summary    the figures at its end, in words and as JSON

What makes the comparison fair: one schedule of sending times for both sides, the same pods, the same httpx settings,
latency counted from the time at which a request was due (not from when a worker was free to send it), and a failed
request counted as the timeout, so that failing fast does not look fast.
"""
