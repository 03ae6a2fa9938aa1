// What painter.js does with bytes, apart from any page: pixels of a map, PNG files, autosave.

// ---- pixels: functions of plain arrays --------------------------------------------------------------------------

/** Sets the pixels whose centres lie within size / 2 of the way between two points [x, y] of the pixel grid. */
function paintLine(map, width, height, [x0, y0], [x1, y1], size, value) {
  const r = size / 2;
  const box = [
    Math.max(0, Math.ceil(Math.min(x0, x1) - r)),
    Math.max(0, Math.ceil(Math.min(y0, y1) - r)),
    Math.min(width - 1, Math.floor(Math.max(x0, x1) + r)),
    Math.min(height - 1, Math.floor(Math.max(y0, y1) + r)),
  ];
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length = dx * dx + dy * dy;
  for (let y = box[1]; y <= box[3]; y++) {
    for (let x = box[0]; x <= box[2]; x++) {
      const along = length ? Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / length)) : 0;
      if ((x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2 <= r * r) map[y * width + x] = value;
    }
  }
  return box;
}

function paintRectangle(map, width, [x0, y0], [x1, y1], value) {
  const [left, right] = x0 < x1 ? [x0, x1] : [x1, x0];
  for (let y = Math.min(y0, y1); y <= Math.max(y0, y1); y++) map.fill(value, y * width + left, y * width + right + 1);
}

/** Indices of the pixels that are connected with `start`, by their sides, through pixels of its class. */
function connected(labels, width, start) {
  const seen = new Uint8Array(labels.length);
  const found = new Int32Array(labels.length); // also the queue: each pixel enters once
  found[0] = start;
  seen[start] = 1;
  let count = 1;
  const visit = (i) => {
    if (labels[i] === labels[start] && !seen[i]) {
      seen[i] = 1;
      found[count++] = i;
    }
  };
  for (let next = 0; next < count; next++) {
    const i = found[next];
    const x = i % width;
    if (x > 0) visit(i - 1);
    if (x < width - 1) visit(i + 1);
    if (i >= width) visit(i - width);
    if (i + width < labels.length) visit(i + width);
  }
  return found.subarray(0, count);
}

const same = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);

// ---- PNG files: written by hand, since a canvas knows no grey values ------------------------------------------------

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

function chunk(type, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  let crc = 0xffffffff;
  for (const byte of bytes.subarray(4, 8 + data.length)) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  view.setUint32(8 + data.length, ~crc);
  return bytes;
}

/** A PNG of 8 bits a value; grey for one channel, RGB for three. */
async function png(width, height, channels, values) {
  const row = width * channels;
  const rows = new Uint8Array(height * (row + 1)); // each begins with 0: no filter
  for (let y = 0; y < height; y++) rows.set(values.subarray(y * row, (y + 1) * row), y * (row + 1) + 1);
  const stream = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8);
  header.setUint8(9, channels === 1 ? 0 : 2);
  const signature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  const parts = [signature, chunk("IHDR", new Uint8Array(header.buffer)), chunk("IDAT", data), chunk("IEND", [])];
  return new Blob(parts, { type: "image/png" });
}

// ---- autosave: the painting outlives a reload and a restart of the kernel ----------------------------------------

function save(key, labels) {
  let text = "";
  for (const id of labels) text += String.fromCharCode(id);
  try {
    localStorage.setItem(key, btoa(text));
  } catch {
    // no storage, or none left: painting goes on
  }
}

/** The saved map, or null where there is none that fits. */
function saved(key, size, largest) {
  try {
    const labels = Uint8Array.from(atob(localStorage.getItem(key)), (letter) => letter.charCodeAt(0));
    return labels.length === size && labels.every((id) => id <= largest) ? labels : null;
  } catch {
    return null;
  }
}
