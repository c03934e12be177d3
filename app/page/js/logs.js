// A viewer for long logs: only the rows in sight are in the document, a search looks at all lines.
import { count, plain } from "./format.js";
import { isTyping } from "./parts.js";
import { html, useComputed, useEffect, useLayoutEffect, useRef, useSignal } from "./html.js";
import { t } from "./strings.js";

const ROW = 20;
const BEYOND = 12;
const LINK = t("Link to this line");
const LONGEST = 2000;
const TWICE_MS = 800;

export function Logs({ live }) {
  const box = useRef();
  const search = useRef();
  const top = useSignal(0);
  const tall = useSignal(360);
  const follow = useSignal(!location.hash.startsWith("#L"));
  const query = useSignal("");
  const onlyBad = useSignal(false);
  const at = useSignal(0);
  const linked = useSignal(-1);
  const shown = useComputed(() => (live.version.value, onlyBad.value ? indexes(live.levels, Boolean) : null));
  const hits = useComputed(() => {
    live.version.value;
    const wanted = query.value.toLowerCase();
    return wanted ? indexes(live.lines, (line) => line.toLowerCase().includes(wanted)) : [];
  });
  const total = shown.value ? shown.value.length : (live.version.value, live.lines.length);

  const show = (line) => {
    follow.value = false;
    const row = shown.value ? shown.value.indexOf(line) : line;
    box.current.scrollTop = row * ROW - tall.value / 2;
  };
  const link = (number) => {
    history.replaceState(null, "", `#L${number}`);
    linked.value = number - 1;
  };
  const move = (by) => {
    const found = hits.value;
    if (!found.length) return;
    at.value = (at.value + by + found.length) % found.length;
    onlyBad.value = false;
    show(found[at.value]);
  };
  useLayoutEffect(() => {
    if (follow.value) box.current.scrollTop = total * ROW;
  }, [total, follow.value]);
  useEffect(() => {
    const goToLine = () => {
      const number = Number(/^#L(\d+)$/.exec(location.hash)?.[1]);
      linked.value = number ? number - 1 : -1;
      if (!number) return;
      onlyBad.value = false;
      show(number - 1);
      box.current.scrollIntoView({ block: "nearest" });
    };
    goToLine();
    let lastG = 0;
    const resize = new ResizeObserver(([entry]) => (tall.value = entry.target.clientHeight));
    resize.observe(box.current);
    const onKey = (event) => {
      const inside = box.current.closest(".logs").contains(event.target);
      if ((event.ctrlKey || event.metaKey) && event.key === "f" && inside) focusSearch(event);
      if (isTyping(event)) return;
      if (event.key === "/") focusSearch(event);
      else if (event.key === "l") box.current.focus();
      else if (!inside) return;
      else if (event.key === "G") follow.value = true;
      else if (event.key === "g") {
        // Within the log `g g` is its first line; elsewhere `g` leads to other pages.
        event.stopImmediatePropagation();
        if (event.timeStamp - lastG < TWICE_MS) ((follow.value = false), (box.current.scrollTop = 0));
        lastG = event.timeStamp;
      } else if (event.key === "n" || event.key === "N") {
        event.stopImmediatePropagation();
        move(event.key === "n" ? 1 : -1);
      }
    };
    const focusSearch = (event) => {
      event.preventDefault();
      search.current.focus();
      search.current.select();
    };
    addEventListener("keydown", onKey, true);
    addEventListener("hashchange", goToLine);
    return () => {
      removeEventListener("hashchange", goToLine);
      resize.disconnect();
      removeEventListener("keydown", onKey, true);
    };
  }, []);

  const onScroll = () => {
    const { scrollTop, clientHeight } = box.current;
    top.value = scrollTop;
    if (follow.value && scrollTop + clientHeight < total * ROW - 2 * ROW) follow.value = false;
  };
  const first = Math.max(0, Math.floor(top.value / ROW) - BEYOND);
  const last = Math.min(total, Math.ceil((top.value + tall.value) / ROW) + BEYOND);
  const current = query.value ? hits.value[at.value] : undefined;
  const rows = [];
  for (let i = first; i < last; i++) {
    const line = shown.value ? shown.value[i] : i;
    rows.push(html`<${Row} key=${line} line=${line} y=${i * ROW} text=${live.lines[line]} level=${live.levels[line]}
      query=${query.value} isCurrent=${line === current} isLinked=${line === linked.value} />`);
  }
  const found = hits.value.length;
  return html`<section class="card logs" aria-labelledby="logs-title">
    <header>
      <h2 id="logs-title">${t("Log")}</h2>
      <small class="num">${t("{n} lines", { n: count(total) })}</small>
      <span class="grow" />
      <small class="num" role="status">${query.value && `${found ? at.value + 1 : 0} / ${count(found)}`}</small>
      <input type="search" ref=${search} placeholder=${`${t("Search all lines")}  /`} aria-label=${t("Search all lines")}
        onInput=${(e) => ((query.value = e.target.value), (at.value = 0), hits.value.length && show(hits.value[0]))}
        onKeyDown=${(e) => e.key === "Enter" && move(e.shiftKey ? -1 : 1)} />
      <button aria-pressed=${String(onlyBad.value)} onClick=${() => (onlyBad.value = !onlyBad.value)}>${t("Warnings")}</button>
      <button class="follow" aria-pressed=${String(follow.value)} onClick=${() => (follow.value = !follow.value)}>${t("Follow")}</button>
      <a class="btn" href=${`${live.base}/logs`} target="_blank">${t("Raw")}</a>
    </header>
    <div class=${`scroll ${total === 0 ? "none" : ""}`} ref=${box} tabindex="0" role="log" aria-live="off" aria-label=${t("Log")} onScroll=${onScroll}
      onClick=${(e) => e.target.dataset.n && link(Number(e.target.dataset.n))}>
      <div class="tall" style=${{ height: `${total * ROW}px` }}>${rows}</div>
      ${total === 0 && html`<p class="empty">${t("The training has printed nothing yet.")}</p>`}
    </div>
  </section>`;
}

function Row({ line, y, text, level, query, isCurrent, isLinked }) {
  const shown = plain(text, LONGEST);
  const start = query ? shown.toLowerCase().indexOf(query.toLowerCase()) : -1;
  const end = start + query.length;
  const parts = start < 0 ? shown : [shown.slice(0, start), html`<mark>${shown.slice(start, end)}</mark>`, shown.slice(end)];
  return html`<div class=${`row ${level} ${isCurrent ? "current" : ""} ${isLinked ? "linked" : ""}`} style=${{ transform: `translateY(${y}px)` }}>
    <b data-n=${line + 1} title=${LINK}>${line + 1}</b><bdi dir="ltr">${parts}</bdi></div>`;
}

function indexes(values, test) {
  const found = [];
  for (let i = 0; i < values.length; i++) if (test(values[i])) found.push(i);
  return found;
}
