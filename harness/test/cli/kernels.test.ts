/** `daxfault kernels`, `kernels build SPEC` and `kernels --clean` as commands, with an archive whose KVM is compiled in a second. */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { isLong } from "../../../sys/test/support/long.ts";
import { type CliResult, cli, jsonLines, type RunningCli, startCli } from "../support/cli.ts";
import { caseFolder, eventually } from "../support/folders.ts";
import { goodPatch, KvmArchive, RELEASE, VERSION } from "../support/kvm-archive.ts";

const has = (program: string): boolean =>
  ["/usr/bin", "/bin"].some((place) => existsSync(join(place, program)));
const canBuild = ["dpkg-deb", "make", "gcc", "strip", "tar", "xz", "patch"].every(has);
/** An interrupted build ends within this time; on a quiet machine it takes a tenth of it. */
const END_BOUND_MS = 5000;

let folder = "";
let archive: KvmArchive;
let cache = "";
let spec = "";
let env: Readonly<Record<string, string>> = {};

const kernels = (...args: readonly string[]): Promise<CliResult> => cli(["kernels", ...args], { env });
/** In the test's folder: a program that hangs writes where it was started, too. */
const build = (): RunningCli => startCli(["kernels", "build", spec], { env, cwd: folder });

/** All paths below the cache but for the archive's index and the marks of live processes. */
function cached(folder = cache): readonly string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (folder === cache && ["apt", "in-use"].includes(entry.name)) return [];
    return entry.isDirectory() ? cached(path) : [path];
  });
}

/** Processes with this test's archive in their environment. */
function processes(): readonly string[] {
  return readdirSync("/proc").filter((pid) => {
    if (!/^[0-9]+$/.test(pid) || Number(pid) === process.pid) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, "latin1").includes(`MIRROR=${archive.mirror}\0`);
    } catch {
      return false;
    }
  });
}

describe.skipIf(!canBuild)("daxfault kernels (needs dpkg-deb, gcc, make, patch, strip, tar, xz)", () => {
  beforeEach(() => {
    folder = caseFolder();
    archive = new KvmArchive(folder);
    cache = join(folder, "cache/daxfault");
    const path = join(folder, "a.patch");
    writeFileSync(path, goodPatch);
    spec = `debian:6.99+${path}`;
    env = {
      PATH: `${archive.bin}:${process.env.PATH}`,
      XDG_CACHE_HOME: join(folder, "cache"),
      MIRROR: archive.mirror,
    };
    archive.publishImage();
    archive.publishSources();
  });

  it("lists what the archive has, the patches and the cache", async () => {
    const before = await kernels("--json", "-");
    expect(before.code).toBe(0);
    const lines = jsonLines(before.stdout);
    expect(lines).toContainEqual(
      expect.objectContaining({ type: "kernel", release: RELEASE, version: VERSION, cached: false }),
    );
    expect(lines).toContainEqual(
      expect.objectContaining({ type: "patch", name: "final-efault", kvm: "final-efault" }),
    );
    expect((await build().ended).code).toBe(0);
    const after = jsonLines((await kernels("--json", "-")).stdout);
    expect(after).toContainEqual(expect.objectContaining({ type: "kernel", release: RELEASE, cached: true }));
    const kinds = after.filter(({ type }) => type === "cached").map(({ kind }) => kind);
    expect(kinds).toEqual(["package", "built", "base", "index"]);
    const { stdout } = await kernels();
    expect(stdout).toMatch(/\ndebian:6\.99\.5-1 .* in the cache|^debian:6\.99\.5-1 .* in the cache/);
    expect(stdout).toMatch(/\+final-efault .*\(kvm-6\.12, kvm-7\.2\)/);
    expect(stdout).toMatch(
      / MiB {2}\S+\/kernels\/\S+ {2}built: 6\.99\.0-1-amd64 of .*, with .*a\.patch \(SHA-256 /,
    );
  });

  it("builds a SPEC, says where it is, and builds it once", async () => {
    const first = await build().ended;
    expect(first).toMatchObject({ code: 0 });
    expect(first.stdout).toContain(`${spec}: ${RELEASE} of linux-image-${RELEASE} ${VERSION}, kvm=today\n`);
    expect(first.stdout).toContain(`daxfault run --kernel ${spec}`);
    const image = /^image {3}(\S+)$/m.exec(first.stdout)?.[1] ?? "";
    const module = /^module {2}(\S+\/kvm\.ko)$/m.exec(first.stdout)?.[1] ?? "";
    expect([existsSync(image), existsSync(module)]).toEqual([true, true]);
    const again = await kernels("build", spec, "--json", "-");
    expect(jsonLines(again.stdout)).toEqual([
      expect.objectContaining({ type: "built", spec, imagePath: image, kvm: "today", release: RELEASE }),
    ]);
    expect(again.stderr).toBe("");
  });

  it("ends with 64 and a message where nothing is built, or cannot be", async () => {
    writeFileSync(join(archive.mirror, "..", "a.patch"), goodPatch.replace("= 1", "= 9"));
    const rejected = await build().ended;
    expect([rejected.code, rejected.stdout]).toEqual([64, ""]);
    expect(rejected.stderr).toContain("virt/kvm/kvm_main.c:2: this hunk was rejected");
    const nothing = await kernels("build", "host");
    expect([nothing.code, nothing.stderr]).toEqual([64, expect.stringContaining("nothing is built of it")]);
  });

  it("empties the cache, but for what a live process uses", async () => {
    expect((await build().ended).code).toBe(0);
    const release = archive.hang("patch");
    writeFileSync(join(archive.mirror, "..", "a.patch"), goodPatch.replace("= 2", "= 3"));
    const running = build();
    expect(await eventually(() => existsSync(join(archive.mirror, "reached-patch")), 20_000)).toBe(true);
    const types = async (): Promise<readonly unknown[]> =>
      jsonLines((await kernels("--clean", "--json", "-")).stdout).map(({ type, kind }) => `${type} ${kind}`);
    const during = await types();
    expect([...during].sort()).toEqual(["kept base", "kept package", "kept unfinished", "removed built"]);
    release();
    running.kill("SIGINT");
    expect((await running.ended).code).toBe(130);
    expect([...(await types())].sort()).toEqual(["removed base", "removed package"]);
    expect(cached()).toEqual([]);
    const empty = await kernels("--clean");
    expect([empty.code, empty.stdout]).toEqual([0, "removed: 0, 0 bytes\n".trimEnd()]);
  });

  it.runIf(isLong).each([
    ["apt loads the packages", "download", []],
    ["a package is unpacked", "dpkg-deb", []],
    ["the sources are unpacked", "xz", [`${RELEASE}_${VERSION}`]],
    ["the base is compiled", "make", [`${RELEASE}_${VERSION}`]],
  ])("leaves the cache whole on SIGINT while %s", async (_when, program, left) => {
    await interrupted(program);
    const names = (part: string): readonly string[] =>
      existsSync(join(cache, part)) ? readdirSync(join(cache, part)) : [];
    expect([names("kernels"), names("builds")]).toEqual([left, []]);
    expect(readdirSync(cache).filter((name) => name.endsWith(".log"))).toEqual([]);
    expect((await build().ended).code).toBe(0);
  });

  const phases = [
    ["the base is copied", "cp"],
    ["the patch is applied", "patch"],
    ["the patched sources are compiled", "make"],
    ["the modules are stripped", "strip"],
  ] as const;
  it.each(phases.filter(([, program]) => isLong || program === "make"))(
    "leaves the cache as it was on SIGINT while %s",
    async (_when, program) => {
      expect((await build().ended).code).toBe(0);
      const before = cached();
      writeFileSync(join(archive.mirror, "..", "a.patch"), goodPatch.replace("= 2", "= 3"));
      await interrupted(program);
      expect(cached()).toEqual(before);
      expect((await build().ended).code).toBe(0);
    },
  );

  it("removes what an interrupted build had no time to remove", async () => {
    const remains = join(cache, "builds/.unpack-removed-x/tree");
    mkdirSync(remains, { recursive: true });
    expect((await build().ended).code).toBe(0);
    expect(existsSync(remains)).toBe(false);
  });
});

/** Sends SIGINT to a build, and to nothing else, while a program of it hangs: 130, soon, and no process is left. */
async function interrupted(program: string): Promise<void> {
  const release = archive.hang(program);
  const running = build();
  const reached = join(archive.mirror, `reached-${program}`);
  expect(await eventually(() => existsSync(reached), 20_000)).toBe(true);
  const startMs = performance.now();
  running.kill("SIGINT");
  const { code, stderr } = await running.ended;
  expect(performance.now() - startMs).toBeLessThan(END_BOUND_MS);
  expect([code, stderr]).toEqual([130, expect.stringContaining("nothing is left of the build")]);
  expect(await eventually(() => processes().length === 0, 1000)).toBe(true);
  release();
}
