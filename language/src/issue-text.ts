/** What a schema has found, as a message with the value and what comes nearest to it. zod's own words name neither. */
import { z } from "zod";
import { nearest } from "./nearest.ts";

const VALUE_LENGTH_MAX = 60;

function valueText(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > VALUE_LENGTH_MAX ? `${text.slice(0, VALUE_LENGTH_MAX)}..` : text;
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const step of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[step];
  }
  return value;
}

/** The schema without what wraps it: optional, default, nullable, transformed. */
function bare(schema: unknown): unknown {
  let inner = schema;
  for (;;) {
    if (inner instanceof z.ZodOptional || inner instanceof z.ZodDefault || inner instanceof z.ZodNullable) {
      inner = inner.unwrap();
    } else if (inner instanceof z.ZodPipe) inner = inner.in;
    else return inner;
  }
}

/** The schemas of a member; several where it is a union's. */
function below(schema: unknown, step: PropertyKey): readonly unknown[] {
  const here = bare(schema);
  if (here instanceof z.ZodObject) return [(here.shape as Record<PropertyKey, unknown>)[step]];
  if (here instanceof z.ZodArray) return [here.element];
  if (here instanceof z.ZodRecord) return [here.valueType];
  if (here instanceof z.ZodUnion) return here.options.flatMap((option) => below(option, step));
  return [];
}

function membersOf(schema: unknown): readonly string[] {
  const here = bare(schema);
  if (here instanceof z.ZodObject) return Object.keys(here.shape);
  return here instanceof z.ZodUnion ? here.options.flatMap(membersOf) : [];
}

/** The members that the schema has at a path. */
function knownMembers(schema: unknown, path: readonly PropertyKey[]): readonly string[] {
  let schemas: readonly unknown[] = [schema];
  for (const step of path) schemas = schemas.flatMap((one) => below(one, step));
  return [...new Set(schemas.flatMap(membersOf))];
}

function near(word: string, known: readonly string[]): string {
  return known.length === 0 ? "" : `; nearest: ${nearest(word, known).join(", ")}`;
}

const wanted: Readonly<Partial<Record<string, string>>> = {
  array: "a list",
  int: "a whole number",
  object: "an object",
  record: "an object",
};

const wantedText = (expected: string): string => wanted[expected] ?? `a ${expected}`;

/** How much too small or too big, where the schema has no words of its own for that. */
function sizeProblem(
  issue: z.core.$ZodIssueTooSmall | z.core.$ZodIssueTooBig,
  value: unknown,
): string | null {
  const limit = issue.code === "too_big" ? `at most ${issue.maximum}` : `at least ${issue.minimum}`;
  const isOwn = !issue.message.startsWith("Too ");
  if (Array.isArray(value)) return `${isOwn ? issue.message : limit}, not ${value.length}`;
  if (isOwn) return null;
  if (typeof value === "string") return `${limit} characters, not the ${value.length} of ${valueText(value)}`;
  return `${limit}, not ${valueText(value)}`;
}

/** @param root what `schema` was given */
export function issueText(issue: z.core.$ZodIssue, schema: z.ZodType, root: unknown): string {
  if (issue.code === "unrecognized_keys") {
    const known = knownMembers(schema, issue.path);
    return issue.keys.map((key) => `unknown member ${JSON.stringify(key)}${near(key, known)}`).join("; ");
  }
  if (issue.code === "invalid_key")
    return `${valueText(issue.path.at(-1))}: ${issue.issues.map(({ message }) => message).join("; ")}`;
  const value = valueAt(root, issue.path);
  const isType = issue.code === "invalid_type";
  if (value === undefined)
    return `${isType ? `${wantedText(issue.expected)} is wanted` : issue.message} (it is missing)`;
  if (isType) return `${wantedText(issue.expected)} is wanted, not ${valueText(value)}`;
  const ofSize = issue.code === "too_big" || issue.code === "too_small" ? sizeProblem(issue, value) : null;
  if (ofSize !== null) return ofSize;
  const text = valueText(value);
  const message = issue.message.includes(text) ? issue.message : `${issue.message}, not ${text}`;
  if (issue.code !== "invalid_value" || typeof value !== "string") return message;
  return message + near(value, issue.values.map(String));
}
