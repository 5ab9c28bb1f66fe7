//! `semel run`: a pipeline until SIGTERM or SIGINT.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use semel::{
    Registry,
    admin::{View, socket, view::Live},
    host::{self, DiskStores, Host, HostParts, identity},
    log::Log,
    spec::{Spec, plan::Plan},
    state::LocalStore,
    telemetry::timed::TimedLog,
};
use semel_connectors::solana::node::SolanaNode;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

use super::{Done, Failure, boot, output, serve};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The spec, a TOML file
    spec: PathBuf,
    #[command(flatten)]
    addresses: serve::Addresses,
}

/// Runs it.
pub(super) fn run(args: &Args) -> Done {
    until_ended(boot::registry(), &args.spec, &args.addresses)
}

/// Runs the pipeline that a spec describes, with the operators of a registry, in this process,
/// until SIGTERM or SIGINT ends it, draining. Variables of the spec come from the environment; what
/// happens goes to `tracing`, and to standard error when it starts and when it ends. Give each
/// process a data folder of its own.
///
/// # Errors
/// One sentence (a spec's faults: one a line): the spec, the data folder, the log or a database is
/// not as it should be, or a lane cannot go on.
pub fn run_spec(registry: &Registry, spec: &Path) -> Result<(), String> {
    until_ended(registry, spec, &serve::Addresses::default()).or_else(|failure| match failure {
        Failure::Usage(text) | Failure::Failed(text) => Err(text),
        Failure::Gone => Ok(()),
    })
}

fn until_ended(registry: &Registry, spec: &Path, addresses: &serve::Addresses) -> Done {
    let (spec, plan) = boot::load_with(registry, spec, &boot::environment)?;
    let runtime = runtime()?;
    // Before anything is started: a port that cannot be had is told at once.
    let doors = serve::Doors::open(&spec, addresses)?;
    let running = start(&runtime, &spec, plan, None)?;
    let _sampler = doors.serve(&runtime, &running, &spec.pipeline.data)?;
    output::say(&format!("running on {}; SIGTERM or Ctrl-C ends it", running.log.describe()));
    let stopped = runtime.block_on(async {
        let (Ok(mut term), Ok(mut int)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return Err("signals cannot be awaited".to_owned());
        };
        loop {
            tokio::select! {
                _ = term.recv() => return Ok(()),
                _ = int.recv() => return Ok(()),
                () = tokio::time::sleep(Duration::from_millis(200)) => {
                    running.host.failed(Duration::ZERO)?;
                }
            }
        }
    });
    if stopped.is_ok() {
        output::say("draining");
    }
    let joined = running.host.join();
    stopped.and(joined).map_err(Failure::Failed)
}

/// A started pipeline.
pub(super) struct Running {
    /// Its lanes.
    pub(super) host: Host,
    /// Its log.
    pub(super) log: Arc<dyn Log>,
    /// Its plan.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only HTTP tells of it"))]
    pub(super) plan: Arc<Plan>,
}

/// The process's tokio runtime.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Failed(format!("the runtime cannot be started: {e}")))
}

/// Connects everything, creates missing topics, and starts the lanes.
pub(super) fn start(
    runtime: &Runtime,
    spec: &Spec,
    plan: Plan,
    devnet: Option<Arc<dyn SolanaNode>>,
) -> Result<Running, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::Failed(e.to_string());
    let folder = boot::folder_to_run(spec).map_err(|e| failed(&e))?;
    let path = PathBuf::from(&spec.pipeline.data);
    let instance =
        identity::instance(&path, spec.pipeline.instance.as_deref()).map_err(|e| failed(&e))?;
    let log = boot::log(&spec.log, &folder)?;
    let connectors = {
        let _guard = runtime.enter();
        boot::connectors(spec, devnet)?
    };
    let sinks = runtime.block_on(boot::sinks(&plan))?;
    host::create_topics(&*log, &plan).map_err(|e| failed(&e))?;
    let stores = LocalStore::within(&folder).map_err(|e| failed(&e))?;
    let plan = Arc::new(plan);
    // Before the lanes: what cannot be asked is not started.
    let socket = {
        let _guard = runtime.enter();
        socket::bind(&path).map_err(|e| failed(&format!("the admin socket cannot be made: {e}")))?
    };
    let parts = HostParts {
        plan: plan.clone(),
        log: Arc::new(TimedLog(log.clone())),
        stores: Arc::new(DiskStores(stores)),
        performer: Arc::new(connectors),
        sinks,
        instance,
        transaction_timeout: Duration::from_millis(spec.log.transaction_timeout_ms),
        session_timeout: Duration::from_millis(spec.log.session_timeout_ms),
    };
    let host = Host::start(parts, runtime.handle()).map_err(Failure::Failed)?;
    let live = Live { board: host.board.clone(), status: host.status.clone() };
    let _guard = runtime.enter();
    socket::serve(socket, View { log: log.clone(), plan: plan.clone(), live: Some(live) });
    Ok(Running { host, log, plan })
}
