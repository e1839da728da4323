"""The policies: ``kubelb.policies.PeakEwma()`` and its siblings, and what one of your own is made of."""

from kubelb.core.policies import *  # noqa: F403 - each of them, without being named here too
