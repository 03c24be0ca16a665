// What the browser tests run inside the page: plain JavaScript, since it is sent there as text, and the DOM's types are not the Worker's.

/** Opens every menu and disclosure: what is hidden must fit as well. */
export function openAll() {
  for (const one of document.querySelectorAll("details")) {
    one.removeAttribute("name");
    one.open = true;
  }
}

/**
 * How far the page scrolls sideways, and the texts that stand out less than `least` from what is behind them.
 * @param {number} least
 * @returns {{ over: number, faint: string[] }}
 */
export function measure(least) {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const faint = new Set();
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent?.trim());
    // Text in charts stands on cells that are drawn, which this does not see.
    if (!own || element.closest("svg") !== null) continue;
    const [a, b] = [luminance(rgba(getComputedStyle(element).color)), luminance(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < least) faint.add(`${element.tagName}.${element.className} ${contrast.toFixed(2)}`);
  }
  const { scrollWidth, clientWidth } = document.documentElement;
  return { over: scrollWidth - clientWidth, faint: [...faint] };
}

/** @returns {string} */
export const background = () => getComputedStyle(document.body).backgroundColor;

/** @returns {{ text: string, onScreen: boolean, outline: string }} */
export function focused() {
  const element = document.activeElement;
  const { left, width } = element.getBoundingClientRect();
  return {
    text: element.textContent.trim(),
    onScreen: left >= 0 && left + width <= innerWidth,
    outline: getComputedStyle(element).outlineStyle,
  };
}
