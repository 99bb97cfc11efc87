/**
 * JSON as people write it, comments and trailing commas included, with the line of everything in it.
 * For files that users write; what programs write is read with JSON.parse.
 */
import { findNodeAtLocation, type Node, type ParseError, parseTree, printParseErrorCode } from "jsonc-parser";

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

export function readJsonSource(text: string): JsonSource {
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
