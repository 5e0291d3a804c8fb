"""The only writer of pipelines, job_runs, job_dependencies, job_attempts and Prefect's states.

Every function takes the caller's connection and leaves the commit to the caller. All writers lock
in one order: the accounts of the score sets (`accounts.lock_accounts`), then the pipeline, then its
jobs. `lock_pipeline` is for who moves a job, `lock_for_closing` for who may also end one without
success, which accounts for its variants.

    plans        insert a pipeline with its jobs; open and settle it
    attempts     begin, finish and fail an attempt of a job
    transitions  record what Prefect's runs went through
    closing      what follows when a job or a pipeline ends
"""
