"""A process that forks after it has used a channel: `fork_program.py ADDRESS`. Run by test_channel.py."""

import os
import sys
import time
import traceback
import warnings

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.service import service_of


def main(address: str) -> int:
    lb = kubelb.LoadBalancer(f"static:///{address}")
    channel = balanced.insecure_channel(lb)
    echo = channel.unary_unary("/test.Echo/UU")
    assert echo(b"before", timeout=20).startswith(b"before@")
    time.sleep(0.5)  # gRPC leaves a child unprepared where another thread is inside gRPC at the fork
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # CPython's own, about forking with threads
        child = os.fork()
    if not child:
        code = 1
        try:
            assert sum(state.in_flight for state in service_of(lb).balancer.states()) == 0
            assert echo(b"child", timeout=20).startswith(b"child@")
            assert echo.future(b"child").result(timeout=20).startswith(b"child@")
            assert len(list(channel.unary_stream("/test.Echo/US")(b"child", timeout=20))) == 3
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    assert echo(b"parent", timeout=20).startswith(b"parent@")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert echo(b"parent", timeout=20).startswith(b"parent@")
    channel.close()
    lb.close()
    print("both are well")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
