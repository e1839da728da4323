"""The commands and their options. What a command does is imported when it runs."""

from typing import Annotated

import typer

import kubelb

__all__ = ["app"]

app = typer.Typer(
    help="kubelb: client-side load balancing for Python services on Kubernetes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"kubelb {kubelb.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that come before the command; with one callback typer keeps `demo` a command of its own."""


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=5, max=50, help="How long traffic runs.")] = 35.0,
    rate: Annotated[float, typer.Option(min=5, max=200, help="Requests a second, for each side.")] = 80.0,
    seed: Annotated[int | None, typer.Option(min=0, help="Repeat the chances of an earlier run.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text, also on a terminal.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The summary as one JSON object on stdout; all else on stderr.")
    ] = False,
) -> None:
    """Five pods on loopback, the same traffic twice: through kubelb, and through plain httpx behind a kube-proxy.

    One pod turns slow, one crashes, two join, all are restarted. Needs no Kubernetes and no configuration, ends by
    itself, and exits with 1 if any request on kubelb's side failed.
    """
    from kubelb.cli.demo.command import run_command

    raise typer.Exit(run_command(seconds=seconds, rate=rate, seed=seed, plain=plain, as_json=as_json))


@app.command()
def doctor(
    target: Annotated[str, typer.Argument(help="What a LoadBalancer would be given: SVC.NS:PORT.")],
    kubeconfig: Annotated[str | None, typer.Option(help="A kubeconfig file; else as LoadBalancer finds one.")] = None,
    context: Annotated[str | None, typer.Option(help="One of its contexts; else the current one.")] = None,
    cluster_domain: Annotated[str, typer.Option(help="The cluster's DNS domain.")] = "cluster.local",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Look for everything that kubelb needs to reach TARGET from here: a tick, or the cure, for each.

    Configuration, credentials, permission, slices, port, zone, the way to the endpoints, DNS, a mesh's sidecar. Changes
    nothing; exits with 1 if something is in the way.
    """
    from kubelb.cli.doctor.command import run_command

    raise typer.Exit(
        run_command(target, kubeconfig=kubeconfig, context=context, cluster_domain=cluster_domain, as_json=as_json)
    )


@app.command()
def endpoints(
    target: Annotated[str, typer.Argument(help="What a LoadBalancer would be given: SVC.NS:PORT.")],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on and show every change, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object; with --watch one a line.")] = False,
    kubeconfig: Annotated[str | None, typer.Option(help="A kubeconfig file; else as LoadBalancer finds one.")] = None,
    context: Annotated[str | None, typer.Option(help="One of its contexts; else the current one.")] = None,
    node: Annotated[str | None, typer.Option(help="Look as from this node; else $NODE_NAME.")] = None,
    zone: Annotated[str | None, typer.Option(help="Look as from this zone; else $KUBELB_ZONE, else learnt.")] = None,
    nameserver: Annotated[str | None, typer.Option(help="Ask this one (IP, IP:PORT); else resolv.conf's.")] = None,
    cluster_domain: Annotated[str, typer.Option(help="The cluster's DNS domain.")] = "cluster.local",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the first endpoints.")] = 5.0,
) -> None:
    """Show the endpoints of TARGET as a load balancer here would see them: which it would use, and why not the others.

    Sends nothing to them. Exits with 1 if there is none to use.
    """
    from kubelb.cli.endpoints.command import run_command

    code = run_command(
        target,
        watching=watch,
        as_json=as_json,
        kubeconfig=kubeconfig,
        context=context,
        node=node,
        zone=zone,
        nameserver=nameserver,
        cluster_domain=cluster_domain,
        timeout=timeout,
    )
    raise typer.Exit(code)
