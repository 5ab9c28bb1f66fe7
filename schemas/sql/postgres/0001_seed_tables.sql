-- The seed's tables, where they are missing. Names and types are fixed: existing users keep theirs.
CREATE TABLE IF NOT EXISTS claims (
    id SERIAL PRIMARY KEY,
    channel VARCHAR,
    user_pubkey VARCHAR,
    slot BIGINT,
    claim_timestamp TIMESTAMP,
    status VARCHAR -- pending, included, settled
);

CREATE TABLE IF NOT EXISTS roots (
    id SERIAL PRIMARY KEY,
    epoch BIGINT,
    channel VARCHAR,
    root VARCHAR, -- hex
    count INT,
    finalized_at TIMESTAMP,
    status VARCHAR -- ready_for_settlement, settled
);

CREATE TABLE IF NOT EXISTS epochs (
    epoch BIGINT PRIMARY KEY,
    start_slot BIGINT,
    end_slot BIGINT,
    finalized_at TIMESTAMP
);

CREATE TABLE IF NOT EXISTS settlement_log (
    id SERIAL PRIMARY KEY,
    root_id INT REFERENCES roots (id),
    tx_signature VARCHAR,
    settled_at TIMESTAMP,
    status VARCHAR -- pending_confirmation, confirmed, failed
);
