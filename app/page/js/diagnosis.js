// Why a job failed: the cause, what was seen, and the change that may help as one button.
import { bytes, count, plain } from "./format.js";
import { html } from "./html.js";
import { t } from "./strings.js";

const SHORTEST = 64;
const SHOWN_LINES = 20;

/** Changes of the trainer's arguments that keep the effective batch, as a retry takes them. */
function retriesOf({ training, error, plan }, { advice, depends_on_batch: depends = true }) {
  const found = [];
  if (advice?.change?.training && !advice.change.peft && !advice.change.quantization) found.push(advice.change.training);
  if (error.code === "out_of_memory" && depends) {
    const size = plan?.per_device_train_batch_size ?? training.per_device_train_batch_size ?? 8;
    const steps = plan?.gradient_accumulation_steps ?? training.gradient_accumulation_steps ?? 1;
    const length = training.max_length ?? 1024;
    if (Number(size) > 1) found.push({ per_device_train_batch_size: 1, gradient_accumulation_steps: steps * size });
    if (length > SHORTEST) found.push({ max_length: Math.floor(length / 2) });
  }
  if (error.code === "non_finite_loss") found.push({ learning_rate: Number(((plan?.learning_rate ?? Number(training.learning_rate)) || 2e-5) / 10) });
  return [...new Map(found.map((change) => [words(change), change])).values()];
}

const SHORT = { per_device_train_batch_size: "micro-batch", gradient_accumulation_steps: "accumulation" };
const words = (change) => Object.entries(change).map(([name, value]) => `${SHORT[name] ?? name} ${typeof value === "number" ? +value.toPrecision(6) : value}`).join(" · ");

/** The numbers of the evidence, as a person would say them. */
function factsOf({ step, exit_code, advice, available_memory_bytes, peak_memory_bytes }) {
  return [
    step != null && [t("Step"), count(step)],
    advice && [t("Needed"), t("{used} of {all}", { used: bytes(advice.needed_bytes), all: bytes(advice.limit_bytes) })],
    peak_memory_bytes && [t("Peak memory"), bytes(peak_memory_bytes)],
    available_memory_bytes && [t("Free memory"), bytes(available_memory_bytes)],
    exit_code && exit_code !== 1 && [t("Exit status"), String(exit_code)],
  ].filter(Boolean);
}

/** The number of the line in the log at which the evidence begins, 0 when it is not there. */
function placeOf(lines, evidence) {
  const first = evidence.length ? lines.lastIndexOf(evidence.at(-1)) - evidence.length + 1 : -1;
  return first >= 0 && lines[first] === evidence[0] ? first + 1 : 0;
}

export function Diagnosis({ job, live, act }) {
  live.version.value;
  const { error } = job;
  const evidence = job.attempts?.findLast((one) => one.error?.evidence)?.error.evidence ?? {};
  const lines = (evidence.log ?? []).slice(-SHOWN_LINES);
  const from = placeOf(live.lines, lines);
  const retries = retriesOf(job, evidence);
  const larger = evidence.advice?.change && (evidence.advice.change.peft || evidence.advice.change.quantization) ? evidence.advice : null;
  const range = { from: count(from), to: count(from + lines.length - 1), n: lines.length };
  const title = from ? t("Evidence: log lines {from} to {to}", range) : t("Evidence: the last {n} lines", range);
  return html`<section class="card diagnosis" aria-label=${t("Why it failed")}>
    <h2>${plain(error.message, 1000)}</h2>
    ${error.suggestion && html`<p>${plain(error.suggestion, 1000)}</p>`}
    <dl class="seen">${factsOf(evidence).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="num">${value}</dd></div>`)}</dl>
    <p class="actions">${retries.map((change, i) => html`<button class=${i ? "" : "primary"} key=${words(change)} onClick=${() => act("retry", { training: change })}>
        ${t("Retry with {change}", { change: words(change) })}</button>`)}
      ${larger && html`<a class="btn primary" href=${`/new?from=${job.id}&change=${encodeURIComponent(JSON.stringify(larger.change))}`}>${t("Start again with {change}", { change: plain(larger.text, 120) })}</a>`}
      <button onClick=${() => act("retry", {})}>${t("Retry unchanged")}</button><a class="btn" href=${`/new?from=${job.id}`}>${t("Change and start again")}</a></p>
    ${lines.length > 0 && html`<details open=${error.code !== "out_of_memory"}><summary>${title}</summary>
      <pre tabindex="0">${lines.map((line) => plain(line, 2000)).join("\n")}</pre>
      ${from > 0 && html`<a href=${`#L${from}`}>${t("Show them in the log")}</a>`}</details>`}
    <p><small><a href=${`/docs/guide/errors#${encodeURIComponent(error.code)}`}>${t("What this failure means")}</a>
      <code>${error.code}</code>${error.param && html` <code>${plain(error.param, 100)}</code>`}</small></p></section>`;
}
