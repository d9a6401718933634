"""Every setting, read here from the environment and nowhere below.

    TRAPSTREET_<NAME>   lists as JSON: TRAPSTREET_ALLOWED_NETWORKS='["10.0.0.0/8"]'
    DATABASE_URL, DATABASE_OWNER_URL

Invariants: what is missing has a default that is safe on one machine; a wrong value stops the program at its start, by
the variable's name; values that are secret stand in files, not in variables (the database URLs, by custom, excepted).
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from app.db.embedded import EmbeddedPostgres
from app.db.engine import upgrade
from app.delivery.smtp import PLAIN, PORTS, MailServer
from app.disputes.probing import DISPUTE_MANNER, QUERIES_A_DAY
from app.embedding.confinement.limits import (
    DEFAULT_FIRST_USER_ID,
    DEFAULT_MEMORY_BYTES,
    DEFAULT_SECONDS,
    DEFAULT_USER_IDS,
    Limits,
)
from app.errors import Malformed
from app.log.store import LogIdentity
from app.merkle.checkpoint import ORIGIN_PATTERN
from app.notices.mail import checked_address
from app.storage.secret_box import KEY_BYTES, SecretBox
from app.storage.secret_file import load_line, load_secret
from app.suspects.addresses import NetworkRules
from app.suspects.probe import Manner

LOG_KEY_BYTES = 32

Hex32 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class Settings(BaseSettings):
    """The settings of every process; each uses what concerns it."""

    model_config = SettingsConfigDict(env_prefix="TRAPSTREET_", frozen=True, extra="ignore")

    database_url: str = Field(
        "",
        validation_alias="DATABASE_URL",
        description="Postgres server as the service role; empty: a Postgres of its own under the data folder.",
    )
    database_owner_url: str = Field(
        "",
        validation_alias="DATABASE_OWNER_URL",
        description="The same database as the role that migrates; only `trapstreet migrate` uses it.",
    )
    data_dir: Path = Field(
        Path(".trapstreet"), description="Folder of everything that is not elsewhere: Postgres, objects, keys."
    )
    log_origin: str = Field(
        "trapstreet.localhost/log",
        pattern=f"^{ORIGIN_PATTERN}$",
        description="Name of the transparency log, in every checkpoint; never change it.",
    )
    log_key_file: Path | None = Field(
        None, description="File with the log's private key (64 hex digits, mode 600); default `log.key` in data_dir."
    )
    objects_url: str = Field("", description="Where blobs lie, file:// or s3://; default `objects` in data_dir.")
    beacon: Literal["local"] = Field("local", description="Source of the labels' public randomness.")
    max_json_bytes: int = Field(4 * 1024 * 1024, gt=0, description="Largest JSON body, in bytes.")
    max_openings_bytes: int = Field(
        32 * 1024 * 1024, gt=0, description="Largest body with openings or a sealed marking key, in bytes."
    )
    max_artifact_bytes: int = Field(2 * 1024**3, gt=0, description="Largest artifact, in bytes.")
    allowed_networks: list[IPv4Network | IPv6Network] = Field(
        [], description="Private networks (CIDR) in which suspects may be asked; none by default."
    )
    allowed_ports: list[int] | None = Field(
        None, description="Ports on which suspects may be asked; default 443, or any port where allow_http is set."
    )
    allow_http: bool = Field(default=False, description="Ask suspects over http too, not only over https.")
    secrets_key_file: Path | None = Field(
        None,
        description="File with the key that seals suspects' credentials and webhooks' secrets (64 hex digits, mode 600); "
        "default `secrets.key` in data_dir. Without it, beside another Postgres, both are refused.",
    )
    egress_addresses: list[IPv4Address | IPv6Address] = Field(
        [],
        description="This machine's addresses by which suspects are asked: the first, and the second for what is asked "
        "again; empty: the system's choice.",
    )
    endpoint_gap_seconds: float = Field(
        0.0, ge=0, le=60, description="Least seconds between two requests to the same endpoint."
    )
    endpoint_queries_a_day: int = Field(
        QUERIES_A_DAY, ge=1000, description="Queries a day (UTC) that one host is sent, for all disputes together."
    )
    arbiter_keys: list[Hex32] = Field(
        [], description="Ed25519 public keys (hex) that may countersign a suspect's interface."
    )
    api_host: str = Field("127.0.0.1", description="Address on which the API listens.")
    api_port: int = Field(8000, ge=0, le=65535, description="Port on which the API listens.")
    portal_origin: str = Field(
        "",
        pattern=r"^(https://[a-z0-9.-]+(:[0-9]{1,5})?|http://localhost(:[0-9]{1,5})?)?$",
        description="Where people's browsers find the portal: https:// and the host, and the port if it is not 443; default "
        "http://localhost and the port on which the API listens.",
    )
    queue_key_dir: Path | None = Field(
        None, description="Folder of the embedding queues' secret seeds; default `queue-keys` in data_dir."
    )
    work_dir: Path | None = Field(
        None, description="Folder in which the embedding worker trains; default `work` in data_dir."
    )
    training_memory_bytes: int = Field(
        DEFAULT_MEMORY_BYTES,
        ge=1024**3,
        description="Memory that one training may take, in bytes, a GPU's not counted.",
    )
    training_seconds: int = Field(DEFAULT_SECONDS, gt=0, description="Seconds that one training may take.")
    training_first_user_id: int = Field(
        DEFAULT_FIRST_USER_ID,
        gt=0,
        lt=2**31,
        description="First of the user ids that trainings run under where the worker is root; nobody else may have them.",
    )
    training_user_ids: int = Field(DEFAULT_USER_IDS, gt=0, le=65_536, description="How many such user ids there are.")
    heartbeat_seconds: float = Field(10.0, gt=0, description="Seconds between two signs of life of a worker.")
    stalled_seconds: float = Field(
        30.0, gt=0, description="Seconds without a sign of life after which a worker's jobs are given to another."
    )
    poll_seconds: float = Field(
        2.0, gt=0, description="Seconds between two looks of a worker for jobs that it was not told of."
    )

    smtp_url: str = Field(
        "",
        pattern=r"^((smtps?|smtp\+plain)://([^@/:\s]+@)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,3}|:[1-5][0-9]{4})?)?$",
        description="Server that takes our mail: `smtps://user@host` (TLS), `smtp://user@host` (STARTTLS, demanded) or "
        "`smtp+plain://host` (neither, without a password), and a port behind it if it is not 465, 587 or 25; empty: no "
        "mail is sent.",
    )
    smtp_password_file: Path | None = Field(
        None, description="File with the password of that server's user (one line, mode 600)."
    )
    mail_sender: str = Field("", description="Address from which mail is sent; needed with smtp_url.")

    @property
    def is_embedded(self) -> bool:
        """Tell whether the service runs a Postgres of its own."""
        return not self.database_url

    @property
    def objects_place(self) -> str:
        """Give the URL of the object store."""
        return self.objects_url or (self.data_dir.resolve() / "objects").as_uri()

    @property
    def log_key_path(self) -> Path:
        """Give the file of the log's private key."""
        return self.log_key_file or self.data_dir / "log.key"

    @property
    def portal_address(self) -> str:
        """Give the origin at which people's browsers find the portal."""
        return self.portal_origin or f"http://localhost:{self.api_port}"

    @property
    def queue_key_folder(self) -> Path:
        """Give the folder of the queues' seeds."""
        return self.queue_key_dir or self.data_dir / "queue-keys"

    @property
    def work_folder(self) -> Path:
        """Give the folder in which workers train."""
        return self.work_dir or self.data_dir / "work"

    @property
    def secrets_key_path(self) -> Path:
        """Give the file of the key that seals suspects' credentials."""
        return self.secrets_key_file or self.data_dir / "secrets.key"

    @property
    def dispute_manner(self) -> Manner:
        """Give how suspects are asked in disputes."""
        return replace(
            DISPUTE_MANNER,
            pace_seconds=self.endpoint_gap_seconds,
            egress_addresses=tuple(map(str, self.egress_addresses)),
        )

    @property
    def network_rules(self) -> NetworkRules:
        """Give the rules under which suspects are asked."""
        default = None if self.allow_http else frozenset({443})
        ports = default if self.allowed_ports is None else frozenset(self.allowed_ports)
        return NetworkRules(tuple(self.allowed_networks), self.allow_http, ports)

    @property
    def training_limits(self) -> Limits:
        """Give what one training may take."""
        first = self.training_first_user_id
        return Limits(self.training_memory_bytes, self.training_seconds, range(first, first + self.training_user_ids))

    @property
    def arbiter_public_keys(self) -> tuple[bytes, ...]:
        """Give the arbiters' keys as bytes."""
        return tuple(bytes.fromhex(key) for key in self.arbiter_keys)


@dataclass(frozen=True)
class DatabaseUrls:
    """The database as the service role and as its owner."""

    service: str
    owner: str


def load_settings() -> Settings:
    """Read the environment.

    Raises: Malformed, naming the variable at fault.
    """
    try:
        return Settings()
    except SettingsError as error:
        raise Malformed(f"a setting is not JSON: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"{variable_name(str(item['loc'][0]))}: {item['msg']}" for item in error.errors())
        raise Malformed(f"wrong settings: {faults}") from error


def variable_name(field: str) -> str:
    """Give the environment variable of a setting."""
    return field if field.startswith("DATABASE_") else f"TRAPSTREET_{field.upper()}"


def load_log_identity(settings: Settings) -> LogIdentity:
    """Read the log's private key; beside an embedded Postgres the first start makes it.

    Raises: PolicyRefused, Malformed: the file is missing, readable by others, or damaged.
    """
    fresh = secrets.token_bytes(LOG_KEY_BYTES) if settings.is_embedded else None
    return LogIdentity(settings.log_origin, load_secret(settings.log_key_path, LOG_KEY_BYTES, create_from=fresh))


def load_secret_box(settings: Settings) -> SecretBox | None:
    """Read the key that seals suspects' credentials; beside an embedded Postgres the first start makes it.

    Beside another Postgres it may be missing, and the service then keeps no credentials.
    Raises: PolicyRefused, Malformed: the file is readable by others, or damaged, or was named and is missing.
    """
    if not settings.is_embedded and settings.secrets_key_file is None and not settings.secrets_key_path.exists():
        return None
    fresh = secrets.token_bytes(KEY_BYTES) if settings.is_embedded else None
    return SecretBox(load_secret(settings.secrets_key_path, KEY_BYTES, create_from=fresh))


def load_mail_server(settings: Settings) -> MailServer | None:
    """Read which server takes our mail; None if none does.

    Raises: Malformed, PolicyRefused: settings that do not fit each other; a password that others may read.
    """
    if not settings.smtp_url:
        return None
    url = urlsplit(settings.smtp_url)
    user, file = unquote(url.username or ""), settings.smtp_password_file
    if bool(user) != (file is not None):
        raise Malformed("TRAPSTREET_SMTP_URL with a user and TRAPSTREET_SMTP_PASSWORD_FILE go together")
    if url.scheme == PLAIN and user:
        raise Malformed("TRAPSTREET_SMTP_URL: a password goes over TLS only; use smtps:// or smtp://")
    return MailServer(
        security=url.scheme,
        host=url.hostname or "",
        port=url.port or PORTS[url.scheme],
        sender=checked_address(settings.mail_sender, "/mail_sender"),
        user=user,
        password="" if file is None else load_line(file),
    )


@contextmanager
def open_database(settings: Settings) -> Iterator[DatabaseUrls]:
    """Give the database's URLs; without DATABASE_URL start or join the embedded server, and migrate it.

    A server that this call started stops at the end.
    Raises: DatabaseAway.
    """
    if not settings.is_embedded:
        yield DatabaseUrls(settings.database_url, settings.database_owner_url or settings.database_url)
        return
    with EmbeddedPostgres.start(settings.data_dir) as postgres:
        upgrade(postgres.owner_url)
        yield DatabaseUrls(postgres.service_url, postgres.owner_url)
