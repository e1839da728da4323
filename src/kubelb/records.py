"""Records: frozen values that are to everything else what ``@dataclass(frozen=True, slots=True)`` makes.

    @record(frozen=True, slots=True)
    class Retry:
        attempts: int = 3

A dataclass writes the text of half a dozen methods for each class and compiles it, when the module is imported: 0.3 ms
a class, a fifth of what importing kubelb took. Here all classes share one set of methods, which go by the `Shape` of
the object's class; nothing is compiled. To make, compare or hash one takes up to 2.5 times what a dataclass takes, a
microsecond more: records are for what is made at a program's start, not for each request.

It is no dataclass until something asks: `dataclasses.replace`, `asdict`, `fields`, `is_dataclass` and a dataclass that
derives from a record find `__dataclass_fields__`, which is made then, and `inspect.signature` finds the parameters.
Pickles, copies and ``match`` work as ever. Type checkers take `record` for `dataclasses.dataclass` itself, which is why
the two words have to be said.

What is left out: any other option but `kw_only`, which then is of all fields, the inherited ones too; `InitVar`; other
arguments of `field`.
"""

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["field", "record", "replace"]

T = TypeVar("T")

_MISSING: Any = object()


class _Field:
    """What `field` says about one field."""

    __slots__ = ("compare", "default", "default_factory", "init", "repr")

    def __init__(self, default: Any, default_factory: Any, init: bool, repr: bool, compare: bool) -> None:  # noqa: A002
        self.default = default
        self.init = init
        self.default_factory = default_factory
        self.repr = repr
        self.compare = compare


_PLAIN = _Field(_MISSING, _MISSING, True, True, True)


def _field(
    *,
    default: Any = _MISSING,
    default_factory: Any = _MISSING,
    init: bool = True,
    repr: bool = True,  # noqa: A002
    compare: bool = True,
) -> Any:
    return _Field(default, default_factory, init, repr, compare)


class Shape:
    """The fields of one class, ready for the methods that all records share."""

    __slots__ = (
        *("closed", "defaults", "fields", "key", "kw_only", "makers", "names", "owner", "places", "post", "puts"),
        *("shown", "types"),
    )

    owner: type
    puts: tuple[tuple[str, Callable[[Any, Any], None]], ...]
    """Each name, and what sets it past the frozen `__setattr__`."""

    def __init__(self, fields: dict[str, _Field], types: dict[str, Any], *, kw_only: bool, post: bool) -> None:
        self.closed = frozenset(name for name, each in fields.items() if not each.init)
        """What cannot be given."""
        self.places = () if kw_only else tuple(name for name in fields if name not in self.closed)
        """What can be given by position."""
        self.kw_only = kw_only
        self.fields = fields
        self.types = types
        self.post = post
        """Whether there is a `__post_init__`."""
        self.names = tuple(fields)
        self.shown = tuple(name for name, each in fields.items() if each.repr)
        self.defaults = {name: each.default for name, each in fields.items() if each.default is not _MISSING}
        self.makers = tuple(
            (name, each.default_factory) for name, each in fields.items() if each.default_factory is not _MISSING
        )
        self.key = _key([name for name, each in fields.items() if each.compare])
        """What is compared, and hashed: the tuple of a record's values."""


def _key(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda self: tuple(getattr(self, name) for name in names)


# What all records share


def _init(self: Any, /, *given: Any, **named: Any) -> None:
    shape: Shape = self.__record__
    values = shape.defaults.copy()
    if given:
        values.update(zip(shape.places, given, strict=False))
    values.update(named)
    for name, make in shape.makers:
        if name not in values:
            values[name] = make()
    puts = shape.puts
    twice = given and named and not named.keys().isdisjoint(shape.places[: len(given)])
    if len(values) != len(puts) or len(given) > len(shape.places) or twice or (named and named.keys() & shape.closed):
        raise _wrong(self, given, named)
    try:
        for name, put in puts:
            put(self, values[name])
    except KeyError:  # one is missing, and another one is strange
        raise _wrong(self, given, named) from None
    if shape.post:
        self.__post_init__()


def _wrong(self: Any, given: tuple[Any, ...], named: dict[str, Any]) -> TypeError:
    """What is wrong with the arguments, as Python says it of a function's."""
    shape: Shape = self.__record__
    what, names = f"{type(self).__qualname__}.__init__()", shape.names
    for name in named:
        if name not in names or name in shape.closed:
            return TypeError(f"{what} got an unexpected keyword argument {name!r}")
        if name in shape.places[: len(given)]:
            return TypeError(f"{what} got multiple values for argument {name!r}")
    if len(given) > len(shape.places):
        return TypeError(f"{what} takes {len(shape.places)} positional arguments but {len(given)} were given")
    known = {*shape.defaults, *dict(shape.makers), *named, *shape.places[: len(given)]}
    missing = ", ".join(repr(name) for name in names if name not in known)
    return TypeError(f"{what} is missing required arguments: {missing}")


@recursive_repr()
def _repr(self: Any) -> str:
    told = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__record__.shown)
    return f"{type(self).__qualname__}({told})"


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    key = self.__record__.key
    return key(self) == key(other)


def _hash(self: Any) -> int:
    return hash(self.__record__.key(self))


def _setattr(self: Any, name: str, value: object) -> None:
    _refuse_fields(self, name, "assign to")
    object.__setattr__(self, name, value)


def _delattr(self: Any, name: str) -> None:
    _refuse_fields(self, name, "delete")
    object.__delattr__(self, name)


def _refuse_fields(self: Any, name: str, what: str) -> None:
    shape: Shape = self.__record__
    if type(self) is shape.owner or name in shape.names:  # what derives from a record may have more than its fields
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot {what} field {name!r}")


def _getstate(self: Any) -> Any:
    """The values in a list, as of a dataclass. What derives from a record may have more: then all that Python finds."""
    shape: Shape = self.__record__
    if type(self) is shape.owner and not getattr(self, "__dict__", None):
        return [getattr(self, name) for name in shape.names]
    return object.__getstate__(self)


def _setstate(self: Any, state: Any) -> None:
    if isinstance(state, list):
        for (_, put), value in zip(self.__record__.puts, state, strict=True):
            put(self, value)
        return
    free, slots = state if isinstance(state, tuple) else (state, None)  # as `object.__getstate__` says it
    if free:
        vars(self).update(free)
    for name, value in (slots or {}).items():
        object.__setattr__(self, name, value)


def _shape_of(kind: type) -> Shape | None:
    """What says the fields of a class; None where a dataclass does, which may derive from a record."""
    for each in kind.__mro__:
        said = vars(each)
        if "__dataclass_fields__" in said:
            return said.get("__record__")
    return None


def _replace(record: Any, /, **changes: Any) -> Any:
    shape = _shape_of(type(record))
    if shape is None:
        import dataclasses

        return dataclasses.replace(record, **changes)
    return type(record)(**{name: getattr(record, name) for name in shape.names if name not in shape.closed} | changes)


class _Later:
    """An attribute of classes that is made when something first asks for it."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._made: Any = _MISSING

    def __get__(self, instance: object, owner: type) -> Any:
        if self._made is _MISSING:
            self._made = self.make(self._shape)
        return self._made

    def make(self, shape: Shape) -> Any:
        raise NotImplementedError


class _Fields(_Later):
    def make(self, shape: Shape) -> Any:
        return getattr(_twin(shape), "__dataclass_fields__")  # noqa: B009 - no class is known to have it


class _Params(_Later):
    def make(self, shape: Shape) -> Any:
        return getattr(_twin(shape), "__dataclass_params__")  # noqa: B009


class _Signature(_Later):
    def __get__(self, instance: object, owner: Any) -> Any:
        if instance is not None or owner.__init__ is not _init:  # a callable record, or a class with its own `__init__`
            raise AttributeError("__signature__")
        return _Later.__get__(self, instance, owner)

    def make(self, shape: Shape) -> Any:
        import inspect

        return inspect.signature(_twin(shape))


def _twin(shape: Shape) -> type:
    """The dataclass that this could have been."""
    import dataclasses

    def said(each: _Field) -> Any:
        given = {"default": each.default, "default_factory": each.default_factory}
        given = {name: value for name, value in given.items() if value is not _MISSING}
        return dataclasses.field(init=each.init, repr=each.repr, compare=each.compare, **given)

    fields = [(name, shape.types[name], said(each)) for name, each in shape.fields.items()]
    return dataclasses.make_dataclass(shape.owner.__name__, fields, frozen=True, kw_only=shape.kw_only)


_SHARED: dict[str, Any] = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
    "__replace__": _replace,
}


def _record(*, frozen: bool, slots: bool, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    if not (frozen and slots):
        raise TypeError("a record is frozen and has slots; for anything else there are dataclasses")
    return partial(_made, kw_only=kw_only)


def _made(cls: type[T], *, kw_only: bool) -> type[T]:
    """The class again, with slots, the shared methods where it has none of its own, and its shape."""
    fields, types = dict[str, _Field](), dict[str, Any]()
    for base in cls.__mro__[-1:0:-1]:
        if (inherited := vars(base).get("__record__")) is not None:
            fields |= inherited.fields
            types |= inherited.types
        elif "__dataclass_fields__" in vars(base):
            raise TypeError(
                f"the record {cls.__qualname__} would lose the fields of {base.__qualname__}: make it a dataclass"
            )
    namespace = dict(vars(cls))
    own = {name: kind for name, kind in cls.__annotations__.items() if "ClassVar" not in str(kind)}
    for name in own:
        given = namespace.pop(name, _MISSING)  # a slot cannot stand beside its default
        plain = _PLAIN if given is _MISSING else _Field(given, _MISSING, True, True, True)
        fields[name] = given if isinstance(given, _Field) else plain
    types |= own
    shape = Shape(fields, types, kw_only=kw_only, post=hasattr(cls, "__post_init__"))
    for name in ("__dict__", "__weakref__"):
        namespace.pop(name, None)
    hashed = namespace.get("__hash__") or ("__hash__" in namespace and "__eq__" not in namespace)
    namespace = _SHARED | namespace
    if not hashed:
        namespace["__hash__"] = _hash
    namespace |= {
        "__slots__": tuple(own),
        "__match_args__": shape.places,
        "__record__": shape,
        "__signature__": _Signature(shape),
        "__dataclass_fields__": _Fields(shape),
        "__dataclass_params__": _Params(shape),
    }
    meta: Any = type(cls)
    made: type[T] = meta(cls.__name__, cls.__bases__, namespace)
    made.__qualname__ = cls.__qualname__
    shape.owner = made
    shape.puts = tuple((name, getattr(made, name).__set__) for name in shape.names)
    return made


if TYPE_CHECKING:
    from dataclasses import dataclass as record
    from dataclasses import field, replace
else:
    record, field, replace = _record, _field, _replace
