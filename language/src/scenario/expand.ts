/**
 * One scenario file, several scenarios: `each` names dimensions and their values, the product is expanded.
 *
 * `"each": { "access": { "load": "load 0x1000 8", "store": "store 0x1000 8 0x5a" } }`
 * - `{access}` in any text becomes the value's text, `{access.name}` its name (`load`);
 * - in `id`, `{access}` is the name; dimensions that the id does not mention are appended to it with `-`;
 * - a value may be an object of several: `{access.step}`; a text that is one placeholder takes the value as it is, lists too;
 * - a list of texts is short for names that are their own values.
 * Text is replaced in texts only, never in names of members.
 */
import { EXPANSIONS_MAX } from "./limits.ts";
import type { Problems } from "./problem.ts";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

type Value = { readonly name: string; readonly text: Json; readonly fields: Readonly<Record<string, Json>> };
type Dimension = { readonly name: string; readonly values: readonly Value[] };
type Choice = ReadonlyMap<string, Value>;

const NAME = /^[a-z0-9][a-z0-9.-]*$/;
const PLACEHOLDER = /\{([a-z]+)(?:\.([a-z]+))?\}/g;

function isObject(value: Json | undefined): value is { readonly [name: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function toValue(name: string, value: Json): Value {
  if (isObject(value)) return { name, text: name, fields: value };
  return { name, text: value, fields: {} };
}

/** As part of a text or of an id; what is no text shows what it is. */
function plainText(value: Json): string {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function readDimension(name: string, values: Json, problems: Problems): Dimension | null {
  const at = `each.${name}`;
  const entries: readonly (readonly [string, Json])[] = isObject(values)
    ? Object.entries(values)
    : Array.isArray(values)
      ? (values as readonly Json[]).map((value) => [plainText(value), value] as const)
      : [];
  if (entries.length === 0) {
    problems.add(at, "must be a list of texts or an object of named values, with at least one");
    return null;
  }
  for (const [valueName] of entries) {
    if (!NAME.test(valueName)) {
      problems.add(
        at,
        `${JSON.stringify(valueName)} becomes part of an id: only a-z, 0-9, - and . are allowed; give it a name`,
      );
      return null;
    }
  }
  return { name, values: entries.map(([valueName, value]) => toValue(valueName, value)) };
}

function product(dimensions: readonly Dimension[]): readonly Choice[] {
  let choices: readonly Choice[] = [new Map()];
  for (const dimension of dimensions) {
    choices = choices.flatMap((choice) =>
      dimension.values.map((value) => new Map([...choice, [dimension.name, value]])),
    );
  }
  return choices;
}

/** The value of a placeholder, or null (reported) where nothing of that name exists. */
function resolve(
  choice: Choice,
  dimension: string,
  field: string | undefined,
  at: string,
  problems: Problems,
): Json {
  const value = choice.get(dimension);
  const found = field === undefined ? value?.text : field === "name" ? value?.name : value?.fields[field];
  if (found !== undefined) return found;
  const placeholder = `{${dimension}${field === undefined ? "" : `.${field}`}}`;
  problems.add(at, `${placeholder} is defined nowhere in "each"`);
  return "";
}

function substituteText(text: string, choice: Choice, at: string, problems: Problems): Json {
  const whole = /^\{([a-z]+)(?:\.([a-z]+))?\}$/.exec(text);
  if (whole !== null) return resolve(choice, whole[1] ?? "", whole[2], at, problems);
  return text.replaceAll(PLACEHOLDER, (_match, dimension: string, field: string | undefined) =>
    plainText(resolve(choice, dimension, field, at, problems)),
  );
}

function substitute(value: Json, choice: Choice, at: string, problems: Problems): Json {
  if (typeof value === "string") return substituteText(value, choice, at, problems);
  if (Array.isArray(value)) {
    return (value as readonly Json[]).map((item, index) =>
      substitute(item, choice, `${at}[${index}]`, problems),
    );
  }
  if (!isObject(value)) return value;
  const result: Record<string, Json> = {};
  for (const [name, member] of Object.entries(value)) {
    result[name] = substitute(member, choice, at === "" ? name : `${at}.${name}`, problems);
  }
  return result;
}

function expandId(id: string, choice: Choice): string {
  const mentioned = new Set<string>();
  const named = id.replaceAll(PLACEHOLDER, (match, dimension: string, field: string | undefined) => {
    const value = choice.get(dimension);
    if (value === undefined) return match;
    mentioned.add(dimension);
    return field === undefined || field === "name" ? value.name : plainText(value.fields[field] ?? match);
  });
  const rest = [...choice].filter(([dimension]) => !mentioned.has(dimension)).map(([, value]) => value.name);
  return [named, ...rest].join("-");
}

/** The scenarios that one file stands for, still unchecked. Without `each`: itself. */
export function expand(file: Json, problems: Problems): readonly Json[] {
  if (!isObject(file)) return [file];
  const { each, ...template } = file;
  if (each === undefined) return [file];
  if (!isObject(each)) {
    problems.add("each", "must be an object of dimensions");
    return [];
  }
  const dimensions: Dimension[] = [];
  let count = 1;
  for (const [name, values] of Object.entries(each)) {
    if (!/^[a-z]+$/.test(name)) problems.add(`each.${name}`, "the name of a dimension is a-z only");
    const dimension = readDimension(name, values, problems);
    if (dimension === null) return [];
    dimensions.push(dimension);
    count *= dimension.values.length;
  }
  if (count > EXPANSIONS_MAX) {
    problems.add("each", `stands for ${count} scenarios, more than the limit ${EXPANSIONS_MAX}`);
    return [];
  }
  return product(dimensions).map((choice) => {
    const body = substitute(template, choice, "", problems);
    const id = typeof template.id === "string" ? expandId(template.id, choice) : template.id;
    return isObject(body) && id !== undefined ? { ...body, id } : body;
  });
}
