"""The package itself: its version, and which of its parts are loaded.

Both without asking anything beside the code. A zipapp or a vendored copy has no metadata of a distribution, and a copy
under `app/_vendor/` may well have another name.
"""

import sys
from typing import Any

__all__ = ["NAME", "__version__", "loaded"]

__version__ = "0.1.0"
"""The only place that says it: the build reads it here."""
NAME = __name__.rpartition(".")[0]
"""``"kubelb"``, or what it was vendored as."""


def loaded(part: str) -> Any:
    """Return the module of this package with that name, such as ``"discovery.kube.sharing"``; None if it is not loaded.

    One that is being loaded is not: after a fork in the middle of that it never will be.

    >>> loaded("itself").__version__ == __version__, loaded("no.such.part")
    (True, None)
    """
    module = sys.modules.get(f"{NAME}.{part}")
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module
