// The settings that a job really has: what was asked for stands out, the rest is what it came to.
import { json, plain } from "./format.js";
import { bodyOf, elsewhere } from "./elsewhere.js";
import { html, useSignal } from "./html.js";
import { Card, Snippets } from "./parts.js";
import { t } from "./strings.js";

const prefixed = (kind, values) => Object.fromEntries(Object.entries(values ?? {}).map(([name, value]) => [`${kind}.${name}`, value]));
const text = (value) => plain(typeof value === "string" ? value : JSON.stringify(value), 200);

export function Settings({ job }) {
  const onlyAsked = useSignal(false);
  const asJob = useSignal(false);
  const wanted = useSignal("");
  const asked = { model: job.model, training_file: job.training_file, validation_file: job.validation_file, ...job.training, ...prefixed("peft", job.peft), ...prefixed("quantization", job.quantization), ...prefixed("dataset", job.dataset) };
  const used = { ...job.resolved?.training, seed: job.seed };
  const isAsked = (name) => asked[name] != null;
  const all = Object.entries({ ...asked, ...used }).filter(([name, value]) => value != null && name.includes(wanted.value.toLowerCase()) && (!onlyAsked.value || isAsked(name)));
  const became = (name, value) => (isAsked(name) && JSON.stringify(asked[name]) !== JSON.stringify(value) ? html` <small>(${text(asked[name])})</small>` : "");
  const tools = html`<input type="search" class="small" aria-label=${t("Search settings")} placeholder=${t("Search settings")} onInput=${(e) => (wanted.value = e.target.value)} />
    <button aria-pressed=${String(onlyAsked.value)} onClick=${() => (onlyAsked.value = !onlyAsked.value)}>${t("Only what was set")}</button>
    <button aria-pressed=${String(asJob.value)} onClick=${() => (asJob.value = !asJob.value)}>${t("As a request")}</button>`;
  return html`<${Card} title=${t("Settings of this job")} tools=${tools}>
    ${asJob.value
      ? html`<${Snippets} snippets=${{ ...elsewhere(bodyOf(job)), [t("Resolved")]: json(job.resolved, 2) }} />`
      : html`<dl class="facts settings">${all.map(([name, value]) => html`<div key=${name} class=${isAsked(name) ? "asked" : "default"}><dt>${name}</dt>
          <dd class="num"><bdi>${text(value)}</bdi>${became(name, value)}</dd></div>`)}</dl>`}<//>`;
}
