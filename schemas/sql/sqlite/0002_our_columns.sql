-- Our columns beside the seed's: nullable, so rows of a legacy system stay as they are.
-- SQLite has no ADD COLUMN IF NOT EXISTS: this runs once, by its version. Its NUMERIC is floating
-- point, so an amount is a decimal text.
-- With them anyone can rebuild a root from table claims.
ALTER TABLE claims ADD COLUMN epoch BIGINT;
ALTER TABLE claims ADD COLUMN leaf_index INT;
ALTER TABLE claims ADD COLUMN amount TEXT;
ALTER TABLE claims ADD COLUMN claim_id VARCHAR;
ALTER TABLE claims ADD COLUMN leaf_id VARCHAR;
ALTER TABLE claims ADD COLUMN tx_signature VARCHAR;
ALTER TABLE claims ADD COLUMN semel_id VARCHAR;
CREATE UNIQUE INDEX IF NOT EXISTS claims_semel_id ON claims (semel_id);

ALTER TABLE roots ADD COLUMN profile VARCHAR;
ALTER TABLE roots ADD COLUMN semel_id VARCHAR;
CREATE UNIQUE INDEX IF NOT EXISTS roots_semel_id ON roots (semel_id);

ALTER TABLE epochs ADD COLUMN semel_id VARCHAR;
CREATE UNIQUE INDEX IF NOT EXISTS epochs_semel_id ON epochs (semel_id);

ALTER TABLE settlement_log ADD COLUMN error_message VARCHAR;
ALTER TABLE settlement_log ADD COLUMN semel_id VARCHAR;
CREATE UNIQUE INDEX IF NOT EXISTS settlement_log_semel_id ON settlement_log (semel_id);
