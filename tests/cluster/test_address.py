"""Whatever RAY_ADDRESS and cluster.address hold, it is understood or refused by the name of what the user set."""

import pytest

from ray_itl.cluster.address import find_address
from ray_itl.errors import ConfigError


@pytest.mark.parametrize(
    ("option", "variable", "text", "named"),
    [
        (None, None, "local", "cluster.address"),
        (None, "", "local", "cluster.address"),
        ("", "  ", "local", "cluster.address"),
        (None, "10.0.0.1:6379", "10.0.0.1:6379", "RAY_ADDRESS"),
        ("", " 10.0.0.1:6379\n", "10.0.0.1:6379", "RAY_ADDRESS"),
        ("auto", "10.0.0.1:6379", "10.0.0.1:6379", "RAY_ADDRESS"),
        ("auto", None, "auto", "cluster.address"),
        (None, "auto", "auto", "RAY_ADDRESS"),
        (None, "local", "local", "RAY_ADDRESS"),
        ("local", "http://127.0.0.1:8265", "local", "cluster.address"),
        ("head.ray.svc:6379", "http://127.0.0.1:8265", "head.ray.svc:6379", "cluster.address"),
        ("[::1]:6379", None, "[::1]:6379", "cluster.address"),
    ],
)
def test_an_address_is_found(option, variable, text, named):
    found = find_address(option, {} if variable is None else {"RAY_ADDRESS": variable})
    assert (found.text, found.option) == (text, named)
    assert found.is_embedded == (text == "local")
    assert found.is_found_by_ray == (text == "auto")


@pytest.mark.parametrize("named", ["RAY_ADDRESS", "cluster.address"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://127.0.0.1:8265", "Jobs API"),
        ("https://ray.example.org", "Jobs API"),
        ("ray://head:10001", "Ray Client"),
        ("tcp://head:6379", "no address"),
        ("head", "no address"),
        ("head:", "no address"),
        (":6379", "no address"),
        ("6379", "no address"),
        ("head:six", "no address"),
        ("head:0", "no address"),
        ("head:65536", "no address"),
        ("head:²", "no address"),
        ("one two:6379", "no address"),
        ("user@head:6379", "no address"),
        ("::1:6379", "no address"),
        ("[]:6379", "no address"),
    ],
)
def test_what_cannot_be_connected_to_is_refused(named, text, words):
    option, environment = (None, {"RAY_ADDRESS": text}) if named == "RAY_ADDRESS" else (text, {})
    with pytest.raises(ConfigError) as refused:
        find_address(option, environment)
    line = str(refused.value)
    assert line.startswith(f"{named}={text} is ")
    assert words in line
    assert "host:port" in line
    assert ("unset RAY_ADDRESS" in line) == (named == "RAY_ADDRESS")
    assert "\n" not in line
