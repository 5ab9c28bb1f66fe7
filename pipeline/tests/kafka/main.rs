//! Tests against a real Apache Kafka: one binary, one broker, topics and groups of their own for
//! each test, so that all run at once.
//!
//! The broker's address comes from `SEMEL_TEST_KAFKA`; `deploy/kafka start DIR` starts one and
//! prints the address. Without it the tests fail and say so: nothing is skipped silently.
//!
//! Lives here: the harness, the suite on the real broker, and what clients of a secured one get; a probe for each line of "How weak Kafka
//! is", and a test for each trap whose guard lies in the log. May not live here: anything that a
//! simulated log can show as well.

mod conformance;
mod harness;
mod probes;
mod process;
mod repartition;
mod reset;
mod secured;
mod traps;
