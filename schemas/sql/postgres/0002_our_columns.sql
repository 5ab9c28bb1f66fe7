-- Our columns beside the seed's: nullable, so rows of a legacy system stay as they are.
-- With them anyone can rebuild a root from table claims.
ALTER TABLE claims
    ADD COLUMN IF NOT EXISTS epoch BIGINT,
    ADD COLUMN IF NOT EXISTS leaf_index INT,
    ADD COLUMN IF NOT EXISTS amount NUMERIC(20, 0),
    ADD COLUMN IF NOT EXISTS claim_id VARCHAR,
    ADD COLUMN IF NOT EXISTS leaf_id VARCHAR,
    ADD COLUMN IF NOT EXISTS tx_signature VARCHAR,
    ADD COLUMN IF NOT EXISTS semel_id VARCHAR;
CREATE UNIQUE INDEX IF NOT EXISTS claims_semel_id ON claims (semel_id);

ALTER TABLE roots
    ADD COLUMN IF NOT EXISTS profile VARCHAR,
    ADD COLUMN IF NOT EXISTS semel_id VARCHAR;
CREATE UNIQUE INDEX IF NOT EXISTS roots_semel_id ON roots (semel_id);

ALTER TABLE epochs
    ADD COLUMN IF NOT EXISTS semel_id VARCHAR;
CREATE UNIQUE INDEX IF NOT EXISTS epochs_semel_id ON epochs (semel_id);

ALTER TABLE settlement_log
    ADD COLUMN IF NOT EXISTS error_message VARCHAR,
    ADD COLUMN IF NOT EXISTS semel_id VARCHAR;
CREATE UNIQUE INDEX IF NOT EXISTS settlement_log_semel_id ON settlement_log (semel_id);
