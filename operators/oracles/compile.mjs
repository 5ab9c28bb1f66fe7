// Compiles contracts/Distributors.sol and prints the creation code of each contract: one line each,
// its name and hex. The output depends on nothing but the sources and the pinned packages.
//
// May not live here: which contracts there are (the source says), where packages are (the current
// folder, see deploy/oracles).
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(`${process.cwd()}/`);
const solc = require('solc');

const name = 'Distributors.sol';
const source = readFileSync(new URL(`contracts/${name}`, import.meta.url), 'utf8');
const input = {
  language: 'Solidity',
  sources: { [name]: { content: source } },
  settings: {
    optimizer: { enabled: true, runs: 200 },
    evmVersion: 'cancun',
    metadata: { bytecodeHash: 'none', appendCBOR: false },
    outputSelection: { [name]: { '*': ['evm.bytecode.object'] } },
  },
};
const imports = (path) => {
  try {
    return { contents: readFileSync(require.resolve(path), 'utf8') };
  } catch (error) {
    return { error: `${path}: ${error.message}` };
  }
};
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: imports }));
const errors = (output.errors ?? []).filter(({ severity }) => severity === 'error');
if (errors.length) {
  for (const { formattedMessage } of errors) console.error(formattedMessage);
  process.exit(1);
}
for (const [contract, { evm }] of Object.entries(output.contracts[name])) {
  if (evm.bytecode.object) console.log(`${contract} ${evm.bytecode.object}`);
}
