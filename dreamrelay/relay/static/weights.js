/** Weights of words in a prompt, as people type them: `a (red:1.3) fox`. No DOM here. */

const STEP = 0.1;
const MOST = 4;
const IMPLIED = 1.1; // what brackets without a number mean

/** @param {string} text @param {number} at */
const escaped = (text, at) => {
  let slashes = 0;
  while (text[at - 1 - slashes] === "\\") slashes += 1;
  return slashes % 2 === 1;
};

/**
 * The word at the cursor, or the selection without the blanks at its ends.
 * @param {string} text @param {number} start @param {number} end
 * @returns {[number, number]}
 */
function wordAt(text, start, end) {
  if (start === end) {
    const inWord = (/** @type {number} */ at) => at >= 0 && at < text.length && !/[\s,()[\]:]/.test(text[at]);
    while (inWord(start - 1)) start -= 1;
    while (inWord(end)) end += 1;
  }
  while (start < end && /\s/.test(text[start])) start += 1;
  while (end > start && /\s/.test(text[end - 1])) end -= 1;
  return [start, end];
}

/**
 * Give the selected words (or the word at the cursor) more weight, or less.
 * @param {string} text @param {number} start @param {number} end of the selection
 * @param {1 | -1} way
 * @returns {{ text: string, start: number, end: number }} with the words still selected
 */
export function nudgeWeight(text, start, end, way) {
  const whole = /^\((.*?):\s*([\d.]+)\s*\)$/s.exec(text.slice(start, end)); // the brackets are in the selection
  if (whole && Number.isFinite(Number(whole[2]))) [start, end] = [start + 1, start + 1 + whole[1].length];
  else [start, end] = wordAt(text, start, end);
  if (start === end) return { text, start, end };
  const words = text.slice(start, end);
  const after = /^(?::\s*(\d*\.?\d+)\s*)?\)/.exec(text.slice(end));
  const wrapped = text[start - 1] === "(" && !escaped(text, start - 1) && after !== null;
  const [from, to] = wrapped ? [start - 1, end + after[0].length] : [start, end];
  const before = wrapped ? (after[1] === undefined ? IMPLIED : Number(after[1])) : 1;
  const weight = Math.round(Math.min(MOST, Math.max(0, before + way * STEP)) * 10) / 10;
  const replaced = weight === 1 ? words : `(${words}:${weight})`;
  const at = from + (weight === 1 ? 0 : 1);
  return { text: text.slice(0, from) + replaced + text.slice(to), start: at, end: at + words.length };
}
