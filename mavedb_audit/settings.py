"""Every setting, read from the environment once. MaveDB's own variable names are kept."""

import functools
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL

from mavedb_audit.errors import ConfigurationError


class Settings(BaseSettings):
    """Each field is the environment variable of the same name in upper case.

    Durations are in seconds. Services' base URLs carry no trailing slash.
    """

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    # MaveDB's database. DATABASE_URL, where given, wins over the five parts.
    database_url: str | None = None
    db_host: str = "localhost"
    db_port: int = 5432
    db_database_name: str = "mavedb"
    db_username: str = "postgres"
    db_password: str = ""
    # A way around a pooler that shares sessions among clients: locks belong to a session.
    lock_database_url: str | None = None
    database_connect_timeout_seconds: int = 5
    # How long a flow waits for a database that does not answer before it gives up.
    database_patience_seconds: float = 600.0

    # Where uploaded score and count files lie: any fsspec URL, such as s3://bucket or file:///dir.
    upload_store_url: str = "s3://score-set-csv-uploads-dev"
    s3_endpoint_url: str | None = None
    # A larger file is refused before it is read, a larger table before it is held in memory.
    max_upload_bytes: int = Field(default=536870912, ge=1)
    max_upload_columns: int = Field(default=1000, ge=2)
    max_upload_rows: int = Field(default=2000000, ge=1)
    # No more than Python's csv takes.
    max_upload_cell_characters: int = Field(default=10000, ge=1, le=131072)

    dcd_mapping_url: str = "http://dcd-mapping:8000"
    mapper_connect_timeout_seconds: float = 10.0
    # The mapper answers when it is done: a fixed part, and so much for each variant.
    mapper_base_timeout_seconds: float = 3600.0
    mapper_timeout_seconds_per_variant: float = 1.0

    clin_gen_submission_enabled: bool = False
    car_submission_endpoint: str | None = None
    car_submission_batch_size: int = Field(default=2000, ge=1)
    clingen_connect_timeout_seconds: float = 5.0
    clingen_read_timeout_seconds: float = 300.0
    # Where alleles are read by their ids. Reading needs no account.
    clingen_allele_registry_url: str = "https://reg.genome.network"
    clingen_lookup_batch_size: int = Field(default=200, ge=1)
    clingen_lookup_timeout_seconds: float = 60.0
    # How many requests of a process are under way at once; the registry bears 5.
    clingen_cache_warming_concurrency: int = Field(default=5, ge=1)
    # The waits before a look-up's second, third … try, as JSON; a Retry-After may make them longer.
    clingen_retry_delays_seconds: list[float] = [1.0, 5.0, 20.0]
    # Answers are kept for a day, in Redis or Valkey, or in each process's own memory.
    clingen_cache_backend: Literal["redis", "memory"] = "redis"
    clingen_redis_host: str | None = None
    clingen_redis_port: int | None = None
    clingen_redis_ssl: bool | None = None
    genboree_account_name: str | None = None
    genboree_account_password: str | None = Field(default=None, repr=False)

    # The Linked Data Hub takes published score sets, under the same account and switch.
    genboree_url: str = "https://genboree.org"
    clin_gen_tenant: str | None = None
    # Where MaveDB's pages are, for links back to them.
    mave_frontend_url: str = "https://mavedb.org"

    uniprot_id_mapping_enabled: bool = True
    uniprot_api_url: str = "https://rest.uniprot.org"
    uniprot_connect_timeout_seconds: float = 5.0
    uniprot_read_timeout_seconds: float = 60.0
    # How long one attempt waits for mapping jobs to finish, which takes seconds as a rule.
    uniprot_polling_timeout_seconds: float = 300.0

    # Ensembl's VEP. Its server allows 15 requests a second, and asks for few at a time.
    ensembl_api_url: str = "https://rest.ensembl.org"
    ensembl_requests_per_second: float = Field(default=10.0, gt=0)
    ensembl_concurrent_requests: int = Field(default=4, ge=1)
    ensembl_connect_timeout_seconds: float = 10.0
    vep_read_timeout_seconds: float = 60.0
    variant_recoder_read_timeout_seconds: float = 600.0
    # The waits before a request's second, third … try, as JSON; a Retry-After may make them longer.
    ensembl_retry_delays_seconds: list[float] = [1.0, 2.0, 4.0]

    # NCBI's archive of ClinVar, and where its releases are kept once they were loaded: any fsspec
    # URL. The read time-out is for each piece of a file, not for the whole.
    clinvar_archive_url: str = "https://ftp.ncbi.nlm.nih.gov/pub/clinvar/tab_delimited/archive"
    clinvar_cache_dir: str = "~/.cache/mavedb/clinvar"
    clinvar_connect_timeout_seconds: float = 10.0
    clinvar_read_timeout_seconds: float = 60.0

    gnomad_data_version: str = "v4.1"
    # Any SQLAlchemy URL of a database that holds the gnomAD table; without it, Athena is asked.
    gnomad_database_url: str | None = None
    athena_schema_name: str = "default"
    athena_s3_staging_dir: str | None = None
    aws_region_name: str = "us-west-2"
    gnomad_query_timeout_seconds: float = 600.0

    redis_ip: str = "localhost"
    redis_port: int = 6379
    redis_ssl: bool = False

    # The waits before a step's second, third and fourth attempt.
    # As JSON, such as [10, 60, 300]; its length is the number of retries.
    step_retry_delays_seconds: list[float] = [10.0, 60.0, 300.0]
    # How long a step waits for another run of the same step on the same score set.
    step_lock_timeout_seconds: float = 600.0
    # How often the session that holds a lock is looked after.
    lock_check_seconds: float = 2.0
    dispatch_poll_seconds: float = 2.0
    hook_timeout_seconds: int = 3
    # How long a step that needs a slot of a service waits for a Prefect server that is away.
    slot_patience_seconds: float = 600.0

    # The reconciler: how often it asks Prefect, how far back it looks at first, and how long a run
    # must have ended before its history counts as complete (states arrive up to 20 s late).
    reconcile_interval_seconds: float = 30.0
    reconcile_window_hours: float = 24.0
    reconcile_grace_seconds: float = 30.0

    # Recovery: how often it looks; for how long nobody may hold a running flow's lock; how long
    # after a start of PostgreSQL no lock counts as missing, since all are taken anew.
    recovery_interval_seconds: float = Field(default=2.0, gt=0)
    recovery_grace_seconds: float = Field(default=3.0, ge=0)
    recovery_restart_grace_seconds: float = Field(default=20.0, ge=0)
    # A worker reports a crash twice, seconds apart; the second would end what is tried again.
    recovery_crash_seconds: float = Field(default=5.0, ge=0)
    # After such times a flow run that was not started, a job that runs without a lock, and a
    # pipeline whose flow run has ended count as stalled.
    recovery_queued_seconds: float = 600.0
    recovery_running_seconds: float = 3600.0
    recovery_pending_seconds: float = 1800.0

    # `mavedb-audit prune`: after so many days it forgets what happened within pipelines that
    # succeeded, and within those that did not; and statuses that a newer one superseded.
    prune_succeeded_days: int = Field(default=365, ge=0)
    prune_unsuccessful_days: int = Field(default=730, ge=0)
    prune_superseded_days: int = Field(default=730, ge=0)

    # Operators' verbs: how long one waits for Prefect to end a flow run before it runs it again.
    operator_timeout_seconds: float = Field(default=60.0, gt=0)

    # HTTP: without a port `serve` answers none. Who may ask has a line `NAME ROLE SHA256` in the
    # file, or between semicolons in AUDIT_API_TOKENS. Hosts are a JSON list, such as
    # ["audit.mavedb.org"]; any will do by default.
    audit_http_host: str = "127.0.0.1"
    audit_http_port: int | None = Field(default=None, ge=1, le=65535)
    audit_http_trusted_hosts: list[str] = ["*"]
    audit_api_tokens_file: str | None = None
    audit_api_tokens: str | None = Field(default=None, repr=False)
    # Signs the sessions of browsers; without it, a key is made from the tokens' digests.
    audit_session_key: str | None = Field(default=None, repr=False)

    # Alerts go to Slack, to a webhook, or to both. Their URLs are secrets, as is the key that signs
    # what the webhook gets, in base64. A pipeline counts as failed once it has been for the delay.
    slack_webhook_url: str | None = Field(default=None, repr=False)
    alert_webhook_url: str | None = Field(default=None, repr=False)
    alert_webhook_secret: str | None = Field(default=None, repr=False)
    alert_interval_seconds: float = Field(default=5.0, gt=0)
    alert_delay_seconds: float = Field(default=10.0, ge=0)
    alert_timeout_seconds: float = Field(default=10.0, gt=0)
    alert_mirror_lag_seconds: float = Field(default=120.0, gt=0)
    # How often `serve` verifies the audit; 0 is never.
    verify_interval_seconds: float = Field(default=3600.0, ge=0)
    # Where people reach our page, for links to it.
    audit_page_url: str | None = None

    # How `serve` writes its log; by default for people on a terminal, else as JSON.
    log_format: Literal["json", "console"] | None = None

    @property
    def sqlalchemy_url(self) -> URL | str:
        """The domain database's URL for SQLAlchemy, always with the psycopg driver."""
        if self.database_url:
            return _with_psycopg(self.database_url, "DATABASE_URL")
        return URL.create(
            "postgresql+psycopg",
            username=self.db_username,
            password=self.db_password or None,
            host=self.db_host,
            port=self.db_port,
            database=self.db_database_name,
        )

    @property
    def sqlalchemy_lock_url(self) -> URL | str:
        """The URL for the sessions that hold locks."""
        if self.lock_database_url:
            return _with_psycopg(self.lock_database_url, "LOCK_DATABASE_URL")
        return self.sqlalchemy_url


def _with_psycopg(url: str, variable: str) -> str:
    _, separator, rest = url.partition("://")
    if not separator:
        raise ConfigurationError(
            f"{variable} is not a URL: it must look like"
            " postgresql://user:password@host:5432/mavedb"
        )
    return f"postgresql+psycopg://{rest}"


@functools.cache
def settings() -> Settings:
    """The settings of this process. Raises ConfigurationError that names each wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()
        )
        raise ConfigurationError(f"Settings are wrong in the environment: {wrong}") from None
