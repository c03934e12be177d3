// Keys of this project, on servers that have them.
import { get, post, remove } from "./api.js";
import { ago } from "./format.js";
import { html, useSignal } from "./html.js";
import { Copy, Notice, usePoll } from "./parts.js";
import { t } from "./strings.js";

export function Keys() {
  const keys = useSignal(null);
  const made = useSignal(null);
  const error = useSignal(null);
  const look = async () => {
    try {
      keys.value = (await get("/v1/keys")).data;
    } catch (problem) {
      if (problem.status !== 404) error.value = problem;
      else keys.value = undefined;
    }
  };
  usePoll(look, 30);
  const attempt = (call) => async (event) => {
    event.preventDefault();
    error.value = null;
    try {
      await call(event);
      await look();
    } catch (problem) {
      error.value = problem;
    }
  };
  const create = attempt(async (event) => {
    const name = new FormData(event.target).get("name");
    made.value = await post("/v1/keys", { name });
  });
  return html`<div class="title"><h1>${t("Keys")}</h1></div><${Notice} error=${error.value} />
    ${keys.value === undefined && html`<p class="card empty">${t("This server has one key or none: TUNEYARD_API_KEY.")}</p>`}
    ${keys.value && html`<form class="card inline" onSubmit=${create}><label class="field"><span>${t("Name")}</span><input name="name" required /></label><button class="primary">${t("Create key")}</button></form>
      ${made.value && html`<div class="card" role="status"><p>${t("Shown once:")}</p><code>${made.value.key}</code> <${Copy} text=${made.value.key} /></div>`}
      <ul class="card plain">${keys.value.map((key) => html`<li key=${key.id} class="checkpoint"><b>${key.name}</b><small>${key.id}</small><span class="grow" /><small>${ago(key.created_at)}</small>
        <button class="mini danger" onClick=${attempt(() => remove(`/v1/keys/${key.id}`))}>${t("Revoke")}</button></li>`)}</ul>`}`;
}
