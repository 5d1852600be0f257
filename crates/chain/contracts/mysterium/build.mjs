// Compiles the batcher and the test double of the deployed contracts, with fixed settings, and writes NAME.json beside each.
//   node build.mjs           builds
//   node build.mjs --check   builds in memory and fails when a committed artifact differs
// It refuses to touch the network: the compiler is the one pinned in ../package-lock.json.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const here = dirname(fileURLToPath(import.meta.url));
const double = join(here, "../../tests/mysterium");
// Where sources lie, where their artifacts go, and which contracts those are: what is deployed, by us or by tests.
const units = [
  { from: join(here, "src"), to: join(here, "artifacts"), contracts: { Batch: "Batch.sol" } },
  {
    from: join(double, "double"),
    to: join(double, "artifacts"),
    contracts: {
      Myst: "Support.sol",
      Registry: "Registry.sol",
      HermesFirst: "Hermes.sol",
      HermesThird: "Hermes.sol",
      ChannelFirst: "Channel.sol",
      ChannelThird: "Channel.sol",
    },
  },
];
const settings = {
  optimizer: { enabled: true, runs: 200 },
  viaIR: true,
  evmVersion: "cancun",
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};

let stale = false;
for (const { from, to, contracts } of units) {
  const names = readdirSync(from).filter((name) => name.endsWith(".sol")).sort();
  const sources = Object.fromEntries(
    names.map((name) => [name, { content: readFileSync(join(from, name), "utf8") }]),
  );
  const sha256 = Object.fromEntries(
    names.map((name) => [name, createHash("sha256").update(sources[name].content).digest("hex")]),
  );
  const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
  const complaints = output.errors ?? [];
  for (const { formattedMessage } of complaints) console.error(formattedMessage);
  // A warning of the compiler is a defect of ours: nothing is built over one.
  if (complaints.length > 0) process.exit(1);
  mkdirSync(to, { recursive: true });
  for (const [name, file] of Object.entries(contracts)) {
    const { abi, evm } = output.contracts[file][name];
    const artifact = {
      contractName: name,
      compiler: solc.version(),
      settings: { ...settings, outputSelection: undefined },
      sources: sha256,
      abi,
      bytecode: { object: `0x${evm.bytecode.object}` },
      deployedBytecode: { object: `0x${evm.deployedBytecode.object}` },
    };
    const text = `${JSON.stringify(artifact, null, 1)}\n`;
    const path = join(to, `${name}.json`);
    if (process.argv.includes("--check")) {
      let committed = "";
      try {
        committed = readFileSync(path, "utf8");
      } catch {
        // Reported below, as a difference.
      }
      if (committed !== text) {
        stale = true;
        console.error(`${name}.json does not match its sources; run: node mysterium/build.mjs`);
      }
    } else {
      writeFileSync(path, text);
    }
    console.log(`${name}: ${evm.deployedBytecode.object.length / 2} bytes deployed`);
  }
}
process.exit(stale ? 1 : 0);
