/**
 * JSON as people write it, comments and trailing commas included, with the line of everything in it.
 * For files that users write; what programs write is read with JSON.parse.
 */
import {
  createScanner,
  findNodeAtLocation,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from "jsonc-parser";

/** Levels of lists and objects in one another: three times what any file of ours has. */
export const DEPTH_MAX = 32;

/** Words, numbers, brackets and signs of one file: five times what any file of ours has. */
export const TOKENS_MAX = 500_000;

export type Duplicate = { readonly path: readonly PropertyKey[]; readonly line: number };

export type JsonSource =
  | {
      readonly kind: "value";
      readonly value: unknown;
      /** Members that their object has before already; of two, `value` holds the second. */
      readonly duplicates: readonly Duplicate[];
      /** Line (from 1) of a member, such as `actors.victim.steps[2]`, or of what is nearest around it. */
      lineOf(path: string | readonly PropertyKey[]): number;
    }
  | JsonError;

/** Where a text stops being JSON. Line and column from 1; a column is a character, whatever its length in bytes. */
export type JsonError = {
  readonly kind: "error";
  readonly line: number;
  readonly column: number;
  readonly message: string;
};

export function jsonErrorText(file: string, { line, column, message }: JsonError): string {
  return `${file}:${line}:${column}: not JSON: ${message}`;
}

/** From offsets in a text to lines and columns (from 1). */
class Lines {
  /** Offsets of line ends. */
  readonly #ends: readonly number[];
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
    const ends: number[] = [];
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) ends.push(at);
    this.#ends = ends;
  }

  at(offset: number): number {
    let [low, high] = [0, this.#ends.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] ?? 0) < offset) low = middle + 1;
      else high = middle;
    }
    return low + 1;
  }

  error(offset: number, message: string): JsonError {
    const line = this.at(offset);
    const start = line === 1 ? 0 : (this.#ends[line - 2] ?? 0) + 1;
    return { kind: "error", line, column: [...this.#text.slice(start, offset)].length + 1, message };
  }
}

/** `actors.victim.steps[2]` -> `["actors", "victim", "steps", 2]`. */
function segmentsOf(path: string): (string | number)[] {
  const found = path.matchAll(/\[(\d+)\]|([^.[\]]+)/g);
  return [...found].map(([, index, name]) => (index === undefined ? (name ?? "") : Number(index)));
}

function toValue(node: Node): unknown {
  switch (node.type) {
    case "object": {
      // Without a prototype, so that a member called __proto__ is one like any other.
      const result: Record<string, unknown> = Object.create(null);
      for (const member of node.children ?? []) {
        const [name, value] = member.children ?? [];
        if (name !== undefined && value !== undefined) result[String(name.value)] = toValue(value);
      }
      return { ...result };
    }
    case "array":
      return (node.children ?? []).map(toValue);
    default:
      return node.value;
  }
}

function duplicatesIn(node: Node, path: readonly PropertyKey[], lines: Lines): readonly Duplicate[] {
  const children = node.children ?? [];
  if (node.type === "array") {
    return children.flatMap((child, index) => duplicatesIn(child, [...path, index], lines));
  }
  if (node.type !== "object") return [];
  const seen = new Set<string>();
  return children.flatMap((member) => {
    const [name, value] = member.children ?? [];
    const here = [...path, String(name?.value)];
    const isSecond = seen.has(String(name?.value));
    seen.add(String(name?.value));
    const second = isSecond ? [{ path: here, line: lines.at(member.offset) }] : [];
    return [...second, ...(value === undefined ? [] : duplicatesIn(value, here, lines))];
  });
}

function explain({ error }: ParseError): string {
  // `CommaExpected` -> `comma expected`.
  return printParseErrorCode(error)
    .replaceAll(/(?<=[a-z])[A-Z]/g, " $&")
    .toLowerCase();
}

type Excess = { readonly offset: number; readonly message: string };

/** Where the text is nested too deeply, or has too much in it; null: nowhere. The parser itself goes by recursion. */
function excessIn(text: string): Excess | null {
  const scanner = createScanner(text, true);
  let depth = 0;
  let tokens = 0;
  // The end has no length.
  for (scanner.scan(); scanner.getTokenLength() > 0; scanner.scan()) {
    const offset = scanner.getTokenOffset();
    tokens += 1;
    if (tokens > TOKENS_MAX)
      return { offset, message: `more than the limit of ${TOKENS_MAX} words and signs` };
    if (scanner.getTokenLength() > 1) continue;
    const token = text.charAt(offset);
    if (token === "{" || token === "[") depth += 1;
    if (token === "}" || token === "]") depth -= 1;
    if (depth > DEPTH_MAX) return { offset, message: `nested more deeply than the limit ${DEPTH_MAX}` };
  }
  return null;
}

/** The same of JSON that a program wrote, without comments: is it nested too deeply? A record has many megabytes of it. */
export function isTooDeep(text: string): boolean {
  let depth = 0;
  let inString = false;
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index];
    if (inString && character === "\\") index += 1;
    else if (character === '"') inString = !inString;
    else if (!inString && (character === "{" || character === "[")) depth += 1;
    else if (!inString && (character === "}" || character === "]")) depth -= 1;
    if (depth > DEPTH_MAX) return true;
  }
  return false;
}

/** What is wrong with a text that JSON.parse has refused, whose own message is another in each version of Node.js. */
export function jsonError(text: string): JsonError {
  const errors: ParseError[] = [];
  const lines = new Lines(text);
  if (!isTooDeep(text)) parseTree(text, errors, { disallowComments: true });
  const [first] = errors;
  return first === undefined ? lines.error(0, "no JSON value") : lines.error(first.offset, explain(first));
}

export function readJsonSource(text: string): JsonSource {
  const lines = new Lines(text);
  const excess = excessIn(text);
  if (excess !== null) return lines.error(excess.offset, excess.message);
  const errors: ParseError[] = [];
  const root = parseTree(text, errors, { allowTrailingComma: true });
  const [first] = errors;
  if (first !== undefined || root === undefined) {
    return first === undefined
      ? lines.error(text.length, "empty")
      : lines.error(first.offset, explain(first));
  }
  return {
    kind: "value",
    value: toValue(root),
    duplicates: duplicatesIn(root, [], lines),
    lineOf(path) {
      const segments =
        typeof path === "string" ? segmentsOf(path) : path.filter((step) => typeof step !== "symbol");
      for (let length = segments.length; length > 0; length -= 1) {
        const node = findNodeAtLocation(root, segments.slice(0, length));
        if (node !== undefined) return lines.at(node.offset);
      }
      return lines.at(root.offset);
    },
  };
}
