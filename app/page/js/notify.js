// Says when a job is over, by the browser's own notifications.
import { nameOf } from "./format.js";
import { html, useEffect } from "./html.js";
import { isOver } from "./live.js";
import { stateOf } from "./parts.js";
import { t } from "./strings.js";

const WORDS = { succeeded: "Succeeded", failed: "Failed", cancelled: "Cancelled" };

export function NotifyButton({ live }) {
  const job = live.job.value;
  const over = isOver(job);
  useEffect(() => {
    if (!over || !live.isAwaited.value) return;
    live.isAwaited.value = false;
    new Notification(`${t(WORDS[stateOf(job)])}: ${nameOf(job)}`, { tag: job.id });
  }, [over]);
  // Browsers have notifications at safe addresses only: https, or this machine.
  if (over || !("Notification" in window)) return null;
  const toggle = async () => {
    if (live.isAwaited.value) live.isAwaited.value = false;
    else live.isAwaited.value = (await Notification.requestPermission()) === "granted";
  };
  return html`<button aria-pressed=${String(live.isAwaited.value)} onClick=${toggle}>${t("Tell me when it ends")}</button>`;
}
