"""``kubelb doctor`` against the real API server: the least that kubelb needs is enough for it, and less is told."""

from __future__ import annotations

from pathlib import Path

from kubelb.cli.doctor.cluster import Known, examine
from kubelb.cli.doctor.finding import Finding, Mark
from kubelb.discovery.kube.access import Access as Way
from kubelb.discovery.kube.access import Given
from kubelb.discovery.kube.choose import View
from kubelb.discovery.kube.token import TokenFile
from kubelb.target import parse_target

from .access import Access, wait_may
from .cluster import Cluster
from .controlplane import ControlPlane

ONE, TWO = "10.244.0.1", "10.244.0.2"


def test_ticks_and_cures(
    control_plane: ControlPlane, access: Access, cluster: Cluster, ns: str, tmp_path: Path
) -> None:
    """A ServiceAccount with the documented Role gets ticks; without it, the Role; with a wrong token, that."""
    cluster.service(ns, "web", {"http": 8080})
    for name, ip, node in (("web-1", ONE, "node-a"), ("web-2", TWO, "node-b")):
        cluster.pod(ns, name, ip, {"app": "web"}, node)
    cluster.wait_ready(ns, "web", ONE, TWO)
    token = tmp_path / "token"
    token.write_text(access.token(ns, access.service_account(ns, "caller")))

    def doctor(target: str, view: View = View()) -> dict[str, Finding]:  # noqa: B008
        way = Way(control_plane.url, "the test", TokenFile(str(token)), ca_file=str(control_plane.ca_file))
        found = [each for each in examine(parse_target(target), Given(way), view) if not isinstance(each, Known)]
        return {each.what: each for each in found}

    found = doctor(f"web.{ns}:http")
    assert found["credentials"].mark is Mark.GOOD
    assert found["permission"].mark is Mark.BAD
    assert f"a Role in namespace {ns}" in found["permission"].cure
    assert "slices" not in found

    access.bind(ns, access.role(ns, "reads-slices"), "caller")
    view = control_plane.client(token.read_text())
    wait_may(view, ns, "list", "watch")
    view.close()
    found = doctor(f"web.{ns}:http", View(node="node-a"))
    assert {each.what for each in found.values() if each.mark is not Mark.GOOD} == set()
    assert found["zone"].text == "zone-a, node node-a"
    assert found["port"].text == "http is 8080 on the endpoints"
    assert found["endpoints"].text == "2 to be used"
    assert doctor(f"web.{ns}:8081")["port"].mark is Mark.BAD
    assert "there is no Service nobody" in doctor(f"nobody.{ns}:http")["slices"].text

    token.write_text("not-a-token")
    found = doctor(f"web.{ns}:http")
    assert found["credentials"].mark is Mark.BAD
    assert "not-a-token" not in str(found)
