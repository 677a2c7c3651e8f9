// @ts-check
// The runs of the server, their metrics and samples, followed live.

import { events, isAbort, request } from "./api.js";

/**
 * @typedef {"starting" | "running" | "paused" | "finished" | "stopped" | "dead"} RunStatus
 * @typedef {object} Run
 * @property {string} id
 * @property {RunStatus} status
 * @property {"text" | "table" | null} kind null if it has no folder: it is about to begin, or failed
 * @property {number} steps
 * @property {number | null} total_steps
 * @property {number} started seconds since 1970
 * @property {string} command
 * @property {number | null} loss
 * @property {number | null} validation_loss
 * @property {Record<string, number>} baselines
 * @property {boolean} has_model
 * @property {string | null} unit of the losses
 * @property {number | null} tokens_per_second
 * @property {number | null} eta_seconds
 * @property {string | null} [error] why a training that was started here failed
 */
/**
 * What the chart shows of a run: of each pixel column the smallest and the largest training loss.
 * @typedef {object} Metrics
 * @property {number[]} step
 * @property {number[]} train_min
 * @property {number[]} train_max
 * @property {[number, number][]} validation
 * @property {string} unit
 */
/** @typedef {{ step: number, text: string }} RunSample */

/** Milliseconds between two requests for what changed. */
const REFRESH_MILLISECONDS = 400;
const MAX_RETRY_MILLISECONDS = 10_000;
const NUM_SAMPLES = 3;

/** @param {string} id */
const pathOf = (id) => `/api/runs/${encodeURIComponent(id)}`;

/** @param {number} milliseconds */
const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/**
 * @param {string} id
 * @param {"pause" | "resume" | "stop"} action
 */
export const controlRun = (id, action) => request(`${pathOf(id)}/${action}`, { method: "POST", body: {} });

/**
 * Return the newest samples of a run, the newest first.
 * @param {string} id
 * @returns {Promise<RunSample[]>}
 */
export async function samplesOf(id) {
  return (await request(`${pathOf(id)}/samples?last=${NUM_SAMPLES}`)).samples.reverse();
}

/**
 * Return the runs, which are read again when the server says that they changed.
 * @param {object} listeners
 * @param {() => void} listeners.onRuns
 * @param {(id: string) => void} listeners.onMetrics
 * @param {(id: string) => void} listeners.onSample
 * @param {(error: unknown) => void} listeners.onError
 * @param {() => void} listeners.onRestored the server answers again
 */
export function createRuns({ onRuns, onMetrics, onSample, onError, onRestored }) {
  /** @type {Run[]} */
  let runs = [];
  /** @type {Map<string, Metrics>} */
  const metrics = new Map();
  /** @type {Set<string>} */
  const stale = new Set();
  /** Runs whose metrics are being read. @type {Set<string>} */
  const loading = new Set();
  /** @type {AbortController | null} */
  let following = null;
  let [isRefreshing, isAskedAgain, isLost, columns] = [false, false, false, 400];
  /** @type {(id: string) => boolean} whether the metrics of a run are shown */
  let isShown = () => false;

  /**
   * Return whether the metrics of a run are to be read: it is shown, has a folder, and has changed.
   * @param {Run} run
   */
  const isWanted = ({ id, kind }) => kind !== null && isShown(id) && !loading.has(id) && (stale.has(id) || !metrics.has(id));

  async function loadMetrics() {
    for (let run = runs.find(isWanted); run; run = runs.find(isWanted)) {
      const { id } = run;
      stale.delete(id);
      loading.add(id);
      try {
        metrics.set(id, await request(`${pathOf(id)}/metrics?columns=${columns}`));
      } finally {
        loading.delete(id);
      }
      onMetrics(id);
    }
  }

  /** Read the runs and what changed of their metrics; requests that come meanwhile are one. */
  async function refresh() {
    if (isRefreshing) {
      isAskedAgain = true;
      return;
    }
    isRefreshing = true;
    try {
      do {
        isAskedAgain = false;
        runs = await request("/api/runs");
        onRuns();
        await loadMetrics();
        await wait(REFRESH_MILLISECONDS);
      } while (isAskedAgain);
    } finally {
      isRefreshing = false;
    }
  }

  /** @param {import("./api.js").ServerEvent} arrived */
  function receive({ event, data }) {
    const run = JSON.parse(data).run;
    if (event === "metrics" && run) stale.add(run);
    if (event === "sample" && run) onSample(run);
    refresh().catch(onError);
  }

  /** @param {AbortSignal} signal */
  async function follow(signal) {
    for (let pause = 500; !signal.aborted; pause = Math.min(2 * pause, MAX_RETRY_MILLISECONDS)) {
      try {
        for await (const arrived of events("/api/events", { signal })) {
          pause = 500;
          if (isLost) onRestored();
          isLost = false;
          arrived.forEach(receive);
        }
        runs.forEach((run) => stale.add(run.id));
        await refresh();
      } catch (error) {
        if (isAbort(error)) return;
        isLost = true;
        onError(error);
      }
      await wait(pause);
    }
  }

  return {
    all: () => runs,
    /** @param {string} id */
    metrics: (id) => metrics.get(id),
    refresh,
    /**
     * @param {(id: string) => boolean} shown
     * @param {number} pixels of the chart
     */
    setShown(shown, pixels) {
      isShown = shown;
      if (Math.abs(pixels - columns) > 100) {
        columns = Math.max(100, Math.round(pixels));
        runs.forEach((run) => stale.add(run.id));
      }
      loadMetrics().catch(onError);
    },
    open() {
      following?.abort();
      following = new AbortController();
      runs.forEach((run) => stale.add(run.id));
      refresh().catch(onError);
      void follow(following.signal);
    },
    leave: () => following?.abort(),
  };
}

/** @typedef {ReturnType<typeof createRuns>} Runs */
