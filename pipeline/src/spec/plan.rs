//! Shape → topology: every name looked up, every wire checked, before anything is connected.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use semel_connectors::sinks::mapping::SinkSpec;
use semel_schemas::{progress::PROGRESS, topic::TopicName};
use toml::Spanned;

use super::{
    OnFaultSpec, Spec, StageSpec, generation,
    operators::Registry,
    parse::{Source, SpecError},
};
use crate::{
    engine::topology::{Limits, OnFault, Stage, TopicRef},
    log::{Cleanup, TopicSpec},
};

/// Milliseconds that tombstones of changelogs are kept: a local copy older than half of that is
/// restored in full.
const TOMBSTONE_MS: u64 = 24 * 3_600_000;

/// A checked pipeline: everything that `run` needs, and no connection.
#[derive(Debug)]
pub struct Plan {
    /// Pipeline's name.
    pub name: String,
    /// Sources and stages, each with its number of lanes.
    pub stages: Vec<(Arc<Stage>, u32)>,
    /// Sinks.
    pub sinks: Vec<SinkPlan>,
    /// Every topic of the pipeline.
    pub topics: Vec<TopicSpec>,
    /// Where commands that changed something are recorded.
    pub commands: TopicRef,
    /// Dead letters.
    pub dead_letter: TopicRef,
}

/// A checked sink.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    /// Name.
    pub name: String,
    /// The topic that it reads.
    pub topic: TopicRef,
    /// Consumer group.
    pub group: String,
    /// Dead letters of the pipeline.
    pub dead_letter: TopicRef,
    /// Database address.
    pub url: String,
    /// Namespace.
    pub schema: String,
    /// Mapping.
    pub mapping: SinkSpec,
}

impl Plan {
    /// How many lanes of each stage, source and sink a process runs.
    #[must_use]
    pub fn lanes(&self) -> BTreeMap<String, usize> {
        let stages = self.stages.iter().map(|(stage, lanes)| (stage.name.clone(), *lanes as usize));
        stages.chain(self.sinks.iter().map(|sink| (sink.name.clone(), 1))).collect()
    }

    /// Checks a spec that names nothing but the operators that Semel ships.
    ///
    /// # Errors
    /// Everything that is wrong, each with its line.
    pub fn new(spec: &Spec, source: &Source) -> Result<Self, Vec<SpecError>> {
        Self::with(&Registry::standard(), spec, source)
    }

    /// Checks a spec that may name the operators of a registry.
    ///
    /// # Errors
    /// Everything that is wrong, each with its line.
    pub fn with(registry: &Registry, spec: &Spec, source: &Source) -> Result<Self, Vec<SpecError>> {
        let (errors, topics) = (Vec::new(), BTreeMap::new());
        let mut builder = Builder { registry, spec, source, errors, topics };
        let plan = builder.build();
        match plan {
            Some(plan) if builder.errors.is_empty() => Ok(plan),
            _ => Err(builder.errors),
        }
    }

    /// The topic of this short name.
    #[must_use]
    pub fn topic(&self, short: &str) -> Option<&TopicSpec> {
        let full = format!("{}.{short}", self.name);
        self.topics.iter().find(|topic| {
            let name = topic.name.as_str();
            let (base, _) = generation::split(name);
            [name, base].iter().any(|known| *known == full || *known == short)
        })
    }
}

struct Builder<'a> {
    registry: &'a Registry,
    spec: &'a Spec,
    source: &'a Source,
    errors: Vec<SpecError>,
    topics: BTreeMap<TopicName, TopicSpec>,
}

impl Builder<'_> {
    fn build(&mut self) -> Option<Plan> {
        let spec = self.spec;
        let name = spec.pipeline.name.get_ref().clone();
        if spec.pipeline.partitions == 0 {
            let at = spec.pipeline.name.span().start;
            self.errors.push(self.source.error_at_key(at, "partitions", "at least 1 partition"));
            return None;
        }
        self.check_names();
        let dead_letter = self.own("dead-letter")?;
        let commands = self.own("commands")?;
        let all: Vec<(&StageSpec, bool)> = spec
            .source
            .iter()
            .map(|s| (s, true))
            .chain(spec.stage.iter().map(|s| (s, false)))
            .collect();
        let inputs: BTreeSet<&str> = spec
            .stage
            .iter()
            .filter_map(|s| s.input.as_ref())
            .map(|i| i.get_ref().as_str())
            .collect();
        let stages = all
            .iter()
            .filter_map(|(stage, is_source)| {
                let built = self.stage(stage, *is_source, &all, &inputs, &dead_letter)?;
                Some((Arc::new(built), stage.lanes.max(1)))
            })
            .collect();
        let sinks = self.sinks(&dead_letter, &all);
        self.check_topics_used();
        self.check_files();
        let topics = self.topics.values().cloned().collect();
        Some(Plan { name, stages, sinks, topics, commands, dead_letter })
    }

    fn check_names(&mut self) {
        let spec = self.spec;
        let mut seen = BTreeSet::new();
        let stages = spec.source.iter().chain(&spec.stage).map(|s| &s.name);
        let names: Vec<&Spanned<String>> = std::iter::once(&spec.pipeline.name)
            .chain(stages)
            .chain(spec.sink.iter().map(|s| &s.name))
            .collect();
        for name in names {
            let text = name.get_ref();
            let legal = !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if !legal {
                self.error(name, format!("`{text}` is no name: use a-z, 0-9 and -"));
            } else if name.span() != spec.pipeline.name.span() && !seen.insert(text.clone()) {
                self.error(name, format!("two stages or sinks are named `{text}`: rename one"));
            }
        }
    }

    fn error(&mut self, at: &Spanned<String>, text: impl Into<String>) {
        self.errors.push(self.source.error_at(at.span().start, text));
    }

    fn full_name(&mut self, short: &Spanned<String>) -> Option<TopicName> {
        let full = format!("{}.{}", self.spec.pipeline.name.get_ref(), short.get_ref());
        TopicName::new(full).map_err(|error| self.error(short, error.to_string())).ok()
    }

    /// A topic with a cleanup of its own kind, entered among those to create.
    fn enter(
        &mut self,
        name: TopicName,
        partitions: u32,
        cleanup: Cleanup,
        copies: Option<u16>,
    ) -> TopicRef {
        let topic = TopicSpec {
            name: name.clone(),
            partitions,
            cleanup,
            replication: copies,
            allow_one_broker: self.spec.log.allow_one_broker,
        };
        self.topics.insert(name.clone(), topic);
        TopicRef { name, partitions }
    }

    fn topic(&mut self, short: &Spanned<String>) -> Option<TopicRef> {
        let full = self.full_name(short)?;
        if generation::split(full.as_str()).1 > 1 {
            let text = format!(
                "`{}` is the name of a generation: name the topic, and say `generation` under \
                 [topics]",
                short.get_ref()
            );
            self.error(short, text);
            return None;
        }
        let settings = self.spec.topics.get(short.get_ref()).cloned().unwrap_or_default();
        let number = settings.generation.unwrap_or(1);
        if number == 0 {
            let text = format!("generations of topic `{}` are counted from 1", short.get_ref());
            self.error(short, text);
            return None;
        }
        let named = Spanned::new(short.span(), generation::named(short.get_ref(), number));
        let name = self.full_name(&named)?;
        let partitions = settings.partitions.unwrap_or(self.spec.pipeline.partitions);
        if partitions == 0 {
            self.error(short, format!("topic `{}` needs at least 1 partition", short.get_ref()));
            return None;
        }
        let cleanup = Cleanup::Delete { retention_ms: settings.retention_ms };
        Some(self.enter(name, partitions, cleanup, settings.replication))
    }

    /// A topic of one partition that every pipeline has, kept for ever.
    fn own(&mut self, short: &str) -> Option<TopicRef> {
        let at = &self.spec.pipeline.name;
        let short = Spanned::new(at.span(), short.to_owned());
        let name = self.full_name(&short)?;
        Some(self.enter(name, 1, Cleanup::Delete { retention_ms: None }, None))
    }

    fn input(&mut self, stage: &StageSpec, is_source: bool) -> Option<TopicRef> {
        match (&stage.input, is_source) {
            (None, true) => {
                let short = format!("{}.control", stage.name.get_ref());
                let short = Spanned::new(stage.name.span(), short);
                let name = self.full_name(&short)?;
                Some(self.enter(name, 1, Cleanup::Delete { retention_ms: None }, None))
            }
            (Some(input), true) => {
                self.error(input, "a source reads no topic: make it a stage, or leave `input` out");
                None
            }
            (Some(input), false) => self.topic(input),
            (None, false) => {
                self.error(&stage.name, "a stage needs `input`: the one topic that it reads");
                None
            }
        }
    }

    fn stage(
        &mut self,
        stage: &StageSpec,
        is_source: bool,
        all: &[(&StageSpec, bool)],
        inputs: &BTreeSet<&str>,
        dead_letter: &TopicRef,
    ) -> Option<Stage> {
        let pipeline = self.spec.pipeline.name.get_ref().clone();
        let name = stage.name.get_ref().clone();
        let input = self.input(stage, is_source)?;
        let operators = self.operators(stage);
        self.check_outputs(stage, &operators);
        let next: Vec<TopicRef> = stage.output.iter().filter_map(|t| self.topic(t)).collect();
        let mut outputs = BTreeMap::new();
        for (output, topics) in &stage.outputs {
            let ties: Vec<TopicRef> = topics.iter().filter_map(|t| self.topic(t)).collect();
            outputs.insert(output.get_ref().clone(), ties);
        }
        let own = stage.input.as_ref().map(|i| i.get_ref().as_str());
        let progress_to: Vec<TopicRef> = stage
            .output
            .iter()
            .filter(|t| inputs.contains(t.get_ref().as_str()) && Some(t.get_ref().as_str()) != own)
            .filter_map(|t| self.topic(t))
            .collect();
        // The state is as old as the topic whose records it holds.
        let (_, number) = generation::split(input.name.as_str());
        let changelog = generation::named(&format!("{name}.state"), number);
        let changelog = Spanned::new(stage.name.span(), changelog);
        let changelog = self.full_name(&changelog)?;
        let cleanup = Cleanup::Compact { tombstone_ms: TOMBSTONE_MS };
        let changelog = self.enter(changelog, input.partitions, cleanup, None);
        let mut limits = Limits::default();
        limits.record_bytes_max = stage.record_bytes_max.unwrap_or(limits.record_bytes_max);
        Some(Stage {
            group: format!("semel.{pipeline}.{name}"),
            sources: self.sources_of(stage, all),
            pipeline,
            name,
            input,
            input_type: stage.input_type.clone(),
            changelog,
            operators,
            next,
            outputs,
            progress_to: if is_source { Vec::new() } else { progress_to },
            dead_letter: dead_letter.clone(),
            on_fault: match stage.on_fault {
                OnFaultSpec::DeadLetter => OnFault::DeadLetter,
                OnFaultSpec::QuarantineKey => OnFault::QuarantineKey,
            },
            limits,
        })
    }

    fn operators(
        &mut self,
        stage: &StageSpec,
    ) -> Vec<Arc<dyn semel_operators::operator::Operator>> {
        if stage.operators.is_empty() {
            self.error(&stage.name, "a stage needs at least one operator");
        }
        let mut built = Vec::new();
        for table in &stage.operators {
            match self.registry.build(self.source, table) {
                Ok(operator) => built.push(operator),
                Err(error) => self.errors.push(error),
            }
        }
        let mut stores = BTreeSet::new();
        for operator in &built {
            for store in operator.stores() {
                if !stores.insert(store.name) {
                    let text = format!("store `{}` is declared by two operators", store.name);
                    self.error(&stage.name, text);
                }
            }
        }
        built
    }

    fn check_outputs(
        &mut self,
        stage: &StageSpec,
        operators: &[Arc<dyn semel_operators::operator::Operator>],
    ) {
        let known: Vec<&str> = operators.iter().flat_map(|o| o.outputs()).copied().collect();
        for output in stage.outputs.keys() {
            if !known.contains(&output.get_ref().as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let text = format!(
                    "no operator of stage `{}` has an output `{}`: known are {known}",
                    stage.name.get_ref(),
                    output.get_ref()
                );
                self.error(output, text);
            }
        }
    }

    /// Whose progress makes a stage's event time: every task of every stage that writes its input
    /// as `output`.
    fn sources_of(&mut self, stage: &StageSpec, all: &[(&StageSpec, bool)]) -> Vec<String> {
        let Some(input) = &stage.input else { return Vec::new() };
        let mut sources = Vec::new();
        for (other, is_source) in all {
            let writes = other.output.iter().any(|t| t.get_ref() == input.get_ref());
            if !writes || other.name.get_ref() == stage.name.get_ref() {
                continue;
            }
            let partitions = match (&other.input, is_source) {
                (Some(input), false) => self.topic(input).map_or(0, |t| t.partitions),
                _ => 1,
            };
            sources.extend((0..partitions).map(|p| format!("{}/{p}", other.name.get_ref())));
        }
        sources
    }

    fn sinks(&mut self, dead_letter: &TopicRef, all: &[(&StageSpec, bool)]) -> Vec<SinkPlan> {
        let written: BTreeSet<String> = all
            .iter()
            .flat_map(|(s, _)| s.output.iter().chain(s.outputs.values().flatten()))
            .chain(all.iter().filter_map(|(s, _)| s.input.as_ref()))
            .map(|t| t.get_ref().clone())
            .collect();
        let spec = self.spec;
        let mut plans = Vec::new();
        for sink in &spec.sink {
            if !written.contains(sink.topic.get_ref()) {
                let text = format!("no stage reads or writes topic `{}`", sink.topic.get_ref());
                self.error(&sink.topic, text);
            }
            if sink.tables.iter().any(|table| table.types.iter().any(|kind| kind == PROGRESS)) {
                self.error(&sink.name, "progress records are no rows");
            }
            let Some(topic) = self.topic(&sink.topic) else { continue };
            let name = sink.name.get_ref().clone();
            plans.push(SinkPlan {
                group: format!("semel.{}.{name}", spec.pipeline.name.get_ref()),
                dead_letter: dead_letter.clone(),
                url: sink.url.clone(),
                schema: sink.schema.clone(),
                mapping: SinkSpec {
                    name: name.clone(),
                    topic: topic.name.clone(),
                    tables: sink.tables.clone(),
                },
                topic,
                name,
            });
        }
        plans
    }

    fn check_files(&mut self) {
        for (name, file) in &self.spec.files {
            if let Err(text) = file.check() {
                let at = self.source.text.find(&format!("[files.{name}]")).unwrap_or(0);
                self.errors.push(self.source.error_at(at, format!("file `{name}`: {text}")));
            }
        }
    }

    fn check_topics_used(&mut self) {
        for short in self.spec.topics.keys() {
            let full = format!("{}.{short}", self.spec.pipeline.name.get_ref());
            if !self.topics.keys().any(|name| generation::split(name.as_str()).0 == full) {
                let at = self.source.text.find("[topics").unwrap_or(0);
                let text = format!("topic `{short}` is read and written by no stage and no sink");
                self.errors.push(self.source.error_at_key(at, short, text));
            }
        }
    }
}
