// One request in several tools: Python, curl, the command.
import { json, shell } from "./format.js";

const MIB = 1024 ** 2;
/** What `tuneyard submit` has options for; a request with more goes as JSON. */
const SUBMITTED = ["model", "training_file", "dataset", "template", "suffix", "training", "peft", "sample_prompts", "resources"];

/** A JSON value as Python writes it. */
function python(value, indent = "") {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return json(value);
  const inner = `${indent}    `;
  const isList = Array.isArray(value);
  const parts = isList ? value.map((one) => python(one, inner)) : Object.entries(value).map(([name, one]) => `${json(name)}: ${python(one, inner)}`);
  const [open, close] = isList ? "[]" : "{}";
  return parts.length ? `${open}\n${parts.map((part) => `${inner}${part},\n`).join("")}${indent}${close}` : open + close;
}

const hasOnly = (values, names) => Object.keys(values ?? {}).every((name) => names.includes(name));

/** Whether it is what `--lora-rank` makes: adapters on all linear layers, and nothing else. */
const isRank = (peft) => !peft || (peft.target_modules === "all-linear" && peft.r && hasOnly(peft, ["r", "target_modules"]));

function commandOf(body, filename) {
  const { model, training_file, dataset, template, suffix, training, peft, sample_prompts = [], resources } = body;
  const isPlain = hasOnly(body, SUBMITTED) && isRank(peft) && hasOnly(dataset, ["path", "split"]) && hasOnly(resources, ["memory"]);
  if (!isPlain || !(training_file || dataset)) return `tuneyard api POST /v1/fine_tuning/jobs -d ${shell(json(body, 2))}`;
  const options = [
    dataset ? `--dataset ${shell([dataset.path, dataset.split].filter(Boolean).join(":"))}` : `--file ${shell(filename ?? "train.jsonl")}`,
    template && `--template ${shell(template)}`,
    suffix && `--name ${shell(suffix)}`,
    peft && `--lora-rank ${peft.r}`,
    resources?.memory && `--memory ${+(resources.memory / MIB).toFixed(3)}MiB`,
    ...sample_prompts.map((prompt) => `--sample-prompt ${shell(prompt)}`),
    ...Object.entries(training ?? {}).map(([name, value]) => `--set ${shell(`${name}=${typeof value === "string" ? value : json(value)}`)}`),
    "--watch",
  ];
  return [`tuneyard submit ${shell(model ?? "")}`, ...options.filter(Boolean)].join(" \\\n  ");
}

export function elsewhere(body, filename) {
  const { origin } = location;
  const { model, training_file, validation_file, suffix, seed, metadata, ...extra } = body;
  const named = Object.entries({ model, training_file, validation_file, suffix, seed, metadata }).filter(([, value]) => value != null);
  const more = Object.keys(extra).length ? `    extra_body=${python(extra, "    ")},\n` : "";
  return {
    Python: `from openai import OpenAI\n\nclient = OpenAI(base_url="${origin}/v1")\njob = client.fine_tuning.jobs.create(\n${named.map(([name, value]) => `    ${name}=${python(value, "    ")},\n`).join("")}${more})`,
    curl: `curl ${origin}/v1/fine_tuning/jobs \\\n  -H "Authorization: Bearer $TUNEYARD_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d ${shell(json(body, 2))}`,
    CLI: commandOf(body, filename),
    JSON: json(body, 2),
  };
}

/** Fields of a job that are what was asked for. */
const ASKED = ["model", "training_file", "validation_file", "dataset", "template", "shape", "chat_template", "max_masked_fraction", "quantization", "resources", "priority", "max_seconds", "sample_prompts", "on_non_finite", "metadata"];
const isGiven = (value) => value != null && value !== 0 && value !== "fail" && (typeof value !== "object" || Object.keys(value).length > 0);

/** The request that would make this job again. */
export function bodyOf(job) {
  const body = Object.fromEntries(ASKED.filter((name) => isGiven(job[name])).map((name) => [name, job[name]]));
  if (job.user_provided_suffix) body.suffix = job.user_provided_suffix;
  if (isGiven(job.training)) body.training = job.training;
  if (job.peft) body.peft = job.peft;
  return body;
}
