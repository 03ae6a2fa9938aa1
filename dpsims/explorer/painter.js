// The browser's half of LabelPainter (painter.py): the label map is a Uint8Array that lives here, one id a pixel.
// Canvases only show it; nothing is ever read back from them. Python gets the whole map when the pen is lifted.
//
// painter.py puts painter_pixels.js, functions of plain arrays, before this file: the browser gets one module.
// Parts of `render`: page, picture, history, pen, legend, files, keys, Python.

const HISTORY = 100; // steps that can be undone
const SHOWN = 512; // pixels on the screen, the longer side of the map, where there is room
const MAX_UPLOAD = 8e6; // bytes; a Jupyter server ends the connection on a message above 10 MiB
const MANY = 20; // classes, above which the legend can be searched
const TOOLS = [
  ["brush", "Brush", "b", "Paint freely"],
  ["fill", "Fill", "f", "Fill the connected area of one class"],
  ["rectangle", "Rectangle", "r", "Drag a rectangle"],
  ["erase", "Eraser", "e", "Paint void; in a region: take away"],
  ["dropper", "Dropper", "i", "Choose the class under the pointer"],
];
const MODES = [
  ["paint", "Classes", "Paint classes"],
  ["region", "Region", "Mark a region; Fill marks the connected area of one class"],
  ["pick", "Pick", "Click to choose the class that the controls are about"],
];

function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function download(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function button(text, title, onclick, properties = {}) {
  return element("button", { type: "button", textContent: text, title, "aria-label": title, onclick, ...properties });
}

function press(buttons, chosen) {
  for (const [name, node] of Object.entries(buttons)) node.setAttribute("aria-pressed", String(name === chosen));
}

const bytesOf = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

function render({ model, el }) {
  const { dataset, height, width, names, colours, readings } = model.get("_setup");
  const scale = Math.max(1, Math.floor(SHOWN / Math.max(width, height)));
  const key = `dpsims-painter:${dataset}:${names.length - 1}:${height}x${width}`;
  const maps = { labels: bytesOf(model.get("_labels")).slice(), region: bytesOf(model.get("_region")).slice() };
  const before = saved(key, width * height, names.length - 1); // kept here: the next stroke replaces what is saved
  const hidden = new Set();
  let [mode, tool, size, current] = [model.get("mode"), "brush", 5, Math.min(1, names.length - 1)];
  let [undo, redo] = [[], []];
  let stroke = null; // {kind, value, start, last, old} while the pen is down
  let sending = false; // true while a change of the model is our own
  let upload = 0; // number of the file whose labels we wait for

  // -- page
  const labelCanvas = element("canvas", { width, height, tabIndex: 0, role: "img", "aria-label": "label map" });
  const regionCanvas = element("canvas", { width: width * scale, height: height * scale });
  const picture = element("img", { alt: "generated image", draggable: false, hidden: true });
  const ring = element("div", { className: "ring", hidden: true });
  const stage = element("div", { className: "stage" }, picture, labelCanvas, regionCanvas, ring);
  stage.style.width = `${width * scale}px`;
  stage.style.aspectRatio = `${width} / ${height}`;
  const modeButtons = {};
  for (const [name, text, title] of MODES) modeButtons[name] = button(text, title, () => setMode(name, true));
  const toolButtons = {};
  for (const [name, text, shortcut, title] of TOOLS) {
    toolButtons[name] = button(text, `${title} (${shortcut})`, () => setTool(name));
  }
  const sizeSlider = element("input", { type: "range", min: 1, max: 64, value: size, title: "Brush size ([ and ])" });
  const sizeText = element("output", { textContent: `${size} px` });
  const undoButton = button("Undo", "Undo (Ctrl+Z)", () => undoStep());
  const redoButton = button("Redo", "Redo (Ctrl+Shift+Z)", () => redoStep());
  const clearButton = button("Clear region", "Take the whole region away", () => {
    replace("region", new Uint8Array(width * height));
  });
  const restoreButton = button("Restore", "Take back what was painted here before the page was loaded", () => {
    replace("labels", before.slice());
    restoreButton.hidden = true;
    labelCanvas.focus({ preventScroll: true });
    say("Restored the painting that this browser had saved.");
  });
  restoreButton.hidden = !before || same(before, maps.labels);
  const opacity = element("input", {
    type: "range", min: 0, max: 100, value: 100 * model.get("opacity"),
    title: "Opacity of the label map over the image",
  });
  const chooser = element("input", { type: "file", accept: "image/png", hidden: true });
  const reading = element("select", { title: "What the grey values of an imported PNG are" });
  for (const name of readings) {
    reading.append(element("option", { value: name, textContent: name || "grey values: ?" }));
  }
  reading.hidden = readings.length < 2;
  const status = element("div", { className: "status", role: "status" });
  const search = element("input", { type: "search", placeholder: "Search classes", "aria-label": "Search classes" });
  const present = element("input", { type: "checkbox" });
  const list = element("div", { className: "list", role: "group", "aria-label": "Classes" });
  const finder = element("div", { className: "row" }, search, element("label", {}, present, "in the map"));
  finder.hidden = names.length - 1 <= MANY;
  const group = (label, ...nodes) => element("div", { className: "row", role: "group", "aria-label": label }, ...nodes);
  const root = element("div", { className: "dpsims-painter" },
    element("div", { className: "tools", role: "toolbar", "aria-label": "Painting" },
      group("Mode", ...Object.values(modeButtons)),
      group("Tool", ...Object.values(toolButtons)),
      group("Brush size", element("label", {}, "Size", sizeSlider), sizeText),
      group("History", undoButton, redoButton, clearButton, restoreButton)),
    element("div", { className: "main" },
      element("div", { className: "left" }, stage,
        group("Overlay and files", element("label", {}, "Overlay", opacity),
          button("Save ids", "Save the label map as a grey PNG of class ids", exportIds),
          button("Save colours", "Save the label map as a PNG of class colours", exportColours),
          button("Import", "Open a PNG of class ids or class colours", () => chooser.click()), reading, chooser),
        status),
      element("div", { className: "legend" }, finder, list)));
  el.append(root);
  const say = (text) => { status.textContent = text; };

  // -- picture
  const context = labelCanvas.getContext("2d");
  const pixels = new ImageData(width, height);
  const packed = new Uint32Array(pixels.data.buffer);
  const table = new Uint32Array(256); // id -> colour as the canvas holds it: bytes R, G, B, A
  const hatch = regionCanvas.getContext("2d");
  const mask = new OffscreenCanvas(width, height);
  const maskPixels = new ImageData(width, height);
  const tile = new OffscreenCanvas(8, 8);
  const ink = tile.getContext("2d");
  for (let x = 0; x < 8; x++) for (let y = 0; y < 8; y++) {
    ink.fillStyle = (x + y) % 8 < 4 ? "rgba(255, 255, 255, 0.75)" : "rgba(0, 0, 0, 0.6)"; // on any colour one shows
    ink.fillRect(x, y, 1, 1);
  }

  function setTable() {
    const bytes = new Uint8Array(table.buffer);
    colours.forEach((colour, id) => bytes.set([...colour, hidden.has(id) ? 0 : 255], 4 * id));
  }

  function draw([left, top, right, bottom] = [0, 0, width - 1, height - 1]) {
    for (let y = top; y <= bottom; y++) {
      for (let i = y * width + left; i <= y * width + right; i++) packed[i] = table[maps.labels[i]];
    }
    context.putImageData(pixels, 0, 0, left, top, right - left + 1, bottom - top + 1);
    later(countShares);
  }

  function drawRegion() {
    maps.region.forEach((inside, i) => { maskPixels.data[4 * i + 3] = 255 * inside; });
    mask.getContext("2d").putImageData(maskPixels, 0, 0);
    hatch.globalCompositeOperation = "copy";
    hatch.imageSmoothingEnabled = false;
    hatch.drawImage(mask, 0, 0, regionCanvas.width, regionCanvas.height);
    hatch.globalCompositeOperation = "source-in";
    hatch.fillStyle = hatch.createPattern(tile, "repeat");
    hatch.fillRect(0, 0, regionCanvas.width, regionCanvas.height);
  }

  const show = (kind, box) => (kind === "labels" ? draw(box) : drawRegion());

  function showImage() {
    const bytes = bytesOf(model.get("image"));
    URL.revokeObjectURL(picture.src);
    picture.hidden = opacity.disabled = !bytes.length;
    opacity.disabled = !bytes.length;
    if (bytes.length) picture.src = URL.createObjectURL(new Blob([bytes]));
    labelCanvas.style.opacity = bytes.length ? opacity.value / 100 : 1;
  }

  // -- history: whole maps, since 64 KB are cheaper than cleverness
  function commit(kind, old) {
    if (same(old, maps[kind])) return;
    undo.push({ kind, map: old });
    if (undo.length > HISTORY) undo.shift();
    redo = [];
    send(kind);
  }

  function replace(kind, map) {
    const old = maps[kind];
    maps[kind] = map;
    show(kind);
    commit(kind, old);
  }

  function step(from, to) {
    const last = stroke ? undefined : from.pop();
    if (!last) return;
    to.push({ kind: last.kind, map: maps[last.kind] });
    maps[last.kind] = last.map;
    show(last.kind);
    send(last.kind);
  }
  const undoStep = () => step(undo, redo); // not bound to the arrays, which are replaced
  const redoStep = () => step(redo, undo);

  function send(kind) {
    tellPython({ [`_${kind}`]: new DataView(maps[kind].slice().buffer) });
    if (kind === "labels") save(key, maps.labels);
    showHistory();
  }

  function showHistory() {
    // not `disabled`: that would take the focus away, and the next keys would be JupyterLab's
    undoButton.setAttribute("aria-disabled", String(!undo.length));
    redoButton.setAttribute("aria-disabled", String(!redo.length));
  }

  // -- pen
  /** Where the pointer is, in pixels of the map, inside it. */
  function place(event) {
    const box = labelCanvas.getBoundingClientRect();
    const at = (value, length) => Math.min(length - 1e-6, Math.max(0, value * length));
    return [at((event.clientX - box.left) / box.width, width), at((event.clientY - box.top) / box.height, height)];
  }
  const pixel = (point) => point.map(Math.floor);
  /** The middle of the brush: of a pixel for odd sizes, between pixels for even ones, so that sizes are exact. */
  const middle = (point) => (size % 2 ? pixel(point) : point.map((part) => Math.round(part) - 0.5));

  function penDown(event) {
    if (stroke || (event.button !== 0 && event.button !== 5)) return; // 5: the eraser end of a pen
    event.preventDefault();
    labelCanvas.focus({ preventScroll: true });
    const point = place(event);
    const [x, y] = pixel(point);
    const index = y * width + x;
    if (mode === "pick") return tellPython({ picked: maps.labels[index], picked_at: [y, x] });
    if (tool === "dropper") {
      choose(maps.labels[index]);
      return setTool("brush");
    }
    const kind = mode === "region" ? "region" : "labels";
    const erase = tool === "erase" || event.button === 5;
    const value = erase ? 0 : kind === "region" ? 1 : current;
    const old = maps[kind].slice();
    if (tool === "fill" && !erase) {
      for (const i of connected(maps.labels, width, index)) maps[kind][i] = value;
      show(kind);
      return commit(kind, old);
    }
    stage.setPointerCapture(event.pointerId);
    stroke = { pointer: event.pointerId, kind, value, start: [x, y], last: middle(point), old };
    paintTo(point);
  }

  function paintTo(point) {
    const map = maps[stroke.kind];
    if (tool === "rectangle") {
      map.set(stroke.old);
      paintRectangle(map, width, stroke.start, pixel(point), stroke.value);
      return show(stroke.kind);
    }
    const next = middle(point);
    show(stroke.kind, paintLine(map, width, height, stroke.last, next, size, stroke.value));
    stroke.last = next;
  }

  function penMove(event) {
    showRing(event);
    if (stroke?.pointer !== event.pointerId) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) paintTo(place(one));
  }

  function penUp(event) {
    if (stroke?.pointer !== event.pointerId) return;
    const { kind, old } = stroke;
    stroke = null;
    commit(kind, old);
  }

  function cancel() {
    if (!stroke) return;
    maps[stroke.kind].set(stroke.old);
    show(stroke.kind);
    stroke = null;
  }

  function showRing(event) {
    const box = labelCanvas.getBoundingClientRect();
    ring.hidden = mode === "pick" || !["brush", "erase"].includes(tool) || event.pointerType === "touch";
    const across = (size * box.width) / width;
    const corner = middle(place(event)).map((part) => ((part + 0.5 - size / 2) * box.width) / width);
    ring.style.cssText = `width:${across}px;height:${across}px;transform:translate(${corner[0]}px,${corner[1]}px)`;
  }

  stage.addEventListener("pointerdown", penDown);
  stage.addEventListener("pointermove", penMove);
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) stage.addEventListener(name, penUp);
  stage.addEventListener("pointerleave", () => { ring.hidden = true; });

  // -- legend: its nodes are made once; strokes change texts only
  const rows = names.map((name, id) => {
    const share = element("span", { className: "share" });
    const digit = element("span", { className: "digit" });
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = `rgb(${colours[id]})`;
    const text = element("span", { className: "name", textContent: name });
    const pick = element("button", { type: "button", className: "class", title: name, onclick: () => choose(id) });
    pick.append(digit, swatch, text, share);
    const eye = element("input", { type: "checkbox", checked: true, title: `Show ${name}` });
    eye.onchange = () => toggle(id);
    const node = element("div", { className: "entry" }, eye, pick);
    return { node, pick, share, digit, name: name.toLowerCase(), count: -1 };
  });
  list.append(...rows.map((row) => row.node));

  function countShares() {
    const counts = new Uint32Array(256);
    for (const id of maps.labels) counts[id]++;
    rows.forEach((row, id) => {
      if (row.count === counts[id]) return;
      row.count = counts[id];
      const percent = (100 * row.count) / maps.labels.length;
      row.share.textContent = !row.count ? "" : percent < 0.1 ? "<0.1 %" : `${percent.toFixed(1)} %`;
    });
    if (present.checked) filter();
  }

  function filter() {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    rows.forEach((row, id) => {
      row.node.hidden = !row.name.includes(wanted) || (present.checked && !row.count && id !== current);
      const digit = id === 0 ? "0" : row.node.hidden || ++shown > 9 ? "" : String(shown);
      if (row.digit.textContent !== digit) row.digit.textContent = digit;
    });
  }

  function mark(id) {
    rows[current].pick.setAttribute("aria-pressed", "false");
    rows[id].pick.setAttribute("aria-pressed", "true");
    current = id;
  }

  function choose(id) {
    mark(id);
    if (mode !== "paint") setMode("paint", true);
    if (tool === "erase") setTool("brush");
  }

  function toggle(id) {
    if (!hidden.delete(id)) hidden.add(id);
    setTable();
    draw();
  }

  search.addEventListener("input", filter);
  present.addEventListener("change", filter);

  // -- files
  const file = (what) => `${dataset}-${height}x${width}-${what}.png`;

  async function exportIds() {
    download(await png(width, height, 1, maps.labels), file("ids"));
  }

  async function exportColours() {
    const values = new Uint8Array(3 * maps.labels.length);
    maps.labels.forEach((id, i) => values.set(colours[id], 3 * i));
    download(await png(width, height, 3, values), file("colours"));
  }

  chooser.addEventListener("change", async () => {
    const [chosen] = chooser.files;
    if (!chosen) return;
    if (chosen.size > MAX_UPLOAD) {
      say(`${chosen.name}: ${Math.round(chosen.size / 1e6)} MB; give a label map of at most ${MAX_UPLOAD / 1e6} MB.`);
    } else {
      say(`${chosen.name}: waiting for Python to read it ...`);
      const buffer = await chosen.arrayBuffer();
      model.send({ import: ++upload, name: chosen.name, reading: reading.value }, undefined, [buffer]);
    }
    chooser.value = ""; // the same file may be chosen again
  });

  // -- keys
  function setMode(name, ours) {
    cancel();
    mode = name;
    press(modeButtons, name);
    clearButton.hidden = name !== "region";
    stage.dataset.mode = name;
    if (ours) tellPython({ mode: name });
  }

  function setTool(name) {
    cancel();
    tool = name;
    press(toolButtons, name);
  }

  function setSize(value) {
    size = Math.min(64, Math.max(1, value));
    sizeSlider.value = size;
    sizeText.textContent = `${size} px`;
  }
  sizeSlider.addEventListener("input", () => setSize(Number(sizeSlider.value)));
  opacity.addEventListener("input", () => { labelCanvas.style.opacity = opacity.value / 100; });

  const keys = { Escape: cancel };
  keys["["] = () => setSize(size - (size > 8 ? 4 : 1));
  keys["]"] = () => setSize(size + (size >= 8 ? 4 : 1));
  for (const [name, , shortcut] of TOOLS) keys[shortcut] = () => setTool(name);
  for (let n = 0; n < 10; n++) {
    keys[n] = () => {
      const id = rows.findIndex((row) => !row.node.hidden && row.digit.textContent === String(n));
      if (id >= 0) choose(id);
    };
  }

  function keyDown(event) {
    if (!root.contains(event.target)) return;
    const modified = event.ctrlKey || event.metaKey;
    // JupyterLab takes b, e, d d and others for commands to its cells unless told not to; Ctrl+S should still save
    event.target.toggleAttribute("data-lm-suppress-shortcuts", !modified || event.key.toLowerCase() === "z");
    const writing = ["search", "file"].includes(event.target.type) || event.target === reading;
    const action = modified
      ? event.key.toLowerCase() === "z" && (event.shiftKey ? redoStep : undoStep)
      : !event.altKey && keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || writing) return;
    event.preventDefault();
    action();
  }
  window.addEventListener("keydown", keyDown, true); // before JupyterLab's, which listens on the document

  // -- Python
  function tellPython(changes) {
    sending = true;
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    sending = false;
    model.save_changes();
  }

  function takeMap(kind) {
    const map = bytesOf(model.get(`_${kind}`));
    if (sending || stroke || same(map, maps[kind])) return; // of a stroke under way the end will be sent
    undo.push({ kind, map: maps[kind] }); // one step, as if it had been painted
    if (undo.length > HISTORY) undo.shift();
    redo = [];
    maps[kind] = map.slice();
    show(kind);
    showHistory();
  }

  function takeAnswer(content, buffers) {
    if (content.imported !== upload) return; // asked by another view, or given up
    replace("labels", bytesOf(buffers[0]).slice());
    say(content.text);
  }

  let waiting = false;
  function later(action) {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      action();
    });
  }

  const listeners = {
    "change:_labels": () => takeMap("labels"),
    "change:_region": () => takeMap("region"),
    "change:image": showImage,
    "change:mode": () => sending || setMode(model.get("mode"), false),
    "change:message": () => say(model.get("message")),
    "msg:custom": takeAnswer,
    comm_live_update: () => {
      if (!root.closest(".jupyter-widgets-disconnected")) return;
      say("The kernel is gone. This browser keeps the painting: run the cell again, then press Restore.");
    },
  };
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);

  setTable();
  setMode(mode, false);
  setTool(tool);
  mark(current);
  filter();
  draw();
  drawRegion();
  showImage();
  showHistory();
  say(model.get("message"));
  return () => {
    window.removeEventListener("keydown", keyDown, true);
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
    URL.revokeObjectURL(picture.src);
  };
}

export default { render };
