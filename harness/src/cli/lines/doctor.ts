/** The lines of `daxfault doctor --json`: types and schema. */
import { z } from "zod";
import type { Feature, MachineFacts } from "../../machine.ts";
import { texts } from "./shapes.ts";

export type DoctorLine =
  | ({ readonly type: "machine" } & Omit<MachineFacts, "features">)
  | ({
      readonly type: "feature";
      readonly name: string;
      /** `engines`, or the heading under which doctor prints it. */
      readonly group: string;
      readonly purpose: string;
    } & Feature)
  | {
      readonly type: "engine";
      readonly engine: string;
      readonly runs: "yes" | "partly" | "no";
      /** Names of features. */
      readonly missing: readonly string[];
    };

const feature = { type: z.literal("feature"), name: z.string(), group: z.string(), purpose: z.string() };
export const doctorLine: z.ZodType<DoctorLine> = z.union([
  z.strictObject({
    type: z.literal("machine"),
    kernel: z.string(),
    node: z.string(),
    pageSize: z.number(),
    kvmBackend: z.string().nullable(),
    kvmParameters: z.record(z.string(), z.string()),
    runDirectory: z.strictObject({ path: z.string(), fileSystem: z.string() }),
  }),
  z.strictObject({ ...feature, kind: z.literal("present"), detail: z.string() }),
  z.strictObject({ ...feature, kind: z.literal("missing"), reason: z.string(), fix: z.string().nullable() }),
  z.strictObject({
    type: z.literal("engine"),
    engine: z.string(),
    runs: z.enum(["yes", "partly", "no"]),
    missing: texts,
  }),
]);
