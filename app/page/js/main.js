// The frame around all pages: who is in, where one is, the keyboard.
import { signedOut } from "./api.js";
import { html, render, useEffect, useSignal } from "./html.js";
import { lazy } from "./lazy.js";
import { Palette } from "./palette.js";
import { isTyping } from "./parts.js";
import { go, place } from "./router.js";
import { SignIn } from "./signin.js";
import { language, setLanguage, t } from "./strings.js";

const NAMES = { "/": "Jobs", "/workers": "Workers", "/files": "Files", "/keys": "Keys" };
const TITLES = { ...NAMES, "/new": "New job", "/compare": "Compare" };
const PAGES = {
  "/": lazy(() => import("./jobs.js"), "Jobs"),
  "/new": lazy(() => import("./new.js"), "NewJob"),
  "/compare": lazy(() => import("./compare.js"), "Compare"),
  "/workers": lazy(() => import("./workers.js"), "Workers"),
  "/files": lazy(() => import("./files.js"), "Files"),
  "/keys": lazy(() => import("./keys.js"), "Keys"),
};
const Job = lazy(() => import("./job.js"), "Job");
const Help = lazy(() => import("./help.js"), "Help");
const GOES = { j: "/", w: "/workers", f: "/files", k: "/keys" };

function toggleTheme() {
  const root = document.documentElement;
  const isDark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  root.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
}

function useShortcuts(open) {
  useEffect(() => {
    let waiting = false;
    const onKey = (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        open.value = "palette";
        return;
      }
      if (isTyping(event) || open.value) return;
      if (waiting && GOES[event.key]) go(GOES[event.key]);
      else if (event.key === "n") go("/new");
      else if (event.key === "?") open.value = "help";
      waiting = event.key === "g";
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

function App() {
  const open = useSignal(null);
  const { path, query } = place.value;
  const jobId = /^\/jobs\/([^/]+)$/.exec(path)?.[1];
  const Page = jobId ? Job : (PAGES[path] ?? PAGES["/"]);
  useShortcuts(open);
  const close = () => (open.value = null);
  // Another job to start from is another form; other parts of an address only change what is shown.
  const key = jobId ?? (path === "/new" ? `${path} ${query}` : path);
  useEffect(() => {
    if (!jobId) document.title = `${t(TITLES[path] ?? "Jobs")} · Tuneyard`;
  }, [path]);
  return html`<a class="skip" href="#main">${t("Skip to content")}</a>
    <nav aria-label=${t("Pages")}><a class="brand" href="/">Tuneyard</a>
      ${Object.entries(NAMES).map(([url, name]) => {
        const isHere = path === url || (url === "/" && jobId);
        return html`<a key=${url} href=${url} aria-current=${isHere ? "page" : null}>${t(name)}</a>`;
      })}
      <span class="grow" /><button class="find" onClick=${() => (open.value = "palette")} ><span class="hidden">${t("Find a job or a page")}</span><kbd>Ctrl K</kbd></button>
      <a class="btn primary" href="/new">${t("New job")}</a></nav>
    <main id="main" tabindex="-1">
      ${signedOut.value ? html`<${SignIn} />` : html`<${Page} key=${key} id=${jobId && decodeURIComponent(jobId)} />`}
    </main>
    <footer><button class="mini" onClick=${toggleTheme}>${t("Light or dark")}</button>
      <button class="mini" lang=${language === "ja" ? "en" : "ja"} onClick=${() => setLanguage(language === "ja" ? "en" : "ja")}>
        ${language === "ja" ? "English" : "日本語"}</button>
      <button class="mini" onClick=${() => (open.value = "help")}>${t("Keyboard")} <kbd>?</kbd></button>
      <a class="mini" href="/docs/guide/index">${t("Guide")}</a></footer>
    ${open.value === "help" && html`<${Help} close=${close} />`}${open.value === "palette" && html`<${Palette} close=${close} />`}`;
}

render(html`<${App} />`, document.getElementById("app"));
