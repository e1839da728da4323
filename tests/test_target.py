"""Targets: what parses, and that what does not is told with its text, its place and its cure."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubelb import TargetError, target
from kubelb.masking import MASK
from kubelb.target import Target, domain_of, is_namespace, parse_nameserver, parse_target

REVIEWS = "reviews.prod.svc.cluster.local"
GOOD = {
    "reviews.prod:http": Target("", "reviews", "prod", "http"),
    "reviews.prod:8080": Target("", "reviews", "prod", 8080),
    "reviews.prod": Target("", "reviews", "prod", ""),
    "kube:///reviews.prod:http": Target("kube", "reviews", "prod", "http"),
    "kube:///r-2.0team:3scale": Target("kube", "r-2", "0team", "3scale"),
    # A Service's name may begin with a digit (KEP-5311).
    "3scale.prod:http": Target("", "3scale", "prod", "http"),
    "kube:///1-test.prod:http": Target("kube", "1-test", "prod", "http"),
    "dns:///3scale.prod.svc.cluster.local:80": Target(
        "dns", "3scale", "prod", 80, name="3scale.prod.svc.cluster.local"
    ),
    "reviews.prod:_8080": Target("", "reviews", "prod", "8080"),
    "reviews.prod:_http": Target("", "reviews", "prod", "http"),
    f"dns+srv:///_8080._tcp.{REVIEWS}": Target("dns+srv", "reviews", "prod", "8080", name=f"_8080._tcp.{REVIEWS}"),
    "reviews:http": Target("", "reviews", "", "http"),
    "reviews:8080": Target("", "reviews", "", 8080),
    "reviews": Target("", "reviews"),
    "kube:///reviews:http": Target("kube", "reviews", "", "http"),
    "reviews.prod.svc:http": Target("", "reviews", "prod", "http"),
    f"{REVIEWS}:http": Target("", "reviews", "prod", "http", domain="cluster.local"),
    f"{REVIEWS}.:http": Target("", "reviews", "prod", "http", domain="cluster.local"),
    f"kube:///{REVIEWS}:_80": Target("kube", "reviews", "prod", "80", domain="cluster.local"),
    "reviews.prod.svc.Corp.Example": Target("", "reviews", "prod", domain="corp.example"),
    "http://reviews.prod:8080": Target("", "reviews", "prod", 8080),
    "http://reviews": Target("", "reviews"),
    "HTTP://Reviews.Prod/": Target("", "reviews", "prod"),
    f"https://{REVIEWS}:443/": Target("", "reviews", "prod", 443, domain="cluster.local"),
    "static:///10.0.0.1:80": Target("static", addresses=(("10.0.0.1", 80),)),
    "static:///10.0.0.1:80,[fd00::1]:81": Target("static", addresses=(("10.0.0.1", 80), ("fd00::1", 81))),
    "static:///[FD00:0::1]:81": Target("static", addresses=(("fd00::1", 81),)),
    f"dns+srv:///_http._tcp.{REVIEWS}": Target("dns+srv", "reviews", "prod", "http", name=f"_http._tcp.{REVIEWS}"),
    f"dns+srv://10.96.0.10/_http._tcp.{REVIEWS}": Target(
        "dns+srv", "reviews", "prod", "http", name=f"_http._tcp.{REVIEWS}", nameserver=("10.96.0.10", 53)
    ),
    "dns+srv://[FD00::A]:5353/_XMPP-Client._TCP.Example.ORG.": Target(
        "dns+srv", port="xmpp-client", name="_xmpp-client._tcp.example.org.", nameserver=("fd00::a", 5353)
    ),
    "dns+srv://[fd00::a]/_a._tcp.b": Target("dns+srv", port="a", name="_a._tcp.b", nameserver=("fd00::a", 53)),
    f"dns:///{REVIEWS}:8080": Target("dns", "reviews", "prod", 8080, name=REVIEWS),
    "dns:///web-0.web.prod.svc.cluster.local:80": Target("dns", port=80, name="web-0.web.prod.svc.cluster.local"),
    "dns://10.0.0.1:54/some_host:80": Target("dns", port=80, name="some_host", nameserver=("10.0.0.1", 54)),
    "dns:///reviews.prod.svc:80": Target("dns", "reviews", "prod", 80, name="reviews.prod.svc"),
}
BAD = {
    "": "no Service; give SVC.NS:PORT",
    ":http": "no Service; give SVC.NS:PORT",
    "localhost:8080": "'localhost' is this machine, not a Service; give static:///127.0.0.1:PORT",
    "10.0.0.1:80": "'10.0.0.1' is an address, not a Service; give static:///10.0.0.1:80",
    "[::1]:80": "'[::1]' is an address, not a Service; give static:///[::1]:80",
    "[::1]": "'[::1]' is an address, not a Service; give static:///IP:PORT",
    "::1": "'::1' is an address, not a Service; give static:///IP:PORT",
    "fd00::1:http": "'fd00::1' is an address, not a Service; give static:///IP:PORT",
    "api.example.com:443": "give dns:///api.example.com:443",
    f"web-0.{REVIEWS}:http": f"give dns:///web-0.{REVIEWS}:PORT",
    "reviews.prod.svc.a..b:http": "is neither SVC.NS nor SVC.NS.svc.DOMAIN",
    "reviews.prod:_": "'_' is neither a port's name nor a number",
    "reviews.prod:__8080": "'__8080' is neither a port's name nor a number",
    "http://": "no Service",
    "http://reviews.prod:8080/ratings": "leave out what follows http://reviews.prod:8080, for every request brings its",
    "http://reviews.prod?a=b": "leave out what follows http://reviews.prod,",
    "https://reviews.prod/#a": "leave out what follows https://reviews.prod,",
    "http://10.0.0.1:80/": "give static:///10.0.0.1:80",
    "http://[::1]:8080": "'[::1]' is an address, not a Service; give static:///[::1]:8080",
    "http://api.example.com": "give dns:///api.example.com:PORT",
    "http://localhost:8080": "give static:///127.0.0.1:PORT",
    "ftp://reviews.prod": "unknown scheme 'ftp'",
    "reviews.:http": "no namespace",
    "Reviews.prod:http": "'Reviews' is no Service name",
    "reviews.prod:": "neither a port's name nor a number",
    "reviews.prod:0": "no port number from 1 to 65535",
    "reviews.prod:65536": "no port number from 1 to 65535",
    "reviews.prod:HTTP": "neither a port's name nor a number",
    "reviews.prod:http/x": "unexpected '/'",
    "kube://reviews.prod:http": "write kube:/// with three slashes",
    "static:///": "has no port; give IP:PORT",
    "static:///10.0.0.1": "has no port; give IP:PORT",
    "static:///fd00::1:80": "an IPv6 address in brackets",
    "static:///example.com:80": "'example.com' is no IP address",
    "static:///10.0.0.1:80,10.0.0.1:80": "given twice",
    "static:///10.0.0.1:99999": "no port number from 1 to 65535",
    "static://10.0.0.1:80": "write static:/// with three slashes",
    "dns+srv://": "write dns+srv:/// with three slashes",
    "dns://host:80": "write dns:/// with three slashes",
    "dns+srv:///": "is no DNS name",
    "dns+srv:///reviews.prod.svc.cluster.local": "does not begin with _PORT._tcp.",
    "dns+srv:///_http._tcp": "does not begin with _PORT._tcp.",
    "dns+srv:///_http._tcp.": "does not begin with _PORT._tcp.",
    "dns+srv:///reviews.prod.svc.cluster.local:http": "SRV records bring the port; name it in front",
    "dns+srv:///_http._udp.reviews.prod": "kubelb balances what runs over TCP",
    "dns+srv:///_ht_tp._tcp.reviews.prod": "'ht_tp' is no port's name",
    "dns+srv:///_http._tcp.re views": "is no DNS name",
    "dns+srv:///_http._tcp.a..b": "is no DNS name",
    f"dns+srv:///_http._tcp.{'a' * 64}.b": "is no DNS name",
    f"dns+srv:///_http._tcp.{'a.' * 130}b": "253 at most",
    "dns+srv://kube-dns/_http._tcp.a": "'kube-dns' is no nameserver; give IP or IP:PORT",
    "dns+srv://10.0.0.1:0/_http._tcp.a": "no port number from 1 to 65535",
    "dns+srv://fd00::a/_http._tcp.a": "an IPv6 address in brackets",
    "dns+srv://[10.0.0.1]/_http._tcp.a": "is no nameserver",
    "dns:///reviews.prod": "A records hold none, so give dns:///HOST:PORT with a number",
    "dns:///reviews.prod:http": "A records know no names; give a number, or dns+srv:///_http._tcp.reviews.prod",
    "dns:///reviews.prod:": "A records know no names; give a number, or dns+srv:///_PORT._tcp.reviews.prod",
    "dns:///reviews.prod:0": "no port number from 1 to 65535",
    "dns:///10.0.0.1:80": "give static:///10.0.0.1:80",
    "dns:///[fd00::1]:80": "give static:///[fd00::1]:80",
    "dns:///[fd00::1]": "no port",
    "dns:///:80": "is no DNS name",
}


@pytest.mark.parametrize("text", GOOD)
def test_good_names(text: str) -> None:
    """Each shape gives its parts, and prints as something that parses to the same."""
    target = parse_target(text)
    assert target == GOOD[text]
    assert parse_target(str(target)) == target


@pytest.mark.parametrize("text", BAD)
def test_bad_names(text: str) -> None:
    """The error names the whole text and the cure."""
    with pytest.raises(TargetError) as caught:
        parse_target(text)
    assert repr(text) in str(caught.value)
    assert BAD[text] in str(caught.value)


@pytest.mark.parametrize("value", [None, 7, b"a.b:c"])
def test_other_types(value: object) -> None:
    """What is no string is named by its type."""
    with pytest.raises(TargetError, match=type(value).__name__):
        parse_target(value)  # type: ignore[arg-type]


@given(
    st.one_of(
        st.text(),
        st.builds(
            "{}:///{}".format, st.sampled_from(["kube", "static", "dns", "dns+srv", "dns://10.0.0.1"]), st.text()
        ),
        st.builds("{}://{}".format, st.sampled_from(["http", "https", "HTTP"]), st.text()),
        st.builds(
            "{}{}{}".format,
            st.sampled_from(["", "kube:///", "http://", "https://"]),
            st.text("ab0.-_[", max_size=12) | st.sampled_from(["a", "a.b", "a.b.svc", "a.b.svc.c"]),
            st.text(":_/?#@.a80", max_size=6),
        ),
    )
)
@example("static:///[::1%eth0]:80")
@example("a.b:²")
@example("dns:///a:²")
@example("dns://[::1%eth0]/a:80")
@example("kube:///a:b@c.d:http")
@example("kube:///@")
def test_nothing_but_target_error(text: str) -> None:
    """Whatever is given is parsed or refused, with the text; what looks like a login in it is masked."""
    try:
        target = parse_target(text)
    except TargetError as error:
        assert repr(text) in str(error) or ("@" in text and MASK in str(error))
    else:
        assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    ("text", "host", "name"),
    [
        ("reviews.prod:http", "reviews.prod", ""),
        ("reviews:http", "reviews", ""),
        (f"{REVIEWS}:http", "reviews.prod", ""),
        (f"dns+srv:///_http._tcp.{REVIEWS}.", "reviews.prod", REVIEWS),
        ("dns+srv:///_ldap._tcp.example.org", "example.org", "example.org"),
        ("dns:///example.org.:389", "example.org", "example.org"),
        ("static:///10.0.0.1:80", "", ""),
    ],
)
def test_hosts(text: str, host: str, name: str) -> None:
    """What an adapter serves, and what DNS is asked about."""
    target = parse_target(text)
    assert (target.host, target.host_name) == (host, name)


@pytest.mark.parametrize(
    "login",
    [
        *("me:hunter2@", "hunter2@", "me:hun/ter2@", "me:hunter2@x@", ":hunter2@", "me:hunter2@/", "/hunter2@"),
        *("hun#ter2@", "hun?ter2@", "me:hun#ter2@"),
    ],
)
def test_login(login: str) -> None:
    """A login in a URL is refused, and nothing of it is repeated."""
    with pytest.raises(TargetError) as caught:
        parse_target(f"https://{login}reviews.prod:80")
    assert "hun" not in str(caught.value)
    assert "a login has no place in a target; leave it out" in str(caught.value)
    assert "a target has no credentials" in str(caught.value)
    for other in (f"{login}10.0.0.1", f"{login}10.0.0.1:53"):
        with pytest.raises(TargetError, match="give IP or IP:PORT") as caught:
            parse_nameserver(other)
        assert "hun" not in str(caught.value)


def test_domains() -> None:
    """A domain in the target is the cluster's; another one beside it is refused."""
    assert domain_of(parse_target("a.b:c"), "corp.example") == "corp.example"
    assert domain_of(parse_target("a.b.svc:c"), "corp.example") == "corp.example"
    assert domain_of(parse_target("a.b.svc.corp.example:c"), "cluster.local") == "corp.example"
    assert domain_of(parse_target("a.b.svc.corp.example:c"), "Corp.Example.") == "corp.example"
    with pytest.raises(TargetError, match="name two domains; leave one out"):
        domain_of(parse_target("a.b.svc.corp.example:c"), "other.example")


LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")


@given(st.text("aZ09-_.é٣ß\n", max_size=66) | st.integers(0, 66).map("a".__mul__))
@example("-a")
@example("a-")
@example("a" * 63)
@example("a" * 64)
@example("a\n")
def test_names_are_labels(text: str) -> None:
    """By hand and by the pattern that the RFC's rule is: what is no ASCII letter or digit is in no name."""
    assert is_namespace(text) is bool(LABEL.match(text))
    assert target._is_name(text) is (
        len(text) <= 254 and all(HOST.match(label) is not None for label in text.removesuffix(".").split("."))
    )
