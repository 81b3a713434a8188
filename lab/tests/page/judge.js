// Looks at a page as it is shown, and returns what is wrong with it: a list of sentences.
(() => {
  const wrong = [];
  const root = document.documentElement;
  const name = (element) => {
    const words = element.textContent.trim().replace(/\s+/g, " ").slice(0, 40);
    const classes = [...element.classList].map((one) => "." + one).join("");
    return `<${element.localName}${classes}> “${words}”`;
  };
  // A page may have many elements; what is found of one holds for all in it.
  const once = (find) => {
    const known = new Map();
    return (element) => {
      if (!known.has(element)) known.set(element, find(element));
      return known.get(element);
    };
  };
  const shown = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  // For ears alone: cut down to nothing.
  const heard = once((one) =>
    getComputedStyle(one).clipPath === "inset(50%)" || (one.parentElement !== null && heard(one.parentElement)));

  // Nothing is wider than the screen.
  const overflows = (when) => {
    if (root.scrollWidth <= root.clientWidth && document.body.scrollWidth <= root.clientWidth) return;
    const widest = [...document.body.querySelectorAll("*")].filter(
      (one) => shown(one) && !heard(one) && one.getBoundingClientRect().right > root.clientWidth,
    );
    wrong.push(`overflow: ${root.scrollWidth} px on ${root.clientWidth}, ${when}: ${widest.slice(0, 3).map(name).join(", ")}`);
  };
  overflows("as it comes");
  for (const one of document.querySelectorAll("details")) one.open = true;
  overflows("unfolded");

  // Contrast.
  const rgba = (text) => {
    const found = /^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/.exec(text);
    if (!found) throw new Error(`a colour that the judge can't read: ${text}`);
    return found.slice(1).map((part) => (part === undefined ? 1 : Number(part)));
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const ground = once((one) => {
    const style = getComputedStyle(one);
    if (style.backgroundImage !== "none") wrong.push(`contrast: a picture behind: ${name(one)}`);
    const below = one.parentElement ? ground(one.parentElement) : dark ? [18, 18, 18] : [255, 255, 255];
    return over(rgba(style.backgroundColor), below);
  });
  const opacity = once((one) =>
    Number(getComputedStyle(one).opacity) * (one.parentElement ? opacity(one.parentElement) : 1));
  const luminance = (colour) => {
    const [r, g, b] = colour.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (element) => {
    const style = getComputedStyle(element);
    const [r, g, b, a] = rgba(element instanceof SVGElement ? style.fill : style.color);
    const below = ground(element);
    const [low, high] = [luminance(over([r, g, b, a * opacity(element)], below)), luminance(below)].sort((x, y) => x - y);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const found = (high + 0.05) / (low + 0.05);
    if (found < (large ? 3 : 4.5)) wrong.push(`contrast: ${found.toFixed(2)} of ${name(element)}`);
  };
  const texts = new Set(document.querySelectorAll("button, input:not([type=hidden]), select"));
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const of = walker.currentNode.parentElement;
    if (walker.currentNode.data.trim() && !of.closest("script, style, noscript, option")) texts.add(of);
  }
  for (const one of texts) if (shown(one) && !heard(one)) contrast(one);
  if (!texts.size) wrong.push("nothing is shown");

  // Not by colour alone: all that is coloured has words, and no words are of two colours.
  const TONES = ["good", "plain", "busy", "warn", "bad"];
  const tones = new Map();
  for (const one of document.querySelectorAll(TONES.map((tone) => `main .${tone}`).join(","))) {
    if (!shown(one) || one.getAttribute("aria-hidden") === "true") continue;
    if (!/[\p{L}\p{N}]/u.test(one.textContent)) wrong.push(`colour alone: ${name(one)} says nothing`);
    const said = one.matches(".mark") ? one : one.querySelector(".mark, .left, .symbol");
    if (!said) continue;
    const words = said.innerText.trim().replace(/\d+/g, "#").replace(/\s+/g, " ");
    const tone = TONES.find((tone) => one.classList.contains(tone));
    if (tones.has(words) && tones.get(words) !== tone)
      wrong.push(`colour alone: “${words}” is ${tone} as well as ${tones.get(words)}`);
    tones.set(words, tone);
  }
  for (const one of document.querySelectorAll("td"))
    if (!/[\p{L}\p{N}–]/u.test(one.textContent) && !one.matches(":empty"))
      wrong.push(`colour alone: a cell says nothing: ${name(one)}`);
  for (const one of document.querySelectorAll("main p a, main li a, main td a"))
    if (!getComputedStyle(one).textDecorationLine.includes("underline"))
      wrong.push(`colour alone: a link looks like text: ${name(one)}`);

  // What those need who don't see it.
  for (const [what, count] of [["h1", 1], ["main", 1], ["title", 1]])
    if (document.querySelectorAll(what).length !== count) wrong.push(`structure: not ${count} <${what}>`);
  if (!root.lang) wrong.push("structure: in no language");
  if (!document.title.trim()) wrong.push("structure: no title");
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  for (const id of new Set(ids)) if (ids.filter((one) => one === id).length > 1) wrong.push(`structure: two #${id}`);
  for (const one of document.querySelectorAll("[aria-labelledby], [aria-describedby], label[for]"))
    for (const at of ["aria-labelledby", "aria-describedby", "for"])
      for (const id of (one.getAttribute(at) || "").split(" "))
        if (id && !document.getElementById(id)) wrong.push(`structure: ${name(one)} names #${id}, which isn’t there`);

  // Nothing moves for whoever asked for that.
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
    for (const one of document.querySelectorAll("*"))
      for (const pseudo of [null, "::before", "::after"]) {
        const style = getComputedStyle(one, pseudo);
        const moves = `${style.transitionDuration}, ${style.animationName === "none" ? "0s" : style.animationDuration}`;
        if (/[1-9]/.test(moves)) wrong.push(`motion: ${name(one)} ${moves}`);
      }
    for (const one of document.getAnimations()) wrong.push(`motion: ${one.constructor.name}`);
    if (getComputedStyle(root).scrollBehavior === "smooth") wrong.push("motion: it glides");
  }

  // The screen is the one that is asked for: a phone shows no shrunken desk.
  if (root.clientWidth !== screen.width) wrong.push(`screen: ${root.clientWidth} px on ${screen.width}`);
  return [...new Set(wrong)];
})()
