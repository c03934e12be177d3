// Server-sent events over fetch, resumed by the last id.
import { problemOf } from "./api.js";

const LONGEST_WAIT = 15_000;

/** Splits a growing text into events; keeps what is not yet whole. */
export class Parser {
  #rest = "";

  feed(text) {
    const blocks = (this.#rest + text).split("\n\n");
    this.#rest = blocks.pop();
    return blocks.map(parseBlock).filter((event) => event.data);
  }
}

function parseBlock(block) {
  const event = { name: "message", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const value = line.slice(colon + 1).replace(/^ /, "");
    const field = line.slice(0, colon);
    if (field === "data") event.data += (event.data && "\n") + value;
    else if (field === "event") event.name = value;
    else if (field === "id") event.id = value;
  }
  return event;
}

/**
 * Yields arrays of events, reconnecting by itself. `onLink` hears "live" and "reconnecting".
 * Ends when the server has no more to tell (204), and throws what it refuses.
 */
export async function* follow(url, { lastId, signal, onLink }) {
  let wait = 1000;
  while (!signal.aborted) {
    try {
      const sent = { accept: "text/event-stream", "last-event-id": String(lastId) };
      const response = await fetch(url, { headers: sent, signal, cache: "no-store", credentials: "same-origin" });
      if (response.status === 204) return;
      if (response.status >= 400 && response.status < 500 && response.status !== 429) {
        throw await problemOf(response);
      }
      if (!response.ok) throw new TypeError(`HTTP ${response.status}`);
      const parser = new Parser();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        onLink("live");
        wait = 1000;
        const events = parser.feed(value);
        if (!events.length) continue;
        lastId = events.at(-1).id ?? lastId;
        yield events;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof TypeError)) throw error;
      onLink("reconnecting");
    }
    await new Promise((resolve) => setTimeout(resolve, wait + Math.random() * 300));
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }
}
