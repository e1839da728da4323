"""What stands behind `kubelb.adapters.requests`, from the socket up.

bounds.py       what an attempt may take, and how far it got
reader.py       the reading end of a socket, every read within those bounds
connections.py  urllib3's connections and pools for one endpoint
held.py         responses that hold the lease until the body has ended
meaning.py      what urllib3's exceptions say, and which of requests' a user gets for them
tls.py          contexts and pools by server name, `verify` and `cert`
place.py        where a request goes, by its URL
prepared.py     what else a PreparedRequest says: headers, hints, body
view.py         a request as a policy sees it
plainly.py      what goes past kubelb
answered.py     which endpoint a response came from
sending.py      one request from pick to response
"""
