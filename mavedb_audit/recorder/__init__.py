"""The only writer of pipelines, job_runs, job_dependencies, job_attempts and Prefect's states.

Every function takes the caller's connection and leaves the commit to the caller. Who touches both
a pipeline's row and its jobs' rows locks the pipeline first (`lock_pipeline`), so that concurrent
writers meet in one order.

    plans        insert a pipeline with its jobs; open and settle it
    attempts     begin, finish and fail an attempt of a job
    transitions  record what Prefect's runs went through
    closing      what follows when a job or a pipeline ends
"""
