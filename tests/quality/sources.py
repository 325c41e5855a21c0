"""The Python files that the house rules read, each parsed once, and only what the rules ask about is kept."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "hoopfast"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@dataclass
class Source:
    lines: int
    documented: bool                                                            # or empty
    classes: list[tuple[str, int]] = field(default_factory=list)                # name, lines
    functions: list[tuple[str, int]] = field(default_factory=list)              # name, lines
    calls: list[tuple[str, int]] = field(default_factory=list)                  # of a plain name: name, line
    methods: list[tuple[str, int]] = field(default_factory=list)                # of an attribute: its name, line
    imports: list[tuple[int, str, str, int]] = field(default_factory=list)      # dots, module, name or "", line


@functools.cache
def source(path: Path) -> Source:
    """Everything in the file, in functions and for typing too."""
    text = path.read_text()
    tree = ast.parse(text, str(path))
    found = Source(lines=len(text.splitlines()), documented=not tree.body or bool(ast.get_docstring(tree)))
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef():
                found.classes.append((node.name, _length(node)))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found.functions.append((node.name, _length(node)))
            case ast.Call(func=ast.Name(id=name)):
                found.calls.append((name, node.lineno))
            case ast.Call(func=ast.Attribute(attr=name)):
                found.methods.append((name, node.lineno))
            case ast.Import():
                found.imports += [(0, alias.name, "", node.lineno) for alias in node.names]
            case ast.ImportFrom():
                found.imports += [(node.level, node.module or "", alias.name, node.lineno) for alias in node.names]
    return found


def _length(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1
