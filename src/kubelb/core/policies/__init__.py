"""How to choose: one file a policy, each a frozen value that builds Pickers.

Adding one is a file here and a line below: `kubelb`, `kubelb.policies`, `REGISTRY`, the documentation, the tests and
the benchmarks go by these imports. Its string is its class's name in snake_case.
"""

import re
from types import FunctionType

from kubelb.core.keys import KeySource as KeySource
from kubelb.core.policies.base import Picker as Picker
from kubelb.core.policies.base import Policy as Policy
from kubelb.core.policies.least_request import LeastRequest as LeastRequest
from kubelb.core.policies.peak_ewma import PeakEwma as PeakEwma
from kubelb.core.policies.random import Random as Random
from kubelb.core.policies.ring_hash import RingHash as RingHash
from kubelb.core.policies.round_robin import RoundRobin as RoundRobin
from kubelb.core.policies.weighted_round_robin import WeightedRoundRobin as WeightedRoundRobin

REGISTRY: dict[str, type[Policy]] = {
    re.sub("(?<!^)(?=[A-Z])", "_", name).lower(): kind
    for name, kind in sorted(globals().items())
    if isinstance(kind, type) and kind.__module__.startswith(f"{__name__}.") and kind not in {Picker, Policy}
}
"""Each policy by its string."""

# Set like this because type checkers take a list that is not written out for an empty one; they go by the imports.
globals()["__all__"] = ["KeySource", "Picker", "Policy", *(kind.__name__ for kind in REGISTRY.values())]


def policy_from(policy: Policy | str) -> Policy:
    """Return the policy itself, or the one of that name with its defaults; raises `ValueError` that lists the names."""
    if not isinstance(policy, str):
        if not callable(getattr(policy, "build", None)):
            raise TypeError(f"policy={policy!r} has no build(states, rng); give a Policy or one of {sorted(REGISTRY)}")
        if isinstance(policy, type) and isinstance(policy.build, FunctionType):
            raise TypeError(f"policy={policy.__qualname__} is a class; give an object of it, {policy.__qualname__}()")
        return policy
    if policy not in REGISTRY:
        raise ValueError(f"policy={policy!r} is unknown; there are {', '.join(REGISTRY)}")
    return REGISTRY[policy]()
