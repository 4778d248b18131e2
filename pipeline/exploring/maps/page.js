"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { names, x, y, colourings, predictions, tiles } = data;
  const count = names.length;
  const byId = (id) => document.getElementById(id);
  const [canvas, card, detail, legend, search, found] = ["map", "card", "detail", "legend", "search", "found"].map(byId);
  const stage = byId("stage");
  const context = canvas.getContext("2d", { alpha: false });
  const dark = matchMedia("(prefers-color-scheme: dark)");

  /* Paul Tol's bright scheme without grey, and colours of his vibrant and muted schemes, as in the report. */
  const palette = ["#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#EE7733", "#009988", "#8877DD", "#AA8866"];
  const special = { prediction: ["#4477AA", "#EE3322"] };
  const shapes = ["circle", "square", "diamond", "triangle"];
  const MOST_PICTURES = 150; /* drawn on the map itself, once no more points are in view */
  const LISTED = 20;
  const MARGIN = 32; /* device pixels beyond each border, as far as a point reaches */
  const SLOW = 14; /* milliseconds of a drawing that are too long for 60 frames a second */

  const view = { scale: 1, left: 0, top: 0 }; /* CSS pixels per unit of the map, and place of its origin */
  let width = 0, height = 0, ratio = 1, sharp = 1, took = 0, resting;
  let image = null, pixels = null;
  let colouring = colourings[0] ?? { name: "", values: [], codes: new Array(count).fill(-1), none: "all" };
  let shown = new Set();
  let matches = [];
  let isMatch = null; /* a byte per image while something is searched for */
  let selected = -1, hovered = -1;
  let planned = false;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /* ---------------------------------------------------------------------------------------------- drawing */

  const colourOf = (code) => {
    if (code < 0) return dark.matches ? "#6b737d" : "#a9b0b8";
    const own = special[colouring.name];
    return (own ?? palette)[code % (own ?? palette).length];
  };
  const shapeOf = (code) => (code < 0 ? shapes[0] : shapes[Math.floor(code / palette.length) % shapes.length]);

  const bits = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

  let theme;
  function readTheme() { /* the colours of the page, light or dark; that of the ground as red, green and blue */
    const probe = document.createElement("canvas").getContext("2d");
    probe.fillStyle = colour("--ground");
    theme = { ground: bits(probe.fillStyle), text: colour("--text") };
  }

  /* Draw the outline of a shape of some radius about a centre. */
  function trace(target, shape, cx, cy, r) {
    target.beginPath();
    if (shape === "circle") target.arc(cx, cy, r, 0, 2 * Math.PI);
    else if (shape === "square") target.rect(cx - r * 0.88, cy - r * 0.88, r * 1.76, r * 1.76);
    else {
      const corners = shape === "diamond" ? [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]] : [[0, -1.15], [1.1, 0.85], [-1.1, 0.85]];
      for (const [dx, dy] of corners) target.lineTo(cx + dx * r, cy + dy * r);
      target.closePath();
    }
  }

  /* Return the pixels of a shape of some radius in device pixels: their places relative to the centre, and opacities. */
  const stamps = new Map();
  function stamp(shape, radius) {
    const row = image.width, key = `${shape} ${radius} ${row}`;
    if (stamps.has(key)) return stamps.get(key);
    if (stamps.size > 200) stamps.clear();
    const reach = Math.ceil(radius * 1.25) + 1, side = 2 * reach + 1;
    const probe = document.createElement("canvas");
    probe.width = probe.height = side;
    const pen = probe.getContext("2d");
    trace(pen, shape, reach + 0.5, reach + 0.5, radius);
    pen.fill();
    const opacity = pen.getImageData(0, 0, side, side).data;
    const solid = [], edge = [], alpha = [];
    for (let at = 0; at < side * side; at++) {
      const own = opacity[4 * at + 3], where = (Math.floor(at / side) - reach) * row + (at % side) - reach;
      if (own > 250) solid.push(where);
      else if (own) { edge.push(where); alpha.push(own); }
    }
    const found = { reach, solid: Int32Array.from(solid), edge: Int32Array.from(edge), alpha: Int32Array.from(alpha) };
    stamps.set(key, found);
    return found;
  }

  function radius() {
    const base = count > 10000 ? 2 : count > 2000 ? 2.6 : count > 300 ? 3.6 : 5;
    const small = Math.min(1, Math.max(0.6, fitted() / 600));
    return Math.min(9, base * small * Math.min(2.6, Math.max(1, view.scale / fitted()) ** 0.3));
  }

  /* The order of drawing, mixed but always the same: in that of the cache, the last class would cover the others. */
  const mixed = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1, state = 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 2 ** 32) * (i + 1));
    [mixed[i], mixed[j]] = [mixed[j], mixed[i]];
  }

  const isDrawn = (i) => shown.has(colouring.codes[i]);
  const place = (i) => [view.left + x[i] * view.scale, view.top + y[i] * view.scale];

  /* Draw before the next frame. While the map moves, and a sharp drawing takes long, draw fewer pixels, and the sharp one at rest. */
  function plan(moving = false) {
    if (moving === true && sharp > 1 && (ratio < sharp || took > SLOW)) {
      setRatio(1);
      clearTimeout(resting);
      resting = setTimeout(() => { setRatio(sharp); plan(); }, 180);
    }
    if (planned) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      draw();
    });
  }

  function setRatio(next) {
    const size = [width, height].map((each) => Math.max(1, Math.round(each * next)));
    ratio = next;
    if (image && canvas.width === size[0] && canvas.height === size[1]) return;
    [canvas.width, canvas.height] = size;
    image = context.createImageData(size[0] + 2 * MARGIN, size[1] + 2 * MARGIN);
    pixels = new Uint32Array(image.data.buffer);
  }

  function draw() {
    const begun = performance.now();
    const [gr, gg, gb] = theme.ground;
    pixels.fill((255 << 24) | (gb << 16) | (gg << 8) | gr);
    const size = Math.round(radius() * ratio * 4) / 4;
    const styles = []; /* by code + 1 */
    for (const code of shown) styles[code + 1] = { own: bits(colourOf(code)), mark: stamp(shapeOf(code), size) };
    const inView = [];
    const codes = colouring.codes, across = canvas.width, down = canvas.height;
    /* Images without a value lie below the others, and those that do not match the search are faint. */
    const below = (i) => (isMatch ? !isMatch[i] : codes[i] < 0);
    for (const isBelow of [true, false]) {
      const strength = isMatch && isBelow ? 46 : 256;
      for (const i of mixed) {
        const style = styles[codes[i] + 1];
        if (!style || below(i) !== isBelow) continue;
        const cx = Math.round((view.left + x[i] * view.scale) * ratio), cy = Math.round((view.top + y[i] * view.scale) * ratio);
        if (cx < 0 || cy < 0 || cx >= across || cy >= down) continue;
        inView.push(i);
        blend(style, cx, cy, strength);
      }
    }
    context.putImageData(image, -MARGIN, -MARGIN);
    const pictures = tiles.length && inView.length <= MOST_PICTURES ? drawPictures(inView) : new Map();
    mark(hovered, 1.5, pictures);
    mark(selected, 2.5, pictures);
    took = performance.now() - begun;
    canvas.dataset.points = inView.length;
    canvas.dataset.milliseconds = took.toFixed(2);
  }

  /* Blend a shape over the pixels, which have a margin for those at the border. */
  function blend({ own: [r, g, b], mark: { solid, edge, alpha } }, cx, cy, strength) {
    const centre = (cy + MARGIN) * image.width + cx + MARGIN;
    const over = (at, a) => {
      const under = pixels[at];
      const ur = under & 255, ug = (under >> 8) & 255, ub = (under >> 16) & 255;
      pixels[at] = (255 << 24) | ((ub + (((b - ub) * a) >> 8)) << 16) | ((ug + (((g - ug) * a) >> 8)) << 8) | (ur + (((r - ur) * a) >> 8));
    };
    if (strength === 256) {
      const whole = (255 << 24) | (b << 16) | (g << 8) | r;
      for (let k = 0; k < solid.length; k++) pixels[centre + solid[k]] = whole;
    } else {
      for (let k = 0; k < solid.length; k++) over(centre + solid[k], strength);
    }
    for (let k = 0; k < edge.length; k++) over(centre + edge[k], (alpha[k] * strength) >> 8);
  }

  /* Draw a ring about a point, or a frame about its picture. */
  function mark(i, thick, pictures) {
    if (i < 0 || !isDrawn(i)) return;
    const [cx, cy] = place(i).map((each) => each * ratio);
    context.lineWidth = thick * ratio;
    context.strokeStyle = theme.text;
    if (pictures.has(i)) {
      const [w, h] = pictures.get(i).map((each) => each + 8 * ratio);
      context.strokeRect(cx - w / 2, cy - h / 2, w, h);
      return;
    }
    context.beginPath();
    context.arc(cx, cy, (radius() + 4) * ratio, 0, 2 * Math.PI);
    context.stroke();
  }

  /* ------------------------------------------------------------------------------------------ thumbnails */

  const loaded = new Map();
  const address = (i) => `data:image/webp;base64,${tiles[i]}`;

  function picture(i) {
    if (loaded.has(i)) return loaded.get(i);
    const made = new Image();
    made.onload = () => plan();
    made.src = address(i);
    loaded.set(i, made);
    if (loaded.size > 4 * MOST_PICTURES) loaded.delete(loaded.keys().next().value);
    return made;
  }

  function drawPictures(inView) {
    const drawn = new Map(); /* width and height by image */
    const most = Math.min(64, Math.max(28, Math.sqrt((width * height) / Math.max(inView.length, 1)) * 0.5)) * ratio;
    for (const i of inView) {
      if (!tiles[i] || (isMatch && !isMatch[i])) continue;
      const made = picture(i);
      if (!made.complete || !made.naturalWidth) continue;
      const scale = most / Math.max(made.naturalWidth, made.naturalHeight);
      const [w, h] = [made.naturalWidth * scale, made.naturalHeight * scale];
      const [cx, cy] = place(i).map((each) => each * ratio);
      context.lineWidth = 2.5 * ratio;
      context.strokeStyle = colourOf(colouring.codes[i]);
      context.drawImage(made, cx - w / 2, cy - h / 2, w, h);
      context.strokeRect(cx - w / 2, cy - h / 2, w, h);
      drawn.set(i, [w, h]);
    }
    return drawn;
  }

  /* ------------------------------------------------------------------------------------------------ view */

  const border = tiles.length ? 72 : 48; /* pixels of both sides, which hold half a thumbnail each */
  const fitted = () => Math.max(1, Math.min(width - border, height - border) || 1);

  function fit() {
    view.scale = fitted();
    const [low, high] = extent;
    const wide = high[0] - low[0], tall = high[1] - low[1];
    view.scale = Math.min((width - border) / Math.max(wide, 1e-6), (height - border - 16) / Math.max(tall, 1e-6), 4 * fitted());
    view.scale = Math.max(view.scale, 1);
    view.left = width / 2 - ((low[0] + high[0]) / 2) * view.scale;
    view.top = height / 2 - ((low[1] + high[1]) / 2) * view.scale;
    plan();
  }

  const reduced = (values, pick) => values.reduce((a, b) => pick(a, b), values[0]);
  const extent = [
    [reduced(x, Math.min), reduced(y, Math.min)],
    [reduced(x, Math.max), reduced(y, Math.max)],
  ];

  function zoomAt(cx, cy, factor) {
    const next = Math.min(fitted() * 5000, Math.max(fitted() * 0.4, view.scale * factor));
    view.left = cx - ((cx - view.left) / view.scale) * next;
    view.top = cy - ((cy - view.top) / view.scale) * next;
    view.scale = next;
    plan(true);
  }

  function pan(dx, dy) {
    view.left += dx;
    view.top += dy;
    plan(true);
  }

  function centre(i) {
    if (view.scale < fitted() * 3) view.scale = fitted() * 3;
    view.left = width / 2 - x[i] * view.scale;
    view.top = height / 2 - y[i] * view.scale;
    plan();
  }

  function resize() {
    const before = [width, height];
    width = stage.clientWidth;
    height = stage.clientHeight;
    sharp = Math.min(devicePixelRatio || 1, 2);
    setRatio(sharp);
    if (!before[0]) fit();
    else pan((width - before[0]) / 2, (height - before[1]) / 2);
    draw(); /* at once, because a canvas of another size is black until it is drawn */
  }

  /* Return the drawn image nearest to a place within a distance, or -1. */
  function nearest(cx, cy, within) {
    let best = -1, least = within * within;
    for (let i = 0; i < count; i++) {
      const dx = view.left + x[i] * view.scale - cx, dy = view.top + y[i] * view.scale - cy;
      const distance = dx * dx + dy * dy;
      if (distance < least && isDrawn(i)) [best, least] = [i, distance];
    }
    return best;
  }

  /* --------------------------------------------------------------------------------------- image details */

  const own = (text) => `\u2068${text}\u2069`; /* keeps the direction of a name to itself */

  function lines(i) {
    const rows = [[names[i], ""]];
    for (const each of colourings) {
      if (each.name === "prediction") continue;
      const code = each.codes[i];
      rows.push([`${each.name}: ${code < 0 ? each.none : own(each.values[code])}`, "soft"]);
    }
    if (predictions) {
      const code = predictions.codes[i];
      rows.push([code < 0 ? "not predicted" : `predicted: ${own(predictions.values[code])}, ${Math.round(predictions.shares[i] * 100)} %`, "soft"]);
    }
    return rows;
  }

  function fill(target, i) {
    target.replaceChildren();
    if (tiles.length) {
      if (tiles[i]) {
        const made = document.createElement("img");
        made.src = address(i);
        made.alt = "";
        target.append(made);
      } else {
        const gone = document.createElement("span");
        gone.className = "gone";
        gone.textContent = "no thumbnail";
        target.append(gone);
      }
    }
    for (const [text, kind] of lines(i)) {
      const line = document.createElement("div");
      line.textContent = text;
      line.className = kind;
      target.append(line);
    }
  }

  function hover(i, cx, cy) {
    canvas.classList.toggle("near", i >= 0);
    if (i < 0) {
      card.hidden = true;
      if (hovered >= 0) plan();
      hovered = -1;
      return;
    }
    if (i !== hovered) {
      fill(card, i);
      hovered = i;
      plan();
    }
    card.hidden = false;
    const { width: w, height: h } = card.getBoundingClientRect();
    card.style.left = `${Math.max(4, cx + 16 + w > width ? cx - 16 - w : cx + 16)}px`;
    card.style.top = `${Math.max(4, Math.min(cy + 16, height - h - 4))}px`;
  }

  function select(i) {
    selected = i;
    detail.hidden = i < 0;
    if (i >= 0) {
      fill(detail, i);
      const close = document.createElement("button");
      close.type = "button";
      close.textContent = "Close";
      close.addEventListener("click", () => select(-1));
      detail.append(close);
    }
    plan();
  }

  /* ---------------------------------------------------------------------------------- search and legend */

  function find() {
    const text = search.value.trim().toLowerCase();
    isMatch = text ? new Uint8Array(count) : null;
    matches = [];
    if (text) {
      for (let i = 0; i < count; i++) {
        if (isDrawn(i) && names[i].toLowerCase().includes(text)) {
          isMatch[i] = 1;
          matches.push(i);
        }
      }
    }
    byId("count").textContent = text ? `${matches.length.toLocaleString("en")} ${matches.length === 1 ? "image" : "images"} found` : "";
    found.replaceChildren(...matches.slice(0, LISTED).map((i) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = names[i];
      button.addEventListener("click", () => { select(i); centre(i); });
      item.append(button);
      return item;
    }));
    plan();
  }

  function swatch(code) {
    const made = document.createElement("canvas");
    made.width = made.height = 28;
    made.style.width = made.style.height = "14px";
    const pen = made.getContext("2d");
    pen.fillStyle = colourOf(code);
    trace(pen, shapeOf(code), 14, 14, 10);
    pen.fill();
    return made;
  }

  function listLegend() {
    const totals = new Map();
    for (const code of colouring.codes) totals.set(code, (totals.get(code) ?? 0) + 1);
    const codes = [...totals.keys()].sort((a, b) => (a < 0) - (b < 0) || a - b);
    legend.replaceChildren(...codes.map((code) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.code = code;
      button.setAttribute("aria-pressed", shown.has(code));
      const name = document.createElement("bdi");
      name.textContent = code < 0 ? colouring.none : colouring.values[code];
      const number = document.createElement("span");
      number.className = "number";
      number.textContent = totals.get(code).toLocaleString("en");
      button.append(swatch(code), name, number);
      button.addEventListener("click", () => {
        if (!shown.delete(code)) shown.add(code);
        button.setAttribute("aria-pressed", shown.has(code));
        find();
      });
      item.append(button);
      return item;
    }));
  }

  function show(all) {
    shown = new Set(all ? colouring.codes : []);
    listLegend();
    find();
  }

  function recolour() {
    colouring = colourings[Number(byId("colour").value)] ?? colouring;
    show(true);
  }

  /* --------------------------------------------------------------------------------------------- events */

  const pointers = new Map();
  let travelled = 0;

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    if (pointers.size === 1) travelled = 0;
    canvas.classList.add("moving");
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(event);
    if (!pointers.has(event.pointerId)) {
      hover(nearest(...now, 14), ...now);
      return;
    }
    const before = pointers.get(event.pointerId);
    pointers.set(event.pointerId, now);
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    travelled += Math.hypot(dx, dy);
    if (travelled > 4) hover(-1);
    if (pointers.size === 1) {
      pan(dx, dy);
    } else if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, where]) => where);
      const span = (where) => Math.max(8, Math.hypot(where[0] - other[0], where[1] - other[1]));
      zoomAt((now[0] + other[0]) / 2, (now[1] + other[1]) / 2, span(now) / span(before));
      pan(dx / 2, dy / 2);
      travelled = 99;
    }
  });
  const lift = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (!pointers.size) canvas.classList.remove("moving");
    if (event.type === "pointerup" && !pointers.size && travelled <= 4) {
      const i = nearest(...at(event), event.pointerType === "mouse" ? 14 : 24);
      select(i);
      if (event.pointerType !== "mouse") hover(i, ...at(event));
    }
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && !pointers.size && hover(-1));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const step = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaMode === 2 ? event.deltaY * 400 : event.deltaY;
    hover(-1);
    zoomAt(...at(event), Math.exp(-Math.max(-600, Math.min(600, step)) * (event.ctrlKey ? 0.01 : 0.0016)));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoomAt(...at(event), 2));
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    const zooms = { "+": 1.3, "=": 1.3, "-": 1 / 1.3 };
    if (moves[event.key]) pan(...moves[event.key]);
    else if (zooms[event.key]) zoomAt(width / 2, height / 2, zooms[event.key]);
    else if (event.key === "0" || event.key === "Home") fit();
    else if (event.key === "Enter") select(nearest(width / 2, height / 2, Infinity));
    else if (event.key === "Escape") { select(-1); hover(-1); } else return;
    event.preventDefault();
  });
  for (const button of document.querySelectorAll("[data-zoom]")) {
    const factor = Number(button.dataset.zoom);
    button.addEventListener("click", () => (factor ? zoomAt(width / 2, height / 2, factor) : fit()));
  }
  search.addEventListener("input", find);
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !matches.length) return;
    const next = matches[(matches.indexOf(selected) + 1) % matches.length];
    select(next);
    centre(next);
  });
  byId("colour").addEventListener("change", recolour);
  byId("all").addEventListener("click", () => show(true));
  byId("none").addEventListener("click", () => show(false));
  dark.addEventListener("change", () => { readTheme(); listLegend(); plan(); });
  new ResizeObserver(resize).observe(stage);
  readTheme();
  recolour();
  resize();
})();
