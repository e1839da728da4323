"""`kubelb[kubernetes]`: a kubeconfig in YAML, and one with an auth-provider, which the kubernetes package reads."""

import base64
import json
import tempfile
from pathlib import Path

import using
import yaml

import kubelb
from kubelb.discovery.kube.kubeconfig import Kubeconfig
from kubelb.testing import LocalCluster

PARTS = ({"alg": "none"}, {"exp": 4_000_000_000}, {})
TOKEN = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in PARTS)
OIDC = {"auth-provider": {"name": "oidc", "config": {"id-token": TOKEN, "idp-issuer-url": "http://127.0.0.1:1"}}}

with LocalCluster() as cluster, tempfile.TemporaryDirectory() as folder:
    cluster.service("reviews.prod:http", replicas=2)
    config = yaml.safe_load(Path(cluster.kubeconfig).read_text(encoding="utf-8"))
    in_yaml, with_oidc = Path(folder) / "config", Path(folder) / "oidc"
    in_yaml.write_text(yaml.safe_dump(config), encoding="utf-8")
    with kubelb.LoadBalancer("reviews.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig=str(in_yaml))) as lb:
        lb.wait_ready(10)
        assert len(lb.endpoints()) == 2
    config["users"][0]["user"] = OIDC
    with_oidc.write_text(yaml.safe_dump(config), encoding="utf-8")
    assert Kubeconfig(str(with_oidc)).open().credentials.header() == (f"Bearer {TOKEN}", "")
using.done("kubernetes", "pyyaml")
