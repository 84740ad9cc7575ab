"""URLs of language models that could not be asked are refused where they are read."""

from __future__ import annotations

import pytest

from modelmill.errors import ConfigError
from modelmill.language_models.endpoint import Endpoint


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hidden@host/v1",
        "http://host/v1?key=hidden",
        "http://host/v1#hidden",
        "http://host:99999/v1",
        "http://host:0/v1",
        "http://host:port/v1",
        "http://host\r\nX-Other: hidden/v1",
        "http://ho st/v1",
        "http://host\0/v1",
        "http://[::1",
        "file:///etc/passwd",
    ],
)
def test_a_url_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="is an http or https URL") as caught:
        Endpoint.of({"MODELMILL_LLM_URL": url})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://localhost:8000/v1/", "https://host/v1", "http://[::1]:80/v1"])
def test_plain_urls_are_taken(url: str) -> None:
    assert Endpoint.of({"MODELMILL_LLM_URL": url}).url == url.rstrip("/")
