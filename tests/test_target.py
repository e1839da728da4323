"""Targets: what parses, and that what does not is told with its text, its place and its cure."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubelb import TargetError
from kubelb.target import Target, parse_target

GOOD = {
    "reviews.prod:http": Target("kube", "reviews", "prod", "http"),
    "reviews.prod:8080": Target("kube", "reviews", "prod", 8080),
    "reviews.prod": Target("kube", "reviews", "prod", ""),
    "kube:///reviews.prod:http": Target("kube", "reviews", "prod", "http"),
    "kube:///r-2.0team:3scale": Target("kube", "r-2", "0team", "3scale"),
    "static:///10.0.0.1:80": Target("static", addresses=(("10.0.0.1", 80),)),
    "static:///10.0.0.1:80,[fd00::1]:81": Target("static", addresses=(("10.0.0.1", 80), ("fd00::1", 81))),
    "static:///[FD00:0::1]:81": Target("static", addresses=(("fd00::1", 81),)),
}
BAD = {
    "": "no namespace",
    "reviews": "no namespace in 'reviews'; give SVC.NS:PORT",
    "reviews.:http": "no namespace",
    "Reviews.prod:http": "'Reviews' is no Service name",
    "1reviews.prod:http": "'1reviews' is no Service name",
    "reviews.prod.svc.cluster.local:http": "leave out '.svc' and the cluster domain",
    "reviews.prod:": "neither a port's name nor a number",
    "reviews.prod:0": "no port number from 1 to 65535",
    "reviews.prod:65536": "no port number from 1 to 65535",
    "reviews.prod:HTTP": "neither a port's name nor a number",
    "reviews.prod:http/x": "unexpected '/'",
    "http://reviews.prod": "unknown scheme 'http'",
    "kube://reviews.prod:http": "write kube:/// with three slashes",
    "static:///": "has no port; give IP:PORT",
    "static:///10.0.0.1": "has no port; give IP:PORT",
    "static:///fd00::1:80": "an IPv6 address in brackets",
    "static:///example.com:80": "'example.com' is no IP address",
    "static:///10.0.0.1:80,10.0.0.1:80": "given twice",
    "static:///10.0.0.1:99999": "no port number from 1 to 65535",
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


@given(st.one_of(st.text(), st.builds("{}:///{}".format, st.sampled_from(["kube", "static"]), st.text())))
@example("static:///[::1%eth0]:80")
@example("a.b:²")
def test_nothing_but_target_error(text: str) -> None:
    """Whatever is given is parsed or refused."""
    try:
        target = parse_target(text)
    except TargetError as error:
        assert repr(text) in str(error)
    else:
        assert parse_target(str(target)) == target
