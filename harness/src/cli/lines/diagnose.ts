/** The lines of `daxfault diagnose --json`: types and schema. */
import { z } from "zod";
import type { PageWorker } from "../../diagnose/facts.ts";
import type { Verdict } from "../../diagnose/verdict.ts";
import type { LogFailure, LogVerdict } from "../../diagnose/vmm-log.ts";
import { count, nullableText, texts } from "./shapes.ts";

/** Addresses are hexadecimal texts; what could not be seen is null. */
export type DiagnoseLine =
  | {
      readonly type: "machine";
      readonly kernel: string;
      readonly tookMs: number;
      readonly unseen: readonly string[];
      /** Workers of KVM's that wait for a page of some VM. */
      readonly pageWorkers: readonly PageWorker[];
    }
  | {
      readonly type: "vm";
      readonly pid: number;
      readonly name: string | null;
      readonly process: string;
      readonly program: string | null;
      readonly verdict: Verdict;
      readonly vcpus: readonly {
        readonly id: number | null;
        readonly tid: number;
        readonly thread: string;
        readonly does: string;
        /** The same in words. */
        readonly text: string;
        /** Of the page that it loops at or waits for. */
        readonly gpa: string | null;
        readonly hva: string | null;
        readonly file: string | null;
        readonly offset: number | null;
        /** The kernel's functions, innermost first. */
        readonly stack: readonly string[] | null;
      }[];
      readonly files: readonly {
        readonly path: string;
        readonly deleted: boolean;
        readonly device: string;
        readonly inode: string;
        readonly sizeBytes: number | null;
        readonly sizeReason: string | null;
        readonly mappedBytes: number;
        readonly behindEndBytes: number | null;
        readonly mappings: readonly {
          readonly hva: string;
          readonly bytes: number;
          readonly offset: number;
          readonly access: string;
        }[];
        readonly fileSystem: {
          readonly type: string;
          readonly source: string;
          readonly mountPoint: string | null;
          /** null: it has none. */
          readonly server: "lives" | "stopped" | "dead" | "unknown" | null;
        } | null;
      }[];
      /** What KVM's counters grew by, over all vCPUs. */
      readonly counters: Readonly<Record<string, number>>;
      readonly watchedMs: number;
      readonly unseen: readonly string[];
    }
  /** Of --log. */
  | ({ readonly type: "log"; readonly verdict: LogVerdict } & LogFailure);

export const verdictSchema: z.ZodType<Verdict> = z.strictObject({
  kind: z.enum([
    "endless-loop",
    "fails-with-efault",
    "waits-for-io",
    "process-stopped",
    "stopped-by-vmm",
    "runs",
    "halted",
    "gone",
    "unknown",
  ]),
  severity: z.enum(["fine", "open", "hung"]),
  text: z.string(),
  remedies: z.array(z.strictObject({ what: z.string(), command: nullableText, price: z.string() })),
  warnings: texts,
});
const diagnoseVmLine = z.strictObject({
  type: z.literal("vm"),
  pid: count,
  name: nullableText,
  process: z.string(),
  program: nullableText,
  verdict: verdictSchema,
  vcpus: z.array(
    z.strictObject({
      id: count.nullable(),
      tid: count,
      thread: z.string(),
      does: z.string(),
      text: z.string(),
      gpa: nullableText,
      hva: nullableText,
      file: nullableText,
      offset: z.number().nullable(),
      stack: texts.nullable(),
    }),
  ),
  files: z.array(
    z.strictObject({
      path: z.string(),
      deleted: z.boolean(),
      device: z.string(),
      inode: z.string(),
      sizeBytes: z.number().nullable(),
      sizeReason: nullableText,
      mappedBytes: z.number(),
      behindEndBytes: z.number().nullable(),
      mappings: z.array(
        z.strictObject({ hva: z.string(), bytes: z.number(), offset: z.number(), access: z.string() }),
      ),
      fileSystem: z
        .strictObject({
          type: z.string(),
          source: z.string(),
          mountPoint: nullableText,
          server: z.enum(["lives", "stopped", "dead", "unknown"]).nullable(),
        })
        .nullable(),
    }),
  ),
  counters: z.record(z.string(), z.number()),
  watchedMs: z.number(),
  unseen: texts,
});
export const diagnoseLine: z.ZodType<DiagnoseLine> = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("machine"),
    kernel: z.string(),
    tookMs: z.number(),
    unseen: texts,
    pageWorkers: z.array(z.strictObject({ tid: count, stack: texts, sleptMs: z.number().nullable() })),
  }),
  diagnoseVmLine,
  z.strictObject({
    type: z.literal("log"),
    line: count,
    message: z.string(),
    vmm: z.enum(["qemu", "other"]),
    error: nullableText,
    registers: z.record(z.string(), z.string()),
    code: nullableText,
    verdict: z.strictObject({
      kind: z.enum(["killed-by-efault", "failed", "internal-error"]),
      text: z.string(),
      remedy: z.string(),
    }),
  }),
]);
