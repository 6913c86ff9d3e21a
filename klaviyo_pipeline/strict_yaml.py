"""YAML in which no key is there twice: PyYAML keeps the last one and drops the others silently."""

from __future__ import annotations

from typing import Any

import yaml


class RepeatedKey(yaml.constructor.ConstructorError):
    """A key that a mapping has twice; `lines` are those of the two, counted from 1."""

    def __init__(self, key: yaml.ScalarNode, first: int) -> None:
        super().__init__(problem="a key is there twice", problem_mark=key.start_mark)
        self.key = str(key.value)
        self.lines = (first, key.start_mark.line + 1)


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            named = key.tag, key.value
            if named in lines:
                raise RepeatedKey(key, lines[named])
            lines[named] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """The document of a text. Raises `RepeatedKey`, or another `yaml.YAMLError`."""
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
