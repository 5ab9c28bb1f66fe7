//! "How weak Kafka is", line by line, on the real broker: what the simulated log is held to.

semel::log_weakness!(crate::harness::Broker::new());
