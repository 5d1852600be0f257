// Compiles the contracts with fixed settings and writes artifacts/NAME.json.
//   node build.mjs           builds
//   node build.mjs --check   builds in memory and fails when a committed artifact differs
// It refuses to touch the network: the compiler is the JavaScript build pinned in package-lock.json.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const here = dirname(fileURLToPath(import.meta.url));
const artifacts = join(here, "artifacts");
// Contracts that are deployed or whose code the clients must know.
const published = { Token: "Token.sol", Vault: "Vault.sol", DepositBox: "DepositBox.sol" };

const names = readdirSync(join(here, "src")).filter((name) => name.endsWith(".sol")).sort();
const sources = Object.fromEntries(
  names.map((name) => [name, { content: readFileSync(join(here, "src", name), "utf8") }]),
);
const sha256 = Object.fromEntries(
  names.map((name) => [name, createHash("sha256").update(sources[name].content).digest("hex")]),
);
const settings = {
  optimizer: { enabled: true, runs: 10_000 },
  viaIR: true,
  evmVersion: "cancun",
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};

const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
const complaints = output.errors ?? [];
for (const { formattedMessage } of complaints) console.error(formattedMessage);
// A warning of the compiler is a defect of ours: nothing is built over one.
if (complaints.length > 0) process.exit(1);

let stale = false;
mkdirSync(artifacts, { recursive: true });
for (const [name, file] of Object.entries(published)) {
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
  const path = join(artifacts, `${name}.json`);
  if (process.argv.includes("--check")) {
    let committed = "";
    try {
      committed = readFileSync(path, "utf8");
    } catch {
      // Reported below, as a difference.
    }
    if (committed !== text) {
      stale = true;
      console.error(`artifacts/${name}.json does not match the sources; run: node build.mjs`);
    }
  } else {
    writeFileSync(path, text);
  }
  console.log(`${name}: ${evm.deployedBytecode.object.length / 2} bytes deployed`);
}
process.exit(stale ? 1 : 0);
