"""A process that is patched after kubelb was used in it.

    python late_program.py gevent|eventlet KUBECONFIG ADDRESSES

It prints, for each way of using a load balancer whose threads run, what that raises; then whether one without threads
still serves.
"""

import sys
import warnings

import httpx
import requests

import kubelb
from kubelb.adapters.httpx import Transport
from kubelb.adapters.requests import mount

warnings.simplefilter("ignore")
_, kind, kubeconfig, addresses = sys.argv
static = kubelb.LoadBalancer(f"static:///{addresses}")


def clients(lb):
    session = requests.Session()
    mount(session, lb, hosts=["web.prod"])
    client = httpx.Client(mounts={"http://web.prod": Transport(lb, hosts=["web.prod"])}, timeout=30)
    return {
        "requests": lambda: session.get("http://web.prod/x", timeout=30).status_code,
        "httpx": lambda: client.get("http://web.prod/x").status_code,
        "call": lambda: lb.call(lambda attempt: 200),
    }


def said(job):
    try:
        return job()
    except Exception as error:
        return f"{type(error).__name__} patch first" if "patch first" in str(error) else repr(error)


alone = clients(static)
print("static", [said(job) for job in alone.values()])
if kubeconfig:
    lb = kubelb.LoadBalancer(
        "web.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig=kubeconfig), ready_timeout=30
    )
    used = clients(lb)
    print("used", [said(job) for job in used.values()])
if kind == "gevent":
    from gevent import monkey

    monkey.patch_all()
else:
    import eventlet

    eventlet.monkey_patch()
if kubeconfig:
    print("used, patched", [said(job) for job in used.values()])
    print("health", lb.health().cure)
else:
    print("static, patched", [said(job) for job in alone.values()])
