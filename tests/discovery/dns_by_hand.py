"""A look-up driven by hand: the test is the nameserver, the clock and the dice."""

from kubelb.discovery.dns.finding import FAMILIES, Finding
from kubelb.discovery.dns.lookup import Lookup
from kubelb.discovery.dns.steps import CONFIG, HOSTS, Answer, Ask, Config, Failure, Rest, Srv
from kubelb.target import parse_target

HOST = "web.prod.svc.cluster.local."
NAME = f"_http._tcp.{HOST}"
SRV = f"dns+srv:///{NAME[:-1]}"
A = f"dns:///{HOST[:-1]}:8080"
HERE = Config((("127.0.0.1", 53),))
GONE = Answer(exists=False, ttl=5.0)
EMPTY = Answer(ttl=5.0)
FAILED = Failure("server-error", "SERVFAIL")


def lookup(target=SRV, *, fallback_port=None, families=FAMILIES, clock=lambda: 0.0, **options):
    return Lookup(
        parse_target(target),
        cluster_domain="cluster.local",
        fallback_port=fallback_port,
        families=families,
        clock=clock,
        **options,
    )


def play(looked, answers, config=HERE, hosts=None, late=(), told=None):
    """Run one look-up against a dict from "KIND name." to answers; returns the finding and the batches asked.

    An unknown name is NXDOMAIN. `late` are questions that are answered after the others, where that is allowed, and
    `told` gets what the look-up tells meanwhile.
    """
    steps = looked.run()
    asked = []
    reply = None
    try:
        while True:
            step = steps.send(reply)
            reply = None
            if step is CONFIG:
                reply = config
            elif step is HOSTS:
                reply = hosts or {}
            elif isinstance(step, Finding):
                told.append(step)
            elif isinstance(step, Rest):
                told.append(step.seconds)
                reply = tuple(answers.get(str(question), GONE) for question in step.questions)
            else:
                assert isinstance(step, Ask)
                asked.append([str(question) for question in step.questions])
                replies = [answers.get(text, GONE) for text in asked[-1]]
                may = step.enough and any(
                    step.enough(question, each)
                    for question, each in zip(step.questions, replies, strict=True)
                    if isinstance(each, Answer) and str(question) not in late
                )
                reply = tuple(
                    None if may and text in late else each for text, each in zip(asked[-1], replies, strict=True)
                )
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
