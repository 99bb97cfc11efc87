/** The lines of `daxfault kernels --json`: types and schema. */
import { z } from "zod";
import { type KvmPart, kvmParts, type PatchFacts } from "../../../../language/src/index.ts";
import type { CachedFolder } from "../../kernel/contents.ts";
import type { ProposedKernel } from "../../kernel/patches.ts";
import { count, texts } from "./shapes.ts";

type CachedLine = Omit<CachedFolder, "isInUse"> & {
  readonly type: "cached" | "removed" | "kept";
  readonly inUse: boolean;
};

export type KernelsLine =
  | {
      readonly type: "kernel";
      readonly release: string;
      readonly version: string;
      readonly suite: string;
      /** What `--kernel` takes for it; that of a suite is of its newest kernel. */
      readonly specs: readonly string[];
      readonly sizeBytes: number;
      readonly cached: boolean;
    }
  /** What stands behind the + of a SPEC. */
  | ({ readonly type: "patch" } & ProposedKernel)
  | CachedLine
  /** Of `kernels build`. */
  | {
      readonly type: "built";
      readonly spec: string;
      readonly kvm: KvmPart;
      readonly imagePath: string;
      readonly release: string | null;
      readonly origin: string;
      readonly patches: readonly PatchFacts[];
      /** Paths, in the order of loading. */
      readonly modules: readonly string[];
      readonly command: string;
    };

const patchFacts = z.array(z.strictObject({ name: z.string(), sha256: z.string() }));

export const kernelsLine: z.ZodType<KernelsLine> = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("kernel"),
    release: z.string(),
    version: z.string(),
    suite: z.string(),
    specs: texts,
    sizeBytes: count,
    cached: z.boolean(),
  }),
  z.strictObject({
    type: z.literal("patch"),
    name: z.string(),
    kvm: z.enum(kvmParts),
    about: z.string(),
    patches: texts,
  }),
  z.strictObject({
    type: z.enum(["cached", "removed", "kept"]),
    path: z.string(),
    kind: z.enum(["package", "built", "base", "program", "unfinished", "index", "log"]),
    release: z.string().nullable(),
    origin: z.string().nullable(),
    patches: patchFacts,
    sizeBytes: count,
    inUse: z.boolean(),
  }),
  z.strictObject({
    type: z.literal("built"),
    spec: z.string(),
    kvm: z.enum(kvmParts),
    imagePath: z.string(),
    release: z.string().nullable(),
    origin: z.string(),
    patches: patchFacts,
    modules: texts,
    command: z.string(),
  }),
]);
