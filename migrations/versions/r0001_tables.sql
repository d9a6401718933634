-- Every table of app/db/tables.py as the first revision made it; later revisions change it, this file stays.

CREATE TABLE ceremonies (
    challenge BYTEA NOT NULL,
    purpose TEXT NOT NULL,
    asker BYTEA NOT NULL,
    details JSONB NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_ceremonies PRIMARY KEY (challenge)
);
CREATE INDEX ix_ceremonies_purpose_asker ON ceremonies (purpose, asker);

CREATE TABLE endpoint_budgets (
    host TEXT NOT NULL,
    scope TEXT NOT NULL,
    day TEXT NOT NULL,
    sent BIGINT NOT NULL,
    CONSTRAINT pk_endpoint_budgets PRIMARY KEY (host, scope, day),
    CONSTRAINT ck_endpoint_budgets_sent_counts CHECK (sent >= 0)
);

CREATE TABLE guesses (
    source_sha256 BYTEA NOT NULL,
    counts_until TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_guesses PRIMARY KEY (source_sha256),
    CONSTRAINT ck_guesses_source_sha256_size CHECK (octet_length(source_sha256) = 32)
);
CREATE INDEX ix_guesses_counts_until ON guesses (counts_until);

CREATE TABLE log_checkpoints (
    size BIGINT NOT NULL,
    note TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_log_checkpoints PRIMARY KEY (size)
);

CREATE TABLE log_entries (
    index BIGINT NOT NULL,
    kind TEXT NOT NULL,
    data BYTEA NOT NULL,
    leaf_hash BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_log_entries PRIMARY KEY (index),
    CONSTRAINT ck_log_entries_index_from_zero CHECK (index >= 0),
    CONSTRAINT ck_log_entries_leaf_hash_size CHECK (octet_length(leaf_hash) = 32)
);

CREATE TABLE log_nodes (
    level INTEGER NOT NULL,
    index BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    CONSTRAINT pk_log_nodes PRIMARY KEY (level, index),
    CONSTRAINT ck_log_nodes_hash_size CHECK (octet_length(hash) = 32)
);

CREATE TABLE mails (
    id UUID NOT NULL,
    recipient TEXT NOT NULL,
    recipient_sha256 BYTEA NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_attempt_at TIMESTAMP WITH TIME ZONE,
    error TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_mails PRIMARY KEY (id),
    CONSTRAINT ck_mails_state_known CHECK (state IN ('waiting', 'sent', 'failed')),
    CONSTRAINT ck_mails_recipient_sha256_size CHECK (octet_length(recipient_sha256) = 32)
);
CREATE INDEX ix_mails_due ON mails (next_attempt_at) WHERE state = 'waiting';
CREATE INDEX ix_mails_recipient_sha256_created_at ON mails (recipient_sha256, created_at);

CREATE TABLE people (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    handle BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_people PRIMARY KEY (id),
    CONSTRAINT ck_people_handle_size CHECK (octet_length(handle) = 32),
    CONSTRAINT uq_people_handle UNIQUE (handle)
);

CREATE TABLE signing_challenges (
    nonce BYTEA NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_signing_challenges PRIMARY KEY (nonce)
);

CREATE TABLE vendors (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    contact TEXT NOT NULL,
    public_key BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_vendors PRIMARY KEY (id),
    CONSTRAINT ck_vendors_public_key_size CHECK (octet_length(public_key) = 32)
);

CREATE TABLE api_keys (
    id TEXT NOT NULL,
    vendor_id UUID NOT NULL,
    secret_sha256 BYTEA NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT[] NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    last_used_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_api_keys PRIMARY KEY (id),
    CONSTRAINT ck_api_keys_secret_sha256_size CHECK (octet_length(secret_sha256) = 32),
    CONSTRAINT fk_api_keys_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id)
);
CREATE INDEX ix_api_keys_vendor_id_id ON api_keys (vendor_id, id);

CREATE TABLE artifacts (
    vendor_id UUID NOT NULL,
    sha256 BYTEA NOT NULL,
    size_bytes BIGINT NOT NULL,
    media_type TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_artifacts PRIMARY KEY (vendor_id, sha256),
    CONSTRAINT ck_artifacts_sha256_size CHECK (octet_length(sha256) = 32),
    CONSTRAINT ck_artifacts_size_bytes_counts CHECK (size_bytes >= 0),
    CONSTRAINT fk_artifacts_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id)
);

CREATE TABLE entry_nonces (
    entry_index BIGINT NOT NULL,
    nonce BYTEA NOT NULL,
    CONSTRAINT pk_entry_nonces PRIMARY KEY (entry_index),
    CONSTRAINT ck_entry_nonces_nonce_size CHECK (octet_length(nonce) = 32),
    CONSTRAINT fk_entry_nonces_entry_index_log_entries FOREIGN KEY(entry_index) REFERENCES log_entries (index)
);

CREATE TABLE events (
    id UUID NOT NULL,
    vendor_id UUID NOT NULL,
    kind TEXT NOT NULL,
    data JSONB NOT NULL,
    is_public BOOLEAN NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_events PRIMARY KEY (id),
    CONSTRAINT fk_events_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id)
);
CREATE INDEX ix_events_public ON events (id) WHERE is_public;
CREATE INDEX ix_events_vendor_id_id ON events (vendor_id, id);

CREATE TABLE invitations (
    token_sha256 BYTEA NOT NULL,
    vendor_id UUID NOT NULL,
    role TEXT NOT NULL,
    note TEXT NOT NULL,
    invited_by UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_invitations PRIMARY KEY (token_sha256),
    CONSTRAINT ck_invitations_token_sha256_size CHECK (octet_length(token_sha256) = 32),
    CONSTRAINT ck_invitations_role_known CHECK (role IN ('owner', 'engineer', 'auditor')),
    CONSTRAINT fk_invitations_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id),
    CONSTRAINT fk_invitations_invited_by_people FOREIGN KEY(invited_by) REFERENCES people (id)
);
CREATE INDEX ix_invitations_vendor_id ON invitations (vendor_id);

CREATE TABLE memberships (
    person_id UUID NOT NULL,
    vendor_id UUID NOT NULL,
    role TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_memberships PRIMARY KEY (person_id, vendor_id),
    CONSTRAINT ck_memberships_role_known CHECK (role IN ('owner', 'engineer', 'auditor')),
    CONSTRAINT fk_memberships_person_id_people FOREIGN KEY(person_id) REFERENCES people (id),
    CONSTRAINT fk_memberships_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id)
);
CREATE INDEX ix_memberships_vendor_id ON memberships (vendor_id);

CREATE TABLE model_commitments (
    id UUID NOT NULL,
    vendor_id UUID NOT NULL,
    entry_index BIGINT NOT NULL,
    sha256 BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_model_commitments PRIMARY KEY (id),
    CONSTRAINT ck_model_commitments_sha256_size CHECK (octet_length(sha256) = 32),
    CONSTRAINT fk_model_commitments_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id),
    CONSTRAINT uq_model_commitments_entry_index UNIQUE (entry_index),
    CONSTRAINT fk_model_commitments_entry_index_log_entries FOREIGN KEY(entry_index) REFERENCES log_entries (index)
);
CREATE INDEX ix_model_commitments_sha256 ON model_commitments (sha256);
CREATE INDEX ix_model_commitments_vendor_id_id ON model_commitments (vendor_id, id);

CREATE TABLE passkeys (
    credential_id BYTEA NOT NULL,
    person_id UUID NOT NULL,
    name TEXT NOT NULL,
    public_key BYTEA NOT NULL,
    sign_count INTEGER NOT NULL,
    transports TEXT[] NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_used_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_passkeys PRIMARY KEY (credential_id),
    CONSTRAINT fk_passkeys_person_id_people FOREIGN KEY(person_id) REFERENCES people (id)
);
CREATE INDEX ix_passkeys_person_id ON passkeys (person_id);

CREATE TABLE recovery_codes (
    code_sha256 BYTEA NOT NULL,
    person_id UUID NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_recovery_codes PRIMARY KEY (code_sha256),
    CONSTRAINT ck_recovery_codes_code_sha256_size CHECK (octet_length(code_sha256) = 32),
    CONSTRAINT fk_recovery_codes_person_id_people FOREIGN KEY(person_id) REFERENCES people (id)
);
CREATE INDEX ix_recovery_codes_person_id ON recovery_codes (person_id);

CREATE TABLE registrations (
    id UUID NOT NULL,
    vendor_id UUID NOT NULL,
    entry_index BIGINT NOT NULL,
    statement BYTEA NOT NULL,
    statement_sha256 BYTEA NOT NULL,
    signature BYTEA NOT NULL,
    beacon_index BIGINT,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_registrations PRIMARY KEY (id),
    CONSTRAINT ck_registrations_statement_sha256_size CHECK (octet_length(statement_sha256) = 32),
    CONSTRAINT ck_registrations_signature_size CHECK (octet_length(signature) = 64),
    CONSTRAINT fk_registrations_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id),
    CONSTRAINT uq_registrations_entry_index UNIQUE (entry_index),
    CONSTRAINT fk_registrations_entry_index_log_entries FOREIGN KEY(entry_index) REFERENCES log_entries (index),
    CONSTRAINT uq_registrations_statement_sha256 UNIQUE (statement_sha256),
    CONSTRAINT fk_registrations_beacon_index_log_entries FOREIGN KEY(beacon_index) REFERENCES log_entries (index)
);
CREATE INDEX ix_registrations_vendor_id_id ON registrations (vendor_id, id);

CREATE TABLE sign_in_links (
    token_sha256 BYTEA NOT NULL,
    person_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_sign_in_links PRIMARY KEY (token_sha256),
    CONSTRAINT ck_sign_in_links_token_sha256_size CHECK (octet_length(token_sha256) = 32),
    CONSTRAINT fk_sign_in_links_person_id_people FOREIGN KEY(person_id) REFERENCES people (id)
);
CREATE INDEX ix_sign_in_links_person_id ON sign_in_links (person_id);

CREATE TABLE suspects (
    id UUID NOT NULL,
    vendor_id UUID NOT NULL,
    name TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    interface JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_suspects PRIMARY KEY (id),
    CONSTRAINT fk_suspects_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id)
);
CREATE INDEX ix_suspects_vendor_id_id ON suspects (vendor_id, id);

CREATE TABLE vendor_feeds (
    vendor_id UUID NOT NULL,
    token_sha256 BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_vendor_feeds PRIMARY KEY (vendor_id),
    CONSTRAINT ck_vendor_feeds_token_sha256_size CHECK (octet_length(token_sha256) = 32),
    CONSTRAINT fk_vendor_feeds_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id),
    CONSTRAINT uq_vendor_feeds_token_sha256 UNIQUE (token_sha256)
);

CREATE TABLE web_sessions (
    token_sha256 BYTEA NOT NULL,
    person_id UUID NOT NULL,
    vendor_id UUID,
    browser TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_web_sessions PRIMARY KEY (token_sha256),
    CONSTRAINT ck_web_sessions_token_sha256_size CHECK (octet_length(token_sha256) = 32),
    CONSTRAINT fk_web_sessions_person_id_people FOREIGN KEY(person_id) REFERENCES people (id),
    CONSTRAINT fk_web_sessions_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id)
);
CREATE INDEX ix_web_sessions_person_id ON web_sessions (person_id);

CREATE TABLE webhooks (
    id UUID NOT NULL,
    vendor_id UUID NOT NULL,
    url TEXT NOT NULL,
    topics TEXT[] NOT NULL,
    sealed_secret BYTEA NOT NULL,
    sealed_old_secret BYTEA,
    old_secret_until TIMESTAMP WITH TIME ZONE,
    is_enabled BOOLEAN NOT NULL,
    disabled_reason TEXT NOT NULL,
    failing_since TIMESTAMP WITH TIME ZONE,
    failures_in_a_row INTEGER NOT NULL,
    held_until TIMESTAMP WITH TIME ZONE,
    paused_until TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_webhooks PRIMARY KEY (id),
    CONSTRAINT fk_webhooks_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id)
);
CREATE INDEX ix_webhooks_vendor_id_id ON webhooks (vendor_id, id);

CREATE TABLE worker_keys (
    id UUID NOT NULL,
    queue TEXT NOT NULL,
    public_key BYTEA NOT NULL,
    entry_index BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_worker_keys PRIMARY KEY (id),
    CONSTRAINT ck_worker_keys_public_key_size CHECK (octet_length(public_key) = 64),
    CONSTRAINT uq_worker_keys_public_key UNIQUE (public_key),
    CONSTRAINT uq_worker_keys_entry_index UNIQUE (entry_index),
    CONSTRAINT fk_worker_keys_entry_index_log_entries FOREIGN KEY(entry_index) REFERENCES log_entries (index)
);
CREATE INDEX ix_worker_keys_queue_id ON worker_keys (queue, id);

CREATE TABLE derivations (
    id UUID NOT NULL,
    vendor_id UUID NOT NULL,
    registration_id UUID NOT NULL,
    host TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    address_options JSONB NOT NULL,
    adapter TEXT,
    covers_sha256 BYTEA NOT NULL,
    state TEXT NOT NULL,
    asked INTEGER NOT NULL,
    answered INTEGER NOT NULL,
    asking_milliseconds INTEGER NOT NULL,
    metadata_answers BYTEA,
    ordinal INTEGER,
    head BYTEA,
    report JSONB,
    file_sha256 BYTEA,
    entry_index BIGINT,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_derivations PRIMARY KEY (id),
    CONSTRAINT uq_derivations_registration_id_host UNIQUE (registration_id, host),
    CONSTRAINT uq_derivations_registration_id_ordinal UNIQUE (registration_id, ordinal),
    CONSTRAINT ck_derivations_state_known CHECK (state IN ('asking', 'done', 'failed')),
    CONSTRAINT ck_derivations_covers_sha256_size CHECK (octet_length(covers_sha256) = 32),
    CONSTRAINT ck_derivations_file_sha256_size CHECK (octet_length(file_sha256) = 32),
    CONSTRAINT fk_derivations_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id),
    CONSTRAINT fk_derivations_registration_id_registrations FOREIGN KEY(registration_id) REFERENCES registrations (id),
    CONSTRAINT uq_derivations_entry_index UNIQUE (entry_index),
    CONSTRAINT fk_derivations_entry_index_log_entries FOREIGN KEY(entry_index) REFERENCES log_entries (index)
);

CREATE TABLE disputes (
    id UUID NOT NULL,
    vendor_id UUID NOT NULL,
    registration_id UUID NOT NULL,
    suspect_id UUID NOT NULL,
    family TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    filing_record BYTEA NOT NULL,
    signature BYTEA NOT NULL,
    blind BYTEA NOT NULL,
    role_blind_seed BYTEA NOT NULL,
    covers_sha256 BYTEA,
    egresses INTEGER NOT NULL,
    filing_index BIGINT NOT NULL,
    beacon_index BIGINT,
    state TEXT NOT NULL,
    blocks_opened INTEGER NOT NULL,
    blocks_probed INTEGER NOT NULL,
    blocks_labelled INTEGER NOT NULL,
    withheld_in_a_row INTEGER NOT NULL,
    deadline_at TIMESTAMP WITH TIME ZONE,
    opened_by TEXT,
    last_opened_at TIMESTAMP WITH TIME ZONE,
    challenge JSONB,
    verdict TEXT,
    reason TEXT,
    asked INTEGER NOT NULL,
    matches INTEGER NOT NULL,
    log2_e TEXT,
    verdict_index BIGINT,
    bundle_sha256 BYTEA,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_disputes PRIMARY KEY (id),
    CONSTRAINT uq_disputes_registration_id_ordinal UNIQUE (registration_id, ordinal),
    CONSTRAINT uq_disputes_registration_id_family UNIQUE (registration_id, family),
    CONSTRAINT ck_disputes_ordinal_from_one CHECK (ordinal >= 1),
    CONSTRAINT ck_disputes_signature_size CHECK (octet_length(signature) = 64),
    CONSTRAINT ck_disputes_blind_size CHECK (octet_length(blind) = 32),
    CONSTRAINT ck_disputes_covers_sha256_size CHECK (octet_length(covers_sha256) = 32),
    CONSTRAINT ck_disputes_bundle_sha256_size CHECK (octet_length(bundle_sha256) = 32),
    CONSTRAINT ck_disputes_verdict_known CHECK (verdict IN ('VOID', 'CONFIRMED', 'NON_COOPERATIVE', 'NOT_SUPPORTED', 'INCONCLUSIVE', 'INDICATIVE')),
    CONSTRAINT ck_disputes_opened_by_known CHECK (opened_by IN ('browser', 'program')),
    CONSTRAINT ck_disputes_matches_were_asked CHECK (matches <= asked),
    CONSTRAINT fk_disputes_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id),
    CONSTRAINT fk_disputes_registration_id_registrations FOREIGN KEY(registration_id) REFERENCES registrations (id),
    CONSTRAINT fk_disputes_suspect_id_suspects FOREIGN KEY(suspect_id) REFERENCES suspects (id),
    CONSTRAINT uq_disputes_filing_index UNIQUE (filing_index),
    CONSTRAINT fk_disputes_filing_index_log_entries FOREIGN KEY(filing_index) REFERENCES log_entries (index),
    CONSTRAINT fk_disputes_beacon_index_log_entries FOREIGN KEY(beacon_index) REFERENCES log_entries (index),
    CONSTRAINT fk_disputes_verdict_index_log_entries FOREIGN KEY(verdict_index) REFERENCES log_entries (index)
);
CREATE INDEX ix_disputes_deadline_at ON disputes (deadline_at) WHERE verdict IS NULL;
CREATE INDEX ix_disputes_vendor_id_id ON disputes (vendor_id, id);

CREATE TABLE embeddings (
    artifact_sha256 BYTEA,
    entry_index BIGINT,
    id UUID NOT NULL,
    vendor_id UUID NOT NULL,
    registration_id UUID NOT NULL,
    queue TEXT NOT NULL,
    order_json JSONB NOT NULL,
    sealed_key BYTEA NOT NULL,
    state TEXT NOT NULL,
    job_id BIGINT,
    attempt INTEGER NOT NULL,
    progress JSONB NOT NULL,
    report JSONB,
    error JSONB,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_embeddings PRIMARY KEY (id),
    CONSTRAINT ck_embeddings_state_known CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    CONSTRAINT ck_embeddings_artifact_sha256_size CHECK (octet_length(artifact_sha256) = 32),
    CONSTRAINT fk_embeddings_entry_index_log_entries FOREIGN KEY(entry_index) REFERENCES log_entries (index),
    CONSTRAINT fk_embeddings_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id),
    CONSTRAINT fk_embeddings_registration_id_registrations FOREIGN KEY(registration_id) REFERENCES registrations (id)
);
CREATE INDEX ix_embeddings_artifact_sha256 ON embeddings (artifact_sha256);
CREATE INDEX ix_embeddings_vendor_id_id ON embeddings (vendor_id, id);

CREATE TABLE survival_reports (
    notebook JSONB NOT NULL,
    id UUID NOT NULL,
    vendor_id UUID NOT NULL,
    registration_id UUID NOT NULL,
    queue TEXT NOT NULL,
    order_json JSONB NOT NULL,
    sealed_key BYTEA NOT NULL,
    state TEXT NOT NULL,
    job_id BIGINT,
    attempt INTEGER NOT NULL,
    progress JSONB NOT NULL,
    report JSONB,
    error JSONB,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_survival_reports PRIMARY KEY (id),
    CONSTRAINT ck_survival_reports_state_known CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    CONSTRAINT fk_survival_reports_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id),
    CONSTRAINT fk_survival_reports_registration_id_registrations FOREIGN KEY(registration_id) REFERENCES registrations (id)
);
CREATE INDEX ix_survival_reports_vendor_id_id ON survival_reports (vendor_id, id);

CREATE TABLE suspect_secrets (
    suspect_id UUID NOT NULL,
    kind TEXT NOT NULL,
    header_names TEXT[] NOT NULL,
    sealed BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_suspect_secrets PRIMARY KEY (suspect_id),
    CONSTRAINT fk_suspect_secrets_suspect_id_suspects FOREIGN KEY(suspect_id) REFERENCES suspects (id)
);

CREATE TABLE webhook_deliveries (
    webhook_id UUID NOT NULL,
    event_id UUID NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_attempt_at TIMESTAMP WITH TIME ZONE,
    attempted_at TIMESTAMP WITH TIME ZONE,
    status INTEGER,
    error TEXT NOT NULL,
    CONSTRAINT pk_webhook_deliveries PRIMARY KEY (webhook_id, event_id),
    CONSTRAINT ck_webhook_deliveries_state_known CHECK (state IN ('waiting', 'delivered', 'failed')),
    CONSTRAINT fk_webhook_deliveries_webhook_id_webhooks FOREIGN KEY(webhook_id) REFERENCES webhooks (id),
    CONSTRAINT fk_webhook_deliveries_event_id_events FOREIGN KEY(event_id) REFERENCES events (id)
);
CREATE INDEX ix_webhook_deliveries_due ON webhook_deliveries (next_attempt_at) WHERE state = 'waiting';
CREATE INDEX ix_webhook_deliveries_event_id ON webhook_deliveries (event_id);

CREATE TABLE white_box_checks (
    id UUID NOT NULL,
    vendor_id UUID NOT NULL,
    registration_id UUID NOT NULL,
    queue TEXT NOT NULL,
    order_json JSONB NOT NULL,
    sealed_key BYTEA NOT NULL,
    state TEXT NOT NULL,
    job_id BIGINT,
    attempt INTEGER NOT NULL,
    progress JSONB NOT NULL,
    report JSONB,
    error JSONB,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_white_box_checks PRIMARY KEY (id),
    CONSTRAINT ck_white_box_checks_state_known CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    CONSTRAINT fk_white_box_checks_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id),
    CONSTRAINT fk_white_box_checks_registration_id_registrations FOREIGN KEY(registration_id) REFERENCES registrations (id)
);
CREATE INDEX ix_white_box_checks_vendor_id_id ON white_box_checks (vendor_id, id);

CREATE TABLE blocks (
    dispute_id UUID NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    asking_milliseconds INTEGER NOT NULL,
    head BYTEA,
    entry_index BIGINT,
    opened_at TIMESTAMP WITH TIME ZONE,
    probed_at TIMESTAMP WITH TIME ZONE,
    labelled_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_blocks PRIMARY KEY (dispute_id, number),
    CONSTRAINT ck_blocks_head_size CHECK (octet_length(head) = 32),
    CONSTRAINT fk_blocks_dispute_id_disputes FOREIGN KEY(dispute_id) REFERENCES disputes (id),
    CONSTRAINT fk_blocks_entry_index_log_entries FOREIGN KEY(entry_index) REFERENCES log_entries (index)
);

CREATE TABLE cross_tests (
    id UUID NOT NULL,
    one_dispute_id UUID NOT NULL,
    other_dispute_id UUID NOT NULL,
    one_verdict_index BIGINT NOT NULL,
    other_verdict_index BIGINT NOT NULL,
    until TIMESTAMP WITH TIME ZONE NOT NULL,
    result TEXT,
    reason TEXT,
    first_dispute_id UUID,
    entry_index BIGINT,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_cross_tests PRIMARY KEY (id),
    CONSTRAINT uq_cross_tests_one_dispute_id_other_dispute_id UNIQUE (one_dispute_id, other_dispute_id),
    CONSTRAINT ck_cross_tests_result_known CHECK (result IN ('first', 'not_decided')),
    CONSTRAINT ck_cross_tests_two_disputes CHECK (one_dispute_id <> other_dispute_id),
    CONSTRAINT ck_cross_tests_first_is_named CHECK ((first_dispute_id IS NOT NULL) = (result = 'first')),
    CONSTRAINT fk_cross_tests_one_dispute_id_disputes FOREIGN KEY(one_dispute_id) REFERENCES disputes (id),
    CONSTRAINT fk_cross_tests_other_dispute_id_disputes FOREIGN KEY(other_dispute_id) REFERENCES disputes (id),
    CONSTRAINT fk_cross_tests_one_verdict_index_log_entries FOREIGN KEY(one_verdict_index) REFERENCES log_entries (index),
    CONSTRAINT fk_cross_tests_other_verdict_index_log_entries FOREIGN KEY(other_verdict_index) REFERENCES log_entries (index),
    CONSTRAINT fk_cross_tests_first_dispute_id_disputes FOREIGN KEY(first_dispute_id) REFERENCES disputes (id),
    CONSTRAINT uq_cross_tests_entry_index UNIQUE (entry_index),
    CONSTRAINT fk_cross_tests_entry_index_log_entries FOREIGN KEY(entry_index) REFERENCES log_entries (index)
);
CREATE INDEX ix_cross_tests_other_dispute_id ON cross_tests (other_dispute_id);
CREATE INDEX ix_cross_tests_until ON cross_tests (until) WHERE entry_index IS NULL;

CREATE TABLE derivation_queries (
    derivation_id UUID NOT NULL,
    n INTEGER NOT NULL,
    record BYTEA NOT NULL,
    CONSTRAINT pk_derivation_queries PRIMARY KEY (derivation_id, n),
    CONSTRAINT fk_derivation_queries_derivation_id_derivations FOREIGN KEY(derivation_id) REFERENCES derivations (id)
);

CREATE TABLE dispute_answers (
    dispute_id UUID NOT NULL,
    number INTEGER NOT NULL,
    record BYTEA NOT NULL,
    blind BYTEA NOT NULL,
    entry_index BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_dispute_answers PRIMARY KEY (dispute_id, number),
    CONSTRAINT ck_dispute_answers_number_from_one CHECK (number >= 1),
    CONSTRAINT ck_dispute_answers_blind_size CHECK (octet_length(blind) = 32),
    CONSTRAINT fk_dispute_answers_dispute_id_disputes FOREIGN KEY(dispute_id) REFERENCES disputes (id),
    CONSTRAINT uq_dispute_answers_entry_index UNIQUE (entry_index),
    CONSTRAINT fk_dispute_answers_entry_index_log_entries FOREIGN KEY(entry_index) REFERENCES log_entries (index)
);

CREATE TABLE dispute_contacts (
    dispute_id UUID NOT NULL,
    address TEXT,
    state TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    told_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_dispute_contacts PRIMARY KEY (dispute_id),
    CONSTRAINT ck_dispute_contacts_state_known CHECK (state IN ('waiting', 'mailed', 'refused')),
    CONSTRAINT ck_dispute_contacts_address_while_waiting CHECK ((state = 'waiting') = (address IS NOT NULL)),
    CONSTRAINT fk_dispute_contacts_dispute_id_disputes FOREIGN KEY(dispute_id) REFERENCES disputes (id)
);

CREATE TABLE dispute_links (
    dispute_id UUID NOT NULL,
    token_sha256 BYTEA NOT NULL,
    record BYTEA NOT NULL,
    entry_index BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_dispute_links PRIMARY KEY (dispute_id),
    CONSTRAINT ck_dispute_links_token_sha256_size CHECK (octet_length(token_sha256) = 32),
    CONSTRAINT fk_dispute_links_dispute_id_disputes FOREIGN KEY(dispute_id) REFERENCES disputes (id),
    CONSTRAINT uq_dispute_links_token_sha256 UNIQUE (token_sha256),
    CONSTRAINT uq_dispute_links_entry_index UNIQUE (entry_index),
    CONSTRAINT fk_dispute_links_entry_index_log_entries FOREIGN KEY(entry_index) REFERENCES log_entries (index)
);

CREATE TABLE dispute_steps (
    dispute_id UUID NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    entry_index BIGINT,
    details JSONB NOT NULL,
    is_public BOOLEAN NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_dispute_steps PRIMARY KEY (dispute_id, number),
    CONSTRAINT ck_dispute_steps_number_counts CHECK (number >= 0),
    CONSTRAINT ck_dispute_steps_kind_known CHECK (kind IN ('filed', 'challenge_drawn', 'block_probed', 'probing_ended', 'withdrawn', 'notice', 'verdict', 'answer', 'second_run_asked', 'second_run_filed', 'weights_delivered', 'weights_compared', 'weights_failed', 'cross_test_opened', 'cross_test_delivered', 'cross_test_failed', 'cross_test_ended')),
    CONSTRAINT fk_dispute_steps_dispute_id_disputes FOREIGN KEY(dispute_id) REFERENCES disputes (id),
    CONSTRAINT fk_dispute_steps_entry_index_log_entries FOREIGN KEY(entry_index) REFERENCES log_entries (index)
);

CREATE TABLE second_runs (
    dispute_id UUID NOT NULL,
    entry_index BIGINT NOT NULL,
    families_left INTEGER NOT NULL,
    until TIMESTAMP WITH TIME ZONE NOT NULL,
    filed_dispute_id UUID,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_second_runs PRIMARY KEY (dispute_id),
    CONSTRAINT fk_second_runs_dispute_id_disputes FOREIGN KEY(dispute_id) REFERENCES disputes (id),
    CONSTRAINT uq_second_runs_entry_index UNIQUE (entry_index),
    CONSTRAINT fk_second_runs_entry_index_log_entries FOREIGN KEY(entry_index) REFERENCES log_entries (index),
    CONSTRAINT uq_second_runs_filed_dispute_id UNIQUE (filed_dispute_id),
    CONSTRAINT fk_second_runs_filed_dispute_id_disputes FOREIGN KEY(filed_dispute_id) REFERENCES disputes (id)
);

CREATE TABLE weight_deliveries (
    dispute_id UUID NOT NULL,
    number INTEGER NOT NULL,
    sha256 BYTEA NOT NULL,
    size_bytes BIGINT NOT NULL,
    program_sha256 BYTEA,
    entry_index BIGINT NOT NULL,
    verdict_index BIGINT NOT NULL,
    bundle_sha256 BYTEA NOT NULL,
    is_concluded BOOLEAN NOT NULL,
    has_voided BOOLEAN NOT NULL,
    id UUID NOT NULL,
    vendor_id UUID NOT NULL,
    registration_id UUID NOT NULL,
    queue TEXT NOT NULL,
    order_json JSONB NOT NULL,
    sealed_key BYTEA NOT NULL,
    state TEXT NOT NULL,
    job_id BIGINT,
    attempt INTEGER NOT NULL,
    progress JSONB NOT NULL,
    report JSONB,
    error JSONB,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_weight_deliveries PRIMARY KEY (id),
    CONSTRAINT uq_weight_deliveries_dispute_id_number UNIQUE (dispute_id, number),
    CONSTRAINT ck_weight_deliveries_number_from_one CHECK (number >= 1),
    CONSTRAINT ck_weight_deliveries_sha256_size CHECK (octet_length(sha256) = 32),
    CONSTRAINT ck_weight_deliveries_program_sha256_size CHECK (octet_length(program_sha256) = 32),
    CONSTRAINT ck_weight_deliveries_bundle_sha256_size CHECK (octet_length(bundle_sha256) = 32),
    CONSTRAINT ck_weight_deliveries_state_known CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    CONSTRAINT fk_weight_deliveries_dispute_id_disputes FOREIGN KEY(dispute_id) REFERENCES disputes (id),
    CONSTRAINT fk_weight_deliveries_entry_index_log_entries FOREIGN KEY(entry_index) REFERENCES log_entries (index),
    CONSTRAINT fk_weight_deliveries_verdict_index_log_entries FOREIGN KEY(verdict_index) REFERENCES log_entries (index),
    CONSTRAINT fk_weight_deliveries_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id),
    CONSTRAINT fk_weight_deliveries_registration_id_registrations FOREIGN KEY(registration_id) REFERENCES registrations (id)
);

CREATE TABLE cross_deliveries (
    cross_test_id UUID NOT NULL,
    dispute_id UUID NOT NULL,
    number INTEGER NOT NULL,
    sha256 BYTEA NOT NULL,
    size_bytes BIGINT NOT NULL,
    program_sha256 BYTEA,
    model_index BIGINT NOT NULL,
    is_told BOOLEAN NOT NULL,
    id UUID NOT NULL,
    vendor_id UUID NOT NULL,
    registration_id UUID NOT NULL,
    queue TEXT NOT NULL,
    order_json JSONB NOT NULL,
    sealed_key BYTEA NOT NULL,
    state TEXT NOT NULL,
    job_id BIGINT,
    attempt INTEGER NOT NULL,
    progress JSONB NOT NULL,
    report JSONB,
    error JSONB,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_cross_deliveries PRIMARY KEY (id),
    CONSTRAINT uq_cross_deliveries_cross_test_id_dispute_id_number UNIQUE (cross_test_id, dispute_id, number),
    CONSTRAINT ck_cross_deliveries_number_from_one CHECK (number >= 1),
    CONSTRAINT ck_cross_deliveries_sha256_size CHECK (octet_length(sha256) = 32),
    CONSTRAINT ck_cross_deliveries_program_sha256_size CHECK (octet_length(program_sha256) = 32),
    CONSTRAINT ck_cross_deliveries_state_known CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    CONSTRAINT fk_cross_deliveries_cross_test_id_cross_tests FOREIGN KEY(cross_test_id) REFERENCES cross_tests (id),
    CONSTRAINT fk_cross_deliveries_dispute_id_disputes FOREIGN KEY(dispute_id) REFERENCES disputes (id),
    CONSTRAINT fk_cross_deliveries_model_index_log_entries FOREIGN KEY(model_index) REFERENCES log_entries (index),
    CONSTRAINT fk_cross_deliveries_vendor_id_vendors FOREIGN KEY(vendor_id) REFERENCES vendors (id),
    CONSTRAINT fk_cross_deliveries_registration_id_registrations FOREIGN KEY(registration_id) REFERENCES registrations (id)
);

CREATE TABLE openings (
    dispute_id UUID NOT NULL,
    trigger_index INTEGER NOT NULL,
    block INTEGER NOT NULL,
    input_key BYTEA NOT NULL,
    input BYTEA NOT NULL,
    label_commitment BYTEA NOT NULL,
    path BYTEA[] NOT NULL,
    label_key BYTEA,
    label INTEGER,
    CONSTRAINT pk_openings PRIMARY KEY (dispute_id, trigger_index),
    CONSTRAINT fk_openings_dispute_id_blocks FOREIGN KEY(dispute_id, block) REFERENCES blocks (dispute_id, number),
    CONSTRAINT ck_openings_input_key_size CHECK (octet_length(input_key) = 32),
    CONSTRAINT ck_openings_label_key_size CHECK (octet_length(label_key) = 32)
);

CREATE TABLE queries (
    dispute_id UUID NOT NULL,
    n INTEGER NOT NULL,
    block INTEGER NOT NULL,
    record BYTEA NOT NULL,
    role BYTEA NOT NULL,
    blind BYTEA NOT NULL,
    request BYTEA NOT NULL,
    response BYTEA,
    CONSTRAINT pk_queries PRIMARY KEY (dispute_id, n),
    CONSTRAINT fk_queries_dispute_id_blocks FOREIGN KEY(dispute_id, block) REFERENCES blocks (dispute_id, number),
    CONSTRAINT ck_queries_blind_size CHECK (octet_length(blind) = 32)
);
