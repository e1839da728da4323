"""Options of discovery are one value, in which each is stated once; their old place names the new one."""

import inspect
import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

import kubelb
from kubelb import DiscoveryOptions, LoadBalancer, TargetError

TARGET = "reviews.prod:http"
SOURCE = Path(kubelb.__file__).parent


@pytest.mark.parametrize("name", [field.name for field in fields(DiscoveryOptions)])
def test_the_old_keyword_names_the_new_spelling(name: str) -> None:
    """For each, whatever its value: nothing is taken in silence, and no value is repeated."""
    spelling = rf"give LoadBalancer\(..., discovery=kubelb.DiscoveryOptions\({name}=...\)\)"
    options: dict[str, Any] = {name: "secret"}
    with pytest.raises(TypeError, match=spelling) as error:
        LoadBalancer(TARGET, **options)
    assert "secret" not in str(error.value)


def test_several_old_keywords_are_named_together() -> None:
    """One error, one edit; a keyword that never was is Python's own error."""
    options: dict[str, Any] = {"zone": "a", "kubeconfig": "b", "ready_timeout": 1.0}
    with pytest.raises(TypeError, match=r"DiscoveryOptions\(kubeconfig=..., zone=...\)\)$"):
        LoadBalancer(TARGET, **options)
    with pytest.raises(TypeError, match="unexpected keyword argument 'zones'"):
        LoadBalancer(TARGET, zones=[])  # type: ignore[call-arg]


def test_a_load_balancer_has_at_most_twelve_options() -> None:
    """By keyword alone, each in the docstring; the signature that tools show is the true one."""
    target, *options = list(inspect.signature(LoadBalancer).parameters.values())
    assert target.name == "target"
    assert len(options) <= 12
    assert {option.kind for option in options} == {inspect.Parameter.KEYWORD_ONLY}
    for option in options:
        assert f"`{option.name}`" in str(LoadBalancer.__doc__)


def test_each_option_of_discovery_is_stated_once() -> None:
    """With its unit or its values, and its default, in the docstring below it; and nowhere else in a signature."""
    text = (SOURCE / "discovery" / "options.py").read_text()
    body = text[text.index("class DiscoveryOptions") : text.index("def __post_init__")]
    for field in fields(DiscoveryOptions):
        stated = re.findall(rf'^    {field.name}: .*\n    """(.*?)"""', body, re.MULTILINE | re.DOTALL)
        assert len(stated) == 1, field.name
        assert field.name not in inspect.signature(LoadBalancer).parameters
    for name, unit in {"max_stale": "Seconds", "fallback_port": "1 to 65535", "nameserver": "``IP:PORT``"}.items():
        assert unit.strip("`") in body[body.index(f"    {name}:") :][:400].replace('"', ""), name


def test_the_value_is_frozen_and_compares() -> None:
    """So a configuration can keep it and many can share it; a list, or what runs once, is kept as a tuple."""
    options = DiscoveryOptions(zone="a", seed=iter(["10.0.0.1:80"]), families=["ipv4"])
    assert options == DiscoveryOptions(zone="a", seed=("10.0.0.1:80",), families=("IPv4",))
    assert hash(options) == hash(DiscoveryOptions(zone="a", seed=["10.0.0.1:80"], families=["IPv4"]))
    assert [LoadBalancer(TARGET, discovery=options).endpoints()[0].address for _ in range(2)] == ["10.0.0.1:80"] * 2
    with pytest.raises(FrozenInstanceError):
        options.zone = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"zone": 1}, TypeError, "zone=1: give a string, or None"),
        ({"strict_hints": "false"}, TypeError, "strict_hints='false': give True or False"),
        ({"traffic_policy": "local"}, ValueError, "traffic_policy='local': give 'Cluster' or 'Local'"),
        ({"max_stale": 0}, ValueError, "max_stale=0: give a positive number of seconds, or None"),
        ({"fallback_port": True}, ValueError, "fallback_port=True: give a number from 1 to 65535, or None"),
        ({"nameserver": "dns"}, TargetError, "'dns' is no nameserver"),
        ({"cluster_domain": "a b"}, TargetError, "cluster_domain='a b'"),
        ({"seed": "10.0.0.1:80"}, TargetError, "seed='10.0.0.1:80': give a list"),
        ({"seed": []}, TargetError, "give 'ip:port' texts, one at least, or None"),
        ({"families": "IPv4"}, TypeError, "families='IPv4': give"),
    ],
)
def test_what_is_no_option_is_refused_where_it_is_stated(options: Any, kind: type[Exception], said: str) -> None:
    """When the value is made, before any load balancer."""
    with pytest.raises(kind, match=re.escape(said)):
        DiscoveryOptions(**options)
