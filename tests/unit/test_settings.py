from pathlib import Path

import pytest

from app.errors import Malformed, PolicyRefused
from app.settings import Settings, load_log_identity, load_secret_box, load_settings, variable_name


def test_every_setting_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://somewhere/db")
    monkeypatch.setenv("TRAPSTREET_ALLOWED_NETWORKS", '["127.0.0.0/8"]')
    monkeypatch.setenv("TRAPSTREET_ALLOW_HTTP", "true")
    settings = load_settings()
    assert (settings.database_url, settings.is_embedded) == ("postgres://somewhere/db", False)
    assert (str(settings.network_rules.allowed_networks[0]), settings.network_rules.ports) == ("127.0.0.0/8", None)


def test_by_default_only_public_https_is_asked() -> None:
    rules = Settings().network_rules
    assert (rules.allowed_networks, rules.allow_http, rules.ports) == ((), False, frozenset({443}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_PORT", "seventy"),
        ("LOG_ORIGIN", "two words"),
        ("ALLOWED_NETWORKS", "127.0.0.0/8"),
        ("ALLOWED_NETWORKS", '["127.0.0.1/8"]'),
        ("ARBITER_KEYS", '["00"]'),
        ("BEACON", "drand"),
        ("EGRESS_ADDRESSES", '["eth0"]'),
        ("ENDPOINT_GAP_SECONDS", "-1"),
        ("ENDPOINT_QUERIES_A_DAY", "10"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TRAPSTREET_{name}", value)
    with pytest.raises(Malformed, match=f"(?i){name}"):
        load_settings()


def test_the_key_of_secrets_is_made_beside_an_embedded_database_and_may_be_missing_beside_another(
    tmp_path: Path,
) -> None:
    elsewhere = {"DATABASE_URL": "postgres://somewhere/db"}
    assert load_secret_box(Settings(data_dir=tmp_path, **elsewhere)) is None
    made = load_secret_box(Settings(data_dir=tmp_path))
    assert made is not None
    assert load_secret_box(Settings(data_dir=tmp_path, **elsewhere)) == made
    # Whoever names a file means it.
    with pytest.raises(PolicyRefused, match=r"absent\.key"):
        load_secret_box(Settings(data_dir=tmp_path, secrets_key_file=tmp_path / "absent.key", **elsewhere))
    (tmp_path / "secrets.key").chmod(0o644)
    with pytest.raises(PolicyRefused, match="read by others"):
        load_secret_box(Settings(data_dir=tmp_path, **elsewhere))


def test_how_suspects_are_asked_is_set_by_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    manner = load_settings().dispute_manner
    assert (manner.pace_seconds, manner.egress_addresses, manner.local_address(1)) == (0.0, (), None)
    monkeypatch.setenv("TRAPSTREET_ENDPOINT_GAP_SECONDS", "0.25")
    monkeypatch.setenv("TRAPSTREET_EGRESS_ADDRESSES", '["127.0.0.2", "127.0.0.3"]')
    manner = load_settings().dispute_manner
    assert (manner.pace_seconds, manner.local_address(0), manner.local_address(1)) == (0.25, "127.0.0.2", "127.0.0.3")


def test_what_is_not_placed_elsewhere_lies_in_the_data_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.objects_place == f"file://{tmp_path}/objects"
    assert {settings.log_key_path.parent, settings.queue_key_folder.parent, settings.work_folder.parent} == {tmp_path}


def test_the_logs_key_is_made_only_beside_an_embedded_database(tmp_path: Path) -> None:
    with pytest.raises(PolicyRefused, match=r"log\.key"):
        load_log_identity(Settings(data_dir=tmp_path, DATABASE_URL="postgres://somewhere/db"))
    made = load_log_identity(Settings(data_dir=tmp_path))
    assert load_log_identity(Settings(data_dir=tmp_path)) == made


def test_variables_are_named_as_they_are_set() -> None:
    assert variable_name("data_dir") == "TRAPSTREET_DATA_DIR"
    assert variable_name("DATABASE_URL") == "DATABASE_URL"


def test_what_a_training_may_take_is_set_by_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAPSTREET_TRAINING_MEMORY_BYTES", str(2 * 1024**3))
    monkeypatch.setenv("TRAPSTREET_TRAINING_SECONDS", "60")
    monkeypatch.setenv("TRAPSTREET_TRAINING_FIRST_USER_ID", "70000")
    limits = load_settings().training_limits
    assert (limits.memory_bytes, limits.seconds, limits.user_ids) == (2 * 1024**3, 60, range(70_000, 70_256))
