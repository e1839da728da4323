"""Where the key of a request comes from, for policies that hash.

What the caller says (`kubelb.hints(key=)`, a client's own way, `LoadBalancer.call(key=)`) goes first. Where it says
nothing, a policy may name a part of the request in its `needs`, and adapters, which alone can read requests,
look there. For a policy without one they look at nothing.
"""

from collections.abc import Callable

from kubelb.records import record

__all__ = ["KeySource"]

NO_NAME = frozenset(" :;,=\t\r\n")
"""What no name of a header or a cookie contains."""


@record(frozen=True, slots=True)
class KeySource:
    """A header, a cookie, the path: the first of those named that a request has.

    Header names are compared without regard to case; with gRPC they are metadata keys. A path is what stands on the
    request line before the ``?``; with gRPC it is the method, ``/pkg.Service/Method``.

    >>> source = KeySource(cookie="session", path=True)
    >>> source.read({"cookie": "theme=dark; session=s1"}.get, lambda: "/carts/7")
    's1'
    >>> source.read({}.get, lambda: "/carts/7?full=1")
    '/carts/7'
    """

    header: str | None = None
    cookie: str | None = None
    path: bool = False

    def __post_init__(self) -> None:
        given: tuple[tuple[str, object], ...] = (("header", self.header), ("cookie", self.cookie))
        for name, value in given:
            if value is not None and not (isinstance(value, str) and value and not set(value) & NO_NAME):
                raise ValueError(f"{name}={value!r}: give the bare name of a {name}, e.g. 'x-user-id'")
        if not isinstance(self.path, bool):
            raise TypeError(f"path={self.path!r}: give True or False")

    def __bool__(self) -> bool:
        return self.header is not None or self.cookie is not None or self.path

    def read(self, header: Callable[[str], str | bytes | None], path: Callable[[], str | bytes]) -> str | bytes | None:
        """Return the key of a request, by its adapter's ways to look a header up (None: not there) and at the path."""
        if self.header is not None and (value := header(self.header)) is not None:
            return value
        if self.cookie is not None and (value := header("cookie")) is not None:
            text = value if isinstance(value, str) else value.decode("latin-1")
            for pair in text.split(";"):
                name, equals, value = pair.strip().partition("=")
                if equals and name == self.cookie:
                    return value
        if self.path:
            target = path()
            return target.partition("?")[0] if isinstance(target, str) else target.partition(b"?")[0]
        return None
