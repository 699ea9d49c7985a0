// Holds the signatures of artefacts against the npm package jose.
//
//     node evidence.mjs MODULES FOLDER...
//
// MODULES is where get-node-jose.sh put the packages. Each FOLDER has X.json, X.json.jws and jwks.json. Prints how many artefacts there were;
// ends with 1 at the first whose signature is not that of a key in jwks.json, naming it.

import { readFile, readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, ...folders] = process.argv.slice(2);
const found = createRequire(join(modules, "package.json")).resolve("jose");
const { compactVerify, createLocalJWKSet } = await import(pathToFileURL(found));

async function check(path, keys) {
  const payload = (await readFile(path)).toString("base64url");
  const [header, between, signature] = (await readFile(`${path}.jws`, "ascii")).split(".");
  if (between !== "") throw new Error("the signature is not detached");
  await compactVerify(`${header}.${payload}.${signature}`, keys, { algorithms: ["EdDSA"] });
}

let count = 0;
for (const folder of folders) {
  const keys = createLocalJWKSet(JSON.parse(await readFile(join(folder, "jwks.json"), "utf8")));
  for (const name of (await readdir(folder)).filter((name) => name.endsWith(".json") && name !== "jwks.json").sort()) {
    const path = join(folder, name);
    try {
      await check(path, keys);
    } catch (error) {
      console.error(`${path}: ${error.message}`);
      process.exit(1);
    }
    count += 1;
  }
}
console.log(`${count} artefacts`);
