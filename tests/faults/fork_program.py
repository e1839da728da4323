"""A process that forks after it has made a call: `python -m tests.faults.fork_program CLIENT ADDRESS,...`.

The child makes a call of its own, and the parent goes on; what either says is on its standard error.
"""

import os
import signal
import sys
import time
import traceback
import warnings

from tests.faults.asking import Allowed, Ask, How
from tests.faults.scene import CLIENTS, InOrder

import kubelb


def main(name: str, addresses: str) -> int:
    signal.alarm(40)  # neither hangs for ever
    kind = next(kind for kind in CLIENTS if kind.name == name)
    lb = kubelb.LoadBalancer(f"static:///{addresses}", policy=InOrder(addresses.split(",")))
    client = kind(lb)
    client.connected(addresses.count(",") + 1)
    assert client.ask(Ask()).how is How.ANSWERED
    if "grpc" in name:
        time.sleep(0.5)  # gRPC leaves a child unprepared where another thread is inside gRPC at the fork
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # CPython's own, about forking with threads
        child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(20)
            assert sum(view.in_flight for view in lb.endpoints()) == 0
            end = client.ask_in_child(Ask(Allowed.NO))
            assert end.how is How.ANSWERED, end
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended == 0, f"the child ended with {ended}"
    end = client.ask(Ask(Allowed.NO))
    assert end.how is How.ANSWERED, end
    client.close()
    lb.close()
    print("both are well")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
