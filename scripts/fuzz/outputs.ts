/**
 * What every output must keep, whatever the input was: nothing of an input gets out of its place in a terminal, a page,
 * a summary, JUnit, KTAP, JSON lines or a script. Each check returns what is wrong, or null.
 */
import { parseXml, type XmlElement } from "./xml.ts";

/** Controls, lone surrogates, separators of lines, overrides of direction. The line end is looked at by each format. */
const unsafe = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/u;

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 120));
}

function unsafeIn(text: string, allowed: RegExp): string | null {
  const plain = text.replaceAll(allowed, "");
  const at = plain.search(unsafe);
  return at < 0 ? null : `a control character: ${shown(plain.slice(Math.max(0, at - 30), at + 30))}`;
}

/** A line longer than this is a file, not a message. */
const LINE_LENGTH_MAX = 4000;
const STDERR_LENGTH_MAX = 64 * 1024;

const stack = /^\s+at (?:.*\()?(?:file:|node:|\/).*:\d+:\d+\)?$/m;

/** What a person sees: no control character, no stack, no whole file. */
export function terminalProblem(text: string): string | null {
  const control = unsafeIn(text, /[\n\t]/g);
  if (control !== null) return control;
  if (stack.test(text)) return `a stack: ${shown(text)}`;
  if (text.includes("this is a defect of daxfault")) return `a defect: ${shown(text)}`;
  if (text.includes("[object Object]")) return `an object as text: ${shown(text)}`;
  return null;
}

export function stderrProblem(text: string): string | null {
  const long = text.split("\n").find((line) => line.length > LINE_LENGTH_MAX);
  if (long !== undefined) return `a message of ${long.length} characters: ${shown(long)}`;
  if (text.length > STDERR_LENGTH_MAX) return `messages of ${text.length} characters`;
  return terminalProblem(text);
}

/** The message of a refusal begins with our name and says something. */
export function refusalProblem(stderr: string): string | null {
  return /^daxfault: ./.test(stderr) ? null : `64 without a message: ${shown(stderr)}`;
}

const elements: ReadonlySet<string> = new Set(
  (
    "a b body br button circle clippath code defs details div footer form g h1 h2 h3 head header html input label li line main meta " +
    "nav ol option output p path pre rect section select small span style summary svg table tbody td text th thead title tr tspan ul use"
  ).split(" "),
);
const markupTag =
  /<(\/?)([a-zA-Z][a-zA-Z0-9-]*)((?:\s+[a-zA-Z_:][-a-zA-Z0-9_:.]*(?:="[^"]*")?)*)\s*\/?>|<!doctype html>/gy;
const activeAttribute = /\s(?:on[a-z]+|srcdoc|formaction|action|src|xlink:href)\s*=/i;
const link = /\shref="(?!#|https:\/\/)[^"]*"/i;

/** One page: known elements only, one script that is named by its hash, no attribute that acts, no link but to places. */
export function htmlProblem(page: string): string | null {
  const control = unsafeIn(page, /[\n\t]/g);
  if (control !== null) return control;
  const scripts = [...page.matchAll(/<script\b/gi)].length;
  if (scripts > 1) return `${scripts} scripts`;
  const body = page
    .replace(/<script>[\s\S]*?<\/script>/, "")
    .replace(/<style>[\s\S]*?<\/style>/, "<style></style>");
  for (let at = body.indexOf("<"); at >= 0; at = body.indexOf("<", at + 1)) {
    markupTag.lastIndex = at;
    const found = markupTag.exec(body);
    if (found === null) return `no tag: ${shown(body.slice(at))}`;
    const [, , name, attributes = ""] = found;
    if (name === undefined) continue;
    if (!elements.has(name.toLowerCase())) return `an element <${name}>: ${shown(found[0])}`;
    if (activeAttribute.test(attributes.replaceAll(/="[^"]*"/g, "=")))
      return `an attribute that acts: ${shown(found[0])}`;
    if (link.test(attributes)) return `a link: ${shown(found[0])}`;
  }
  return null;
}

function countsProblem(suite: XmlElement): string | null {
  const suites = suite.children.filter(({ name }) => name === "testsuite");
  const cases = suites.reduce((sum, { children }) => sum + children.length, 0);
  const tests = suite.attributes.get("tests");
  return tests === String(cases) ? null : `tests="${tests}" of ${cases} cases`;
}

export function junitProblem(text: string): string | null {
  const control = unsafeIn(text, /[\n\t]/g);
  if (control !== null) return control;
  const parsed = parseXml(text);
  if (typeof parsed === "string") return parsed;
  const bad = /NaN|Infinity|undefined|e\+/;
  for (const one of [parsed, ...parsed.children]) {
    const time = one.attributes.get("time");
    if (time !== undefined && bad.test(time)) return `time="${time}"`;
  }
  return countsProblem(parsed);
}

const ktapLine =
  /^(?: {4})?(?:KTAP version 1|1\.\.\d+|(?:not )?ok \d+ [^#]*(?:# (?:SKIP|XFAIL)\b[^#]*)?|# [^#]*)$/;

/** KTAP version 1 in two levels: as many results as the plan says, numbered from 1, nothing else. */
export function ktapProblem(text: string): string | null {
  const control = unsafeIn(text, /\n/g);
  if (control !== null) return control;
  if (!text.startsWith("KTAP version 1\n")) return "does not begin with its version";
  const lines = text.slice(0, -1).split("\n");
  const wrong = lines.find((line) => !ktapLine.test(line));
  if (wrong !== undefined) return `a line that is none: ${shown(wrong)}`;
  let plan = 0;
  let seen = 0;
  for (const line of lines.filter((one) => !one.startsWith(" "))) {
    plan = Number(/^1\.\.(\d+)$/.exec(line)?.[1] ?? plan);
    const number = /^(?:not )?ok (\d+) /.exec(line)?.[1];
    if (number === undefined) continue;
    seen += 1;
    if (Number(number) !== seen) return `result ${number} in place of ${seen}`;
  }
  return plan === seen ? null : `${seen} results of ${plan}`;
}

/** Outside code: no element but those of the summary, no link, no row that has more cells than its table. */
export function markdownProblem(text: string): string | null {
  const control = unsafeIn(text, /\n/g);
  if (control !== null) return control;
  let columns = 0;
  for (const line of text.split("\n")) {
    const plain = line.replaceAll(/\\[^\s\w]/g, "").replaceAll(/`[^`]*`/g, "");
    const element = /<(?!\/?(?:details|summary|code)>)/.exec(plain);
    if (element !== null) return `an element: ${shown(plain.slice(element.index))}`;
    if (/!?\[[^\]]*\]\s*[([]/.test(plain)) return `a link: ${shown(line)}`;
    const cells = plain.startsWith("|") ? plain.split("|").length : 0;
    if (cells > 0 && columns > 0 && cells !== columns) return `${cells} cells in a table of ${columns}`;
    columns = cells;
  }
  return null;
}

export function jsonLinesProblem(text: string): string | null {
  const control = unsafeIn(text, /\n/g);
  if (control !== null) return control;
  if (text !== "" && !text.endsWith("\n")) return "the last line has no end";
  for (const line of text.split("\n").slice(0, -1)) {
    try {
      const [first] = Object.keys(JSON.parse(line) as object);
      if (first !== "type") return `a line that does not begin with its type: ${shown(line)}`;
    } catch {
      return `a line that is no JSON: ${shown(line)}`;
    }
  }
  return null;
}

/** By the end of an output's name. */
export function fileProblem(name: string, text: string): string | null {
  const extension = /\.([a-z]+)$/.exec(name)?.[1];
  switch (extension) {
    case "html":
      return htmlProblem(text);
    case "xml":
      return junitProblem(text);
    case "ktap":
      return ktapProblem(text);
    case "md":
      return markdownProblem(text);
    case "jsonl":
      return jsonLinesProblem(text);
    default:
      return unsafeIn(text, /[\n\t]/g);
  }
}
