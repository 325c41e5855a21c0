"""YAML files to frozen structs, with every problem of a file found in one go; used by config and policy.

Reading is stricter than YAML 1.1, where a group called `no` is false, `22:30` is a number and the last of two equal
keys wins silently: words stay words, equal keys are a problem, merge keys and tags are refused. `decode` walks a struct
type instead of calling msgspec.convert, which stops at the first fault.

Values from the file are never repeated in a problem, because any of them may be a misplaced secret.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import msgspec.inspect as types
import yaml

from hoopfast.errors import Problem

FILE_MAX_BYTES: Final = 4 * 1024 * 1024
NODES_MAX: Final = 200_000              # aliases are expanded, so a small file can describe an enormous one
DEPTH_MAX: Final = 32

T = TypeVar("T")
MISSING: Final = object()               # what decode gives for a value that has a problem

# Called with each struct, its path and the report: rules beyond the types (see `decode`).
Checks = Mapping[type, Callable[[Any, str, "Report"], None]]


class Report:
    """The problems of one file, in the order of finding, and the lines that paths were read from."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.lines: dict[str, int] = {}

    def add(self, path: str, what: str, *, parent: str = "") -> None:
        """Note a problem; `parent` lends its line to a path that does not stand in the file."""
        line = self.lines.get(path) or self.lines.get(parent)
        self.problems.append(Problem(self.file, path, f"{what} (line {line})" if line else what))

    def touches(self, path: str) -> bool:
        """Whether `path` or anything below it has a problem already."""
        return any(p.path == path or p.path.startswith((f"{path}.", f"{path}[")) for p in self.problems)


def child(path: str, key: str) -> str:
    """The path of a key: `$.a.b-c`, or `$.a["b c"]` when a dot would mislead."""
    plain = bool(key) and all(c.isalnum() or c in "_-" for c in key)
    return f"{path}.{key}" if plain else f"{path}[{json.dumps(key, ensure_ascii=False)}]"


# ---------------------------------------------------------------- text to plain values

class _Loader(yaml.SafeLoader):
    """SafeLoader that recognises YAML 1.2's core scalars only."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (pyyaml's own name)


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", [*"tTfF"]),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^(?:0|[-+]?[1-9][0-9]{0,18})$", [*"-+0123456789"]),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$", [*"-+.0123456789"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
_SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("str", "bool", "null", "int", "float")}


def read(path: Path, report: Report) -> Any:
    """The file as dicts, lists and scalars, or MISSING with the reason in the report."""
    try:
        if not path.is_file():
            report.add("$", "there is no such file" if not path.exists() else "is not a regular file")
            return MISSING
        with path.open("rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
    except OSError as e:
        report.add("$", f"cannot be read: {e.strerror}")
        return MISSING
    if len(data) > FILE_MAX_BYTES:
        report.add("$", f"is larger than {FILE_MAX_BYTES} bytes")
        return MISSING
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        report.add("$", f"is not UTF-8 (byte {e.start})")
        return MISSING
    return parse(text, report)


def parse(text: str, report: Report) -> Any:
    """Like `read`, of a text."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        report.add("$", f"is not YAML: {where}{_syntax(e)}")
        return MISSING
    except yaml.YAMLError:
        report.add("$", "is not YAML: it has characters that YAML does not allow")
        return MISSING
    except RecursionError:
        report.add("$", f"is nested deeper than {DEPTH_MAX} levels")
        return MISSING
    if node is None:
        return {}
    return _Builder(loader, report).build(node, "$", 0)


def _syntax(error: yaml.MarkedYAMLError) -> str:
    """The parser's words where they name characters only; names of aliases, anchors and tags may be misread secrets."""
    problem = error.problem or ""
    if isinstance(error, yaml.composer.ComposerError) or "tag" in problem:
        return "text that begins with *, & or ! must stand in quotes"
    return problem or "unreadable"


class _Builder:
    """Turns the node tree into values, noting lines, equal keys and what does not belong into a configuration."""

    def __init__(self, loader: _Loader, report: Report) -> None:
        self.loader = loader
        self.report = report
        self.nodes = 0

    def build(self, node: yaml.Node, path: str, depth: int) -> Any:
        self.nodes += 1
        self.report.lines.setdefault(path, node.start_mark.line + 1)
        if depth > DEPTH_MAX or self.nodes > NODES_MAX:
            if self.nodes <= NODES_MAX or self.nodes == NODES_MAX + 1:
                self.report.add(path, f"is nested deeper than {DEPTH_MAX} levels" if depth > DEPTH_MAX
                                else f"the file has more than {NODES_MAX} values")
                self.nodes = NODES_MAX + 1
            return MISSING
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(node.value)]
        if node.tag not in _SCALARS:
            self.report.add(path, "has a YAML tag; text that begins with ! must stand in quotes")
            return MISSING
        try:
            return self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError, KeyError):
            self.report.add(path, "has a YAML tag that does not fit its value")
            return MISSING

    def mapping(self, node: yaml.MappingNode, path: str, depth: int) -> Any:
        result: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                self.report.add(path, f"has a key in line {line} that is not text; put it in quotes")
                continue
            key = key_node.value
            where = child(path, key)
            if key == "<<" and key_node.style is None:
                self.report.add(path, f"has a merge key (<<) in line {line}; write the keys out")
            elif key in first:
                self.report.problems.append(Problem(
                    self.report.file, where, f"stands here twice (lines {first[key]} and {line})"))
            else:
                first[key] = self.report.lines[where] = line
                result[key] = self.build(value_node, where, depth + 1)
        return result


# ---------------------------------------------------------------- plain values to structs

def decode(kind: type[T], raw: Any, report: Report, checks: Checks) -> T | None:
    """A struct of `kind` from what `read` gave; None if there were problems (all of them are in the report).

    Parts of `raw` that are MISSING have been reported before and are passed over. `checks` run for every struct, with
    empty text and tuples in the place of required values that have a problem, defaults in the place of others: a check
    passes over what is empty, and asks `Report.touches` before it compares two values.
    """
    before = len(report.problems)
    value = MISSING if raw is MISSING else _value(types.type_info(kind), raw, "$", report, checks)
    return value if isinstance(value, kind) and len(report.problems) == before else None


def _value(info: types.Type, raw: Any, path: str, report: Report, checks: Checks) -> Any:
    """One value, or MISSING after reporting."""
    if raw is MISSING:
        return MISSING
    if isinstance(info, types.UnionType):
        fitting = [t for t in info.types if _fits(t, raw)]
        if fitting:
            return _value(fitting[0], raw, path, report, checks)
    elif isinstance(info, types.Metadata):
        if (info.extra or {}).get("lines") and type(raw) is str:
            return _lines(raw, path, report)
        return _value(info.type, raw, path, report, checks)
    elif _fits(info, raw):
        if isinstance(info, types.StructType):
            return _struct(info, raw, path, report, checks)
        if isinstance(info, types.VarTupleType):
            return _tuple(info, raw, path, report, checks)
        if isinstance(info, types.DictType):
            return _dict(info, raw, path, report, checks)
        return _scalar(info, raw, path, report)
    report.add(path, _mismatch(info, raw))
    return MISSING


def _fits(info: types.Type, raw: Any) -> bool:
    """Whether `raw` has the YAML shape that `info` is written in."""
    if isinstance(info, types.StructType | types.DictType):
        return isinstance(raw, dict)
    if isinstance(info, types.VarTupleType):
        return isinstance(raw, list)
    if isinstance(info, types.LiteralType):
        return type(raw) is str
    if isinstance(info, types.FloatType):
        return type(raw) in {int, float}
    wanted = {types.StrType: str, types.IntType: int, types.BoolType: bool, types.NoneType: type(None)}
    return type(raw) is wanted[type(info)]


def _lines(raw: str, path: str, report: Report) -> Any:
    """Text of several lines (`Meta(extra={"lines": True})`)."""
    if raw.strip() and all(c.isprintable() or c in "\n\t" for c in raw):
        return raw
    report.add(path, "is empty, or has characters that cannot be printed")
    return MISSING


def _scalar(info: types.Type, raw: Any, path: str, report: Report) -> Any:
    if isinstance(info, types.StrType):
        if len(raw) < (info.min_length or 0):
            report.add(path, "is empty; give it a value or remove it")
            return MISSING
        if not raw.isprintable():
            report.add(path, "has characters that cannot be printed (line breaks, control characters)")
            return MISSING
    elif isinstance(info, types.LiteralType) and raw not in info.values:
        report.add(path, f"must be {_any_of(sorted(map(str, info.values)))}{_meant(raw, info.values)}")
        return MISSING
    elif isinstance(info, types.IntType | types.FloatType):
        low, high = info.ge, info.le
        if isinstance(raw, float) and not math.isfinite(raw):
            report.add(path, "must be a finite number")
            return MISSING
        if (low is not None and raw < low) or (high is not None and raw > high):
            report.add(path, f"must be from {low} to {high}" if None not in {low, high} else
                       f"must be at least {low}" if low is not None else f"must be at most {high}")
            return MISSING
        return float(raw) if isinstance(info, types.FloatType) else raw
    return raw


def _struct(info: types.StructType, raw: dict[str, Any], path: str, report: Report, checks: Checks) -> Any:
    fields = {field.encode_name: field for field in info.fields}
    for key in raw:
        if key not in fields:
            known = ", ".join(fields)
            report.add(child(path, key), f"is not a known key here{_meant(key, fields)} (known: {known})")
    values: dict[str, Any] = {}
    complete = checkable = True
    for name, field in fields.items():
        value = MISSING
        if name in raw:
            value = _value(field.type, raw[name], child(path, name), report, checks)
        elif field.required:
            report.add(child(path, name), "is required", parent=path)
        if value is not MISSING:
            values[field.name] = value
        elif field.required:
            complete = False
            values[field.name] = stand_in = _stand_in(field.type)
            checkable = checkable and stand_in is not MISSING
    result = info.cls(**values)
    if info.cls in checks and checkable:
        checks[info.cls](result, path, report)
    return result if complete else MISSING


def _stand_in(info: types.Type) -> Any:
    """An empty value in place of a required one with a problem, so that the checks can look at its neighbours."""
    if isinstance(info, types.UnionType):
        return None if info.includes_none else _stand_in(info.types[0])
    if isinstance(info, types.StrType | types.LiteralType):
        return ""
    return () if isinstance(info, types.VarTupleType) else MISSING


def _tuple(info: types.VarTupleType, raw: list[Any], path: str, report: Report, checks: Checks) -> Any:
    if len(raw) < (info.min_length or 0):
        report.add(path, "is an empty list; name something or remove the key")
        return MISSING
    items = [_value(info.item_type, item, f"{path}[{i}]", report, checks) for i, item in enumerate(raw)]
    # Bad elements have been reported; the good ones still take part in the checks of the whole.
    return tuple(item for item in items if item is not MISSING)


def _dict(info: types.DictType, raw: dict[str, Any], path: str, report: Report, checks: Checks) -> Any:
    items = {k: _value(info.value_type, v, child(path, k), report, checks) for k, v in raw.items()}
    return {k: v for k, v in items.items() if v is not MISSING}


_NAMES: Final[dict[type, str]] = {
    types.StrType: "text", types.IntType: "a whole number", types.FloatType: "a number",
    types.BoolType: "true or false", types.NoneType: "null",
    types.StructType: "a mapping of keys", types.DictType: "a mapping of names", types.VarTupleType: "a list",
}


def _mismatch(info: types.Type, raw: Any) -> str:
    if raw is None:
        return "has no value; give it one or remove the key"
    alternatives = info.types if isinstance(info, types.UnionType) else (info,)
    names: list[str] = []
    for t in alternatives:
        if isinstance(t, types.NoneType):
            continue
        names += sorted(map(str, t.values)) if isinstance(t, types.LiteralType) else [_NAMES[type(t)]]
    got = {str: "text", int: "a number", float: "a number", bool: "true or false", dict: "a mapping", list: "a list"}
    quote = "; put it in quotes" if "text" in names and isinstance(raw, int | float) else ""
    return f"must be {_any_of(names)}, not {got[type(raw)]}{quote}"


def _any_of(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _meant(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, [str(k) for k in known], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def recheck(value: Any, report: Report, checks: Checks, path: str = "$") -> None:
    """Run `checks` over structs that exist already (built in code, not read from a file)."""
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            recheck(getattr(value, field.name), report, checks, child(path, field.encode_name))
        if type(value) in checks:
            checks[type(value)](value, path, report)
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            recheck(item, report, checks, f"{path}[{i}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            recheck(item, report, checks, child(path, key))
