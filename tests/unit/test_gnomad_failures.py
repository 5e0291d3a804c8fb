"""What a failed query at Athena, or at another database, counts as."""

import inspect

import pytest

from mavedb_audit.errors import ConfigurationError
from mavedb_audit.failures import RETRYABLE, FailureCategory
from tasks.clients.gnomad import athena_url, failure_category, fetch, query, unpadded

CONFIGURATION = FailureCategory.CONFIGURATION_ERROR
UNAVAILABLE = FailureCategory.SERVICE_UNAVAILABLE
RATE_LIMITED = FailureCategory.API_RATE_LIMITED
DENIED = FailureCategory.PERMISSION_ERROR
SIGN_IN = FailureCategory.AUTHENTICATION_FAILED

MESSAGES = [
    ("Unable to locate credentials", SIGN_IN),
    ("An error occurred (ExpiredTokenException): The security token is expired", SIGN_IN),
    ("(UnrecognizedClientException) when calling StartQueryExecution", SIGN_IN),
    ("(AccessDeniedException): User: arn:x is not authorized to perform: glue:GetTable", DENIED),
    ("not authorized to perform: s3:PutObject on arn:aws:s3:::mavedb-staging/x", DENIED),
    ("Access Denied (Service: Amazon S3; Status Code: 403; Error Code: AccessDenied)", DENIED),
    ("Insufficient permissions to execute the query.", DENIED),
    ("(InvalidRequestException): No output location provided", CONFIGURATION),
    ("The specified bucket does not exist (Error Code: NoSuchBucket)", CONFIGURATION),
    ("TABLE_NOT_FOUND: line 1:9: Table 'awsdatacatalog.default.v4_2' not found", CONFIGURATION),
    ("SCHEMA_NOT_FOUND: line 1:9: Schema 'gnomad' is missing", CONFIGURATION),
    (
        "COLUMN_NOT_FOUND: line 1:8: Column 'caid' cannot be resolved or requester is not"
        " authorized to access requested resources",
        CONFIGURATION,
    ),
    ("SYNTAX_ERROR: line 1:15: Table awsdatacatalog.default.v4_2 does not exist", CONFIGURATION),
    ("Your query has a syntax error: mismatched input", FailureCategory.DATA_ERROR),
    ("Query string is too long", FailureCategory.DATA_ERROR),
    ("An error occurred (ThrottlingException): Rate exceeded", RATE_LIMITED),
    ("(TooManyRequestsException): You have exceeded the limit", RATE_LIMITED),
    ("The query queue is full", RATE_LIMITED),
    ("GENERIC_INTERNAL_ERROR: Number of partition values differs", UNAVAILABLE),
    ("Query exhausted resources at this scale factor", UNAVAILABLE),
    ("Please reduce your request rate. (Status Code: 503; Error Code: SlowDown)", UNAVAILABLE),
    ("None", FailureCategory.CANCELLED),
    ("Query cancelled by user", FailureCategory.CANCELLED),
    ("Query cancelled! : Bytes scanned limit was exceeded", FailureCategory.QUOTA_EXCEEDED),
    ("canceling statement due to statement timeout", FailureCategory.TIMEOUT),
    ("Could not connect to the endpoint URL: https://athena.x/", FailureCategory.NETWORK_ERROR),
    ("server closed the connection unexpectedly", FailureCategory.NETWORK_ERROR),
    ("something nobody has seen yet", FailureCategory.UNKNOWN),
]


@pytest.mark.parametrize(("message", "category"), MESSAGES)
def test_failed_query_has_a_category(message: str, category: FailureCategory) -> None:
    assert failure_category(message) is category


def test_only_what_may_pass_is_tried_again() -> None:
    retried = {message for message, _ in MESSAGES if failure_category(message) in RETRYABLE}

    assert not any("NOT_FOUND" in m or "enied" in m or "credentials" in m for m in retried)
    assert any("SlowDown" in m for m in retried)
    assert any("Throttling" in m for m in retried)


def test_the_default_chunk_fits_into_one_query_of_athena() -> None:
    chunk = inspect.signature(fetch).parameters["chunk"].default
    ids = [f"CA{9_000_000_000 + number}" for number in range(chunk)]

    assert len(query("v4_1", ids).encode()) <= 262_144


def test_gnomad_writes_ids_without_leading_zeros() -> None:
    assert unpadded("CA025094") == "CA25094"
    assert unpadded("CA341478553") == "CA341478553"


@pytest.mark.parametrize("text", ["PA123456", "CA1,CA2", "CA", "ca25094", "CA1') OR ('1'='1", ""])
def test_what_is_no_nucleotide_allele_id_is_never_sent(text: str) -> None:
    with pytest.raises(ValueError, match="not a ClinGen allele id"):
        fetch("sqlite://", "v4.1", [text], timeout=1)


def test_athenas_url_takes_credentials_from_aws() -> None:
    assert athena_url("us-west-2", "default", "s3://bucket/a b/") == (
        "awsathena+rest://:@athena.us-west-2.amazonaws.com:443/default"
        "?s3_staging_dir=s3%3A%2F%2Fbucket%2Fa+b%2F"
    )
    with pytest.raises(ConfigurationError, match=r"ATHENA_S3_STAGING_DIR .*s3://"):
        athena_url("us-west-2", "default", "bucket/prefix")
