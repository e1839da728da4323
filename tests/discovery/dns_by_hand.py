"""A look-up driven by hand: the test is the nameserver, the clock and the dice."""

from kubelb.discovery.dns.lookup import Lookup
from kubelb.discovery.dns.steps import CONFIG, Answer, Ask, Config, Failure, Srv
from kubelb.target import parse_target

HOST = "web.prod.svc.cluster.local."
NAME = f"_http._tcp.{HOST}"
SRV = f"dns+srv:///{NAME[:-1]}"
A = f"dns:///{HOST[:-1]}:8080"
HERE = Config((("127.0.0.1", 53),))
GONE = Answer(exists=False, ttl=5.0)
EMPTY = Answer(ttl=5.0)
FAILED = Failure("server-error", "SERVFAIL")


def lookup(target=SRV, *, fallback_port=None):
    return Lookup(parse_target(target), cluster_domain="cluster.local", fallback_port=fallback_port)


def play(looked, answers, config=HERE):
    """Run one look-up against a dict from "KIND name." to answers; returns the finding and the batches asked.

    An unknown name is NXDOMAIN.
    """
    steps = looked.run()
    asked = []
    try:
        step = next(steps)
        while True:
            if step is CONFIG:
                step = steps.send(config)
                continue
            assert isinstance(step, Ask)
            asked.append([str(question) for question in step.questions])
            step = steps.send(tuple(answers.get(str(question), GONE) for question in step.questions))
    except StopIteration as end:
        return end.value, asked


def srv(*labels, also=True, ttl=5.0, **more):
    """SRV records to pods of these labels, whose addresses come along: a is 10.0.0.1, b 10.0.0.2."""
    records = tuple(Srv(0, 50, 8080, f"{label}.{HOST}") for label in labels)
    return Answer(records, ttl=ttl, also={f"{label}.{HOST}": (ip(label),) for label in labels} if also else {}, **more)


def ip(label):
    return f"10.0.0.{ord(label) - 96}"


def a(*addresses, ttl=5.0, **more):
    return Answer(addresses=addresses, ttl=ttl, **more)


def authorities(finding, family="IPv4"):
    return [endpoint.authority for endpoint in finding.endpoints[family]]
