"""For the documentation: griffe knows dataclasses by their name, so here it is told that a record is one."""

from typing import Any

import griffe

WORDS = {"kubelb.records.record": "dataclasses.dataclass", "kubelb.records.field": "dataclasses.field"}


class Records(griffe.Extension):
    """Has the names of `kubelb.records` mean those that type checkers take them for."""

    def on_alias_instance(self, *, alias: griffe.Alias, **_: Any) -> None:
        """Called for each import that is read."""
        if alias.target_path in WORDS:
            alias.target_path = WORDS[alias.target_path]
