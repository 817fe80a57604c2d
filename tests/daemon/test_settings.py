"""Defaults, then the file, then the environment, then arguments; nothing unknown, nothing that others can reach."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from soundctm_daemon.errors import SettingsError
from soundctm_daemon.settings import KEYS, load_settings
from soundctm_daemon.settings_text import markdown_table, sample_toml
from soundgen import paths

DOCUMENT = Path(__file__).parents[2] / "docs" / "daemon.md"


def write_toml(text: str) -> None:
    paths.state_dir().mkdir(parents=True)
    (paths.state_dir() / "daemon.toml").write_text(text)


def test_later_sources_win() -> None:
    write_toml('model = "from-file"\nqueue_limit = 3\ndevice = "cuda"\n')
    settings = load_settings({"model": "from-argument", "port": None}, {"SOUNDCTM_DEVICE": "cpu"})
    assert (settings.model, settings.device, settings.queue_limit, settings.port) == ("from-argument", "cpu", 3, None)
    assert (settings.host, settings.drain_seconds) == ("127.0.0.1", 10.0)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org"])
def test_what_others_can_reach_needs_tls(host: str) -> None:
    with pytest.raises(SettingsError, match=r"without TLS.*forward the port through SSH"):
        load_settings({"host": host})


@pytest.mark.parametrize(
    "told",
    [
        {"allow_plain_text": True},
        {"plain_text_host": "0.0.0.0"},
        {"allow_plain_text": False, "plain_text_host": "0.0.0.0"},
        {"allow_plain_text": True, "plain_text_host": "127.0.0.1"},
    ],
)
def test_plain_text_beyond_loopback_is_told_twice_or_not_at_all(told: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r'both allow_plain_text = true and plain_text_host = "0\.0\.0\.0"'):
        load_settings({"host": "0.0.0.0", **told})
    twice = {"allow_plain_text": True, "plain_text_host": "0.0.0.0"}
    assert load_settings({"host": "0.0.0.0", **twice}).host == "0.0.0.0"


def test_paths_begin_in_the_state_folder() -> None:
    write_toml('tls_cert = "cert.pem"\ntls_key = "/etc/key.pem"\n')
    settings = load_settings({"host": "0.0.0.0"})
    assert (settings.tls_cert, settings.tls_key) == (paths.state_dir() / "cert.pem", Path("/etc/key.pem"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_is_allowed(host: str) -> None:
    assert load_settings({"host": host}).host == host


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("host", "", "host is '' in the command line; allowed: an address or a name"),
        ("allow_plain_text", "perhaps", "allow_plain_text is 'perhaps' in the command line; allowed: true or false"),
        ("tls_cert", "cert.pem", "tls_cert and tls_key go together"),
        ("tls_client_ca", "ca.pem", "tls_client_ca asks callers for certificates: name tls_cert and tls_key too"),
        ("port", 65536, "port is 65536 in the command line; allowed: 0 to 65535"),
        ("port", "many", "port is 'many' in the command line; allowed: 0 to 65535"),
        ("port", 1.5, "port is 1.5 in"),
        ("port", True, "port is True in"),
        ("model", 3, "model is 3 in the command line; allowed: any text"),
        ("engine", "warp", "engine is 'warp' in the command line; allowed: auto, torch, "),
        ("allow_cpu", "perhaps", "allow_cpu is 'perhaps' in the command line; allowed: true or false"),
        ("queue_limit", 0, "queue_limit is 0 in the command line; allowed: 1 or more"),
        ("drain_seconds", -1, "drain_seconds is -1 in the command line; allowed: 0 or more"),
        ("drain_seconds", "nan", "drain_seconds is 'nan' in"),
        ("modle", "x", "'modle', which is no setting; known: host, port, model"),
    ],
)
def test_a_bad_setting_is_named(setting: str, value: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings({setting: value})


def test_the_sample_file_names_every_setting_at_its_default() -> None:
    untouched = load_settings()
    write_toml(sample_toml(KEYS))
    assert load_settings() == untouched
    settable = [line.removeprefix("#") for line in sample_toml(KEYS).splitlines() if not line.startswith("# ")]
    (paths.state_dir() / "daemon.toml").write_text("\n".join(settable))
    assert load_settings() == untouched
    assert list(tomllib.loads("\n".join(settable))) == list(KEYS)


def test_every_setting_is_taken_from_the_environment() -> None:
    text = {known.variable: "" if known.default is None else str(known.default) for known in KEYS.values()}
    assert load_settings(environment=text) == load_settings(environment={})
    assert load_settings(environment={"SOUNDCTM_PORT": "7", "SOUNDCTM_THREADS": "2"}).port == 7


def test_the_documents_hold_the_table_of_settings() -> None:
    assert markdown_table(KEYS) in DOCUMENT.read_text(), "put there what `soundctm daemon config --markdown` prints"


def test_a_bad_file_is_named() -> None:
    write_toml("model = ")
    with pytest.raises(SettingsError, match=r"daemon\.toml cannot be read as TOML"):
        load_settings()


def test_a_socket_path_that_is_too_long_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDCTM_SOCKET", "/tmp/" + "x" * 100)
    with pytest.raises(SettingsError, match="longer than the 103 bytes"):
        load_settings()
