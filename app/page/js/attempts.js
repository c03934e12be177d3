// How a job got here: its attempts, and what happened to it, in words.
import { absolute, ago, bytes, count, duration, plain } from "./format.js";
import { html, useSignal } from "./html.js";
import { Card } from "./parts.js";
import { t } from "./strings.js";

const NEWEST = 6;
const OUTCOMES = { released: "given back by its worker", lost: "lost its worker" };

export function Attempts({ job }) {
  if (!job.attempts?.length) return null;
  return html`<${Card} title=${t("Attempts")}><ol class="line">${job.attempts.map((one, i) => {
    const outcome = one.outcome ?? (job.status === "running" ? "running" : "ended");
    const next = job.attempts[i + 1];
    const time = one.finished_at ? duration(one.finished_at - one.started_at) : t("since {time}", { time: duration(Date.now() / 1000 - one.started_at) });
    return html`<li key=${one.number} class=${outcome}><b>${one.number}</b> ${t(OUTCOMES[outcome] ?? outcome)} · <bdi>${plain(one.worker, 60)}</bdi>
      <small><span title=${absolute(one.started_at)}>${time}</span>
        ${one.resumed_from_step > 0 && html` · ${t("from step {n}", { n: count(one.resumed_from_step) })}`}
        ${one.peak_memory_bytes && html` · ${t("peak {size}", { size: bytes(one.peak_memory_bytes) })}`}</small>
      ${one.error?.message && html`<small>${plain(one.error.message, 300)}</small>`}
      ${next?.resumed_from_step > 0 && html`<small>${t("resumed from step {n}", { n: count(next.resumed_from_step) })}</small>`}</li>`;
  })}</ol><//>`;
}

/** An event in words. Checkpoints say their size; the rest is the server's own sentence. */
function words({ message, data }) {
  if (data.kind === "checkpoint") return t("Saved step {n}, {size}, verified", { n: count(data.step), size: bytes(data.size_bytes) });
  return plain(message, 300);
}

export function Happened({ live }) {
  const all = useSignal(false);
  const events = live.messages.value.filter((one) => one.data?.kind !== "samples").reverse();
  if (!events.length) return null;
  const shown = all.value ? events : events.slice(0, NEWEST);
  return html`<${Card} title=${t("What happened")}><ul class="events">${shown.map((one) => html`<li key=${one.id} class=${one.level}>
      <time class="num" title=${absolute(one.created_at)}>${ago(one.created_at)}</time><span><bdi>${words(one)}</bdi></span></li>`)}</ul>
    ${events.length > shown.length && html`<button class="mini" onClick=${() => (all.value = true)}>${t("Show all {n}", { n: events.length })}</button>`}<//>`;
}
