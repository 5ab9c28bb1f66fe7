-- The outbox of dead letters: records that fit no row, written in the transaction that passes them.
-- A row is deleted once its dead letter is in the log. `topic_id`: offsets of a topic that was
-- created anew are other records.
CREATE TABLE IF NOT EXISTS semel_refused (
    sink VARCHAR NOT NULL,
    topic VARCHAR NOT NULL,
    "partition" BIGINT NOT NULL,
    topic_id VARCHAR NOT NULL,
    "offset" BIGINT NOT NULL,
    code VARCHAR NOT NULL, -- SEM-…
    reason TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (sink, topic, "partition", topic_id, "offset")
);
