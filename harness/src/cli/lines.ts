/**
 * The lines that commands write with `--json`, by command: a file each below `lines/`, with types and schema; here the table of them,
 * which `daxfault schema` publishes.
 * Those of `run`, `report` and `repro` are in `report/jsonl.ts`, those of `bench guards` in `guards/records.ts`. A `type` is unique within a command, not among them.
 * The compiler checks that a schema gives its type, a test that each command writes what its schema says.
 * Commands import types alone: zod takes its time to load.
 */
import { z } from "zod";
import { guardRecordSchema } from "../guards/records.ts";
import { recordSchema } from "../report/jsonl.ts";
import {
  benchApfLine,
  benchExploreLine,
  benchFenceLine,
  benchFsLine,
  benchGuestFsLine,
  benchKvmLine,
  benchProtectLine,
  benchVirtiofsdLine,
} from "./lines/bench.ts";
import { compareLine } from "./lines/compare.ts";
import { diagnoseLine } from "./lines/diagnose.ts";
import { doctorLine } from "./lines/doctor.ts";
import { exploreLine } from "./lines/explore.ts";
import { guardsLine } from "./lines/guards.ts";
import { kernelsLine } from "./lines/kernels.ts";
import { listLine } from "./lines/list.ts";
import { protectLine } from "./lines/protect.ts";
import { rescueLine } from "./lines/rescue.ts";

/** The commands whose lines have a schema of their own; also for `--help`, which does not load this module. */
export type SchemaName =
  | "run"
  | "explore"
  | "compare"
  | "bench"
  | "doctor"
  | "kernels"
  | "list"
  | "guards"
  | "diagnose"
  | "protect"
  | "rescue";

/** By command; `bench` is any of its parts. */
const lineSchemas: Readonly<Record<SchemaName, z.ZodType>> = {
  run: recordSchema,
  explore: exploreLine,
  compare: compareLine,
  bench: z.union([
    benchKvmLine,
    benchExploreLine,
    benchFsLine,
    benchApfLine,
    benchFenceLine,
    benchGuestFsLine,
    benchVirtiofsdLine,
    benchProtectLine,
    guardRecordSchema,
  ]),
  doctor: doctorLine,
  kernels: kernelsLine,
  list: listLine,
  guards: guardsLine,
  diagnose: diagnoseLine,
  protect: protectLine,
  rescue: rescueLine,
};

/** JSON Schema (2020-12) of the lines of one command; of all of them, by command in `$defs`, if none is named. */
export function lineSchema(name: SchemaName | null): object {
  if (name !== null)
    return { title: `A line of daxfault ${name} --json`, ...z.toJSONSchema(lineSchemas[name]) };
  const names = Object.keys(lineSchemas) as SchemaName[];
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "A line of daxfault COMMAND --json; report and repro write those of run",
    anyOf: names.map((one) => ({ $ref: `#/$defs/${one}` })),
    $defs: Object.fromEntries(
      names.map((one) => {
        const { $schema: _same, ...schema } = z.toJSONSchema(lineSchemas[one]);
        return [one, schema];
      }),
    ),
  };
}
