// A request that is being written: what is in the fields, and the body that they make.
import { get } from "./api.js";
import { bodyOf } from "./elsewhere.js";
import { place } from "./router.js";

const JOBS = "/v1/fine_tuning/jobs";
export const EMPTY = { model: "", file: null, validation: "", suffix: "", lora: false, training: {}, peft: {}, quantization: {}, dataset: null, prompts: "", memory: "", kept: {} };
/** Fields of a request that the form has fields for; whatever else a clone has goes along. */
const FORMED = ["model", "training_file", "validation_file", "suffix", "training", "peft", "quantization", "dataset", "sample_prompts", "resources"];
const GIB = 1024 ** 3;

/** What was typed, as the type that the API's schema names. */
function valueOf(text, field) {
  const types = [field.type].flat();
  if (text === "true" || text === "false") return text === "true";
  if (text === "null" && types.includes("null")) return null;
  if (text === "auto" && field.auto) return "auto";
  if (types.some((type) => type === "integer" || type === "number") && text.trim() !== "" && Number.isFinite(Number(text))) return Number(text);
  if (/^[[{]/.test(text)) {
    try {
      return JSON.parse(text);
    } catch {
      // Not JSON after all: the server says what it expects instead.
      return text;
    }
  }
  return text;
}

const asText = (values) =>
  Object.fromEntries(Object.entries(values ?? {}).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]));

function filled(texts, fields) {
  const given = Object.entries(texts).filter(([, text]) => text !== "");
  return Object.fromEntries(given.map(([name, text]) => [name, valueOf(text, fields[name] ?? {})]));
}

const linesOf = (text) => text.split("\n").filter((line) => line.trim() !== "");

export function requestOf(form, schema) {
  const body = { model: form.model };
  if (form.dataset) body.dataset = { path: form.dataset.path, split: form.dataset.split || undefined, eval_split: form.dataset.eval_split || undefined };
  else if (form.file) body.training_file = form.file.id;
  if (form.validation && !form.dataset) body.validation_file = form.validation;
  if (form.suffix) body.suffix = form.suffix;
  const training = filled(form.training, schema.training.fields);
  if (Object.keys(training).length) body.training = training;
  if (form.lora) body.peft = filled(form.peft, schema.peft.fields);
  const quantization = filled(form.quantization, schema.quantization.fields);
  if (Object.keys(quantization).length) body.quantization = quantization;
  const prompts = linesOf(form.prompts);
  if (prompts.length) body.sample_prompts = prompts;
  const memory = Number(form.memory);
  if (memory > 0) body.resources = { ...form.kept.resources, memory: Math.round(memory * GIB) };
  return JSON.parse(JSON.stringify({ ...form.kept, ...body }));
}

/** The fields that make this request; the other way round. */
export async function formOf(body) {
  const file = body.training_file ? await get(`/v1/files/${encodeURIComponent(body.training_file)}`) : null;
  const kept = Object.fromEntries(Object.entries(body).filter(([name]) => !FORMED.includes(name)));
  const prompts = body.sample_prompts ?? [];
  // A prompt of several lines would become several prompts.
  const isSimple = prompts.every((prompt) => !prompt.includes("\n"));
  if (!isSimple) kept.sample_prompts = prompts;
  return {
    ...EMPTY,
    kept,
    file,
    model: body.model ?? "",
    suffix: body.suffix ?? "",
    validation: body.validation_file ?? "",
    dataset: body.dataset ?? null,
    lora: Boolean(body.peft),
    training: asText(body.training),
    peft: asText(body.peft),
    quantization: asText(body.quantization),
    prompts: isSimple ? prompts.join("\n") : "",
    memory: body.resources?.memory ? String(+(body.resources.memory / GIB).toPrecision(6)) : "",
  };
}

export const withChange = (form, change) => ({
  ...form,
  training: { ...form.training, ...asText(change.training) },
  lora: form.lora || "peft" in change,
  peft: { ...form.peft, ...asText(change.peft) },
  quantization: { ...form.quantization, ...asText(change.quantization) },
});

const MARK = "#draft=";

/** A draft is in the address, so that a reload, a bookmark and the way back keep it. */
export function keepDraft(form) {
  const { file, ...rest } = form;
  const isEmpty = JSON.stringify(form) === JSON.stringify(EMPTY);
  const hash = isEmpty ? "" : MARK + encodeURIComponent(JSON.stringify({ ...rest, file: file?.id }));
  history.replaceState(null, "", location.pathname + location.search + hash);
}

async function drafted() {
  if (!location.hash.startsWith(MARK)) return null;
  try {
    const draft = JSON.parse(decodeURIComponent(location.hash.slice(MARK.length)));
    // A file may be gone since.
    const file = draft.file ? await get(`/v1/files/${encodeURIComponent(draft.file)}`).catch(() => null) : null;
    return { ...EMPTY, ...draft, file };
  } catch {
    // Cut off or mistyped: an empty form is better than none.
    return null;
  }
}

/** The form to begin with: the draft in the address, a clone, a file, or nothing. */
export async function firstForm() {
  const draft = await drafted();
  if (draft) return draft;
  const { query } = place.value;
  const from = query.get("from");
  if (from) {
    const form = await formOf(bodyOf(await get(`${JOBS}/${encodeURIComponent(from)}`)));
    const change = query.get("change");
    return change ? withChange(form, JSON.parse(change)) : form;
  }
  const id = query.get("file");
  return { ...EMPTY, file: id ? await get(`/v1/files/${encodeURIComponent(id)}`) : null };
}
