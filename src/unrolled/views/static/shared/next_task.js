// @ts-check
// Long work in a page, which answers to its reader meanwhile.

/** Let the browser answer to its reader; unlike a timer, which waits 4 milliseconds, this goes on at once. */
export const nextTask = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => resolve(port1.close());
  port2.postMessage(null);
});

/** Milliseconds of work after which a page answers to its reader. */
const SLICE_MILLISECONDS = 25;

/**
 * Return the result of work that goes on in slices, or null if it is not wanted any more.
 * @template T
 * @param {() => boolean} isWanted
 * @param {Generator<any, T, void>} work
 * @param {(value: any) => void} [take] what it yields
 * @returns {Promise<{ value: T } | null>}
 */
export async function inSlices(isWanted, work, take = () => {}) {
  for (;;) {
    const end = performance.now() + SLICE_MILLISECONDS;
    while (performance.now() < end) {
      const { done, value } = work.next();
      if (done) return { value };
      take(value);
    }
    await nextTask();
    if (!isWanted()) return null;
  }
}
