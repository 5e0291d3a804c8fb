"""One variant's story: its current statuses, how it came to them, and what an operator runs."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, Engine, text

from mavedb_audit.accounts import Status
from mavedb_audit.errors import NotFoundError, RequestError
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.queries.stories import Chapter, Story, why
from mavedb_audit.reasons import MEANINGS, Reason
from tests.support import insert_numbered_variants
from tests.support_accounts import CLINVAR, MAPPING, NEWER_RELEASE, insert_jobs, write
from tests.support_accounts import GNOMAD as FREQUENCY
from tests.support_recorder import CAR, DOWN, GNOMAD, Pipeline

CAID = AnnotationType.CLINGEN_ALLELE_ID
VARIANT = "tmp:numbered#1"


@dataclass
class Written:
    """A score set of three variants, and two jobs that write about them."""

    connection: Connection
    score_set_id: int

    def write(
        self, *statuses: Status, type_: AnnotationType = FREQUENCY, version: str | None = "v4.1"
    ) -> None:
        write(
            self.connection,
            self.score_set_id,
            *statuses,
            annotation_type=type_,
            version=version,
        )

    def why(self, *types: str) -> Story:
        return why(self.connection, VARIANT, types or None)


@pytest.fixture
def written(engine: Engine) -> Iterator[Written]:
    with engine.connect() as connection:
        score_set_id, _ = insert_numbered_variants(connection, 3)
        insert_jobs(connection, 2)
        yield Written(connection, score_set_id)


def story(pipeline: Pipeline) -> dict[str, Chapter]:
    with pipeline.engine.connect() as connection:
        return {chapter.annotation_type: chapter for chapter in why(connection, VARIANT).chapters}


def urn_of(pipeline: Pipeline, key: str) -> str:
    return str(pipeline.rows(f"SELECT urn FROM job_runs WHERE job_function = '{key}'")[0][0])


def test_a_failed_step_tells_of_each_attempt_of_the_cause_and_what_depends_on_it(
    pipeline: Pipeline,
) -> None:
    pipeline.open()
    pipeline.fail(pipeline.begin(CAR), will_be_retried=True)
    pipeline.fail(pipeline.begin(CAR, run_count=2))
    chapters = story(pipeline)
    assert list(chapters) == [CAID, FREQUENCY]
    failed, skipped = chapters[CAID], chapters[FREQUENCY]
    assert (failed.status, failed.reason) == ("failed", Reason.STEP_FAILED)
    assert failed.sentence == MEANINGS[Reason.STEP_FAILED].sentence
    assert failed.hint == MEANINGS[Reason.STEP_FAILED].hint
    assert failed.said == f"[{CAR}] {DOWN.message}"
    assert failed.job_urn == urn_of(pipeline, CAR)
    assert failed.job_function == CAR
    assert [(a.attempt, a.outcome, a.error_message) for a in failed.attempts] == [
        (1, "failed", DOWN.message),
        (2, "failed", DOWN.message),
    ]
    assert (skipped.status, skipped.reason) == ("skipped", Reason.UPSTREAM_NOT_DONE)
    assert skipped.job_urn == urn_of(pipeline, GNOMAD)
    assert skipped.attempts == []
    retry = f"mavedb-audit retry {pipeline.planned.pipeline_urn} --all-unsuccessful"
    assert {failed.command, skipped.command} == {retry}
    assert failed.pipeline_urn == pipeline.planned.pipeline_urn


def test_what_was_there_before_is_told_from_the_newest_on(written: Written) -> None:
    for times in range(25):
        written.write(Status(1, Reason.MALFORMED_RECORD, f"{times}"))
    written.write(Status(1))
    (chapter,) = written.why().chapters
    assert (chapter.status, chapter.reason, chapter.sentence, chapter.said) == (
        "success",
        None,
        None,
        None,
    )
    sentence = MEANINGS[Reason.MALFORMED_RECORD].sentence
    assert [earlier.message for earlier in chapter.earlier] == [
        f"{sentence} {times}" for times in range(24, 4, -1)
    ]
    assert {earlier.job_urn for earlier in chapter.earlier} == {"urn:mavedb:job-1"}


def test_each_release_of_a_source_has_its_own_chapter_and_a_mapping_has_one(
    written: Written,
) -> None:
    for version in ("01_2026", "02_2015"):
        written.write(Status(1, Reason.NO_CLINVAR_ALLELE), type_=CLINVAR, version=version)
    written.write(Status(1), type_=CLINVAR, version="01_2026")
    written.write(Status(1, Reason.MAPPING_FAILED, "no hit"), type_=MAPPING, version=None)
    written.write(Status(1), type_=MAPPING, version="2")
    chapters = written.why().chapters
    assert [(c.annotation_type, c.version, c.status) for c in chapters] == [
        (MAPPING, "2", "success"),
        (CLINVAR, "02_2015", "skipped"),
        (CLINVAR, "01_2026", "success"),
    ]
    assert [[(e.version, e.reason) for e in chapter.earlier] for chapter in chapters] == [
        [(None, Reason.MAPPING_FAILED)],
        [],
        [("01_2026", Reason.NO_CLINVAR_ALLELE)],
    ]
    (mapping,) = written.why(MAPPING).chapters
    assert mapping == chapters[0]


@pytest.mark.parametrize(
    ("type_", "reason", "command"),
    [
        (CAID, Reason.CLINGEN_LOOKUP_FAILED, "rerun-failed tmp:numbered"),
        (
            AnnotationType.VEP_FUNCTIONAL_CONSEQUENCE,
            Reason.ENSEMBL_FAILED,
            "rerun-failed tmp:numbered",
        ),
        (
            MAPPING,
            Reason.NOT_RETURNED_BY_MAPPER,
            "request map_annotate_score_set --score-set tmp:numbered",
        ),
        (
            AnnotationType.LDH_SUBMISSION,
            Reason.LDH_BATCH_FAILED,
            "request link_gnomad_variants --score-set tmp:numbered"
            """ --params '{"only_failed_variants": true}'""",
        ),
    ],
)
def test_where_something_is_to_be_run_again_the_command_is_told(
    written: Written, type_: AnnotationType, reason: Reason, command: str
) -> None:
    written.write(Status(1, reason), type_=type_)
    assert written.why().chapters[0].command == f"mavedb-audit {command}"


def test_where_nothing_is_to_be_run_there_is_no_command(written: Written) -> None:
    written.write(Status(1, Reason.NOT_IN_SOURCE))
    written.write(Status(1, Reason.STEP_FAILED), type_=CAID)  # by a job of no pipeline
    assert [chapter.command for chapter in written.why().chapters] == [None, None]


def test_a_job_that_is_gone_leaves_the_status_without_it(written: Written) -> None:
    written.write(Status(1, Reason.LDH_BATCH_FAILED), type_=AnnotationType.LDH_SUBMISSION)
    written.connection.execute(text("DELETE FROM job_runs WHERE id = 1"))
    (chapter,) = written.why().chapters
    assert (chapter.reason, chapter.job_urn, chapter.attempts, chapter.command) == (
        Reason.LDH_BATCH_FAILED,
        None,
        [],
        None,
    )


def test_what_mavedb_wrote_itself_is_told_in_its_words(written: Written) -> None:
    written.connection.execute(
        text(
            """
            INSERT INTO variant_annotation_status (variant_id, annotation_type, status, current,
                                                   failure_category, error_message)
            VALUES (1, 'vrs_mapping', 'failed', true, 'transcript_not_found', 'No transcript')
            """
        )
    )
    (chapter,) = written.why().chapters
    assert (chapter.reason, chapter.sentence, chapter.said) == (
        "transcript_not_found",
        None,
        "No transcript",
    )


def test_newer_releases_of_mavedb_have_the_reason_in_their_details(written: Written) -> None:
    written.connection.execute(text(NEWER_RELEASE))
    written.write(Status(1, Reason.MALFORMED_RECORD, "alleles [A]"))
    (chapter,) = written.why().chapters
    assert (chapter.reason, chapter.said) == (Reason.MALFORMED_RECORD, "alleles [A]")


def test_the_variant_is_shown_with_its_names_and_current_allele(written: Written) -> None:
    written.connection.execute(
        text(
            """
            INSERT INTO mapped_variants (variant_id, current, clingen_allele_id)
            VALUES (1, true, 'CA2'), (1, false, 'CA1'), (2, true, 'CA3');
            UPDATE variants SET hgvs_nt = 'c.1A>G', hgvs_pro = 'p.Met1Val' WHERE id = 1;
            """
        )
    )
    assert written.why() == Story(
        variant_urn=VARIANT,
        score_set_urn="tmp:numbered",
        hgvs_nt="c.1A>G",
        hgvs_pro="p.Met1Val",
        clingen_allele_id="CA2",
        chapters=[],
    )


def test_a_variant_without_a_urn_is_found_by_its_id(written: Written) -> None:
    written.write(Status(2))
    written.connection.execute(text("UPDATE variants SET urn = NULL WHERE id = 2"))
    found = why(written.connection, "variant 2")
    assert (found.variant_urn, len(found.chapters)) == ("variant 2", 1)


@pytest.mark.parametrize(
    "urn", ["tmp:numbered#4", "tmp:numbered", "variant 1", "variant 9999999999"]
)
def test_an_unknown_variant_is_named(written: Written, urn: str) -> None:
    with pytest.raises(NotFoundError, match=f"There is no variant {urn}"):
        why(written.connection, urn)


def test_an_unknown_annotation_type_is_refused(written: Written) -> None:
    with pytest.raises(RequestError, match="no annotation type 'gnomad'; there are: vrs_mapping"):
        written.why("gnomad")
