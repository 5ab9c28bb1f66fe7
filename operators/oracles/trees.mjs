// Random trees as foreign builders make them, as digests: one line a profile and seed, with one
// digest for each ten sizes (1 to 10, 11 to 20, … 291 to 300).
//
//     node trees.mjs [SEEDS]      prints the lines of seeds 0 to SEEDS-1 (default 20)
//
// Lives here: leaf bytes, written from the conventions' sources and not from our Rust, and calls of
// `merkletreejs` and `@openzeppelin/merkle-tree`. May not live here: anything that hashes a pair but
// as a function handed to those. `operators/tests/merkle/oracles.rs` makes the same lines by our code.
// Packages are looked for in the current folder (see deploy/oracles).
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';

const require = createRequire(`${process.cwd()}/`);
const { MerkleTree } = require('merkletreejs');
const { StandardMerkleTree, SimpleMerkleTree } = require('@openzeppelin/merkle-tree');
const { createKeccak } = require('hash-wasm');

const SIZES = 300;
const BLOCK = 10;

const keccak256 = await createKeccak(256);
const keccak = (bytes) => Buffer.from(keccak256.init().update(bytes).digest('binary'));
const sha = (...parts) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(Array.isArray(part) ? Buffer.from(part) : part);
  return hash.digest();
};
const u32 = (number) => { const b = Buffer.alloc(4); b.writeUInt32BE(number); return b; };
const u32le = (number) => { const b = Buffer.alloc(4); b.writeUInt32LE(number); return b; };
const u64le = (number) => { const b = Buffer.alloc(8); b.writeBigUInt64LE(BigInt(number)); return b; };
const u256 = (number) => Buffer.from(BigInt(number).toString(16).padStart(64, '0'), 'hex');
const hex = (bytes) => `0x${Buffer.from(bytes).toString('hex')}`;

// The rows that both sides draw. Some are the row before once more, some have its claimant.
const draw = (letter, seed, n, i) => sha(`semel ${letter}`, u32(seed), u32(n), u32(i));
function rows(seed, n) {
  return Array.from({ length: n }, (_, i) => {
    const j = i % 11 === 5 ? i - 1 : i;
    const b = draw('b', seed, n, j);
    const long = j % 4 === 0 ? ':of-a-long-name-beyond-one-word' : '';
    return {
      who: draw('a', seed, n, j % 7 === 3 ? j - 1 : j),
      index: j,
      amount: BigInt(hex(b.subarray(0, 7))),
      locked: BigInt(hex(b.subarray(20, 27))),
      wide: BigInt(hex(b)),
      epoch: b.readUInt32BE(16),
      id: `twitch:é${j % 5}:${b.subarray(8, 14).toString('hex')}${long}`,
    };
  });
}

const by = (key) => (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0);
const indexed = (all) => [...all].sort(by((row) => row.index));

// A tree of merkletreejs: leaves in the order of the tree, `places` those of the leaves as given.
function levels(leaves, { sort, drop, pairs = true, odd, hash = keccak }) {
  let order = leaves.map((leaf, i) => ({ leaf, given: [i] }));
  if (sort) order.sort((a, b) => Buffer.compare(a.leaf, b.leaf));
  if (drop) {
    order = order.reduce((kept, next) => {
      const last = kept.at(-1);
      if (last?.leaf.equals(next.leaf)) last.given.push(...next.given); else kept.push(next);
      return kept;
    }, []);
  }
  const places = [];
  order.forEach(({ given }, place) => given.forEach((i) => { places[i] = place; }));
  const tree = new MerkleTree(order.map(({ leaf }) => leaf), hash, {
    sortPairs: pairs, duplicateOdd: odd === 'duplicate', sortLeaves: false,
  });
  const layers = tree.getLayers();
  const proof = (i) => {
    const siblings = [];
    let at = places[i];
    for (const layer of layers.slice(0, -1)) {
      const other = layer[at ^ 1] ?? (odd === 'duplicate' ? layer[at] : undefined);
      if (other) siblings.push(other);
      at >>= 1;
    }
    return siblings;
  };
  return { count: leaves.length, root: tree.getRoot(), proof };
}

const heap = (count, tree) => ({
  count,
  root: Buffer.from(tree.root.slice(2), 'hex'),
  proof: (i) => tree.getProof(i).map((node) => Buffer.from(node.slice(2), 'hex')),
});

// Equal claimants become one, at the place of the first, their amounts added.
function merged(all) {
  const claimants = new Map();
  for (const { who, amount, locked } of all) {
    const key = hex(who);
    const sum = claimants.get(key) ?? { who, amount: 0n, locked: 0n };
    sum.amount += amount;
    sum.locked += locked;
    claimants.set(key, sum);
  }
  return [...claimants.values()];
}

const cat = (...parts) => Buffer.concat(parts.map((part) => Buffer.from(part)));
const PROFILES = {
  'ao-claim-v0': (all) => levels(
    indexed(all).map((r) => keccak(cat(r.who, u32le(r.index), u64le(r.amount), r.id))),
    { odd: 'duplicate' }),
  'ao-claim-v1': (all, one) => levels(
    indexed(all).map((r) => keccak(
      cat('leaf:', one, u64le(r.epoch), r.who, u32le(r.index), u64le(r.amount), r.id))),
    { odd: 'duplicate' }),
  'ao-participation': (all) => levels(
    [...all].sort(by((r) => hex(r.who))).map((r) => keccak(cat(r.who, r.id, u64le(r.epoch)))),
    { odd: 'duplicate' }),
  'ao-participation-promote': (all) => levels(
    all.map((r) => keccak(cat(r.who, r.id, u64le(r.epoch)))), { sort: true, odd: 'promote' }),
  'ao-cumulative-v2': (all, one) => levels(
    all.map((r) => keccak(
      cat('TWZRD:CUMULATIVE_V2', one, one, u64le(r.epoch), r.who, u64le(r.amount)))),
    { odd: 'duplicate' }),
  'ao-global-v4': (all, one) => levels(
    all.map((r) => keccak(cat('TWZRD:GLOBAL_V4', one, u64le(r.epoch), r.who, u64le(r.amount)))),
    { odd: 'duplicate' }),
  'openzeppelin-standard': (all) => heap(all.length, StandardMerkleTree.of(
    all.map((r) => [hex(r.who), r.index, r.wide, r.id]),
    ['bytes32', 'uint256', 'uint256', 'string'])),
  'openzeppelin-simple': (all) => heap(all.length, SimpleMerkleTree.of(all.map((r) => hex(r.who)))),
  uniswap: (all) => levels(
    all.map((r) => keccak(cat(u256(r.index), r.who.subarray(12), u256(r.wide)))),
    { sort: true, drop: true, odd: 'promote' }),
  saber: (all) => levels(
    all.map((r) => keccak(cat(u64le(r.index), r.who, u64le(r.amount)))),
    { sort: true, drop: true, odd: 'promote' }),
  jito: (all) => levels(
    merged(all).map((r) => sha([0], sha(r.who, u64le(r.amount), u64le(r.locked)))),
    { odd: 'duplicate', hash: (pair) => sha([1], pair) }),
  rs_merkle: (all) => levels(all.map((r) => r.who), { pairs: false, odd: 'promote', hash: (pair) => sha(pair) }),
};

const seeds = Number(process.argv[2] ?? 20);
for (let seed = 0; seed < seeds; seed++) {
  const lines = new Map(Object.keys(PROFILES).map((profile) => [profile, [profile, seed]]));
  for (let from = 1; from <= SIZES; from += BLOCK) {
    const blocks = new Map(Object.keys(PROFILES).map((profile) => [profile, createHash('sha256')]));
    for (let n = from; n < from + BLOCK; n++) {
      const all = rows(seed, n);
      const one = draw('m', seed, n, 0);
      for (const [profile, build] of Object.entries(PROFILES)) {
        const tree = build(all, one);
        const block = blocks.get(profile).update(tree.root);
        for (const i of [0, tree.count >> 1, tree.count - 1]) {
          const siblings = tree.proof(i);
          block.update(Buffer.from([siblings.length]));
          for (const sibling of siblings) block.update(sibling);
        }
      }
    }
    for (const [profile, block] of blocks) lines.get(profile).push(block.digest('hex').slice(0, 16));
  }
  for (const line of lines.values()) console.log(line.join(' '));
}
