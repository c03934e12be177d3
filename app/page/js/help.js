// The keys that there are, in words.
import { Dialog } from "./parts.js";
import { html } from "./html.js";
import { t } from "./strings.js";

const KEYS = {
  Everywhere: [["Ctrl K", "Find a job or a page"], ["g j", "Jobs"], ["g w", "Workers"], ["g f", "Files"], ["g k", "Keys"], ["n", "New job"], ["?", "Keyboard"]],
  "In the list of jobs": [["j k", "Next and previous job"], ["Enter", "Open"], ["x", "Tick"], ["c", "Compare"]],
  "On a job": [["l", "Log"], ["s", "Smoothing"], ["y", "Log scale"], ["[ ]", "Newer and older job"]],
  "In the log": [["/", "Search all lines"], ["n N", "Next and previous match"], ["g g", "First line"], ["G", "Follow"]],
};

export function Help({ close }) {
  return html`<${Dialog} title=${t("Keyboard")} onClose=${close}><div class="keys">${Object.entries(KEYS).map(([where, keys]) => html`<section key=${where}><h3>${t(where)}</h3>
    <dl>${keys.map(([key, what]) => html`<div key=${key}><dt>${key.split(" ").map((one) => html`<kbd key=${one}>${one}</kbd>`)}</dt><dd>${t(what)}</dd></div>`)}</dl></section>`)}</div>
    <p class="actions"><span class="grow" /><button onClick=${close}>${t("Close")}</button></p><//>`;
}
