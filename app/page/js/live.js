// One job as it happens. Bulk data is in plain growing arrays; one signal says that they changed.
import { get, request } from "./api.js";
import { batch, signal, useEffect, useRef } from "./html.js";
import { follow } from "./sse.js";

const COMMIT_MS = 100;
const REFRESH_MS = 5000;
const MAX_POINTS = 20_000;
/** How often a hidden tab asks for the end of a job that its reader wants to be told of. */
const HIDDEN_MS = 15_000;
const ENDED = ["succeeded", "failed", "cancelled"];
const TOLD = ["state", "message", "checkpoint", "samples"];

export const isOver = (job) => ENDED.includes(job.status);

export class LiveJob {
  job = signal(null);
  checkpoints = signal([]);
  messages = signal([]);
  link = signal("live");
  problem = signal(null);
  /** Raised at most ten times a second, whatever arrives. */
  version = signal(0);
  /** Whether the browser is to say when the job is over, which a hidden tab then looks out for. */
  isAwaited = signal(false);
  columns = { step: [] };
  lines = [];
  levels = [];
  #cursor = 0;
  #timer = 0;
  #refresher = 0;
  #lookout = 0;
  #stop = null;
  #isStale = true;
  #arrived = null;

  constructor(id) {
    this.id = id;
    this.base = `/v1/fine_tuning/jobs/${encodeURIComponent(id)}`;
  }

  async open() {
    this.onVisible = () => (document.hidden ? this.#pause() : this.#run());
    document.addEventListener("visibilitychange", this.onVisible);
    this.#refresher = setInterval(() => document.hidden || this.#refresh(), REFRESH_MS);
    this.#lookout = setInterval(() => document.hidden && this.isAwaited.value && this.#refresh(), HIDDEN_MS);
    await this.#run();
  }

  close() {
    document.removeEventListener("visibilitychange", this.onVisible);
    clearInterval(this.#refresher);
    clearInterval(this.#lookout);
    clearTimeout(this.#timer);
    this.#pause();
  }

  /** A hidden tab gives its connection back: browsers allow six to a server, over all tabs. */
  #pause() {
    this.#stop?.abort();
    this.#stop = null;
  }

  async #run() {
    if (this.#stop) return;
    const stop = (this.#stop = new AbortController());
    try {
      if (this.#isStale) await this.#load();
      this.#isStale = false;
      const onLink = (state) => (this.link.value = state);
      const url = `${this.base}/events`;
      for await (const events of follow(url, { lastId: this.#cursor, signal: stop.signal, onLink })) {
        for (const event of events) this.#take(event);
        this.#cursor = events.at(-1).id;
        this.#timer ||= setTimeout(() => this.#commit(), COMMIT_MS);
      }
      if (!stop.signal.aborted) await this.#settle();
    } catch (error) {
      if (!stop.signal.aborted) this.problem.value = error;
    }
  }

  /** All that happened up to the newest event; the stream goes on after exactly that one. */
  async #load() {
    const newest = await get(`${this.base}/events?limit=1`);
    const cursor = newest.first_id ?? "0";
    const [job, columns, log] = await Promise.all([
      get(this.base),
      get(`${this.base}/metrics?max_points=${MAX_POINTS}`),
      this.#log(cursor),
      this.#loadCheckpoints(),
      this.#loadMessages(),
    ]);
    this.#cursor = cursor;
    this.columns = columns;
    this.lines.length = this.levels.length = 0;
    for (const line of log) this.#addLine(line);
    batch(() => {
      this.job.value = job;
      this.version.value++;
    });
  }

  async #log(cursor) {
    const text = await (await request("GET", `${this.base}/logs?until=${cursor}`)).text();
    return text ? text.slice(0, -1).split("\n") : [];
  }

  async #loadCheckpoints() {
    this.checkpoints.value = (await get(`${this.base}/checkpoints?limit=100`)).data;
  }

  async #loadMessages() {
    const pages = await Promise.all(
      TOLD.map((kind) => get(`${this.base}/events?limit=100&kind=${kind}`)),
    );
    const found = pages.flatMap((page) => page.data);
    this.messages.value = found.sort((a, b) => numberOf(a) - numberOf(b));
  }

  async #refresh() {
    if (!this.job.value || isOver(this.job.value)) return;
    this.job.value = await get(this.base).catch(() => this.job.value);
  }

  #take({ data }) {
    const event = JSON.parse(data);
    if (event.type === "metrics") return this.#addPoint(event.data);
    const { kind } = event.data;
    if (kind === "log") return this.#addLine(event.message, event.level);
    this.messages.value = [...this.messages.value, event];
    // What cannot be read now is read with the next checkpoint, or at the end.
    if (kind === "checkpoint") return this.#loadCheckpoints().catch(() => null);
    if (kind === "state") this.#moved();
  }

  /** A state changed. A new attempt may go back to an earlier step, so the curve is read anew. */
  async #moved() {
    const before = this.job.value?.attempts?.length;
    await this.#refresh();
    if (this.job.value?.attempts?.length === before || before === undefined) return;
    // What the stream brings meanwhile may be newer than the answer.
    const arrived = (this.#arrived = []);
    const columns = await get(`${this.base}/metrics?max_points=${MAX_POINTS}`).catch(() => this.columns);
    if (this.#arrived !== arrived) return;
    this.#arrived = null;
    this.columns = columns;
    for (const point of arrived) this.#addPoint(point);
    this.version.value++;
  }

  #addPoint(point) {
    const { columns } = this;
    this.#arrived?.push(point);
    let row = columns.step.length;
    while (row > 0 && columns.step[row - 1] >= point.step) row--;
    if (columns.step[row] !== point.step) {
      for (const values of Object.values(columns)) values.splice(row, 0, null);
    }
    for (const [name, value] of Object.entries(point)) {
      columns[name] ??= columns.step.map(() => null);
      columns[name][row] = value;
    }
    this.progress = { step: point.step, total_steps: point.total_steps };
  }

  #addLine(text, level) {
    this.lines.push(text);
    this.levels.push(level === "info" || !level ? levelOf(text) : level);
  }

  #commit() {
    this.#timer = 0;
    batch(() => {
      this.version.value++;
      const job = this.job.value;
      if (!job || !this.progress || job.status !== "running") return;
      const { step, total_steps } = this.progress;
      this.job.value = { ...job, progress: { ...job.progress, step, total_steps, fraction: step / total_steps } };
    });
  }

  async #settle() {
    this.#commit();
    this.job.value = await get(this.base);
    await this.#loadCheckpoints();
    this.link.value = "over";
  }
}

/** Events of a job are numbered, and their ids end in the number. */
const numberOf = (event) => Number(event.id.slice(event.id.lastIndexOf("-") + 1));

const levelOf = (text) =>
  /\b(ERROR|CRITICAL|Traceback)\b|Error:/.test(text) ? "error" : /\b(WARN|WARNING)\b|Warning:/.test(text) ? "warn" : "";

/** A job that is watched as long as the component is there. */
export function useLiveJob(id) {
  const live = useRef(null);
  if (live.current?.id !== id) live.current = new LiveJob(id);
  useEffect(() => {
    const { current } = live;
    current.open();
    return () => current.close();
  }, [id]);
  return live.current;
}
