// @ts-check
// Requests to the server that this page came from: JSON, and streams of events.

import { createEventParser } from "./event_parser.js";
import { inUtf8 } from "./shared/encoded_text.js";

/** @typedef {import("./event_parser.js").ServerEvent} ServerEvent */
/** @typedef {{ upload: string, columns?: string[], source?: string, target?: string }} Upload */
/** @typedef {{ method?: string, body?: unknown, signal?: AbortSignal }} RequestOptions a Blob is sent as it is, anything else as JSON */

const KEY_NAME = "unrolled-api-key";

/** A request that the server refused; the message is the server's sentence. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status of HTTP; 0 if there was no answer
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** @type {() => Promise<string | null>} */
let askForKey = async () => null;

/**
 * Say how a person is asked for the API key; null if the person gives none.
 * @param {() => Promise<string | null>} ask
 */
export function setKeyPrompt(ask) {
  askForKey = ask;
}

/** @param {unknown} error */
export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";

/**
 * Return the sentence of an error.
 * @param {unknown} error
 */
export const sentenceOf = (error) => (error instanceof Error ? error.message : String(error));

/**
 * @param {string} path
 * @param {RequestOptions} options
 * @returns {Promise<Response>}
 */
async function send(path, { method = "GET", body, signal }) {
  /** @type {Record<string, string>} */
  const headers = {};
  const key = sessionStorage.getItem(KEY_NAME);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body instanceof Blob) headers["Content-Type"] = "application/octet-stream";
  else if (body !== undefined) headers["Content-Type"] = "application/json";
  const content = body === undefined || body instanceof Blob ? body : JSON.stringify(body);
  try {
    return await fetch(path, { method, headers, body: content, signal, cache: "no-store" });
  } catch (error) {
    throw lostConnection(error);
  }
}

/**
 * Return the error of a request that got no answer, or only a part of it.
 * @param {unknown} error what the browser says of it
 */
const lostConnection = (error) => (isAbort(error) ? error
  : new ApiError("The server does not answer: it was stopped, or the connection is lost.", 0));

/**
 * Return the answer to a request that was accepted; a person is asked for the key where one is needed.
 * @param {string} path
 * @param {RequestOptions} options
 */
async function accepted(path, options) {
  let response = await send(path, options);
  while (response.status === 401) {
    const key = await askForKey();
    if (key === null) break;
    sessionStorage.setItem(KEY_NAME, key);
    response = await send(path, options);
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  throw new ApiError(answer?.error?.message ?? `The server answered ${response.status} ${response.statusText}.`, response.status);
}

/**
 * Return the JSON that the server answers. Its type is what the server's description says; nothing checks it here.
 * @param {string} path
 * @param {RequestOptions} [options]
 * @returns {Promise<any>}
 */
export async function request(path, options = {}) {
  const response = await accepted(path, options);
  return response.status === 204 ? null : response.json();
}

/**
 * @param {string} path
 * @param {unknown} [body]
 * @param {AbortSignal} [signal]
 */
export const post = (path, body = {}, signal) => request(path, { method: "POST", body, signal });

/**
 * Send a file; it is read as UTF-8. Return what the server has of it: its id, and the columns of a table, if they are asked for.
 * @param {Blob} file
 * @param {string} name
 * @param {boolean} [columns]
 * @returns {Promise<Upload>}
 */
export const upload = async (file, name, columns = false) => request(
  `/api/uploads?name=${encodeURIComponent(name)}${columns ? "&columns=1" : ""}`, { method: "POST", body: await inUtf8(file) });

/**
 * Yield the events of a stream until it ends.
 * @param {string} path
 * @param {RequestOptions} [options]
 * @returns {AsyncGenerator<ServerEvent[]>} the events of each piece that arrived
 */
export async function* events(path, options = {}) {
  const response = await accepted(path, options);
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = createEventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => { throw lostConnection(error); });
      if (done) return;
      const arrived = parser.push(value);
      if (arrived.length) yield arrived;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
