//! The pipeline spec: a TOML file that names topics, sources, stages and sinks.
//!
//! `mod` the file's shape · `parse` text → shape, with line numbers and the nearest known key ·
//! `operators` the registry of operators · `plan` shape → topology, with all wiring checked ·
//! `advice` what is seldom meant · `generation` names of topics that were repartitioned.
//! May not live here: connections (a spec is checked without any).
//!
//! The same file runs on the embedded log and on Kafka; what differs between places comes from the
//! environment by `${NAME}` or `${NAME:-default}` in the text.

pub mod advice;
pub mod generation;
pub mod operators;
pub mod parse;
pub mod plan;

use std::collections::BTreeMap;

use semel_connectors::{files::FileSpec, sinks::mapping::TableSpec};
use serde::Deserialize;
use toml::Spanned;

/// A spec file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The pipeline as a whole.
    pub pipeline: PipelineSpec,
    /// The log.
    #[serde(default)]
    pub log: LogSpec,
    /// Records by HTTP.
    #[serde(default)]
    pub ingress: IngressSpec,
    /// Settings of topics, by short name; a topic that is not named here has the defaults.
    #[serde(default)]
    pub topics: BTreeMap<String, TopicToml>,
    /// Connections to chains, by name.
    #[serde(default)]
    pub chains: BTreeMap<String, ChainSpec>,
    /// Signers, by name.
    #[serde(default)]
    pub signers: BTreeMap<String, SignerSpec>,
    /// Files of records, by name: the operator `file_source` reads them.
    #[serde(default)]
    pub files: BTreeMap<String, FileSpec>,
    /// Sources: stages that read a control topic of one partition of their own.
    #[serde(default)]
    pub source: Vec<StageSpec>,
    /// Stages.
    #[serde(default)]
    pub stage: Vec<StageSpec>,
    /// Sinks.
    #[serde(default)]
    pub sink: Vec<SinkToml>,
}

/// The pipeline as a whole.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineSpec {
    /// Its name: topics are `<name>.<topic>`, groups `semel.<name>.<stage>`.
    pub name: Spanned<String>,
    /// Partitions of a topic that says nothing else.
    #[serde(default = "default_partitions")]
    pub partitions: u32,
    /// The data folder: instance id, local state, and the embedded log.
    #[serde(default = "default_data")]
    pub data: String,
    /// The process's instance id; none, or empty: one is made and kept in the data folder.
    #[serde(default)]
    pub instance: Option<String>,
    /// Where metrics and health are served: a port (`9090`, for this machine only) or an address and
    /// a port (`0.0.0.0:9090`); empty: nowhere.
    #[serde(default)]
    pub metrics: String,
}

fn default_partitions() -> u32 {
    4
}

fn default_data() -> String {
    "semel-data".to_owned()
}

/// The log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSpec {
    /// Kafka's bootstrap servers; empty: the embedded log in the data folder.
    pub brokers: String,
    /// Embedded log: when a commit is answered.
    pub durability: Durability,
    /// "One broker is meant": topics without replication.
    pub allow_one_broker: bool,
    /// Milliseconds that a transaction may stay open; other deadlines are derived from it.
    pub transaction_timeout_ms: u64,
    /// Milliseconds after which a silent process loses its partitions.
    pub session_timeout_ms: u64,
    /// Settings for the Kafka client, passed through (TLS, SASL, compression). A secret
    /// (`sasl.password`, `ssl.key.password`, …) is never written here: `env:NAME` or `file:PATH` says
    /// where it is.
    pub client: BTreeMap<String, String>,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            durability: Durability::Disk,
            allow_one_broker: false,
            transaction_timeout_ms: 10_000,
            session_timeout_ms: 6_000,
            client: BTreeMap::new(),
        }
    }
}

/// When the embedded log answers a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Once it is on the disk.
    Disk,
    /// Once the operating system has it: a power failure loses the last commits.
    Os,
}

/// Settings of a topic.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicToml {
    /// Number of partitions.
    #[serde(default)]
    pub partitions: Option<u32>,
    /// Which generation of the topic it is, counted from 1; `semel repartition` makes the next one,
    /// and says when to write it here.
    #[serde(default)]
    pub generation: Option<u32>,
    /// Milliseconds that records are kept; none: for ever.
    #[serde(default)]
    pub retention_ms: Option<u64>,
    /// Copies; none: 3.
    #[serde(default)]
    pub replication: Option<u16>,
}

/// A connection to a chain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSpec {
    /// JSON-RPC address, or `devnet` for an in-process chain.
    pub rpc: String,
    /// Milliseconds after which a call counts as unanswered.
    #[serde(default = "default_rpc_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_rpc_timeout_ms() -> u64 {
    10_000
}

/// The HTTP ingress (`semel::ingress`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngressSpec {
    /// Where it listens: a port (`8080`, for this machine only) or an address and a port
    /// (`0.0.0.0:8080`); empty: nowhere.
    pub listen: String,
    /// Where API keys are, `name key` a line: `file:PATH` or `env:NAME`; empty: nobody is asked for
    /// one, which only this machine may be offered.
    pub keys: String,
    /// The topics that may be written to, by short name; a stage reads each.
    pub topics: Vec<String>,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Records of one request.
    pub records_max: usize,
    /// Requests of one caller, a second; as many at once.
    pub requests_per_second: u32,
}

impl Default for IngressSpec {
    fn default() -> Self {
        Self {
            listen: String::new(),
            keys: String::new(),
            topics: Vec::new(),
            body_bytes_max: 1 << 20,
            records_max: 1_000,
            requests_per_second: 1_000,
        }
    }
}

/// A signer: a key in a file or in the environment, never in the spec.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerSpec {
    /// Path of a Solana keypair file.
    #[serde(default)]
    pub keypair_file: Option<String>,
    /// Name of an environment variable that holds the file's content.
    #[serde(default)]
    pub keypair_env: Option<String>,
    /// The file is mounted, with a mode that cannot be set (a Kubernetes secret): do not ask that
    /// its owner alone can read it.
    #[serde(default)]
    pub mounted: bool,
}

/// A stage, or a source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// Its name.
    pub name: Spanned<String>,
    /// The one topic it reads (sources read none).
    #[serde(default)]
    pub input: Option<Spanned<String>>,
    /// Type of input records without a `semel-type` header.
    #[serde(default)]
    pub input_type: Option<String>,
    /// Where the last operator's records go.
    #[serde(default)]
    pub output: Vec<Spanned<String>>,
    /// Where named outputs of operators go.
    #[serde(default)]
    pub outputs: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    /// What happens to a refused record.
    #[serde(default)]
    pub on_fault: OnFaultSpec,
    /// Lanes (threads) in each process.
    #[serde(default = "default_lanes")]
    pub lanes: u32,
    /// Largest record, bytes.
    #[serde(default)]
    pub record_bytes_max: Option<usize>,
    /// Operators, in order: `use` names one, the rest are its settings.
    pub operators: Vec<Spanned<toml::Table>>,
}

fn default_lanes() -> u32 {
    1
}

/// What happens to a refused record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFaultSpec {
    /// It goes to the dead letters, and its key goes on.
    #[default]
    DeadLetter,
    /// It goes to the dead letters, and later records of its key wait for a decision.
    QuarantineKey,
}

/// A sink.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkToml {
    /// Its name.
    pub name: Spanned<String>,
    /// The one topic it reads.
    pub topic: Spanned<String>,
    /// `postgres://…` or `sqlite:…`.
    pub url: String,
    /// The database schema (namespace) that its tables are in.
    #[serde(default = "default_schema")]
    pub schema: String,
    /// Its tables.
    pub tables: Vec<TableSpec>,
}

fn default_schema() -> String {
    "public".to_owned()
}
