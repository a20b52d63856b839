/**
 * A worker that turns bitmaps into JPEG, and a clock that goes on while the tab is hidden (a page's own timers
 * sleep then, and whoever shares a screen is looking at another window).
 *
 * In: {bitmap, width, height, mirror, quality} or {every: milliseconds | 0}. Out: {jpeg} or {error}; {tick: true}.
 */

let canvas = typeof OffscreenCanvas === "undefined" ? null : new OffscreenCanvas(1, 1);
/** @type {ReturnType<typeof setInterval> | undefined} */
let clock;

/**
 * Draw so that the whole of width x height is filled, cutting what stands over.
 * @param {OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D} context
 * @param {ImageBitmap} bitmap @param {number} width @param {number} height @param {boolean} mirror
 */
export function cover(context, bitmap, width, height, mirror) {
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const [w, h] = [width / scale, height / scale];
  context.setTransform(mirror ? -1 : 1, 0, 0, 1, mirror ? width : 0, 0);
  context.imageSmoothingQuality = "medium";
  context.drawImage(bitmap, (bitmap.width - w) / 2, (bitmap.height - h) / 2, w, h, 0, 0, width, height);
}

if (canvas && typeof document === "undefined") {
  onmessage = async ({ data }) => {
    if (data.every !== undefined) {
      clearInterval(clock);
      if (data.every > 0) clock = setInterval(() => postMessage({ tick: true }), data.every);
      return;
    }
    const { bitmap, width, height, mirror, quality } = data;
    try {
      if (!canvas || canvas.width !== width || canvas.height !== height) canvas = new OffscreenCanvas(width, height);
      const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
      cover(context, bitmap, width, height, mirror);
      const blob = await canvas.convertToBlob({ type: "image/jpeg", quality });
      const jpeg = await blob.arrayBuffer();
      postMessage({ jpeg }, { transfer: [jpeg] });
    } catch (error) {
      postMessage({ error: String(error) });
    } finally {
      bitmap.close();
    }
  };
}
