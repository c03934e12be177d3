// Ctrl-K: any page or job by a part of its name.
import { get } from "./api.js";
import { nameOf, plain } from "./format.js";
import { html, useEffect, useSignal } from "./html.js";
import { Dialog, Pill, stateOf } from "./parts.js";
import { go } from "./router.js";
import { t } from "./strings.js";

const ASK_MS = 120;
const SHOWN = 8;
const PLACES = { Jobs: "/", "New job": "/new", Workers: "/workers", Files: "/files", Keys: "/keys", Compare: "/compare" };

export function Palette({ close }) {
  const query = useSignal("");
  const jobs = useSignal([]);
  const at = useSignal(0);
  useEffect(() => {
    const asked = query.value.trim();
    const timer = setTimeout(async () => {
      const page = await get(`/v1/fine_tuning/jobs?limit=${SHOWN}&search=${encodeURIComponent(asked.slice(0, 200))}`).catch(() => ({ data: [] }));
      if (asked === query.value.trim()) jobs.value = page.data;
    }, ASK_MS);
    return () => clearTimeout(timer);
  }, [query.value]);
  const wanted = query.value.trim().toLowerCase();
  const places = Object.entries(PLACES).filter(([name]) => `${name} ${t(name)}`.toLowerCase().includes(wanted));
  const found = [
    ...places.map(([name, url]) => ({ url, text: t(name) })),
    ...jobs.value.map((job) => ({ url: `/jobs/${job.id}`, text: nameOf(job), job })),
  ];
  const chosen = Math.min(at.value, found.length - 1);
  const open = (one) => {
    if (!one) return;
    close();
    go(one.url);
  };
  const onKey = (event) => {
    if (event.key === "ArrowDown") at.value = Math.min(found.length - 1, chosen + 1);
    else if (event.key === "ArrowUp") at.value = Math.max(0, chosen - 1);
    else if (event.key === "Enter") open(found[chosen]);
    else return;
    event.preventDefault();
  };
  return html`<${Dialog} title=${t("Find a job or a page")} onClose=${close}>
    <input type="search" class="whole" role="combobox" aria-expanded="true" aria-controls="found" aria-label=${t("Find a job or a page")} autofocus autocomplete="off"
      aria-activedescendant=${found.length ? `found-${chosen}` : null} onInput=${(e) => ((query.value = e.target.value), (at.value = 0))} onKeyDown=${onKey} />
    <ul id="found" role="listbox" class="found" aria-label=${t("Find a job or a page")}>${found.map((one, i) => html`<li key=${one.url} id=${`found-${i}`} role="option" aria-selected=${String(i === chosen)}
      onClick=${() => open(one)} onMouseMove=${() => (at.value = i)}><bdi>${one.text}</bdi>${one.job && html`<small><bdi>${plain(one.job.model, 60)}</bdi></small><span class="grow" /><${Pill} state=${stateOf(one.job)} />`}</li>`)}</ul>
    ${found.length === 0 && html`<p class="empty">${t("Nothing has this in its name.")}</p>`}<//>`;
}
