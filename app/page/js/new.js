// A new job: data, model, settings from the API's own schema, and the same request for other tools.
import { get, request } from "./api.js";
import { EMPTY, firstForm, formOf, keepDraft, requestOf, withChange } from "./draft.js";
import { elsewhere } from "./elsewhere.js";
import { Field, Fields } from "./fields.js";
import { Upload } from "./files.js";
import { bytes, count, nameOf, plain } from "./format.js";
import { html, useEffect, useRef, useSignal } from "./html.js";
import { Card, Dialog, Loading, Notice, Snippets } from "./parts.js";
import { DataCheck, Plan } from "./planned.js";
import { FileReport } from "./report.js";
import { go } from "./router.js";
import { t } from "./strings.js";

const JOBS = "/v1/fine_tuning/jobs";
const DRAFT_MS = 300;
const FIRST = ["num_train_epochs", "learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "max_length"];
const FIRST_PEFT = ["r", "lora_alpha", "target_modules"];
const FIRST_QUANTIZATION = ["load_in_4bit", "load_in_8bit"];
const QUICK = { max_steps: "50", logging_steps: "1" };
const HUB = { path: "", split: "train", eval_split: "" };

export function NewJob() {
  const schema = useSignal(null);
  const lists = useSignal({ models: [], files: [], jobs: [] });
  const form = useSignal(EMPTY);
  const error = useSignal(null);
  const planError = useSignal(null);
  const busy = useSignal(false);
  const pasting = useSignal(false);
  // One draft makes one job, however often its button is pressed.
  const key = useRef({ body: null, id: null });
  useEffect(() => {
    const load = async () => {
      const [fields, models, files, jobs, first] = await Promise.all([
        get("/v1/fine_tuning/schema"), get("/v1/models"), get("/v1/files?limit=200&purpose=fine-tune"), get(`${JOBS}?limit=20`), firstForm(),
      ]);
      lists.value = { models: models.data, files: files.data, jobs: jobs.data };
      form.value = first;
      schema.value = fields;
    };
    load().catch((problem) => (error.value = problem));
  }, []);
  useEffect(() => {
    if (!schema.value) return undefined;
    const timer = setTimeout(() => keepDraft(form.value), DRAFT_MS);
    return () => clearTimeout(timer);
  }, [form.value, schema.value]);
  if (!schema.value) return html`<div class="title"><h1>${t("New job")}</h1></div><${Notice} error=${error.value} />${!error.value && html`<${Loading} />`}`;
  const set = (changes) => {
    error.value = null;
    form.value = { ...form.value, ...changes };
  };
  const body = requestOf(form.value, schema.value);
  const send = async (event) => {
    event.preventDefault();
    if (busy.value) return;
    busy.value = true;
    error.value = null;
    const text = JSON.stringify(body);
    if (key.current.body !== text) key.current = { body: text, id: keyOf() };
    try {
      const answer = await request("POST", JOBS, { body, headers: { "idempotency-key": key.current.id } });
      go(`/jobs/${(await answer.json()).id}`);
    } catch (problem) {
      error.value = problem;
    }
    busy.value = false;
  };
  const problem = error.value ?? planError.value;
  const problemOf = (name) => (problem?.param === name ? problem.message : null);
  const { model, file, validation, suffix, lora, training, peft, quantization, dataset, prompts, memory } = form.value;
  const hasData = Boolean(file || dataset?.path);
  const isReady = Boolean(hasData && model);
  const { models, files, jobs } = lists.value;
  return html`<div class="title"><h1>${t("New job")}</h1><span class="grow" />
      <select aria-label=${t("Start from")} value="" onChange=${(e) => e.target.value && go(`/new?from=${e.target.value}`)}>
        <option value="">${t("Start from a job…")}</option>${jobs.map((job) => html`<option key=${job.id} value=${job.id}>${nameOf(job)}</option>`)}</select>
      <button onClick=${() => (pasting.value = true)}>${t("Paste JSON")}</button>
      <button onClick=${() => set({ training: { ...training, ...QUICK } })}>${t("Quick check (50 steps)")}</button>
      <button onClick=${() => set(EMPTY)}>${t("Clear")}</button></div>
    <form class="cols" onSubmit=${send}><div>
      <${Data} form=${form.value} files=${files} set=${set} problemOf=${problemOf} />
      <${Card} title=${t("Model")}><div class="fields">
        <${Field} label=${t("Base model")} hint=${t("One of this server, or a name of the Hub")} problem=${problemOf("model")}><input name="model" list="models" required value=${model} onInput=${(e) => set({ model: e.target.value })} autocomplete="off" spellcheck="false" /><//>
        <datalist id="models">${models.map((one) => html`<option key=${one.id} value=${one.id} />`)}</datalist>
        <${Field} label=${t("Name of the job")} problem=${problemOf("suffix")}><input name="suffix" maxlength="64" value=${suffix} onInput=${(e) => set({ suffix: e.target.value })} autocomplete="off" /><//></div>
        ${!model && models.length > 0 && html`<p class="tabs wrap">${models.filter((one) => one.id.startsWith("local/")).slice(0, 8).map((one) => html`<button key=${one.id} type="button" class="mini" onClick=${() => set({ model: one.id })}>${plain(one.id, 60)}</button>`)}</p>`}<//>
      <${Fields} title=${t("Training")} kind="training" first=${FIRST} fields=${schema.value.training.fields} texts=${training} error=${problem} onSet=${(texts) => set({ training: texts })} />
      <${Card} title="LoRA" tools=${html`<label><input type="checkbox" checked=${lora} onChange=${(e) => set({ lora: e.target.checked })} /> ${t("Train an adapter")}</label>`} />
      ${lora && html`<${Fields} title=${t("Adapter")} kind="peft" first=${FIRST_PEFT} fields=${schema.value.peft.fields} texts=${peft} error=${problem} onSet=${(texts) => set({ peft: texts })} />
        <${Fields} title=${t("Quantization of the base")} kind="quantization" first=${FIRST_QUANTIZATION} fields=${schema.value.quantization.fields} texts=${quantization} error=${problem} onSet=${(texts) => set({ quantization: texts })} />`}
      <${Card} title=${t("Samples and limits")}><div class="fields">
        <${Field} wide label=${t("Prompts to answer at each checkpoint, one a line")} hint=${t("The answers are shown before the training and after.")} problem=${problemOf("sample_prompts")}><textarea name="sample_prompts" rows="3" value=${prompts} onInput=${(e) => set({ prompts: e.target.value })} /><//>
        <${Field} label=${t("Memory that it may use, in GiB")} problem=${problemOf("resources.memory")}><input name="memory" inputmode="decimal" value=${memory} onInput=${(e) => set({ memory: e.target.value })} placeholder=${t("all of the worker's")} autocomplete="off" /><//></div><//>
      <${DataCheck} body=${body} />
    </div><aside>
      <${Card} title=${t("Start")}><${Notice} error=${error.value} />
        <p><button class="primary big" disabled=${busy.value || !isReady}>${t("Start the job")}</button></p>
        ${!hasData ? html`<small>${t("Choose the data first.")}</small>` : !model && html`<small>${t("Choose a model.")}</small>`}<//>
      <${Plan} body=${body} isReady=${isReady} onChange=${(change) => set(withChange(form.value, change))} onError=${(found) => (planError.value = found)} />
      <${Card} title=${t("The same job elsewhere")}><${Snippets} snippets=${elsewhere(body, file?.filename)} /><//>
    </aside></form>
    ${pasting.value && html`<${Paste} close=${() => (pasting.value = false)} take=${set} />`}`;
}

/** Random, also where the address is not safe enough for crypto.randomUUID. */
const keyOf = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

function Data({ form, files, set, problemOf }) {
  const { file, validation, dataset } = form;
  const option = (one) => html`<option key=${one.id} value=${one.id}>${plain(one.filename, 80)} · ${one.id.slice(-6)}</option>`;
  const tools = html`<label><input type="checkbox" checked=${Boolean(dataset)} onChange=${(e) => set({ dataset: e.target.checked ? HUB : null })} /> ${t("From the Hub")}</label>`;
  if (dataset) {
    const input = (name, label) => html`<${Field} label=${label} problem=${problemOf(`dataset.${name}`) ?? (name === "path" ? problemOf("dataset") : null)}><input name=${`dataset_${name}`} value=${dataset[name] ?? ""} onInput=${(e) => set({ dataset: { ...dataset, [name]: e.target.value } })} autocomplete="off" spellcheck="false" /><//>`;
    return html`<${Card} title=${t("Data")} tools=${tools}><div class="fields">${input("path", t("Dataset"))}${input("split", t("Split to train on"))}${input("eval_split", t("Split to evaluate on"))}</div><//>`;
  }
  return html`<${Card} title=${t("Data")} tools=${tools}>${file
    ? html`<p class="checkpoint"><b><bdi>${plain(file.filename, 80)}</bdi></b><small class="num">${bytes(file.bytes)}</small>
        <small>${file.report && `${file.report.shape} · ${t("{n} rows", { n: count(file.report.rows) })}`}</small><span class="grow" /><button type="button" class="mini" onClick=${() => set({ file: null })}>${t("Change")}</button></p>
      ${file.report && html`<details><summary>${t("What was found in it")}</summary><${FileReport} report=${file.report} /></details>`}`
    : html`<${Upload} onDone=${(found) => set({ file: found })} />
      ${files.length > 0 && html`<${Field} label=${t("Or one that is here already")}><select name="training_file" value="" onChange=${(e) => set({ file: files.find((one) => one.id === e.target.value) ?? null })}><option value="">–</option>${files.map(option)}</select><//>`}`}
    ${problemOf("training_file") && html`<small class="bad" role="alert">${problemOf("training_file")}</small>`}
    ${files.length > 0 && html`<${Field} label=${t("Evaluate on")} problem=${problemOf("validation_file")}><select name="validation_file" value=${validation} onChange=${(e) => set({ validation: e.target.value })}>
      <option value="">–</option>${files.map(option)}</select><//>`}<//>`;
}

/** Takes a request as JSON, such as another job's or the one in a script. */
function Paste({ close, take }) {
  const error = useSignal(null);
  const send = async (event) => {
    event.preventDefault();
    try {
      const body = JSON.parse(new FormData(event.target).get("json"));
      take(await formOf(body));
      close();
    } catch (problem) {
      error.value = problem;
    }
  };
  return html`<${Dialog} title=${t("Paste a request")} onClose=${close}><form onSubmit=${send}>
    <${Field} label=${t("The JSON of a job's request")}><textarea name="json" rows="12" required spellcheck="false" class="code" /><//>
    <${Notice} error=${error.value} />
    <p class="actions"><button class="primary">${t("Take it over")}</button><span class="grow" /><button type="button" onClick=${close}>${t("Leave it")}</button></p></form><//>`;
}
