/** The problems of a scenario file, all at once. */
import type { JsonError } from "../json-source.ts";

/** Where (JSON path, such as `actors.victim.steps[2]`; line and column of the file, if known) and what (value and limit). */
export type Problem = {
  readonly at: string;
  readonly message: string;
  readonly line: number | null;
  readonly column?: number;
};

/** `["actors", "victim", "steps", 2]` -> `actors.victim.steps[2]`. */
export function pathText(path: readonly PropertyKey[]): string {
  return path
    .map((step, index) =>
      typeof step === "number" ? `[${step}]` : `${index === 0 ? "" : "."}${String(step)}`,
    )
    .join("");
}

/** Collects what is wrong while parsing goes on. */
export class Problems {
  readonly list: Problem[] = [];

  add(at: string, message: string, line: number | null = null): void {
    this.list.push({ at, message, line });
  }

  /** The text is no JSON, from there on. */
  addSyntax({ line, column, message }: JsonError): void {
    this.list.push({ at: "", message: `not JSON: ${message}`, line, column });
  }
}

/** A family multiplies its mistakes. */
const SHOWN_MAX = 20;

export class ScenarioError extends Error {
  override readonly name = "ScenarioError";
  readonly file: string;
  readonly problems: readonly Problem[];

  constructor(file: string, problems: readonly Problem[]) {
    const shown = problems.slice(0, SHOWN_MAX).map(({ at, message, line, column }) => {
      const place = [file, line, column].filter((part) => part != null).join(":");
      return `${place}: ${at === "" ? "" : `${at}: `}${message}`;
    });
    const more = problems.length - shown.length;
    super([...shown, ...(more > 0 ? [`${file}: ${more} more`] : [])].join("\n"));
    this.file = file;
    this.problems = problems;
  }
}
