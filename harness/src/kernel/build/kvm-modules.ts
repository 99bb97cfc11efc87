/** KVM's modules of a Debian kernel with patches: what the patches touch is compiled, in a copy of the base. */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ModuleFile } from "../modules.ts";
import type { Patch } from "../patches.ts";
import type { Progress } from "../store.ts";
import { applyPatches } from "./apply.ts";
import { copyBase, type KvmBase, makeKvm } from "./kvm-base.ts";
import { runStep } from "./step.ts";

/** Measured with 6.12.117: 130 MB of tree, 25 MB of image and modules. */
export const PATCHED_BYTES: number = 2 ** 28;

const moduleNames: readonly string[] = ["kvm", "kvm-amd", "kvm-intel"];

export type KvmBuildOptions = {
  readonly base: KvmBase;
  readonly patches: readonly Patch[];
  /** Of the sources, for messages. */
  readonly version: string;
  /** A folder that the caller removes. */
  readonly work: string;
  readonly logPath: string;
  readonly signal: AbortSignal;
  readonly progress: Progress;
};

/** Throws a KernelError: a patch that does not apply or compile, or an interruption. */
export async function buildKvm(options: KvmBuildOptions): Promise<readonly ModuleFile[]> {
  const { base, patches, version, work, logPath, signal, progress } = options;
  const tree = join(work, "tree");
  progress("copying what is compiled without the patches");
  await copyBase(base, tree, { signal, logPath });
  const source = join(tree, base.common);
  await applyPatches(patches, { source, version, work, logPath, signal });
  const { common, headers, variables } = base;
  await makeKvm({ tree, common, headers, variables, logPath, signal, progress });
  const stripped = join(work, "modules");
  mkdirSync(stripped);
  const modules: ModuleFile[] = [];
  for (const name of moduleNames) {
    const file = `${name}.ko`;
    const command = ["strip", "-g", "-o", join(stripped, file), join(source, "arch/x86/kvm", file)];
    await runStep(command, { cwd: work, signal, logPath });
    modules.push({ name: name.replace("-", "_"), bytes: readFileSync(join(stripped, file)) });
  }
  return modules;
}
