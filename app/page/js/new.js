// A new job: data, model, settings from the API's own schema, and the same request for other tools.
import { get, post } from "./api.js";
import { bytes, count, duration, plain } from "./format.js";
import { html, useEffect, useSignal } from "./html.js";
import { Upload } from "./files.js";
import { Report } from "./job_parts.js";
import { Card, Notice, Snippets } from "./parts.js";
import { go, place } from "./router.js";
import { t } from "./strings.js";

const PLAN_AFTER_MS = 400;
const FIRST = ["num_train_epochs", "learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "max_length"];
const FIRST_PEFT = ["r", "lora_alpha", "target_modules"];
const isSettable = (field) => ["user", "mapped"].includes(field.class);

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

function filled(texts, fields) {
  const given = Object.entries(texts).filter(([, text]) => text !== "");
  return Object.fromEntries(given.map(([name, text]) => [name, valueOf(text, fields[name] ?? {})]));
}

function bodyOf(form, schema) {
  const body = { ...form.kept, model: form.model, training_file: form.file?.id, suffix: form.suffix || undefined };
  if (form.validation) body.validation_file = form.validation;
  const training = filled(form.training, schema.training.fields);
  if (Object.keys(training).length) body.training = training;
  if (form.lora) body.peft = filled(form.peft, schema.peft.fields);
  return body;
}

function commandOf(body, { file }, shell) {
  const set = Object.entries(body.training ?? {}).map(([name, value]) => ` --set ${shell(`${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)}`);
  const lora = body.peft ? ` --lora-r ${body.peft.r ?? 8}` : "";
  return `tuneyard submit ${shell(body.model)} --file ${shell(file?.filename ?? "train.jsonl")}${lora}${set.join("")} --watch`;
}

function snippetsOf(body, form) {
  const { origin } = location;
  const json = JSON.stringify(body, null, 2);
  const { model, training_file, validation_file, suffix, ...extra } = body;
  const named = Object.entries({ model, training_file, validation_file, suffix }).filter(([, value]) => value);
  const py = (value) => JSON.stringify(value, null, 4).replace(/\btrue\b/g, "True").replace(/\bfalse\b/g, "False").replace(/\bnull\b/g, "None");
  const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  return {
    Python: `from openai import OpenAI\n\nclient = OpenAI(base_url="${origin}/v1")\njob = client.fine_tuning.jobs.create(\n${named.map(([name, value]) => `    ${name}=${JSON.stringify(value)},\n`).join("")}${Object.keys(extra).length ? `    extra_body=${py(extra)},\n` : ""})`,
    curl: `curl ${origin}/v1/fine_tuning/jobs \\\n  -H "Authorization: Bearer $TUNEYARD_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d ${shell(json)}`,
    CLI: commandOf(body, form, shell),
  };
}

const EMPTY = { model: "", file: null, validation: "", suffix: "", lora: false, training: {}, peft: {}, kept: {} };
/** What a clone takes over though this form has no field for it. */
const KEPT = ["dataset", "template", "shape", "chat_template", "max_masked_fraction", "quantization", "resources", "priority", "sample_prompts", "on_non_finite", "metadata"];
const isGiven = (value) => value != null && value !== 0 && value !== "fail" && (typeof value !== "object" || Object.keys(value).length > 0);
const asText = (values) =>
  Object.fromEntries(Object.entries(values ?? {}).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]));

async function start() {
  const { query } = place.value;
  const from = query.get("from") && (await get(`/v1/fine_tuning/jobs/${query.get("from")}`));
  const id = query.get("file") ?? from?.training_file;
  const file = id ? await get(`/v1/files/${id}`) : null;
  if (!from) return { ...EMPTY, file };
  const kept = Object.fromEntries(KEPT.filter((name) => isGiven(from[name])).map((name) => [name, from[name]]));
  return { ...EMPTY, kept, file, validation: from.validation_file ?? "", model: from.model, suffix: from.user_provided_suffix ?? "", lora: Boolean(from.peft), training: asText(from.training), peft: asText(from.peft) };
}

export function NewJob() {
  const schema = useSignal(null);
  const models = useSignal([]);
  const files = useSignal([]);
  const form = useSignal(EMPTY);
  const error = useSignal(null);
  const busy = useSignal(false);
  useEffect(() => {
    const load = async () => {
      const [fields, found, uploaded, first] = await Promise.all([
        get("/v1/fine_tuning/schema"), get("/v1/models"), get("/v1/files?limit=200&purpose=fine-tune"), start(),
      ]);
      models.value = found.data;
      files.value = uploaded.data;
      form.value = first;
      schema.value = fields;
    };
    load().catch((problem) => (error.value = problem));
  }, []);
  if (!schema.value) return html`<${Notice} error=${error.value} />`;
  const set = (changes) => (form.value = { ...form.value, ...changes });
  const body = bodyOf(form.value, schema.value);
  const send = async (event) => {
    event.preventDefault();
    if (busy.value) return;
    busy.value = true;
    error.value = null;
    try {
      const job = await post("/v1/fine_tuning/jobs", body);
      go(`/jobs/${job.id}`);
    } catch (problem) {
      error.value = problem;
    }
    busy.value = false;
  };
  const { model, file, validation, suffix, lora, training, peft, kept } = form.value;
  const bad = error.value?.param;
  const hasData = Boolean(file || kept.dataset);
  const applyChange = (change) =>
    set({ training: { ...training, ...asText(change.training) }, lora: lora || "peft" in change, peft: { ...peft, ...asText(change.peft) } });
  return html`<div class="title"><h1>${t("New job")}</h1></div>
    <form class="cols" onSubmit=${send}><div>
      <${Card} title=${t("Data")}>${file ? html`<p class="checkpoint"><b><bdi>${plain(file.filename, 80)}</bdi></b><small class="num">${bytes(file.bytes)}</small>
          <small>${file.report && `${file.report.shape} · ${t("{n} rows", { n: count(file.report.rows) })}`}</small><span class="grow" /><button type="button" class="mini" onClick=${() => set({ file: null })}>${t("Change")}</button></p>
          ${file.report && html`<details><summary>${t("What was found in it")}</summary><${Report} report=${file.report} /></details>`}`
        : html`<${Upload} onDone=${(found) => set({ file: found })} />`}
        ${files.value.length > 0 && html`<${Field} name="validation_file" label=${t("Evaluate on")} isBad=${bad === "validation_file"}><select name="validation_file" value=${validation} onChange=${(e) => set({ validation: e.target.value })}>
          <option value="">–</option>${files.value.map((one) => html`<option key=${one.id} value=${one.id}>${plain(one.filename, 80)} · ${one.id.slice(-6)}</option>`)}</select><//>`}<//>
      <${Card} title=${t("Model")}><div class="fields">
        <${Field} name="model" label=${t("Base model")} isBad=${bad === "model"}><input name="model" list="models" required value=${model} onInput=${(e) => set({ model: e.target.value })} autocomplete="off" /><//>
        <datalist id="models">${models.value.map((one) => html`<option key=${one.id} value=${one.id} />`)}</datalist>
        <${Field} name="suffix" label=${t("Name of the job")} isBad=${bad === "suffix"}><input name="suffix" maxlength="64" value=${suffix} onInput=${(e) => set({ suffix: e.target.value })} /><//></div><//>
      <${Fields} title=${t("Training")} kind="training" first=${FIRST} fields=${schema.value.training.fields} texts=${training} bad=${bad} onSet=${(texts) => set({ training: texts })} />
      <${Card} title="LoRA" tools=${html`<label><input type="checkbox" checked=${lora} onChange=${(e) => set({ lora: e.target.checked })} /> ${t("Train an adapter")}</label>`} />
      ${lora && html`<${Fields} title=${t("Adapter")} kind="peft" first=${FIRST_PEFT} fields=${schema.value.peft.fields} texts=${peft} bad=${bad} onSet=${(texts) => set({ peft: texts })} />`}
    </div><aside>
      <${Card} title=${t("Start")}><${Notice} error=${error.value} />
        <p><button class="primary big" disabled=${busy.value || !hasData || !model}>${t("Start the job")}</button></p>
        ${!hasData && html`<small>${t("Choose the data first.")}</small>`}<//>
      <${Plan} body=${body} isReady=${Boolean(hasData && model)} onChange=${applyChange} />
      <${Card} title=${t("The same job elsewhere")}><${Snippets} snippets=${snippetsOf(body, form.value)} /><//>
    </aside></form>`;
}

function Field({ name, label, hint, isBad, children }) {
  return html`<label class=${`field ${isBad ? "bad-field" : ""}`} title=${hint}><span>${label}</span>${children}${hint && html`<small>${hint}</small>`}</label>`;
}

function Fields({ title, kind, first, fields, texts, bad, onSet }) {
  const query = useSignal("");
  const names = Object.keys(fields).filter((name) => isSettable(fields[name]));
  const wanted = query.value.toLowerCase();
  const rest = names.filter((name) => !first.includes(name) && `${name} ${fields[name].description ?? ""}`.toLowerCase().includes(wanted));
  const input = (name) => html`<${Input} key=${name} name=${name} field=${fields[name]} text=${texts[name] ?? ""} isBad=${bad === `${kind}.${name}`}
    onSet=${(text) => onSet({ ...texts, [name]: text })} />`;
  const isOpen = Object.keys(texts).some((name) => texts[name] !== "" && !first.includes(name));
  return html`<${Card} title=${title}><div class="fields">${first.filter((name) => fields[name]).map(input)}</div>
    <details open=${isOpen}><summary>${t("All {n} settings", { n: names.length })}</summary>
      <input type="search" aria-label=${t("Search settings")} placeholder=${t("Search settings")} onInput=${(e) => (query.value = e.target.value)} />
      <div class="fields">${rest.map(input)}</div></details><//>`;
}

function Input({ name, field, text, isBad, onSet }) {
  const usual = field.default === undefined ? "" : typeof field.default === "string" ? field.default : JSON.stringify(field.default);
  const choices = field.enum ?? ([field.type].flat().includes("boolean") ? ["true", "false"] : null);
  const change = (e) => onSet(e.target.value);
  const control = choices
    ? html`<select name=${name} value=${text} onChange=${change}><option value="">${usual || "–"}</option>${choices.map((one) => html`<option key=${one} value=${String(one)}>${String(one)}</option>`)}</select>`
    : html`<input name=${name} value=${text} placeholder=${usual} onInput=${change} autocomplete="off" inputmode=${field.type === "integer" ? "numeric" : null} />`;
  return html`<${Field} name=${name} label=${name} hint=${field.description} isBad=${isBad}>${control}<//>`;
}

/** What the server thinks that this will need, on each worker; asked for when typing rests. */
function Plan({ body, isReady, onChange }) {
  const plan = useSignal(null);
  const error = useSignal(null);
  const text = JSON.stringify(body);
  useEffect(() => {
    if (!isReady) return undefined;
    const timer = setTimeout(async () => {
      try {
        plan.value = await post("/v1/fine_tuning/plan", body);
        error.value = null;
      } catch (problem) {
        // A server without a planner plans nothing, and trains all the same.
        error.value = [404, 405].includes(problem.status) && problem.code !== "model_not_found" ? null : problem;
      }
    }, PLAN_AFTER_MS);
    return () => clearTimeout(timer);
  }, [text, isReady]);
  if (!plan.value && !error.value) return null;
  const { taken, steps, total_seconds, disk_bytes, workers = [], warnings = [] } = plan.value ?? {};
  return html`<${Card} title=${t("Plan")}><${Notice} error=${error.value} />
    ${plan.value && html`<dl class="facts">${[[t("Peak memory"), bytes(taken?.peak_memory_bytes)], [t("Steps"), count(steps)], [t("Time"), duration(total_seconds)], [t("Disk"), bytes(disk_bytes)]]
      .map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="num">${value}</dd></div>`)}</dl>
      ${workers.map((one) => html`<${Verdict} key=${one.worker} verdict=${one} onChange=${onChange} />`)}
      ${warnings.map((one) => html`<p key=${one}><small>${plain(typeof one === "string" ? one : JSON.stringify(one), 300)}</small></p>`)}`}<//>`;
}

const MARKS = { fits: "✓", fits_with_change: "!", does_not_fit: "✕" };

function Verdict({ verdict, onChange }) {
  const { worker, change, reason } = verdict;
  return html`<div class="verdict"><b class=${verdict.verdict}>${MARKS[verdict.verdict] ?? "?"} <bdi>${plain(worker, 60)}</bdi></b>
    <small>${reason}</small>${change && html`<button type="button" class="mini" onClick=${() => onChange(change)}>${t("Make it fit")}</button>`}</div>`;
}
