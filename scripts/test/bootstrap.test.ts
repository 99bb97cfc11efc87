/** scripts/bootstrap in a made-up checkout, with made-up tools: what it installs, what it says, when it is silent. */
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";

const systemTools = ["sh", "find", "touch", "dirname", "mkdir", "mktemp", "date", "env", "sed", "rm"];
const packageTools = ["gcc", "ld", "make", "g++", "python3", "fusermount3"];
const lock = (version: string): string =>
  JSON.stringify({
    packages: { "": {}, "node_modules/a": { version }, "node_modules/b": { version: "1", optional: true } },
  });

type Checkout = {
  readonly folder: string;
  /** Puts a shell script into the PATH. */
  tool(name: string, script: string): void;
  remove(...names: string[]): void;
  bootstrap(): { readonly code: number | null; readonly stderr: string; readonly stdout: string };
  /** What the stand-ins of npm, apt-get and build were called with. */
  calls(): string;
};

function makeCheckout(): Checkout {
  const folder = mkdtempSync(join(tmpdir(), "daxfault-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const bin = join(folder, "bin");
  for (const path of ["bin", "scripts", "node_modules"]) mkdirSync(join(folder, path));
  copyFileSync("scripts/bootstrap", join(folder, "scripts/bootstrap"));
  const log = join(folder, "calls");
  writeFileSync(log, "");
  const tool = (name: string, script: string): void => {
    const path = join(bin, name);
    rmSync(path, { force: true });
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
  };
  for (const name of systemTools) {
    symlinkSync(
      execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim(),
      join(bin, name),
    );
  }
  symlinkSync(process.execPath, join(bin, "node"));
  for (const name of packageTools) tool(name, "exit 0");
  tool("ldconfig", "echo libfuse.so.2");
  tool("id", "echo 1000");
  tool("npm", `echo "npm $*" >> ${log}; [ "$1" != ci ] || touch node_modules/.package-lock.json`);
  tool("apt-get", `echo "apt-get $*" >> ${log}`);
  mkdirSync(join(folder, "dist"));
  writeFileSync(join(folder, "dist/.built"), "");
  writeFileSync(join(folder, "scripts/build"), `#!/bin/sh\necho build >> ${log}\n`);
  chmodSync(join(folder, "scripts/build"), 0o755);
  for (const name of ["mmap-io", "fuse-native"]) {
    mkdirSync(join(folder, "node_modules", name));
    writeFileSync(join(folder, "node_modules", name, "index.js"), "");
  }
  writeFileSync(join(folder, "package-lock.json"), lock("1"));
  writeFileSync(join(folder, "node_modules/.package-lock.json"), lock("1"));
  return {
    folder,
    tool,
    remove: (...names) => {
      for (const name of names) rmSync(join(bin, name));
    },
    bootstrap() {
      const { status, stderr, stdout } = spawnSync(join(folder, "scripts/bootstrap"), {
        env: { PATH: bin, HOME: folder },
        encoding: "utf8",
      });
      return { code: status, stderr, stdout };
    },
    calls: () => readFileSync(log, "utf8"),
  };
}

/** As if package-lock.json had been written after the installation. */
function touchLock({ folder }: Checkout, text: string): void {
  const path = join(folder, "package-lock.json");
  writeFileSync(path, text);
  const later = new Date(Date.now() + 60_000);
  utimesSync(path, later, later);
}

describe("scripts/bootstrap", () => {
  it("is silent where everything is there, and builds", () => {
    const checkout = makeCheckout();
    expect(checkout.bootstrap()).toEqual({ code: 0, stderr: "", stdout: "" });
    expect(checkout.bootstrap()).toEqual({ code: 0, stderr: "", stdout: "" });
    expect(checkout.calls()).toBe("build\nbuild\n");
  });

  it("refuses a Node that is too old, or none", () => {
    const checkout = makeCheckout();
    checkout.remove("node");
    expect(checkout.bootstrap()).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("Node is missing"),
    });
    checkout.tool("node", 'case "$1" in --version) echo v18.20.0;; esac');
    expect(checkout.bootstrap()).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("Node v18.20.0 is too old: 20.19 or newer is needed"),
    });
    expect(checkout.calls()).toBe("");
  });

  it("says what to install and why where it may not, and goes on", () => {
    const checkout = makeCheckout();
    checkout.remove("gcc", "fusermount3");
    const { code, stderr } = checkout.bootstrap();
    expect(code).toBe(0);
    expect(stderr).toContain("gcc: compiles the micro-guest (engine kvm), the program of engine process");
    expect(stderr).toContain("fuse3: fusermount");
    expect(stderr).toContain("apt-get install gcc fuse3");
    expect(checkout.calls()).toBe("build\n");
  });

  it("installs as root with apt-get what is missing, and nothing else", () => {
    const checkout = makeCheckout();
    checkout.tool("id", "echo 0");
    checkout.remove("make");
    checkout.tool("ldconfig", "echo libfuse3.so.3");
    expect(checkout.bootstrap().stderr).toMatch(
      /^bootstrap: apt-get update \.\.\. \d+ s\nbootstrap: apt-get install make libfuse2 \.\.\. \d+ s$/m,
    );
    expect(checkout.calls()).toBe(
      "apt-get update -qq\napt-get install -y -qq --no-install-recommends make libfuse2\nbuild\n",
    );
  });

  it("names libfuse 2 as the distribution does", () => {
    const checkout = makeCheckout();
    checkout.tool("ldconfig", "echo libfuse3.so.3");
    expect(checkout.bootstrap().stderr).toContain("apt-get install libfuse2\n");
    checkout.tool("apt-cache", '[ "$2" = libfuse2t64 ]');
    expect(checkout.bootstrap().stderr).toContain("apt-get install libfuse2t64\n");
  });

  it("keeps to itself what a step says, unless it fails; goes on where apt-get does", () => {
    const checkout = makeCheckout();
    checkout.tool("id", "echo 0");
    checkout.remove("make");
    checkout.tool("apt-get", "echo Selecting previously unselected package make.");
    expect(checkout.bootstrap().stderr).not.toContain("Selecting");
    checkout.tool("apt-get", "echo Reading; echo E: no network >&2; exit 100");
    const { code, stderr } = checkout.bootstrap();
    expect(code).toBe(0);
    expect(stderr).toMatch(
      /apt-get update \.\.\. failed after \d+ s \(exit code 100\); it said:\n {2}\| Reading\n {2}\| E: no network\n/,
    );
    expect(stderr).toContain("apt-get failed; going on without: make");
  });

  it("ends where npm ci or the build fails, with what it said", () => {
    const checkout = makeCheckout();
    rmSync(join(checkout.folder, "dist"), { recursive: true });
    writeFileSync(join(checkout.folder, "scripts/build"), "#!/bin/sh\necho error TS1 >&2\nexit 2\n");
    expect(checkout.bootstrap()).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^bootstrap: building \.\.\. failed [^\n]*\n {2}\| error TS1\n$/),
    });
    rmSync(join(checkout.folder, "node_modules/.package-lock.json"));
    checkout.tool("npm", "echo npm error E404; exit 1");
    expect(checkout.bootstrap()).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /^bootstrap: Node packages: npm ci \.\.\. failed [^\n]*\n {2}\| npm error E404\n$/,
      ),
    });
  });

  it("installs Node packages where they are missing or another version is wanted, not where a file is merely newer", () => {
    const checkout = makeCheckout();
    touchLock(checkout, lock("1"));
    expect(checkout.bootstrap().stderr).toBe("");
    expect(checkout.calls()).toBe("build\n");
    touchLock(checkout, lock("2"));
    expect(checkout.bootstrap().stderr).toContain("package-lock.json has changed: npm ci ... ");
    rmSync(join(checkout.folder, "node_modules/.package-lock.json"));
    expect(checkout.bootstrap().stderr).toContain("Node packages: npm ci ... ");
    expect(checkout.calls().match(/^npm ci/gm)).toHaveLength(2);
  });

  it("tries again what could not be built, once there is a compiler", () => {
    const checkout = makeCheckout();
    checkout.remove("g++");
    rmSync(join(checkout.folder, "node_modules/mmap-io"), { recursive: true });
    expect(checkout.bootstrap().stderr).toContain("optional package mmap-io does not load");
    expect(checkout.bootstrap().stderr).not.toContain("mmap-io does not load");
    expect(checkout.calls()).not.toContain("npm");
    checkout.tool("g++", "exit 0");
    expect(checkout.bootstrap().stderr).toContain("optional packages, with a compiler: npm install ... ");
    expect(checkout.calls()).toContain("npm install --no-save");
  });

  it("rebuilds a native package that does not load, says so if that does not help, and asks only once", () => {
    const checkout = makeCheckout();
    writeFileSync(join(checkout.folder, "node_modules/mmap-io/index.js"), "throw new Error('another ABI')");
    const { code, stderr } = checkout.bootstrap();
    expect(code).toBe(0);
    expect(stderr).toContain("optional package mmap-io does not load");
    expect(checkout.calls()).toContain("npm rebuild mmap-io");
    expect(checkout.bootstrap().stderr).toBe("");
    expect(
      existsSync(join(checkout.folder, `node_modules/.daxfault-native-${process.versions.modules}-yes`)),
    ).toBe(true);
  });
});
