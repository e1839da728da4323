"""What a load balancer tells: each kind of event, for functions given to `LoadBalancer.on_event`."""

from kubelb.core.events import *  # noqa: F403 - each of them, without being named here too
