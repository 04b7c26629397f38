"""The condition of `pool.filter`: what stands after WHERE in SQL, as a function of the columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from ray_itl.errors import ConfigError
from ray_itl.sources.arithmetic import compute, negated
from ray_itl.sources.comparison import as_text, as_truth, compare, field_of, is_in
from ray_itl.sources.condition import Columns, Condition
from ray_itl.sources.constants import Constant, Operand, UnfitError, number
from ray_itl.sources.moments import NANOSECONDS, read_moment, read_time_of_day

_HELP = (
    "write it like lang = 'en' and tokens < 2048; known are = != < <= > >=, + - * /, and, or, not, in (...), between, "
    "like, ilike, is null, is true, lower(), upper(), length(), date '2026-01-31', timestamp '2026-01-31 12:00:00' ("
    "with +00:00 for times that have a zone), time '12:30:00', interval '2' day"
)
Part = Callable[[Columns], Operand]
"""What a part of a condition is for some rows."""
_functions: Any = pc  # made as the module is imported, so that no type checker knows them
_SIGNS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "!=", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/",
}  # fmt: skip
_TWO_SIDED: dict[type[exp.Expr], Callable[[Any, Any], Operand]] = {
    exp.And: lambda a, b: _functions.and_kleene(as_truth(a), as_truth(b)),
    exp.Or: lambda a, b: _functions.or_kleene(as_truth(a), as_truth(b)),
}
_ONE_SIDED: dict[type[exp.Expr], Callable[[Any], Operand]] = {
    exp.Paren: lambda a: a,
    exp.Not: lambda a: _not(a),
    exp.Neg: negated,
    exp.Lower: lambda a: _functions.utf8_lower(as_text(a)),
    exp.Upper: lambda a: _functions.utf8_upper(as_text(a)),
    exp.Length: lambda a: _functions.utf8_length(as_text(a)),
}
_PARTS = {
    *("this", "expression", "expressions", "low", "high", "negate", "is_string", "quoted", "to", "nested"),
    *("table", "db", "catalog"),  # what the last names of a nested field are called
}
_ZONED = (exp.DType.TIMESTAMPTZ, exp.DType.TIMESTAMPLTZ)
_TIMESTAMPS = (exp.DType.TIMESTAMP, exp.DType.DATETIME, *_ZONED)
_UNITS = {
    "SECOND": NANOSECONDS["s"],
    "MINUTE": 60 * NANOSECONDS["s"],
    "HOUR": 3600 * NANOSECONDS["s"],
    "DAY": NANOSECONDS["D"],
    "WEEK": 7 * NANOSECONDS["D"],
}
_MAX_INTERVAL = 2**62


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
        return Condition(text, _checked(tree), columns)
    except SqlglotError as error:
        raise ConfigError(f"pool.filter={text} cannot be read: {_HELP}") from error
    except RecursionError as error:
        raise ConfigError(
            f"pool.filter={text[:80]}... is nested too deeply: write it with fewer parentheses"
        ) from error
    except UnfitError as error:  # of constants alone
        raise ConfigError(f"pool.filter={text}: {error}; {error.remedy}") from error
    except (_UnknownError, TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"pool.filter={text}: {error}; {_HELP}") from error


class _UnknownError(Exception):
    """Something that SQL has and conditions do not."""


def _check_parts(tree: exp.Expr) -> None:
    """Raise _UnknownError for words that the translation would pass over, since the meaning would be another."""
    for node in tree.walk():
        parts = _PARTS | {"unit"} if isinstance(node, exp.Interval) else _PARTS
        passed_over = [name for name, value in node.args.items() if value and name not in parts]
        if passed_over:
            raise _UnknownError(f"{node.sql()} is not known here")


def _checked(tree: exp.Expr) -> Callable[[Columns], pa.Array | pa.Scalar]:
    """Return what computes the truth of the whole condition for some rows."""
    whole = _part(tree)
    return lambda columns: as_truth(whole(columns))


def _part(node: exp.Expr) -> Part:
    """Return what computes a part of the condition; constants are computed at once."""
    plain = _said_of(node, _without_negation(node))
    return (lambda columns: _not(plain(columns))) if node.args.get("negate") else plain


def _said_of(node: exp.Expr, part: Part) -> Part:
    """Return a part whose errors name it."""

    def named(columns: Columns) -> Operand:
        try:
            return part(columns)
        except UnfitError as error:
            if not error.is_placed:
                raise UnfitError(f"in {node.sql()}, {error}", error.remedy, is_placed=True) from error
            raise

    return named


def _without_negation(node: exp.Expr) -> Part:
    if type(node) in _SIGNS:
        return _of_two(node, _SIGNS[type(node)])
    if type(node) in _TWO_SIDED:
        join, left, right = _TWO_SIDED[type(node)], _part(node.this), _part(node.args["expression"])
        return lambda columns: join(left(columns), right(columns))
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal):
        constant = negated(_value(node.this))
        return lambda _: constant
    if type(node) in _ONE_SIDED:
        change, inner = _ONE_SIDED[type(node)], _part(node.this)
        return lambda columns: change(inner(columns))
    if isinstance(node, exp.Column):
        name, *path = _name(node)
        return lambda columns: field_of(columns[name], path)
    if isinstance(node, exp.In):
        return _in(node)
    if isinstance(node, exp.Between):
        return _between(node)
    if isinstance(node, exp.Like | exp.ILike):
        return _like(node)
    if isinstance(node, exp.Is):
        return _is(_part(node.this), node.args["expression"])
    constant = _value(node)
    return lambda _: constant


def _of_two(node: exp.Expr, sign: str) -> Part:
    """Return a comparison or a computation of two parts."""
    sides = (node.this, node.args["expression"])
    if any(isinstance(each, exp.Null) for each in sides):
        raise _UnknownError(f"{node.sql()} is never true: write {sides[0].sql()} is null, or is not null")
    left, right = map(_part, sides)
    act = compute if sign in "+-*/" else compare
    if act is compute and not any(each.find(exp.Column) for each in sides):
        constant = compute(sign, left({}), right({}))
        return lambda _: constant
    return lambda columns: act(sign, left(columns), right(columns))


def _name(column: exp.Column) -> tuple[str, ...]:
    """Return a column's name, and those of the nested fields that it goes down to."""
    return tuple(part.name for part in column.parts)


def _not(value: Operand) -> Operand:
    return _functions.invert(as_truth(value))


def _in(node: exp.In) -> Part:
    """Return `x in (...)`, null where x is: then x is neither in the list nor, with `not`, outside."""
    value, values = _part(node.this), [_value(each) for each in node.expressions]
    if not values:
        raise _UnknownError("in needs a list of values")
    return lambda columns: is_in(value(columns), values)


def _between(node: exp.Between) -> Part:
    value, low, high = _part(node.this), _part(node.args["low"]), _part(node.args["high"])

    def between(columns: Columns) -> Operand:
        found = value(columns)
        return _functions.and_kleene(compare(">=", found, low(columns)), compare("<=", found, high(columns)))

    return between


def _like(node: exp.Like | exp.ILike) -> Part:
    value, pattern, ignores = _part(node.this), _value(node.args["expression"]), isinstance(node, exp.ILike)
    if pattern.kind != "text":
        raise _UnknownError(f"{node.args['expression'].sql()} is no text")
    return lambda columns: _functions.match_like(as_text(value(columns)), pattern.value, ignore_case=ignores)


def _is(value: Part, what: exp.Expr) -> Part:
    if isinstance(what, exp.Null):
        return lambda columns: _is_null(value(columns))
    if isinstance(what, exp.Boolean):
        wanted = bool(what.this)
        return lambda columns: _functions.fill_null(compare("=", as_truth(value(columns)), _truth(wanted)), False)
    raise _UnknownError(f"is {what.sql()} is not known")


def _is_null(value: Operand) -> pa.Array | pa.Scalar:
    return pa.scalar(False) if isinstance(value, Constant) else _functions.is_null(value)


def _truth(value: bool) -> Constant:
    return Constant("true or false", value, str(value).lower())


def _value(node: exp.Expr) -> Constant:
    """Return a constant: text, a number, true or false, a date or a time, an interval."""
    if isinstance(node, exp.Paren):
        return _value(node.this)
    if isinstance(node, exp.Neg):
        found = negated(_value(node.this))
        assert isinstance(found, Constant)
        return found
    if isinstance(node, exp.Boolean):
        return _truth(bool(node.this))
    if isinstance(node, exp.Literal):
        return Constant("text", node.this, node.this) if node.is_string else number(node.this)
    if isinstance(node, exp.Interval):
        return _interval(node)
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal):
        return _moment(node, node.this.this)
    raise _UnknownError(f"{node.sql()} is not known here")


def _moment(node: exp.Cast, text: str) -> Constant:
    kind = node.to.this
    try:
        if kind == exp.DType.TIME:
            return Constant("a time of day", read_time_of_day(text), text)
        moment = read_moment(text)
    except ValueError as error:
        raise _UnknownError(f"{node.this.sql()} is no date or time: {error}") from error
    if kind == exp.DType.DATE and (moment.zoned or moment.nanoseconds % NANOSECONDS["D"]):
        raise _UnknownError(f"{node.this.sql()} is no date but a time: write timestamp {node.this.sql()}")
    if kind in _ZONED and not moment.zoned:
        raise _UnknownError(f"{node.this.sql()} has no zone: write how far it is from UTC, as in '{text}+00:00'")
    if kind not in (exp.DType.DATE, *_TIMESTAMPS):
        raise _UnknownError(f"{node.sql()} is not known here")
    return Constant("a date" if kind == exp.DType.DATE else "a timestamp", moment, text)


def _interval(node: exp.Interval) -> Constant:
    unit = node.args["unit"].name.upper().removesuffix("S") if node.args.get("unit") else ""
    if unit not in _UNITS or not isinstance(node.this, exp.Literal | exp.Neg):
        raise _UnknownError(f"{node.sql()} is not known: intervals are of seconds, minutes, hours, days or weeks")
    count = number(node.this.this) if isinstance(node.this, exp.Literal) else _value(node.this)
    length = int(count.value * _UNITS[unit])
    if abs(length) > _MAX_INTERVAL:
        raise _UnknownError(f"{node.sql()} is too long")
    return Constant("an interval", length, f"{count.text} {unit.lower()}")
