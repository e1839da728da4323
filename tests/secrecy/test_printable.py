"""The two places where text is made fit to be printed, by many texts: `kubelb.printable` and `kubelb.masking`."""

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kubelb
from kubelb import masking
from kubelb.errors import LoadBalancerError, NoEndpoints, TargetError
from kubelb.masking import MASK, Hidden, is_content, masked, remember, safe_url, without_userinfo
from kubelb.model import Health, Request, Snapshot
from kubelb.printable import LIMIT, printable, shown

from .evidence import CONTROLS, FORGED, PASSWORD, SECRET

JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{PASSWORD}\n-----END RSA PRIVATE KEY-----"
SHAPES = [
    f"https://admin:{PASSWORD}@10.0.0.1:6443/api",
    f"https://{PASSWORD}@10.0.0.1",
    f"http://u:{PASSWORD}@[::bad",
    f"http://u:a@b/{PASSWORD}@proxy:3128",
    f"socks5://u:{PASSWORD}@127.0.0.1:1",
    f"admin:{PASSWORD}@127.0.0.1:1",
    f"Authorization: Bearer {PASSWORD}",
    f"authorization: {PASSWORD}",
    f"{{'Proxy-Authorization': 'Basic {PASSWORD}'}}",
    f"Bearer {PASSWORD}",
    f"bearer {PASSWORD}",
    "Basic aHVudGVyMi1wdw==",
    JWT,
    PEM,
    f"token: {PASSWORD}",
    f'{{"token":"{PASSWORD}"}}',
    f'{{\\"token\\":\\"{PASSWORD}\\"}}',
    f"password={PASSWORD}&user=ada",
    f"/a?access_token={PASSWORD}",
    f"X-Api-Key: {PASSWORD}",
    f"api_key={PASSWORD}",
    f"client-key-data: {PASSWORD}",
    f"client_secret={PASSWORD}",
    f"Cookie: a=1; session={PASSWORD}",
    f"Set-Cookie: {PASSWORD}; Path=/",
]
PLAIN = [
    "connecting to 10.96.0.1:443: connection refused",
    "check that the token is for this cluster and not expired, and that its ServiceAccount still exists",
    "/var/run/secrets/kubernetes.io/serviceaccount/token cannot be read: Permission denied",
    "/var/run/secrets/kubernetes.io/serviceaccount/token: Permission denied",
    "[::1]:8080 is no address; the ports there are, as name:number: http:8080, unnamed 9090",
    "a kubeconfig can only be read with the 'kubernetes' package: pip install 'kubelb[kubernetes]'",
    "basic authentication is not what a bearer of tokens needs",
    "kube:///reviews.prod:http: no answer within 2 s",
    "key=None: give text or bytes",
]


@pytest.mark.parametrize("text", SHAPES)
def test_every_shape_is_hidden(text: str) -> None:
    """Alone, within words, and with an ESC sequence or a line feed in its way."""
    for around in (text, f"denied: {text} (try again)", f"x{FORGED} {text}{FORGED}", f"\x1b[1m{text}\x1b[0m"):
        made = printable(around)
        for secret in (PASSWORD, "aHVudGVyMi1wdw", JWT[40:60]):
            assert secret not in made, made
    assert MASK in printable(f"denied: {text} (try again)")
    assert printable(f"{text} the end").endswith("the end") or "Cookie" in text


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text: str) -> None:
    """A message that is masked to nothing helps nobody."""
    assert printable(text) == text


PARTS = st.sampled_from([*SHAPES, *PLAIN, FORGED, SECRET, "\x1b[", "\x1b]", "é", " ", "\n", "x" * 300])


@given(st.lists(PARTS, max_size=12))
def test_nothing_planted_comes_through(parts: list[str]) -> None:
    """In any order: one line, no control character, no secret, no more than the limit; twice is once."""
    remember(f"Bearer {SECRET}")
    made = printable(" ".join(parts), 500)
    assert made.isprintable()
    assert len(made) <= 500
    assert SECRET[:16] not in made
    assert PASSWORD not in made
    assert printable(made, 500) == made


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """Whatever it holds, and what is printable already stays, but for secrets."""
    made = printable(text)
    assert made.isprintable()
    assert not CONTROLS.search(made)
    assert printable(made) == made
    if text.isprintable() and masked(text) == text:
        assert made == text


def test_a_remembered_secret_is_known_in_pieces_too() -> None:
    """Servers cut their messages; what is short is known as a whole, and a word is no secret."""
    remember(f"Bearer {SECRET}")
    assert printable(f"your token ({SECRET[:22]}) is not known") == f"your token ({MASK} is not known"
    remember("abc")
    assert printable("abc") == "abc"
    for number in range(masking.KEPT + 5):
        remember(f"secret-number-{number:04d}-xyz")
    assert len(masking._known) <= masking.KEPT
    remember(SECRET)
    assert SECRET not in printable(SECRET)


def test_the_beginning_and_the_end_of_a_long_text_are_kept() -> None:
    """The cure stands at the end of a message."""
    made = printable("a" * 5000 + " give SVC.NS:PORT")
    assert len(made) <= LIMIT
    assert made.startswith("aaa")
    assert made.endswith("give SVC.NS:PORT")


def test_options_are_shown_where_they_can_hold_no_secret() -> None:
    """Numbers and short texts; of everything else the kind."""
    assert [shown(value) for value in (None, True, 5, "eu-1")] == ["None", "True", "5", "'eu-1'"]
    for value in (["x" + SECRET], {"token": SECRET}, SECRET.encode(), f"a\n{SECRET}", PEM, "x" * 300 + SECRET):
        assert SECRET not in shown(value)
    assert (shown([1]), shown({}), shown(object())) == ("a list", "a dict", "an object")
    assert shown(f"http://u:{PASSWORD}@h") == f"'http://{MASK}@h'"


def test_urls() -> None:
    """Without credentials, query and fragment; what stood before the host is remembered."""
    assert safe_url(f"http://u:{PASSWORD}@h:80/a?t={PASSWORD}#{PASSWORD}") == "http://h:80/a"
    assert PASSWORD not in safe_url(f"http://u:{PASSWORD}@[::bad/?t={PASSWORD}")
    assert without_userinfo("https://10.0.0.1:443/a@b") == "https://10.0.0.1:443/a@b"
    assert without_userinfo("https://u:other-pw@10.0.0.1:443") == "https://10.0.0.1:443"
    assert "other-pw" not in printable("you said other-pw")
    assert is_content("a: 1\nb: 2")
    assert not is_content("/home/ada/.kube/config")


@pytest.mark.parametrize("sign", ["/", "?", "#", "://", "@"])
def test_a_login_with_a_sign_that_is_not_encoded(sign: str) -> None:
    """The kind: the second half of a password is taken for a path, a query or a fragment, the first for a host."""
    for password in (f"top{sign}hunter2", f"9{sign}hunter2{sign}x", f"{sign}hunter2", f"12345678{sign}hunter2"):
        for scheme in ("https://", ""):
            for host in ("127.0.0.1:1", "[::1]:1", "api.test", "api.test/base"):
                left = without_userinfo(f"{scheme}me:{password}@{host}")
                if password[:2] == "9" + sign[0] and sign != "@":  # me:9 may be a host and its port
                    continue
                assert left == f"{scheme}{host}"


def test_no_word_of_ours_is_hidden() -> None:
    """The kind: a sentence with "password: which" is cut, as if the next word were one."""
    root, shapes, hidden = Path(kubelb.__file__).parent, {"masking.py"}, []
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        parts |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "it" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
                text = node.value
            else:
                continue
            if masked(text) != text and path.name not in shapes:
                hidden.append(f"{path}:{node.lineno}: {masked(text)}")
    assert not hidden


def test_values_that_hold_text() -> None:
    """Errors, health, snapshots: clean when they are made, so that nothing that shows them has to think of it."""
    remember(SECRET)
    bad = f"denied {SECRET}{FORGED} end"
    error = NoEndpoints(bad, bad, {"known": 1})
    assert (error.service, error.reason) == (printable(bad), printable(bad))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    for text in (str(error), repr(error), str(TargetError(bad)), repr(Health("x", error=bad, cure=bad, fallback=bad))):
        assert SECRET not in text
        assert text.isprintable()
    assert Snapshot(1, problem=bad, ports=(bad,)).problem == printable(bad)
    assert Snapshot(1, ports=(bad,)).ports == (printable(bad),)
    assert isinstance(error, LoadBalancerError)
    assert SECRET not in repr(Request(key=SECRET))
    assert (Hidden(SECRET) + "", repr({"a": Hidden(SECRET)})) == (SECRET, f"{{'a': '{MASK}'}}")


def test_nothing_is_compiled_for_texts_without_secrets() -> None:
    """The kind: every process compiles patterns that few texts need, milliseconds before its first request."""
    code = (
        "import re, sys; make = re._compile; compiled = []\n"
        "def seen(*given): compiled.append(sys._getframe(2).f_globals['__name__']); return make(*given)\n"
        "re._compile = seen\n"
        "import kubelb.printable as printable, kubelb.masking as masking\n"
        "masking.remember('not-so-secret'); masking.without_userinfo('https://10.0.0.1'); masking.is_content('/a')\n"
        "printable.printable('reviews.prod:http'); printable.shown('eu-1')\n"
        "print([name for name in compiled if name in ('kubelb.masking', 'kubelb.printable')])\n"
        "masking.masked('a@b:c'); print('kubelb.masking' in compiled)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "True"]


@pytest.mark.parametrize("url", ["https://10.0.0.1", "  https://a/b?c#d", "\u2003a:1", ""])
def test_a_url_without_a_login_is_as_it_was(url: str) -> None:
    """But for blanks in front of it, of whatever kind."""
    assert without_userinfo(url) == url.strip()
