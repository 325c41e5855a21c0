"""The stub of the compiled core says what the core has: names, methods, parameters, attributes."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

STUB = Path(__file__).resolve().parents[2] / "hoopfast" / "_wire.pyi"
_wire: Any = pytest.importorskip("hoopfast._wire", reason="the compiled core is not built", exc_type=ImportError)
TREE = ast.parse(STUB.read_text())
CLASSES = {node.name: node for node in TREE.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = {node.name: node for node in TREE.body if isinstance(node, ast.FunctionDef)}
VALUES = {
    node.target.id
    for node in TREE.body
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
}


def public(thing: Any) -> set[str]:
    return {name for name in vars(thing) if not name.startswith("_")}


def parameters(node: ast.FunctionDef) -> list[str]:
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return [name for name in names if name != "self"]


def test_names() -> None:
    defined = {name for name in public(_wire) if not inspect.ismodule(getattr(_wire, name))}
    assert defined - {"annotations"} == set(CLASSES) | set(FUNCTIONS) | VALUES


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_class(name: str) -> None:
    declared = set()
    for node in CLASSES[name].body:
        if isinstance(node, ast.FunctionDef):
            declared.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            declared.add(node.target.id)
    assert public(getattr(_wire, name)) == {n for n in declared if not n.startswith("_")}


def signatures() -> list[tuple[str, str, ast.FunctionDef]]:
    found = [("", name, node) for name, node in FUNCTIONS.items()]
    for cls, body in CLASSES.items():
        found += [(cls, n.name, n) for n in body.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    return found


@pytest.mark.parametrize(("cls", "name", "node"), signatures(), ids=lambda v: v if isinstance(v, str) else "")
def test_parameters(cls: str, name: str, node: ast.FunctionDef) -> None:
    thing = getattr(getattr(_wire, cls) if cls else _wire, name)
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        pytest.skip("compiled without embedded signatures")
    assert [p for p in signature.parameters if p != "self"] == parameters(node)
