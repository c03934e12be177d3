// The side panels of a job's page.
import { download } from "./api.js";
import { ago, absolute, bytes, count, duration, loss, plain } from "./format.js";
import { html, useSignal } from "./html.js";
import { Bar, Card, Copy, Snippets } from "./parts.js";
import { t } from "./strings.js";

const NEWEST = 10;

export function Memory({ job, workers }) {
  const peak = Math.max(0, ...(job.attempts ?? []).map((one) => one.peak_memory_bytes ?? 0)) || null;
  const plan = job.plan ?? {};
  const measured = job.measured ?? {};
  const worker = workers.find((one) => one.id === job.attempts?.at(-1)?.worker);
  const capacity = job.resources?.memory ?? worker?.facts.memory_bytes;
  const now = measured.peak_memory_bytes ?? peak;
  const pace = (seconds) => (seconds == null ? "–" : seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toPrecision(3)} s`);
  const steps = job.progress.total_steps;
  const total = (seconds) => (seconds && steps ? duration(seconds * steps) : "–");
  const rows = [
    [t("Peak memory"), bytes(plan.peak_memory_bytes), bytes(now)],
    [t("Time of a step"), pace(plan.seconds_per_step), pace(measured.seconds_per_step)],
    [t("Time"), total(plan.seconds_per_step), total(measured.seconds_per_step)],
    [t("Steps"), count(plan.steps ?? steps), count(job.progress.step)],
    [t("Trained tokens"), "–", count(job.trained_tokens)],
  ];
  return html`<${Card} title=${t("Plan and measured")}>
    <table><thead><tr><td /><th scope="col">${t("Plan")}</th><th scope="col">${t("Measured")}</th></tr></thead>
      <tbody>${rows.map(([name, a, b]) => html`<tr key=${name}><th scope="row">${name}</th><td class="num">${a}</td><td class="num">${b}</td></tr>`)}</tbody></table>
    ${capacity && now && html`<p class="under"><${Bar} fraction=${now / capacity} label=${t("Memory used")} />
      <small class="num">${t("{used} of {all}", { used: bytes(now), all: bytes(capacity) })}</small></p>`}<//>`;
}

export function Attempts({ job }) {
  if (!job.attempts?.length) return null;
  return html`<${Card} title=${t("Attempts")}><ol class="line">${job.attempts.map((one) => {
    const outcome = one.outcome ?? (job.status === "running" ? "running" : "ended");
    return html`<li key=${one.number} class=${outcome}><b>${one.number}</b> ${t(outcome)}
      <small><bdi>${plain(one.worker, 60)}</bdi> · <span title=${absolute(one.started_at)}>${one.finished_at ? duration(one.finished_at - one.started_at) : ago(one.started_at)}</span>
      ${one.resumed_from_step > 0 && html` · ${t("from step {n}", { n: count(one.resumed_from_step) })}`}</small>
      ${one.error?.message && html`<small>${plain(one.error.message, 300)}</small>`}</li>`;
  })}</ol><//>`;
}

function snippetsOf(job, checkpoint) {
  const { origin } = location;
  const step = checkpoint.step_number;
  const api = `${origin}/v1/fine_tuning/jobs/${job.id}/checkpoints/${step}`;
  const hub = `HF_ENDPOINT=${origin}/hf`;
  const name = `"jobs/${job.id}", revision="step-${step}"`;
  const kind = job.peft ? ["peft", "AutoPeftModelForCausalLM"] : ["transformers", "AutoModelForCausalLM"];
  const load = `import os\n\nos.environ["HF_ENDPOINT"] = "${origin}/hf"\nfrom ${kind[0]} import ${kind[1]}\n\nmodel = ${kind[1]}.from_pretrained(${name})`;
  const alias = `jobs/${job.id}.step-${step}`;
  const serve = job.peft ? `vllm serve ${job.model} --enable-lora --lora-modules tuned=${alias}` : `vllm serve ${alias}`;
  return {
    hf: `${hub} \\\n  hf download jobs/${job.id} --revision step-${step}`,
    [kind[0]]: load,
    vLLM: `${hub} ${serve}`,
    curl: `curl -f "${api}/archive" \\\n  -H "Authorization: Bearer $TUNEYARD_API_KEY" | tar x`,
  };
}

export function Checkpoints({ job, live }) {
  const open = useSignal(null);
  const all = useSignal(false);
  const found = live.checkpoints.value;
  const scores = found.map((one) => one.metrics.valid_loss).filter((value) => value != null);
  const best = scores.length ? Math.min(...scores) : null;
  const shown = all.value ? found : found.slice(0, NEWEST);
  const get = (one) => download(`${live.base}/checkpoints/${one.step_number}/archive`, `${job.id}-step-${one.step_number}.tar`);
  const row = (one) => html`<li key=${one.id}>
    <div class="checkpoint"><button class="link" aria-expanded=${String(open.value === one.id)} onClick=${() => (open.value = open.value === one.id ? null : one.id)}>
        ${t("step {n}", { n: count(one.step_number) })}</button>
      ${best !== null && one.metrics.valid_loss === best && html`<span class="tag">${t("best")}</span>`}
      ${one.is_corrupt && html`<span class="tag bad">${t("damaged")}</span>`}<span class="grow" />
      <span class="num" title=${t("Loss")}>${loss(one.metrics.valid_loss ?? one.metrics.train_loss ?? null)}</span>
      <span class="num muted">${bytes(one.size_bytes)}</span>
      <button class="mini" aria-label=${t("Download step {n}", { n: one.step_number })} onClick=${() => get(one)}>${t("Download")}</button></div>
    ${open.value === one.id && html`<${Snippets} snippets=${snippetsOf(job, one)} />`}</li>`;
  return html`<${Card} title=${t("Checkpoints")}>
    ${found.length === 0 ? html`<p class="empty">${t("None yet.")}</p>` : html`<ul class="plain">${shown.map(row)}</ul>`}
    ${found.length > shown.length && html`<button onClick=${() => (all.value = true)}>${t("Show all {n}", { n: found.length })}</button>`}<//>`;
}

/** What the model said to the job's prompts at each checkpoint, if the job has any. */
export function Samples({ live }) {
  const events = live.messages.value.filter((one) => one.data?.samples);
  if (!events.length) return null;
  const prompts = events[0].data.samples.map((sample) => sample.prompt);
  return html`<${Card} title=${t("Samples")}><div class="scroll-table" tabindex="0" role="region" aria-label=${t("Samples")}><table class="samples">
    <thead><tr><th scope="col">${t("Prompt")}</th>${events.map((one) => html`<th scope="col" key=${one.id}>${t("step {n}", { n: count(one.data.step) })}</th>`)}</tr></thead>
    <tbody>${prompts.map((prompt, i) => html`<tr key=${i}><th scope="row"><bdi>${plain(prompt, 500)}</bdi></th>
      ${events.map((one) => html`<td key=${one.id}><bdi>${plain(answerOf(one.data.samples[i]), 2000)}</bdi></td>`)}</tr>`)}</tbody></table></div><//>`;
}

const answerOf = (sample) => sample?.completion ?? sample?.error ?? "–";

export function Settings({ job }) {
  const asked = { model: job.model, training_file: job.training_file, ...job.training, ...prefixed("peft", job.peft), ...prefixed("quantization", job.quantization) };
  const used = job.resolved?.training ?? job.resolved?.arguments ?? {};
  const facts = Object.entries({ ...asked, ...used, seed: job.seed }).filter(([, value]) => value != null);
  const body = JSON.stringify({ ...asked, resolved: job.resolved }, null, 2);
  return html`<${Card} title=${t("Settings of this job")} tools=${html`<${Copy} text=${body} label=${t("Copy as JSON")} />`}>
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="num"><bdi>${plain(typeof value === "string" ? value : JSON.stringify(value), 200)}</bdi></dd></div>`)}</dl><//>`;
}

const prefixed = (kind, values) => Object.fromEntries(Object.entries(values ?? {}).map(([name, value]) => [`${kind}.${name}`, value]));

export function DataReport({ job }) {
  return html`<${Card} title=${t("Data")}>${job.data_report ? html`<${Report} report=${job.data_report} />` : html`<p class="empty">${t("The report comes when the worker has read the data.")}</p>`}<//>`;
}

/** Any report: numbers and words as a list, the rest as JSON. */
export function Report({ report }) {
  const isPlain = (value) => value !== null && typeof value !== "object";
  const facts = Object.entries(report).filter(([, value]) => isPlain(value));
  const rest = Object.entries(report).filter(([, value]) => value !== null && !isPlain(value) && Object.keys(value).length);
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name.replaceAll("_", " ")}</dt>
      <dd class="num"><bdi>${typeof value === "number" ? count(value) : plain(String(value), 200)}</bdi></dd></div>`)}</dl>
    ${rest.map(([name, value]) => html`<details key=${name}><summary>${name.replaceAll("_", " ")}</summary><pre tabindex="0">${plain(JSON.stringify(value, null, 2), 20_000).replaceAll("⟨U+000A⟩", "\n")}</pre></details>`)}`;
}
