"""The one place that reads environment variables. Built once at each entry point, and frozen."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.errors import SettingsError

GIB = 1024**3


def _env(name: str, description: str, **constraints: Any) -> Any:
    """A setting read from the environment variable `name`."""
    return Field(validation_alias=name, description=description, **constraints)


class Settings(BaseSettings):
    """Every setting with its unit and default. The description of each is its documentation."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    home: Path = _env(
        "TUNEYARD_HOME",
        "Folder of everything that `tuneyard up` keeps: database, files, scratch, broker.",
        default_factory=lambda: Path.home() / ".tuneyard",
    )
    host: str = _env("TUNEYARD_HOST", "Address to listen on.", default="127.0.0.1")
    port: int = _env("TUNEYARD_PORT", "TCP port to listen on.", default=8080, ge=1, le=65535)
    api_key: str | None = _env(
        "TUNEYARD_API_KEY",
        "Key that clients must send. Without one, only loopback addresses are served.",
        default=None,
        min_length=16,
    )
    database_url: str = _env(
        "DATABASE_URL",
        "sqlite:///file or postgresql://user:password@host/name. Default: a file in TUNEYARD_HOME.",
        default="",
    )
    redis_url: str | None = _env(
        "REDIS_URL",
        "redis://host:port/n of the broker. Without one, workers find jobs by polling.",
        default=None,
        pattern=r"^(redis|rediss|unix|redis\+socket)://",
    )
    storage_url: str = _env(
        "STORAGE_URL",
        "file:///folder or s3://bucket/prefix, for this service alone. "
        "Default: a folder in TUNEYARD_HOME.",
        default="",
    )
    s3_endpoint: str | None = _env(
        "S3_ENDPOINT_URL", "Address of an S3-compatible server; not needed for AWS.", default=None
    )
    s3_access_key: str | None = _env("S3_ACCESS_KEY_ID", "S3 access key.", default=None)
    s3_secret_key: str | None = _env("S3_SECRET_ACCESS_KEY", "S3 secret key.", default=None)
    s3_region: str | None = _env("S3_REGION", "S3 region.", default=None)
    model_roots: Annotated[tuple[Path, ...], NoDecode] = _env(
        "MODEL_ROOTS",
        "Folders with model folders in them, `:` between them; each is named local/<name>.",
        default=(),
    )
    hf_token: str | None = _env(
        "HF_TOKEN", "Token for models and datasets of the Hugging Face Hub.", default=None
    )
    hf_endpoint: str = _env(
        "HF_ENDPOINT",
        "Address of the Hugging Face Hub or a mirror.",
        default="https://huggingface.co",
    )
    scratch: Path | None = _env(
        "TUNEYARD_SCRATCH",
        "Folder for running attempts and fetched models. Default: scratch in TUNEYARD_HOME.",
        default=None,
    )
    worker_name: str | None = _env(
        "WORKER_NAME", "Name of this worker. Default: the host's name.", default=None
    )
    worker_slots: int = _env(
        "WORKER_SLOTS", "Jobs that one worker trains at the same time.", default=1, ge=1, le=64
    )
    device: Literal["auto", "cpu", "cuda"] = _env(
        "TUNEYARD_DEVICE", "Where to train: auto takes CUDA where there is one.", default="auto"
    )
    visible_devices: str | None = _env(
        "CUDA_VISIBLE_DEVICES",
        "The GPUs that this worker may use, by their numbers in nvidia-smi or by UUID, `,` between "
        "them; it trains on the first one. Default: all.",
        default=None,
    )
    sandbox: Literal["auto", "required", "off"] = _env(
        "TUNEYARD_SANDBOX",
        "Whether the kernel keeps training children from all but their own files and the network: "
        "auto where it can, required refuses to work without, off.",
        default="auto",
    )
    lease_seconds: float = _env(
        "LEASE_SECONDS",
        "A worker that was silent for so long has lost its jobs to the others.",
        default=60.0,
        ge=1,
    )
    poll_seconds: float = _env(
        "POLL_SECONDS",
        "How often an idle worker looks for jobs without being rung, and rescues lost ones.",
        default=3.0,
        gt=0,
    )
    event_flush_seconds: float = _env(
        "EVENT_FLUSH_SECONDS", "How long log lines and metrics are gathered.", default=0.1, gt=0
    )
    shutdown_grace_seconds: float = _env(
        "SHUTDOWN_GRACE_SECONDS",
        "Time for a leaving worker to save a checkpoint and give its jobs back.",
        default=60.0,
        gt=0,
    )
    start_timeout_seconds: float = _env(
        "START_TIMEOUT_SECONDS",
        "A training child that reports nothing for so long before its first step is stopped.",
        default=1800.0,
        gt=0,
    )
    disk_reserve_bytes: int = _env(
        "DISK_RESERVE_BYTES",
        "Space that jobs leave free on the disks of scratch and local storage, in bytes: with no "
        "room for one more checkpoint beside it, a job saves, pauses, and goes on when there is.",
        default=512 * 1024**2,
        ge=0,
    )
    token_cache_bytes: int = _env(
        "TOKEN_CACHE_BYTES",
        "How much of the scratch disk keeps tokens of data files for later jobs, in bytes; those "
        "that were not used for longest go first.",
        default=8 * GIB,
        ge=0,
    )
    full_storage_seconds: float = _env(
        "FULL_STORAGE_SECONDS",
        "How long a running job waits for room in a full storage before it pauses.",
        default=900.0,
        gt=0,
    )
    stall_seconds: float = _env(
        "STALL_SECONDS",
        "A training without a step for so long, and for 8 of its slowest recent steps, hangs.",
        default=600.0,
        gt=0,
    )
    max_attempts: int = _env(
        "MAX_ATTEMPTS", "Attempts of a job that does not set max_attempts.", default=3, ge=1, le=100
    )
    max_lost_attempts: int = _env(
        "MAX_LOST_ATTEMPTS",
        "Times a job is started again after its worker died, beside max_attempts.",
        default=10,
        ge=1,
    )
    retry_backoff_seconds: float = _env(
        "RETRY_BACKOFF_SECONDS",
        "Wait before the second attempt; doubled for each one after, at most ten minutes.",
        default=5.0,
        ge=0,
    )
    max_upload_bytes: int = _env(
        "MAX_UPLOAD_BYTES", "Largest uploaded file, in bytes.", default=8 * GIB, ge=1
    )
    max_body_bytes: int = _env(
        "MAX_BODY_BYTES", "Largest JSON request body, in bytes.", default=1024**2, ge=1024
    )
    rate_limit_per_minute: int = _env(
        "RATE_LIMIT_PER_MINUTE",
        "Requests to /v1 that each key may send to each API process in a minute; 0 sets no limit.",
        default=30_000,
        ge=0,
    )
    max_streams_per_key: int = _env(
        "MAX_STREAMS_PER_KEY",
        "Live streams that each key may hold open at each API process.",
        default=100,
        ge=1,
    )
    egress_allow: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = _env(
        "EGRESS_ALLOW",
        "Networks that are not public and that webhooks and fetches may reach, `,` between them.",
        default=(),
    )

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment; SettingsError names the first bad variable and what it accepts."""
        try:
            return cls()
        except ValidationError as error:
            raise _settings_error(cls, error) from error

    @field_validator("model_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(part) for part in value.split(":") if part)
        return value

    @field_validator("egress_allow", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
        return value

    @field_validator("model_roots")
    @classmethod
    def _roots_exist(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        for root in roots:
            if not root.is_dir():
                raise ValueError(f"{root} is not a folder")
        return roots

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        if url.startswith("postgresql://"):
            return url.replace("postgresql://", "postgresql+psycopg://", 1)
        if url and not url.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("expected sqlite:///file or postgresql://user:password@host/name")
        return url

    @model_validator(mode="after")
    def _fill_in(self) -> Self:
        home = self.home.expanduser().absolute()
        object.__setattr__(self, "home", home)
        if not self.database_url:
            object.__setattr__(self, "database_url", f"sqlite:///{home / 'tuneyard.db'}")
        if not self.storage_url:
            object.__setattr__(self, "storage_url", (home / "storage").as_uri())
        return self

    @property
    def scratch_folder(self) -> Path:
        """Folder for running attempts and fetched models, on a fast local disk."""
        return self.scratch or self.home / "scratch"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must appear in no log, event or answer."""
        values = (self.api_key, self.hf_token, self.s3_secret_key)
        return tuple(value for value in values if value)


def _settings_error(cls: type[Settings], error: ValidationError) -> SettingsError:
    first = error.errors(include_url=False)[0]
    location = str(first["loc"][0]) if first["loc"] else ""
    fields = {field.validation_alias: field for field in cls.model_fields.values()}
    description = fields[location].description if location in fields else ""
    reason = first["msg"].removeprefix("Value error, ")
    return SettingsError(f"{location}: {reason}. {description}".strip(), param=location)
