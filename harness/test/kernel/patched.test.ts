/** KVM's modules with patches, from the archive to the cache, and everything that can go wrong on the way. */

import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { isLong } from "../../../sys/test/support/long.ts";
import { readyKernels } from "../../src/cli/ready-kernels.ts";
import { UsageError } from "../../src/cli/usage.ts";
import { obtainKernel } from "../../src/kernel/cache.ts";
import { cachedFolders, cleanCache } from "../../src/kernel/contents.ts";
import { parseKernelSpec } from "../../src/kernel/spec.ts";
import { cacheDirectory, type Kernel } from "../../src/kernel/store.ts";
import { caseFolder } from "../support/folders.ts";
import { changeOf, goodPatch, KvmArchive, RELEASE, VERSION } from "../support/kvm-archive.ts";

const has = (program: string): boolean =>
  ["/usr/bin", "/bin"].some((place) => existsSync(join(place, program)));
const canBuild = ["dpkg-deb", "make", "gcc", "strip", "tar", "xz", "patch"].every(has);

let folder = "";
let archive: KvmArchive;

function patchFile(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

function specOf(...paths: readonly string[]) {
  const spec = parseKernelSpec(["debian:6.99", ...paths].join("+"));
  if (spec.kind === "problem") throw new Error(spec.message);
  return spec;
}

const build = (
  paths: readonly string[],
  said: string[] = [],
  signal = new AbortController().signal,
): Promise<Kernel> => obtainKernel(specOf(...paths), null, signal, "under-test", (text) => said.push(text));

const kvmOf = ({ modules }: Kernel): string =>
  Buffer.from(modules.find(({ name }) => name === "kvm")?.bytes ?? []).toString("hex");
const compiled = (said: readonly string[]): readonly string[] => said.filter((text) => /: CC /.test(text));
const inCache = (part: "kernels" | "builds"): readonly string[] => {
  const path = join(cacheDirectory(), part);
  return existsSync(path) ? readdirSync(path).sort() : [];
};
const calls = (what: string): number =>
  readFileSync(join(archive.mirror, "calls"), "utf8")
    .split("\n")
    .filter((line) => line.includes(what)).length;

describe.skipIf(!canBuild)(
  "--kernel debian:6.99+PATCH (needs dpkg-deb, gcc, make, patch, strip, tar, xz)",
  () => {
    beforeEach(() => {
      folder = caseFolder();
      archive = new KvmArchive(folder);
      vi.stubEnv("PATH", `${archive.bin}:${process.env.PATH}`);
      vi.stubEnv("XDG_CACHE_HOME", join(folder, "cache"));
      vi.stubEnv("MIRROR", archive.mirror);
      // kbuild's programs are made of a few lines here, which need no libelf: these tests do not need the machine's.
      const headers = join(folder, "headers");
      mkdirSync(headers);
      writeFileSync(join(headers, "libelf.h"), "");
      vi.stubEnv("CPATH", headers);
      archive.publishImage();
      archive.publishSources();
    });
    afterEach(() => {
      vi.unstubAllEnvs();
    });

    it("is the package's kernel with the modules that were compiled, once", async () => {
      const stock = await build([]);
      const said: string[] = [];
      const path = patchFile("a.patch", goodPatch);
      const kernel = await build([path], said);
      expect(kernel).toMatchObject({
        name: `debian:6.99+${path}`,
        release: RELEASE,
        origin: `linux-image-${RELEASE} ${VERSION}`,
        sha256: stock.sha256,
      });
      expect(kernel.patches).toEqual([{ name: path, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) }]);
      expect(kernel.modules.map(({ name }) => name)).toEqual(stock.modules.map(({ name }) => name));
      expect(kvmOf(kernel)).not.toBe(kvmOf(stock));
      // Everything for the base, then what the patch touches.
      const names = compiled(said).map((text) => /CC \[M\] +(\S+)/.exec(text)?.[1]);
      expect(names.slice(0, 3).sort()).toEqual(
        ["kvm-amd", "kvm-intel", "kvm"].map((name) => `arch/x86/kvm/${name}.o`),
      );
      expect(names.slice(3)).toEqual(["arch/x86/kvm/kvm.o"]);
      const again: string[] = [];
      expect(await build([path], again)).toEqual(kernel);
      expect([again, calls(" download ")]).toEqual([[], 3]);
      expect(await build([])).toEqual(stock);
    });

    it.runIf(isLong)("compiles of each further patch what it touches, and loads nothing", async () => {
      const first = await build([patchFile("a.patch", goodPatch)]);
      const said: string[] = [];
      const amd = changeOf("arch/x86/kvm/amd.c", "int amd_value = SHARED;", "int amd_value = 7;");
      const second = await build([patchFile("b.patch", amd)], said);
      expect(compiled(said)).toEqual([expect.stringMatching(/kvm-amd\.o$/)]);
      expect(kvmOf(second)).not.toBe(kvmOf(first));
      const header = changeOf("include/linux/kvm_host.h", "#define SHARED 1", "#define SHARED 2");
      const third: string[] = [];
      await build([patchFile("c.patch", header)], third);
      expect(compiled(third)).toHaveLength(3);
      expect(calls(" download ")).toBe(3);
      expect(inCache("builds")).toHaveLength(1);
    });

    it.runIf(isLong)("is kept by what the patches say, in their order", async () => {
      const path = patchFile("a.patch", goodPatch);
      const other = patchFile("b.patch", goodPatch.replaceAll("= 2", "= 3").replace("= 1", "= 2"));
      const both = await build([path, other]);
      expect(both.patches.map(({ name }) => name)).toEqual([path, other]);
      const same = await build([patchFile("copy.patch", goodPatch), other]);
      expect(same.imagePath).toBe(both.imagePath);
      expect(same.patches.map(({ name }) => name)).toEqual([join(folder, "copy.patch"), other]);
      writeFileSync(path, goodPatch.replace("= 2", "= 4"));
      expect((await build([path])).imagePath).not.toBe(
        (await build([patchFile("d.patch", goodPatch)])).imagePath,
      );
    });

    it("ends with the rejected hunk, and leaves the cache as it was", async () => {
      await build([patchFile("a.patch", goodPatch)]);
      const before = inCache("kernels");
      const path = patchFile("wrong.patch", goodPatch.replace("= 1", "= 9"));
      await expect(build([path])).rejects.toThrow(
        `${path} does not apply to Linux ${VERSION}: virt/kvm/kvm_main.c:2: this hunk was rejected\n` +
          "@@ -2 +2 @@\n-int main_value = 9;\n+int main_value = 2;",
      );
      expect(inCache("kernels")).toEqual(before);
    });

    it("ends with the compiler's first error", async () => {
      const path = patchFile("wrong.patch", goodPatch.replace("= 2", "= none"));
      await expect(build([path])).rejects.toThrow(
        /\.log\):\nvirt\/kvm\/kvm_main\.c:2:18: error: .none. undeclared/,
      );
      expect(inCache("kernels")).toEqual([`${RELEASE}_${VERSION}`]);
      expect((await build([patchFile("a.patch", goodPatch)])).release).toBe(RELEASE);
    });

    it.runIf(isLong).each(["base", "patched"])(
      "is given up on Ctrl-C while the %s is compiled, and leaves the cache whole",
      async (what) => {
        if (what === "patched") await build([patchFile("a.patch", goodPatch)]);
        const before = [inCache("kernels"), inCache("builds")];
        writeFileSync(join(archive.mirror, "hangs"), "");
        const abort = new AbortController();
        const path = patchFile("b.patch", goodPatch.replace("= 2", "= 3"));
        const built = expect(build([path], [], abort.signal)).rejects.toThrow("the build was interrupted");
        await vi.waitFor(() => expect(existsSync(join(archive.mirror, "compiling"))).toBe(true), 20_000);
        abort.abort();
        await built;
        rmSync(join(archive.mirror, "hangs"));
        const stock = `${RELEASE}_${VERSION}`;
        expect([inCache("kernels"), inCache("builds")]).toEqual(what === "base" ? [[stock], []] : before);
        expect((await build([path])).release).toBe(RELEASE);
      },
    );

    it("ends a command with a message and 64, before anything is loaded where it can", async () => {
      const path = patchFile("a.patch", goodPatch);
      const ready = () => readyKernels({ kernels: [specOf(path)], guestKernel: null });
      vi.stubEnv("PATH", archive.bin);
      await expect(ready()).rejects.toThrow(UsageError);
      await expect(ready()).rejects.toThrow(
        /^--kernel debian:6\.99\+\S+: this kernel is compiled here, and there is no ld, /,
      );
      expect(calls(" download ")).toBe(0);
    });

    it("says which compiler it takes", async () => {
      rmSync(join(archive.bin, "x86_64-linux-gnu-gcc-99"));
      await expect(build([patchFile("a.patch", goodPatch)])).rejects.toThrow(
        "there is no x86_64-linux-gnu-gcc-99 (sudo apt-get install gcc-99)",
      );
      expect(inCache("builds")).toEqual([]);
    });

    it("compiles the archive's tools where they are not for this machine, and with this machine's compiler", async () => {
      writeFileSync(join(archive.mirror, "foreign"), "");
      rmSync(join(archive.bin, "x86_64-linux-gnu-gcc-99"));
      const said: string[] = [];
      const kernel = await build([patchFile("a.patch", goodPatch)], said);
      expect(kernel.release).toBe(RELEASE);
      expect(said).toContain("compiling kbuild's programs: the package's do not run here");
      const variables = readFileSync(join(archive.mirror, "variables"), "utf8");
      expect(variables).toBe("CC=gcc NEW= OLD=\n");
      const [base = ""] = inCache("builds");
      const headers = join(cacheDirectory(), "builds", base, "usr/src", `linux-headers-${RELEASE}`);
      for (const name of ["scripts/mod/modpost", "tools/objtool/objtool"]) {
        expect(spawnSync(join(headers, name)).status).toBe(0);
      }
      const facts: unknown = JSON.parse(readFileSync(join(headers, "../../../base.json"), "utf8"));
      expect(facts).toMatchObject({ variables: ["CC=gcc", "CONFIG_CC_HAS_NEW="] });
      const again: string[] = [];
      await build([patchFile("b.patch", goodPatch.replace("= 2", "= 3"))], again);
      expect(compiled(again)).toHaveLength(1);
    });

    it("says that the archive's tools are not for this machine, before it loads the sources", async () => {
      writeFileSync(join(archive.mirror, "foreign"), "");
      const path = patchFile("a.patch", goodPatch);
      const some = join(folder, "some");
      mkdirSync(some);
      const needed = [
        "dpkg-deb",
        "gcc",
        "ld",
        "make",
        "nice",
        "patch",
        "strip",
        "tar",
        "xz",
        "sh",
        "cp",
        "rm",
      ];
      for (const name of needed) symlinkSync(`/usr/bin/${name}`, join(some, name));
      vi.stubEnv("PATH", `${archive.bin}:${some}`);
      await expect(build([path])).rejects.toThrow(
        `Debian's tools for modules of ${RELEASE} do not run on this machine (version \`GLIBC_2.99' not found), and they cannot ` +
          "be made here: this kernel is compiled here, and there is no awk (sudo apt-get install mawk). A Debian that",
      );
      expect([inCache("builds"), calls("linux-source-6.99=")]).toEqual([[], 0]);
    });

    it("says why the tools cannot be compiled, and that another machine or a tree can do it", async () => {
      writeFileSync(join(archive.mirror, "foreign"), "");
      const gcc =
        '#!/bin/sh\ncase "$*" in *modpost*) echo "modpost.c:1:1: error: no" >&2; exit 1;; esac\nexec /usr/bin/gcc "$@"\n';
      writeFileSync(join(archive.bin, "gcc"), gcc);
      await expect(build([patchFile("a.patch", goodPatch)])).rejects.toThrow(
        /cannot be made here: [\s\S]*modpost\.c:1:1: error: no[\s\S]*or a tree of your own \(--kernel \.\/linux\)$/,
      );
      expect(inCache("builds")).toEqual([]);
    });

    it("says what the archive lacks, and that it is out of reach", async () => {
      const path = patchFile("a.patch", goodPatch);
      writeFileSync(join(archive.mirror, "unreachable"), "");
      await expect(build([path])).rejects.toThrow(/^Debian's archive cannot be read: .*Could not connect/);
      rmSync(join(archive.mirror, "unreachable"));
      const stanzas = readFileSync(join(archive.mirror, "stanzas"), "utf8");
      writeFileSync(
        join(archive.mirror, "stanzas"),
        stanzas.replace("Package: linux-source-6.99", "Package: x"),
      );
      await expect(build([path])).rejects.toThrow(
        `Debian's archive has no linux-source-6.99 ${VERSION} (any more): KVM of ${RELEASE} cannot be compiled here`,
      );
    });

    it("takes more room than there is, by its own word", async () => {
      archive = new KvmArchive(caseFolder());
      vi.stubEnv("MIRROR", archive.mirror);
      archive.publishImage();
      archive.publishSources(2 ** 40);
      await expect(build([patchFile("a.patch", goodPatch)])).rejects.toThrow(
        /^no room for the headers and sources of 6\.99\.0-1-amd64: it takes \d+ MiB to unpack, .* has \d+ MiB \(XDG_CACHE_HOME/,
      );
    });

    it("is not built in a folder that make cannot name", async () => {
      vi.stubEnv("XDG_CACHE_HOME", join(folder, "a cache"));
      await expect(build([patchFile("a.patch", goodPatch)])).rejects.toThrow(
        /^make cannot build in ".*a cache/,
      );
    });

    it("does not change what is built into the image", async () => {
      const path = patchFile(
        "mm.patch",
        "--- a/mm/gup.c\n+++ b/mm/gup.c\n@@ -1 +1 @@\n-int gup;\n+int gap;\n",
      );
      await expect(build([path])).rejects.toThrow(
        "mm/gup.c is not of KVM's modules; what is built here for it is KVM's modules: virt/kvm, arch/x86/kvm and KVM's headers",
      );
    });

    it("is listed with its patches and its size, and removed with what it was built from", async () => {
      await build([patchFile("a.patch", goodPatch)]);
      const listed = cachedFolders().map(({ kind, release, patches, isInUse }) => ({
        kind,
        release,
        patches: patches.length,
        isInUse,
      }));
      expect(listed).toEqual([
        { kind: "package", release: RELEASE, patches: 0, isInUse: true },
        { kind: "built", release: RELEASE, patches: 1, isInUse: true },
        { kind: "base", release: null, patches: 0, isInUse: true },
        { kind: "index", release: null, patches: 0, isInUse: false },
      ]);
      expect(cachedFolders().every(({ sizeBytes }) => sizeBytes > 0)).toBe(true);
      // This process uses them.
      expect(cleanCache()).toMatchObject({ removed: [], kept: { length: 3 } });
      const inUse = join(cacheDirectory(), "in-use");
      const [own = ""] = readdirSync(inUse);
      const ended = await new Promise<number>((resolve) => {
        const child = spawn("/bin/true");
        child.on("exit", () => resolve(child.pid ?? 0));
      });
      writeFileSync(join(inUse, `${ended}.1`), readFileSync(join(inUse, own)));
      rmSync(join(inUse, own));
      mkdirSync(join(cacheDirectory(), "kernels/.unpack-killed"));
      const { removed, kept } = cleanCache();
      expect([removed.map(({ kind }) => kind), kept]).toEqual([
        ["unfinished", "package", "built", "base"],
        [],
      ]);
      expect([inCache("kernels"), inCache("builds"), readdirSync(inUse)]).toEqual([[], [], []]);
    });

    it.runIf(isLong)("is made again where what is in the cache is not what was put there", async () => {
      const path = patchFile("a.patch", goodPatch);
      const kernel = await build([path]);
      writeFileSync(join(dirname(kernel.imagePath), "modules/kvm.ko"), "damaged");
      expect(await build([path])).toEqual(kernel);
    });
  },
);
