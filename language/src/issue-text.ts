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

/** @param root what `schema` was given */
export function issueText(issue: z.core.$ZodIssue, schema: z.ZodType, root: unknown): string {
  if (issue.code === "unrecognized_keys") {
    const known = knownMembers(schema, issue.path);
    return issue.keys.map((key) => `unknown member ${JSON.stringify(key)}${near(key, known)}`).join("; ");
  }
  const value = valueAt(root, issue.path);
  if (value === undefined) return `${issue.message} (it is missing)`;
  if (Array.isArray(value) && issue.code === "too_small")
    return `too few: at least ${issue.minimum}, not ${value.length}`;
  if (Array.isArray(value) && issue.code === "too_big") return `${issue.message}: ${value.length}`;
  const text = valueText(value);
  const message = issue.message.includes(text) ? issue.message : `${issue.message}, not ${text}`;
  if (issue.code !== "invalid_value" || typeof value !== "string") return message;
  return message + near(value, issue.values.map(String));
}
