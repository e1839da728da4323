"""Event: a record of something that happened, which says by itself all that is told of it.

Logs, metrics and whatever else listens ask the event and know no kind by its name: its `level`, its `text`, the `key`
by which lines that say the same are held back, its `counter` and the `attributes` to count it by. So a new kind is one
class, in the file of what it tells of:

    class PickedTwice(Event):
        \"""The second attempt of a call went where the first one had gone.\"""

        endpoint: str
        attempts: int = 2

        counter = Counter("kubelb.picks.twice", "{pick}", "Second attempts on the endpoint of the first.")

        @property
        def text(self) -> str:
            return f"{self.endpoint} was picked for {self.attempts} attempts of one call"

What is annotated is a field, in this order and with these defaults, after `service`. A frozen dataclass would do as
much; but that compiles five functions for each class, half a millisecond of every program's start, where the metaclass
below makes a class with slots and no code of its own.

No event holds a secret or a control character. Texts that repeat what others wrote are made fit to be printed when the
event is made (see `kubelb.printable`): all of them, but those whose field, by its name, holds words of kubelb's own.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias, dataclass_transform

from kubelb.core.events.counters import Attributes, Counter
from kubelb.printable import printable

if TYPE_CHECKING:
    from inspect import Signature

__all__ = ["Emit", "Event", "Level", "discard", "only", "place"]

Level: TypeAlias = Literal["debug", "info", "warning"]
"""How much it matters, by the names of `logging.Logger`'s methods."""

OUR_WORDS = frozenset(
    {"added", "before", "endpoint", "kind", "limit", "removed", "rule", "service", "source", "state", "why"}
)
"""Fields that hold addresses, or words that stand in kubelb's own code."""

NUMBERS = frozenset({bool, float, int, "bool", "float", "int"})
"""What annotates a field that holds no text."""


def _annotated(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a class annotates as fields, and how; CPython 3.14 keeps annotations in a function."""
    found = namespace.get("__annotations__")
    if found is None:
        said = namespace.get("__annotate__") or namespace.get("__annotate_func__")
        found = said(1) if said else {}
    return {name: kind for name, kind in found.items() if "ClassVar" not in str(kind)}


@dataclass_transform(frozen_default=True)
class _Kind(type):
    """Makes what a class annotates its fields: slots, with their defaults beside them."""

    fields: tuple[str, ...]
    defaults: dict[str, Any]
    setters: tuple[Callable[[Any, Any], None], ...]
    foreign: tuple[int, ...]
    """The places of those that may hold words of others."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> "_Kind":
        own = _annotated(namespace)
        defaults = {field: namespace.pop(field) for field in own if field in namespace}
        above = [base for base in bases if isinstance(base, _Kind)]
        fields = (*(field for base in above for field in base.fields), *own)
        made = {**namespace, "__slots__": tuple(own), "__match_args__": fields}
        kind = super().__new__(cls, name, bases, made)
        kind.fields = fields
        kind.defaults = {field: value for base in above for field, value in base.defaults.items()} | defaults
        kind.setters = tuple([getattr(kind, field).__set__ for field in fields])
        foreign = [fields.index(field) for field in own if field not in OUR_WORDS and own[field] not in NUMBERS]
        kind.foreign = (*(index for base in above for index in base.foreign), *foreign)
        return kind

    @property
    def __signature__(cls) -> "Signature":
        from inspect import Parameter, Signature

        return Signature(
            [
                Parameter(field, Parameter.POSITIONAL_OR_KEYWORD, default=cls.defaults.get(field, Parameter.empty))
                for field in cls.fields
            ]
        )


class Event(metaclass=_Kind):
    """Something that happened to a load balancer, as `LoadBalancer.on_event` and the log tell it.

    It is a value: it cannot be changed, equals another of its kind with the same fields, can be hashed, pickled and
    copied. ``str(event)`` is the line that the log has of it.

    >>> from kubelb.events import Returned
    >>> event = Returned("reviews.prod:http", "10.0.0.7:8080", "probe", pod="reviews-7f9c")
    >>> print(event)
    reviews.prod:http: 10.0.0.7:8080 (reviews-7f9c) is back: probe
    >>> event.level, event.counter.name, event.attributes
    ('info', 'kubelb.ejections.ended', (('kubelb.ejection.end', 'probe'), ('kubelb.observed', 'false')))
    """

    service: str
    """The load balancer's name: its target."""

    counter: ClassVar[Counter | None] = None
    """The metric that counts events of this kind; None where none does."""
    schemes: ClassVar[frozenset[str] | None] = None
    """The schemes of targets that it can happen to, "" for a bare one; None for any."""

    def __init__(self, *values: Any, **named: Any) -> None:
        kind = type(self)
        if named or len(values) != len(kind.setters):
            values = _completed(kind, values, named)
        for put, value in zip(kind.setters, values, strict=True):
            put(self, value)
        for index in kind.foreign:
            value = values[index]
            if value and value is not (fit := _fit(value)):
                kind.setters[index](self, fit)

    @classmethod
    def kinds(cls) -> "tuple[type[Event], ...]":
        """Return every kind of event there is."""
        return tuple(kind for each in cls.__subclasses__() for kind in (each, *each.kinds()))

    @property
    def level(self) -> Level:
        """How much it matters."""
        return "warning"

    @property
    def text(self) -> str:
        """What happened, in one line without the name of the service."""
        return ", ".join(f"{name} {value}" for name, value in self.as_dict().items() if name != "service")

    @property
    def key(self) -> tuple[str, ...]:
        """What says the same: of events with one key the log has one line in ten seconds, and how many they were."""
        return self._key()

    @property
    def attributes(self) -> Attributes:
        """What its counter tells it apart by: names and values, in a form that can be a key."""
        return () if self.counter is None else tuple((each.name, each.of(self)) for each in self.counter.attributes)

    def named(self, service: str) -> Self:
        """Return the same event of a load balancer with another name."""
        kind = type(self)
        other = kind.__new__(kind)
        for put, value in zip(kind.setters, (service, *self.values[1:]), strict=True):
            put(other, value)
        return other

    @property
    def values(self) -> tuple[Any, ...]:
        """The fields' values, in their order."""
        return tuple([getattr(self, field) for field in type(self).fields])

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by their names, for a JSON of your own."""
        return dict(zip(type(self).fields, self.values, strict=True))

    def _key(self, *about: str) -> tuple[str, ...]:
        return (type(self).__name__, self.service, *about)

    def __str__(self) -> str:
        return f"{printable(self.service)}: {self.text}"

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items())
        return f"{type(self).__qualname__}({told})"

    def __eq__(self, other: object) -> bool:
        return self.values == other.values if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self.values))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.values

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed: an event is what has happened")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)


Emit: TypeAlias = Callable[[Event], None]


def discard(event: Event) -> None:
    """Emit to nothing."""


def place(endpoint: str, pod: str) -> str:
    """Name an endpoint by its address and, where it is known, its pod.

    >>> place("10.0.0.7:8080", "reviews-7f9c"), place("10.0.0.7:8080", "")
    ('10.0.0.7:8080 (reviews-7f9c)', '10.0.0.7:8080')
    """
    return f"{endpoint} ({pod})" if pod else endpoint


def only(observed: bool) -> str:
    """Say of what was observed that it was a report and no more."""
    return " (observed only: nothing was done)" if observed else ""


def _fit(value: Any) -> Any:
    """Make texts fit to be printed."""
    if isinstance(value, str):
        return printable(value)
    if not isinstance(value, tuple):
        return value
    whole = " ".join(value)  # ten thousand names of pods are looked through at once
    return value if printable(whole, len(whole)) == whole else tuple(map(printable, value))


def _completed(kind: _Kind, values: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
    """Return a value for each field; raises TypeError as a function would."""
    fields = kind.fields
    given = dict(zip(fields, values, strict=False))
    told = {**kind.defaults, **given, **named}
    wrong = [*(name for name in named if name in given or name not in fields), *map(repr, values[len(fields) :])]
    missing = [field for field in fields if field not in told]
    if wrong or missing:
        what = f"lacks {', '.join(missing)}" if missing else f"has no room for {', '.join(wrong)}"
        raise TypeError(f"{kind.__name__}(...) {what}: its fields are {', '.join(fields)}")
    return tuple([told[field] for field in fields])
