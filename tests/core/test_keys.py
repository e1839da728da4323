"""KeySource: where the key of a request is read from."""

import pytest

from kubelb import KeySource

COOKIES = {"cookie": 'theme=dark; session=s1; sessions=s2; session="late"'}


@pytest.mark.parametrize(
    ("source", "headers", "path", "key"),
    [
        (KeySource(header="X-User"), {"X-User": "u7"}, "/", "u7"),
        (KeySource(header="X-User"), {"X-User": ""}, "/", ""),
        (KeySource(header="X-User"), {}, "/", None),
        (KeySource(header="X-User"), {"X-User": b"\xff"}, "/", b"\xff"),
        (KeySource(cookie="session"), COOKIES, "/", "s1"),
        (KeySource(cookie="session"), {"cookie": b"a=b;session=\xe9"}, "/", "\xe9"),
        (KeySource(cookie="ses"), COOKIES, "/", None),
        (KeySource(cookie="session"), {"cookie": "session"}, "/", None),
        (KeySource(cookie="session"), {}, "/", None),
        (KeySource(path=True), {}, "/carts/7?full=1", "/carts/7"),
        (KeySource(path=True), {}, b"/carts/7?full=1?", b"/carts/7"),
        (KeySource("X-User", "session", True), {"X-User": "u7", **COOKIES}, "/carts", "u7"),
        (KeySource("X-User", "session", True), COOKIES, "/carts", "s1"),
        (KeySource("X-User", "session", True), {}, "/carts", "/carts"),
        (KeySource(), {"X-User": "u7", **COOKIES}, "/carts", None),
    ],
)
def test_the_first_of_header_cookie_path_that_is_there(source: KeySource, headers, path, key) -> None:
    """A header's value, a cookie's first, a path without its query; an empty value is a value."""
    assert source.read(headers.get, lambda: path) == key
    assert bool(source) == (source != KeySource())


@pytest.mark.parametrize("name", ["", "x user", "Cookie: a", "a;b", "a=b", "a\r\nb", 7])
def test_what_is_no_name_is_refused(name) -> None:
    """The error names the value and what to give."""
    for option in ("header", "cookie"):
        with pytest.raises(ValueError, match=f"{option}={name!r}".replace("\\", r"\\") + ": give the bare name"):
            KeySource(**{option: name})
    with pytest.raises(TypeError, match="path='/carts': give True or False"):
        KeySource(path="/carts")  # type: ignore[arg-type]
