# ruff: noqa: E402  # what is patched has to be patched first
"""gevent, then forks: greenlets survive one, so the parent's threads go on in the child unless they are told to end.

    python gevent_fork_program.py KUBECONFIG

Each line of its input forks a child, which makes a call and then lives until its input ends.
"""

from gevent import monkey

monkey.patch_all()

import os
import sys
import warnings

import gevent
import requests

import kubelb
from kubelb.adapters.requests import mount

warnings.simplefilter("ignore", DeprecationWarning)
lb = kubelb.LoadBalancer("web.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig=sys.argv[1]), ready_timeout=45)
session = requests.Session()
mount(session, lb)


def call() -> int:
    return session.get("http://web.prod/x", timeout=45).status_code


def told() -> None:
    """Wait for a line of the input; a plain read would hold up every greenlet, the watch that is about to begin too."""
    while gevent.os.tp_read(0, 1) != b"\n":
        pass


def threads() -> int:
    """Greenlets that are threads of kubelb's."""
    import gc

    return sum(
        isinstance(each, gevent.Greenlet) and "kubelb-" in repr(each) and not each.dead for each in gc.get_objects()
    )


call()
print("used", flush=True)
reading, writing = os.pipe()
children = []
for _ in range(3):
    told()
    if (pid := os.fork()) == 0:
        os.close(writing)
        status = call()
        with gevent.Timeout(45, False):
            while threads() > 3 or len(lb.endpoints()) != 5:  # its timer, its runner, its watch
                gevent.sleep(0.05)
        print("child", status, len(lb.endpoints()), threads() <= 3, flush=True)
        gevent.os.tp_read(reading, 1)  # the end of the pipe: the parent has let go
        os._exit(0)
    children.append(pid)
    print("forked", flush=True)
told()
os.close(writing)
for pid in children:
    os.waitpid(pid, 0)
with gevent.Timeout(45, False):
    while len(lb.endpoints()) != 5:
        gevent.sleep(0.05)
print("parent", call(), len(lb.endpoints()), flush=True)
lb.close()
