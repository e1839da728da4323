"""What answers in the API server's place is told from an API server that is not well."""

import pytest

from kubelb.discovery.kube.diagnose import Code, refused
from kubelb.discovery.kube.pages import _page
from kubelb.discovery.kube.reflector import Trouble
from kubelb.discovery.kube.steps import Reply
from kubelb.discovery.kube.stranger import page

LOGIN = b"\n <!DOCTYPE html><html><head><title>Sign in\x1b[31m</title></head></html>"


def reply(status, body=b"", **more):
    return Reply(status, body, server="https://10.96.0.1:443", origin="~/.kube/config", **more)


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (reply(302), Code.REJECTED, "redirected (HTTP 302)"),
        (reply(307, LOGIN), Code.REJECTED, "redirected (HTTP 307)"),
        (reply(502, b"<html><body>Bad gateway</body></html>"), Code.SERVER, "HTTP 502: a web page"),
        (reply(404, LOGIN), Code.REJECTED, "HTTP 404: a web page, 'Sign in'"),
    ],
)
def test_a_stranger_is_named(answer, code, words):
    """The kind: a login page or a load balancer passes for an API server that is ill, or for an old one."""
    trouble = refused(answer, "list", "prod")
    assert trouble.code is code
    assert words in trouble.reason
    assert "no API server but something in between" in trouble.cure
    assert "10.96.0.1:443 (from ~/.kube/config)" in trouble.cure


def test_a_page_in_the_place_of_a_list():
    """200 and a login page: not "invalid character (byte 0)"."""
    with pytest.raises(Trouble) as caught:
        _page(reply(200, LOGIN), "prod")
    assert (
        caught.value.reason == "a list of EndpointSlices was asked for, and something else came: a web page, 'Sign in'"
    )
    assert "something in between" in caught.value.cure


def test_what_is_no_stranger():
    """A server's own Status keeps its words, and 429 its meaning whatever comes along."""
    assert refused(reply(503, b'{"kind":"Status","message":"etcd"}'), "list", "prod").reason.endswith("HTTP 503: etcd")
    assert refused(reply(429, LOGIN), "list", "prod").code is Code.THROTTLED
    assert page(b'{"html": "<html>"}') == page(b"") == page(b"bad gateway") == ""
