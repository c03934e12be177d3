// Uploaded data, and what was found in it.
import { download, get, remove, upload } from "./api.js";
import { ago, bytes, count, plain } from "./format.js";
import { html, useSignal } from "./html.js";
import { Bar, Notice, usePoll } from "./parts.js";
import { FileReport } from "./report.js";
import { t } from "./strings.js";

export function Files() {
  const files = useSignal(null);
  const open = useSignal(null);
  const error = useSignal(null);
  const look = async () => {
    try {
      files.value = (await get("/v1/files?limit=200")).data;
    } catch (problem) {
      error.value = problem;
    }
  };
  usePoll(look, 10);
  const drop = async (file) => {
    if (!confirm(t("Delete {name}?", { name: file.filename }))) return;
    try {
      await remove(`/v1/files/${file.id}`);
      await look();
    } catch (problem) {
      error.value = problem;
    }
  };
  return html`<div class="title"><h1>${t("Files")}</h1></div><${Notice} error=${error.value} />
    <${Upload} onDone=${look} />
    ${files.value?.length > 0 && html`<ul class="card plain">${files.value.map((file) => html`<li key=${file.id}>
      <div class="checkpoint"><button class="link" aria-expanded=${String(open.value === file.id)} onClick=${() => (open.value = open.value === file.id ? null : file.id)}><bdi>${plain(file.filename, 80)}</bdi></button>
        <small>${file.purpose === "fine-tune-results" && t("metrics of a job")}${file.report && `${file.report.shape} · ${t("{n} rows", { n: count(file.report.rows) })}`}</small><span class="grow" />
        <small class="num">${bytes(file.bytes)}</small><small class="num">${ago(file.created_at)}</small>
        <button class="mini" onClick=${() => download(`/v1/files/${file.id}/content`, file.filename)}>${t("Download")}</button>
        ${file.purpose === "fine-tune" && html`<a class="btn mini" href=${`/new?file=${file.id}`}>${t("Train on it")}</a>`}
        <button class="mini danger" onClick=${() => drop(file)}>${t("Delete")}</button></div>
      ${open.value === file.id && file.report && html`<${FileReport} report=${file.report} />`}</li>`)}</ul>`}`;
}

/** A field that uploads what is chosen or dropped, and hands on the API's file. */
export function Upload({ onDone }) {
  const progress = useSignal(null);
  const error = useSignal(null);
  const over = useSignal(false);
  const send = async (file) => {
    if (!file) return;
    error.value = null;
    progress.value = 0;
    try {
      onDone(await upload(file, (fraction) => (progress.value = fraction)));
    } catch (problem) {
      error.value = problem;
    }
    progress.value = null;
  };
  return html`<label class=${`drop ${over.value ? "over" : ""}`}
      onDragOver=${(e) => (e.preventDefault(), (over.value = true))} onDragLeave=${() => (over.value = false)}
      onDrop=${(e) => (e.preventDefault(), (over.value = false), send(e.dataTransfer.files[0]))}>
    <span>${t("Drop a file here, or choose one")}</span><small>JSONL · JSON · CSV · Parquet</small>
    <input type="file" onChange=${(e) => send(e.target.files[0])} /></label>
    ${progress.value !== null && html`<${Bar} fraction=${progress.value} label=${t("Upload")} />`}
    <${Notice} error=${error.value} />`;
}
