"""``kubelb endpoints``: the endpoints of a target as a load balancer here would see them, once or as they change.

A LoadBalancer does the looking, so what is shown is what would be used: the same rungs, hints and reasons. It sends
nothing to any endpoint.
"""
