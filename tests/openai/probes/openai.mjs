// Run by node: makes every call that this version of the client has, prints what came of it as JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const plan = JSON.parse(process.argv[2]);
const require = createRequire(pathToFileURL(`${plan.modules}/`));
const { OpenAI, toFile } = require("openai");

// This client makes the calls of permissions and webhooks with an admin key only.
const keys = { apiKey: plan.key, adminAPIKey: plan.key };
const client = new OpenAI({ baseURL: `${plan.url}/v1`, ...keys, maxRetries: 0 });
const rows = Buffer.from(plan.rows);
const results = {};

async function attempt(name, call) {
  try {
    results[name] = (await call()) ?? null;
  } catch (error) {
    results[name] = {
      error: error.constructor.name,
      status: error.status ?? null,
      code: error.code ?? null,
      param: error.param ?? null,
      request_id: Boolean(error.requestID),
    };
  }
}

async function all(page) {
  const found = [];
  for await (const item of page) found.push(item);
  return found;
}

function* surface(resource, path) {
  for (const name of Object.getOwnPropertyNames(Object.getPrototypeOf(resource)))
    if (name !== "constructor" && !name.startsWith("_")) yield `${path}.${name}`;
  for (const [name, value] of Object.entries(resource))
    if (name !== "_client" && value !== null && typeof value === "object") yield* surface(value, `${path}.${name}`);
}

const upload = () => toFile(rows, "rows.jsonl");

const file = await client.files.create({
  file: await upload(),
  purpose: "fine-tune",
  expires_after: { anchor: "created_at", seconds: 3600 },
});
await attempt("files.create", () => [file.object, file.bytes, file.status, file.purpose]);
await attempt("expires_at", () => file.expires_at - file.created_at);
await attempt("files.retrieve", async () => (await client.files.retrieve(file.id)).id === file.id);
await attempt("files.list", async () => (await all(client.files.list({ limit: 1 }))).some((f) => f.id === file.id));
await attempt("files.content", async () => (await (await client.files.content(file.id)).text()) === plan.rows);
await attempt("files.waitForProcessing", async () => (await client.files.waitForProcessing(file.id)).status);
await attempt("files.delete", async () => (await client.files.delete(file.id)).deleted);
await attempt("deleted_file", () => client.files.retrieve(file.id));
await attempt("bad_rows", async () =>
  client.files.create({ file: await toFile(Buffer.from('{"text": "a"}\n{"text": 5}\n'), "x"), purpose: "fine-tune" }));

const describe = { bytes: rows.length, filename: "rows.jsonl", mime_type: "text/plain", purpose: "fine-tune" };
const begun = await client.uploads.create(describe);
await attempt("uploads.create", () => [begun.status, begun.expires_at - begun.created_at]);
const parts = [];
for (const data of [rows.subarray(0, 50), rows.subarray(50)])
  parts.push(await client.uploads.parts.create(begun.id, { data: await toFile(data, "upload") }));
await attempt("uploads.parts.create", () => parts.map((part) => part.object));
const ended = await client.uploads.complete(begun.id, { part_ids: parts.map((part) => part.id) });
await attempt("uploads.complete", () => [ended.status, ended.file.bytes, ended.file.status]);
await attempt("uploads.cancel", async () =>
  (await client.uploads.cancel((await client.uploads.create(describe)).id)).status);

const { jobs } = client.fineTuning;
const training = await client.files.create({ file: await upload(), purpose: "fine-tune" });
const create = (more, options) => jobs.create({ model: plan.model, training_file: training.id, ...more }, options);
const metadata = { team: plan.team };
const job = await create({
  validation_file: training.id,
  seed: 7,
  suffix: "mine",
  metadata,
  method: {
    type: "supervised",
    supervised: { hyperparameters: { n_epochs: "auto", batch_size: 2, learning_rate_multiplier: 0.5 } },
  },
  peft: { r: 4 },
});
await attempt("fineTuning.jobs.create", () => [job.status, job.seed, job.object, job.metadata]);
await attempt("extra_body", () => job.peft);
await attempt("fineTuning.jobs.retrieve", async () => (await jobs.retrieve(job.id)).id === job.id);
await attempt("fineTuning.jobs.pause", async () => (await jobs.pause(job.id)).status);
await attempt("fineTuning.jobs.resume", async () => (await jobs.resume(job.id)).status);
await attempt("fineTuning.jobs.cancel", async () => (await jobs.cancel(job.id)).status);
const others = [(await create({ metadata })).id, (await create({ metadata })).id];
await attempt("fineTuning.jobs.list", async () =>
  (await all(jobs.list({ limit: 1, metadata }))).map((item) => item.id).join() ===
  [others[1], others[0], job.id].join());
const once = { headers: { "Idempotency-Key": plan.team } };
await attempt("idempotent", async () => (await create({}, once)).id === (await create({}, once)).id);
await attempt("conflict", () => create({ seed: 1 }, once));
await attempt("bad_argument", () => create({ training: { learning_rat: 1 } }));
await attempt("bad_state", () => jobs.pause(job.id));
await attempt("integration", () => create({ integrations: [plan.wandb] }));
await attempt("no_method", () => create({ method: { type: "reinforcement" } }));

const done = await jobs.retrieve(plan.done);
await attempt("done", () => [done.status, done.fine_tuned_model, done.trained_tokens]);
await attempt("results", async () => (await client.files.content(done.result_files[0])).text());
await attempt("result_file", async () =>
  (await all(client.files.list({ purpose: "fine-tune-results" }))).some((f) => f.id === done.result_files[0]));
const events = await all(jobs.listEvents(done.id, { limit: 2 }));
await attempt("fineTuning.jobs.listEvents", () => events.map((event) => event.message));
await attempt("metrics", () =>
  events.filter((event) => event.type === "metrics").map((event) => event.data.train_loss));
const checkpoints = await all(jobs.checkpoints.list(done.id, { limit: 1 }));
await attempt("fineTuning.jobs.checkpoints.list", () => checkpoints.map((item) => item.step_number));

const { permissions } = client.fineTuning.checkpoints;
const checkpoint = checkpoints.at(-1).fine_tuned_model_checkpoint;
const path = "fineTuning.checkpoints.permissions";
const made = await all(permissions.create(checkpoint, { project_ids: ["proj_b", "proj_c"] }));
await attempt(`${path}.create`, () => made.map((item) => item.project_id));
await attempt(`${path}.list`, async () =>
  (await all(permissions.list(checkpoint, { order: "ascending", limit: 1 }))).map((item) => item.project_id).sort());
await attempt(`${path}.retrieve`, async () =>
  (await permissions.retrieve(checkpoint, { project_id: "proj_c" })).data.map((item) => item.project_id));
await attempt(`${path}.delete`, async () => {
  const deleted = [];
  for (const item of made)
    deleted.push((await permissions.delete(item.id, { fine_tuned_model_checkpoint: checkpoint })).deleted);
  return deleted;
});

const names = (await all(client.models.list())).map((model) => model.id);
await attempt("models.list", () => [names.includes(plan.model), names.includes(plan.doomed)]);
await attempt("models.retrieve", async () => (await client.models.retrieve(plan.doomed)).id === plan.doomed);
await attempt("models.delete", async () => (await client.models.delete(plan.doomed)).deleted);
await attempt("deleted_model", () => client.models.retrieve(plan.doomed));
await attempt("operators_model", () => client.models.delete(plan.model));

const { graders } = client.fineTuning.alpha;
const grader = { type: "string_check", name: "a", input: "a", operation: "eq", reference: "a" };
await attempt("fineTuning.alpha.graders.run", () => graders.run({ grader, model_sample: "a" }));
await attempt("fineTuning.alpha.graders.validate", () => graders.validate({ grader }));

const { webhooks } = client;
const { body, headers, secret } = plan.signed;
const event = await webhooks.unwrap(body, headers, secret);
await attempt("webhooks.unwrap", () => [event.type, event.data.id]);
await attempt("webhooks.verifySignature", () => webhooks.verifySignature(body, headers, secret));
await attempt("forged", () => webhooks.unwrap(`${body} `, headers, secret));
const types = (await webhooks.eventTypes.list()).data;
await attempt("webhooks.eventTypes.list", () => types);
const hook = await webhooks.create({ name: "mine", url: plan.receiver, event_types: types });
await attempt("webhooks.create", () => hook.signing_secret.slice(0, 6));
await attempt("webhooks.retrieve", async () => (await webhooks.retrieve(hook.id)).url === plan.receiver);
await attempt("webhooks.list", async () => (await all(webhooks.list({ limit: 1 }))).some((h) => h.id === hook.id));
await attempt("webhooks.update", async () => (await webhooks.update(hook.id, { name: "other" })).name);
await attempt("webhooks.rotateSecret", async () =>
  (await webhooks.rotateSecret(hook.id, { keep_old_secret_active_for_24_hours: true })).signing_secret !==
  hook.signing_secret);
await attempt("webhooks.test", async () => {
  const tested = await webhooks.test(hook.id, { event_type: types[0] });
  return [tested.status_code, tested.success];
});
await attempt("webhooks.delete", async () => (await webhooks.delete(hook.id)).deleted);

const stranger = new OpenAI({ baseURL: `${plan.url}/v1`, apiKey: "wrong", maxRetries: 0 });
await attempt("wrong_key", () => stranger.files.list());
await attempt("no_job", () => jobs.retrieve("ftjob-nothing"));
await attempt("request_id", async () =>
  Boolean((await client.files.list().withResponse()).response.headers.get("x-request-id")));

const calls = ["files", "uploads", "models", "fineTuning", "webhooks"].flatMap((name) => [
  ...surface(client[name], name),
]);
console.log(JSON.stringify({ version: require("openai/version").VERSION, surface: calls, results }));
