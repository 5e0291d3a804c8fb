"""Checks of what the steps ask: the external services, Valkey, and the store of uploads."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import fsspec
import httpx
import redis
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from mavedb_audit.doctor.findings import Check, Finding, fine, first_line, wrong
from mavedb_audit.settings import Settings, settings

_TIMEOUT_SECONDS = 5.0


def checks() -> Mapping[str, Check]:
    """A check of each that is configured, by its name."""
    config = settings()
    found: dict[str, Check] = {"uploads": partial(_store, config)}
    if config.clingen_cache_backend == "redis":
        found["Valkey"] = partial(_valkey, config)
    for name, (variable, url) in _urls(config).items():
        found[name] = partial(_answers, name, variable, url)
    if config.gnomad_database_url is not None:
        found["gnomAD"] = partial(_gnomad, config.gnomad_database_url)
    return found


def _urls(config: Settings) -> Mapping[str, tuple[str, str]]:
    """The services that the settings say are asked, each with the variable that says where."""
    urls = {
        "VRS mapper": ("DCD_MAPPING_URL", config.dcd_mapping_url),
        "ClinGen Allele Registry": (
            "CLINGEN_ALLELE_REGISTRY_URL",
            config.clingen_allele_registry_url,
        ),
        "ClinVar's archive": ("CLINVAR_ARCHIVE_URL", config.clinvar_archive_url),
        "Ensembl": ("ENSEMBL_API_URL", config.ensembl_api_url),
    }
    if config.uniprot_id_mapping_enabled:
        urls["UniProt"] = ("UNIPROT_API_URL", config.uniprot_api_url)
    if config.clin_gen_submission_enabled:
        urls["Linked Data Hub"] = ("GENBOREE_URL", config.genboree_url)
        if config.car_submission_endpoint is not None:
            urls["ClinGen's registration"] = (
                "CAR_SUBMISSION_ENDPOINT",
                config.car_submission_endpoint,
            )
    return urls


def _answers(name: str, variable: str, url: str) -> Iterable[Finding]:
    """Any answer will do: what a service has at its root is its own affair."""
    try:
        # A service's first page may be large: only that it begins is waited for.
        with httpx.stream("GET", url, timeout=_TIMEOUT_SECONDS) as answer:
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield wrong(
            name,
            f"does not answer at {url} ({first_line(error)})",
            f"Check {variable}, and that this host may reach it",
        )
        return
    if status >= 500:
        yield wrong(name, f"answers {status} at {url}", "Wait, or ask who runs it")
    else:
        yield fine(name, "answers")


def _valkey(config: Settings) -> Iterable[Finding]:
    name = "Valkey"
    host = config.clingen_redis_host or config.redis_ip
    port = config.clingen_redis_port or config.redis_port
    ssl = config.redis_ssl if config.clingen_redis_ssl is None else config.clingen_redis_ssl
    try:
        with redis.Redis(
            host=host,
            port=port,
            ssl=ssl,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
        ) as client:
            client.ping()
    except redis.RedisError as error:
        yield wrong(
            name,
            f"does not answer on {host}, port {port} ({first_line(error)})",
            "Start it, or check REDIS_IP and REDIS_PORT; until then every look-up asks ClinGen",
        )
    else:
        yield fine(name, "answers")


def _gnomad(url: str) -> Iterable[Finding]:
    name = "gnomAD"
    try:
        engine = create_engine(url)
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        engine.dispose()
    except (DBAPIError, ArgumentError, NoSuchModuleError) as error:
        yield wrong(
            name,
            f"its database does not answer ({first_line(getattr(error, 'orig', None) or error)})",
            "Check GNOMAD_DATABASE_URL",
        )
    else:
        yield fine(name, "answers")


def _store(config: Settings) -> Iterable[Finding]:
    name = "uploads"
    url = config.upload_store_url
    options: dict[str, Any] = {}
    if url.startswith("s3://"):
        options["config_kwargs"] = {
            "connect_timeout": _TIMEOUT_SECONDS,
            "read_timeout": _TIMEOUT_SECONDS,
            "retries": {"max_attempts": 0},
        }
        if config.s3_endpoint_url:
            options["endpoint_url"] = config.s3_endpoint_url
    try:
        files, root = fsspec.core.url_to_fs(url, **options)
        files.ls(root)
    except (OSError, ImportError, ValueError) as error:
        yield wrong(
            name,
            f"the store {url} cannot be read ({type(error).__name__}: {first_line(error)})",
            "Check UPLOAD_STORE_URL, S3_ENDPOINT_URL and the credentials",
        )
    else:
        yield fine(name, f"the store {url} can be read")
