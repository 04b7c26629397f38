import pytest

from ray_itl.io.credentials import holds_credentials, masked


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA1:abcDEF@bucket/pool",
        "s3://AKIA1:abc/DEF+x@bucket/pool",
        "s3://AKIA1:123@bucket",
        "abfs://account:a2V5@container/x",
        "https://user:word@host:8443/x",
        "s3://bucket/pool?region=x&secret_key=abc",
        "abfss://container/x?sig=abc",
        "gs://bucket/x?access_token=abc",
    ],
)
def test_credentials_are_noticed(uri):
    assert holds_credentials(uri)
    text = masked(f"cannot open {uri} at all")
    assert text == f"cannot open {uri.partition(':')[0]}://... at all"


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/pool/a:b@c.parquet",
        "s3://bucket/pool?region=eu-west-1&endpoint_override=localhost:9000",
        "hdfs://user@host:8020/pool",
        "hdfs://host:8020/pool@2026",
        "gs://anonymous@bucket/pool",
        "file:///data/key=1/a.parquet",
        "/data/user:word@x",
        "name:factory@x",
    ],
)
def test_what_holds_none_is_left_alone(text):
    assert not holds_credentials(text)
    assert masked(f"cannot open {text}") == f"cannot open {text}"


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "RAY_AUTH_TOKEN", "DB_PASSWORD"])
def test_secrets_of_the_environment_are_cut(name, monkeypatch):
    monkeypatch.setenv(name, "wJalr/XUtn")
    assert masked("no host wJalr/XUtn: wJalr/XUtn") == "no host ...: ..."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAY_AUTH_TOKEN_PATH", "/root/token"),
        ("RAY_TLS_SERVER_KEY", "/root/key"),
        ("HF_TOKEN", "short"),
        ("HOME", "/root/abc"),
    ],
)
def test_paths_and_what_is_too_short_to_be_one_are_not(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    assert masked(f"cannot open {value}") == f"cannot open {value}"
