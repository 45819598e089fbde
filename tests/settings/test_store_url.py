"""The setting `store_url`."""

import pytest

from seed_oauth.settings import Settings, SettingsError
from seed_oauth.settings.store_url import locate, shown

PASSWORD = "p%40ss%2F%23w%3Ard"


@pytest.mark.parametrize(
    ("url", "kind", "tls", "hosts"),
    [
        ("redis://127.0.0.1", "single", False, (("127.0.0.1", 6379),)),
        ("redis://redis:6380/2", "single", False, (("redis", 6380),)),
        ("redis://[::1]:7000", "single", False, (("::1", 7000),)),
        ("redis://redis.team.svc.cluster.local", "single", False, (("redis.team.svc.cluster.local", 6379),)),
        ("rediss://redis.example.com/0", "single", True, (("redis.example.com", 6379),)),
        ("redis+sentinel://a:1,b,[::1]:3/main", "sentinel", False, (("a", 1), ("b", 26379), ("::1", 3))),
        ("rediss+sentinel://s.example.com:1/main/4", "sentinel", True, (("s.example.com", 1),)),
        ("redis+cluster://10.0.0.1:1,10.0.0.2", "cluster", False, (("10.0.0.1", 1), ("10.0.0.2", 6379))),
        ("rediss+cluster://c.example.com:1/", "cluster", True, (("c.example.com", 1),)),
    ],
)
def test_every_form_of_redis_url_is_parsed(url: str, kind: str, tls: bool, hosts: tuple[tuple[str, int], ...]) -> None:
    location = locate(url)
    assert (location.kind, location.tls, location.hosts) == (kind, tls, hosts)
    assert Settings(store_url=url).store_url == url


def test_a_url_has_credentials_database_and_certificates() -> None:
    location = locate(f"rediss://door:{PASSWORD}@redis.example.com:1/3?ssl_ca_certs=/etc/ca.pem&ssl_certfile=c.pem")
    assert (location.username, location.password, location.database) == ("door", "p@ss/#w:rd", 3)
    assert location.tls_files == {"ssl_ca_certs": "/etc/ca.pem", "ssl_certfile": "c.pem"}
    assert (location.service, locate("redis+sentinel://a:1/main/4").service) == ("", "main")
    assert locate("redis+sentinel://:secret@a:1/main/4").database == 4
    assert locate("redis://:secret@a").username is None


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis:///0", "has an invalid host or port"),
        (f"redis://:{PASSWORD}@a:port", "has an invalid host or port"),
        (f"redis://:{PASSWORD}@a:99999", "has an invalid host or port"),
        (f"redis://:{PASSWORD}@[::1", "has an invalid host or port"),
        (f"redis+unix://:{PASSWORD}@a", "must be sqlite:///file"),
        (f"redisx://:{PASSWORD}@a", "must be sqlite:///file"),
        (f"postgres://:{PASSWORD}@a", "must be sqlite:///file"),
        (f"redis://:{PASSWORD}@a#1", "write %23 in a password"),
        (f"redis://:{PASSWORD}@redis.example.com", "must use rediss"),
        (f"redis://:{PASSWORD}@8.8.4.4", "must use rediss"),
        (f"redis+sentinel://:{PASSWORD}@10.0.0.1,8.8.8.8/main", "must use rediss"),
        (f"redis://:{PASSWORD}@a,b", "has several hosts"),
        (f"redis+sentinel://:{PASSWORD}@a", "must have the service name"),
        (f"redis+sentinel://:{PASSWORD}@a/main/x", "must have a database number"),
        (f"redis://:{PASSWORD}@a/main", "must have a database number"),
        (f"redis+cluster://:{PASSWORD}@a/1", "must have no path"),
        (f"rediss://:{PASSWORD}@a?ssl_cert_reqs=none", "must have only these in its query: ssl_ca_certs"),
        (f"rediss://:{PASSWORD}@a?ssl_ca_certs=/nowhere/ca.pem", "names a file in ssl_ca_certs that does not exist"),
        (f"redis://:{PASSWORD}@a?ssl_ca_certs=ca.pem", "must use rediss if it names certificates"),
    ],
)
def test_an_invalid_or_unsafe_url_is_refused_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    """THREATS 12: no message contains the password of the store."""
    monkeypatch.setenv("SEED_OAUTH_STORE_URL", url)
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert str(refused.value).startswith("SEED_OAUTH_STORE_URL ")
    assert told in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_a_url_is_shown_without_secrets() -> None:
    """THREATS 12."""
    url = f"rediss+sentinel://door:{PASSWORD}@a:1,b:2/main/0?ssl_keyfile={__file__}"
    assert shown(url) == "rediss+sentinel://a:1,b:2/main/0"
    assert shown("sqlite:///file") == "sqlite:///file"
    settings = Settings(store_url=url)
    assert PASSWORD not in f"{settings!r} {settings} {locate(url)!r}"
    assert "p@ss" not in repr(locate(url))


def test_workers_share_redis() -> None:
    assert Settings(workers=4, store_url="redis://127.0.0.1").workers == 4


def test_another_process_reads_the_same_url() -> None:
    url = f"rediss://door:{PASSWORD}@a:1/0"
    assert Settings(store_url=url).as_environment()["SEED_OAUTH_STORE_URL"] == url
