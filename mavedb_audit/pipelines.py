"""What is planned: each pipeline's steps, as data.

`request_pipeline` reads a plan to insert its jobs, the flow reads it to submit its tasks, and the
account reads it to know which annotation types a job owes to its variants. A new step is one
entry in STEPS and its name in the plans that run it; its code is tasks/<job function>.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from mavedb_audit import clinvar
from mavedb_audit.settings import settings


class JobType(StrEnum):
    """MaveDB's values of job_runs.job_type."""

    VARIANT_CREATION = "variant_creation"
    VARIANT_MAPPING = "variant_mapping"
    MAPPED_VARIANT_ANNOTATION = "mapped_variant_annotation"
    PIPELINE_MANAGEMENT = "pipeline_management"
    DATA_MANAGEMENT = "data_management"


class AnnotationType(StrEnum):
    """MaveDB's values of variant_annotation_status.annotation_type."""

    VRS_MAPPING = "vrs_mapping"
    CLINGEN_ALLELE_ID = "clingen_allele_id"
    MAPPED_HGVS = "mapped_hgvs"
    VARIANT_TRANSLATION = "variant_translation"
    GNOMAD_ALLELE_FREQUENCY = "gnomad_allele_frequency"
    CLINVAR_CONTROL = "clinvar_control"
    VEP_FUNCTIONAL_CONSEQUENCE = "vep_functional_consequence"
    LDH_SUBMISSION = "ldh_submission"


class DependencyType(StrEnum):
    """MaveDB's values of job_dependencies.dependency_type."""

    SUCCESS_REQUIRED = "success_required"
    COMPLETION_REQUIRED = "completion_required"


#: The job that stands for the pipeline's own start. It is the flow run itself, not a task.
START_PIPELINE = "start_pipeline"


#: Gives an annotation's source version from the job's parameters, where it is known beforehand.
#: Raises RequestError for parameters that no source can have.
VersionOf = Callable[[Mapping[str, Any]], str | None]


def _unversioned(_params: Mapping[str, Any]) -> None:
    return None


def _gnomad_version(_params: Mapping[str, Any]) -> str:
    return settings().gnomad_data_version


@dataclass(frozen=True)
class Step:
    """One job of a plan.

    `key` names the job within its pipeline, `function` its code. `params` are the job's inputs: a
    None value must come with the pipeline's own parameters, any other value is fixed. `after` are
    keys of jobs that must have ended well (or only ended, with completion_required).
    `annotation_types` are what the job owes to every variant of its score set; `version_of` gives
    the version under which it owes them. A step that is `limitable` can work on some of the score
    set's variants alone.
    """

    key: str
    function: str
    job_type: JobType
    params: Mapping[str, Any]
    after: tuple[str, ...] = ()
    dependency_type: DependencyType = DependencyType.SUCCESS_REQUIRED
    annotation_types: tuple[AnnotationType, ...] = ()
    version_of: VersionOf = _unversioned
    limitable: bool = False


@dataclass(frozen=True)
class Pipeline:
    """A named set of steps, in an order in which every step follows those it depends on."""

    name: str
    description: str
    steps: tuple[Step, ...]

    @property
    def params(self) -> tuple[str, ...]:
        """What it must be given, in the order in which its steps first name it."""
        params = [item for step in self.steps for item in step.params.items()]
        return tuple(dict.fromkeys(key for key, fixed in params if fixed is None))

    @property
    def is_limitable(self) -> bool:
        """Whether it can work on some of a score set's variants alone."""
        return all(step.limitable for step in self.steps)


def _step(
    function: str,
    job_type: JobType,
    params: str,
    *,
    after: tuple[str, ...] = (),
    annotates: tuple[AnnotationType, ...] = (),
    version_of: VersionOf = _unversioned,
    limitable: bool = False,
) -> Step:
    """A step whose key is its function and whose parameters all come from the pipeline."""
    return Step(
        key=function,
        function=function,
        job_type=job_type,
        params=dict.fromkeys(["correlation_id", *params.split()]),
        after=after,
        annotation_types=annotates,
        version_of=version_of,
        limitable=limitable,
    )


CREATE = _step(
    "create_variants_for_score_set",
    JobType.VARIANT_CREATION,
    "score_set_id updater_id scores_file_key counts_file_key"
    " score_columns_metadata count_columns_metadata",
)
MAP = _step(
    "map_variants_for_score_set",
    JobType.VARIANT_MAPPING,
    "score_set_id updater_id",
    after=(CREATE.key,),
    annotates=(AnnotationType.VRS_MAPPING,),
)
REGISTER = _step(
    "submit_score_set_mappings_to_car",
    JobType.MAPPED_VARIANT_ANNOTATION,
    "score_set_id updater_id",
    after=(MAP.key,),
    annotates=(AnnotationType.CLINGEN_ALLELE_ID,),
    limitable=True,
)
LINK_GNOMAD = _step(
    "link_gnomad_variants",
    JobType.MAPPED_VARIANT_ANNOTATION,
    "score_set_id",
    after=(REGISTER.key,),
    annotates=(AnnotationType.GNOMAD_ALLELE_FREQUENCY,),
    version_of=_gnomad_version,
    limitable=True,
)
WARM_CLINGEN_CACHE = _step(
    "warm_clingen_cache",
    JobType.MAPPED_VARIANT_ANNOTATION,
    "score_set_id",
    after=(REGISTER.key,),
    limitable=True,
)
POPULATE_MAPPED_HGVS = _step(
    "populate_mapped_hgvs_for_score_set",
    JobType.MAPPED_VARIANT_ANNOTATION,
    "score_set_id",
    after=(WARM_CLINGEN_CACHE.key,),
    annotates=(AnnotationType.MAPPED_HGVS,),
    limitable=True,
)
POPULATE_VARIANT_TRANSLATIONS = _step(
    "populate_variant_translations_for_score_set",
    JobType.MAPPED_VARIANT_ANNOTATION,
    "score_set_id",
    after=(WARM_CLINGEN_CACHE.key,),
    annotates=(AnnotationType.VARIANT_TRANSLATION,),
    limitable=True,
)
# UniProt is asked about target genes, so whatever variants a pipeline is limited to are all one.
SUBMIT_UNIPROT = _step(
    "submit_uniprot_mapping_jobs_for_score_set",
    JobType.MAPPED_VARIANT_ANNOTATION,
    "score_set_id",
    after=(MAP.key,),
    limitable=True,
)
_POLL_UNIPROT = _step(
    "poll_uniprot_mapping_jobs_for_score_set",
    JobType.MAPPED_VARIANT_ANNOTATION,
    "score_set_id",
    after=(SUBMIT_UNIPROT.key,),
    limitable=True,
)
# The submitting step puts its jobs there; polled alone, the step submits by itself.
POLL_UNIPROT = replace(_POLL_UNIPROT, params={**_POLL_UNIPROT.params, "mapping_jobs": {}})
SUBMIT_LDH = _step(
    "submit_score_set_mappings_to_ldh",
    JobType.MAPPED_VARIANT_ANNOTATION,
    "score_set_id",
    annotates=(AnnotationType.LDH_SUBMISSION,),
    limitable=True,
)
# Its version is Ensembl's release, which only Ensembl can tell: a step that failed has none.
POPULATE_VEP = _step(
    "populate_vep_for_score_set",
    JobType.MAPPED_VARIANT_ANNOTATION,
    "score_set_id",
    after=(MAP.key,),
    annotates=(AnnotationType.VEP_FUNCTIONAL_CONSEQUENCE,),
    limitable=True,
)


def _refresh_clinvar(key: str, **release: int | None) -> Step:
    return Step(
        key=key,
        function="refresh_clinvar_controls",
        job_type=JobType.MAPPED_VARIANT_ANNOTATION,
        params={"correlation_id": None, "score_set_id": None, **release},
        after=(WARM_CLINGEN_CACHE.key,),
        annotation_types=(AnnotationType.CLINVAR_CONTROL,),
        version_of=clinvar.version_of,
        limitable=True,
    )


#: One job a release. One that fails does not hold up the others, since nothing comes after it.
REFRESH_CLINVAR_RELEASES = tuple(
    _refresh_clinvar(f"refresh_clinvar_controls_{year}{month:02d}", year=year, month=month)
    for year, month in clinvar.ANNOTATED_RELEASES
)
REFRESH_CLINVAR = _refresh_clinvar("refresh_clinvar_controls", year=None, month=None)
LOAD_CLINVAR = _step(
    "load_clinvar_release",
    JobType.DATA_MANAGEMENT,
    "year month",
    version_of=clinvar.version_if_any,
)
REFRESH_PUBLISHED = _step(
    "refresh_published_variants_view", JobType.DATA_MANAGEMENT, "score_set_id"
)
REFRESH_VIEWS = _step("refresh_materialized_views", JobType.DATA_MANAGEMENT, "")

#: Types of which a variant keeps one current status for each version of the source. Of the others
#: it has one current status in all: a new mapping retires the old one, whatever its VRS version.
KEPT_PER_VERSION = frozenset(
    {
        AnnotationType.GNOMAD_ALLELE_FREQUENCY,
        AnnotationType.CLINVAR_CONTROL,
    }
)

#: What every pipeline does once a score set's variants are mapped.
ANNOTATION = (
    REGISTER,
    LINK_GNOMAD,
    WARM_CLINGEN_CACHE,
    POPULATE_MAPPED_HGVS,
    POPULATE_VARIANT_TRANSLATIONS,
    *REFRESH_CLINVAR_RELEASES,
    POPULATE_VEP,
    SUBMIT_UNIPROT,
    POLL_UNIPROT,
)


#: Each of these steps is a pipeline of its own, too, under its function's name.
STANDALONE: tuple[tuple[Step, str], ...] = (
    (CREATE, "Create the variants of an uploaded score set."),
    (MAP, "Map the variants of a score set to the human reference."),
    (REGISTER, "Register the mapped variants of a score set at ClinGen's Allele Registry."),
    (LINK_GNOMAD, "Link the variants of a score set to their allele frequencies in gnomAD."),
    (WARM_CLINGEN_CACHE, "Read a score set's alleles at ClinGen, for the steps that need them."),
    (POPULATE_MAPPED_HGVS, "Give mapped variants their HGVS on genome, transcript and protein."),
    (POPULATE_VARIANT_TRANSLATIONS, "Find the protein alleles of a score set's DNA alleles."),
    (SUBMIT_UNIPROT, "Submit mapping jobs for a score set's target genes at UniProt."),
    (POLL_UNIPROT, "Give a score set's target genes the UniProt accessions that they map to."),
    (SUBMIT_LDH, "Submit a published score set's mapped variants to ClinGen's Linked Data Hub."),
    (POPULATE_VEP, "Ask Ensembl's VEP for the consequences of a score set's variants."),
    (REFRESH_CLINVAR, "Link a score set's variants to what a release of ClinVar says of them."),
    (LOAD_CLINVAR, "Load a release of ClinVar, the newest one unless year and month are given."),
    (REFRESH_PUBLISHED, "Refresh the view that lists the variants of published score sets."),
    (REFRESH_VIEWS, "Refresh every materialized view."),
)


def _pipeline(name: str, description: str, *steps: Step) -> Pipeline:
    """A plan of `steps`; dependencies on steps outside the plan fall away."""
    keys = {step.key for step in steps}
    return Pipeline(
        name,
        description,
        tuple(
            replace(step, after=tuple(key for key in step.after if key in keys)) for step in steps
        ),
    )


PIPELINES: Mapping[str, Pipeline] = {
    pipeline.name: pipeline
    for pipeline in (
        _pipeline(
            "validate_map_annotate_score_set",
            "Create the variants of an uploaded score set, map and annotate them.",
            CREATE,
            MAP,
            *ANNOTATION,
        ),
        _pipeline(
            "map_annotate_score_set",
            "Map the variants of a score set again and annotate them.",
            MAP,
            *ANNOTATION,
        ),
        _pipeline(
            "annotate_score_set",
            "Annotate the mapped variants of a score set again.",
            *ANNOTATION,
        ),
        _pipeline(
            "publish_score_set",
            "Show a newly published score set in the published variants view, and to ClinGen.",
            REFRESH_PUBLISHED,
            SUBMIT_LDH,
        ),
        *(_pipeline(step.function, description, step) for step, description in STANDALONE),
    )
}


def step_of(function: str) -> Step:
    """The planned step of a job function. Raises KeyError for a function in no plan."""
    for pipeline in PIPELINES.values():
        for step in pipeline.steps:
            if step.function == function:
                return step
    raise KeyError(function)
