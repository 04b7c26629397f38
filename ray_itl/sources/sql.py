"""The condition of `pool.filter`: what stands after WHERE in SQL, as an Arrow expression."""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from ray_itl.errors import ConfigError
from ray_itl.sources.condition import Condition

_HELP = (
    "write it like lang = 'en' and tokens < 2048; known are = != < <= > >=, + - * /, and, or, not, in (...), between, "
    "like, ilike, is null, is true, lower(), upper(), length(), date '2026-01-31', timestamp '2026-01-31 12:00:00'"
)
_functions: Any = pc  # made as the module is imported, so that no type checker knows them
_TWO_SIDED: dict[type[exp.Expr], Callable[[Any, Any], Any]] = {
    exp.EQ: operator.eq,
    exp.NEQ: operator.ne,
    exp.LT: operator.lt,
    exp.LTE: operator.le,
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
    exp.And: operator.and_,
    exp.Or: operator.or_,
    exp.Add: operator.add,
    exp.Sub: operator.sub,
    exp.Mul: operator.mul,
    exp.Div: lambda a, b: a.cast(pa.float64()) / b,
}
_ONE_SIDED: dict[type[exp.Expr], Callable[[Any], Any]] = {
    exp.Paren: lambda a: a,
    exp.Not: operator.invert,
    exp.Neg: lambda a: pc.scalar(0) - a,
    exp.Lower: lambda a: _functions.utf8_lower(a),
    exp.Upper: lambda a: _functions.utf8_upper(a),
    exp.Length: lambda a: _functions.utf8_length(a),
}
_PARTS = {
    *("this", "expression", "expressions", "low", "high", "negate", "is_string", "quoted", "to", "nested"),
    *("table", "db", "catalog"),  # what the last names of a nested field are called
}
_TIMES = {exp.DType.DATE: datetime.date.fromisoformat, exp.DType.TIMESTAMP: datetime.datetime.fromisoformat}


def parse_condition(text: str) -> Condition:
    """Return the condition that a text states.

    Raises:
        ConfigError: names what is wrong with it, and what can be written.
    """
    try:
        tree = sqlglot.parse_one(text, into=exp.Condition)
        _check_parts(tree)
        columns = tuple(dict.fromkeys(_name(column)[0] for column in tree.find_all(exp.Column)))
        if not columns:
            raise _UnknownError("no column is named in it")
        return Condition(text, _expression(tree), columns)
    except SqlglotError as error:
        raise ConfigError(f"pool.filter={text} cannot be read: {_HELP}") from error
    except RecursionError as error:
        raise ConfigError(
            f"pool.filter={text[:80]}... is nested too deeply: write it with fewer parentheses"
        ) from error
    except (_UnknownError, pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"pool.filter={text}: {error}; {_HELP}") from error


class _UnknownError(Exception):
    """Something that SQL has and conditions do not."""


def _check_parts(tree: exp.Expr) -> None:
    """Raise _UnknownError for words that the translation would pass over, since the meaning would be another."""
    for node in tree.walk():
        passed_over = [name for name, value in node.args.items() if value and name not in _PARTS]
        if passed_over:
            raise _UnknownError(f"{node.sql()} is not known here")


def _expression(node: exp.Expr) -> Any:
    """Return a part of the condition as an Arrow expression."""
    plain = _without_negation(node)
    return ~plain if node.args.get("negate") else plain


def _without_negation(node: exp.Expr) -> Any:
    if type(node) in _TWO_SIDED:
        return _TWO_SIDED[type(node)](_expression(node.this), _expression(node.args["expression"]))
    if type(node) in _ONE_SIDED:
        return _ONE_SIDED[type(node)](_expression(node.this))
    if isinstance(node, exp.Column):
        return pc.field(*_name(node))
    if isinstance(node, exp.In):
        return _is_in(node)
    if isinstance(node, exp.Between):
        value = _expression(node.this)
        return (value >= _expression(node.args["low"])) & (value <= _expression(node.args["high"]))
    if isinstance(node, exp.Like | exp.ILike):
        pattern, ignores = _value(node.args["expression"]), isinstance(node, exp.ILike)
        return _functions.match_like(_expression(node.this), pattern, ignore_case=ignores)
    if isinstance(node, exp.Is):
        return _is(_expression(node.this), node.args["expression"])
    return pc.scalar(_value(node))


def _name(column: exp.Column) -> tuple[str, ...]:
    """Return a column's name, and those of the nested fields that it goes down to."""
    return tuple(part.name for part in column.parts)


def _is_in(node: exp.In) -> pc.Expression:
    """Return `x in (...)`, null where x is: then x is neither in the list nor, with `not`, outside."""
    value = _expression(node.this)
    if not node.expressions:
        raise _UnknownError("in needs a list of values")
    found = value.isin([_value(each) for each in node.expressions])
    return _functions.if_else(value.is_valid(), found, pc.scalar(pa.scalar(None, pa.bool_())))


def _is(value: pc.Expression, what: exp.Expr) -> pc.Expression:
    if isinstance(what, exp.Null):
        return value.is_null()
    if isinstance(what, exp.Boolean):
        return value.is_valid() & (value if what.this else ~value)
    raise _UnknownError(f"is {what.sql()} is not known")


def _value(node: exp.Expr) -> Any:
    """Return a constant: text, a number, true or false, a date or a time."""
    if isinstance(node, exp.Neg):
        return -_value(node.this)
    if isinstance(node, exp.Boolean):
        return node.this
    if isinstance(node, exp.Literal):
        return node.this if node.is_string else _number(node.this)
    if isinstance(node, exp.Cast) and node.to.this in _TIMES:
        try:
            return _TIMES[node.to.this](_value(node.this))
        except (TypeError, ValueError) as error:
            raise _UnknownError(f"{node.this.sql()} is no date or time") from error
    raise _UnknownError(f"{node.sql()} is not known here")


def _number(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)
