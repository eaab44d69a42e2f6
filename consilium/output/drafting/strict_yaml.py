"""YAML of which nothing is lost and that cannot grow: no key twice, no reference from one place to another."""

from __future__ import annotations

from typing import Any

import yaml

from consilium.domain.errors import InputError


class _Loader(yaml.SafeLoader):
    """Python's plain types, each key of a mapping once."""

    field: str

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            alias: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise InputError(self.field, f"*{alias.anchor}", "must be written out, not referred to")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if str(key.value) in seen:
                line = key.start_mark.line + 1
                raise InputError(
                    self.field, str(key.value), f"must stand once in its mapping; it does again in line {line}"
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def strict_yaml(text: str, field: str) -> Any:
    """What `text` says.

    Raises
    ------
    InputError
        It is no YAML, has a key twice, or refers to another place by an alias: a few lines of those say what takes no
        end of memory to show.
    """
    try:
        loader = _Loader(text)
        loader.field = field
        return loader.get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date such as 2020-13-45
        raise InputError(field, None, "must be YAML") from None
