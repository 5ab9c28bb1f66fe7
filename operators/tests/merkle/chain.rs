//! Contracts on a chain: a distributor of each EVM profile, in revm, pays for our proofs and refuses
//! changed ones. The verifier is OpenZeppelin's, the code `operators/oracles/distributors.txt`.
//!
//! May not live here: our own verifier. Calls are encoded by hand: the contracts' own decoding checks it.

use std::{fs, path::Path};

use revm::{
    Context, ExecuteCommitEvm, MainBuilder, MainContext,
    context::TxEnv,
    context_interface::result::{ExecutionResult, Output},
    database::{CacheDB, EmptyDB},
    primitives::{Address, Bytes, TxKind, U256},
};
use semel_operators::merkle::{
    hash::{Hash, keccak},
    leaf::Value,
    profile::{Profile, by_name, rows::Row},
};

const CALLER: Address = Address::new([0x11; 20]);

/// The creation code of a contract, as solc made it.
fn code(contract: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles/distributors.txt");
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{contract} ")));
    hex::decode(line.unwrap_or_else(|| panic!("distributors.txt has no {contract}"))).unwrap()
}

/// A chain with one distributor.
struct Chain {
    db: CacheDB<EmptyDB>,
    nonce: u64,
    at: Address,
}

impl Chain {
    fn with(contract: &str, root: &Hash) -> Self {
        let mut chain = Self { db: CacheDB::default(), nonce: 0, at: Address::ZERO };
        let create = [code(contract), root.to_vec()].concat();
        match chain.send(TxKind::Create, create) {
            ExecutionResult::Success { output: Output::Create(_, Some(at)), .. } => chain.at = at,
            other => panic!("{contract} was not deployed: {other:?}"),
        }
        chain
    }

    fn send(&mut self, kind: TxKind, data: Vec<u8>) -> ExecutionResult {
        let tx = TxEnv::builder()
            .caller(CALLER)
            .kind(kind)
            .data(data.into())
            .gas_limit(10_000_000)
            .nonce(self.nonce)
            .build()
            .unwrap();
        self.nonce += 1;
        let mut evm = Context::mainnet().with_db(&mut self.db).build_mainnet();
        evm.transact_commit(tx).unwrap()
    }

    /// Whether the call succeeds, and the selector of its error if not.
    fn call(&mut self, data: Vec<u8>) -> Result<(), Bytes> {
        match self.send(TxKind::Call(self.at), data) {
            ExecutionResult::Success { logs, .. } => {
                assert!(!logs.is_empty(), "a claim is paid with an event");
                Ok(())
            }
            ExecutionResult::Revert { output, .. } => Err(output),
            other => panic!("{other:?}"),
        }
    }
}

/// An argument of a call.
enum Argument {
    Word(Hash),
    Text(String),
    Words(Vec<Hash>),
}

fn word(number: usize) -> Hash {
    U256::from(number).to_be_bytes()
}

/// Selector and arguments, as Solidity's ABI has them.
fn encoded(signature: &str, arguments: &[Argument]) -> Vec<u8> {
    let (mut head, mut tail) = (keccak(signature.as_bytes())[..4].to_vec(), Vec::new());
    for argument in arguments {
        let offset = word(arguments.len() * 32 + tail.len());
        match argument {
            Argument::Word(word) => head.extend(word),
            Argument::Text(text) => {
                head.extend(offset);
                tail.extend(word(text.len()));
                tail.extend(text.bytes());
                tail.resize(tail.len().next_multiple_of(32), 0);
            }
            Argument::Words(words) => {
                head.extend(offset);
                tail.extend(word(words.len()));
                tail.extend(words.iter().flatten());
            }
        }
    }
    [head, tail].concat()
}

/// The call that claims a leaf.
fn claim(profile: &Profile, signature: &str, row: &Row, proof: &[Hash]) -> Vec<u8> {
    let mut arguments: Vec<_> = profile
        .asked()
        .zip(row)
        .map(|(_, value)| match value {
            Value::Uint(number) => Argument::Word(number.to_be()),
            Value::Text(text) => Argument::Text(text.clone()),
            Value::Bytes(bytes) => {
                let mut word = [0; 32];
                word[32 - bytes.len()..].copy_from_slice(bytes);
                Argument::Word(word)
            }
        })
        .collect();
    arguments.push(Argument::Words(proof.to_vec()));
    encoded(signature, &arguments)
}

fn rows(profile: &Profile, count: u64) -> Vec<Row> {
    let value = |name: &str, i: u64| match name {
        "index" => i.into(),
        "amount" => (1_000 + i).into(),
        "id" => format!("twitch:channel:{i}:with a name of more than one word").as_str().into(),
        "account" => Value::Bytes(keccak(&i.to_be_bytes())[12..].to_vec()),
        _ => Value::Bytes(keccak(&i.to_be_bytes()).to_vec()),
    };
    (0..count).map(|i| profile.asked().map(|field| value(&field.name, i)).collect()).collect()
}

fn error(name: &str) -> Bytes {
    Bytes::copy_from_slice(&keccak(format!("{name}()").as_bytes())[..4])
}

const CASES: [(&str, &str, &str); 4] = [
    ("uniswap", "UniswapDistributor", "claim(uint256,address,uint256,bytes32[])"),
    (
        "openzeppelin-standard",
        "StandardDistributor",
        "claim(bytes32,uint256,uint256,string,bytes32[])",
    ),
    ("openzeppelin-simple", "SimpleDistributor", "claim(bytes32,bytes32[])"),
    ("murky", "StandardDistributor", "claim(bytes32,uint256,uint256,string,bytes32[])"),
];

#[test]
fn distributors_pay_for_each_proof_once() {
    for (name, contract, signature) in CASES {
        let profile = by_name(name).unwrap();
        for count in [2, 3, 7, 8, 13] {
            let (tree, rows) = profile.tree(rows(&profile, count)).unwrap();
            let mut chain = Chain::with(contract, &tree.root().unwrap());
            for (i, row) in rows.iter().enumerate() {
                let proof = tree.proof(i).unwrap().siblings;
                let call = claim(&profile, signature, row, &proof);
                assert_eq!(chain.call(call.clone()), Ok(()), "{name}, leaf {i} of {count}");
                assert_eq!(chain.call(call), Err(error("AlreadyClaimed")), "{name}, twice");
            }
        }
    }
}

#[test]
fn distributors_refuse_what_was_changed() {
    for (name, contract, signature) in CASES {
        let profile = by_name(name).unwrap();
        let (tree, rows) = profile.tree(rows(&profile, 7)).unwrap();
        let mut chain = Chain::with(contract, &tree.root().unwrap());
        let proof = tree.proof(2).unwrap().siblings;
        let mut refused = |what: &str, row: &Row, proof: &[Hash]| {
            let call = claim(&profile, signature, row, proof);
            assert_eq!(chain.call(call), Err(error("WrongProof")), "{name}: {what}");
        };
        refused("no proof", &rows[2], &[]);
        refused("a proof cut short", &rows[2], &proof[..proof.len() - 1]);
        refused("a hash more", &rows[2], &[proof.clone(), vec![proof[0]]].concat());
        refused("another leaf", &rows[3], &proof);
        for at in 0..proof.len() {
            let mut changed = proof.clone();
            changed[at][31] ^= 1;
            refused("a changed hash", &rows[2], &changed);
        }
        for at in 0..rows[2].len() {
            let mut changed = rows[2].clone();
            changed[at] = match &changed[at] {
                Value::Uint(number) => Value::Uint(number.checked_add(1.into()).unwrap()),
                Value::Text(text) => Value::Text(format!("{text}.")),
                Value::Bytes(bytes) => Value::Bytes(bytes.iter().map(|byte| byte ^ 1).collect()),
            };
            refused("a changed field", &changed, &proof);
        }
        let call = claim(&profile, signature, &rows[2], &proof);
        assert_eq!(chain.call(call), Ok(()), "{name}: and the right one is paid");
    }
}

#[test]
fn a_distributor_pays_for_our_multiproofs() {
    let profile = by_name("openzeppelin-simple").unwrap();
    let (tree, _) = profile.tree(rows(&profile, 9)).unwrap();
    let call = |wrong: bool| {
        let (proof, order) = tree.multiproof(&[1, 4, 5, 8]).unwrap();
        let mut leaves: Vec<_> = order.iter().map(|i| tree.leaf(*i).unwrap()).collect();
        if wrong {
            leaves[1][0] ^= 1;
        }
        let flags = proof.flags.unwrap().iter().map(|flag| word(usize::from(*flag))).collect();
        let lists = [leaves, proof.siblings, flags].map(Argument::Words);
        encoded("claimMany(bytes32[],bytes32[],bool[])", &lists)
    };
    let mut chain = Chain::with("SimpleDistributor", &tree.root().unwrap());
    assert_eq!(chain.call(call(true)), Err(error("WrongProof")));
    assert_eq!(chain.call(call(false)), Ok(()));
    assert_eq!(chain.call(call(false)), Err(error("AlreadyClaimed")));
}
