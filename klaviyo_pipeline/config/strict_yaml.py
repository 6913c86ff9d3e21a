"""YAML in which no key is there twice: PyYAML keeps the last one and drops the others silently."""

from __future__ import annotations

from typing import Any

import yaml


class RepeatedKey(ValueError):
    """A mapping has this key twice; `lines` are those of the two, counted from 1."""

    def __init__(self, key: str, lines: tuple[int, int]) -> None:
        super().__init__(f"a key is there twice, in lines {lines[0]} and {lines[1]}")
        self.key = key
        self.lines = lines


def read_yaml(text: str) -> Any:
    """The document of a text. Raises `RepeatedKey` or `yaml.YAMLError`."""
    document = yaml.compose(text, yaml.SafeLoader)
    nodes, seen = [document], set[int]()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue  # an alias, which may lead back to where it stands
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
