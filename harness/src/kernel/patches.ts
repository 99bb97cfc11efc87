/**
 * The patches that a SPEC names: folders of fixtures/kernels, a proposal each, and files of the user's. Which proposal a
 * kernel with them has built in is in `kernel.json` beside them.
 */
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { type KvmPart, kvmParts, nearest, type PatchFacts } from "../../../language/src/index.ts";
import { InputError, jsonError, jsonErrorText, readInput } from "../../../language/src/read.ts";
import { packagePath } from "../paths.ts";
import { KernelError } from "./error.ts";
import { changedPart, type FilePatch, isSameChange, readPatchText } from "./patch-text.ts";
import type { KernelSpec, PatchRef } from "./spec.ts";
import { diffFiles, isFolder, treeDiff } from "./tree.ts";

/** What a kernel is booted for, which decides its modules and patches: cases inside, or the guest of a VMM of ours. */
export type KernelRole = "under-test" | "guest";

export type Patch = {
  /** As the SPEC names it. */
  readonly name: string;
  readonly path: string;
  /** Of the whole file. */
  readonly sha256: string;
  /** What of it is about code. */
  readonly files: readonly FilePatch[];
};

/** A folder of fixtures/kernels. */
export type ProposedKernel = {
  readonly name: string;
  readonly kvm: KvmPart;
  readonly about: string;
  /** `kvm-6.12.patch` .. */
  readonly patches: readonly string[];
};

const FACTS = "kernel.json";
const FACTS_BYTES_MAX = 64 * 1024;
const PATCH_BYTES_MAX = 4 * 1024 * 1024;

const factsShape = z.strictObject({ kvm: z.enum(kvmParts), about: z.string() });

/** How a folder calls the patches of a role. */
const prefixes: Readonly<Record<KernelRole, string>> = { "under-test": "kvm", guest: "guest" };

function proposalsFolder(): string {
  return packagePath("fixtures/kernels");
}

function read(path: string, bytesMax: number): string {
  try {
    return readInput(path, bytesMax);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new KernelError(`${path}: ${error.message}`);
  }
}

function readFacts(path: string): z.infer<typeof factsShape> {
  const text = read(path, FACTS_BYTES_MAX);
  let facts: unknown;
  try {
    facts = JSON.parse(text);
  } catch {
    throw new KernelError(jsonErrorText(path, jsonError(text)));
  }
  const parsed = factsShape.safeParse(facts);
  if (parsed.success) return parsed.data;
  throw new KernelError(
    `${path}: {"kvm": ${kvmParts.map((part) => `"${part}"`).join(" or ")}, "about": a line of text} is wanted`,
  );
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

/** All proposals that there is a patch for, by name. */
export function proposedKernels(folder: string = proposalsFolder()): readonly ProposedKernel[] {
  return namesIn(folder).flatMap((name) => {
    const files = namesIn(join(folder, name));
    if (!files.includes(FACTS)) return [];
    const { kvm, about } = readFacts(join(folder, name, FACTS));
    return [{ name, kvm, about, patches: files.filter((file) => file.endsWith(".patch")) }];
  });
}

/** Throws a KernelError that lists them. */
function proposedKernel(name: string, folder: string): ProposedKernel {
  const all = proposedKernels(folder);
  const found = all.find((one) => one.name === name);
  if (found !== undefined) return found;
  const names = all.map((one) => one.name);
  const [first] = nearest(name, names);
  throw new KernelError(
    `there is no patch of a proposal ${JSON.stringify(name)}; ` +
      (names.length > 6 ? `nearest: ${first}; ` : "") +
      `there are: ${names.join(", ")} (a file of your own: ./${name})`,
  );
}

/** The proposal that a patch builds into KVM; `today`: none that is known. */
function kvmOf({ kind, text }: PatchRef, folder: string): KvmPart {
  if (kind === "proposal") return proposedKernel(text, folder).kvm;
  const beside = dirname(text);
  return namesIn(beside).includes(FACTS) ? readFacts(join(beside, FACTS)).kvm : "today";
}

/** The proposal that a tree of the user's has built in: one of its patches changes the same lines. `today`: none does. */
function kvmOfTree(path: string, folder: string): KvmPart {
  const changed = diffFiles(treeDiff(path));
  if (changed.length === 0) return "today";
  const found = proposedKernels(folder).find(({ name, patches }) =>
    patches
      .filter((file) => file.startsWith(`${prefixes["under-test"]}-`))
      .map((file) => join(folder, name, file))
      .some((one) => isSameChange(changed, readPatchText(one, read(one, PATCH_BYTES_MAX)))),
  );
  return found?.kvm ?? "today";
}

/**
 * The proposal that the KVM of a kernel has built in: by its patches, by what is changed in its tree, or by the user's word.
 * @param named by the user; null: nothing was said
 * Throws a KernelError for patches that are not there, or are of two proposals.
 */
export function builtInKvm(
  spec: KernelSpec,
  named: KvmPart | null = null,
  folder: string = proposalsFolder(),
): KvmPart {
  if (spec.kind === "file" && isFolder(spec.path)) return named ?? kvmOfTree(spec.path, folder);
  const patches = spec.kind === "patched" ? spec.patches : [];
  const parts = [...new Set(patches.map((ref) => kvmOf(ref, folder)).filter((part) => part !== "today"))];
  if (named !== null) return named;
  const [only = "today", other] = parts;
  if (other === undefined) return only;
  throw new KernelError(
    `${spec.text}: two proposals in one KVM, ${parts.join(" and ")}: --kvm says which one its cases are held against`,
  );
}

/** The file of a proposal for this series. Throws a KernelError that names those it has. */
function fileOf(name: string, series: string, role: KernelRole, folder: string): string {
  const { patches } = proposedKernel(name, folder);
  const wanted = `${prefixes[role]}-${series}.patch`;
  if (patches.includes(wanted)) return join(folder, name, wanted);
  const has = (one: KernelRole): readonly string[] =>
    patches.flatMap((file) => {
      const [, prefix, version] = /^([a-z]+)-([0-9.]+)\.patch$/.exec(file) ?? [];
      return prefix === prefixes[one] && version !== undefined ? [version] : [];
    });
  const others = has(role);
  if (others.length === 0 && role === "guest") {
    throw new KernelError(
      `${name} changes nothing of a guest (--kernel debian:${has("under-test")[0] ?? "6.12"}+${name})`,
    );
  }
  throw new KernelError(
    `${name} has no patch for Linux ${series}, only for ${others.join(" and ")} ` +
      `(--${role === "guest" ? "guest-" : ""}kernel debian:${others[0] ?? ""}+${name})`,
  );
}

/**
 * The patches for the sources of a series (`6.12`). What is of no code is left out of them.
 * Throws a KernelError for one that is not there, cannot be read or changes nothing.
 */
export function readPatches(
  refs: readonly PatchRef[],
  { series, role, folder = proposalsFolder() }: { series: string; role: KernelRole; folder?: string },
): readonly Patch[] {
  return refs.map((ref) => {
    const path = ref.kind === "file" ? ref.text : fileOf(ref.text, series, role, folder);
    const text = read(path, PATCH_BYTES_MAX);
    const files = readPatchText(path, text).filter((file) => changedPart(file.path) !== "none");
    if (files.length === 0) throw new KernelError(`${path} changes no code of a kernel for x86-64`);
    return { name: ref.text, path, sha256: createHash("sha256").update(text).digest("hex"), files };
  });
}

/** The files that are no part of KVM's modules. */
export function outsideKvm(patches: readonly Patch[]): readonly string[] {
  const outside = patches.flatMap(({ files }) => files.filter(({ path }) => changedPart(path) === "other"));
  return [...new Set(outside.map(({ path }) => path))];
}

export function patchFacts(patches: readonly Patch[]): readonly PatchFacts[] {
  return patches.map(({ name, sha256 }) => ({ name, sha256 }));
}
