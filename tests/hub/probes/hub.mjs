// Run by node: does what users of @huggingface/hub do, and prints what came of it as JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { modules, hub: hubUrl, token: accessToken, job, bulk, dataset, wrong } = JSON.parse(process.argv[2]);
const require = createRequire(pathToFileURL(`${modules}/`));
const hub = require("@huggingface/hub");

const login = { hubUrl, accessToken };
const results = {};

async function attempt(name, call) {
  try {
    results[name] = await call();
  } catch (error) {
    results[name] = { error: error.constructor.name, status: error.statusCode ?? null };
  }
}

async function names(items) {
  const found = [];
  for await (const item of items) found.push(item.path ?? item.name ?? item.title);
  return found;
}

async function text(blob, start, end) {
  return Buffer.from(await blob.slice(start, end).arrayBuffer()).toString("latin1");
}

await attempt("whoami", async () => (await hub.whoAmI(login)).name);
await attempt("access", async () => (await hub.checkRepoAccess({ ...login, repo: job })) ?? "yes");
await attempt("info", async () => (await hub.modelInfo({ ...login, name: job, revision: "step-2" })).name);
await attempt("models", async () => names(hub.listModels({ ...login, search: { owner: "jobs" } })));
await attempt("commits", async () => names(hub.listCommits({ ...login, repo: job })));
await attempt("files", async () =>
  (await names(hub.listFiles({ ...login, repo: job, revision: "step-2", recursive: true }))).sort());
await attempt("pages", async () => (await names(hub.listFiles({ ...login, repo: bulk, recursive: true }))).length);
await attempt("exists", () => hub.fileExists({ ...login, repo: job, path: "config.json" }));
await attempt("missing", () => hub.fileExists({ ...login, repo: job, path: "nothing.json" }));
await attempt("downloaded", async () =>
  JSON.parse(await (await hub.downloadFile({ ...login, repo: job, path: "config.json", revision: "step-2" })).text()).model_type);
await attempt("size_of_huge", async () =>
  (await hub.fileDownloadInfo({ ...login, repo: bulk, path: "huge.safetensors" })).size);
await attempt("tail_of_huge", async () => {
  const blob = await hub.downloadFile({ ...login, repo: bulk, path: "huge.safetensors" });
  return text(blob, blob.size - 16, blob.size);
});
await attempt("dataset", async () =>
  (await (await hub.downloadFile({ ...login, repo: { type: "dataset", name: dataset }, path: "train.jsonl" })).text()).length);
await attempt("snapshot", async () => (await hub.snapshotDownload({ ...login, repo: job, revision: "step-2", cacheDir: `${process.env.HF_HOME}/js` })).length > 0);
await attempt("no_repository", () => hub.modelInfo({ ...login, name: "jobs/nothing" }));
await attempt("no_revision", () => hub.modelInfo({ ...login, name: job, revision: "step-3" }));
await attempt("wrong_token", () => hub.modelInfo({ hubUrl, accessToken: wrong, name: job }));
console.log(JSON.stringify(results));
