"""The policies: ``kubelb.policies.PeakEwma()`` and its siblings, and the protocols for one of your own."""

from kubelb.core.policies import LeastRequest, PeakEwma, Picker, Policy, Random, RoundRobin

__all__ = ["LeastRequest", "PeakEwma", "Picker", "Policy", "Random", "RoundRobin"]
