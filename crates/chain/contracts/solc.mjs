#!/usr/bin/env node
// The pinned JavaScript compiler behind the part of a native solc's command line that analysers use: `--version`, and
// `--combined-json WHAT FILE`. Analysis wants code as it was written, so nothing is optimised here.
// It refuses to build anything that is deployed: build.mjs does that.
//   slither src/Vault.sol --solc ./solc.mjs
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import solc from "solc";

const words = process.argv.slice(2);
if (words.includes("--version")) {
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}`);
  process.exit(0);
}
const file = words.find((word) => word.endsWith(".sol"));
const folder = dirname(file);
const wanted = {
  "*": {
    "": ["ast"],
    "*": ["abi", "devdoc", "userdoc", "evm.bytecode", "evm.deployedBytecode", "evm.methodIdentifiers"],
  },
};
const input = {
  language: "Solidity",
  sources: { [file]: { content: readFileSync(file, "utf8") } },
  settings: { viaIR: true, evmVersion: "cancun", outputSelection: wanted },
};
const read = (path) => ({ contents: readFileSync(path.startsWith(folder) ? path : join(folder, path), "utf8") });
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
const errors = (output.errors ?? []).filter(({ severity }) => severity === "error");
for (const { formattedMessage } of errors) console.error(formattedMessage);
if (errors.length > 0) process.exit(1);

const sources = Object.entries(output.sources);
const contracts = Object.entries(output.contracts).flatMap(([path, all]) =>
  Object.entries(all).map(([name, { abi, devdoc, userdoc, evm }]) => [
    `${path}:${name}`,
    {
      abi,
      devdoc,
      userdoc,
      bin: evm.bytecode.object,
      "bin-runtime": evm.deployedBytecode.object,
      srcmap: evm.bytecode.sourceMap,
      "srcmap-runtime": evm.deployedBytecode.sourceMap,
      hashes: evm.methodIdentifiers,
    },
  ]),
);
const combined = {
  contracts: Object.fromEntries(contracts),
  sources: Object.fromEntries(sources.map(([path, { ast }]) => [path, { AST: ast }])),
  sourceList: sources.sort(([, a], [, b]) => a.id - b.id).map(([path]) => path),
  version: solc.version(),
};
process.stdout.write(JSON.stringify(combined));
