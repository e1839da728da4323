"""How to choose: one file a policy, each a frozen value that builds Pickers.

Adding one is a file here and a line in `REGISTRY`; its string is its name in snake_case.
"""

from kubelb.core.policies.base import Picker, Policy
from kubelb.core.policies.least_request import LeastRequest
from kubelb.core.policies.peak_ewma import PeakEwma
from kubelb.core.policies.random import Random
from kubelb.core.policies.round_robin import RoundRobin

__all__ = ["LeastRequest", "PeakEwma", "Picker", "Policy", "Random", "RoundRobin", "policy_from"]

REGISTRY: dict[str, type[LeastRequest | PeakEwma | Random | RoundRobin]] = {
    "least_request": LeastRequest,
    "peak_ewma": PeakEwma,
    "random": Random,
    "round_robin": RoundRobin,
}


def policy_from(policy: Policy | str) -> Policy:
    """Return the policy itself, or the one of that name with its defaults; raises `ValueError` that lists the names."""
    if not isinstance(policy, str):
        if not callable(getattr(policy, "build", None)):
            raise TypeError(f"policy={policy!r} has no build(states, rng); give a Policy or one of {sorted(REGISTRY)}")
        return policy
    try:
        return REGISTRY[policy]()
    except KeyError:
        raise ValueError(f"policy={policy!r} is unknown; there are {', '.join(sorted(REGISTRY))}") from None
