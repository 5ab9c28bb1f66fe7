//! Each hint where it belongs, with its line; and none in what ships.

use super::*;
use crate::spec::parse::parse;

/// A pipeline without a hint, into which each case puts one mistake.
const GOOD: &str = r#"[pipeline]
name = "p"
data = "p-data"

[log]
brokers = ""

[chains.solana]
rpc = "http://127.0.0.1:1"

[[source]]
name = "chain"
output = ["claims"]
outputs = { observed = ["seen"], undecodable = ["seen"], alerts = ["seen"] }

[[source.operators]]
use = "solana_source"
name = "solana"
chain = "solana"
program = "GnGzNdsQMxMpJfMeqnkGPsvHm8kwaDidiKjNU2dCVZop"

[[stage]]
name = "dedupe"
input = "claims"
output = ["once"]
outputs = { duplicates = ["twice"] }

[[stage.operators]]
use = "dedupe"
record = "claim"
id = ["claim_id"]
window_slots = 864000

[[sink]]
name = "rows"
topic = "once"
url = "sqlite:rows.db"

[[sink.tables]]
table = "claims"
types = ["claim"]
key = ["claim_id"]

[sink.tables.columns]
channel = "channel"
"#;

fn hints(text: &str) -> Vec<String> {
    let (spec, source) = parse("p.toml", text, &|_| None).unwrap();
    let plan = Plan::new(&spec, &source).unwrap();
    advice(&spec, &source, &plan).iter().map(ToString::to_string).collect()
}

/// What is changed in [`GOOD`], into what, and hints that must be there.
type Mistake = (&'static str, &'static str, &'static [&'static str]);

const MISTAKES: &[Mistake] = &[
    (
        "input = \"claims\"",
        "input = \"claim\"",
        &["p.toml:24: no stage writes topic `claim`, and nobody reads `claims`"],
    ),
    (
        "outputs = { duplicates = [\"twice\"] }\n",
        "\n",
        &["p.toml:23: operator `dedupe` of stage `dedupe` has an output `duplicates`"],
    ),
    (
        "output = [\"claims\"]",
        "output = [\"blocks\"]",
        &[
            "no source of this pipeline writes progress into topic `claims`: unless another program \
           does, `dedupe` forgets no id",
        ],
    ),
    (
        "output = [\"once\"]\n",
        "output = [\"once\"]\nlanes = 6\n",
        &["p.toml:26: stage `dedupe` has 6 lanes, and its topic 4 partitions: 2 lanes"],
    ),
    (
        "[[source]]",
        "[topics.claims]\nretention_ms = 999_999_999\n\n[[source]]",
        &[
            "p.toml:35: ids are remembered for 864000 slots (about 96 h), and the topic is kept for 277 h",
        ],
    ),
    (
        "[[source]]",
        "[topics.once]\nretention_ms = 3_600_000\n\n[[source]]",
        &["p.toml:12: topic `once` keeps records for 60 min"],
    ),
    ("key = [\"claim_id\"]", "key = []", &["p.toml:42: table `claims` of sink `rows` has no key"]),
    (
        "[[sink]]",
        "[[sink]]\nname = \"more\"\ntopic = \"twice\"\nurl = \"sqlite:rows.db\"\n\n\
         [[sink.tables]]\ntable = \"claims\"\ntypes = [\"dedupe.duplicate\"]\nkey = [\"record_id\"]\n\n\
         [sink.tables.columns]\nslot = \"slot\"\n\n[[sink]]",
        &["table `claims` is written by another sink, too"],
    ),
    (
        "chain = \"solana\"",
        "chain = \"solna\"",
        &[
            "p.toml:8: no operator names chain `solana`",
            "p.toml:19: there is no [chains.solna] in this spec: did you mean `solana`?",
        ],
    ),
    (
        "[[source]]",
        "[files.legacy]\npath = \"a\"\nformat = \"csv\"\ntype = \"t\"\nkey = \"k\"\n\n[[source]]",
        &["no operator names file `legacy`"],
    ),
    (
        "data = \"p-data\"",
        "data = \"/tmp/p\"",
        &["p.toml:3: the log itself is in the data folder /tmp/p"],
    ),
    ("brokers = \"\"", "durability = \"os\"", &["p.toml:6: commits do not wait for the disk"]),
    (
        "data = \"p-data\"",
        "data = \"p-data\"\nmetrics = \"0.0.0.0:9090\"",
        &["p.toml:4: the metrics endpoint answers everybody"],
    ),
];

#[test]
fn each_mistake_has_its_hint() {
    assert_eq!(hints(GOOD), Vec::<String>::new());
    for (from, to, want) in MISTAKES {
        assert!(GOOD.contains(from), "{from}");
        let found = hints(&GOOD.replacen(from, to, 1));
        // One mistake may be seen from two sides; those that are named are there, in order.
        let mut rest = found.iter();
        for &text in *want {
            assert!(rest.any(|hint| hint.contains(text)), "`{text}` is not in {found:#?}");
        }
    }
}

#[test]
fn the_spec_that_ships_has_no_hint_and_a_new_one_only_what_its_comment_says() {
    let shipped = include_str!("../../../../deploy/specs/attention-oracle.toml");
    let set = |name: &str| match name {
        "ANCHOR_PROVIDER_URL" | "DATABASE_URL" | "SETTLEMENT_KEYPAIR" => Some("x".to_owned()),
        "SETTLEMENT_AUTHORITY" | "AO_MINT" => {
            Some("GnGzNdsQMxMpJfMeqnkGPsvHm8kwaDidiKjNU2dCVZop".to_owned())
        }
        _ => None,
    };
    let (spec, source) = parse("a.toml", shipped, &set).unwrap();
    let plan = Plan::new(&spec, &source).unwrap();
    assert_eq!(advice(&spec, &source, &plan), Vec::new());
    let new = include_str!("../../cli/new/pipeline.toml").replace("NAME", "new");
    let found = hints(&new);
    assert!(found.len() == 1 && found[0].contains("`dedupe` forgets no id"), "{found:#?}");
}
