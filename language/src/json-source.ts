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
  | { readonly kind: "error"; readonly line: number; readonly message: string };

function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let index = 0; index < offset && index < text.length; index += 1) if (text[index] === "\n") line += 1;
  return line;
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

function duplicatesIn(node: Node, path: readonly PropertyKey[], text: string): readonly Duplicate[] {
  const children = node.children ?? [];
  if (node.type === "array") {
    return children.flatMap((child, index) => duplicatesIn(child, [...path, index], text));
  }
  if (node.type !== "object") return [];
  const seen = new Set<string>();
  return children.flatMap((member) => {
    const [name, value] = member.children ?? [];
    const here = [...path, String(name?.value)];
    const isSecond = seen.has(String(name?.value));
    seen.add(String(name?.value));
    const second = isSecond ? [{ path: here, line: lineAt(text, member.offset) }] : [];
    return [...second, ...(value === undefined ? [] : duplicatesIn(value, here, text))];
  });
}

function explain({ error }: ParseError): string {
  // `CommaExpected` -> `comma expected`.
  return printParseErrorCode(error)
    .replaceAll(/(?<=[a-z])[A-Z]/g, " $&")
    .toLowerCase();
}

/** The line at which the text is nested too deeply; null: nowhere. The parser itself goes by recursion. */
function tooDeepAt(text: string): number | null {
  const scanner = createScanner(text, true);
  let depth = 0;
  // The end has no length.
  for (scanner.scan(); scanner.getTokenLength() > 0; scanner.scan()) {
    if (scanner.getTokenLength() > 1) continue;
    const at = scanner.getTokenOffset();
    const token = text.charAt(at);
    if (token === "{" || token === "[") depth += 1;
    if (token === "}" || token === "]") depth -= 1;
    if (depth > DEPTH_MAX) return lineAt(text, at);
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

export function readJsonSource(text: string): JsonSource {
  const deepLine = tooDeepAt(text);
  if (deepLine !== null) {
    return { kind: "error", line: deepLine, message: `nested more deeply than the limit ${DEPTH_MAX}` };
  }
  const errors: ParseError[] = [];
  const root = parseTree(text, errors, { allowTrailingComma: true });
  const [first] = errors;
  if (first !== undefined || root === undefined) {
    const offset = first?.offset ?? text.length;
    return {
      kind: "error",
      line: lineAt(text, offset),
      message: first === undefined ? "empty" : explain(first),
    };
  }
  return {
    kind: "value",
    value: toValue(root),
    duplicates: duplicatesIn(root, [], text),
    lineOf(path) {
      const segments =
        typeof path === "string" ? segmentsOf(path) : path.filter((step) => typeof step !== "symbol");
      for (let length = segments.length; length > 0; length -= 1) {
        const node = findNodeAtLocation(root, segments.slice(0, length));
        if (node !== undefined) return lineAt(text, node.offset);
      }
      return lineAt(text, root.offset);
    },
  };
}
