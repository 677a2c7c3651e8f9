// @ts-check
// At most 30 frames a second, whatever the server sends.

const FRAME_MILLISECONDS = 1000 / 30;

/**
 * Return a function that asks for a frame; all requests until the frame are one.
 * @param {() => void} draw
 */
export function createFrames(draw) {
  let [isRequested, last] = [false, -Infinity];
  const run = () => {
    isRequested = false;
    last = performance.now();
    draw();
  };
  return () => {
    if (isRequested) return;
    isRequested = true;
    setTimeout(() => requestAnimationFrame(run), Math.max(0, last + FRAME_MILLISECONDS - performance.now() - 8));
  };
}
