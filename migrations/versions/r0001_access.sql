-- Who may do what. `trapstreet_service` is what the API and the workers are: a login role where the embedded server made
-- it, else a group that the operator grants to a login role.

DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'trapstreet_service') THEN
        CREATE ROLE trapstreet_service NOLOGIN;
    END IF;
EXCEPTION
    -- Another database of this cluster made it at the same moment.
    WHEN duplicate_object OR unique_violation THEN NULL;
END;
$$;

GRANT USAGE ON SCHEMA public TO trapstreet_service;
GRANT SELECT ON alembic_version TO trapstreet_service;

-- Append-only: nothing that was logged is ever changed, and the nonces that open it are not either.
GRANT SELECT, INSERT ON log_entries, log_nodes, log_checkpoints, entry_nonces TO trapstreet_service;

GRANT SELECT, INSERT, UPDATE, DELETE ON
    vendors, signing_challenges, api_keys, registrations, model_commitments,
    artifacts, worker_keys, embeddings, survival_reports, white_box_checks,
    suspects, suspect_secrets, endpoint_budgets, derivations, derivation_queries,
    disputes, blocks, openings, queries,
    dispute_steps, dispute_contacts, dispute_links, dispute_answers, second_runs, weight_deliveries,
    cross_tests, cross_deliveries,
    people, memberships, passkeys, ceremonies, recovery_codes, web_sessions, sign_in_links, invitations,
    events, webhooks, webhook_deliveries, vendor_feeds, mails,
    guesses,
    procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers, procrastinate_workers
TO trapstreet_service;

GRANT USAGE ON SEQUENCE
    procrastinate_jobs_id_seq, procrastinate_events_id_seq, procrastinate_periodic_defers_id_seq,
    procrastinate_workers_id_seq
TO trapstreet_service;

-- The owner holds every right on its tables, so a right cannot stop it from an accident; a trigger does.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END;
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log_entries EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log_nodes EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log_checkpoints EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entry_nonces EXECUTE FUNCTION refuse_change();

-- ALWAYS: a session that plays the role of a replica is refused too.
ALTER TABLE log_entries ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE log_nodes ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE log_checkpoints ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE entry_nonces ENABLE ALWAYS TRIGGER append_only;
