// Compiles the contracts with fixed settings and writes artifacts/NAME.json, and, for the tests' positive controls, each
// contract without one of its guards as ../tests/data/weakened/GUARD.json.
//   node build.mjs             builds
//   node build.mjs --check     builds in memory and fails when a committed file differs
//   node build.mjs --only X    builds the weakened variant X and nothing else, while one works on it
// A guard is marked in the sources. A line that ends with `//@guard NAME` is left out of the variant NAME; a line that begins
// with `//@weak NAME:` is a comment everywhere else and code there.
// It refuses to touch the network: the compiler is the JavaScript build pinned in package-lock.json.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const here = dirname(fileURLToPath(import.meta.url));
const artifacts = join(here, "artifacts");
const weakened = join(here, "..", "tests", "data", "weakened");
const checks = process.argv.includes("--check");
const only = process.argv.includes("--only") ? process.argv[process.argv.indexOf("--only") + 1] : undefined;
// Contracts that are deployed or whose code the clients must know.
const published = {
  Token: "Token.sol",
  BridgedToken: "BridgedToken.sol",
  TokenProxy: "BridgedToken.sol",
  Vault: "Vault.sol",
  Direct: "Direct.sol",
  DepositBox: "DepositBox.sol",
};

const names = readdirSync(join(here, "src")).filter((name) => name.endsWith(".sol")).sort();
const texts = Object.fromEntries(names.map((name) => [name, readFileSync(join(here, "src", name), "utf8")]));
const sha256 = Object.fromEntries(
  names.map((name) => [name, createHash("sha256").update(texts[name]).digest("hex")]),
);
const settings = {
  optimizer: { enabled: true, runs: 200 },
  viaIR: true,
  evmVersion: "cancun",
  metadata: { bytecodeHash: "none", appendCBOR: false },
};

function compile(sources, outputs) {
  const input = {
    language: "Solidity",
    sources: Object.fromEntries(Object.entries(sources).map(([name, content]) => [name, { content }])),
    settings: { ...settings, outputSelection: outputs },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  return { contracts: output.contracts, complaints: output.errors ?? [] };
}

function guards() {
  const marked = Object.values(texts).flatMap((text) => [...text.matchAll(/\/\/@(?:guard|weak) ([a-z-]+)/g)]);
  return [...new Set(marked.map(([, name]) => name))].sort();
}

/** The sources without one guard, and the contract that had it. */
function without(guard) {
  const removed = new RegExp(`//@guard ${guard}$`);
  const added = new RegExp(`//@weak ${guard}: `, "g");
  let contract = "Vault";
  const sources = {};
  for (const [name, text] of Object.entries(texts)) {
    const kept = text.split("\n").filter((line) => !removed.test(line)).join("\n").replace(added, "");
    if (kept !== text && name === "Direct.sol") contract = "Direct";
    sources[name] = kept;
  }
  return { sources, contract };
}

let stale = false;
function settle(path, text) {
  let committed = "";
  if (!checks) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    return;
  }
  try {
    committed = readFileSync(path, "utf8");
  } catch {
    // Reported below, as a difference.
  }
  if (committed !== text) {
    stale = true;
    console.error(`${path} does not match the sources; run: node build.mjs`);
  }
}

function publish() {
  const code = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"];
  const { contracts, complaints } = compile(texts, { "*": { "*": code } });
  for (const { formattedMessage } of complaints) console.error(formattedMessage);
  // A warning of the compiler is a defect of ours: nothing is built over one.
  if (complaints.length > 0) process.exit(1);
  for (const [name, file] of Object.entries(published)) {
    const { abi, evm } = contracts[file][name];
    const artifact = {
      contractName: name,
      compiler: solc.version(),
      settings,
      sources: sha256,
      abi,
      bytecode: { object: `0x${evm.bytecode.object}` },
      deployedBytecode: { object: `0x${evm.deployedBytecode.object}` },
    };
    settle(join(artifacts, `${name}.json`), `${JSON.stringify(artifact, null, 1)}\n`);
    console.log(`${name}: ${evm.deployedBytecode.object.length / 2} bytes deployed`);
  }
}

/** A variant may be warned about: it has variables that nothing reads any more. It is never deployed outside the tests. */
function weaken(guard) {
  const { sources, contract } = without(guard);
  const { contracts, complaints } = compile(sources, { [`${contract}.sol`]: { [contract]: ["evm.bytecode.object"] } });
  const errors = complaints.filter(({ severity }) => severity === "error");
  for (const { formattedMessage } of errors) console.error(formattedMessage);
  if (errors.length > 0) process.exit(1);
  const { object } = contracts[`${contract}.sol`][contract].evm.bytecode;
  const variant = { guard, contractName: contract, compiler: solc.version(), sources: sha256, bytecode: `0x${object}` };
  settle(join(weakened, `${guard}.json`), `${JSON.stringify(variant, null, 1)}\n`);
  console.log(`without ${guard}: ${contract}`);
}

if (only === undefined || only === "none") publish();
for (const guard of guards()) if (only === undefined || only === guard) weaken(guard);
process.exit(stale ? 1 : 0);
