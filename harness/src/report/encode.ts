/**
 * Data as text that is safe to show: no control character, no escape sequence, nothing that turns the direction of
 * writing. It comes from records, command lines and the machine. Data is encoded before it is laid out and coloured; the
 * escape sequences of `style.ts` are the only ones that reach a terminal. What a target needs beyond that is one function
 * each: `escapeMarkup` (HTML, SVG, XML), `markdownEscape` and `markdownCode`, `ktapPlain`, `shellWord`, `cComment` and `cString`.
 */

/** Controls (C0, DEL, C1), lone surrogates, line and paragraph separators, marks and overrides of direction. */
const unsafe = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;
const blanks: ReadonlySet<string> = new Set(["\t", "\n", "\v", "\f", "\r"]);

function codeText(sign: string): string {
  const code = sign.codePointAt(0) ?? 0;
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}

/** One line: white space is a blank, other controls are visible as `\x1b`. */
export function visible(text: string): string {
  return text.replaceAll(unsafe, (sign) => (blanks.has(sign) ? " " : codeText(sign)));
}

/** Text of several lines, for messages and files: line ends and tabs stay. */
export function visibleLines(text: string): string {
  return text.replaceAll(unsafe, (sign) => (sign === "\n" || sign === "\t" ? sign : codeText(sign)));
}

/** Of a line of a message, and of its lines: what quotes a user's file must not be as long as the file. */
const MESSAGE_LENGTH_MAX = 1000;
const MESSAGE_LINES_MAX = 60;

function shortened(line: string): string {
  if (line.length <= MESSAGE_LENGTH_MAX) return line;
  const half = MESSAGE_LENGTH_MAX / 2;
  const left = line.length - MESSAGE_LENGTH_MAX;
  // A pair of surrogates may have been cut.
  return visibleLines(`${line.slice(0, half)} .. ${left} characters .. ${line.slice(-half)}`);
}

/** A message on standard error: as `visibleLines`, and never longer than a person reads. */
export function messageText(text: string): string {
  const lines = visibleLines(text).split("\n");
  const more = lines.length - MESSAGE_LINES_MAX;
  const shown = lines.slice(0, MESSAGE_LINES_MAX).map(shortened);
  return [...shown, ...(more > 0 ? [`.. ${more} more lines`] : [])].join("\n");
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function encodeObject(value: object, encode: (one: unknown) => unknown): object {
  if (Array.isArray(value)) {
    const items = value.map(encode);
    return items.some((item, index) => item !== value[index]) ? items : value;
  }
  if (!isPlain(value)) return value;
  const entries = Object.entries(value);
  const encoded = entries.map(([name, one]) => [visible(name), encode(one)] as const);
  const isSame = encoded.every(
    ([name, one], index) => name === entries[index]?.[0] && one === entries[index]?.[1],
  );
  return isSame ? value : Object.fromEntries(encoded);
}

/** The data with every string in it, names of members too, made visible. What holds nothing unsafe is returned as it is. */
export function visibleData<Data>(data: Data): Data {
  const known = new WeakMap<object, object>();
  const encode = (one: unknown): unknown => {
    if (typeof one === "string") return visible(one);
    if (typeof one !== "object" || one === null) return one;
    const earlier = known.get(one);
    if (earlier !== undefined) return earlier;
    const encoded = encodeObject(one, encode);
    known.set(one, encoded);
    return encoded;
  };
  return encode(data) as Data;
}

/** JSON that is the same data: JSON.stringify escapes C0 only. */
export function jsonText(value: unknown, indent = 0): string {
  const escapeSign = (sign: string): string =>
    sign === "\n" ? sign : `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(value, null, indent).replaceAll(unsafe, escapeSign);
}
