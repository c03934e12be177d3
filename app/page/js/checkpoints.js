// What a job has learned so far, and how to take it home.
import { download } from "./api.js";
import { bytes, count, loss } from "./format.js";
import { html, useSignal } from "./html.js";
import { Card, Snippets } from "./parts.js";
import { t } from "./strings.js";

const NEWEST = 10;

/** The same checkpoint in the tools that people have. */
function snippetsOf(job, step) {
  const { origin } = location;
  const hub = `HF_ENDPOINT=${origin}/hf`;
  const alias = `jobs/${job.id}.step-${step}`;
  const head = `import os\n\nos.environ["HF_ENDPOINT"] = "${origin}/hf"  # before the import\n`;
  const name = `"jobs/${job.id}", revision="step-${step}"`;
  const tokenizer = `tokenizer = AutoTokenizer.from_pretrained(${name})`;
  const load = job.peft
    ? { peft: `${head}from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer\n\nmodel = AutoPeftModelForCausalLM.from_pretrained(${name})\n${tokenizer}` }
    : { transformers: `${head}from transformers import AutoModelForCausalLM, AutoTokenizer\n\nmodel = AutoModelForCausalLM.from_pretrained(${name})\n${tokenizer}` };
  const serve = job.peft ? `vllm serve ${job.model} \\\n  --enable-lora --lora-modules tuned=${alias}` : `vllm serve ${alias}`;
  return {
    hf: `${hub} \\\n  hf download jobs/${job.id} --revision step-${step}`,
    ...load,
    vLLM: `${hub} \\\n  ${serve}`,
    CLI: `tuneyard pull ${job.id} --step ${step}`,
    curl: `curl -f "${origin}/v1/fine_tuning/jobs/${job.id}/checkpoints/${step}/archive" \\\n  -H "Authorization: Bearer $TUNEYARD_API_KEY" | tar x`,
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
  const toggle = (one) => (open.value = open.value === one.id ? null : one.id);
  const row = (one) => html`<li key=${one.id}>
    <div class="checkpoint"><button class="link" aria-expanded=${String(open.value === one.id)} onClick=${() => toggle(one)}>
        <i class="turn" aria-hidden="true">▸</i><bdi>${t("step {n}", { n: count(one.step_number) })}</bdi></button>
      ${best !== null && one.metrics.valid_loss === best && html`<span class="tag">${t("best")}</span>`}
      ${one.is_corrupt && html`<span class="tag bad">${t("damaged")}</span>`}<span class="grow" />
      <span class="num" title=${one.metrics.valid_loss == null ? t("Train loss") : t("Eval loss")}>${loss(one.metrics.valid_loss ?? one.metrics.train_loss ?? null)}</span>
      <span class="num muted">${bytes(one.size_bytes)}</span>
      <button class="mini" aria-label=${t("Download step {n}", { n: one.step_number })} onClick=${() => get(one)}>${t("Download")}</button></div>
    ${open.value === one.id && html`<${Snippets} snippets=${snippetsOf(job, one.step_number)} />`}</li>`;
  return html`<${Card} title=${t("Checkpoints")}>
    ${found.length === 0 ? html`<p class="empty">${t("None yet.")}</p>` : html`<ul class="plain">${shown.map(row)}</ul>`}
    ${found.length > shown.length && html`<button onClick=${() => (all.value = true)}>${t("Show all {n}", { n: found.length })}</button>`}<//>`;
}
