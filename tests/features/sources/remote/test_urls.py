"""What of a URL is shown, and how URLs are taken apart."""

from pathlib import Path

import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import open_source, source_name
from frostline.features.sources.remote.urls import (
    below,
    check_relative,
    check_scheme,
    folder_of,
    is_url,
    key_of,
    shown,
    suffix_of,
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:pass-word@host:8080/a.csv", "https://host:8080/a.csv"),
        ("https://h/a.png?X-Amz-Signature=abc&X-Amz-Credential=k&size=3#top", "https://h/a.png?size=3"),
        ("https://h/a.png?sv=2020&sig=abc%3D&se=2030", "https://h/a.png"),
        ("https://h/a.png?GoogleAccessId=me&Expires=1&Signature=zz", "https://h/a.png"),
        ("https://h/i?id=12&api_key=abc&Access_Token=x&auth-token=y", "https://h/i?id=12"),
        ("https://h/i?X%2DAmz%2DSignature=abc&token", "https://h/i"),
        ("s3://bucket/a b/ü?.png", "s3://bucket/a b/ü?.png"),
        ("S3://bucket/#1.png", "s3://bucket/#1.png"),
    ],
)
def test_secrets_are_not_shown(url, expected):
    assert shown(url) == expected
    assert shown(expected) == expected


def test_what_is_a_url():
    assert is_url("s3://b/x")
    assert not is_url("C://x")
    assert not is_url(Path("s3://b/x"))
    assert not is_url("photos")
    assert not is_url("hf:name")


@pytest.mark.parametrize("url", ["ftp://h/a.csv", "file:///etc/passwd", "ssh://h/x"])
def test_other_schemes_are_refused(url):
    with pytest.raises(
        SourceError, match="is not read; expected http://, https://, s3://, gs://, hf://, or a path"
    ):
        check_scheme(url)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../up.png", "a/../../up.png", "C:\\x.png", "a\\..\\..\\b", "\\\\h\\x"]
)
def test_paths_that_leave_the_folder_of_a_remote_manifest(path):
    with pytest.raises(SourceError, match="may name URLs, and paths below its own folder"):
        check_relative(path, "m.csv, line 2")


def test_parts():
    assert key_of("https://h/a%20b/c.png?x=1") == "a b/c.png"
    assert key_of("s3://b/a%20b?.png") == "a%20b?.png"
    assert suffix_of("https://h/m.CSV?sig=1") == ".csv"
    assert suffix_of("s3://b/photos.tar/") == ""
    assert folder_of("https://h/x/m.csv?sig=1") == "https://h/x/"
    assert below("https://h/x/", "a b%.png") == "https://h/x/a%20b%25.png"
    assert below("s3://b/x/", "a b%.png") == "s3://b/x/a b%.png"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/x/photos/", "photos"),
        ("s3://bucket", "bucket"),
        ("s3://bucket/v1.2/", "v1.2"),
        ("https://u:p@host.org/m.csv?sig=s", "m"),
        ("https://host.org/", "host.org"),
        ("s3://b/shard-{000..127}.tar", "shard"),
        ("gs://b/*.tar", "b"),
    ],
)
def test_name_of_what_is_made_of_a_url(url, name):
    assert source_name(url) == name


@pytest.mark.parametrize("url", ["s3://", "s3:///x.csv", "http:///m.csv"])
def test_a_url_without_a_server_is_refused(url):
    with pytest.raises(SourceError, match=f"{url}: names no server or bucket"):
        open_source(url)
