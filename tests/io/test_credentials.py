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
