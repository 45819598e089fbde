"""Every YAML file in the repository can be loaded by strict parsers, such as that of Docker Compose."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its types are a package of their own

ROOT = Path(__file__).parents[2]
FILES = [
    ROOT / "compose.yaml",
    # Helm's templates are YAML only once they are rendered.
    *(path for path in sorted((ROOT / "otel").rglob("*.yaml")) if path.parent.name != "templates"),
    *sorted((ROOT / "grafana").rglob("*.yaml")),
]


class StrictLoader(yaml.SafeLoader):  # type: ignore[misc]  # untyped, too
    """Refuses duplicate keys, of which PyYAML would keep the last one (YAML 1.2 §3.2.1.3)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node."""
        keys = [key.value for key, _ in node.value]
        if duplicates := sorted({key for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"duplicate keys: {duplicates}", node.start_mark)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def keys_once(text: str) -> None:
    """Load all documents of a text."""
    for _ in yaml.load_all(text, StrictLoader):
        pass


def test_no_yaml_file_has_duplicate_keys() -> None:
    for path in FILES:
        keys_once(path.read_text(encoding="utf-8"))


def test_the_loader_refuses_duplicate_keys() -> None:
    with pytest.raises(yaml.YAMLError, match="duplicate keys: \\['a'\\]"):
        keys_once("x: {a: 1, b: 2, a: 3}")
