"""Records are to everything else what frozen dataclasses with slots are: each class is made both ways, and compared."""

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from typing import Any, ClassVar, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kubelb
from kubelb import records

OPTIONS: dict[str, Any] = {"frozen": True, "slots": True}
NAMES = ["a", "b", "class_", "d", "_e"]
VALUES = st.none() | st.integers(-2, 2) | st.text(max_size=2) | st.tuples(st.integers(0, 1)) | st.just([])


class Field(NamedTuple):
    """How one field of a shape is declared."""

    default: Any
    """``...`` where there is none."""
    made: bool
    repr: bool
    compare: bool
    bare: bool
    """Without `field`."""
    init: bool


FIELDS = st.builds(Field, st.just(...) | st.integers(0, 3) | st.just("x"), *[st.booleans()] * 5)


@st.composite
def shapes(draw: Any) -> list[Field]:
    """Fields without a default come first, as Python demands of arguments."""
    return sorted(draw(st.lists(FIELDS, max_size=len(NAMES))), key=lambda each: each.default is not ...)


def declared(shape: list[Field], decorator: Any, field: Any, **options: bool) -> type:
    """The class of that shape."""
    body: dict[str, Any] = {"__annotations__": {"constant": ClassVar[int]}, "constant": 7, "__module__": __name__}
    for name, each in zip(NAMES, shape, strict=False):
        body["__annotations__"][name] = int
        said: dict[str, Any] = {"repr": each.repr, "compare": each.compare, "init": each.init or each.default is ...}
        if each.default is not ... and each.made:
            said["default_factory"] = lambda value=each.default: [value]
        elif each.default is not ...:
            said["default"] = each.default
        if not each.bare or "default_factory" in said:
            body[name] = field(**said)
        elif each.default is not ...:
            body[name] = each.default

    def init(self: Any) -> None:
        object.__setattr__(self, "_e", ("post", self._e)) if len(shape) == len(NAMES) else None

    return decorator(**OPTIONS, **options)(type("Made", (), body | {"__post_init__": init}))


def tried(do: Any) -> Any:
    """What comes of it: a value, or the kind of error."""
    try:
        return do()
    except Exception as error:
        return type(error)


ARGUMENTS = st.lists(VALUES, max_size=6), st.dictionaries(st.sampled_from([*NAMES, "strange"]), VALUES)


@given(shapes(), st.booleans(), *ARGUMENTS, *ARGUMENTS)
def test_it_does_what_a_dataclass_does(
    shape: list[Field],
    kw_only: bool,
    given: list[Any],
    named: dict[str, Any],
    others: list[Any],
    changes: dict[str, Any],
) -> None:
    """Made of any arguments, right or wrong; shown, compared, hashed, copied, pickled, replaced, taken apart."""
    pair = (
        declared(shape, dataclasses.dataclass, dataclasses.field, kw_only=kw_only),
        declared(shape, records.record, records.field, kw_only=kw_only),
    )
    one, two = (tried(lambda kind=kind: kind(*given, **named)) for kind in pair)
    if isinstance(one, type):
        assert two is one is TypeError
        return
    names = NAMES[: len(shape)]
    assert [getattr(one, name) for name in names] == [getattr(two, name) for name in names]
    assert repr(one) == repr(two)
    assert tried(lambda: hash(one)) == tried(lambda: hash(two))
    rest = {} if kw_only else {"given": others}
    other_one, other_two = (tried(lambda kind=kind: kind(*rest.get("given", ()), **changes)) for kind in pair)
    assert (one == other_one) is (two == other_two)
    assert two != one
    assert (one == copy.copy(one)) is (two == copy.copy(two))
    assert repr(copy.deepcopy(two)) == repr(two)
    assert [getattr(copy.deepcopy(two), name) for name in names] == [getattr(two, name) for name in names]
    assert one.__getstate__() == two.__getstate__()
    assert dataclasses.asdict(one) == dataclasses.asdict(two)
    assert dataclasses.astuple(one) == dataclasses.astuple(two)
    replaced = [tried(lambda it=it: dataclasses.replace(it, **changes)) for it in (one, two)]
    mine = tried(lambda: records.replace(two, **changes))
    assert repr(replaced[0]) == repr(replaced[1])
    assert repr(replaced[0]) == repr(mine) or (replaced[0] is ValueError and mine is TypeError)  # of what is not given
    told = [[(f.name, f.default, f.repr, f.compare) for f in dataclasses.fields(kind)] for kind in pair]
    assert told[0] == told[1]
    assert pair[0].__match_args__ == pair[1].__match_args__
    assert str(inspect.signature(pair[0])).partition("->")[0] == str(inspect.signature(pair[1])).partition("->")[0]
    assert dataclasses.is_dataclass(two)
    assert pair[1].constant == two.constant == 7  # type: ignore[attr-defined]


@records.record(frozen=True, slots=True)
class Point:
    """A place."""

    x: int
    y: int = records.field(default=0, compare=False)
    names: list[str] = records.field(default_factory=list, repr=False, compare=False)


@records.record(frozen=True, slots=True)
class Space(Point):
    z: int = 9


@dataclasses.dataclass(frozen=True)
class Older(Point):
    age: int = 1


class Free(Point):
    """Derives from a record as a plain class."""

    def __init__(self, x: int) -> None:
        super().__init__(x, 5)
        self.more = 1


@dataclasses.dataclass(frozen=True)
class Biased(kubelb.LeastRequest):
    """A policy of an application; its own field lies in a `__dict__`, where it may keep more."""

    bias: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", 2 * self.bias)


@dataclasses.dataclass(frozen=True, slots=True)
class Tight(Point):
    bias: float = dataclasses.field(kw_only=True)
    never: int = dataclasses.field(default=4, init=False)


class Kept(Biased):
    """Derives from a dataclass that derives from a record, and says no fields itself."""


class Slotted(Point):
    __slots__ = ("more",)


@records.record(frozen=True, slots=True)
class Lower(Free):
    """Has the `__dict__` of what it derives from."""

    z: int = 3

    def __post_init__(self) -> None:
        vars(self)["seen"] = self.z


def test_what_is_frozen() -> None:
    """Fields cannot be set or deleted, nor anything else be set; what derives from a record has what it adds."""
    for made, name in ((Point(1), "x"), (Space(1), "z"), (Free(1), "x"), (Point(1), "strange")):
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(made, name, 2)
        with pytest.raises(AttributeError, match=f"cannot delete field '{name}'"):
            delattr(made, name)
    free = Free(1)
    free.more = 2
    del free.more
    assert (free.x, free.y, vars(free)) == (1, 5, {})
    assert not hasattr(Point(1), "__dict__")


def test_what_derives_from_a_record() -> None:
    """Records, dataclasses and plain classes, by their own fields and those of the record."""
    assert repr(Space(1, 2)) == "Space(x=1, y=2, z=9)"
    assert repr(Older(1, 2, age=3)) == "Older(x=1, y=2, age=3)"
    assert Space(1) == Space(1, y=3) != Point(1)
    assert [field.name for field in dataclasses.fields(Space)] == ["x", "y", "names", "z"]
    assert list(inspect.signature(Space).parameters) == ["x", "y", "names", "z"]
    assert list(inspect.signature(Free).parameters) == ["x"]
    assert dataclasses.replace(Older(1), age=4) == Older(1, age=4)


@pytest.mark.parametrize("made", [Point(1, 2, ["a"]), Space(1, z=3), kubelb.Retry(attempts=2), kubelb.Snapshot(3)])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(made: Any, protocol: int) -> None:
    """By every protocol; all fields come back, those that are not compared, too."""
    back = pickle.loads(pickle.dumps(made, protocol))
    assert type(back) is type(made)
    assert dataclasses.astuple(back) == dataclasses.astuple(made)


def all_of(made: Any) -> dict[str, Any]:
    """Each attribute of an object, wherever it lies."""
    return {
        name: getattr(made, name)
        for name in dir(made)
        if not name.startswith("_") and not callable(getattr(made, name))
    }


def slotted() -> Slotted:
    """With what is its own."""
    made = Slotted(1)
    made.more = 6  # type: ignore[misc]
    return made


@pytest.mark.parametrize(
    "made",
    [
        Biased(bias=3.0),
        Tight(1, 2, [], bias=3.0),
        Kept(bias=3.0),
        Older(1, age=7),
        Free(1),
        slotted(),
        Lower(1, z=4),
    ],
    ids=lambda made: type(made).__name__,
)
def test_copies_of_what_derives_from_a_record(made: Any) -> None:
    """The kind: what goes by the fields of the record, and loses without a word those of the class below it."""
    whole = all_of(made)
    copies = [pickle.loads(pickle.dumps(made, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for back in (copy.copy(made), copy.deepcopy(made), *copies):
        assert type(back) is type(made)
        assert all_of(back) == whole


@pytest.mark.parametrize("made", [Biased(bias=3.0), Tight(1, 2, [], bias=3.0), Kept(bias=3.0), Older(1, age=7)])
def test_replacing_in_what_derives_from_a_record(made: Any) -> None:
    """The same kind: a value that was not to be changed went back to its default, or was missing."""
    assert all_of(records.replace(made)) == all_of(made)
    own = "age" if isinstance(made, Older) else "bias"
    assert records.replace(made, **{own: 5}) == dataclasses.replace(made, **{own: 5})
    assert getattr(records.replace(made, **{own: 5}), own) == 5
    if hasattr(copy, "replace"):  # Python 3.13
        assert all_of(copy.replace(made)) == all_of(made)


def test_a_record_does_not_lose_the_fields_of_a_dataclass() -> None:
    """The same kind, one class further down: it is refused where it is written."""
    with pytest.raises(TypeError, match="the record Made would lose the fields of Older: make it a dataclass"):
        records.record(frozen=True, slots=True)(type("Made", (Older,), {"__annotations__": {}}))


def test_match() -> None:
    """By position and by name."""
    match Space(1, 2, z=3):
        case Point(x, y):
            assert (x, y) == (1, 2)


@pytest.mark.parametrize(
    ("given", "named", "words"),
    [
        ((), {}, "is missing required arguments: 'x'"),
        ((1,), {"x": 2}, "got multiple values for argument 'x'"),
        ((1,), {"w": 2}, "got an unexpected keyword argument 'w'"),
        ((), {"w": 2}, "got an unexpected keyword argument 'w'"),
        ((1, 2, [], 4), {}, "takes 3 positional arguments but 4 were given"),
    ],
)
def test_wrong_arguments(given: tuple[Any, ...], named: dict[str, Any], words: str) -> None:
    """As Python names them, with the class."""
    with pytest.raises(TypeError, match=rf"^Point.__init__\(\) {words}"):
        Point(*given, **named)
    with pytest.raises(TypeError):
        dataclasses.replace(Point(1), strange=1)


def test_what_is_missing_is_told_by_place() -> None:
    """The kind: a message of what is not so. A field that cannot be given takes no place among the arguments."""

    @records.record(frozen=True, slots=True)
    class Made:
        a: int = records.field(default=0, init=False)
        x: int
        y: int

    with pytest.raises(TypeError, match=r"is missing required arguments: 'y'$"):
        Made(1)  # type: ignore[call-arg]


def test_what_a_record_cannot_be() -> None:
    """Where its words are not said it is an error, and not another kind of class."""
    with pytest.raises(TypeError, match="a record is frozen and has slots"):
        records.record(frozen=True, slots=False)
    with pytest.raises(TypeError):
        records.record(frozen=True, slots=True, order=True)


def test_a_circle_is_shown() -> None:
    """As by a dataclass, whose repr ends where it meets itself."""
    names: list[Any] = []
    made = Shown(names)
    names.append(made)
    assert repr(made) == "Shown(names=[...])"


@records.record(frozen=True, slots=True)
class Shown:
    names: list[Any]


def test_what_a_class_says_itself() -> None:
    """Methods of its own stay, also its own equality without a hash, which a dataclass gives it all the same."""

    def own(decorator: Any) -> Any:
        @decorator(**OPTIONS)
        class Own:
            x: int = 1

            def __repr__(self) -> str:
                return "own"

            def __eq__(self, other: object) -> bool:
                return True

        return Own()

    one, two = own(dataclasses.dataclass), own(records.record)
    assert repr(one) == repr(two) == "own"
    assert two == 5
    assert hash(one) == hash(two)


def test_nothing_is_compiled() -> None:
    """The kind: an import that runs a compiler. A record neither loads `dataclasses`, as a load
    balancer's classes do not either, nor calls `exec`.
    """
    code = (
        "import sys; from kubelb import records\n"
        "record = records.record; from kubelb import LoadBalancer; assert 'dataclasses' not in sys.modules\n"
        "class Made: x: int = 1\n"
        "sys.addaudithook(lambda name, _: name in ('compile', 'exec') and sys.exit(name))\n"
        "made = record(frozen=True, slots=True)(Made); made(); made(2) == made(x=2); hash(made()); repr(made())\n"
        "print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr
