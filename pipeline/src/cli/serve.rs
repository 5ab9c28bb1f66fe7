//! What `semel run` serves over HTTP, in a build that has it; the words for it in one that has not.
//!
//! Invariant: every port is taken before anything is started.

#[cfg(feature = "http")]
pub(super) use with::Doors;
#[cfg(not(feature = "http"))]
pub(super) use without::Doors;

/// Where to serve, instead of where the spec says.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Addresses {
    /// Where metrics and health are served, instead of the spec's `metrics`: a port (for this
    /// machine only) or an address and a port
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<String>,
    /// Where records are taken, instead of the spec's `ingress.listen`
    #[arg(long, value_name = "ADDRESS")]
    ingress: Option<String>,
    /// Serve the console beside metrics also where other machines reach it: it shows what stands in
    /// records, to everybody who asks
    #[arg(long)]
    console: bool,
}

#[cfg(feature = "http")]
mod with {
    use std::{path::PathBuf, sync::Arc};

    use metrics_exporter_prometheus::PrometheusHandle;
    use semel::{
        admin::{View, view::Live},
        console::Console,
        http::{self, Door},
        ingress::{self, Ingress, Keys},
        spec::{IngressSpec, Spec},
        telemetry::{
            sample::{Sampled, Sampler},
            server::{self, Endpoints},
        },
    };
    use tokio::runtime::Runtime;

    use super::{
        super::{Failure, boot, output, run::Running},
        Addresses,
    };

    /// Ports that are taken and not served yet; none for what is not wanted.
    pub(in crate::cli) struct Doors {
        metrics: Option<(PrometheusHandle, Door)>,
        /// The console is served whoever reaches it.
        console: bool,
        ingress: Option<(IngressSpec, Keys, Door)>,
    }

    impl Doors {
        /// Takes the ports, and begins to count.
        pub(in crate::cli) fn open(spec: &Spec, addresses: &Addresses) -> Result<Self, Failure> {
            let metrics = addresses.metrics.as_ref().unwrap_or(&spec.pipeline.metrics);
            let mut ingress = spec.ingress.clone();
            if let Some(listen) = &addresses.ingress {
                ingress.listen.clone_from(listen);
            }
            let console = addresses.console;
            if console && metrics.is_empty() {
                return Err(Failure::Usage(
                    "the console is served where metrics are, and no address is named for them: \
                     add `--metrics 9090`, or leave `--console` out"
                        .to_owned(),
                ));
            }
            Ok(Self { metrics: open_metrics(metrics)?, console, ingress: open_ingress(ingress)? })
        }

        /// Serves them. Samples are taken until what is returned is dropped.
        pub(in crate::cli) fn serve(
            self,
            runtime: &Runtime,
            running: &Running,
            data: &str,
        ) -> Result<Option<Sampler>, Failure> {
            let _guard = runtime.enter();
            if let Some((spec, keys, door)) = self.ingress {
                serve_ingress(spec, keys, door, running)?;
            }
            match self.metrics {
                Some((handle, door)) => {
                    let console = self.console || door.address().ip().is_loopback();
                    serve_metrics(handle, door, console, running, data).map(Some)
                }
                None => Ok(None),
            }
        }
    }

    fn open_metrics(address: &str) -> Result<Option<(PrometheusHandle, Door)>, Failure> {
        if address.is_empty() {
            return Ok(None);
        }
        let address =
            http::address(address).map_err(|e| Failure::Usage(format!("metrics: {e}")))?;
        let door = Door::open("metrics", address).map_err(Failure::Failed)?;
        let handle = server::install().map_err(Failure::Failed)?;
        Ok(Some((handle, door)))
    }

    fn open_ingress(spec: IngressSpec) -> Result<Option<(IngressSpec, Keys, Door)>, Failure> {
        let prepared = ingress::prepare(&spec, &boot::environment)
            .map_err(|e| Failure::Usage(format!("ingress: {e}")))?;
        let Some((address, keys)) = prepared else { return Ok(None) };
        let door = Door::open("the ingress", address).map_err(Failure::Failed)?;
        Ok(Some((spec, keys, door)))
    }

    fn serve_ingress(
        spec: IngressSpec,
        keys: Keys,
        door: Door,
        running: &Running,
    ) -> Result<(), Failure> {
        let view = View { log: running.log.clone(), plan: running.plan.clone(), live: None };
        let ingress =
            Ingress::new(spec, keys, view).map_err(|e| Failure::Usage(format!("ingress: {e}")))?;
        let address = door.address();
        door.serve(ingress.router())
            .map_err(|e| Failure::Failed(format!("the ingress cannot be served: {e}")))?;
        output::say(&format!("records are taken at http://{address}"));
        Ok(())
    }

    fn serve_metrics(
        handle: PrometheusHandle,
        door: Door,
        console: bool,
        running: &Running,
        data: &str,
    ) -> Result<Sampler, Failure> {
        let sampler = Sampler::start(Sampled {
            plan: running.plan.clone(),
            log: running.log.clone(),
            status: running.host.status.clone(),
            data: PathBuf::from(data),
        })
        .map_err(|e| Failure::Failed(format!("no thread for samples: {e}")))?;
        let endpoints = Endpoints {
            handle,
            status: running.host.status.clone(),
            gate: running.host.gate.clone(),
            lanes: Arc::new(running.plan.lanes()),
        };
        let address = door.address();
        let mut router = endpoints.router();
        if console {
            router = router.merge(Console::new(whole_view(running), address).router());
        }
        door.serve(router)
            .map_err(|e| Failure::Failed(format!("metrics cannot be served: {e}")))?;
        output::say(&format!("metrics and health at http://{address}"));
        if console {
            output::say(&format!("console at http://{address}/console"));
        }
        Ok(sampler)
    }

    /// What this process knows, for who only looks.
    fn whole_view(running: &Running) -> View {
        let host = &running.host;
        let live = Live { board: host.board.clone(), status: host.status.clone() };
        View { log: running.log.clone(), plan: running.plan.clone(), live: Some(live) }
    }
}

#[cfg(not(feature = "http"))]
mod without {
    use semel::spec::Spec;
    use tokio::runtime::Runtime;

    use super::{
        super::{Failure, run::Running},
        Addresses,
    };

    /// Nothing.
    pub(in crate::cli) struct Doors;

    impl Doors {
        /// Refuses whatever is asked to be served.
        pub(in crate::cli) fn open(spec: &Spec, addresses: &Addresses) -> Result<Self, Failure> {
            let metrics = addresses.metrics.as_ref().unwrap_or(&spec.pipeline.metrics);
            let ingress = addresses.ingress.as_ref().unwrap_or(&spec.ingress.listen);
            if metrics.is_empty() && ingress.is_empty() && !addresses.console {
                return Ok(Self);
            }
            Err(Failure::Usage(
                "metrics, an ingress or a console are to be served, but this build has no HTTP: \
                 build it with the feature `http`, or leave their addresses empty"
                    .to_owned(),
            ))
        }

        /// Serves nothing.
        #[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "as in a build with HTTP")]
        pub(in crate::cli) fn serve(
            self,
            _: &Runtime,
            _: &Running,
            _: &str,
        ) -> Result<Option<()>, Failure> {
            Ok(None)
        }
    }
}
