-- How far each sink has come. Advanced first in each transaction, by compare-and-set.
CREATE TABLE IF NOT EXISTS semel_offsets (
    sink VARCHAR NOT NULL,
    topic VARCHAR NOT NULL,
    "partition" BIGINT NOT NULL,
    topic_id VARCHAR NOT NULL,
    next_offset BIGINT NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (sink, topic, "partition")
);

-- Records that wait for a parent row, and the later ones of the same row behind them.
CREATE TABLE IF NOT EXISTS semel_delayed (
    sink VARCHAR NOT NULL,
    topic VARCHAR NOT NULL,
    "partition" BIGINT NOT NULL,
    "offset" BIGINT NOT NULL,
    target VARCHAR NOT NULL,
    "key" VARCHAR NOT NULL,
    parent_table VARCHAR,
    parent_key VARCHAR,
    record TEXT NOT NULL,
    PRIMARY KEY (sink, topic, "partition", "offset", target)
);
CREATE INDEX IF NOT EXISTS semel_delayed_key
    ON semel_delayed (sink, topic, "partition", target, "key", "offset");
