//! The suite that every log passes, on the real broker.

semel::log_conformance!(crate::harness::Broker::new());
