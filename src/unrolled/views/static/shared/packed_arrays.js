// @ts-check
// Arrays of numbers as a page holds them: base64 of their deflated bytes.

/** The browser cannot inflate bytes. */
export class UnsupportedBrowserError extends Error {}

/**
 * Return the numbers of a packed array.
 * @template T
 * @param {string} text
 * @param {new (buffer: ArrayBuffer) => T} Kind the class of the array
 * @returns {Promise<T>}
 */
export async function unpack(text, Kind) {
  if (typeof DecompressionStream === "undefined") throw new UnsupportedBrowserError();
  const deflated = atob(text);
  const bytes = new Uint8Array(deflated.length);
  for (let index = 0; index < deflated.length; index++) bytes[index] = deflated.charCodeAt(index);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Kind(await new Response(stream).arrayBuffer());
}
