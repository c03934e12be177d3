// Small pieces that several pages show.
import { Problem } from "./api.js";
import { plain } from "./format.js";
import { html, useEffect, useLayoutEffect, useRef, useSignal } from "./html.js";
import { t } from "./strings.js";

const STATES = {
  validating_files: ["◌", "Checking data"],
  queued: ["○", "Queued"],
  running: ["●", "Running"],
  recovering: ["↻", "Recovering"],
  paused: ["❚❚", "Paused"],
  pausing: ["❚❚", "Pausing"],
  cancelling: ["◐", "Cancelling"],
  succeeded: ["✓", "Succeeded"],
  failed: ["✕", "Failed"],
  cancelled: ["⊘", "Cancelled"],
};

/** The API's word, or what is on its way. */
export function stateOf(job) {
  if (job.status === "running" && job.cancel_requested_at) return "cancelling";
  if (job.status === "running" && job.pause_requested_at) return "pausing";
  const last = job.latest_attempt?.outcome;
  return job.status === "queued" && ["lost", "failed"].includes(last) ? "recovering" : job.status;
}

export function Pill({ state }) {
  const [mark, word] = STATES[state] ?? ["○", state];
  return html`<span class=${`pill ${state}`}><i aria-hidden="true">${mark}</i>${t(word)}</span>`;
}

export function Bar({ fraction, label }) {
  const value = Math.round((fraction ?? 0) * 1000) / 10;
  return html`<div class="bar" role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${value}>
    <i style=${{ width: `${value}%` }} /></div>`;
}

export function Card({ title, tools, children, ...rest }) {
  return html`<section class="card" aria-label=${title} ...${rest}>
    <header><h2>${title}</h2><span class="grow" />${tools}</header>${children}</section>`;
}

export function Copy({ text, label = t("Copy") }) {
  const done = useSignal(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    done.value = true;
    setTimeout(() => (done.value = false), 1500);
  };
  return html`<button class="mini" onClick=${copy}>${done.value ? t("Copied") : label}</button>`;
}

/** The same thing in several tools: one tab for each. */
export function Snippets({ snippets }) {
  const names = Object.keys(snippets);
  const chosen = useSignal(names[0]);
  const name = names.includes(chosen.value) ? chosen.value : names[0];
  return html`<div class="snippets">
    <div class="tabs">${names.map(
      (one) => html`<button key=${one} class="mini" aria-pressed=${String(one === name)} onClick=${() => (chosen.value = one)}>${one}</button>`,
    )}<span class="grow" /><${Copy} text=${snippets[name]} /></div>
    <pre tabindex="0">${snippets[name]}</pre></div>`;
}

/** What went wrong; of a view that asks again by itself (`isRetried`), it says so. */
export function Notice({ error, isRetried }) {
  if (!error) return null;
  return html`<div class="notice" role="alert"><b>${error.message}</b>${isRetried && error.status === 0 ? ` ${t("Trying again…")}` : ""}
    ${error instanceof Problem && error.code ? html` <code>${error.code}</code>` : ""}</div>`;
}

/** Whether a key belongs to what is being written, or to the browser. */
export const isTyping = (event) =>
  /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey;

/** A question over the page; `onClose` also hears Escape. What has to be asked is in the children. */
export function Dialog({ title, onClose, children, ...rest }) {
  const box = useRef();
  useLayoutEffect(() => box.current.showModal(), []);
  const outside = (event) => event.target === box.current && onClose();
  return html`<dialog ref=${box} class="dialog" aria-label=${title} onClose=${onClose} onClick=${outside} ...${rest}>
    <div class="inside"><h2>${title}</h2>${children}</div></dialog>`;
}

/** Why a job waits. The server's words, which also say how many are before it. */
export const waitsFor = ({ reason }) => plain(reason, 300);

/** Said only when loading takes long enough to be noticed. */
export const Loading = () => html`<p class="empty late">${t("Loading")}</p>`;

/** Run `call` now and again every `seconds` while somebody looks. */
export function usePoll(call, seconds, inputs = []) {
  useEffect(() => {
    const look = () => document.hidden || call();
    call();
    const timer = setInterval(look, seconds * 1000);
    document.addEventListener("visibilitychange", look);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, inputs);
}
