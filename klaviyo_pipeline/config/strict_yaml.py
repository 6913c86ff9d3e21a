"""Reads YAML and rejects repeated keys. PyYAML itself would silently keep only the last value of such a key."""

from __future__ import annotations

from typing import Any

import yaml


class RepeatedKey(ValueError):
    """A mapping contains the same key twice. `lines` are the two lines of the key, counted from 1."""

    def __init__(self, key: str, lines: tuple[int, int]) -> None:
        super().__init__(f"a key is repeated in lines {lines[0]} and {lines[1]}")
        self.key = key
        self.lines = lines


def read_yaml(text: str) -> Any:
    """The parsed document. Raises `RepeatedKey` for a repeated key, and `yaml.YAMLError` for invalid YAML."""
    document = yaml.compose(text, yaml.SafeLoader)
    nodes, seen = [document], set[int]()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue  # The node is the target of an alias, which may be inside the node itself.
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated(node)
            nodes += [inner for pair in node.value for inner in pair]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
    return yaml.safe_load(text)


def _refuse_repeated(mapping: yaml.MappingNode) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        named, line = (key.tag, key.value), key.start_mark.line + 1
        if named in lines:
            raise RepeatedKey(str(key.value), (lines[named], line))
        lines[named] = line
