// The live plan of a draft: memory by term, time, disk, and whether each worker has the room.
import { post } from "./api.js";
import { bytes, count, duration, plain, short } from "./format.js";
import { html, useEffect, useSignal } from "./html.js";
import { Card, Notice } from "./parts.js";
import { TokenReport } from "./report.js";
import { t } from "./strings.js";

const AFTER_MS = 400;
const TIGHT = 0.9;
/** What the token report depends on; other settings need no new one. */
const READ = ["model", "training_file", "template", "shape", "chat_template"];
const READ_TRAINING = ["max_length", "assistant_only_loss", "completion_only_loss", "packing", "truncation_mode", "dataset_text_field"];

const SPLIT = ["per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing"];

/** What a POST answers, asked for when typing rests; the newest question wins. */
function useAnswer(path, body, isReady) {
  const answer = useSignal(null);
  const error = useSignal(null);
  const text = JSON.stringify(body);
  useEffect(() => {
    if (!isReady) return undefined;
    let isLate = false;
    const timer = setTimeout(async () => {
      try {
        const found = await post(path, body);
        if (isLate) return;
        answer.value = found;
        error.value = null;
      } catch (problem) {
        if (!isLate) error.value = problem;
      }
    }, AFTER_MS);
    return () => {
      isLate = true;
      clearTimeout(timer);
    };
  }, [text, isReady]);
  return { answer: answer.value, error: error.value };
}

const pick = (values, names) => Object.fromEntries(names.filter((name) => values?.[name] !== undefined).map((name) => [name, values[name]]));

/** The data as the model's tokenizer sees it, before there is a job. */
export function DataCheck({ body }) {
  const asked = { ...pick(body, READ), training: pick(body.training, READ_TRAINING) };
  const { answer, error } = useAnswer("/v1/fine_tuning/tokens", asked, Boolean(body.model && body.training_file));
  if (!answer && !error) return null;
  return html`<${Card} title=${t("What the model would read")}>${error ? html`<${Notice} error=${error} />` : html`<${TokenReport} report=${answer} />`}<//>`;
}

/** Asks for the plan; `onError` hears what is wrong with which field. */
export function Plan({ body, isReady, onChange, onError }) {
  const { answer: plan, error } = useAnswer("/v1/fine_tuning/plan", body, isReady);
  useEffect(() => onError(error), [error]);
  if (!plan) return error && html`<${Card} title=${t("Plan")}><${Notice} error=${error} /><//>`;
  const { taken, steps, epochs, total_seconds, checkpoint_bytes, disk_bytes, workers = [], warnings = [], model, effective_batch_size } = plan;
  const batch = `${count(taken.per_device_train_batch_size)} × ${count(taken.gradient_accumulation_steps)} = ${count(effective_batch_size)}`;
  const saves = checkpoint_bytes ? Math.round(disk_bytes / checkpoint_bytes) : 0;
  const about = plan.seconds_are === "guess" ? "≈ " : "";
  const facts = [
    [t("Model"), `${plain(model.family, 30)}, ${short(model.parameters)}`],
    [t("Trained parameters"), short(plan.trained_parameters)],
    [t("Effective batch"), batch],
    [t("Steps"), `${count(steps)} (${t("{n} epochs", { n: short(epochs) })})`],
    [t("Time"), `${about}${duration(total_seconds)}`],
    [t("Disk"), saves > 1 ? `${count(saves)} × ${bytes(checkpoint_bytes)}` : bytes(disk_bytes)],
    [t("Peak memory"), bytes(taken.peak_memory_bytes)],
  ];
  return html`<${Card} title=${t("Plan")}><${Notice} error=${error} />
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="num">${value}</dd></div>`)}</dl>
    <${Terms} terms=${taken.terms} />
    ${workers.length === 0 && html`<p><small>${t("No worker was seen yet; the job would wait for one.")}</small></p>`}
    ${workers.map((one) => html`<${Verdict} key=${one.worker} verdict=${one} peak=${taken.peak_memory_bytes * (1 + plan.margin)} limit=${plan.limit_bytes} onChange=${onChange} />`)}
    ${warnings.map((one) => html`<p key=${one} class="warned"><small>${plain(typeof one === "string" ? one : JSON.stringify(one), 300)}</small></p>`)}
    <${Options} plan=${plan} onChange=${onChange} />
    <p><small>${basis(plan)}</small></p><//>`;
}

const basis = ({ correction }) =>
  correction?.runs ? t("Based on {n} past jobs like this.", { n: count(correction.runs) }) : t("No job like this was measured yet.");

/** Memory by term as one stacked bar, and in words. */
function Terms({ terms }) {
  const shown = Object.entries(terms).filter(([, size]) => size > 0);
  const total = shown.reduce((sum, [, size]) => sum + size, 0);
  const words = shown.map(([name, size]) => `${t(name)} ${bytes(size)}`).join(", ");
  return html`<div class="stack" role="img" aria-label=${t("Memory: {list}", { list: words })}>${shown.map(([name, size]) => html`<i key=${name} class=${name} title=${`${t(name)} ${bytes(size)}`} style=${{ width: `${(size / total) * 100}%` }} />`)}</div>
    <ul class="key" aria-hidden="true">${shown.map(([name, size]) => html`<li key=${name}><i class=${name} />${t(name)} <span class="num">${bytes(size)}</span></li>`)}</ul>`;
}

function Verdict({ verdict, peak, limit, onChange }) {
  const { worker, change, reason, memory_bytes } = verdict;
  const room = Math.min(memory_bytes ?? Infinity, limit ?? Infinity);
  const kind = verdict.verdict === "fits" && peak > room * TIGHT ? "tight" : verdict.verdict;
  const [mark, word] = WORDS[kind] ?? WORDS.unknown;
  return html`<div class="verdict"><b class=${kind}><span aria-hidden="true">${mark}</span> <bdi>${plain(worker, 60)}</bdi> · ${t(word)}</b>
    <small>${reason}</small>
    ${change && html`<button type="button" class="mini" onClick=${() => onChange(change)}>${t("Make it fit")}</button>`}</div>`;
}

const WORDS = {
  fits: ["✓", "fits"],
  tight: ["!", "tight"],
  fits_with_change: ["✕", "does not fit yet"],
  does_not_fit: ["✕", "does not fit"],
  unknown: ["?", "unknown"],
};

/** The ways to split the same effective batch; each is one click away. */
function Options({ plan, onChange }) {
  const { options, taken, recommended } = plan;
  if (options.length < 2) return null;
  const same = (a, b) => SPLIT.every((name) => a?.[name] === b?.[name]);
  return html`<details><summary>${t("{n} ways to split the batch", { n: options.length })}</summary><div class="scroll-table" tabindex="0" role="region" aria-label=${t("Ways to split the batch")}><table>
    <thead><tr><th scope="col">${t("Batch")}</th><th scope="col">${t("Memory")}</th><th scope="col">${t("Step")}</th><td /></tr></thead>
    <tbody>${options.map((one) => html`<tr key=${SPLIT.map((name) => one[name]).join()}><th scope="row">${one.per_device_train_batch_size} × ${one.gradient_accumulation_steps}${one.gradient_checkpointing ? html` <small>${t("checkpointed")}</small>` : ""}${same(one, recommended) && html` <span class="tag">${t("best")}</span>`}</th>
      <td class="num">${bytes(one.peak_memory_bytes)}</td><td class="num">${one.seconds_per_step < 1 ? `${Math.round(one.seconds_per_step * 1000)} ms` : `${one.seconds_per_step.toPrecision(3)} s`}</td>
      <td>${same(one, taken) ? html`<small>${t("taken")}</small>` : html`<button type="button" class="mini" onClick=${() => onChange({ training: pick(one, SPLIT) })}>${t("Take")}</button>`}</td></tr>`)}</tbody></table></div></details>`;
}
