/** `daxfault kernels`: what `--kernel debian:...` can stand for on this machine, and what of it is in the cache already. */
import { join } from "node:path";
import { exitCodes } from "../../../language/src/index.ts";
import { DebianArchive, type KernelPackage, OWN_SUITES, searchedSuites } from "../kernel/apt.ts";
import { KernelError } from "../kernel/error.ts";
import { cacheDirectory, cachedKernels } from "../kernel/store.ts";
import { visible } from "../report/encode.ts";
import type { KernelsLine } from "./lines.ts";
import { openJson } from "./output.ts";

type Listed = { readonly kernels: readonly KernelPackage[]; readonly problems: readonly string[] };

/** The SPEC that stands for a suite's newest kernel; null for the machine's own sources, which are no suite. */
function suiteSpec(kernel: KernelPackage, kernels: readonly KernelPackage[]): string | null {
  const newest = kernels.find(({ suite }) => suite === kernel.suite);
  return kernel.suite === OWN_SUITES || newest !== kernel ? null : `debian:${kernel.suite}`;
}

/** Suite by suite, the newest first, each release once: in the first suite that has it. */
async function available(archive: DebianArchive): Promise<Listed> {
  const kernels = new Map<string, KernelPackage>();
  const problems: string[] = [];
  for (const suite of searchedSuites) {
    try {
      for (const kernel of await archive.suite(suite).kernels()) {
        if (!kernels.has(kernel.release)) kernels.set(kernel.release, kernel);
      }
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      problems.push(`${suite}: ${error.message}`);
    }
  }
  return { kernels: [...kernels.values()], problems };
}

export async function kernelsCommand(options: { readonly json?: string }): Promise<number> {
  const { kernels, problems } = await available(new DebianArchive(join(cacheDirectory(), "apt")));
  const cached = new Set(cachedKernels().map(({ release }) => release));
  const json = openJson<KernelsLine>(options.json);
  for (const kernel of kernels) {
    const { suite, release, version, parts } = kernel;
    const newest = suiteSpec(kernel, kernels);
    const sizeBytes = parts.reduce((sum, part) => sum + part.sizeBytes, 0);
    const isCached = cached.has(release);
    const specs = [`debian:${version}`, ...(newest === null ? [] : [newest])];
    json.write({ type: "kernel", release, version, suite, specs, sizeBytes, cached: isCached });
    if (json.isStdout) continue;
    const note = isCached ? "in the cache" : `${Math.ceil(sizeBytes / 2 ** 20)} MiB to load`;
    const also = newest === null ? "" : `; also ${newest}`;
    const line = `debian:${version.padEnd(22)} ${release.padEnd(24)} ${suite.padEnd(17)} ${note}${also}`;
    console.log(visible(line));
  }
  for (const problem of problems) console.error(`daxfault: ${visible(problem)}`);
  return kernels.length === 0 ? exitCodes.nothingRan : exitCodes.ok;
}
