/** The test card: bars, an arrow that says which way is right, something that moves, and a count. */

/** @param {CanvasRenderingContext2D} context @param {number} count of pictures @param {number} seconds */
export function drawCard(context, count, seconds) {
  const { width, height } = context.canvas;
  const u = width / 16;
  const fill = (/** @type {string} */ colour, /** @type {number[]} */ [x, y, w, h]) => {
    context.fillStyle = colour;
    context.fillRect(x, y, w, h);
  };
  ["#e02020", "#20b040", "#2040e0"].forEach((colour, i) => fill(colour, [(i * width) / 3, 0, width / 3 + 1, height]));
  for (let i = 0; i < 8; i++) {
    const level = Math.round((i * 255) / 7);
    fill(`rgb(${level} ${level} ${level})`, [(i * width) / 8, height - 2 * u, width / 8 + 1, 2 * u]);
  }
  const [x, y] = [width / 2 + Math.cos(seconds * 1.6) * 5 * u, height * 0.42 + Math.sin(seconds * 2.3) * 3 * u];
  context.fillStyle = "#ffd23c";
  context.beginPath();
  context.arc(x, y, 2.4 * u, 0, 7);
  context.fill();
  context.fillStyle = "#ffffff";
  context.beginPath();
  for (const [ax, ay] of [[1, 1.6], [4, 1.6], [4, 0.8], [5.6, 2], [4, 3.2], [4, 2.4], [1, 2.4]]) context.lineTo(ax * u, ay * u);
  context.fill();
  context.font = `600 ${1.6 * u}px ui-monospace, monospace`;
  context.textAlign = "right";
  context.fillText(String(count).padStart(5, "0"), width - u, 2.6 * u);
}
