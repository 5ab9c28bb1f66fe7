//! From a spec file to connections: what `run`, `publish`, `topics` and `demo` share.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use semel::{
    Registry,
    folder::{DataFolder, FolderError},
    log::{Log, embedded},
    spec::{
        Durability, LogSpec, Spec,
        parse::{self, Source},
        plan::Plan,
    },
};
use semel_connectors::{
    files::{LocalFile, RecordFile},
    registry::Connectors,
    signer::Signer,
    signers::local::{LocalSigner, Readable},
    sink::{Sink, SinkError},
    solana::{node::SolanaNode, rpc::RpcNode},
};

use super::Failure;

/// The address in a spec that means an in-process chain.
pub(super) const DEVNET: &str = "devnet";

/// How long a folder may be locked without anyone who answers: a process that starts or ends, or a
/// command that has it open for the moment.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The operators of this program, said once before its command runs.
static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// Says which operators this program has.
pub(super) fn know(registry: Registry) {
    REGISTRY.get_or_init(|| registry);
}

/// The operators of this program.
pub(super) fn registry() -> &'static Registry {
    REGISTRY.get_or_init(Registry::standard)
}

/// Reads and checks a spec.
pub(super) fn load(
    path: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(Spec, Plan), Failure> {
    load_with(registry(), path, variable)
}

/// Reads and checks a spec that may name the operators of a registry.
pub(super) fn load_with(
    registry: &Registry,
    path: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(Spec, Plan), Failure> {
    let (file, text) = text(path)?;
    let (spec, _, plan) = checked(registry, &file, &text, variable)?;
    Ok((spec, plan))
}

/// Reads and checks a spec, and keeps its text for the places of hints.
pub(super) fn read(
    path: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(Spec, Source, Plan), Failure> {
    let (file, text) = text(path)?;
    checked(registry(), &file, &text, variable)
}

fn text(path: &Path) -> Result<(String, String), Failure> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::Usage(format!("the spec {file} cannot be read: {e}")))?;
    Ok((file, text))
}

/// Checks a spec's text.
pub(super) fn checked(
    registry: &Registry,
    file: &str,
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(Spec, Source, Plan), Failure> {
    let (spec, source) =
        parse::parse(file, text, variable).map_err(|e| Failure::Usage(e.to_string()))?;
    let plan = Plan::with(registry, &spec, &source).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::Usage(lines.join("\nsemel: "))
    })?;
    Ok((spec, source, plan))
}

/// The process's environment.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Opens and locks the data folder of a process that is to run; a command that has it open for the
/// moment is waited for.
pub(super) fn folder_to_run(spec: &Spec) -> Result<DataFolder, FolderError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match folder(spec) {
            Err(FolderError::Locked { .. }) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(50));
            }
            opened => return opened,
        }
    }
}

/// Opens and locks the data folder. A process that was killed (or a machine that lost power) in the
/// middle of a write leaves a torn end, which holds nothing that was ever answered: it is cut off,
/// and a copy is kept.
pub(super) fn folder(spec: &Spec) -> Result<DataFolder, FolderError> {
    let path = Path::new(&spec.pipeline.data);
    match DataFolder::open(path) {
        Err(error @ FolderError::Storage { .. }) => match DataFolder::repair(path) {
            Ok(Some(repaired)) => {
                tracing::warn!(bytes = repaired.cut, kept = %repaired.kept.display(),
                    "the journal's torn end was cut off");
                DataFolder::open(path)
            }
            _ => Err(error),
        },
        opened => opened,
    }
}

/// Connects to the log that the spec names.
pub(super) fn log(spec: &LogSpec, folder: &DataFolder) -> Result<Arc<dyn Log>, Failure> {
    if !spec.brokers.is_empty() {
        return kafka(spec);
    }
    let settings = embedded::Settings {
        durability: match spec.durability {
            Durability::Disk => embedded::Durability::Disk,
            Durability::Os => embedded::Durability::Os,
        },
        ..embedded::Settings::default()
    };
    let log = embedded::EmbeddedLog::within(folder.clone(), settings)
        .map_err(|e| Failure::Failed(e.to_string()))?;
    Ok(Arc::new(log))
}

/// Connects to Kafka.
#[cfg(feature = "kafka")]
pub(super) fn kafka(spec: &LogSpec) -> Result<Arc<dyn Log>, Failure> {
    use semel::log::kafka::{KafkaConfig, KafkaLog};
    let mut config = KafkaConfig::new(&spec.brokers);
    config.settings.clone_from(&spec.client);
    let log = KafkaLog::connect(&config).map_err(|e| Failure::Failed(e.to_string()))?;
    Ok(Arc::new(log))
}

/// Says that this build has no Kafka client.
#[cfg(not(feature = "kafka"))]
pub(super) fn kafka(_: &LogSpec) -> Result<Arc<dyn Log>, Failure> {
    Err(Failure::Usage(
        "this build has no Kafka client: build it with `--features kafka`, or leave `brokers` empty"
            .to_owned(),
    ))
}

/// Connects chains, signers and files. `devnet` stands for the in-process chain, if there is one.
pub(super) fn connectors(
    spec: &Spec,
    devnet: Option<Arc<dyn SolanaNode>>,
) -> Result<Connectors, Failure> {
    let mut chains: BTreeMap<String, Arc<dyn SolanaNode>> = BTreeMap::new();
    for (name, chain) in &spec.chains {
        let node: Arc<dyn SolanaNode> = match (&devnet, chain.rpc.as_str()) {
            (Some(devnet), DEVNET) => devnet.clone(),
            (None, DEVNET) => {
                return Err(Failure::Usage(format!(
                    "chain `{name}` is the in-process devnet, which only `semel demo` has: start \
                     `semel devnet` and give its address"
                )));
            }
            (_, url) => {
                let timeout = Duration::from_millis(chain.timeout_ms);
                let node = RpcNode::new(url, timeout)
                    .map_err(|e| Failure::Usage(format!("chain `{name}`: {e}")))?;
                Arc::new(node)
            }
        };
        chains.insert(name.clone(), node);
    }
    let mut signers: BTreeMap<String, Arc<dyn Signer>> = BTreeMap::new();
    for (name, signer) in &spec.signers {
        let wrong = |text: String| Failure::Usage(format!("signer `{name}`: {text}"));
        let readable = if signer.mounted { Readable::Anyone } else { Readable::Owner };
        let made = match (&signer.keypair_file, &signer.keypair_env) {
            (Some(file), None) => LocalSigner::from_file(Path::new(file), readable),
            (None, Some(variable)) => LocalSigner::from_env(variable),
            _ => return Err(wrong("give `keypair_file` or `keypair_env`".to_owned())),
        };
        signers.insert(name.clone(), Arc::new(made.map_err(|e| wrong(e.to_string()))?));
    }
    let files = files(spec)?;
    Ok(Connectors { chains, signers, files, ..Connectors::default() })
}

/// The files of a spec, by name. None is opened: a file may come later.
fn files(spec: &Spec) -> Result<BTreeMap<String, Arc<dyn RecordFile>>, Failure> {
    let mut files: BTreeMap<String, Arc<dyn RecordFile>> = BTreeMap::new();
    for (name, file) in &spec.files {
        let made = LocalFile::new(name, file.clone())
            .map_err(|text| Failure::Usage(format!("file `{name}`: {text}")))?;
        files.insert(name.clone(), Arc::new(made));
    }
    Ok(files)
}

/// Connects and prepares the sinks of a plan, by name.
pub(super) async fn sinks(plan: &Plan) -> Result<BTreeMap<String, Arc<dyn Sink>>, Failure> {
    let mut sinks = BTreeMap::new();
    for sink in &plan.sinks {
        // What is wrong with a mapping names its sink already.
        let named = format!("sink `{}`: ", sink.name);
        let wrong = |e: SinkError| {
            let text = e.to_string();
            let text = text.strip_prefix(&named).unwrap_or(&text);
            let advice = match &e {
                SinkError::Unavailable(_) if !text.contains("check that") => {
                    "; check that it runs and that the address is right"
                }
                _ => "",
            };
            Failure::Failed(format!("{named}{text}{advice}"))
        };
        let made = semel_connectors::sinks::connect(&sink.url, &sink.schema, sink.mapping.clone())
            .map_err(wrong)?;
        made.prepare().await.map_err(wrong)?;
        sinks.insert(sink.name.clone(), made);
    }
    Ok(sinks)
}
