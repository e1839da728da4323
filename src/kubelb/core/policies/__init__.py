"""How to choose: one file a policy, each a frozen value that builds Pickers.

Adding one is a file here and a line below: `kubelb`, `kubelb.policies`, `REGISTRY`, the documentation, the tests and
the benchmarks go by these imports. Its string is its class's name in snake_case.
"""

import re

from kubelb.core.keys import KeySource as KeySource
from kubelb.core.members import Members as Members
from kubelb.core.members import Place as Place
from kubelb.core.policies.base import Needs as Needs
from kubelb.core.policies.base import Picker as Picker
from kubelb.core.policies.base import Policy as Policy
from kubelb.core.policies.least_request import LeastRequest as LeastRequest
from kubelb.core.policies.named import REGISTRY as REGISTRY
from kubelb.core.policies.named import WRAPPERS as WRAPPERS
from kubelb.core.policies.named import policy_from as policy_from
from kubelb.core.policies.only import Only as Only
from kubelb.core.policies.peak_ewma import PeakEwma as PeakEwma
from kubelb.core.policies.random import Random as Random
from kubelb.core.policies.ring_hash import RingHash as RingHash
from kubelb.core.policies.round_robin import RoundRobin as RoundRobin
from kubelb.core.policies.subset import Subset as Subset
from kubelb.core.policies.weighted_round_robin import WeightedRoundRobin as WeightedRoundRobin
from kubelb.core.policies.wrapper import Wrapper as Wrapper

for _name, _kind in sorted(globals().items()):
    if isinstance(_kind, type) and issubclass(_kind, Policy) and _kind not in {Policy, Wrapper}:
        (WRAPPERS if issubclass(_kind, Wrapper) else REGISTRY)[re.sub("(?<!^)(?=[A-Z])", "_", _name).lower()] = _kind

# Set like this because type checkers take a list that is not written out for an empty one; they go by the imports.
globals()["__all__"] = [
    *("KeySource", "Members", "Needs", "Picker", "Place", "Policy", "Wrapper"),
    *(kind.__name__ for kind in (*REGISTRY.values(), *WRAPPERS.values())),
]
