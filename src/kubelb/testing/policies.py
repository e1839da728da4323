"""check_policy: whether a policy of your own keeps what policies promise.

    from kubelb.testing import check_policy

    def test_my_policy():
        check_policy(MyPolicy())

Every law is tried, and one error tells of all that were broken. `policy_laws` has the laws.
"""

import traceback
from collections.abc import Sequence

from kubelb.core.policies import Policy, policy_from
from kubelb.testing.policy_laws import LAWS, Law
from kubelb.testing.policy_trial import Broken, Trial

__all__ = ["breaches", "check_policy"]


def check_policy(policy: Policy | str, *, seed: int = 0, sizes: Sequence[int] = (1, 2, 3, 4, 5, 17, 100)) -> None:
    """Raise an `AssertionError` that names each law of policies which `policy` breaks, and how.

    A policy, or the name of one, must

    - return from each pick one of the states that the picker was built for, whatever their history, the request, its
      key (text, bytes, none, nonsense) and the time are, and raise nothing;
    - do so among 1, 2, 3, ... endpoints (`sizes`);
    - alter neither endpoints' states nor requests;
    - serve several load balancers at the same time, and remember no endpoint beyond its pickers;
    - pick the same with the same rng, and use no other source of chance;
    - work under threads, while requests come and go;
    - follow what a `Balancer` tells it: scaling to any size, to none and back, pods replaced, ejected, tried before;
    - take any earlier picker for `before`, and leave it as it was;
    - keep to all this in the other methods of its pickers (see `kubelb.policies.Picker`);
    - never pick what is not among `Policy.among`, whatever comes, and refuse in words where nothing is left;
    - hand on what a policy that it wraps (`of`) needs and excludes;
    - spend no probe on a request that cannot be sent there;
    - cost no more among 10 000 endpoints than among a hundred, within a factor of ten, and less than a millisecond.

    Whether it chooses *well* is not for laws to say. The endpoints of a trial are in ``zone-a``, ``zone-b`` and
    ``zone-c`` and have weights of all kinds; `seed` is that of all chance. A trial takes a second or two.

    >>> check_policy("round_robin")
    >>> from kubelb.policies import Picker, Policy
    >>> class Busiest(Policy, Picker):
    ...     def build(self, members, rng, before=None):
    ...         self.states = members.states
    ...         return self
    ...     def pick(self, request, now):
    ...         return max(self.states, key=lambda state: len(state.leases))
    >>> try:
    ...     check_policy(Busiest())
    ... except AssertionError as error:
    ...     print(str(error).count("\\n - "), "laws are broken")
    3 laws are broken
    """
    trial = Trial(policy_from(policy), seed, sizes)
    broken = breaches(trial)
    if broken:
        lines = "".join(f"\n - {line}" for line in broken)
        raise AssertionError(f"{trial.policy!r} breaks {len(broken)} of {len(LAWS)} laws of policies:{lines}")


def breaches(trial: Trial, laws: Sequence[Law] = LAWS) -> list[str]:
    """Return a line for each law that was broken: the law, and how."""
    broken = []
    for law in laws:
        sentence = (law.__doc__ or "").partition("\n")[0]
        try:
            law(trial)
        except Broken as how:
            broken.append(f"{sentence}: {how}")
        except Exception as error:  # noqa: BLE001 - whatever a policy raises is what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            broken.append(f"{sentence}: {error!r} was raised at {frame.filename}:{frame.lineno}")
    return broken
