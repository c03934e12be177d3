// The frame around all pages: who is in, where one is, the keyboard.
import { signedOut } from "./api.js";
import { Files } from "./files.js";
import { html, render, useEffect, useSignal } from "./html.js";
import { Compare } from "./compare.js";
import { Job } from "./job.js";
import { Jobs } from "./jobs.js";
import { Keys } from "./keys.js";
import { NewJob } from "./new.js";
import { go, place } from "./router.js";
import { SignIn } from "./signin.js";
import { language, setLanguage, t } from "./strings.js";
import { Workers } from "./workers.js";

const NAMES = { "/": "Jobs", "/workers": "Workers", "/files": "Files", "/keys": "Keys" };
const PAGES = { "/": Jobs, "/new": NewJob, "/compare": Compare, "/workers": Workers, "/files": Files, "/keys": Keys };
const GOES = { j: "/", w: "/workers", f: "/files", k: "/keys" };

function toggleTheme() {
  const root = document.documentElement;
  const isDark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  root.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
}

function useShortcuts(help) {
  useEffect(() => {
    let waiting = false;
    const onKey = (event) => {
      const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
      if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (waiting && GOES[event.key]) go(GOES[event.key]);
      else if (event.key === "n") go("/new");
      else if (event.key === "?") help.value = !help.value;
      else if (event.key === "Escape") help.value = false;
      waiting = event.key === "g";
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

function Help() {
  const keys = [
    ["g j", "Jobs"], ["g w", "Workers"], ["g f", "Files"], ["n", "New job"], ["l", "Log"],
    ["/", "Search all lines"], ["n N", "Next and previous match"], ["G", "Follow"], ["s", "Smoothing"], ["y", "Log scale"],
  ];
  return html`<div class="help card" role="dialog" aria-label=${t("Keyboard")}><h2>${t("Keyboard")}</h2>
    <dl>${keys.map(([key, what]) => html`<div key=${key + what}><dt><kbd>${key}</kbd></dt><dd>${t(what)}</dd></div>`)}</dl></div>`;
}

function App() {
  const help = useSignal(false);
  const { path } = place.value;
  const jobId = /^\/jobs\/([^/]+)$/.exec(path)?.[1];
  const Page = jobId ? Job : (PAGES[path] ?? Jobs);
  useShortcuts(help);
  useEffect(() => {
    if (!jobId) document.title = `${t(NAMES[path] ?? "New job")} · Tuneyard`;
  }, [path]);
  return html`<a class="skip" href="#main">${t("Skip to content")}</a>
    <nav aria-label=${t("Pages")}><a class="brand" href="/">Tuneyard</a>
      ${Object.entries(NAMES).map(([url, name]) => {
        const isHere = path === url || (url === "/" && jobId);
        return html`<a key=${url} href=${url} aria-current=${isHere ? "page" : null}>${t(name)}</a>`;
      })}
      <span class="grow" /><a class="btn primary" href="/new">${t("New job")}</a></nav>
    <main id="main" tabindex="-1">
      ${signedOut.value ? html`<${SignIn} />` : html`<${Page} key=${jobId ?? path} id=${jobId && decodeURIComponent(jobId)} />`}
    </main>
    <footer><button class="mini" onClick=${toggleTheme}>${t("Light or dark")}</button>
      <button class="mini" lang=${language === "ja" ? "en" : "ja"} onClick=${() => setLanguage(language === "ja" ? "en" : "ja")}>
        ${language === "ja" ? "English" : "日本語"}</button>
      <button class="mini" onClick=${() => (help.value = !help.value)}>${t("Keyboard")} <kbd>?</kbd></button>
      <a class="mini" href="/docs/guide/index">${t("Guide")}</a></footer>
    ${help.value && html`<${Help} />`}`;
}

render(html`<${App} />`, document.getElementById("app"));
