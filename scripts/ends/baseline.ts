/** Commands as they end when nobody disturbs them: how long that takes, with what exit code, and what they print. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Command, recordCommand, setRecord } from "./commands.ts";
import { type End, Trial } from "./trial.ts";

/** A command that takes longer is killed within its first so many milliseconds. */
const SPAN_MS_MAX = 8000;
/** A server: from its start to some time after its mount. */
const SERVER_SPAN_MS = 2500;

export type Baseline = {
  readonly spanMs: number;
  /** null: it did not end in the span. */
  readonly end: End | null;
};

/** What two undisturbed runs have in common: figures and widths differ. */
export function essence(text: string): string {
  return text.replaceAll(/[\d.,]+/g, "0").replaceAll(/[ \t]+/g, " ");
}

export async function makeRecord(): Promise<void> {
  const trial = new Trial(recordCommand);
  const end = await trial.ended;
  if (end.code !== 0) throw new Error(`a record for report and compare: exit ${end.code}: ${end.stderr}`);
  setRecord(readFileSync(join(trial.folder, "out.jsonl"), "utf8"));
  await trial.leftovers();
}

export async function baselineOf(command: Command): Promise<Baseline> {
  if (command.isServer === true) return { spanMs: SERVER_SPAN_MS, end: null };
  const trial = new Trial(command);
  const end = await trial.endWithin(SPAN_MS_MAX);
  if (end === null) trial.kill("SIGKILL", "group");
  await trial.ended;
  await trial.leftovers();
  return { spanMs: end?.tookMs ?? SPAN_MS_MAX, end };
}

/** Baselines, each made when it is first asked for. */
export class Baselines {
  readonly #known = new Map<Command, Promise<Baseline>>();

  of(command: Command): Promise<Baseline> {
    const known = this.#known.get(command) ?? baselineOf(command);
    this.#known.set(command, known);
    return known;
  }
}
