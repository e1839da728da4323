"""Names of /etc/hosts: what every other program on the machine finds, ``dns://`` finds, too."""

import os

import pytest

from kubelb.discovery.dns.hosts import LOOPBACK, HostsFile, listed
from kubelb.discovery.dns.wording import lies, why_empty
from kubelb.target import parse_target

from .build import authorities as shown
from .dns_by_hand import a, authorities, lookup, play
from .feeding import DnsReader

TEXT = """\
# Kubernetes-managed hosts file.
127.0.0.1 localhost
::1 localhost ip6-localhost # and so on
10.0.0.7\tDB.internal  db
10.0.0.8 db
fe80::1%lo0 db
not-an-address db
0.0.0.0 ads.example half.example
10.0.0.9 half.example
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "hosts"
    path.write_text(TEXT)
    return path


def test_what_a_file_says(file):
    """Every line of a name counts, in any case; what makes no sense costs its own line."""
    hosts = HostsFile(str(file)).hosts()
    assert hosts["db"] == ("10.0.0.7", "10.0.0.8")
    assert hosts["db.internal"] == ("10.0.0.7",)
    assert hosts["localhost"] == ("127.0.0.1", "::1")
    assert "and" not in hosts


def test_localhost_needs_no_line(tmp_path):
    """RFC 6761; nor any file."""
    hosts = HostsFile(str(tmp_path / "none")).hosts()
    assert listed(hosts, "localhost") == listed(hosts, "web.localhost") == LOOPBACK
    assert listed(hosts, "notlocalhost") == ()


def test_it_is_read_again_when_it_has_changed(file):
    """And no more often."""
    reader = HostsFile(str(file))
    first = reader.hosts()
    assert reader.hosts() is first
    file.write_text("10.0.0.1 other\n")
    os.utime(file, ns=(1, 1))
    assert dict(reader.hosts()) == {"other": ("10.0.0.1",)}
    file.unlink()
    assert dict(reader.hosts()) == {}


def test_files_come_before_dns(file):
    """No question is asked for a name that is there; neither for the family that its lines do not have."""
    hosts = HostsFile(str(file)).hosts()
    finding, asked = play(lookup("dns:///db:80"), {"A db.": a("192.0.2.1")}, hosts=hosts)
    assert (authorities(finding), finding.endpoints["IPv6"], asked) == (["10.0.0.7:80", "10.0.0.8:80"], (), [])


@pytest.mark.parametrize("target", ["dns:///db.:80", "dns://127.0.0.1/db:80"])
def test_who_asks_for_dns_gets_dns(file, target):
    """A dot at the end says that the name is DNS's, and a nameserver that was named is asked."""
    hosts = HostsFile(str(file)).hosts()
    finding, _ = play(lookup(target), {"A db.": a("192.0.2.1")}, hosts=hosts)
    assert authorities(finding) == ["192.0.2.1:80"]


def test_addresses_of_nobody(file):
    """A line that blocks a name is told with the file, the address and the cure; beside others it is left out."""
    hosts = HostsFile(str(file)).hosts()
    target = "dns:///ads.example:80"
    finding, _ = play(lookup(target), {}, hosts=hosts)
    reason, cure = lies(parse_target(target), finding)
    assert reason == "/etc/hosts gives ads.example only addresses that are not dialled: 0.0.0.0 (unspecified)"
    assert "write ads.example. to ask DNS for it" in cure
    assert why_empty(parse_target(target), finding) == f"{reason}; {cure}"
    finding, _ = play(lookup("dns:///half.example:80"), {}, hosts=hosts)
    assert authorities(finding) == ["10.0.0.9:80"]
    assert finding.refused == ("0.0.0.0",)
    assert "0.0.0.0 (unspecified)" in finding.warnings[0][1]


def test_one_family_alone(file):
    """A restriction holds here, too, and is told."""
    hosts = HostsFile(str(file)).hosts()
    finding, _ = play(lookup("dns:///localhost:80", families=("IPv6",)), {}, hosts=hosts)
    assert (authorities(finding, "IPv6"), "IPv4" in finding.absent) == (["[::1]:80"], False)
    finding, _ = play(lookup("dns:///db:80", families=("IPv6",)), {}, hosts=hosts)
    assert finding.absent == "/etc/hosts has no IPv6 address for it"


def test_without_any_nameserver(made, file, tmp_path):
    """A machine that has no resolv.conf knows the names of its hosts file; a change is seen."""
    feed = DnsReader(made, "dns:///db:8080", resolv_conf=str(tmp_path / "none"), hosts=str(file))
    assert shown(feed.ips("10.0.0.7", "10.0.0.8").endpoints) == ["10.0.0.7:8080", "10.0.0.8:8080"]
    file.write_text("10.0.0.77 db\n")
    feed.source.resync_now()
    feed.ips("10.0.0.77")
    assert feed.events == []
