-- The roles of the audit, and the rights that they need and no more. Run it in MaveDB's database, as
-- the role that owns MaveDB's tables and runs both migrations, after `alembic upgrade head` of ours
-- and after each migration of MaveDB's. It may be run again at any time: rights that this file does
-- not name are taken away. Needs CREATEROLE the first time.
--
--   psql --single-transaction -v ON_ERROR_STOP=1 -f role.sql mavedb
--
-- mavedb_audit          `mavedb-audit serve`, the workers, and whoever uses the command line
-- mavedb_audit_request  MaveDB's API, where it is another role than the owner: request_pipeline
--
-- Both are groups without a login; give each process's user one of them:
--
--   CREATE ROLE mavedb_audit_1 LOGIN PASSWORD '…' IN ROLE mavedb_audit;

DO $$
DECLARE
    role text;
    given record;
BEGIN
    FOREACH role IN ARRAY ARRAY['mavedb_audit', 'mavedb_audit_request'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA public FROM %I', role);
        EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM %I', role);
        EXECUTE format('REVOKE ALL ON SCHEMA public FROM %I', role);
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', role);
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    END LOOP;
    -- Rows move in sets, through temporary tables.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO mavedb_audit', current_database());

    -- A table of another release of MaveDB, which this database lacks, is passed over.
    FOR given IN
        SELECT rights.role, to_regclass('public.' || rights.relation) AS relation, rights.allowed
          FROM (VALUES
            -- MaveDB's own, of which the audit only reads what it names.
            ('mavedb_audit', 'users', 'SELECT (id, username)'),
            ('mavedb_audit', 'target_sequences', 'SELECT'),
            ('mavedb_audit', 'target_accessions', 'SELECT'),
            ('mavedb_audit', 'alleles', 'SELECT'),
            ('mavedb_audit', 'alembic_version', 'SELECT'),
            -- Of score sets and targets, the columns that a curator never types.
            ('mavedb_audit', 'scoresets', 'SELECT'),
            ('mavedb_audit', 'scoresets', 'UPDATE (processing_state, processing_errors,
                mapping_state, mapping_errors, num_variants, dataset_columns, modified_by_id,
                modification_date)'),
            ('mavedb_audit', 'target_genes', 'SELECT'),
            ('mavedb_audit', 'target_genes', 'UPDATE (pre_mapped_metadata, post_mapped_metadata,
                mapped_hgnc_name, uniprot_id_from_mapped_metadata, modification_date)'),
            -- What the steps make.
            ('mavedb_audit', 'variants', 'SELECT, INSERT, DELETE'),
            ('mavedb_audit', 'mapped_variants', 'SELECT, INSERT, UPDATE, DELETE'),
            ('mavedb_audit', 'gnomad_variants', 'SELECT, INSERT'),
            ('mavedb_audit', 'gnomad_variants_mapped_variants', 'SELECT, INSERT, DELETE'),
            ('mavedb_audit', 'clinical_controls', 'SELECT, INSERT, UPDATE'),
            ('mavedb_audit', 'clinvar_controls', 'SELECT, INSERT, UPDATE'),
            ('mavedb_audit', 'mapped_variants_clinical_controls', 'SELECT, INSERT, DELETE'),
            ('mavedb_audit', 'variant_translations', 'SELECT, INSERT'),
            ('mavedb_audit', 'variant_annotation_status', 'SELECT, INSERT, UPDATE'),
            ('mavedb_audit', 'annotation_event', 'INSERT'),
            -- Jobs.
            ('mavedb_audit', 'pipelines', 'SELECT, INSERT, UPDATE'),
            ('mavedb_audit', 'job_runs', 'SELECT, INSERT, UPDATE'),
            ('mavedb_audit', 'job_dependencies', 'SELECT, INSERT'),
            -- Ours.
            ('mavedb_audit', 'mavedb_audit_version', 'SELECT'),
            ('mavedb_audit', 'planned_jobs', 'SELECT, INSERT'),
            ('mavedb_audit', 'pipeline_variants', 'SELECT, INSERT'),
            ('mavedb_audit', 'pipeline_requests', 'SELECT, INSERT, UPDATE, DELETE'),
            ('mavedb_audit', 'prefect_runs', 'SELECT, INSERT, UPDATE'),
            ('mavedb_audit', 'prefect_transitions', 'SELECT, INSERT'),
            ('mavedb_audit', 'job_attempts', 'SELECT, INSERT, UPDATE'),
            ('mavedb_audit', 'job_metrics', 'SELECT, INSERT'),
            ('mavedb_audit', 'mirror_checkpoints', 'SELECT, INSERT, UPDATE'),
            ('mavedb_audit', 'operator_actions', 'SELECT, INSERT'),
            ('mavedb_audit', 'replaced_variant_statuses', 'SELECT, INSERT'),
            ('mavedb_audit', 'raw_uploads', 'SELECT, INSERT'),
            ('mavedb_audit', 'account_counts', 'SELECT, INSERT, DELETE'),
            ('mavedb_audit', 'status_confirmations', 'SELECT, INSERT, DELETE'),
            ('mavedb_audit', 'alerts', 'SELECT, INSERT, UPDATE'),
            ('mavedb_audit', 'alert_checks', 'SELECT, INSERT, UPDATE'),
            ('mavedb_audit', 'alert_deliveries', 'SELECT, INSERT, UPDATE'),

            ('mavedb_audit_request', 'scoresets', 'SELECT'),
            ('mavedb_audit_request', 'pipelines', 'SELECT, INSERT'),
            ('mavedb_audit_request', 'job_runs', 'SELECT, INSERT'),
            ('mavedb_audit_request', 'job_dependencies', 'SELECT, INSERT'),
            ('mavedb_audit_request', 'planned_jobs', 'SELECT, INSERT'),
            ('mavedb_audit_request', 'pipeline_requests', 'INSERT'),
            ('mavedb_audit_request', 'raw_uploads', 'SELECT, INSERT')
          ) AS rights (role, relation, allowed)
         WHERE to_regclass('public.' || rights.relation) IS NOT NULL
    LOOP
        EXECUTE format('GRANT %s ON %s TO %I', given.allowed, given.relation, given.role);
    END LOOP;

    -- The sequences of the tables that they insert into.
    FOR given IN
        SELECT DISTINCT granted.grantee AS role, used.objid::regclass AS relation
          FROM information_schema.role_table_grants AS granted
          JOIN pg_depend AS used
            ON used.refobjid = to_regclass(format('%I.%I', table_schema, table_name))
           AND used.classid = 'pg_class'::regclass AND used.deptype = 'a'
          JOIN pg_class ON pg_class.oid = used.objid AND relkind = 'S'
         WHERE granted.table_schema = 'public' AND granted.privilege_type = 'INSERT'
           AND granted.grantee IN ('mavedb_audit', 'mavedb_audit_request')
    LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE %s TO %I', given.relation, given.role);
    END LOOP;
END $$;

-- Refreshing a materialized view takes a right of its own since PostgreSQL 17. Before, only a
-- view's owner may: then the views go to a role that both the owner and the audit are members of.
DO $$
DECLARE
    given record;
BEGIN
    IF current_setting('server_version_num')::integer >= 170000 THEN
        FOR given IN SELECT oid::regclass AS view FROM pg_class
                      WHERE relkind = 'm' AND relnamespace = 'public'::regnamespace LOOP
            EXECUTE format('GRANT SELECT, MAINTAIN ON %s TO mavedb_audit', given.view);
        END LOOP;
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mavedb_views') THEN
        CREATE ROLE mavedb_views NOLOGIN;
    END IF;
    EXECUTE format('GRANT mavedb_views TO %I, mavedb_audit', current_user);
    -- A view reads its tables as its owner. To become it takes the right to make one, for a moment.
    GRANT USAGE, CREATE ON SCHEMA public TO mavedb_views;
    FOR given IN
        SELECT DISTINCT source.refobjid::regclass AS relation
          FROM pg_class AS view
          JOIN pg_rewrite AS rule ON rule.ev_class = view.oid
          JOIN pg_depend AS source ON source.objid = rule.oid
           AND source.classid = 'pg_rewrite'::regclass AND source.refclassid = 'pg_class'::regclass
           AND source.refobjid <> view.oid
         WHERE view.relkind = 'm' AND view.relnamespace = 'public'::regnamespace
    LOOP
        EXECUTE format('GRANT SELECT ON %s TO mavedb_views', given.relation);
    END LOOP;
    FOR given IN SELECT oid::regclass AS view FROM pg_class
                  WHERE relkind = 'm' AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE format('ALTER MATERIALIZED VIEW %s OWNER TO mavedb_views', given.view);
    END LOOP;
    REVOKE CREATE ON SCHEMA public FROM mavedb_views;
END $$;
