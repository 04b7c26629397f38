"""Declaring options: default, meaning, what each may be, and whether a run's result depends on it.

    @dataclass
    class PoolSettings(Options, group="pool"):
        dtype: str = option("float32", "Storage of features.", one_of("float32", "float16"))
        storage: str = option("auto", "Where features are kept.", decides=False)

All else derives from this line: the check, YAML (`text`), --help (`help`), what makes a run another (`deciding`).
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, ClassVar, get_args, get_type_hints

from ray_itl.options.checks import Check, require

_KEY = "option"


@dataclass(frozen=True)
class Declaration:
    """What is declared of an option besides its type and default."""

    doc: str = ""
    checks: tuple[Check, ...] = ()
    decides: bool = True
    per_tick: bool = False
    spelled: str = ""


@dataclass(frozen=True)
class Described(Declaration):
    """An option of a schema: its declaration, its place and its default."""

    name: str = ""
    """As on the command line: group.option."""
    default: Any = None
    group_doc: str = ""
    """The first paragraph of the docstring of its group; "" for an option of no group."""
    inherited: bool = False
    """Whether a base class of its group declares it."""

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that there are, where they are few."""
        return next((check.choices for check in self.checks if check.choices), ())


def option(
    default: Any, doc: str, *checks: Check, decides: bool = True, per_tick: bool = False, spelled: str = ""
) -> Any:
    """Declare an option: a field of a dataclass that derives from `Options`.

    Args:
        default: Its value where none is given. Lists and mappings are copied for each object.
        doc: What it means, the short of it first; words of `choices` explained, where there are any.
        checks: What it may be. Where its type allows None, None may always be.
        decides: Whether the result of a run depends on it: a run directory of other values is not continued. Forgetting
            it makes a run refuse to resume, never resume with other picks. False: it does not, or something else that
            decides tells of it, as a digest of the rows does of their path.
        per_tick: Whether the ticks of one state directory may differ in it.
        spelled: Its name on the command line where it is not group.option, in --help.
    """
    told = {_KEY: Declaration(doc, checks, decides, per_tick, spelled)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: deepcopy(default), metadata=told)
    return field(default=default, metadata=told)


class Options:
    """Base of every group of options: it checks itself, and names the option that cannot be used.

    Subclasses are dataclasses. Those that relate options to each other do so in `__post_init__`, after this one's.
    """

    group: ClassVar[str] = ""

    def __init_subclass__(cls, group: str | None = None, **kwargs: Any) -> None:
        """Take the name of the group, which a subclass of a group keeps."""
        super().__init_subclass__(**kwargs)
        if group is not None:
            cls.group = group

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option; whole numbers become floats where those are declared.

        Numbers of NumPy's types, and tensors of one number, become Python's: they are what people compute with.
        """
        types = types_of(type(self))
        for each in fields(self):  # pyright: ignore[reportArgumentType] - subclasses are dataclasses
            value: Any = getattr(self, each.name)
            allowed = get_args(types[each.name]) or (types[each.name],)
            if value is None and NoneType in allowed:
                continue
            if value is not None and getattr(value, "shape", None) == ():
                value = value.item()
                setattr(self, each.name, value)
            for check in declaration(each).checks:
                require(check.holds(value), f"{self.group}.{each.name}".lstrip("."), value, check.allowed)
            if float in allowed and isinstance(value, int | float) and not isinstance(value, bool):
                setattr(self, each.name, float(value))

    def identity_of(self, name: str) -> str | None:
        """Return what of an option makes a run another, in Python's words: its value, where a group says no more.

        None where nothing does: where an option that earlier versions did not have is as if it were not there.
        """
        return repr(getattr(self, name))


@cache
def types_of(schema: type) -> dict[str, Any]:
    """Return the type of each option and group of a schema."""
    return get_type_hints(schema)


def declaration(each: Field) -> Declaration:
    """Return what is declared of a field. One that is declared as a plain field decides."""
    return each.metadata.get(_KEY, Declaration())


def default_of(each: Field) -> Any:
    """Return a new object of a field's default."""
    return each.default if each.default_factory is MISSING else each.default_factory()


def described(schema: type) -> Iterator[Described]:
    """Yield every option of a schema, in order, with those of its groups."""
    yield from _described(schema, {each.name: default_of(each) for each in fields(schema)}, "", "")


def _described(schema: type, defaults: dict[str, Any], prefix: str, group_doc: str) -> Iterator[Described]:
    for each in fields(schema):
        name, default = prefix + each.name, defaults[each.name]
        if is_dataclass(default):
            paragraph = (type(default).__doc__ or "").partition("\n\n")[0]
            yield from _described(type(default), vars(default), f"{name}.", " ".join(paragraph.split()))
        else:
            inherited = each.name not in schema.__annotations__
            yield Described(
                **vars(declaration(each)), name=name, default=default, group_doc=group_doc, inherited=inherited
            )


def value_of(settings: Any, name: str) -> Any:
    """Return the value of an option, named as group.option."""
    for part in name.split("."):
        settings = getattr(settings, part)
    return settings


def changed(settings: Any) -> dict[str, Any]:
    """Return name -> value of every option that is not at its default."""
    values = {each.name: (value_of(settings, each.name), each.default) for each in described(type(settings))}
    return {name: value for name, (value, default) in values.items() if value != default}


def deciding(settings: Any) -> dict[str, str]:
    """Return name -> value in Python's words of every option on which the result depends."""
    found = {}
    for each in described(type(settings)):
        if each.decides:
            group, _, name = each.name.rpartition(".")
            found[each.name] = (value_of(settings, group) if group else settings).identity_of(name)
    return {name: value for name, value in found.items() if value is not None}
