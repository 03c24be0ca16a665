// Writes safetensors.json, the header vectors that the TypeScript and the Python parser both must agree with.
// Run: node test/vectors/make-safetensors.mjs
import { writeFileSync } from "node:fs";

const COMMENT = [
  "Each entry of `files` is one whole safetensors file and what a strict parser says about it.",
  "`base64` is the whole file. Where that would be long, `build` is a list of parts to concatenate: {base64} is bytes; {text, times} is the UTF-8 text repeated `times` times, with `{i}` in it replaced by the index of the repetition (0, 1, 2, ...).",
  "`ok` true: the parser accepts, and when `tensors`, `metadata` and `parameters` are given it returns them (tensors in any order; begin and end count from the end of the header; `header_bytes` is N). `ok` false: it rejects with exactly `code`. Every bad file has one fault, but checks go in this order: file size < 8 (st.too_small), N > 25000000 (st.header_too_large), 8 + N > file size (st.header_past_eof), first byte of the header not `{` or N = 0 (st.json), header not UTF-8 (st.utf8), then the header left to right, then begin <= end (st.offsets), size of each tensor (st.size), tiling (st.offsets), file size (st.truncated, st.trailing_data). `row` numbers group related cases; 0 is a case of our own.",
  "st.json: not JSON, or anything but 0x20 after the closing brace. White space (20 09 0a 0d) between tokens inside the braces is fine.",
  "st.utf8: not UTF-8, or a string with a lone surrogate escape.",
  "st.duplicate: a key twice in one object, compared after unescaping, at any level.",
  "st.metadata: __metadata__ is not an object of string to string, or has the key __proto__.",
  "st.name: tensor name empty, longer than 512 code points, __proto__, or with a code point in 0000-001F, 007F-009F, 202A-202E, 2066-2069.",
  "st.entry: a tensor's value is not an object with exactly dtype, shape and data_offsets.",
  "st.dtype: `dtype` is anything but one of the 22 known strings.",
  "st.shape: `shape` is not an array, has more than 8 dimensions, a dimension > 2^32, or a product of its non-zero dimensions > 2^53-1.",
  "st.integer: inside `shape` or `data_offsets` stands anything but 0|[1-9][0-9]* with a value <= 2^53-1, whatever else it is.",
  "st.offsets: `data_offsets` is not an array of exactly two, begin > end, or the tensors sorted by (begin, end) do not tile [0, end) without hole and overlap.",
  "st.size: end - begin is not the product of the shape times the size of the dtype (bits must fill whole bytes).",
  "st.truncated: the file ends before the last tensor does. st.trailing_data: it goes on after.",
  "Each entry of `indexes` is a model.safetensors.index.json (`text`) and the shards beside it (`shards`: file name -> tensors as name -> number of bytes). `warnings` lists codes that are reported without rejecting. st.index_json: not JSON, not UTF-8, or not the expected shape. st.index_duplicate: a key twice in one object, or one tensor stored in two shards. st.index_path: a shard name that is not a plain file name (empty, `.`, `..`, any of \\ / : %, a control or bidi character, a name reserved by Windows or git). st.index_shard_type: a shard that is not *.safetensors. st.index_missing_shard: the shard is not beside the index. st.index_missing_tensor: the shard lacks the tensor. Warnings: st.index_total_size: metadata.total_size is not the sum of the bytes of the tensors it lists. st.index_unlisted_tensor: a shard holds a tensor that the index does not list.",
];

const utf8 = (text) => Buffer.from(text, "utf8");
const u64 = (n) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(n));
  return bytes;
};
const b64 = (...parts) => Buffer.concat(parts).toString("base64");
const zeros = (n) => Buffer.alloc(n);

const files = [];
const put = (row, name, content, verdict) => files.push({ name, row, ...content, ...verdict });
const bad = (code) => ({ ok: false, code });

/** A file from header text (or bytes) and a number of zero data bytes. */
const file = (header, data = 0) => {
  const bytes = typeof header === "string" ? utf8(header) : header;
  return { base64: b64(u64(bytes.length), bytes, typeof data === "number" ? zeros(data) : data) };
};
const reject = (row, name, header, data, code) => put(row, name, file(header, data), bad(code));
const accept = (row, name, header, data, expected = {}) =>
  put(row, name, file(header, data), {
    ok: true,
    header_bytes: utf8(typeof header === "string" ? header : header.toString()).length,
    ...expected,
  });
const tensor = (name, dtype, shape, begin, end) => ({ name, dtype, shape, begin, end });
const entry = (dtype, shape, begin, end) =>
  `{"dtype":"${dtype}","shape":${JSON.stringify(shape)},"data_offsets":[${begin},${end}]}`;
const one = (shape, offsets = "[0,4]", dtype = '"F32"') =>
  `{"a":{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}}`;
const named = (name) => `{"${name}":${entry("F32", [1], 0, 4)}}`;
const A = `"a":${entry("F32", [1], 0, 4)}`;

// What must be accepted.
accept(0, "one tensor", `{${A}}`, 4, {
  tensors: [tensor("a", "F32", [1], 0, 4)],
  metadata: {},
  parameters: 1,
});
accept(0, "no tensors", "{}", 0, { tensors: [], metadata: {}, parameters: 0 });
accept(0, "metadata only", '{"__metadata__":{"format":"pt"}}', 0, {
  tensors: [],
  metadata: { format: "pt" },
  parameters: 0,
});
accept(0, "metadata last, keys in another order, padding", `{"w":{"data_offsets":[0,12],"shape":[2,3],"dtype":"BF16"},"__metadata__":{}}     `, 12, {
  tensors: [tensor("w", "BF16", [2, 3], 0, 12)],
  metadata: {},
  parameters: 6,
});
accept(0, "white space between tokens", `{ "a" :\n\t{ "dtype":"U8",\r\n "shape" : [ 2 , 2 ] , "data_offsets":[ 0 , 4 ] } }`, 4, {
  tensors: [tensor("a", "U8", [2, 2], 0, 4)],
  parameters: 4,
});
accept(0, "header order is not data order", `{"b":${entry("I64", [1], 4, 12)},"a":${entry("F32", [1], 0, 4)}}`, 12, {
  tensors: [tensor("a", "F32", [1], 0, 4), tensor("b", "I64", [1], 4, 12)],
  parameters: 2,
});
accept(0, "scalar and empty tensors at boundaries", `{"s":${entry("F16", [], 0, 2)},"e0":${entry("F32", [0], 0, 0)},"e1":${entry("F32", [3, 0], 2, 2)}}`, 2, {
  tensors: [tensor("s", "F16", [], 0, 2), tensor("e0", "F32", [0], 0, 0), tensor("e1", "F32", [3, 0], 2, 2)],
  parameters: 1,
});
accept(0, "rank 8", one("[1,1,1,1,1,1,1,1]"), 4, { parameters: 1 });
accept(0, "dimension 2^32 beside 0", one("[4294967296,0]", "[0,0]"), 0, { parameters: 0 });
accept(0, "escapes in strings", `{"\\u0061\\u00e9\\ud83d\\ude00\\/":${entry("F32", [1], 0, 4)},"__metadata__":{"k\\"":"line\\n\\\\ \\u0000"}}`, 4, {
  tensors: [tensor("a\u00e9\u{1f600}/", "F32", [1], 0, 4)],
  metadata: { 'k"': "line\n\\ \u0000" },
});
accept(0, "names that differ only by normal form", `{"\u00e9":${entry("U8", [1], 0, 1)},"e\u0301":${entry("U8", [1], 1, 2)}}`, 2, { parameters: 2 });
accept(0, "same key in different objects", `{"dtype":${entry("U8", [1], 0, 1)},"shape":${entry("U8", [1], 1, 2)},"__metadata__":{"dtype":"x"}}`, 2, { parameters: 2 });
accept(11, "name constructor", named("constructor"), 4, { parameters: 1 });
accept(11, "name of 512 characters", named("n".repeat(512)), 4, { parameters: 1 });
accept(11, "name of 512 characters outside the BMP", named("\u{1f600}".repeat(512)), 4, { parameters: 1 });
accept(11, "path-like name is only a name", named("../../x"), 4, { parameters: 1 });
accept(0, "escaped __metadata__ is metadata", `{"\\u005f_metadata__":{"a":"b"},${A}}`, 4, { metadata: { a: "b" }, parameters: 1 });

const BITS = {
  BOOL: 8, F4: 4, F6_E2M3: 6, F6_E3M2: 6, U8: 8, I8: 8, F8_E5M2: 8, F8_E4M3: 8, F8_E8M0: 8, F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8, I16: 16, U16: 16, F16: 16, BF16: 16, I32: 32, U32: 32, F32: 32, C64: 64, F64: 64, I64: 64, U64: 64,
};
{
  let at = 0;
  const entries = [];
  const tensors = [];
  for (const [dtype, bits] of Object.entries(BITS)) {
    const end = at + bits / 2;
    entries.push(`"t.${dtype}":${entry(dtype, [4], at, end)}`);
    tensors.push(tensor(`t.${dtype}`, dtype, [4], at, end));
    at = end;
  }
  accept(0, "every dtype", `{${entries.join(",")}}`, at, { tensors, metadata: {}, parameters: 4 * entries.length });
}

// Rows 1-6: the frame.
for (const n of [0, 1, 7]) put(1, `file of ${n} bytes`, { base64: b64(zeros(n)) }, bad("st.too_small"));
put(2, "N = 2^64-1", { base64: b64(u64(2n ** 64n - 1n), utf8("{}")) }, bad("st.header_too_large"));
put(2, "N = 2^63", { base64: b64(u64(2n ** 63n), utf8("{}")) }, bad("st.header_too_large"));
put(2, "N = 2^32 + 2, low half looks right", { base64: b64(u64(2n ** 32n + 2n), utf8("{}")) }, bad("st.header_too_large"));
put(3, "N = 100 000 001", { base64: b64(u64(100_000_001), utf8("{}")) }, bad("st.header_too_large"));
put(3, "N = 25 000 001", { base64: b64(u64(25_000_001), utf8("{}")) }, bad("st.header_too_large"));
put(4, "N = 25 000 000 past the end", { base64: b64(u64(25_000_000), utf8("{}")) }, bad("st.header_past_eof"));
put(4, "N one past the end", { base64: b64(u64(3), utf8("{}")) }, bad("st.header_past_eof"));
put(4, "N = 2 in a file of 8 bytes", { base64: b64(u64(2)) }, bad("st.header_past_eof"));
put(5, "N = 0", { base64: b64(u64(0)) }, bad("st.json"));
put(5, "N = 0 with bytes after", { base64: b64(u64(0), utf8("{}")) }, bad("st.json"));
reject(6, "byte order mark", `\ufeff{${A}}`, 4, "st.json");
reject(6, "leading space", ` {${A}}`, 4, "st.json");
reject(6, "leading line feed", `\n{${A}}`, 4, "st.json");
for (const [label, pad] of [["line feed", "\n"], ["tab", "\t"], ["NUL", "\0"], ["carriage return", "\r"], ["second object", "{}"], ["no-break space", "\u00a0"]])
  reject(6, `padding is a ${label}`, `{${A}} ${pad} `, 4, "st.json");
for (const [label, text] of [
  ["array at top", "[]"], ["open brace only", "{"], ["trailing comma", `{${A},}`], ["leading comma", `{,${A}}`], ["missing comma", `{${A} "b":${entry("U8", [1], 4, 5)}}`],
  ["missing colon", `{"a" ${entry("F32", [1], 0, 4)}}`], ["single quotes", `{'a':${entry("F32", [1], 0, 4)}}`], ["unquoted key", `{a:${entry("F32", [1], 0, 4)}}`],
  ["comment", `{/**/${A}}`], ["unclosed object", `{${A}`], ["unclosed string", `{"a`], ["ends after a backslash", `{"a\\`], ["raw control character in a string", `{"a\u0001":${entry("F32", [1], 0, 4)}}`],
  ["raw line feed in a string", `{"a\n":${entry("F32", [1], 0, 4)}}`], ["bad escape", `{"\\x61":${entry("F32", [1], 0, 4)}}`], ["short \\u escape", `{"\\u61":${entry("F32", [1], 0, 4)}}`],
  ["\\u escape with a sign", `{"\\u+061":${entry("F32", [1], 0, 4)}}`], ["shape with a trailing comma", one("[1,]")], ["shape without a comma", one("[1 1]")], ["shape not closed", one("[1")], ["vertical tab between tokens", `{\u000b${A}}`],
]) {
  // Where an integer is due, anything else is st.integer, so these two fail before the syntax does.
  const integer = label === "shape with a trailing comma" || label === "shape not closed";
  reject(0, `JSON: ${label}`, text, text.startsWith("{") && text.length > 12 ? 4 : 0, integer ? "st.integer" : "st.json");
}

// Row 7: encoding.
const rawName = (...bytes) => Buffer.concat([utf8('{"'), Buffer.from(bytes), utf8(`":${entry("F32", [1], 0, 4)}}`)]);
for (const [label, bytes] of [
  ["stray continuation", [0x80]], ["overlong slash", [0xc0, 0xaf]], ["overlong three bytes", [0xe0, 0x80, 0xaf]], ["encoded surrogate", [0xed, 0xa0, 0x80]],
  ["above U+10FFFF", [0xf4, 0x90, 0x80, 0x80]], ["five-byte form", [0xf8, 0x88, 0x80, 0x80, 0x80]], ["cut sequence", [0xe2, 0x82]], ["0xff", [0xff]],
])
  reject(7, `invalid UTF-8 in a name: ${label}`, rawName(...bytes), 4, "st.utf8");
reject(7, "invalid UTF-8 in metadata", Buffer.concat([utf8('{"__metadata__":{"a":"'), Buffer.from([0xff]), utf8('"}}')]), 0, "st.utf8");
reject(7, "lone high surrogate", named("\\ud800"), 4, "st.utf8");
reject(7, "lone low surrogate", named("\\udc00"), 4, "st.utf8");
reject(7, "surrogates in the wrong order", named("\\udc00\\ud800"), 4, "st.utf8");
reject(7, "high surrogate before a letter", named("\\ud83dx"), 4, "st.utf8");
reject(7, "lone surrogate in a metadata value", '{"__metadata__":{"a":"\\udfff"}}', 0, "st.utf8");

// Rows 8-10: duplicates and metadata.
reject(8, "duplicate name, same offsets, other dtype", `{${A},"a":${entry("I32", [1], 0, 4)}}`, 4, "st.duplicate");
reject(8, "duplicate name, first entry is nonsense", `{"a":${entry("F32", [9], 0, 36)},${A}}`, 4, "st.duplicate");
reject(8, "duplicate name, identical entries", `{${A},${A}}`, 4, "st.duplicate");
reject(9, "duplicate name through an escape", `{${A},"\\u0061":${entry("F32", [1], 0, 4)}}`, 4, "st.duplicate");
reject(9, "duplicate name through a surrogate pair", `{"\u{1f600}":${entry("U8", [1], 0, 1)},"\\ud83d\\ude00":${entry("U8", [1], 1, 2)}}`, 2, "st.duplicate");
reject(9, "duplicate dtype field", `{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4, "st.duplicate");
reject(9, "duplicate shape field through an escape", `{"a":{"dtype":"F32","shape":[1],"sh\\u0061pe":[1],"data_offsets":[0,4]}}`, 4, "st.duplicate");
reject(10, "duplicate __metadata__", '{"__metadata__":{},"__metadata__":{}}', 0, "st.duplicate");
reject(10, "duplicate __metadata__ through an escape", '{"__metadata__":{},"__metadat\\u0061__":{}}', 0, "st.duplicate");
reject(10, "duplicate key in metadata", '{"__metadata__":{"a":"1","a":"2"}}', 0, "st.duplicate");
for (const [label, value] of [
  ["null", "null"], ["array", "[]"], ["string", '"x"'], ["number", "1"], ["true", "true"], ["null value", '{"a":null}'], ["number value", '{"a":1}'], ["boolean value", '{"a":false}'],
  ["nested object", '{"a":{"b":"c"}}'], ["array value", '{"a":["b"]}'], ["__proto__ key", '{"__proto__":"x"}'],
])
  reject(10, `metadata: ${label}`, `{"__metadata__":${value}}`, 0, "st.metadata");

// Row 11: names.
for (const [label, name] of [
  ["empty", ""], ["__proto__", "__proto__"], ["escaped __proto__", "\\u005f_proto__"], ["escaped NUL", "a\\u0000b"], ["escaped line feed", "a\\nb"], ["escaped U+001F", "\\u001f"], ["DEL", "a\u007fb"], ["C1 control", "a\\u0085b"],
  ["U+202E override", "gpj.\u202eexe"], ["escaped U+202E", "gpj.\\u202eexe"], ["U+202A", "\u202aa"], ["U+2066 isolate", "a\u2066"], ["U+2069", "a\u2069"], ["513 characters", "n".repeat(513)],
])
  reject(11, `name: ${label}`, named(name), 4, "st.name");
const built = (before, repeated, times, after, data) => {
  const repeatedBytes = repeated.includes("{i}")
    ? Array.from({ length: times }, (_, i) => repeated.replaceAll("{i}", String(i)).length).reduce((a, b) => a + b, 0)
    : utf8(repeated).length * times;
  const size = utf8(before).length + repeatedBytes + utf8(after).length;
  return {
    build: [{ base64: b64(u64(size), utf8(before)) }, { text: repeated, times }, { base64: b64(utf8(after), zeros(data)) }],
  };
};
put(11, "name of one million characters", built('{"', "n", 1_000_000, `":${entry("F32", [1], 0, 4)}}`, 4), bad("st.name"));

// Rows 12-15: integers and shapes.
for (const value of ["-1", "-0", "+1", "1.0", "1e0", "1E0", '"1"', "NaN", "Infinity", "01", "00", "0x1", "1.", ".5", "null", "true", "[1]", "{}", "9007199254740992", "18446744073709551615", "1_0", "\u0661"]) {
  reject(12, `shape [${value}]`, one(`[${value}]`), 4, "st.integer");
  if (value !== "9007199254740992") reject(12, `offset ${value}`, one("[1]", `[0,${value}]`), 4, "st.integer");
}
reject(12, "shape with an empty element", one("[,1]"), 4, "st.integer");
for (const value of ["null", "1", '"1"', "{}"]) reject(12, `shape is ${value}`, one(value), 4, "st.shape");
reject(13, "shape product 2^32 x 2^32", one("[4294967296,4294967296]"), 4, "st.shape");
reject(13, "shape product 2^64 that would wrap to 0", one("[4294967296,4294967296,1]", "[0,0]"), 0, "st.shape");
reject(13, "shape product 2^53", one("[4294967296,2097152]"), 4, "st.shape");
reject(13, "overflow hidden by a zero at the end", one("[4294967296,4294967296,0]", "[0,0]"), 0, "st.shape");
reject(13, "overflow hidden by a zero at the start", one("[0,4294967296,4294967296]", "[0,0]"), 0, "st.shape");
reject(13, "[2^64-1,2,0]", one("[18446744073709551615,2,0]", "[0,0]"), 0, "st.integer");
reject(13, "[0,2^64-1]", one("[0,18446744073709551615]", "[0,0]"), 0, "st.integer");
reject(13, "dimension 2^32 + 1", one("[0,4294967297]", "[0,0]"), 0, "st.shape");
reject(13, "byte size above 2^53 though the count is below", one("[4294967296,2097151]"), 4, "st.size");
reject(14, "offset 2^53 + 1 that rounds to 2^53", one("[1]", "[0,9007199254740993]"), 4, "st.integer");
reject(14, "offsets above 2^53 that cancel out", one("[1]", "[9007199254740992,9007199254740996]"), 4, "st.integer");
reject(14, "offset 2^53 - 1 is an integer but not a size", one("[1]", "[0,9007199254740991]"), 4, "st.size");
reject(15, "rank 9", one("[1,1,1,1,1,1,1,1,1]"), 4, "st.shape");
put(15, "rank 100 000", built('{"a":{"dtype":"F32","shape":[', "1,", 99_999, '1],"data_offsets":[0,4]}}', 4), bad("st.shape"));
reject(15, "200 arrays deep in place of a tensor", `{"a":${"[".repeat(200)}${"]".repeat(200)}}`, 0, "st.entry");
reject(15, "200 arrays deep in a shape", one(`${"[".repeat(200)}${"]".repeat(200)}`), 4, "st.integer");
reject(15, "200 objects deep in metadata", `{"__metadata__":${'{"a":'.repeat(200)}"x"${"}".repeat(200)}}`, 0, "st.metadata");
put(15, "one million arrays deep in an unknown field", built('{"a":{"x":', "[", 1_000_000, "", 0), bad("st.entry"));

// Entries.
for (const [label, value] of [
  ["null", "null"], ["array", "[]"], ["string", '"F32"'], ["number", "4"], ["empty object", "{}"], ["no dtype", '{"shape":[1],"data_offsets":[0,4]}'], ["no shape", '{"dtype":"F32","data_offsets":[0,4]}'],
  ["no offsets", '{"dtype":"F32","shape":[1]}'], ["extra field", '{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}'], ["__proto__ field", '{"dtype":"F32","shape":[1],"__proto__":{},"data_offsets":[0,4]}'], ["field in capitals", '{"Dtype":"F32","shape":[1],"data_offsets":[0,4]}'],
])
  reject(0, `entry: ${label}`, `{"a":${value}}`, 4, "st.entry");

// Row 16: tiling.
const two = (a, b) => `{"a":${entry("U8", [a[1] - a[0]], ...a)},"b":${entry("U8", [b[1] - b[0]], ...b)}}`;
reject(16, "hole", two([0, 4], [6, 10]), 10, "st.offsets");
reject(16, "overlap", two([0, 4], [2, 6]), 6, "st.offsets");
reject(16, "alias: two names for the same bytes", two([0, 4], [0, 4]), 4, "st.offsets");
reject(16, "tensor inside another", two([0, 8], [2, 4]), 8, "st.offsets");
reject(16, "empty tensor inside another", two([0, 8], [4, 4]), 8, "st.offsets");
reject(16, "empty tensor beyond the end", two([0, 4], [8, 8]), 4, "st.offsets");
reject(16, "first offset is not 0", one("[1]", "[4,8]"), 8, "st.offsets");
reject(16, "begin > end", one("[1]", "[4,0]"), 4, "st.offsets");
for (const [label, offsets] of [["three offsets", "[0,4,8]"], ["one offset", "[4]"], ["no offsets", "[]"], ["offsets are a number", "4"], ["offsets are null", "null"], ["offsets are an object", "{}"]])
  reject(16, label, one("[1]", offsets), 4, "st.offsets");

// Rows 17-18: the data.
reject(17, "one trailing byte", `{${A}}`, 5, "st.trailing_data");
reject(17, "ZIP end record after the last tensor", `{${A}}`, Buffer.concat([zeros(4), Buffer.from("504b0506", "hex"), zeros(18)]), "st.trailing_data");
reject(17, "bytes after a header without tensors", "{}", 1, "st.trailing_data");
reject(18, "data cut by one byte", `{${A}}`, 3, "st.truncated");
reject(18, "no data at all", `{${A}}`, 0, "st.truncated");
reject(18, "last of two tensors missing", two([0, 4], [4, 8]), 4, "st.truncated");
reject(18, "shape too small for its bytes", one("[1]", "[0,8]"), 8, "st.size");
reject(18, "shape too large for its bytes", one("[3]", "[0,8]"), 8, "st.size");
reject(18, "shape has a zero but bytes are there", one("[4,0]", "[0,4]"), 4, "st.size");
reject(18, "no bytes but a shape of one", one("[1]", "[0,0]"), 0, "st.size");
reject(18, "F4 with an odd count", one("[3]", "[0,2]", '"F4"'), 2, "st.size");
reject(18, "F6 with a count of two", one("[2]", "[0,2]", '"F6_E2M3"'), 2, "st.size");
for (const dtype of ['"f32"', '"F128"', '""', '"F32 "', '"float32"', '"__proto__"', '"constructor"', '"toString"', "null", "1", '["F32"]', "{}", "true"])
  reject(18, `dtype ${dtype}`, one("[1]", "[0,4]", dtype), 4, "st.dtype");

// Row 19: size.
put(19, "50 000 tensors", built("{", '"layers.{i}.w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},', 50_000, `"z":${entry("U8", [1], 0, 1)}}`, 1), { ok: true, parameters: 1 });
put(19, "header of exactly 25 000 000 bytes", { build: [{ base64: b64(u64(25_000_000), utf8("{}")) }, { text: " ", times: 24_999_998 }] }, { ok: true, parameters: 0 });
put(19, "header of 60 000 000 bytes", { build: [{ base64: b64(u64(60_000_000), utf8("{}")) }, { text: " ", times: 59_999_998 }] }, bad("st.header_too_large"));

const indexes = [];
const index = (row, name, text, shards, verdict) => indexes.push({ name, row, text, shards, ...verdict });
const shardA = "model-00001-of-00002.safetensors";
const shardB = "model-00002-of-00002.safetensors";
const both = { [shardA]: { a: 4 }, [shardB]: { b: 8 } };
const text = (weightMap, total = 12) => JSON.stringify({ metadata: { total_size: total }, weight_map: weightMap });
const fine = { a: shardA, b: shardB };
const good = (...warnings) => ({ ok: true, warnings });
index(0, "two shards", text(fine), both, good());
index(0, "no metadata", JSON.stringify({ weight_map: fine }), both, good());
index(0, "other metadata is kept out of the way", JSON.stringify({ metadata: { total_size: 12, total_parameters: 3, mergekit: { deep: [1, 2.5, null] } }, weight_map: fine }), both, good());
for (const shard of ["../../x/y.safetensors", "/etc/passwd", "/x.safetensors", "C:\\x.safetensors", "C:x.safetensors", "a\\..\\b.safetensors", "%2e%2e/x.safetensors", "%2e%2e%2fx.safetensors", "a/b.safetensors", "..", ".", "", "a\u0000.safetensors", "\u202ex.safetensors", ".git", "con.safetensors"])
  index(20, `shard ${JSON.stringify(shard)}`, text({ a: shard }), { [shard]: { a: 12 } }, bad("st.index_path"));
index(21, "missing shard", text(fine), { [shardA]: { a: 4 } }, bad("st.index_missing_shard"));
for (const shard of ["pytorch_model.bin", "model.pt", "model.safetensors.bin", "model.SAFETENSORS"])
  index(21, `shard ${shard}`, text({ a: shard }), { [shard]: { a: 12 } }, bad("st.index_shard_type"));
index(21, "tensor not in its shard", text({ a: shardA, b: shardA }), both, bad("st.index_missing_tensor"));
index(22, "total_size is wrong", text(fine, 13), both, good("st.index_total_size"));
index(22, "tensor in two shards", text(fine), { [shardA]: { a: 4 }, [shardB]: { a: 4, b: 8 } }, bad("st.index_duplicate"));
index(22, "tensor twice in weight_map", `{"weight_map":{"a":"${shardA}","\\u0061":"${shardB}"}}`, both, bad("st.index_duplicate"));
index(22, "weight_map twice", `{"weight_map":{"a":"${shardA}"},"weight_map":{"a":"${shardA}"}}`, both, bad("st.index_duplicate"));
index(22, "tensor that the index does not list", text({ a: shardA, b: shardB }), { [shardA]: { a: 4 }, [shardB]: { b: 8, c: 1 } }, good("st.index_unlisted_tensor"));
for (const [label, value] of [["empty", ""], ["array", "[]"], ["no weight_map", "{}"], ["weight_map is null", '{"weight_map":null}'], ["weight_map value is a number", '{"weight_map":{"a":1}}'], ["weight_map is empty", '{"weight_map":{}}'],
  ["trailing text", '{"weight_map":{"a":"x.safetensors"}}x'], ["metadata is a list", '{"metadata":[],"weight_map":{"a":"x.safetensors"}}'], ["metadata 10 000 deep", `{"metadata":{"x":${"[".repeat(10_000)}${"]".repeat(10_000)}},"weight_map":{"a":"x.safetensors"}}`],
  ["total_size is a string", '{"metadata":{"total_size":"12"},"weight_map":{"a":"x.safetensors"}}'], ["lone surrogate", '{"weight_map":{"\\ud800":"x.safetensors"}}'], ["tensor name is __proto__", '{"weight_map":{"__proto__":"x.safetensors"}}'], ["tensor name is empty", '{"weight_map":{"":"x.safetensors"}}']])
  index(0, `index: ${label}`, value, { "x.safetensors": { a: 4 } }, bad("st.index_json"));

const names = new Set();
for (const { name } of files.concat(indexes)) {
  if (names.has(name)) throw new Error(`two vectors are named ${name}`);
  names.add(name);
}
const lines = (items) => items.map((item) => `    ${JSON.stringify(item)}`).join(",\n");
writeFileSync(
  new URL("./safetensors.json", import.meta.url),
  `{\n  "$comment": ${JSON.stringify(COMMENT, null, 2).replaceAll("\n", "\n  ")},\n  "files": [\n${lines(files)}\n  ],\n  "indexes": [\n${lines(indexes)}\n  ]\n}\n`,
);
