// Numbers and times as people read them. A missing value is a dash.
import { language, t } from "./strings.js";

const THIN = "\u2009";
const DASH = "–";
const whole = new Intl.NumberFormat(language);

export const count = (n) => (n == null ? DASH : whole.format(n));
export const loss = (n) => (n == null ? DASH : Math.abs(n) >= 1000 ? n.toExponential(2) : n.toFixed(3));
export const percent = (n) => (n == null ? DASH : `${Math.floor(n * 100)}${THIN}%`);

export function bytes(n) {
  if (n == null) return DASH;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i && n < 100 ? n.toFixed(1) : Math.round(n)}${THIN}${units[i]}`;
}

export function short(n) {
  if (n == null) return DASH;
  if (n >= 1e6) return `${+(n / 1e6).toPrecision(3)}${THIN}M`;
  if (n >= 1e4) return `${+(n / 1e3).toPrecision(3)}k`;
  return n < 100 ? String(+n.toPrecision(3)) : whole.format(Math.round(n));
}

export function duration(seconds) {
  if (seconds == null) return DASH;
  const s = Math.max(0, Math.round(seconds));
  const part = (n, unit) => `${n}${THIN}${t(unit)}`;
  if (s < 60) return part(s, "s");
  if (s < 3600) return `${part(Math.floor(s / 60), "m")}${s < 600 ? ` ${part(s % 60, "s")}` : ""}`;
  if (s < 86400) return `${part(Math.floor(s / 3600), "h")} ${part(Math.floor((s % 3600) / 60), "m")}`;
  return `${part(Math.floor(s / 86400), "d")} ${part(Math.floor((s % 86400) / 3600), "h")}`;
}

export const ago = (unix) => (unix == null ? DASH : t("{time} ago", { time: duration(Date.now() / 1000 - unix) }));
export const absolute = (unix) =>
  unix == null ? "" : new Date(unix * 1000).toLocaleString(language, { timeZoneName: "short" });

const ANSI = /\x1b(?:\[[0-?]*[ -\/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;
const INVISIBLE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Text of a stranger: escape sequences go, and what could hide or turn text round is named. */
export function plain(text, limit = Infinity) {
  const cut = text.length > limit ? text.slice(0, limit) : text;
  const shown = cut
    .replace(ANSI, "")
    .replace(INVISIBLE, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
  return cut === text ? shown : `${shown} … ${t("{n} more characters", { n: count(text.length - limit) })}`;
}

const escaped = (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`;

/** JSON to read and to copy: what could hide or turn text round is written as an escape. */
export const json = (value, indent) => JSON.stringify(value, null, indent).replace(INVISIBLE, escaped);

/** A word of a shell's command, of which the same is true. */
export function shell(text) {
  if (/^[\w./:=@%+-]+$/.test(text)) return text;
  const quoted = text.replace(/[\\']/g, "\\$&").replace(INVISIBLE, escaped);
  return text.search(INVISIBLE) >= 0 ? `$'${quoted}'` : `'${text.replaceAll("'", `'\\''`)}'`;
}

export const nameOf = (job) => plain(job.user_provided_suffix ?? job.id, 80);
