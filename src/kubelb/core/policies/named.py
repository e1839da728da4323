"""Policies by their names: what ``policy="peak_ewma"`` stands for.

The package fills `REGISTRY` from its imports. It stands here, below the policies, because those that wrap another take
that one by its name, too.
"""

from types import FunctionType

from kubelb.core.policies.base import Policy

__all__ = ["REGISTRY", "WRAPPERS", "policy_from"]

REGISTRY: dict[str, type[Policy]] = {}
"""Each policy that a name is enough for, by its string."""

WRAPPERS: dict[str, type[Policy]] = {}
"""Those that choose by another one, which a name cannot say."""

ARGUMENTS = 4
"""Of `build`: self, members, rng, before."""
VARIADIC = 0x04
"""The flag of code that takes ``*args``."""


def policy_from(policy: Policy | str) -> Policy:
    """Return the policy itself, or the one of that name with its defaults.

    Raises `ValueError` that lists the names, `TypeError` for what is no Policy or has an older `build`.
    """
    if not isinstance(policy, str):
        _check(policy)
        return policy
    if policy in WRAPPERS:
        kind = WRAPPERS[policy].__name__
        raise ValueError(f"policy={policy!r} chooses by another policy: give kubelb.policies.{kind}('peak_ewma', ...)")
    if policy not in REGISTRY:
        raise ValueError(f"policy={policy!r} is unknown; there are {', '.join(REGISTRY)}")
    return REGISTRY[policy]()


def _check(policy: object) -> None:
    build = getattr(policy, "build", None)
    if isinstance(policy, type) and isinstance(build, FunctionType):
        raise TypeError(f"policy={policy.__qualname__} is a class; give an object of it, {policy.__qualname__}()")
    if not callable(build):
        raise TypeError(
            f"policy={policy!r} has no build(members, rng, before); give a Policy or one of {sorted(REGISTRY)}"
        )
    if isinstance(policy, Policy) and type(policy).build is Policy.build:
        raise TypeError(f"policy={policy!r}: {type(policy).__qualname__} has no build(members, rng, before)")
    code = getattr(getattr(type(policy), "build", None), "__code__", None)
    older = code is not None and code.co_argcount < ARGUMENTS and not code.co_flags & VARIADIC
    if older or not isinstance(policy, Policy):
        name = type(policy).__qualname__
        raise TypeError(
            f"policy={policy!r} is no kubelb.policies.Policy with build(members, rng, before): derive {name} from "
            "Policy and its pickers from kubelb.policies.Picker; what was `states` is `members.states`, `key_source` "
            "and `by_load` are in `needs`, `pick_other` is `other`, and `rebuild` is `build` with a `before`"
        )
