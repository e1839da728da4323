"""Whether to try again, when, and at whose expense."""

from kubelb.core.retry.backoff import FullJitter
from kubelb.core.retry.budget import RetryBudget
from kubelb.core.retry.rules import Retry

__all__ = ["FullJitter", "Retry", "RetryBudget"]
